//! `sawlog compact`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::cli::{SettingsArgs, runtime};
use crate::wiring::Node;

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// Give the counts as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &CompactArgs) -> anyhow::Result<ExitCode> {
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let report = runtime()?.block_on(async {
        let node = Node::open(&config).await?;
        // What the last run left in the event log becomes files first.
        node.pipeline.flush().await?;
        let report = node.jobs.compact_all().await;
        node.close().await?;
        anyhow::Ok(report)
    })?;
    let (merged, swept) = (report.merged, report.swept);
    if args.json {
        let counts = serde_json::json!({
            "files_in": merged.files_in, "files_out": merged.files_out,
            "bytes_in": merged.bytes_in, "bytes_out": merged.bytes_out, "rows": merged.rows,
            "deleted_files": swept.files, "deleted_orphans": swept.orphans, "deleted_bytes": swept.bytes,
            "deleted_log_entries": swept.log_entries, "failures": report.failures,
        });
        println!("{counts}");
    } else {
        println!(
            "{} files merged into {} ({} bytes into {}); {} old files deleted, {} of them left by crashes ({} bytes)",
            merged.files_in,
            merged.files_out,
            merged.bytes_in,
            merged.bytes_out,
            swept.files + swept.orphans,
            swept.orphans,
            swept.bytes
        );
    }
    if report.failures > 0 {
        bail!(
            "{} tables could not be worked on; run it again with `--set log.level=debug` to see why",
            report.failures
        );
    }
    Ok(ExitCode::SUCCESS)
}
