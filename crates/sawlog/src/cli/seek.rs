//! `sawlog gcp seek`: taking messages of a subscription again, or leaving some out.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sawlog_core::time;
use sawlog_gcp::Access;
use sawlog_gcp::pubsub::{SeekPlan, SeekTarget, Seeker};
use sawlog_seams::{Clock, SystemClock};

use super::confirm::confirmed;
use super::{SettingsArgs, runtime};
use crate::config::Config;

#[derive(Debug, Args)]
pub(crate) struct SeekArgs {
    /// Subscription, projects/PROJECT/subscriptions/NAME.
    subscription: String,
    /// Time such as 2026-11-01T00:00:00Z, or snapshot, projects/PROJECT/snapshots/NAME.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    to: String,
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
    /// Of an emulator, http://HOST:PORT [default: that of the subscription's [[pubsub]]].
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &SeekArgs) -> anyhow::Result<ExitCode> {
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let now = SystemClock::new().now_micros();
    match checked(args, &config) {
        Ok((target, access)) => runtime()?.block_on(seek(args, &config, &target, &access, now)),
        Err(problem) => {
            eprintln!("error: {problem}");
            Ok(ExitCode::from(2))
        }
    }
}

fn checked(args: &SeekArgs, config: &Config) -> Result<(SeekTarget, Access), String> {
    if !is_name(&args.subscription, "subscriptions") {
        let problem = format!("{:?} is no subscription", args.subscription);
        return Err(format!("{problem}; write projects/PROJECT/subscriptions/NAME"));
    }
    let configured = config.pubsub.iter().find(|one| one.subscription == args.subscription);
    let access = match (&args.endpoint, configured) {
        (None, Some(one)) => one.access.clone(),
        (endpoint, _) => Access::new(endpoint.clone()).map_err(|error| error.to_string())?,
    };
    Ok((target_of(&args.to)?, access))
}

fn is_name(text: &str, kind: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    matches!(parts[..], ["projects", project, found, name] if found == kind && !project.is_empty() && !name.is_empty())
}

fn target_of(text: &str) -> Result<SeekTarget, String> {
    if is_name(text, "snapshots") {
        return Ok(SeekTarget::Snapshot(text.to_owned()));
    }
    // A time without a date or a zone could be meant in several ways.
    let is_whole = text.len() >= 20 && text.as_bytes()[10] == b'T';
    let micros = is_whole.then(|| time::parse(text.as_bytes(), 0)).flatten();
    micros.map(SeekTarget::Time).ok_or_else(|| {
        format!("--to {text:?} is neither a time such as 2026-11-01T00:00:00Z nor projects/PROJECT/snapshots/NAME")
    })
}

async fn seek(
    args: &SeekArgs,
    config: &Config,
    target: &SeekTarget,
    access: &Access,
    now: i64,
) -> anyhow::Result<ExitCode> {
    let seeker = Seeker::connect(&args.subscription, access).await?;
    let plan = seeker.plan(target).await?;
    let window = config.pipeline.dedup_window.duration();
    for line in explained(&args.subscription, target, &plan, window, now) {
        println!("{line}");
    }
    if let Err(code) = confirmed("Seek?", args.yes)? {
        return Ok(code);
    }
    seeker.seek(target).await?;
    println!("done; it may take a minute until messages come");
    Ok(ExitCode::SUCCESS)
}

/// What a seek does, a line for each fact.
fn explained(subscription: &str, target: &SeekTarget, plan: &SeekPlan, window: Duration, now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    match target {
        SeekTarget::Time(micros) => {
            let at = time::to_rfc3339(*micros);
            lines.push(format!("{subscription} goes to {at}:"));
            if *micros > now {
                lines.push(format!(
                    "- that is ahead: every message published before {at} counts as acknowledged and will not come"
                ));
            } else {
                lines.push("- messages published since come again, those before count as acknowledged".to_owned());
                lines.push(if plan.retains_acknowledged {
                    let days = plan.retention_seconds as f64 / 86_400.0;
                    format!("- it keeps messages for {days:.1} days, acknowledged ones too")
                } else {
                    "- it does not keep what was acknowledged (retain_acked_messages): unless its topic does, only what was \
                     not acknowledged comes"
                        .to_owned()
                });
                if now - *micros > i64::try_from(window.as_micros()).unwrap_or(i64::MAX) {
                    lines.push(
                        "- that is longer ago than pipeline.dedup-window: messages stored before the window are stored \
                         AGAIN, and rows of closed windows count twice"
                            .to_owned(),
                    );
                }
            }
        }
        SeekTarget::Snapshot(name) => {
            let expires = plan.snapshot_expires.as_deref().unwrap_or_default();
            lines.push(format!("{subscription} goes to {name}, which lives until {expires}:"));
            lines.push(
                "- messages that were not acknowledged in it, and those published later, come again; the rest counts as \
                 acknowledged"
                    .to_owned(),
            );
        }
    }
    lines.push(format!(
        "- what Sawlog stored within the last {window:?} is recognized and counted as duplicate in the ledger"
    ));
    if plan.is_exactly_once {
        lines.push(
            "- exactly-once delivery holds from here on: acknowledgements under way are not confirmed".to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_whole_time_or_a_snapshot() {
        assert_eq!(target_of("2026-11-01T00:00:00Z"), Ok(SeekTarget::Time(1_793_491_200_000_000)));
        let snapshot = "projects/p/snapshots/s";
        assert_eq!(target_of(snapshot), Ok(SeekTarget::Snapshot(snapshot.to_owned())));
        for text in ["", "yesterday", "2026-11-01", "2026-11-01T00:00:00", "1793491200", "projects/p/snapshots/", "s"] {
            assert!(target_of(text).is_err_and(|error| error.contains("2026-11-01T00:00:00Z")), "{text}");
        }
    }

    #[test]
    fn what_is_said_depends_on_what_the_subscription_keeps_and_how_far_it_goes() {
        let day = Duration::from_secs(86_400);
        let plan = |retains_acknowledged| SeekPlan {
            topic: "t".to_owned(),
            retains_acknowledged,
            retention_seconds: 604_800,
            is_exactly_once: false,
            snapshot_expires: Some("2026-11-30T00:00:00Z".to_owned()),
        };
        let said =
            |target: SeekTarget, retains| explained("s", &target, &plan(retains), day, 200_000_000_000).join("\n");
        let recent = said(SeekTarget::Time(150_000_000_000), true);
        assert!(recent.contains("7.0 days") && !recent.contains("AGAIN") && recent.contains("last 86400s"), "{recent}");
        let old = said(SeekTarget::Time(100_000_000_000), false);
        assert!(old.contains("retain_acked_messages") && old.contains("AGAIN"), "{old}");
        let ahead = said(SeekTarget::Time(300_000_000_000), true);
        assert!(ahead.contains("will not come") && !ahead.contains("come again"), "{ahead}");
        let snapshot = said(SeekTarget::Snapshot("n".to_owned()), false);
        assert!(snapshot.contains("lives until 2026-11-30"), "{snapshot}");
    }
}
