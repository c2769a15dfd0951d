//! Writing rows: in requests of bounded size, several at a time, each row until it is written.
//!
//! For: `MutateRows`, whose answer tells of each row on its own: those that failed in passing are sent again, those that
//! the service refuses end it. All that is written has a time of its own, so that writing it twice changes nothing.
//! Not for: the position row ([`super::position`]).

use std::sync::Arc;

use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::MutateRowsRequest;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::mutate_rows_request::Entry;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::cells::{RowChange, shown};
use super::client::Client;
use super::error::BigtableError;
use crate::call::Failure;
use crate::grpc::{code_name, details, is_passing};

/// Rows of one table that go in one request.
struct Part {
    table: String,
    entries: Vec<Entry>,
}

impl Client {
    /// Writes rows. Without an error all are written.
    pub(super) async fn mutate(self: &Arc<Self>, changes: Vec<RowChange>) -> Result<(), BigtableError> {
        let mut requests = JoinSet::new();
        let mut failure = None;
        for part in self.parts(changes) {
            let permit = Arc::clone(&self.writing).acquire_owned().await.expect("it is never closed");
            while let Some(ended) = requests.try_join_next() {
                failure = failure.or(ended.unwrap_or(Err(BigtableError::Panicked)).err());
            }
            if failure.is_some() {
                break;
            }
            let client = Arc::clone(self);
            requests.spawn(async move {
                let written = client.mutate_part(part).await;
                drop(permit);
                written
            });
        }
        // After a failure too: the breaker lets one request through, whose end tells whether the service is back.
        while let Some(ended) = requests.join_next().await {
            failure = failure.or(ended.unwrap_or(Err(BigtableError::Panicked)).err());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Rows in the order of keys, so that a request meets few tablets.
    fn parts(&self, mut changes: Vec<RowChange>) -> Vec<Part> {
        changes.sort_by(|one, other| (one.table, &one.row).cmp(&(other.table, &other.row)));
        let mut parts: Vec<Part> = Vec::new();
        let (mut last, mut bytes, mut mutations) = (None, 0, 0);
        for change in changes {
            let RowChange { table, row, mutations: of_row, bytes: row_bytes } = change;
            let is_full = bytes + row_bytes > self.options.request_bytes_max
                || mutations + of_row.len() > self.options.request_mutations_max;
            if is_full || last != Some(table) {
                parts.push(Part { table: self.options.table_name(table), entries: Vec::new() });
                (last, bytes, mutations) = (Some(table), 0, 0);
            }
            (bytes, mutations) = (bytes + row_bytes, mutations + of_row.len());
            if let Some(part) = parts.last_mut() {
                part.entries.push(Entry { row_key: row, mutations: of_row, ..Entry::default() });
            }
        }
        parts
    }

    async fn mutate_part(&self, Part { table, mut entries }: Part) -> Result<(), BigtableError> {
        let mut tries = self.caller.begin("MutateRows");
        loop {
            let failure = match tries.run(self.mutate_once(&table, &entries)).await {
                Ok(outcomes) => {
                    let before = entries.len();
                    let failure = keep_failed(&table, &mut entries, outcomes)?;
                    if entries.is_empty() {
                        return Ok(());
                    }
                    if entries.len() < before {
                        tries.progress();
                    }
                    tries.broke(failure)
                }
                Err(failure) => failure,
            };
            tries.wait(failure).await?;
        }
    }

    /// One request; gives what is known of each row.
    async fn mutate_once(&self, table: &str, entries: &[Entry]) -> Result<Vec<Option<Status>>, Status> {
        let message = MutateRowsRequest {
            table_name: table.to_owned(),
            app_profile_id: self.options.app_profile.clone(),
            entries: entries.to_vec(),
            ..MutateRowsRequest::default()
        };
        let mut outcomes = vec![None; entries.len()];
        let mut answers = self.data().mutate_rows(self.data_request(table, message).await?).await?.into_inner();
        loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    for entry in answer.entries {
                        let status = entry.status.unwrap_or_default();
                        let place = usize::try_from(entry.index).ok().and_then(|index| outcomes.get_mut(index));
                        let place = place.ok_or_else(|| Status::data_loss("an answer for a row that was not sent"))?;
                        *place = Some(Status::with_details(
                            Code::from_i32(status.code),
                            status.message,
                            details(status.details),
                        ));
                    }
                }
                Ok(None) => return Ok(outcomes),
                // What is known counts; the other rows are sent again.
                Err(_) if outcomes.iter().any(Option::is_some) => return Ok(outcomes),
                Err(status) => return Err(status),
            }
        }
    }
}

/// Leaves the rows that are not known to be written, and tells why one of them is not.
fn keep_failed(table: &str, entries: &mut Vec<Entry>, outcomes: Vec<Option<Status>>) -> Result<Failure, BigtableError> {
    let mut failure = Status::unavailable("the answer broke off");
    let mut left = Vec::new();
    for (entry, outcome) in std::mem::take(entries).into_iter().zip(outcomes) {
        match outcome {
            Some(status) if status.code() == Code::Ok => {}
            Some(status) if !is_passing(status.code()) => {
                let (row, code) = (shown(&entry.row_key), code_name(status.code()));
                return Err(BigtableError::Row {
                    table: table.to_owned(),
                    row,
                    code,
                    problem: status.message().to_owned(),
                });
            }
            outcome => {
                failure = outcome.unwrap_or(failure);
                left.push(entry);
            }
        }
    }
    *entries = left;
    Ok(Failure::from(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_are_not_written_are_left() {
        let entry = |key: &'static str| Entry { row_key: key.into(), ..Entry::default() };
        let mut entries = vec![entry("done"), entry("busy"), entry("unknown")];
        let outcomes = vec![Some(Status::new(Code::Ok, "")), Some(Status::resource_exhausted("slow down")), None];
        let failure = keep_failed("t", &mut entries, outcomes).expect("none is refused");
        assert!(matches!(failure, Failure::Answered { code: "RESOURCE_EXHAUSTED", is_retryable: true, .. }));
        assert_eq!(entries.iter().map(|entry| &entry.row_key[..]).collect::<Vec<_>>(), [b"busy", &b"unknown"[..]]);
        let refused = vec![None, Some(Status::failed_precondition("too many cells"))];
        let error = keep_failed("t", &mut entries, refused).expect_err("refused").to_string();
        assert!(error.starts_with("Bigtable refused row u… of 7 bytes, XXH3 "), "{error}");
        assert!(error.ends_with(" of table t: FAILED_PRECONDITION: too many cells"), "{error}");
    }
}
