//! The part of a submission that needs no order: checking, splitting, transforming, encoding.
//!
//! For: pure CPU work, many submissions at a time. Not for: dedup and counting, which need the log's order.

use bytes::Bytes;
use sawlog_core::batch::{self, AgeLimits, Format, RawBatch};
use sawlog_core::ledger::{Counts, Outcome};
use sawlog_core::limits::{PROBLEMS_MAX, RECORD_BYTES_MAX};
use sawlog_core::rules::Rules;
use sawlog_core::transform::{self, TransformError, Transformed};

use crate::frame::{BatchFrame, Frame};

/// When a submission is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckLevel {
    /// When it is parsed and queued; a crash may lose it.
    Memory,
    /// When it is in the event log and synced.
    #[default]
    Disk,
}

impl AckLevel {
    /// The level in headers and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// A body to take in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Name of the source, e.g. `http`.
    pub source: String,
    /// File that the records were read from, if they were.
    pub file: Option<String>,
    /// Format of the body.
    pub format: Format,
    /// Whether the sender declared the format; else lines that do not fit are read as text.
    pub is_declared: bool,
    /// Accepted event times.
    pub age: AgeLimits,
    /// The records, uncompressed.
    pub body: Bytes,
    /// The client's key for this batch: the same key within 24 hours is the same batch.
    pub idempotency_key: Option<String>,
    /// When to answer.
    pub ack: AckLevel,
}

/// What became of one bad record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordProblem {
    /// Index of the record in the body, from 0.
    pub index: usize,
    /// `dead_lettered` or `rejected`.
    pub outcome: &'static str,
    /// Reason code.
    pub reason: &'static str,
    /// Field in question, where there is one.
    pub field: Option<String>,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Level at which it was acknowledged.
    pub ack: AckLevel,
    /// What became of its records. At level `memory` repeats of earlier batches are still counted as stored.
    pub counts: Counts,
    /// Outcome of each record in the order of the body, with the same limitation.
    pub outcomes: Vec<Outcome>,
    /// The first bad records.
    pub problems: Vec<RecordProblem>,
}

/// A submission ready for the log.
pub(crate) struct Prepared {
    pub(crate) frame: BatchFrame,
    pub(crate) encoded: Bytes,
    pub(crate) transformed: Transformed,
    pub(crate) problems: Vec<RecordProblem>,
    /// Indices of the records that were refused, ascending.
    pub(crate) refused: Vec<usize>,
}

/// Prepares a submission. The batch id and the receive time come from the caller.
pub(crate) fn prepare(
    submission: Submission,
    batch_id: String,
    receive_time: i64,
    rules: &Rules,
) -> Result<Prepared, TransformError> {
    let body = match rules.redact_at_receive(submission.format, &submission.body) {
        Some(redacted) => Bytes::from(redacted),
        None => submission.body,
    };
    let (body, kept, mut problems) = without_oversize(submission.format, body)?;
    let refused: Vec<usize> = problems.iter().map(|problem| problem.index).collect();
    let frame = BatchFrame {
        batch_id,
        source: submission.source,
        file: submission.file,
        format: submission.format,
        is_declared: submission.is_declared,
        receive_time,
        age: submission.age,
        rules_version: rules.version(),
        rejected: problems.len() as u64,
        idempotency_key: submission.idempotency_key,
        body,
    };
    let transformed = run(&frame.raw(), rules)?;
    problems.extend(transformed.problems.iter().map(|problem| RecordProblem {
        index: kept.as_ref().map_or(problem.record_index, |kept| kept[problem.record_index]),
        outcome: Outcome::DeadLettered.name(),
        reason: problem.defect.reason.code(),
        field: problem.defect.field.clone(),
        error: problem.defect.to_string(),
        remedy: problem.defect.reason.remedy().to_owned(),
    }));
    problems.sort_by_key(|problem| problem.index);
    problems.truncate(PROBLEMS_MAX);
    let frame = Frame::Batch(frame);
    let encoded = frame.encode();
    let Frame::Batch(frame) = frame else { unreachable!("it was made a batch above") };
    Ok(Prepared { frame, encoded, transformed, problems, refused })
}

/// The outcomes of a whole body from those of its kept records and the indices of the refused ones.
pub(crate) fn with_refused(kept: Vec<Outcome>, refused: &[usize]) -> Vec<Outcome> {
    if refused.is_empty() {
        return kept;
    }
    let mut all = Vec::with_capacity(kept.len() + refused.len());
    let mut kept = kept.into_iter();
    for &index in refused {
        all.extend(kept.by_ref().take(index - all.len()));
        all.push(Outcome::Rejected);
    }
    all.extend(kept);
    all
}

pub(crate) fn run(raw: &RawBatch<'_>, rules: &Rules) -> Result<Transformed, TransformError> {
    transform::transform(raw, rules)
}

type Kept = (Bytes, Option<Vec<usize>>, Vec<RecordProblem>);

/// Takes records over the size limit out of the body; they are refused and nothing of them is kept. Also returns which
/// of the original records stayed, where that is not all.
fn without_oversize(format: Format, body: Bytes) -> Result<Kept, TransformError> {
    if body.len() <= RECORD_BYTES_MAX {
        return Ok((body, None, Vec::new()));
    }
    let spans = batch::split(format, &body)?;
    if !spans.iter().any(|span| batch::is_oversize(format, span)) {
        return Ok((body, None, Vec::new()));
    }
    let mut kept_spans = Vec::new();
    let mut kept = Vec::new();
    let mut problems = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        if batch::is_oversize(format, span) {
            problems.push(RecordProblem {
                index,
                outcome: Outcome::Rejected.name(),
                reason: "record_too_large",
                field: None,
                error: format!("the record has {} bytes, more than {RECORD_BYTES_MAX}", span.record.len()),
                remedy: "split the record, or send its large part as an object of its own".to_owned(),
            });
        } else {
            kept.push(index);
            kept_spans.push(span.clone());
        }
    }
    let kept_body = batch::body_of(format, &body, &kept_spans);
    Ok((Bytes::from(kept_body), Some(kept), problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_records_stand_where_they_were_in_the_body() {
        use Outcome::{Duplicate, Rejected, Stored};
        assert_eq!(with_refused(vec![Stored, Duplicate], &[]), [Stored, Duplicate]);
        assert_eq!(
            with_refused(vec![Stored, Duplicate], &[0, 2, 4]),
            [Rejected, Stored, Rejected, Duplicate, Rejected]
        );
        assert_eq!(with_refused(vec![], &[0, 1]), [Rejected, Rejected]);
    }
}
