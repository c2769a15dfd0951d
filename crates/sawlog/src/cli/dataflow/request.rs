//! The launch that a configuration makes.
//!
//! For: the pipeline's options by the names that python/sawlog/beam/options.py gives them, and what of a configuration it cannot
//! do. Not for: the request's form (`sawlog_gcp::dataflow`).

use std::collections::BTreeMap;

use sawlog_gcp::bigquery::Delivery;
use sawlog_gcp::dataflow::Launch;

use super::Here;
use crate::config::{PubsubMode, is_place};

/// Label with the version that launched a job.
const VERSION_LABEL: &str = "sawlog-version";

/// The launch, or all that keeps it from being one, each with its remedy.
pub(super) fn request(
    here: &Here<'_>,
    settings: Option<&str>,
    renamed: &[(String, String)],
) -> Result<Launch, Vec<String>> {
    let problems = problems(here, settings);
    if !problems.is_empty() {
        return Err(problems);
    }
    let dataflow = here.dataflow;
    let version = env!("CARGO_PKG_VERSION").replace('.', "-");
    Ok(Launch {
        job_name: dataflow.job_name.clone(),
        template: dataflow.template.clone(),
        parameters: parameters(here, settings),
        workers: dataflow.workers.clone(),
        at_least_once: here.gcp.bigquery.is_none() && here.gcp.bigtable.is_none() && dataflow.dead_letters.is_none(),
        labels: BTreeMap::from([(VERSION_LABEL.to_owned(), version)]),
        renamed: renamed.iter().cloned().collect(),
    })
}

fn problems(here: &Here<'_>, settings: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    if here.config.pubsub.is_empty() {
        found.push("there is no [[pubsub]] to read from; add the subscriptions of the job".to_owned());
    }
    for (index, one) in here.config.pubsub.iter().enumerate() {
        if one.mode != PubsubMode::Pull {
            let name = &one.subscription;
            found.push(format!(
                "pubsub[{index}]: {name} is pushed, and Dataflow pulls; give the job a subscription of its own"
            ));
        }
    }
    if here.gcp.storage.is_none() && here.gcp.bigquery.is_none() && here.gcp.bigtable.is_none() {
        found.push("there is nowhere to write; add [gcp.storage], [gcp.bigquery] or [gcp.bigtable]".to_owned());
    }
    if here.gcp.bigquery.as_ref().is_some_and(|bigquery| bigquery.delivery == Delivery::ExactlyOnce) {
        found.push(
            "gcp.bigquery.delivery is exactly-once, and the pipeline delivers at least once; set \"at-least-once\" and run \
             `sawlog gcp init`, whose views leave repeats out"
                .to_owned(),
        );
    }
    if let Some(settings) = settings.filter(|settings| !is_place(settings)) {
        found.push(format!(
            "--settings: {settings:?} is no place in Cloud Storage; copy the file there and write gs://BUCKET/PATH"
        ));
    }
    found
}

fn parameters(here: &Here<'_>, settings: Option<&str>) -> BTreeMap<String, String> {
    let (gcp, dataflow) = (here.gcp, here.dataflow);
    // Sorted, as the options of a running job are compared.
    let mut subscriptions: Vec<&str> = here.config.pubsub.iter().map(|one| one.subscription.as_str()).collect();
    subscriptions.sort_unstable();
    let lake = gcp.storage.as_ref().map(|storage| {
        let prefix = storage.prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("gs://{}{slash}{prefix}", storage.bucket)
    });
    let set = [
        ("subscription", Some(subscriptions.join(","))),
        ("settings", settings.map(ToOwned::to_owned).or_else(|| dataflow.settings.clone())),
        ("lake", lake),
        ("dataset", gcp.bigquery.as_ref().map(|bigquery| format!("{}.{}", gcp.project, bigquery.dataset))),
        ("bigtable", gcp.bigtable.as_ref().map(|one| format!("{}/{}/{}", gcp.project, one.instance, one.table))),
        ("dead_letters", dataflow.dead_letters.clone()),
        ("timestamp_attribute", dataflow.timestamp_attribute.clone()),
        ("shards", Some(dataflow.shards.to_string())),
        ("early", Some(dataflow.early.as_secs().to_string())),
        ("sliding", Some(dataflow.sliding.join(",")).filter(|slides| !slides.is_empty())),
        ("without_dedup", Some(dataflow.without_dedup.to_string())),
        ("without_timelines", Some(dataflow.without_timelines.to_string())),
    ];
    set.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, ConfigSources};

    const FULL: &str = "[[pubsub]]\nsubscription = \"projects/p/subscriptions/b\"\n\
        [[pubsub]]\nsubscription = \"projects/p/subscriptions/a\"\n[gcp]\nproject = \"p\"\n\
        [gcp.storage]\nbucket = \"lake\"\nprefix = \"raw/\"\n[gcp.bigquery]\ndataset = \"d\"\ndelivery = \"at-least-once\"\n\
        [gcp.bigtable]\ninstance = \"i\"\n\
        [gcp.dataflow]\nregion = \"r\"\ntemplate = \"gs://b/t\"\nsettings = \"gs://b/s.toml\"\n";

    fn of(text: &str, settings: Option<&str>) -> Result<Launch, Vec<String>> {
        let file = Some(Ok((PathBuf::from("sawlog.toml"), text.to_owned())));
        let sources = ConfigSources { file, environment: Vec::new(), flags: Vec::new() };
        let config = Config::load(&sources).expect("a configuration").config;
        let gcp = config.gcp.as_ref().expect("set");
        let dataflow = gcp.dataflow.as_ref().expect("set");
        request(&Here { config: &config, gcp, dataflow, deadline: Duration::ZERO }, settings, &[])
    }

    #[test]
    fn a_job_that_only_copies_may_do_so_twice() {
        let (copy, rest) = FULL.split_once("[gcp.bigquery]").expect("sections");
        let copy = format!("{copy}{}", &rest[rest.find("[gcp.dataflow]").expect("a section")..]);
        assert!(of(&copy, None).expect("a launch").at_least_once);
        assert!(!of(&format!("{copy}dead-letters = \"gs://b/dead\"\n"), None).expect("a launch").at_least_once);
        assert!(!of(FULL, None).expect("a launch").at_least_once);
    }

    #[test]
    fn the_pipeline_gets_what_the_configuration_says() {
        let launch = of(FULL, None).expect("a launch");
        let given: Vec<String> = launch.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "bigtable=p/i/sawlog",
            "dataset=p.d",
            "early=60",
            "lake=gs://lake/raw",
            "settings=gs://b/s.toml",
            "shards=32",
            "subscription=projects/p/subscriptions/a,projects/p/subscriptions/b",
            "without_dedup=false",
            "without_timelines=false",
        ];
        assert_eq!(given, expected);
        let other = of(FULL, Some("gs://b/2.toml")).expect("a launch");
        assert_eq!(other.parameters["settings"], "gs://b/2.toml");
    }

    #[test]
    fn the_template_takes_all_parameters_with_these_values() {
        let metadata = include_str!("../../../../../deploy/dataflow/metadata.json");
        let metadata: serde_json::Value = serde_json::from_str(metadata).expect("JSON");
        let more = "dead-letters = \"gs://bucket/dead\"\ntimestamp-attribute = \"time\"\nwithout-dedup = true\n\
            sliding = [\"5m/1m\", \"1h/10m\"]\n";
        let text = format!("{FULL}{more}").replace("gs://b/", "gs://bucket/");
        let launch = of(&text, None).expect("a launch");
        assert_eq!(launch.parameters.len(), 12, "{:?}", launch.parameters);
        for (name, value) in &launch.parameters {
            let known = metadata["parameters"].as_array().into_iter().flatten().find(|one| one["name"] == **name);
            let pattern = known.expect(name)["regexes"][0].as_str().expect("a regex");
            assert!(regex::Regex::new(pattern).expect("a regex").is_match(value), "{name}={value} against {pattern}");
        }
    }

    #[test]
    fn what_a_job_cannot_do_is_told_together() {
        let little = "[gcp]\nproject = \"p\"\n[gcp.dataflow]\nregion = \"r\"\ntemplate = \"gs://b/t\"\n";
        let problems = of(little, Some("sawlog.toml")).expect_err("problems");
        assert!(problems[0].contains("no [[pubsub]]") && problems[1].contains("nowhere to write"), "{problems:?}");
        assert!(problems[2].starts_with("--settings: \"sawlog.toml\""), "{problems:?}");
        let once = FULL.replace("at-least-once", "exactly-once");
        let pushed = "[[pubsub]]\nsubscription = \"projects/p/subscriptions/c\"\nmode = \"push\"\naudience = \"a\"\n\
                      service-account = \"a@b\"\n";
        let problems = of(&format!("{pushed}{once}"), None).expect_err("problems");
        assert!(problems[0].starts_with("pubsub[0]: projects/p/subscriptions/c is pushed"), "{problems:?}");
        assert!(problems[1].contains("at least once") && problems.len() == 2, "{problems:?}");
    }
}
