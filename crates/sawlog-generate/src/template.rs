//! Texts with variables.
//!
//! For: messages, paths and stack traces, written as one readable line each in [`crate::catalog`] and compiled once
//! for a generator. Not for: records as a whole ([`crate::write`]).
//! Invariant: the values of the variables need no escaping in any format, so that only the fixed text is escaped, and
//! that at compile time.

use crate::rng::{self, mix};
use crate::text::{push_address, push_hex, push_hundredths, push_number, push_thousandths};

/// How fixed text is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As in a JSON string (also right inside the quotes of logfmt).
    Json,
    /// Control characters as `#012`, rsyslog's way to keep a record on one line.
    Octal,
}

macro_rules! variables {
    ($($name:ident = $text:literal),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Variable { $($name),+ }

        impl Variable {
            fn of(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

variables! {
    User = "user", Order = "order", Product = "product", Cart = "cart", Term = "term", TermInUrl = "term_url",
    Category = "category", Amount = "amount", Currency = "currency", Small = "n", Large = "big", Percent = "percent",
    Hex = "hex", Uuid = "uuid", Method = "method", Path = "path", Status = "status", Millis = "ms", Upstream = "upstream",
    Address = "ip", Email = "email", Provider = "provider", Memory = "mib",
}

/// Search terms: as typed, and as they stand in a URL.
#[rustfmt::skip] // a table
const TERMS: [(&str, &str); 16] = [
    ("running shoes", "running+shoes"), ("laptop", "laptop"), ("usb-c cable", "usb-c+cable"), ("Größe 42", "Gr%C3%B6%C3%9Fe+42"),
    ("coffee machine", "coffee+machine"), ("headphones", "headphones"), ("イヤホン", "%E3%82%A4%E3%83%A4%E3%83%9B%E3%83%B3"),
    ("desk lamp", "desk+lamp"), ("t-shirt", "t-shirt"), ("sac à dos", "sac+%C3%A0+dos"), ("tent 2 person", "tent+2+person"),
    ("keyboard", "keyboard"), ("gift card", "gift+card"), ("yoga mat", "yoga+mat"), ("bike light", "bike+light"), ("toaster", "toaster"),
];
const CATEGORIES: [&str; 10] =
    ["shoes", "laptops", "kitchen", "outdoor", "books", "toys", "garden", "audio", "cycling", "home-office"];
const CURRENCIES: [&str; 4] = ["EUR", "EUR", "USD", "GBP"];
const PROVIDERS: [&str; 4] = ["adyen", "stripe", "paypal", "klarna"];

/// What the variables of one record stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    /// What the request is about: order, product, cart and so on follow from it.
    pub(crate) subject: u64,
    /// Random numbers of this record only.
    pub(crate) record: u64,
    pub(crate) user: u32,
    pub(crate) method: &'static str,
    pub(crate) path: Option<&'a Template>,
    pub(crate) status: u16,
    pub(crate) duration_us: u32,
    pub(crate) upstream: &'static str,
}

impl Values<'_> {
    pub(crate) fn product(&self) -> u64 {
        1000 + u64::from(rng::scale(self.subject, 9000))
    }

    /// Amount of money in hundredths.
    pub(crate) fn amount(&self) -> u64 {
        499 + u64::from(rng::scale(mix(self.subject), 240)) * 125
    }

    pub(crate) fn currency(&self) -> &'static str {
        rng::pick::<&str>(&CURRENCIES, self.subject << 8)
    }

    pub(crate) fn category(&self) -> &'static str {
        rng::pick::<&str>(&CATEGORIES, self.subject << 16)
    }

    pub(crate) fn term(&self) -> &'static str {
        rng::pick(&TERMS, self.subject << 20).0
    }

    pub(crate) const fn order(&self) -> u64 {
        self.subject
    }
}

#[derive(Debug)]
enum Piece {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// A compiled text.
#[derive(Debug, Default)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Compiles `checked {n} items`. A brace pair that names no variable is text.
    pub(crate) fn new(source: &str, escape: Escape) -> Self {
        let mut pieces = Vec::new();
        let mut rest = source;
        let mut fixed = Vec::new();
        while let Some(character) = rest.chars().next() {
            let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            if let Some((variable, after)) = name.and_then(|(name, after)| Some((Variable::of(name)?, after))) {
                if !fixed.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut fixed).into_boxed_slice()));
                }
                pieces.push(Piece::Variable(variable));
                rest = after;
            } else {
                push_escaped(&mut fixed, character, escape);
                rest = &rest[character.len_utf8()..];
            }
        }
        if !fixed.is_empty() {
            pieces.push(Piece::Text(fixed.into_boxed_slice()));
        }
        Self { pieces }
    }

    /// Appends the text with its variables.
    pub(crate) fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        self.write_seeded(values, values.record, out);
    }

    /// Appends a path, which is the same in all records of a request.
    pub(crate) fn write_path(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        self.write_seeded(values, values.subject, out);
    }

    fn write_seeded(&self, values: &Values<'_>, mut random: u64, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Variable(variable) => {
                    random = mix(random);
                    write_variable(*variable, values, random, out);
                }
            }
        }
    }
}

fn push_escaped(out: &mut Vec<u8>, character: char, escape: Escape) {
    match (character, escape) {
        ('\n', Escape::Json) => out.extend_from_slice(br"\n"),
        ('\t', Escape::Json) => out.extend_from_slice(br"\t"),
        ('"' | '\\', Escape::Json) => out.extend_from_slice(&[b'\\', character as u8]),
        ('\n', Escape::Octal) => out.extend_from_slice(b"#012"),
        ('\t', Escape::Octal) => out.extend_from_slice(b"#011"),
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn write_variable(variable: Variable, values: &Values<'_>, random: u64, out: &mut Vec<u8>) {
    let below = |bound| u64::from(rng::scale(random, bound));
    match variable {
        Variable::User => push_number(out, u64::from(values.user)),
        Variable::Order => push_hex::<12>(out, values.order()),
        Variable::Product => push_number(out, values.product()),
        Variable::Cart => push_hex::<8>(out, values.subject >> 24),
        Variable::Term => out.extend_from_slice(values.term().as_bytes()),
        Variable::TermInUrl => out.extend_from_slice(rng::pick(&TERMS, values.subject << 20).1.as_bytes()),
        Variable::Category => out.extend_from_slice(values.category().as_bytes()),
        Variable::Amount => push_hundredths(out, values.amount()),
        Variable::Currency => out.extend_from_slice(values.currency().as_bytes()),
        Variable::Small => push_number(out, 1 + below(20)),
        Variable::Large => push_number(out, 1 + below(90_000)),
        Variable::Percent => push_number(out, 80 + below(19)),
        Variable::Hex => push_hex::<8>(out, random),
        Variable::Uuid => write_uuid(random, out),
        Variable::Method => out.extend_from_slice(values.method.as_bytes()),
        Variable::Path => values.path.into_iter().for_each(|path| path.write_path(values, out)),
        Variable::Status => push_number(out, u64::from(values.status)),
        Variable::Millis => push_thousandths(out, u64::from(values.duration_us)),
        Variable::Upstream => out.extend_from_slice(values.upstream.as_bytes()),
        Variable::Address => push_address(out, [10, 20, (random >> 8) as u8, (random >> 16) as u8]),
        Variable::Email => {
            out.extend_from_slice(b"user");
            push_number(out, u64::from(values.user));
            out.extend_from_slice(b"@example.com");
        }
        Variable::Provider => out.extend_from_slice(rng::pick(&PROVIDERS, values.subject << 4).as_bytes()),
        Variable::Memory => push_number(out, 200 + below(2000)),
    }
}

/// A random (version 4) UUID.
fn write_uuid(random: u64, out: &mut Vec<u8>) {
    let more = mix(random);
    push_hex::<8>(out, random >> 32);
    out.push(b'-');
    push_hex::<4>(out, random >> 16);
    out.extend_from_slice(b"-4");
    push_hex::<3>(out, random);
    out.push(b'-');
    push_hex::<4>(out, more >> 48 & 0x3FFF | 0x8000);
    out.push(b'-');
    push_hex::<12>(out, more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, escape: Escape, text: &str) {
        let path = Template::new("/users/{user}", Escape::Json);
        let values = Values {
            subject: 0x1234_5678_9ABC_DEF0,
            record: 5,
            user: 42,
            method: "GET",
            path: Some(&path),
            status: 200,
            duration_us: 43_217,
            upstream: "cart",
        };
        let mut out = Vec::new();
        Template::new(source, escape).write(&values, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), text);
    }

    #[test]
    fn variables_are_replaced_and_text_is_escaped() {
        check("{method} {path} {status} in {ms} ms", Escape::Json, "GET /users/42 200 in 43.217 ms");
        check("say \"a\\b\"\n\tat {upstream}", Escape::Json, r#"say \"a\\b\"\n\tat cart"#);
        check("a\n\tat {upstream}", Escape::Octal, "a#012#011at cart");
        check("order {order} {unknown} {", Escape::Json, "order 56789abcdef0 {unknown} {");
    }
}
