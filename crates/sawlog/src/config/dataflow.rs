//! The table `[gcp.dataflow]`: the job that runs the Beam pipeline.
//!
//! For: its shape and its mistakes. Not for: launching (`sawlog_gcp::dataflow`), or what the pipeline makes of it.

use std::time::Duration;

use sawlog_gcp::Access;
use sawlog_gcp::dataflow::Workers;
use serde::Deserialize;
use toml::Value;

use super::HumanDuration;
use super::gcp::Problems;
use super::values::FromSetting;

/// Parts in which ids are remembered by default, as python/sawlog/beam/options.py has it.
const SHARDS: u32 = 32;
/// Time between early panes by default, as there.
const EARLY: Duration = Duration::from_secs(60);
/// Windows that overlap at most.
const SLIDES_MAX: u64 = 60;
/// Longest name of a job that the service takes, characters.
const NAME_CHARS_MAX: usize = 1_024;

/// The job of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataflowConfig {
    pub(crate) region: String,
    /// Specification of the Flex Template, `gs://BUCKET/OBJECT`.
    pub(crate) template: String,
    pub(crate) job_name: String,
    pub(crate) workers: Workers,
    /// The configuration file that the pipeline reads, `gs://BUCKET/OBJECT`.
    pub(crate) settings: Option<String>,
    pub(crate) dead_letters: Option<String>,
    pub(crate) timestamp_attribute: Option<String>,
    pub(crate) shards: u32,
    pub(crate) early: Duration,
    pub(crate) without_dedup: bool,
    pub(crate) without_timelines: bool,
    /// Windows that overlap, like `5m/1m`.
    pub(crate) sliding: Vec<String>,
    pub(crate) access: Access,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DataflowSection {
    region: String,
    template: String,
    #[serde(default)]
    job_name: Option<String>,
    #[serde(default)]
    temp_location: Option<String>,
    #[serde(default)]
    service_account: Option<String>,
    #[serde(default)]
    workers_max: Option<u32>,
    #[serde(default)]
    machine_type: Option<String>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    streaming_engine: Option<bool>,
    #[serde(default)]
    settings: Option<String>,
    #[serde(default)]
    dead_letters: Option<String>,
    #[serde(default)]
    timestamp_attribute: Option<String>,
    #[serde(default)]
    shards: Option<u32>,
    #[serde(default)]
    early: Option<Value>,
    #[serde(default)]
    without_dedup: bool,
    #[serde(default)]
    without_timelines: bool,
    #[serde(default)]
    sliding: Vec<String>,
    #[serde(default)]
    endpoint: Option<String>,
}

/// What is set, with its mistakes noted.
pub(super) fn read(section: DataflowSection, problems: &mut Problems) -> DataflowConfig {
    problems.name("gcp.dataflow.region", &section.region, "-", 64);
    let job_name = section.job_name.unwrap_or_else(|| "sawlog".to_owned());
    if !is_job_name(&job_name) {
        let problem = format!("{job_name:?} is no name of a job");
        problems.note("gcp.dataflow.job-name", problem, "use a-z, 0-9 and -, from a letter to a letter or digit");
    }
    let places = [
        ("template", Some(&section.template)),
        ("temp-location", section.temp_location.as_ref()),
        ("settings", section.settings.as_ref()),
        ("dead-letters", section.dead_letters.as_ref()),
    ];
    for (name, place) in places {
        if let Some(place) = place.filter(|place| !is_place(place)) {
            let problem = format!("{place:?} is no place in Cloud Storage");
            problems.note(&format!("gcp.dataflow.{name}"), problem, "write gs://BUCKET/PATH");
        }
    }
    if let Some(account) = section.service_account.as_ref().filter(|account| !account.contains('@')) {
        let problem = format!("{account:?} is no address of an account");
        problems.note("gcp.dataflow.service-account", problem, "write NAME@PROJECT.iam.gserviceaccount.com");
    }
    for (name, number) in [("workers-max", section.workers_max), ("shards", section.shards)] {
        if number == Some(0) {
            problems.note(&format!("gcp.dataflow.{name}"), "it is 0".to_owned(), "give at least 1");
        }
    }
    for (index, slide) in section.sliding.iter().enumerate() {
        if let Err(problem) = check_slide(slide) {
            problems.note(
                &format!("gcp.dataflow.sliding[{index}]"),
                problem,
                "write SIZE/PERIOD like 5m/1m: the period a multiple of 10s, the size 2 to 60 periods",
            );
        }
    }
    DataflowConfig {
        region: section.region,
        template: section.template,
        job_name,
        workers: Workers {
            temp_location: section.temp_location,
            service_account: section.service_account,
            max: section.workers_max,
            machine_type: section.machine_type,
            image: section.image,
            has_streaming_engine: section.streaming_engine.unwrap_or(true),
        },
        settings: section.settings,
        dead_letters: section.dead_letters,
        timestamp_attribute: section.timestamp_attribute,
        shards: section.shards.unwrap_or(SHARDS),
        early: section.early.map_or(EARLY, |value| early(&value, problems)),
        without_dedup: section.without_dedup,
        without_timelines: section.without_timelines,
        sliding: section.sliding,
        access: problems.access("gcp.dataflow.endpoint", section.endpoint),
    }
}

fn early(value: &Value, problems: &mut Problems) -> Duration {
    match HumanDuration::from_setting(value) {
        Ok(time) if time.duration().subsec_nanos() == 0 => time.duration(),
        _ => {
            problems.note(
                "gcp.dataflow.early",
                format!("{value} is no duration of whole seconds"),
                "write it like 60s",
            );
            EARLY
        }
    }
}

/// Whether windows that overlap can be like this, as python/sawlog/beam/windows.py has them.
fn check_slide(text: &str) -> Result<(), String> {
    let seconds = |part: &str| {
        let (digits, unit) = part.split_at_checked(part.len().checked_sub(1)?)?;
        let is_number = (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(number * ["s", "m", "h"].into_iter().zip([1, 60, 3_600]).find(|(name, _)| *name == unit)?.1)
    };
    let parts = text.split_once('/').and_then(|(size, period)| Some((seconds(size)?, seconds(period)?)));
    let (size, period) = parts.ok_or_else(|| format!("{text:?} is no size and period"))?;
    let is_of_parts = period > 0 && period % 10 == 0 && size % period == 0;
    if !is_of_parts || !(2..=SLIDES_MAX).contains(&(size / period)) {
        return Err(format!("windows of {text:?} do not overlap in whole parts"));
    }
    Ok(())
}

/// Whether a text is a bucket with something in it.
pub(crate) fn is_place(text: &str) -> bool {
    let parts = text.strip_prefix("gs://").and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(bucket, path)| !bucket.is_empty() && !path.is_empty())
}

/// The service's rule for names of jobs.
fn is_job_name(name: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts_well = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    starts_well && !name.ends_with('-') && name.len() <= NAME_CHARS_MAX && name.bytes().all(is_of_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (DataflowConfig, Vec<String>) {
        let section: DataflowSection = toml::from_str(text).expect("a section");
        let mut problems = Problems::default();
        let config = read(section, &mut problems);
        (config, problems.0.into_iter().map(|problem| format!("{}: {}", problem.key, problem.problem)).collect())
    }

    #[test]
    fn a_region_and_a_template_are_enough() {
        let (config, problems) = read_text("region = \"europe-west1\"\ntemplate = \"gs://b/t.json\"\n");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((config.job_name.as_str(), config.shards, config.early), ("sawlog", 32, Duration::from_secs(60)));
        assert!(config.workers.has_streaming_engine && !config.without_dedup);
    }

    #[test]
    fn each_mistake_is_named_with_its_key() {
        let (_, problems) = read_text(
            "region = \"europe/west1\"\ntemplate = \"t.json\"\njob-name = \"Sawlog\"\ntemp-location = \"gs://b\"\n\
             settings = \"./sawlog.toml\"\ndead-letters = \"gs:///dead\"\nservice-account = \"me\"\nworkers-max = 0\nshards = 0\n\
             early = \"1500ms\"\nsliding = [\"5m/1m\", \"5m\"]\nendpoint = \"127.0.0.1:1\"\n",
        );
        let keys = [
            "region",
            "template",
            "job-name",
            "temp-location",
            "settings",
            "dead-letters",
            "service-account",
            "workers-max",
            "shards",
            "early",
            "sliding[1]",
            "endpoint",
        ];
        for key in keys {
            assert!(
                problems.iter().any(|problem| problem.starts_with(&format!("gcp.dataflow.{key}: "))),
                "{key} in {problems:#?}"
            );
        }
        assert_eq!(problems.len(), keys.len(), "{problems:#?}");
    }

    #[test]
    fn windows_that_overlap_do_so_in_whole_parts() {
        for slide in ["5m/1m", "1h/10m", "20s/10s", "1h/60s"] {
            assert_eq!(check_slide(slide), Ok(()), "{slide}");
        }
        for slide in
            ["", "/", "5m", "5m/", "5m/0s", "5m/15s", "5m/2m", "5m/5m", "1h/10s", "+5m/1m", "5ä/1m", "1234567m/1m"]
        {
            assert!(check_slide(slide).is_err(), "{slide}");
        }
    }

    #[test]
    fn names_of_jobs_follow_the_services_rule() {
        for name in ["sawlog", "a", "a-1"] {
            assert!(is_job_name(name), "{name}");
        }
        for name in ["", "1a", "a-", "a_b", "A", &"a".repeat(1_025)] {
            assert!(!is_job_name(name), "{name}");
        }
    }
}
