//! Automation of the checkout, called by make.
//!
//! For: running every check in one go, installing what the checks need, and the rules of the source tree that no lint
//! covers. Not for: anything a user of Sawlog runs.

mod fuzz;
mod steps;
mod summary;
mod tidy;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["test"] => steps::test(),
        ["test-long"] => steps::test_long(),
        ["fuzz", seconds] => steps::fuzz(seconds),
        ["bench", ref arguments @ ..] => steps::bench(arguments),
        ["web"] => steps::build_web(),
        ["wheel"] => steps::wheel(),
        ["tidy"] => tidy::check_and_print(),
        ["demo-tools"] => tools::for_demo(),
        _ => {
            eprintln!(
                "usage: cargo xtask test | test-long | fuzz SECONDS | bench [ARGUMENTS] | web | wheel | tidy | demo-tools"
            );
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
