//! Cutting an input into bodies at line ends, with bounded memory.
//!
//! For: undoing compression, detecting the format, and getting past lines that are too long without holding them. Not
//! for: what the lines say.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use sawlog_core::batch::{self, Format};
use sawlog_core::limits::RECORD_BYTES_MAX;

/// Bytes of a chunk: large enough to amortize a sync, small enough that several are in memory.
const CHUNK_BYTES: usize = 2 << 20;
/// Bytes that the format is detected from.
const SAMPLE_BYTES: usize = 64 << 10;
/// Largest JSON array that is loaded as one body.
const ARRAY_BYTES_MAX: u64 = 64 << 20;

/// Some whole lines of an input.
pub(in crate::cli) struct Chunk {
    pub(in crate::cli) body: Bytes,
    /// Where it starts in the uncompressed input.
    pub(in crate::cli) offset: u64,
    pub(in crate::cli) format: Format,
    pub(in crate::cli) is_declared: bool,
    /// Lines that were too long and left out.
    pub(in crate::cli) oversize_lines: u64,
    /// File that the input is, if it is one.
    pub(in crate::cli) file: Option<String>,
}

pub(in crate::cli) struct Chunks {
    file: Option<String>,
    input: Box<dyn BufRead + Send>,
    /// Read and not given out yet.
    pending: Vec<u8>,
    offset: u64,
    format: Format,
    is_declared: bool,
    is_array: bool,
    oversize_lines: u64,
    is_at_end: bool,
    /// Why the input ended early.
    failure: Option<std::io::Error>,
}

impl Chunks {
    pub(in crate::cli) fn new(
        input: impl Read + Send + 'static,
        file: Option<String>,
        format: Option<Format>,
    ) -> anyhow::Result<Self> {
        let mut input = decompressed(BufReader::with_capacity(256 << 10, input))?;
        let mut pending = Vec::with_capacity(SAMPLE_BYTES);
        let failure = input.by_ref().take(SAMPLE_BYTES as u64).read_to_end(&mut pending).err();
        let detected = format.unwrap_or_else(|| batch::detect(&pending));
        let first = pending.iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(Self {
            file,
            input,
            offset: 0,
            format: detected,
            is_declared: format.is_some(),
            is_array: detected == Format::Json && first == Some(&b'['),
            pending,
            oversize_lines: 0,
            is_at_end: failure.is_some(),
            failure,
        })
    }

    /// The next chunk; `None` at the end. Where the input is damaged (a cut or broken gzip file), what came before is
    /// given out up to its last whole line, and then the failure.
    pub(in crate::cli) fn next_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        if self.is_array {
            return self.whole_array();
        }
        loop {
            if !self.is_at_end {
                let wanted = CHUNK_BYTES.saturating_sub(self.pending.len()).max(64 << 10) as u64;
                match self.input.by_ref().take(wanted).read_to_end(&mut self.pending) {
                    Ok(bytes) => self.is_at_end = bytes == 0,
                    Err(error) => self.end_early(error),
                }
            }
            if self.is_at_end {
                return self.last_chunk();
            }
            match memchr_last_line(&self.pending) {
                Some(end) => {
                    let rest = self.pending.split_off(end);
                    let body = std::mem::replace(&mut self.pending, rest);
                    return Ok(Some(self.chunk(body)));
                }
                None if self.pending.len() > RECORD_BYTES_MAX => self.skip_line(),
                None => {}
            }
        }
    }

    fn end_early(&mut self, error: std::io::Error) {
        self.failure = Some(error);
        self.is_at_end = true;
    }

    fn last_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        let mut body = std::mem::take(&mut self.pending);
        if self.failure.is_some() {
            body.truncate(memchr_last_line(&body).unwrap_or(0));
        }
        if !body.is_empty() || self.oversize_lines > 0 {
            return Ok(Some(self.chunk(body)));
        }
        match self.failure.take() {
            Some(error) => Err(anyhow::Error::from(error).context("it is damaged after its last line that was loaded")),
            None => Ok(None),
        }
    }

    fn chunk(&mut self, body: Vec<u8>) -> Chunk {
        let offset = self.offset;
        self.offset += body.len() as u64;
        Chunk {
            body: Bytes::from(body),
            offset,
            format: self.format,
            is_declared: self.is_declared,
            oversize_lines: std::mem::take(&mut self.oversize_lines),
            file: self.file.clone(),
        }
    }

    /// Drops a line that is too long, reading to its end piece by piece.
    fn skip_line(&mut self) {
        self.oversize_lines += 1;
        self.offset += self.pending.len() as u64;
        self.pending.clear();
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) => return self.end_early(error),
            };
            if buffer.is_empty() {
                self.is_at_end = true;
                return;
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.input.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                return;
            }
        }
    }

    fn whole_array(&mut self) -> anyhow::Result<Option<Chunk>> {
        if let Some(error) = self.failure.take() {
            return Err(error.into());
        }
        if self.is_at_end {
            return Ok(None);
        }
        self.is_at_end = true;
        self.input.by_ref().take(ARRAY_BYTES_MAX).read_to_end(&mut self.pending)?;
        anyhow::ensure!(
            (self.pending.len() as u64) < ARRAY_BYTES_MAX,
            "the JSON array is larger than {ARRAY_BYTES_MAX} bytes; convert it to one object a line (`jq -c '.[]'`)"
        );
        let body = std::mem::take(&mut self.pending);
        Ok(Some(self.chunk(body)))
    }
}

/// End of the last whole line.
fn memchr_last_line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&byte| byte == b'\n').map(|end| end + 1)
}

/// Undoes gzip or zstd, told by their first bytes.
fn decompressed(mut input: impl BufRead + Send + 'static) -> std::io::Result<Box<dyn BufRead + Send>> {
    let head = input.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(256 << 10, flate2::bufread::MultiGzDecoder::new(input))));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        return Ok(Box::new(BufReader::with_capacity(256 << 10, decoder)));
    }
    Ok(Box::new(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks_of(input: Vec<u8>) -> (Vec<Chunk>, Vec<u8>) {
        let mut chunks = Chunks::new(std::io::Cursor::new(input), None, None).expect("an input");
        let mut found = Vec::new();
        while let Some(chunk) = chunks.next_chunk().expect("readable") {
            found.push(chunk);
        }
        let joined = found.iter().flat_map(|chunk| chunk.body.to_vec()).collect();
        (found, joined)
    }

    #[test]
    fn chunks_end_at_line_ends_and_lose_nothing() {
        let input: Vec<u8> = (0..400_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let (chunks, joined) = chunks_of(input.clone());
        assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.body.ends_with(b"\n")));
        assert!(joined == input);
    }

    #[test]
    fn a_line_that_is_too_long_is_counted_and_its_neighbours_stay() {
        let input = [b"before\n".to_vec(), vec![b'x'; 9 << 20], b"\nafter\n".to_vec()].concat();
        let (chunks, joined) = chunks_of(input);
        assert_eq!(joined, b"before\nafter\n");
        assert_eq!(chunks.iter().map(|chunk| chunk.oversize_lines).sum::<u64>(), 1);
    }

    #[test]
    fn compressed_input_is_recognized() {
        let plain = b"a\nb\n".repeat(100);
        let (_, joined) = chunks_of(zstd::bulk::compress(&plain, 1).expect("in memory"));
        assert_eq!(joined, plain);
    }

    #[test]
    fn what_stands_before_damage_is_given_out_and_then_the_failure() {
        let plain: Vec<u8> = (0..300_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let mut damaged = zstd::bulk::compress(&plain, 1).expect("in memory");
        damaged.truncate(damaged.len() * 3 / 4);
        let mut chunks = Chunks::new(std::io::Cursor::new(damaged), None, None).expect("an input");
        let mut found = Vec::new();
        let failure = loop {
            match chunks.next_chunk() {
                Ok(Some(chunk)) => found.extend_from_slice(&chunk.body),
                Ok(None) => panic!("the damage is not noticed"),
                Err(error) => break error,
            }
        };
        assert!(found.len() > plain.len() / 2 && found.ends_with(b"\n") && plain.starts_with(&found), "{failure:#}");
        assert!(chunks.next_chunk().is_ok_and(|chunk| chunk.is_none()), "the failure is told once");
    }
}
