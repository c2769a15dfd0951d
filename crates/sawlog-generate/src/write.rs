//! Records as text.
//!
//! For: one writer for each format. Not for: what records say ([`crate::record`]) or breaking them
//! ([`crate::malform`]).

mod combined;
mod json;
mod logfmt;
mod syslog;

pub(crate) use json::{activity, metric};

use crate::record::LogRecord;
use crate::scenario::Format;
use crate::template::Escape;
use crate::text::{push_address, push_hex, push_number};
use crate::visitor::Address;
use crate::world::Version;

/// How the fixed texts of a format are escaped.
pub(crate) const fn escape(format: Format) -> Escape {
    match format {
        Format::Ndjson | Format::Logfmt => Escape::Json,
        Format::Combined | Format::Syslog5424 => Escape::Octal,
    }
}

/// Appends a log record, without a line break.
#[inline]
pub(crate) fn log(format: Format, record: &LogRecord<'_>, out: &mut Vec<u8>) {
    match format {
        Format::Ndjson => json::log(record, out),
        Format::Combined => combined::log(record, out),
        Format::Syslog5424 => syslog::log(record, out),
        Format::Logfmt => logfmt::log(record, out),
    }
}

fn push_version(out: &mut Vec<u8>, version: Version) {
    push_number(out, u64::from(version.major));
    out.push(b'.');
    push_number(out, u64::from(version.minor));
    out.push(b'.');
    push_number(out, u64::from(version.patch));
}

fn push_client(out: &mut Vec<u8>, client: Address) {
    match client {
        Address::V4(address) => push_address(out, address),
        Address::V6(bits) => {
            out.extend_from_slice(b"2a02:8");
            push_hex::<3>(out, bits >> 32);
            out.push(b':');
            // A group of four digits whose first is not zero is in its shortest form.
            push_hex::<4>(out, bits | 0x8000);
            out.extend_from_slice(b"::");
            push_hex::<4>(out, bits >> 16 | 0x1000);
        }
    }
}
