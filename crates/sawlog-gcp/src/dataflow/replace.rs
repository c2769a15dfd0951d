//! What a replacement would change of a running job, and whether the job's state survives it.
//!
//! For: refusing, before the launch, what Dataflow would accept and what would then lose or repeat data, and what it would refuse
//! minutes later. Not for: changes of the template itself: steps, coders and state of another version are compared by Dataflow
//! when the new job starts. docs/gcp/dataflow.md has the same list in words.

use std::collections::BTreeSet;

use super::{Job, Launch};

/// Whether a change may be made while the job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may not.
    Refused,
    /// It may, and does something that is worth saying.
    Told,
}

/// One difference between what runs and what is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the pipeline's option.
    pub option: &'static str,
    /// What it is; empty for nothing.
    pub from: String,
    /// What it is to be.
    pub to: String,
    /// Whether it may be.
    pub verdict: Verdict,
    /// Why not, or what it does.
    pub reason: String,
}

/// What a change of an option means.
struct Rule {
    option: &'static str,
    verdict: Verdict,
    reason: &'static str,
    /// Outermost steps that are there only while the option is set.
    steps: &'static [&'static str],
}

const fn refused(option: &'static str, reason: &'static str) -> Rule {
    Rule { option, verdict: Verdict::Refused, reason, steps: &[] }
}

const fn told(option: &'static str, reason: &'static str, steps: &'static [&'static str]) -> Rule {
    Rule { option, verdict: Verdict::Told, reason, steps }
}

const RULES: [Rule; 10] = [
    refused(
        "shards",
        "ids are remembered by part: in another number of parts those of pipeline.dedup-window are looked for in the wrong one, \
         and repeats would be stored",
    ),
    refused(
        "without_dedup",
        "the step that remembers ids is there or not: its state would be dropped, and repeats of what came before be stored",
    ),
    refused(
        "without_timelines",
        "the steps that make timelines are there or not: what they hold of the last seconds would be dropped",
    ),
    refused(
        "timestamp_attribute",
        "the watermark would follow other times: windows that are open would close too early, or wait",
    ),
    told("lake", "raw records go there from then on", &["Keep raw"]),
    told("dataset", "rows go there from then on", &["To BigQuery", "Refused to BigQuery"]),
    told(
        "bigtable",
        "panes go there from then on, those of open windows with all that is in them",
        &["To Bigtable", "All cells", "Timelines"],
    ),
    told("dead_letters", "dead letters go there from then on", &["All dead letters", "Dead letters to files"]),
    told("early", "windows that are open keep their pace until they close", &[]),
    told(
        "settings",
        "rules hold for messages that come from then on; session gaps and lateness for windows that open then",
        &[],
    ),
];

/// All differences that matter, those that are refused first.
#[must_use]
pub fn changes(running: &Job, wanted: &Launch) -> Vec<Change> {
    let mut found: Vec<Change> = RULES.iter().filter_map(|rule| rule.change(running, wanted)).collect();
    found.extend(LISTS.iter().filter_map(|list| list.change(running, wanted)));
    found.sort_by_key(|change| change.verdict == Verdict::Told);
    found
}

/// Steps that are said to be called otherwise now and that the running job does not have.
#[must_use]
pub fn unknown_steps(running: &Job, wanted: &Launch) -> Vec<String> {
    let is_there = |step: &&String| running.steps.is_empty() || running.steps.contains(step.as_str());
    wanted.renamed.keys().filter(|step| !is_there(step)).cloned().collect()
}

impl Rule {
    fn change(&self, running: &Job, wanted: &Launch) -> Option<Change> {
        let (from, to) = (given(running, self.option), wanted.parameters.get(self.option).cloned().unwrap_or_default());
        if from == to {
            return None;
        }
        let gone = if to.is_empty() { missing(self.steps.iter().copied(), wanted) } else { Vec::new() };
        let (verdict, reason) = match gone[..] {
            [] => (self.verdict, self.reason.to_owned()),
            _ => (Verdict::Refused, gone_reason(&gone)),
        };
        Some(Change { option: self.option, from, to, verdict, reason })
    }
}

fn given(running: &Job, option: &str) -> String {
    running.options.as_ref().and_then(|options| options.get(option)).cloned().unwrap_or_default()
}

fn missing<'a>(steps: impl Iterator<Item = &'a str>, wanted: &Launch) -> Vec<String> {
    steps.filter(|step| !wanted.renamed.contains_key(*step)).map(ToOwned::to_owned).collect()
}

fn gone_reason(steps: &[String]) -> String {
    let flags: Vec<String> = steps.iter().map(|step| format!("--rename-step '{step}='")).collect();
    format!(
        "{} would be gone, and Dataflow refuses a replacement without a step of before unless it is told that it may go; what the \
         step holds is dropped then. Drain and launch, or add {}",
        steps.join(", "),
        flags.join(" ")
    )
}

/// An option with many values, each of which has steps of its own.
struct List {
    option: &'static str,
    told: &'static str,
    /// The steps of a value.
    steps: fn(&str) -> Vec<String>,
}

const LISTS: [List; 2] = [
    List {
        option: "subscription",
        told: "messages of these subscriptions are taken from then on",
        // With messages that it has taken and not acknowledged.
        steps: |name| vec![format!("From {name}")],
    },
    List {
        option: "sliding",
        told: "windows of this kind that open before and close after have what comes from then on",
        steps: |name| {
            let name = name.replace('/', " by ");
            ["Sliding", "Batch", "Rows"].map(|step| format!("{step} {name}")).into()
        },
    },
];

impl List {
    fn change(&self, running: &Job, wanted: &Launch) -> Option<Change> {
        let from = given(running, self.option);
        let to = wanted.parameters.get(self.option).cloned().unwrap_or_default();
        let set = |text: &str| -> BTreeSet<String> {
            text.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
        };
        let (before, after) = (set(&from), set(&to));
        if before == after {
            return None;
        }
        let steps: Vec<String> = before.difference(&after).flat_map(|name| (self.steps)(name)).collect();
        let gone = missing(steps.iter().map(String::as_str), wanted);
        let (verdict, reason) = match gone[..] {
            [] => (Verdict::Told, self.told.to_owned()),
            _ => (Verdict::Refused, gone_reason(&gone)),
        };
        Some(Change { option: self.option, from, to, verdict, reason })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dataflow::{JobState, Workers};

    const RUNNING: [(&str, &str); 9] = [
        ("subscription", "projects/p/subscriptions/a,projects/p/subscriptions/b"),
        ("shards", "32"),
        ("without_dedup", "false"),
        ("without_timelines", "false"),
        ("early", "60"),
        ("lake", "gs://b"),
        ("dataset", "p.sawlog"),
        ("settings", "gs://b/1.toml"),
        // What a command line does not name is in a running job's options too.
        ("batch_size", "2000"),
    ];

    fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn running() -> Job {
        Job {
            id: "j1".to_owned(),
            name: "sawlog".to_owned(),
            state: JobState::Running,
            state_since: String::new(),
            created: String::new(),
            sdk: String::new(),
            replaces: None,
            replaced_by: None,
            labels: BTreeMap::new(),
            options: Some(map(RUNNING)),
            steps: BTreeSet::from(["Keep raw".to_owned()]),
        }
    }

    /// A launch with these parameters, where an empty one is none.
    fn launch(parameters: &[(&str, &str)], renamed: &[(&str, &str)]) -> Launch {
        Launch {
            job_name: "sawlog".to_owned(),
            template: String::new(),
            parameters: map(parameters.iter().copied().filter(|(_, value)| !value.is_empty())),
            workers: Workers::default(),
            at_least_once: false,
            labels: BTreeMap::new(),
            renamed: map(renamed.iter().copied()),
        }
    }

    /// What becomes of the running job with other values.
    fn with(values: &[(&str, &str)], renamed: &[(&str, &str)]) -> Vec<(&'static str, Verdict, String)> {
        let mut parameters = BTreeMap::from(RUNNING);
        parameters.remove("batch_size");
        parameters.extend(values.iter().copied());
        let parameters: Vec<(&str, &str)> = parameters.into_iter().collect();
        let found = changes(&running(), &launch(&parameters, renamed));
        found.into_iter().map(|change| (change.option, change.verdict, change.reason)).collect()
    }

    fn verdicts(values: &[(&str, &str)], renamed: &[(&str, &str)]) -> Vec<(&'static str, Verdict)> {
        with(values, renamed).into_iter().map(|(option, verdict, _)| (option, verdict)).collect()
    }

    #[test]
    fn the_same_changes_nothing() {
        assert_eq!(with(&[], &[]), []);
    }

    #[test]
    fn what_state_is_laid_out_by_is_refused_and_comes_first() {
        let values = [("early", "5"), ("shards", "64"), ("without_dedup", "true"), ("timestamp_attribute", "ts")];
        let refused = |option| (option, Verdict::Refused);
        let expected =
            [refused("shards"), refused("without_dedup"), refused("timestamp_attribute"), ("early", Verdict::Told)];
        assert_eq!(verdicts(&values, &[]), expected);
    }

    #[test]
    fn a_sink_may_come_and_move_but_not_go_unless_its_steps_are_named() {
        assert_eq!(
            verdicts(&[("bigtable", "p/i/t"), ("lake", "gs://c")], &[]),
            [("lake", Verdict::Told), ("bigtable", Verdict::Told)]
        );
        let (option, verdict, reason) = with(&[("dataset", "")], &[("To BigQuery", "")]).remove(0);
        assert_eq!((option, verdict), ("dataset", Verdict::Refused));
        assert!(
            reason.contains("--rename-step 'Refused to BigQuery='") && !reason.contains("'To BigQuery='"),
            "{reason}"
        );
        assert_eq!(verdicts(&[("lake", "")], &[("Keep raw", "")]), [("lake", Verdict::Told)]);
    }

    #[test]
    fn steps_are_called_what_the_pipeline_calls_them() {
        // python/tests/test_steps.py compares the same file with the pipeline.
        let known = include_str!("../../../../tests/golden/dataflow-steps.json");
        let known: BTreeMap<&str, Vec<String>> = serde_json::from_str(known).expect("JSON");
        let of_rule = |rule: &Rule| (rule.option, rule.steps.iter().map(ToString::to_string).collect());
        let mut ours: BTreeMap<&str, Vec<String>> =
            RULES.iter().filter(|rule| !rule.steps.is_empty()).map(of_rule).collect();
        ours.extend(
            LISTS.iter().filter(|list| list.option == "sliding").map(|list| (list.option, (list.steps)("5m/1m"))),
        );
        assert_eq!(ours, known);
    }

    #[test]
    fn a_subscription_may_come_in_any_order_and_not_go() {
        let (a, b, c) = ("projects/p/subscriptions/a", "projects/p/subscriptions/b", "projects/p/subscriptions/c");
        assert_eq!(with(&[("subscription", &[b, a].join(","))], &[]), []);
        assert_eq!(verdicts(&[("subscription", &[a, b, c].join(","))], &[]), [("subscription", Verdict::Told)]);
        let (_, verdict, reason) = with(&[("subscription", &[a, c].join(","))], &[]).remove(0);
        assert_eq!(verdict, Verdict::Refused);
        assert!(reason.starts_with(&format!("From {b} would be gone")), "{reason}");
    }

    #[test]
    fn windows_that_overlap_may_come_and_not_go_unless_their_steps_are_named() {
        assert_eq!(verdicts(&[("sliding", "5m/1m")], &[]), [("sliding", Verdict::Told)]);
        let mut job = running();
        job.options.as_mut().expect("options").insert("sliding".to_owned(), "5m/1m".to_owned());
        let list = LISTS.iter().find(|list| list.option == "sliding").expect("a list");
        let refused = list.change(&job, &launch(&[], &[("Batch 5m by 1m", "")])).expect("a change");
        assert_eq!(refused.verdict, Verdict::Refused);
        assert!(refused.reason.starts_with("Sliding 5m by 1m, Rows 5m by 1m would be gone"), "{}", refused.reason);
        let all = ["Sliding 5m by 1m", "Batch 5m by 1m", "Rows 5m by 1m"].map(|step| (step, ""));
        assert_eq!(list.change(&job, &launch(&[], &all)).expect("a change").verdict, Verdict::Told);
    }

    #[test]
    fn a_step_that_the_job_does_not_have_is_found() {
        assert_eq!(unknown_steps(&running(), &launch(&[], &[("Keep raw", "x")])), Vec::<String>::new());
        assert_eq!(unknown_steps(&running(), &launch(&[], &[("Keep row", "x")])), ["Keep row"]);
    }
}
