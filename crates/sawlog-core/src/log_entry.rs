//! What a LogEntry of Google Cloud Logging says in places of its own: monitored resources, audit logs, and whether Sawlog
//! itself wrote it.
//!
//! For: the names inside `resource.labels` and `protoPayload` that fill columns, and those that OpenTelemetry's conventions
//! have another word for. Not for: fields that other records have too ([`crate::fields`]). Sources: the reference of
//! `LogEntry`, that of `google.cloud.audit.AuditLog`, the list of monitored resource types, OpenTelemetry's registry of
//! attributes.

use crate::fields::Target;
use crate::record::{Attribute, Record, Text};

/// Type of the payload of an audit log.
pub(crate) const AUDIT_LOG: &[u8] = b"type.googleapis.com/google.cloud.audit.AuditLog";
/// Field that names the type of a payload.
pub(crate) const PAYLOAD_TYPE: &[u8] = b"protoPayload.@type";
/// Field with the name of the log, `projects/PROJECT/logs/ID`.
pub(crate) const LOG_NAME: &[u8] = b"logName";

/// Id of the log that Sawlog writes its own entries to.
pub const OWN_LOG_ID: &str = "sawlog";
/// Label of entries that Sawlog wrote: the instance that did.
pub const OWN_LABEL: &str = "sawlog_instance";

/// What a label of the monitored resource means.
pub(crate) fn resource_label(key: &[u8]) -> Option<Target> {
    Some(match key {
        b"labels.location" | b"labels.region" => Target::Text(Text::Region),
        // Cloud Run, App Engine, Cloud Functions, Kubernetes.
        b"labels.service_name" | b"labels.module_id" | b"labels.function_name" | b"labels.container_name" => {
            Target::Text(Text::Service)
        }
        b"labels.revision_name" | b"labels.version_id" => Target::Text(Text::ServiceVersion),
        _ => return None,
    })
}

/// A field of an audit log that has a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuditField {
    /// It fills a column.
    Column(Target),
    /// It is an attribute under OpenTelemetry's name.
    Attribute(&'static [u8]),
}

/// What a field means if the payload is an audit log.
pub(crate) fn audit_field(key: &[u8]) -> Option<AuditField> {
    Some(match key.strip_prefix(b"protoPayload.")? {
        b"serviceName" => AuditField::Column(Target::Text(Text::Service)),
        b"methodName" => AuditField::Column(Target::Text(Text::EventName)),
        b"authenticationInfo.principalEmail" => AuditField::Column(Target::Text(Text::UserId)),
        b"requestMetadata.callerIp" => AuditField::Column(Target::Text(Text::ClientAddress)),
        b"requestMetadata.callerSuppliedUserAgent" => AuditField::Column(Target::Text(Text::UserAgent)),
        b"status.message" => AuditField::Column(Target::Text(Text::Message)),
        b"status.code" => AuditField::Attribute(b"rpc.grpc.status_code"),
        b"resourceName" => AuditField::Attribute(b"cloud.resource_id"),
        _ => return None,
    })
}

/// The name of the log that an entry is in, if the record is an entry.
pub(crate) fn log_name<'a>(payload: &'a [u8], record: &'a Record) -> Option<&'a [u8]> {
    let entries = record.attributes.entries().iter().filter(|_| record.traits.has_log_name);
    let name = |entry: &Attribute| record.bytes(payload, entry.key) == LOG_NAME;
    entries.copied().find(name).map(|entry| record.bytes(payload, entry.value.text))
}

/// Whether Sawlog wrote the entry that a record was made from: by the id of its log, or by its label.
pub(crate) fn is_own(payload: &[u8], record: &Record) -> bool {
    let Some(name) = log_name(payload, record) else { return false };
    let is_label = |key: &[u8]| key.strip_prefix(b"labels.") == Some(OWN_LABEL.as_bytes());
    name.strip_suffix(OWN_LOG_ID.as_bytes()).is_some_and(|front| front.ends_with(b"/logs/"))
        || record.attributes.entries().iter().any(|entry| is_label(record.bytes(payload, entry.key)))
}
