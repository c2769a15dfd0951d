//! Asking before something is done that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

/// Asks on the terminal, unless `--yes` was given. The code to end with when it is not to be done: misuse where nobody can be
/// asked.
pub(super) fn confirmed(question: &str, is_yes: bool) -> anyhow::Result<Result<(), ExitCode>> {
    if is_yes {
        return Ok(Ok(()));
    }
    if !std::io::stdin().is_terminal() {
        eprintln!("error: nothing was changed; add --yes to do this without being asked");
        return Ok(Err(ExitCode::from(2)));
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(Ok(()));
    }
    println!("nothing was changed");
    Ok(Err(ExitCode::SUCCESS))
}
