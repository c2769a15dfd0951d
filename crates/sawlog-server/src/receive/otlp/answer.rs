//! Answers to exports: the few small messages, written by hand in both encodings.
//!
//! For: `Export…ServiceResponse` and `google.rpc.Status` with `RetryInfo`. Not for: which answer is due
//! ([`super::Refusal`]).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sawlog_stream::Receipt;
use serde_json::json;

use super::{Refusal, Signal};

/// Encoding of a request, and so of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// `ExportLogsServiceResponse` or `ExportMetricsServiceResponse`: they differ in one JSON name only.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<DurationMessage>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct DurationMessage {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO_TYPE: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The answer to an export that was taken. Only rejected records count as such: dead letters are kept, and sending them
/// again would keep them twice, so that they are only spoken of.
pub(super) fn exported(signal: Signal, encoding: Encoding, receipt: &Receipt) -> Bytes {
    let message = remark(receipt);
    let rejected = receipt.counts.rejected;
    let partial_success = (rejected > 0 || !message.is_empty())
        .then(|| PartialSuccess { rejected: rejected.min(i64::MAX as u64) as i64, error_message: message });
    match encoding {
        Encoding::Protobuf => Bytes::from(ExportResponse { partial_success }.encode_to_vec()),
        Encoding::Json => {
            let name = match signal {
                Signal::Logs => "rejectedLogRecords",
                Signal::Metrics => "rejectedDataPoints",
            };
            let answer = match partial_success {
                None => json!({}),
                // 64-bit integers are text in protobuf's JSON.
                Some(part) => json!({
                    "partialSuccess": {name: part.rejected.to_string(), "errorMessage": part.error_message}
                }),
            };
            Bytes::from(answer.to_string())
        }
    }
}

/// What a person should know about the bad records; empty if there is none.
fn remark(receipt: &Receipt) -> String {
    let counts = receipt.counts;
    let mut parts = Vec::new();
    if counts.rejected > 0 {
        parts.push(format!("{} records were rejected and are not kept", counts.rejected));
    }
    if counts.dead_lettered > 0 {
        let count = counts.dead_lettered;
        parts.push(format!("{count} records are kept as dead letters and must not be sent again"));
    }
    if let Some(first) = receipt.problems.first()
        && !parts.is_empty()
    {
        parts.push(format!("the first of them, number {}: {}; {}", first.index, first.error, first.remedy));
    }
    parts.join("; ")
}

/// `google.rpc.Status` as it goes into gRPC's `grpc-status-details-bin` and into the body of an HTTP answer.
pub(super) fn status(encoding: Encoding, refusal: &Refusal) -> Bytes {
    match encoding {
        Encoding::Protobuf => {
            let retry_info = |after: Duration| AnyMessage {
                type_url: RETRY_INFO_TYPE.to_owned(),
                value: RetryInfo {
                    retry_delay: Some(DurationMessage {
                        seconds: after.as_secs().min(i64::MAX as u64) as i64,
                        nanos: after.subsec_nanos() as i32,
                    }),
                }
                .encode_to_vec(),
            };
            let status = RpcStatus {
                code: refusal.code as i32,
                message: refusal.message.clone(),
                details: refusal.retry_after.map(retry_info).into_iter().collect(),
            };
            Bytes::from(status.encode_to_vec())
        }
        Encoding::Json => {
            let retry_info = |after: Duration| {
                let delay = format!("{}.{:09}s", after.as_secs(), after.subsec_nanos());
                json!({"@type": RETRY_INFO_TYPE, "retryDelay": delay})
            };
            let details: Vec<_> = refusal.retry_after.map(retry_info).into_iter().collect();
            let code = refusal.code as i32;
            Bytes::from(json!({"code": code, "message": refusal.message, "details": details}).to_string())
        }
    }
}
