//! What one record of the event log holds: a batch as received, a note for the ledger, a tick, or corrections.
//!
//! For: bytes that a later run reads back to the same batch. Byte layout: docs/formats/frame.md.

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format, RawBatch};
use sawlog_core::ledger::Counts;
use sawlog_core::rollup::{self, Correction, PaneCell, Width};

const VERSION: u8 = 1;
const KIND_BATCH: u8 = 1;
const KIND_NOTE: u8 = 2;
const KIND_TICK: u8 = 3;
const KIND_START: u8 = 5;
const KIND_CORRECTIONS: u8 = 4;
const IS_DECLARED: u8 = 1;
/// What has no lower bound of age is live, or what has one is history.
const IS_UNUSUAL_AGE: u8 = 2;
const CODEC_NONE: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// zstd's fast levels are negative: this one costs about a microsecond for 500 bytes.
const ZSTD_LEVEL: i32 = -3;
/// Smaller bodies are kept as they are.
const COMPRESS_BYTES_MIN: usize = 1024;

/// Bytes that are no frame of a version this build reads.
#[derive(Debug, thiserror::Error)]
#[error("frame cannot be read: {problem}")]
pub struct FrameError {
    problem: &'static str,
}

/// A batch with all that its transform depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BatchFrame {
    pub(crate) batch_id: String,
    pub(crate) source: String,
    pub(crate) format: Format,
    pub(crate) is_declared: bool,
    pub(crate) receive_time: i64,
    pub(crate) age: AgeLimits,
    pub(crate) rules_version: i64,
    /// Records of the same request that were refused; the ledger counts them with the batch.
    pub(crate) rejected: u64,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) body: Bytes,
}

impl BatchFrame {
    pub(crate) fn raw(&self) -> RawBatch<'_> {
        RawBatch {
            batch_id: &self.batch_id,
            source: &self.source,
            file: self.file.as_deref(),
            format: self.format,
            is_declared: self.is_declared,
            receive_time: self.receive_time,
            age: self.age,
            body: &self.body,
        }
    }
}

/// Counts that concern no kept record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoteFrame {
    pub(crate) source: String,
    pub(crate) receive_time: i64,
    pub(crate) counts: Counts,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Batch(BatchFrame),
    Note(NoteFrame),
    /// Receive time went on until then, UTC microseconds, without a batch.
    Tick(i64),
    /// A process was started then, UTC microseconds.
    Start(i64),
    /// Panes that a recount corrects.
    Corrections(Vec<Correction>),
}

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Batch(batch) => encode_batch(batch),
            Self::Note(note) => encode_note(note),
            Self::Tick(time) => Bytes::from([&[VERSION, KIND_TICK], time.to_le_bytes().as_slice()].concat()),
            Self::Start(time) => Bytes::from([&[VERSION, KIND_START], time.to_le_bytes().as_slice()].concat()),
            Self::Corrections(panes) => encode_corrections(panes),
        }
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader { bytes: bytes.clone(), at: 0 };
        if reader.byte()? != VERSION {
            return Err(FrameError { problem: "it has a version of a newer build" });
        }
        match reader.byte()? {
            KIND_BATCH => Ok(Self::Batch(decode_batch(&mut reader)?)),
            KIND_NOTE => Ok(Self::Note(decode_note(&mut reader)?)),
            KIND_TICK => Ok(Self::Tick(reader.number()? as i64)),
            KIND_START => Ok(Self::Start(reader.number()? as i64)),
            KIND_CORRECTIONS => Ok(Self::Corrections(decode_corrections(&mut reader)?)),
            _ => Err(FrameError { problem: "it is of an unknown kind" }),
        }
    }
}

fn encode_batch(batch: &BatchFrame) -> Bytes {
    let mut out = Vec::with_capacity(batch.body.len() / 3 + 256);
    out.extend_from_slice(&[VERSION, KIND_BATCH, format_code(batch.format), flags_of(batch)]);
    for number in [batch.receive_time, batch.age.past.unwrap_or(i64::MAX), batch.age.future, batch.rules_version] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&batch.rejected.to_le_bytes());
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, file) = (optional(&batch.idempotency_key), optional(&batch.file));
    for text in [&batch.batch_id, &batch.source, &key, &file] {
        write_text(&mut out, text);
    }
    out.extend_from_slice(&(batch.body.len() as u32).to_le_bytes());
    let compressed = (batch.body.len() >= COMPRESS_BYTES_MIN)
        .then(|| zstd::bulk::compress(&batch.body, ZSTD_LEVEL).ok())
        .flatten()
        .filter(|compressed| compressed.len() < batch.body.len());
    match compressed {
        Some(compressed) => {
            out.push(CODEC_ZSTD);
            out.extend_from_slice(&compressed);
        }
        None => {
            out.push(CODEC_NONE);
            out.extend_from_slice(&batch.body);
        }
    }
    Bytes::from(out)
}

fn flags_of(batch: &BatchFrame) -> u8 {
    let is_unusual = batch.age.is_history != batch.age.past.is_none();
    (if batch.is_declared { IS_DECLARED } else { 0 }) | (if is_unusual { IS_UNUSUAL_AGE } else { 0 })
}

fn decode_batch(reader: &mut Reader) -> Result<BatchFrame, FrameError> {
    let format = format_of_code(reader.byte()?).ok_or(FrameError { problem: "its format is unknown" })?;
    let flags = reader.byte()?;
    let receive_time = reader.number()? as i64;
    let past = Some(reader.number()? as i64).filter(|past| *past != i64::MAX);
    let future = reader.number()? as i64;
    let rules_version = reader.number()? as i64;
    let rejected = reader.number()?;
    let (batch_id, source) = (reader.text()?, reader.text()?);
    let (key, file) = (reader.text()?, reader.text()?);
    let body_bytes = u32::from_le_bytes(reader.array()?) as usize;
    let codec = reader.byte()?;
    let rest = reader.bytes.slice(reader.at..);
    let body = match codec {
        CODEC_NONE => rest,
        CODEC_ZSTD => Bytes::from(
            zstd::bulk::decompress(&rest, body_bytes)
                .map_err(|_| FrameError { problem: "its body does not unpack" })?,
        ),
        _ => return Err(FrameError { problem: "its compression is unknown" }),
    };
    if body.len() != body_bytes {
        return Err(FrameError { problem: "its body is cut short" });
    }
    Ok(BatchFrame {
        batch_id,
        source,
        format,
        is_declared: flags & IS_DECLARED != 0,
        receive_time,
        age: AgeLimits { past, future, is_history: past.is_none() != (flags & IS_UNUSUAL_AGE != 0) },
        rules_version,
        rejected,
        idempotency_key: (!key.is_empty()).then_some(key),
        file: (!file.is_empty()).then_some(file),
        body,
    })
}

fn encode_note(note: &NoteFrame) -> Bytes {
    let mut out = vec![VERSION, KIND_NOTE];
    out.extend_from_slice(&note.receive_time.to_le_bytes());
    write_text(&mut out, &note.source);
    for count in note.counts.values() {
        out.extend_from_slice(&count.to_le_bytes());
    }
    Bytes::from(out)
}

fn decode_note(reader: &mut Reader) -> Result<NoteFrame, FrameError> {
    let receive_time = reader.number()? as i64;
    let source = reader.text()?;
    let mut values = [0; 8];
    for value in &mut values {
        *value = reader.number()?;
    }
    Ok(NoteFrame { source, receive_time, counts: Counts::from_values(values) })
}

fn encode_corrections(panes: &[Correction]) -> Bytes {
    let mut out = vec![VERSION, KIND_CORRECTIONS];
    out.extend_from_slice(&(panes.len() as u32).to_le_bytes());
    for Correction { width, key, pane } in panes {
        out.push(width_code(*width));
        for part in [key, &pane.to_bytes()] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    Bytes::from(out)
}

fn decode_corrections(reader: &mut Reader) -> Result<Vec<Correction>, FrameError> {
    let count = u32::from_le_bytes(reader.array()?);
    let mut panes = Vec::new();
    for _ in 0..count {
        let code = reader.byte()?;
        let width = Width::ALL.into_iter().find(|width| width_code(*width) == code);
        let width = width.ok_or(FrameError { problem: "the length of a window is unknown" })?;
        let key = reader.long()?.to_vec();
        let (rollup, _) = rollup::decode(&key).ok_or(FrameError { problem: "the key of a pane is none" })?;
        let pane = PaneCell::from_bytes(rollup, &reader.long()?);
        panes.push(Correction { width, key, pane: pane.map_err(|_| FrameError { problem: "a pane is none" })? });
    }
    if reader.at < reader.bytes.len() {
        return Err(FrameError { problem: "something follows its panes" });
    }
    Ok(panes)
}

/// Codes are part of the byte layout.
const fn width_code(width: Width) -> u8 {
    match width {
        Width::TenSeconds => 1,
        Width::Minute => 2,
        Width::Hour => 3,
    }
}

/// Codes are part of the byte layout: a format keeps its code for ever.
const fn format_code(format: Format) -> u8 {
    match format {
        Format::Json => 1,
        Format::Access => 2,
        Format::Syslog => 3,
        Format::Text => 4,
        Format::OtlpLogs => 5,
        Format::OtlpMetrics => 6,
        Format::OtlpLogsJson => 7,
        Format::OtlpMetricsJson => 8,
        Format::Logfmt => 9,
        Format::Pubsub => 10,
    }
}

fn format_of_code(code: u8) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format_code(*format) == code)
}

/// Texts of a frame are short (ids and names); a longer one is cut at this many bytes.
const TEXT_BYTES_MAX: usize = u16::MAX as usize;

fn write_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    out.extend_from_slice(&(end as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let slice = self.bytes.get(self.at..self.at + N).ok_or(FrameError { problem: "it is cut short" })?;
        self.at += N;
        slice.try_into().map_err(|_| FrameError { problem: "it is cut short" })
    }

    fn byte(&mut self) -> Result<u8, FrameError> {
        Ok(self.array::<1>()?[0])
    }

    fn number(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, FrameError> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let slice = self.bytes.get(self.at..self.at + len).ok_or(FrameError { problem: "it is cut short" })?;
        self.at += len;
        String::from_utf8(slice.to_vec()).map_err(|_| FrameError { problem: "a text is not UTF-8" })
    }

    /// Bytes behind their length.
    fn long(&mut self) -> Result<Bytes, FrameError> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(FrameError { problem: "it is cut short" })?;
        let slice = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_core::rollup::{Cell, PaneTiming, Rollup};

    use super::*;

    fn corrections() -> Frame {
        let pane = PaneCell { index: 2, timing: PaneTiming::Late, cell: Cell::new(Rollup::Activity) };
        let key = rollup::with_time(b"a\0buy\0\0de\0", 1_795_489_200_000_000);
        Frame::Corrections(vec![
            Correction { width: Width::TenSeconds, key: key.clone(), pane: pane.clone() },
            Correction { width: Width::Hour, key, pane },
        ])
    }

    fn batch(body: &'static [u8]) -> Frame {
        Frame::Batch(BatchFrame {
            batch_id: "b1".to_owned(),
            source: "http".to_owned(),
            format: Format::Json,
            is_declared: true,
            receive_time: 1_795_489_200_000_000,
            age: AgeLimits::any_past(),
            rules_version: 7,
            rejected: 2,
            idempotency_key: Some("k".to_owned()),
            file: Some("/var/log/a.log".to_owned()),
            body: Bytes::from_static(body),
        })
    }

    #[test]
    fn frames_are_read_back() {
        for frame in [
            batch(b"{}"),
            batch(&[b'x'; 5000]),
            Frame::Tick(1_795_489_200_000_000),
            corrections(),
            Frame::Corrections(Vec::new()),
            Frame::Note(NoteFrame {
                source: "otlp".to_owned(),
                receive_time: 5,
                counts: Counts { received: 3, rejected: 3, ..Counts::default() },
            }),
        ] {
            assert_eq!(Frame::decode(&frame.encode()).expect("a frame"), frame);
        }
    }

    #[test]
    fn whether_a_batch_is_history_does_not_depend_on_its_bound_of_age() {
        for (past, is_history, is_declared) in [
            (None, true, true),
            (None, false, true),
            (None, false, false),
            (Some(i64::MAX - 1), false, true),
            (Some(5), true, false),
        ] {
            let Frame::Batch(frame) = batch(b"{}") else { panic!("a batch") };
            let age = AgeLimits { past, future: 7, is_history };
            let frame = Frame::Batch(BatchFrame { age, is_declared, ..frame });
            assert_eq!(Frame::decode(&frame.encode()).expect("a frame"), frame);
        }
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        for frame in [batch(&[b'x'; 5000]), corrections()] {
            let bytes = frame.encode();
            for len in 0..bytes.len() {
                assert!(Frame::decode(&bytes.slice(..len)).is_err(), "{len}");
            }
        }
        let longer = [corrections().encode().as_ref(), b"x"].concat();
        assert!(Frame::decode(&Bytes::from(longer)).is_err());
    }

    /// Frames of earlier versions are read for ever, and today's code still writes what it reads.
    #[test]
    fn frames_of_version_1_are_read() {
        let kept = |bytes: &'static [u8]| Frame::decode(&Bytes::from_static(bytes)).expect("a kept frame");
        let text = kept(include_bytes!("../../../tests/formats/frame-v1-batch.bin"));
        let expected = BatchFrame {
            batch_id: "6610f1a2b3c4d0001".to_owned(),
            source: "tail".to_owned(),
            format: Format::Logfmt,
            is_declared: true,
            receive_time: 1_795_489_200_000_000,
            age: AgeLimits::any_past(),
            rules_version: 7,
            rejected: 2,
            idempotency_key: Some("tail:fd01:2a:5:0-40".to_owned()),
            file: Some("/var/log/app.log".to_owned()),
            body: Bytes::from_static("level=info msg=\"café\"\n".as_bytes()),
        };
        assert_eq!(text, Frame::Batch(expected));
        assert_eq!(text.encode(), include_bytes!("../../../tests/formats/frame-v1-batch.bin")[..]);
        let packed = kept(include_bytes!("../../../tests/formats/frame-v1-batch-zstd.bin"));
        let expected = BatchFrame {
            batch_id: "6610f1a2b3c4d0002".to_owned(),
            source: "http".to_owned(),
            format: Format::Json,
            is_declared: false,
            receive_time: 1_795_489_200_000_001,
            age: AgeLimits::default(),
            rules_version: -3,
            rejected: 0,
            idempotency_key: None,
            file: None,
            body: Bytes::from(b"{\"message\":\"one of many\"}\n".repeat(64)),
        };
        assert_eq!(packed, Frame::Batch(expected));
        assert_eq!(Frame::decode(&packed.encode()).expect("a frame"), packed);
        let note = kept(include_bytes!("../../../tests/formats/frame-v1-note.bin"));
        let counts = Counts { received: 3, rejected: 3, ..Counts::default() };
        let expected = NoteFrame { source: "otlp".to_owned(), receive_time: 1_795_489_200_000_000, counts };
        assert_eq!(note, Frame::Note(expected));
        assert_eq!(note.encode(), include_bytes!("../../../tests/formats/frame-v1-note.bin")[..]);
        let kept_corrections = kept(include_bytes!("../../../tests/formats/frame-v1-corrections.bin"));
        assert_eq!(kept_corrections, corrections());
        assert_eq!(corrections().encode(), include_bytes!("../../../tests/formats/frame-v1-corrections.bin")[..]);
    }
}
