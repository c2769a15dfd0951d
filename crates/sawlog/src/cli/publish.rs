//! `sawlog publish`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use sawlog_core::batch::{self, Format};
use sawlog_core::pubsub::FORMAT_ATTRIBUTE;
use sawlog_gcp::Access;
use sawlog_gcp::pubsub::{Outgoing, TopicPublisher};
use serde_json::Value;

use super::ingest::Input;
use super::ingest::chunks::{Chunk, Chunks};
use super::runtime;

/// Longest ordering key that the service takes, bytes.
const KEY_BYTES_MAX: usize = 1_024;

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Files to publish, plain, gzip or zstd; `-` or nothing reads standard input.
    files: Vec<PathBuf>,
    /// Topic, projects/PROJECT/topics/NAME.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// json, logfmt, access, syslog or text [default: detected for each file].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Field of JSON records whose value is the ordering key: records of one value stay in order.
    #[arg(long, value_name = "FIELD")]
    ordering_field: Option<String>,
    /// Attribute of all messages; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    attribute: Vec<String>,
    /// Of an emulator, http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

pub(crate) fn run(args: &PublishArgs) -> anyhow::Result<ExitCode> {
    match checked(args) {
        Ok(settings) => runtime()?.block_on(publish(args, settings)),
        Err(problem) => {
            eprintln!("error: {problem}");
            Ok(ExitCode::from(2))
        }
    }
}

struct Settings {
    access: Access,
    format: Option<Format>,
    attributes: Vec<(String, String)>,
}

fn checked(args: &PublishArgs) -> Result<Settings, String> {
    let parts: Vec<&str> = args.topic.split('/').collect();
    if !matches!(parts[..], ["projects", project, "topics", name] if !project.is_empty() && !name.is_empty()) {
        return Err(format!("{:?} is no topic; write projects/PROJECT/topics/NAME", args.topic));
    }
    let format = match &args.format {
        None => None,
        Some(name) => match Format::from_name(name).filter(|format| format.is_lines()) {
            Some(format) => Some(format),
            None => return Err(format!("format {name:?} is unknown; use json, logfmt, access, syslog or text")),
        },
    };
    let attribute = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("--attribute {text:?} has no name and `=`; write --attribute NAME=VALUE")),
    };
    let attributes = args.attribute.iter().map(attribute).collect::<Result<_, _>>()?;
    let access = Access::new(args.endpoint.clone()).map_err(|error| error.to_string())?;
    Ok(Settings { access, format, attributes })
}

async fn publish(args: &PublishArgs, settings: Settings) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let inputs = Input::open_all(&args.files)?;
    let mut publisher = TopicPublisher::connect(&args.topic, &settings.access).await?;
    let mut skipped = 0;
    for input in inputs {
        let (name, reader) = input.into_parts();
        let in_file = || format!("{name} is published in part");
        let mut chunks =
            Chunks::new(reader, None, settings.format).with_context(|| format!("{name} cannot be read"))?;
        while let Some(chunk) = tokio::task::block_in_place(|| chunks.next_chunk()).with_context(in_file)? {
            skipped += chunk.oversize_lines;
            for message in messages(&chunk, args.ordering_field.as_deref(), &settings.attributes)? {
                publisher.publish(message).await.with_context(in_file)?;
            }
        }
    }
    let published = publisher.finish().await?;
    println!("published {published} messages in {:.1} s", started.elapsed().as_secs_f64());
    if skipped > 0 {
        eprintln!("error: {skipped} lines have more than 1 MiB and were left out");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// One message for each record of a chunk. Records that are not JSON say their format.
fn messages(
    chunk: &Chunk,
    ordering_field: Option<&str>,
    attributes: &[(String, String)],
) -> anyhow::Result<Vec<Outgoing>> {
    let mut attributes = attributes.to_vec();
    if chunk.format != Format::Json && !attributes.iter().any(|(name, _)| name == FORMAT_ATTRIBUTE) {
        attributes.push((FORMAT_ATTRIBUTE.to_owned(), chunk.format.name().to_owned()));
    }
    let spans = batch::split(chunk.format, &chunk.body)?;
    let one = |span: batch::RecordSpan| {
        let data = chunk.body.slice(span.record);
        let ordering_key = ordering_field.and_then(|field| key_of(&data, field)).unwrap_or_default();
        Outgoing { data, attributes: attributes.clone(), ordering_key }
    };
    Ok(spans.into_iter().map(one).collect())
}

/// The value of a field as an ordering key; none where the record has no such field.
fn key_of(record: &Bytes, field: &str) -> Option<String> {
    let record: Value = serde_json::from_slice(record).ok()?;
    let key = match record.get(field)? {
        Value::String(text) => text.clone(),
        Value::Null => return None,
        other => other.to_string(),
    };
    (key.len() <= KEY_BYTES_MAX).then_some(key)
}
