//! The JSON that Pub/Sub wraps a pushed message in.
//!
//! For: `{"message":{"data","attributes","messageId","publishTime","orderingKey"},"subscription","deliveryAttempt"}` as Google
//! documents it, and mistakes with the field and the byte where they are. Not for: pushes without the wrapper, which have no
//! message id to recognize repeats by.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use google_cloud_pubsub::model::Message as Received;
use google_cloud_wkt::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// What a push has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pushed {
    /// Name of its subscription.
    pub(super) subscription: String,
    pub(super) message: Received,
    /// From 1; only of subscriptions with a dead-letter topic.
    pub(super) delivery_attempt: Option<i32>,
}

/// A body that is no wrapped message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {at}: {problem}")]
pub(super) struct WrapperError {
    /// Name of the field, with dots; `body` for all of it.
    field: &'static str,
    /// Bytes of the body before it.
    at: usize,
    problem: String,
}

#[derive(Deserialize)]
struct Wrapper<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    subscription: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "deliveryAttempt")]
    delivery_attempt: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    publish_time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ordering_key: Option<&'a RawValue>,
}

/// Reads the body of a push.
pub(super) fn read(body: &[u8]) -> Result<Pushed, WrapperError> {
    let text = std::str::from_utf8(body).map_err(|error| WrapperError {
        field: "body",
        at: error.valid_up_to(),
        problem: "it is no UTF-8".to_owned(),
    })?;
    let body = Body { text };
    let wrapper: Wrapper<'_> = body.object("body", text)?;
    let message = wrapper.message.ok_or_else(|| body.missing("message", text))?;
    let fields: Message<'_> = body.object("message", message.get())?;
    let message_id: String = body.value("message.messageId", fields.message_id)?.unwrap_or_default();
    if message_id.is_empty() {
        return Err(body.missing("message.messageId", message.get()));
    }
    let subscription: String = body.value("subscription", wrapper.subscription)?.unwrap_or_default();
    if subscription.is_empty() {
        return Err(body.missing("subscription", text));
    }
    let publish_time = body.time(fields.publish_time)?;
    let publish_time = publish_time.ok_or_else(|| body.missing("message.publishTime", message.get()))?;
    let data = body.data(fields.data)?;
    let attributes: HashMap<String, String> = body.value("message.attributes", fields.attributes)?.unwrap_or_default();
    let ordering_key: String = body.value("message.orderingKey", fields.ordering_key)?.unwrap_or_default();
    let message = Received::new()
        .set_data(data)
        .set_attributes(attributes)
        .set_message_id(message_id)
        .set_publish_time(publish_time)
        .set_ordering_key(ordering_key);
    let delivery_attempt = body.value("deliveryAttempt", wrapper.delivery_attempt)?;
    Ok(Pushed { subscription, message, delivery_attempt })
}

/// The text of a body, which knows where its parts are.
struct Body<'a> {
    text: &'a str,
}

impl<'a> Body<'a> {
    fn error(&self, field: &'static str, part: &str, problem: impl Into<String>) -> WrapperError {
        let at = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        WrapperError { field, at, problem: problem.into() }
    }

    fn missing(&self, field: &'static str, part: &str) -> WrapperError {
        self.error(field, part, "it is missing or empty; Pub/Sub wraps messages unless the subscription says otherwise")
    }

    fn object<T: Deserialize<'a>>(&self, field: &'static str, part: &'a str) -> Result<T, WrapperError> {
        // An array would be taken for the fields in their order.
        if !part.trim_start().starts_with('{') {
            return Err(self.error(field, part, "it is no JSON object"));
        }
        serde_json::from_str(part).map_err(|error| self.syntax(field, part, &error))
    }

    /// A field's value; `None` where it is missing or null.
    fn value<T: DeserializeOwned>(
        &self,
        field: &'static str,
        part: Option<&'a RawValue>,
    ) -> Result<Option<T>, WrapperError> {
        let Some(part) = part else { return Ok(None) };
        serde_json::from_str(part.get()).map(Some).map_err(|error| self.syntax(field, part.get(), &error))
    }

    fn syntax(&self, field: &'static str, part: &str, error: &serde_json::Error) -> WrapperError {
        // Lines and columns of a part are not those of the body.
        let problem = error.to_string();
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(problem, _)| problem);
        let before: usize = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let mut found = self.error(field, part, problem);
        found.at += (before + error.column().saturating_sub(1)).min(part.len());
        found
    }

    fn data(&self, part: Option<&'a RawValue>) -> Result<Vec<u8>, WrapperError> {
        let Some(part) = part else { return Ok(Vec::new()) };
        let text: String = self.value("message.data", Some(part))?.unwrap_or_default();
        BASE64_STANDARD.decode(text).map_err(|error| {
            let mut found = self.error("message.data", part.get(), format!("it is no base64: {error}"));
            if let base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _) =
                error
            {
                found.at += 1 + offset;
            }
            found
        })
    }

    fn time(&self, part: Option<&'a RawValue>) -> Result<Option<Timestamp>, WrapperError> {
        let Some(part) = part else { return Ok(None) };
        let text: String = self.value("message.publishTime", Some(part))?.unwrap_or_default();
        let problem = |_| {
            let problem = format!("{} is no time; it is like 2026-11-01T00:00:00Z", part.get());
            self.error("message.publishTime", part.get(), problem)
        };
        Timestamp::try_from(text.as_str()).map(Some).map_err(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_the_message_that_a_pull_gives() {
        let body =
            br#"{"message": {"attributes": {"team": "a"}, "data": "eyJhIjoxfQ==", "messageId": "7", "message_id": "7",
            "orderingKey": "k", "publishTime": "2026-11-20T01:02:03.5Z", "publish_time": "2026-11-20T01:02:03.5Z"},
            "subscription": "projects/p/subscriptions/s", "deliveryAttempt": 3}"#;
        let pushed = read(body).expect("a push");
        let time = Timestamp::new(1_795_136_523, 500_000_000).expect("a time");
        let message = Received::new()
            .set_data("{\"a\":1}")
            .set_attributes([("team", "a")])
            .set_message_id("7")
            .set_publish_time(time)
            .set_ordering_key("k");
        assert_eq!(pushed.message, message);
        assert_eq!((pushed.subscription.as_str(), pushed.delivery_attempt), ("projects/p/subscriptions/s", Some(3)));
        let least =
            br#"{"message":{"messageId":"8","publishTime":"2026-11-20T01:02:03.5Z","data":null},"subscription":"s"}"#;
        assert_eq!(read(least).expect("a push").message, Received::new().set_message_id("8").set_publish_time(time));
    }

    #[test]
    fn mistakes_name_the_field_and_the_byte() {
        let with = |more: &str| {
            let message = "{\"messageId\":\"5\",\"publishTime\":\"2026-11-20T01:02:03Z\"";
            format!("{{\"message\":{message}{more}")
        };
        let start = with("").len();
        for (body, field, at, problem) in [
            (String::new(), "body", 0, "no JSON object"),
            ("[1]".to_owned(), "body", 0, "no JSON object"),
            ("{\"message\":{}".to_owned(), "body", 12, "EOF"),
            ("{\"subscription\":\"s\"}".to_owned(), "message", 0, "missing"),
            ("{\"message\":3,\"subscription\":\"s\"}".to_owned(), "message", 11, "no JSON object"),
            ("{\"message\":{},\"subscription\":\"s\"}".to_owned(), "message.messageId", 11, "missing"),
            ("{\"message\":{\"messageId\":5},\"subscription\":\"s\"}".to_owned(), "message.messageId", 24, "a string"),
            (
                "{\"message\":{\"messageId\":\"5\"},\"subscription\":\"s\"}".to_owned(),
                "message.publishTime",
                11,
                "missing",
            ),
            (
                "{\"message\":{\"messageId\":\"5\",\"publishTime\":\"soon\"},\"subscription\":\"s\"}".to_owned(),
                "message.publishTime",
                43,
                "no time",
            ),
            (with("}}"), "subscription", 0, "missing"),
            (with(",\n\"data\":\"eyJ*\"},\"subscription\":\"s\"}"), "message.data", start + 13, "no base64"),
            (with(",\"attributes\":{\"a\":1}},\"subscription\":\"s\"}"), "message.attributes", start + 19, "a string"),
            (with("},\"subscription\":\"s\",\"deliveryAttempt\":\"x\"}"), "deliveryAttempt", start + 40, "i32"),
        ] {
            let error = read(body.as_bytes()).expect_err(&body);
            assert_eq!(error.field, field, "{body}: {error}");
            assert!(error.problem.contains(problem), "{body}: {error}");
            assert!(error.at.abs_diff(at) <= 3, "{body}: {error}, not {at}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}").expect_err("no text").at, 6);
    }
}
