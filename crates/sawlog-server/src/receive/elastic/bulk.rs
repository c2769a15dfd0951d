//! Taking a bulk body apart.
//!
//! For: turning pairs of action and document into lines that Sawlog stores, and deciding which actions it can carry out.
//! Not for: whether a document is good JSON: the transform finds that out and keeps what is not as a dead letter.
//! Invariant: the n-th [`Item::Document`] is the n-th record of [`Bulk::body`].
//!
//! A document becomes a record with two fields in front: `es.index`, where it was meant to go, and, if the action has an
//! `_id`, `insert_id`. Ids are unique within one index in Elasticsearch, so the id is `INDEX/ID`: the same `_id` in two
//! indexes is two events.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Actions in one body; an answer has some 200 bytes for each.
const ITEMS_MAX: usize = 250_000;
/// Bytes of an action line.
const ACTION_BYTES_MAX: usize = 16 << 10;
/// Bytes of an `_id`, as in Elasticsearch.
const ID_BYTES_MAX: usize = 512;
/// Bytes of an index name, as in Elasticsearch.
const INDEX_BYTES_MAX: usize = 255;

/// A body taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bulk {
    /// The records, one a line.
    pub(super) body: Vec<u8>,
    /// One for each action.
    pub(super) items: Vec<Item>,
}

/// One action.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    /// A document that became a record.
    Document(Target),
    /// An action that cannot be carried out.
    Refused(Refusal),
}

/// What an action names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) action: Action,
    pub(super) index: Option<Arc<str>>,
    pub(super) id: Option<String>,
}

/// Why an action is refused, in Elasticsearch's words where it has some.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) target: Target,
    pub(super) kind: &'static str,
    pub(super) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Index,
    Create,
    Update,
    Delete,
}

impl Action {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Index, Self::Create, Self::Update, Self::Delete].into_iter().find(|action| action.name() == name)
    }
}

/// Takes a body apart.
///
/// # Errors
/// When an action line is broken: what follows it cannot be told apart any more.
pub(super) fn parse(body: &[u8], default_index: Option<&str>) -> Result<Bulk, ApiError> {
    if body.last().is_some_and(|&byte| byte != b'\n') {
        return Err(malformed("The bulk request must be terminated by a newline [\\n]", "end the last line"));
    }
    let mut bulk = Bulk { body: Vec::with_capacity(body.len() + body.len() / 8), items: Vec::new() };
    let mut last_index: Option<Arc<str>> = default_index.map(Arc::from);
    let mut lines = body.split(|&byte| byte == b'\n').enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if bulk.items.len() == ITEMS_MAX {
            let message = format!("the body has more than {ITEMS_MAX} actions");
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_many_actions",
                message,
                "send smaller batches",
            ));
        }
        let mut target = action_line(line, number + 1, default_index, &mut last_index)?;
        let document = match target.action {
            Action::Delete => None,
            _ => lines.next().map(|(_, line)| line.trim_ascii()),
        };
        bulk.items.push(match problem(&target, document) {
            Some((kind, reason)) => {
                // What is shown again must not be as long as the sender likes.
                target.id = target.id.map(|id| id.chars().take(ID_BYTES_MAX).collect());
                Item::Refused(Refusal { target, kind, reason })
            }
            None => {
                write_record(&mut bulk.body, &target, document.unwrap_or_default());
                Item::Document(target)
            }
        });
    }
    if bulk.items.is_empty() {
        return Err(malformed("Validation Failed: 1: no requests added;", "send pairs of action and document"));
    }
    Ok(bulk)
}

fn malformed(message: impl Into<String>, hint: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bulk_malformed", message, hint)
}

/// Reads `{"index":{"_index":"logs","_id":"1"}}`.
fn action_line(
    line: &[u8],
    number: usize,
    default_index: Option<&str>,
    last_index: &mut Option<Arc<str>>,
) -> Result<Target, ApiError> {
    let bad = |what: &str| {
        let hint = "nothing of this request was kept; send {\"create\":{}} or {\"index\":{\"_index\":\"NAME\"}} before \
                    each document";
        malformed(format!("Malformed action/metadata line [{number}], {what}"), hint)
    };
    if line.len() > ACTION_BYTES_MAX {
        return Err(bad(&format!("it is longer than {ACTION_BYTES_MAX} bytes")));
    }
    let action: Map<String, Value> = match serde_json::from_slice(line) {
        Ok(Value::Object(action)) => action,
        Ok(_) => return Err(bad("expected START_OBJECT")),
        Err(error) => return Err(bad(&format!("it is no JSON object: {error}"))),
    };
    let mut members = action.into_iter();
    let (Some((name, parameters)), None) = (members.next(), members.next()) else {
        return Err(bad("expected one action in it"));
    };
    let Some(action) = Action::from_name(&name) else {
        let found: String = name.chars().take(40).collect();
        return Err(bad(&format!("expected field [create], [delete], [index] or [update] but found [{found}]")));
    };
    let Value::Object(mut parameters) = parameters else {
        return Err(bad("expected START_OBJECT after the action"));
    };
    let mut text = |name: &str| match parameters.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(bad(&format!("expected a simple value for field [{name}]"))),
    };
    let (index, id) = (text("_index")?, text("_id")?);
    let wanted = index.as_deref().or(default_index);
    // Neighbours mostly go to one index: its name is kept once.
    if last_index.as_deref() != wanted {
        *last_index = wanted.map(Arc::from);
    }
    Ok(Target { action, index: last_index.clone(), id })
}

/// Why the action cannot be carried out: kind and reason.
fn problem(target: &Target, document: Option<&[u8]>) -> Option<(&'static str, String)> {
    let invalid = |reason: String| Some(("illegal_argument_exception", reason));
    if matches!(target.action, Action::Update | Action::Delete) {
        let name = target.action.name();
        return invalid(format!("Sawlog keeps events as they came: {name} is not possible, use create or index"));
    }
    let Some(index) = &target.index else {
        return Some(("action_request_validation_exception", "Validation Failed: 1: index is missing;".to_owned()));
    };
    if index.is_empty() || index.len() > INDEX_BYTES_MAX || index.chars().any(char::is_control) {
        let reason = format!("an index name has from 1 to {INDEX_BYTES_MAX} bytes and no control characters");
        return Some(("invalid_index_name_exception", reason));
    }
    match target.id.as_deref().map(str::len) {
        Some(0) => return invalid("if _id is specified it must not be empty".to_owned()),
        Some(len) if len > ID_BYTES_MAX => {
            return invalid(format!("id is too long, must be no longer than {ID_BYTES_MAX} bytes but was: {len}"));
        }
        _ => {}
    }
    match document {
        None => invalid("the action is the last line; its document is missing".to_owned()),
        Some([]) => Some(("document_parsing_exception", "the document is empty".to_owned())),
        Some(_) => None,
    }
}

/// Writes the document with where it was to go in front. What is no object is written behind it, so that the dead
/// letter holds it and the line can be nothing but one record.
fn write_record(out: &mut Vec<u8>, target: &Target, document: &[u8]) {
    let index = target.index.as_deref().unwrap_or_default();
    out.extend_from_slice(b"{\"es.index\":");
    write_string(out, index);
    if let Some(id) = &target.id {
        out.extend_from_slice(b",\"insert_id\":");
        write_string(out, &format!("{index}/{id}"));
    }
    match document.strip_prefix(b"{") {
        Some(rest) if rest.trim_ascii_start().starts_with(b"}") => out.extend_from_slice(rest),
        Some(rest) => {
            out.push(b',');
            out.extend_from_slice(rest);
        }
        None => {
            out.extend_from_slice(b"} ");
            out.extend_from_slice(document);
        }
    }
    out.push(b'\n');
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(Value::from(text).to_string().as_bytes());
}

#[cfg(test)]
mod tests;
