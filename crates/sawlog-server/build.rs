//! Builds again when the web page changed, which is embedded.

fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
}
