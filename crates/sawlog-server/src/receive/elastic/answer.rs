//! Bulk answers: one item for each action, in the order of the request.
//!
//! For: telling a sender in Elasticsearch's words what became of each document. A document that became a dead letter is
//! kept, so it is `201` with a note; sending it again would keep it twice. Not for: errors of whole requests.

use std::collections::HashMap;

use sawlog_core::ledger::Outcome;
use sawlog_stream::{Receipt, RecordProblem};
use serde::Serialize;

use super::bulk::{Action, Item, Target};

#[derive(Serialize)]
struct Answered<'a> {
    #[serde(rename = "_index")]
    index: Option<&'a str>,
    #[serde(rename = "_id")]
    id: Option<&'a str>,
    #[serde(rename = "_version", skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(rename = "_shards", skip_serializing_if = "Option::is_none")]
    shards: Option<Shards>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sawlog: Option<Note<'a>>,
}

#[derive(Serialize)]
struct Shards {
    total: u8,
    successful: u8,
    failed: u8,
}

#[derive(Serialize)]
struct Error<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    reason: &'a str,
}

/// What Elasticsearch has no word for.
#[derive(Serialize)]
struct Note<'a> {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    remedy: &'a str,
}

const LOOK_IT_UP: &str = "SELECT reason, error, payload FROM dead_letters WHERE source = 'elasticsearch'";

/// The body of the answer.
pub(super) fn body(receipt: Option<&Receipt>, items: &[Item], took_millis: u64) -> Vec<u8> {
    let (outcomes, problems) =
        receipt.map_or((&[][..], &[][..]), |receipt| (&receipt.outcomes[..], &receipt.problems[..]));
    let problems: HashMap<usize, &RecordProblem> = problems.iter().map(|problem| (problem.index, problem)).collect();
    let mut outcomes = outcomes.iter().enumerate();
    let mut has_errors = false;
    let mut written = Vec::with_capacity(items.len() * 128);
    for item in items {
        let (action, answered) = match item {
            Item::Refused(refusal) => {
                let error = Error { kind: refusal.kind, reason: &refusal.reason };
                (refusal.target.action, failed(&refusal.target, 400, error))
            }
            Item::Document(target) => {
                let (index, outcome) = outcomes.next().map_or((0, Outcome::Stored), |(index, found)| (index, *found));
                (target.action, document(target, outcome, problems.get(&index).copied()))
            }
        };
        has_errors |= answered.status >= 400;
        if !written.is_empty() {
            written.push(b',');
        }
        written.extend_from_slice(b"{\"");
        written.extend_from_slice(action.name().as_bytes());
        written.extend_from_slice(b"\":");
        serde_json::to_writer(&mut written, &answered).expect("texts and numbers can be written to memory");
        written.push(b'}');
    }
    let head = format!("{{\"took\":{took_millis},\"errors\":{has_errors},\"items\":[");
    [head.as_bytes(), &written, b"]}\n"].concat()
}

fn document<'a>(target: &'a Target, outcome: Outcome, problem: Option<&'a RecordProblem>) -> Answered<'a> {
    match outcome {
        Outcome::Stored => kept(target, 201, "created", None),
        Outcome::DeadLettered => {
            let note = Note {
                outcome: "dead_lettered",
                reason: problem.map(|problem| problem.reason),
                error: problem.map(|problem| problem.error.as_str()),
                remedy: problem.map_or(LOOK_IT_UP, |problem| &problem.remedy),
            };
            kept(target, 201, "created", Some(note))
        }
        Outcome::Filtered => {
            let remedy = "a rule of this server drops such events";
            kept(target, 200, "noop", Some(Note { outcome: "filtered", reason: None, error: None, remedy }))
        }
        // Without an id it is the batch that came again, by its Idempotency-Key.
        Outcome::Duplicate if target.action == Action::Create && target.id.is_some() => {
            let reason = "version conflict, document already exists (current version [1])";
            failed(target, 409, Error { kind: "version_conflict_engine_exception", reason })
        }
        Outcome::Duplicate => {
            let remedy = "it is stored already; Sawlog keeps the first of two events with one _id";
            kept(target, 200, "noop", Some(Note { outcome: "duplicate", reason: None, error: None, remedy }))
        }
        Outcome::Rejected => {
            let reason = problem.map_or("the document is too large", |problem| &problem.error);
            failed(target, 413, Error { kind: "document_too_large_exception", reason })
        }
    }
}

fn kept<'a>(target: &'a Target, status: u16, result: &'static str, sawlog: Option<Note<'a>>) -> Answered<'a> {
    let shards = Shards { total: 1, successful: 1, failed: 0 };
    let (version, shards) = (Some(1), Some(shards));
    Answered { version, result: Some(result), shards, sawlog, ..bare(target, status) }
}

fn failed<'a>(target: &'a Target, status: u16, error: Error<'a>) -> Answered<'a> {
    Answered { error: Some(error), ..bare(target, status) }
}

fn bare(target: &Target, status: u16) -> Answered<'_> {
    Answered {
        index: target.index.as_deref(),
        id: target.id.as_deref(),
        version: None,
        result: None,
        shards: None,
        status,
        error: None,
        sawlog: None,
    }
}
