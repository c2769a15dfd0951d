//! Values that follow from other values of the same record.
//!
//! For: severity class, route template, user-agent family, device and address class. Not for: values that a rule or a
//! lookup table adds ([`crate::rules`]).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use memchr::memmem;
use xxhash_rust::xxh3::xxh3_64;

use crate::record::{AttributeType, Int, Record, Span, Text, Value};
use crate::severity::{self, SeverityClass};
use crate::value;

/// Enriches records; remembers what it found out about texts that repeat.
#[derive(Debug, Default)]
pub(crate) struct Enricher {
    agents: HashMap<u64, Agent>,
}

/// Most user agents that are remembered; then the memory starts afresh.
const AGENTS_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Agent {
    family: &'static str,
    device: &'static str,
}

impl Enricher {
    pub(crate) fn enrich(&mut self, payload: &[u8], record: &mut Record) {
        split_query(payload, record);
        if record.text(Text::HttpRoute).is_none()
            && let Some(path) = record.text_bytes(payload, Text::HttpPath)
            && let Some(route) = route_template(path)
        {
            record.set_text_copy(Text::HttpRoute, &route);
            record.traits.is_route_derived = true;
        }
        if let Some(agent) = record.text_bytes(payload, Text::UserAgent) {
            let agent = self.agent(agent);
            record.set_text_copy(Text::UserAgentFamily, agent.family.as_bytes());
            if record.text(Text::Device).is_none() {
                record.set_text_copy(Text::Device, agent.device.as_bytes());
            }
        }
        if let Some(class) = record.text_bytes(payload, Text::ClientAddress).and_then(address_class) {
            record.set_text_copy(Text::ClientAddressClass, class.as_bytes());
        }
        set_severity_class(record);
    }

    fn agent(&mut self, text: &[u8]) -> Agent {
        if self.agents.len() >= AGENTS_MAX {
            self.agents.clear();
        }
        *self.agents.entry(xxh3_64(text)).or_insert_with(|| read_agent(text))
    }
}

/// A record without a severity gets the one that its HTTP status implies, if it has one.
fn set_severity_class(record: &mut Record) {
    if record.int(Int::SeverityNumber).is_none()
        && let Some(status) = record.int(Int::HttpStatus)
    {
        let implied = match status {
            500..=599 => Some(17),
            400..=499 => Some(13),
            100..=399 => Some(9),
            _ => None,
        };
        if let Some(number) = implied {
            record.set_int(Int::SeverityNumber, number);
        }
    }
    let number = record.int(Int::SeverityNumber);
    record.set_text_copy(Text::SeverityClass, SeverityClass::of(number).name().as_bytes());
    if record.text(Text::SeverityText).is_none()
        && let Some(number) = number
    {
        record.set_text_copy(Text::SeverityText, severity::name_of_number(number).as_bytes());
    }
}

/// Leaves the path in its slot; scheme and host are dropped from it, the query becomes an attribute, and of a whole
/// URL the original is kept as one too.
fn split_query(payload: &[u8], record: &mut Record) {
    let Some(span) = record.text(Text::HttpPath) else {
        return;
    };
    let bytes = record.bytes(payload, span);
    let mut front = 0;
    if !bytes.starts_with(b"/")
        && let Some(scheme) = memmem::find(bytes, b"://")
    {
        let host = scheme + 3;
        front = memchr::memchr3(b'/', b'?', b'#', &bytes[host..]).map_or(bytes.len(), |slash| host + slash);
    }
    let path_len = memchr::memchr2(b'?', b'#', &bytes[front..]).unwrap_or(bytes.len() - front);
    let (len, query_at) = (bytes.len(), front + path_len);
    if front > 0 {
        add(record, payload, b"url.full", span);
    } else if query_at + 1 < len {
        add(record, payload, b"url.query", span.trimmed(query_at + 1, 0));
    }
    record.set_text(Text::HttpPath, span.trimmed(front, len - query_at));
    if path_len == 0 {
        record.set_text_copy(Text::HttpPath, b"/");
    }
}

fn add(record: &mut Record, payload: &[u8], key: &[u8], text: Span) {
    let key = record.keep(key);
    let kind = AttributeType::Text;
    record.add_attribute(payload, key, Value { text, kind });
}

/// Segments of a route; what lies deeper is cut off, since routes must stay few.
const ROUTE_SEGMENTS_MAX: usize = 8;
/// A longer segment is an id or a title, never a route's name.
const ROUTE_SEGMENT_BYTES_MAX: usize = 40;

/// The route of a path: segments that look like ids become `{id}`, e.g. `/users/123` → `/users/{id}`.
#[must_use]
pub(crate) fn route_template(path: &[u8]) -> Option<Vec<u8>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut route = Vec::with_capacity(path.len());
    for (index, segment) in path[1..].split(|&byte| byte == b'/').enumerate() {
        if index == ROUTE_SEGMENTS_MAX {
            route.extend_from_slice(b"/\xe2\x80\xa6");
            break;
        }
        route.push(b'/');
        route.extend_from_slice(if is_id(segment) { b"{id}" } else { segment });
    }
    Some(route)
}

fn is_id(segment: &[u8]) -> bool {
    let digits = segment.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = segment.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if segment.len() > ROUTE_SEGMENT_BYTES_MAX || segment.contains(&b'@') || segment.contains(&b'%') {
        return true;
    }
    if digits == 0 {
        return false;
    }
    // v1, v2beta: the version of an interface is part of its route.
    let is_version = segment[0] == b'v' && segment.get(1).is_some_and(u8::is_ascii_digit) && segment.len() <= 6;
    let is_file = memchr::memrchr(b'.', segment).is_some_and(|dot| segment.len() - dot <= 6 && letters > digits);
    let is_hex = segment.len() >= 8 && segment.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    !is_version && !is_file && (letters == 0 || is_hex || digits >= 4 || (digits >= 2 && segment.len() >= 8))
}

/// Whether an address (perhaps with a port) is `private` or `public`; `None` when it is no address.
#[must_use]
pub(crate) fn address_class(text: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if text.matches(':').count() == 1 => text.split(':').next()?,
        None => text,
    };
    let is_private = match bare.parse().ok()? {
        IpAddr::V4(address) => is_private_v4(address.octets()),
        IpAddr::V6(address) => is_private_v6(address),
    };
    Some(if is_private { "private" } else { "public" })
}

/// Private, loopback, link-local, shared (RFC 6598) and unspecified addresses.
const fn is_private_v4(octets: [u8; 4]) -> bool {
    matches!(octets, [10 | 127 | 0, ..] | [172, 16..=31, ..] | [192, 168, ..] | [169, 254, ..] | [100, 64..=127, ..])
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    match address.to_ipv4_mapped() {
        Some(v4) => is_private_v4(v4.octets()),
        None => {
            let first = address.segments()[0];
            address.is_loopback() || address.is_unspecified() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

/// Marks of user agents, most specific first: a Chrome string also says Safari, an Edge string also says Chrome.
const AGENTS: [(&[u8], &str); 24] = [
    (b"Googlebot", "Googlebot"),
    (b"bingbot", "Bingbot"),
    (b"Baiduspider", "Baiduspider"),
    (b"YandexBot", "YandexBot"),
    (b"Slurp", "Yahoo Slurp"),
    (b"bot", "Bot"),
    (b"Bot", "Bot"),
    (b"crawler", "Bot"),
    (b"spider", "Bot"),
    (b"Edg", "Edge"),
    (b"OPR/", "Opera"),
    (b"Opera", "Opera"),
    (b"SamsungBrowser", "Samsung Internet"),
    (b"Firefox", "Firefox"),
    (b"CriOS", "Chrome"),
    (b"Chrome", "Chrome"),
    (b"Safari", "Safari"),
    (b"MSIE", "Internet Explorer"),
    (b"Trident", "Internet Explorer"),
    (b"curl/", "curl"),
    (b"Wget", "Wget"),
    (b"python", "Python"),
    (b"Go-http-client", "Go"),
    (b"okhttp", "OkHttp"),
];

fn read_agent(text: &[u8]) -> Agent {
    let has = |mark: &[u8]| memmem::find(text, mark).is_some();
    let family = AGENTS.iter().find(|(mark, _)| has(mark)).map_or("Other", |(_, family)| *family);
    let is_bot = family.ends_with("bot") || matches!(family, "Bot" | "Baiduspider" | "YandexBot" | "Yahoo Slurp");
    let device = if is_bot {
        "bot"
    } else if has(b"iPad") || has(b"Tablet") || (has(b"Android") && !has(b"Mobile")) {
        "tablet"
    } else if has(b"Mobi") || has(b"iPhone") {
        "mobile"
    } else if has(b"Mozilla") || has(b"Opera") {
        "desktop"
    } else {
        "other"
    };
    Agent { family, device }
}

/// Whether text reads as no value; shared with the rules' defaults.
pub(crate) fn is_missing(record: &Record, payload: &[u8], slot: Text) -> bool {
    record.text_bytes(payload, slot).is_none_or(value::is_null_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_route(path: &str, route: &str) {
        let found = route_template(path.as_bytes()).expect("a path");
        assert_eq!(String::from_utf8_lossy(&found), route);
    }

    #[test]
    fn ids_in_a_path_become_placeholders() {
        check_route("/users/123", "/users/{id}");
        check_route("/users/123/orders/9f86d081884c7d65", "/users/{id}/orders/{id}");
        check_route("/api/v1/items/550e8400-e29b-41d4-a716-446655440000", "/api/v1/items/{id}");
        check_route("/images/kibana-search.png", "/images/kibana-search.png");
        check_route("/blog/tags/puppet", "/blog/tags/puppet");
        check_route("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…");
        check_route("/", "/");
    }

    #[test]
    fn addresses_are_private_or_public_or_neither() {
        for (address, class) in [
            ("10.1.2.3", Some("private")),
            ("172.20.0.1:8080", Some("private")),
            ("100.64.0.1", Some("private")),
            ("83.149.9.216", Some("public")),
            ("[fd00::1]:443", Some("private")),
            ("2001:4860:4860::8888", Some("public")),
            ("::ffff:192.168.0.1", Some("private")),
            ("example.com", None),
        ] {
            assert_eq!(address_class(address.as_bytes()), class, "{address}");
        }
    }

    #[test]
    fn user_agents_fall_into_families() {
        for (text, family, device) in [
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36",
                "Chrome",
                "desktop",
            ),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot", "bot"),
            ("curl/8.5.0", "curl", "other"),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
                "Safari",
                "mobile",
            ),
        ] {
            let agent = read_agent(text.as_bytes());
            assert_eq!((agent.family, agent.device), (family, device));
        }
    }
}
