//! `sawlog anomalies score`: how surprising each value of a series is, in the order of the file and without looking ahead.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sawlog_core::anomaly::{Detector, Verdict};
use sawlog_core::time;
use sawlog_seams::{Clock, SystemClock};

#[derive(Debug, Args)]
pub(crate) struct AnomaliesArgs {
    #[command(subcommand)]
    command: AnomaliesCommand,
}

#[derive(Debug, Subcommand)]
enum AnomaliesCommand {
    /// Score a file of `timestamp,value` lines (`-` for standard input).
    Score(ScoreArgs),
}

#[derive(Debug, Args)]
struct ScoreArgs {
    /// The file: a header line, then a time and a number on each line.
    file: PathBuf,
    /// Print `timestamp,value,score,low,high` for each line instead of the most surprising ones.
    #[arg(long)]
    csv: bool,
    /// How many of the most surprising values to show.
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    top: usize,
}

/// A line longer than this is no `timestamp,value`.
const LINE_BYTES_MAX: u64 = 64 << 10;

pub(crate) fn run(args: &AnomaliesArgs) -> anyhow::Result<ExitCode> {
    let AnomaliesCommand::Score(args) = &args.command;
    let reader: Box<dyn BufRead> = match args.file.as_path() {
        file if file == Path::new("-") => Box::new(std::io::stdin().lock()),
        file => {
            Box::new(BufReader::new(File::open(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?))
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut most: Vec<(String, f64, Verdict)> = Vec::new();
    if args.csv {
        writeln!(out, "timestamp,value,score,low,high")?;
    }
    let scored = score(reader, &mut |stamp, value, verdict| {
        if args.csv {
            let Verdict { score, low, high, .. } = verdict;
            return writeln!(out, "{stamp},{value},{score},{low},{high}");
        }
        most.push((stamp.to_owned(), value, verdict));
        most.sort_by(|a, b| b.2.score.total_cmp(&a.2.score));
        most.truncate(args.top);
        Ok(())
    });
    match scored {
        // The reader (`head`, a pager) has seen enough.
        Err(ScoreError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            return Ok(ExitCode::SUCCESS);
        }
        scored => scored.map_err(|error| anyhow::anyhow!("{}: {error}", args.file.display()))?,
    }
    for (stamp, value, Verdict { score, low, high, view }) in &most {
        let reason = view.map_or("", |view| view.reason());
        writeln!(out, "{stamp}  {value}  score {score:.3}, expected {low:.4} to {high:.4}: {reason}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, thiserror::Error)]
enum ScoreError {
    #[error("line {line}, {field}: {text:?} is {problem}")]
    Field { line: usize, field: &'static str, text: String, problem: &'static str },
    #[error("line {0} has no comma; write a time, a comma and a number on each line")]
    NoComma(usize),
    #[error("line {0} is longer than 64 KiB")]
    TooLong(usize),
    #[error("it cannot be read: {0}")]
    Input(std::io::Error),
    #[error("the scores cannot be written: {0}")]
    Output(std::io::Error),
}

/// Scores each line. A first line whose second field is no number is a header.
fn score(
    mut reader: Box<dyn BufRead>,
    tell: &mut dyn FnMut(&str, f64, Verdict) -> std::io::Result<()>,
) -> Result<(), ScoreError> {
    let now = SystemClock::new().now_micros();
    let mut detector = Detector::default();
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).map_err(ScoreError::Input)?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX {
            return Err(ScoreError::TooLong(number));
        }
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        let (stamp, value) = text.split_once(',').ok_or(ScoreError::NoComma(number))?;
        let Ok(parsed) = value.trim().parse::<f64>() else {
            if number == 1 {
                continue;
            }
            let text = value.trim().chars().take(100).collect();
            return Err(ScoreError::Field { line: number, field: "value", text, problem: "no number" });
        };
        let micros = time::parse(stamp.trim().as_bytes(), now).ok_or_else(|| {
            let text = stamp.trim().chars().take(100).collect();
            ScoreError::Field {
                line: number,
                field: "timestamp",
                text,
                problem: "no time, such as 2026-11-24 03:00:00",
            }
        })?;
        let verdict = detector.step(micros.div_euclid(1_000_000), parsed);
        tell(stamp.trim(), parsed, verdict).map_err(ScoreError::Output)?;
    }
    Ok(())
}
