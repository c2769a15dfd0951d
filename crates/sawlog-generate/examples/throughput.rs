//! Generates records and says how many bytes they have; time it from outside:
//! `time cargo run --release -p sawlog-generate --example throughput -- bench 5000000`.
//! With `print` as third argument the records go to standard output instead.

use std::io::Write;

use sawlog_generate::{Format, Generator, Mix, Scenario};

/// Records of a run without a number.
const RECORDS_USUAL: u64 = 1_000_000;
/// How much is gathered before it is thrown away.
const BATCH_BYTES: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let lines = |format| Scenario { format, mix: Mix::LOGS, ..Scenario::demo() };
    let scenario = match arguments.first().map(String::as_str) {
        None | Some("bench") => Scenario::bench(),
        Some("demo") => Scenario::demo(),
        Some("combined") => lines(Format::Combined),
        Some("syslog") => lines(Format::Syslog5424),
        Some("logfmt") => lines(Format::Logfmt),
        Some(other) => return Err(format!("unknown preset {other}: bench, demo, combined, syslog or logfmt").into()),
    };
    let records = arguments.get(1).map_or(Ok(RECORDS_USUAL), |text| text.parse())?;
    let is_printed = arguments.get(2).is_some_and(|word| word == "print");
    let mut generator = Generator::new(scenario)?;
    let mut out = Vec::with_capacity(2 * BATCH_BYTES);
    let mut bytes = 0;
    for record in 1..=records {
        generator.next_into(&mut out);
        out.push(b'\n');
        if out.len() >= BATCH_BYTES || record == records {
            bytes += out.len();
            if is_printed {
                std::io::stdout().write_all(&out)?;
            }
            std::hint::black_box(&mut out).clear();
        }
    }
    eprintln!("{records} records, {:.0} B each; {:?}", bytes as f64 / records as f64, generator.counts());
    Ok(())
}
