//! Signatures: what messages of one kind have in common.
//!
//! For: grouping messages without any state, the same wherever it runs: what varies from one message to the next (numbers,
//! ids, addresses, paths, hexadecimal and quoted text) is masked, and the hash of the rest is the signature. Not for:
//! learning templates from many messages: two words that differ make two signatures.

use memchr::memchr;
use xxhash_rust::xxh3::xxh3_64;

/// So many bytes of a message count; what follows tends to be a stack trace or a payload.
const BYTES_MAX: usize = 512;
/// A word without digits that is longer than this is no word.
const WORD_BYTES_MAX: usize = 48;

/// Kinds of bytes, as bits.
const WORD: u8 = 1;
const DIGIT: u8 = 2;
const SLASH: u8 = 4;
const AT: u8 = 8;
const QUOTE: u8 = 16;
/// Part of a character that is not ASCII.
const WIDE: u8 = 32;
/// What a word must have to vary at all, unless it is too long.
const VARYING: u8 = DIGIT | SLASH | AT;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'0'..=b'9' => WORD | DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' | b'.' | b':' | b'%' | b'+' | b'#' | b'$' | b'&' | b'*' | b'~' => {
                WORD
            }
            b'/' | b'\\' => WORD | SLASH,
            b'@' => WORD | AT,
            b'"' | b'\'' | b'`' => QUOTE,
            0x80.. => WIDE,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// Computes signatures in a buffer that it keeps, so that one costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Signer {
    template: Vec<u8>,
}

impl Signer {
    /// The signature of a message.
    pub(crate) fn signature(&mut self, message: &str) -> u64 {
        self.template.clear();
        write_template(&mut self.template, message);
        xxh3_64(&self.template)
    }
}

/// The signature of a message: a hash of its template. The column `signature` has its 16 hexadecimal digits.
#[must_use]
pub fn signature(message: &str) -> i64 {
    Signer::default().signature(message) as i64
}

/// The digits of a signature in the column: 16, hexadecimal, in lower case.
pub(crate) fn to_digits(signature: u64) -> [u8; 16] {
    std::array::from_fn(|place| b"0123456789abcdef"[(signature >> (60 - 4 * place)) as usize & 0xf])
}

/// The message with what varies masked: `user 17 from 10.0.0.1` becomes `user <num> from <addr>`.
#[must_use]
pub fn template(message: &str) -> String {
    let mut out = Vec::with_capacity(message.len().min(BYTES_MAX));
    write_template(&mut out, message);
    String::from_utf8(out).expect("a template is made of whole characters of a text")
}

/// Appends the template of a message.
pub(crate) fn write_template(out: &mut Vec<u8>, message: &str) {
    let message = message[..message.floor_char_boundary(BYTES_MAX)].trim_start();
    let line = &message[..memchr(b'\n', message.as_bytes()).unwrap_or(message.len())];
    let bytes = line.as_bytes();
    let (template_start, mut at) = (out.len(), 0);
    while at < bytes.len() {
        let start = at;
        let seen = skip_word(line, &mut at);
        if at > start {
            match seen & VARYING == 0 && at - start <= WORD_BYTES_MAX {
                true => out.extend_from_slice(&bytes[start..at]),
                false => mask(out, &line[start..at]),
            }
        } else if let Some(len) = quoted(&bytes[at..], &line[at..]) {
            out.extend_from_slice(b"<str>");
            at += len;
        } else {
            at += push_delimiter(out, &line[at..]);
        }
    }
    if out.len() > template_start && out.ends_with(b" ") {
        out.pop();
    }
}

/// Moves behind the word at a place, if there is one. Returns the kinds of its bytes.
fn skip_word(line: &str, at: &mut usize) -> u8 {
    let bytes = line.as_bytes();
    let mut seen = 0;
    while let Some(&byte) = bytes.get(*at) {
        let kind = KINDS[usize::from(byte)];
        if kind & WORD != 0 {
            *at += 1;
        } else if kind == WIDE
            && let Some(letter) = line[*at..].chars().next().filter(|letter| letter.is_alphanumeric())
        {
            *at += letter.len_utf8();
        } else {
            break;
        }
        seen |= kind;
    }
    seen
}

/// Appends the character at the front; white space counts once. Returns its length.
fn push_delimiter(out: &mut Vec<u8>, text: &str) -> usize {
    let Some(delimiter) = text.chars().next() else { return 0 };
    if !delimiter.is_whitespace() {
        out.extend_from_slice(&text.as_bytes()[..delimiter.len_utf8()]);
    } else if !out.ends_with(b" ") {
        out.push(b' ');
    }
    delimiter.len_utf8()
}

/// Length of the quoted text at the front, quotes included, if there is one. An apostrophe inside a word starts none.
fn quoted(bytes: &[u8], text: &str) -> Option<usize> {
    let quote = *bytes.first().filter(|byte| KINDS[usize::from(**byte)] == QUOTE)?;
    let end = 1 + memchr(quote, &bytes[1..])?;
    let after = text[end + 1..].chars().next();
    let is_closed = after.is_none_or(|letter| !letter.is_alphanumeric());
    is_closed.then_some(end + 1)
}

fn mask(out: &mut Vec<u8>, word: &str) {
    let bare = word.trim_end_matches(['.', ':', '-']);
    match mask_of(bare) {
        Some(mask) => out.extend_from_slice(mask),
        None => mask_inside(out, bare),
    }
    out.extend_from_slice(&word.as_bytes()[bare.len()..]);
}

/// What stands for a word that varies as a whole.
fn mask_of(word: &str) -> Option<&'static [u8]> {
    let bytes = word.as_bytes();
    let seen = bytes.iter().fold(0, |seen, byte| seen | KINDS[usize::from(*byte)]);
    if seen & DIGIT != 0 && is_number(bytes) {
        return Some(b"<num>");
    }
    if seen & SLASH != 0 {
        let slashes = bytes.iter().filter(|byte| KINDS[usize::from(**byte)] & SLASH != 0).count();
        if slashes > 1 || matches!(bytes, [b'/' | b'~' | b'\\', ..]) {
            return Some(if word.len() == 1 { b"/" } else { b"<path>" });
        }
    }
    if seen & DIGIT != 0 {
        if is_address(word) {
            return Some(b"<addr>");
        }
        if is_hex(bytes) {
            return Some(b"<hex>");
        }
    }
    if word.len() > WORD_BYTES_MAX || (seen & AT != 0 && bytes.contains(&b'.')) {
        return Some(b"<id>");
    }
    None
}

/// Digits with signs, separators of numbers, dates and times, and a short unit behind.
fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"+").or_else(|| word.strip_prefix(b"-"));
    let digits = digits.or_else(|| word.strip_prefix(b"#")).or_else(|| word.strip_prefix(b"$")).unwrap_or(word);
    let is_unit = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'%';
    let unit = digits.iter().rev().take_while(|byte| is_unit(byte)).count();
    let front = &digits[..digits.len() - unit];
    front.first().is_some_and(u8::is_ascii_digit)
        && unit <= 3
        && front.iter().filter(|byte| **byte == b'.').count() < 3
        && front.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b':' | b'/' | b'-' | b'+' | b'T' | b'Z'))
}

/// An address of IPv4 or IPv6, perhaps with a port.
fn is_address(word: &str) -> bool {
    // Most words are none, and the parser of addresses is slow to say so.
    if !word.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/')) {
        return false;
    }
    let host = word.strip_prefix('/').unwrap_or(word);
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !bare.contains(':') => bare,
        _ => host,
    };
    bare.parse::<std::net::IpAddr>().is_ok()
}

/// `0x…`, or at least eight hexadecimal digits, perhaps in groups as in a UUID.
fn is_hex(word: &[u8]) -> bool {
    if let Some(digits) = word.strip_prefix(b"0x").or_else(|| word.strip_prefix(b"0X")) {
        return !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    }
    word.len() >= 8 && word.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Runs of digits within a word are masked; a word that mixes digits and letters more often than a name does is an id.
/// Parts around `:` stand for themselves.
fn mask_inside(out: &mut Vec<u8>, word: &str) {
    if let Some((front, back)) = word.split_once(':').filter(|(front, back)| !front.is_empty() && !back.is_empty()) {
        mask(out, front);
        out.push(b':');
        mask(out, back);
        return;
    }
    let bytes = word.as_bytes();
    let runs = bytes.windows(2).filter(|pair| !pair[0].is_ascii_digit() && pair[1].is_ascii_digit()).count()
        + usize::from(bytes.first().is_some_and(u8::is_ascii_digit));
    let separators = bytes.iter().filter(|byte| matches!(byte, b'_' | b'-' | b'.' | b'/')).count();
    if runs > separators + 2 {
        out.extend_from_slice(b"<id>");
        return;
    }
    let mut is_in_digits = false;
    for &byte in bytes {
        let is_digit = byte.is_ascii_digit();
        match (is_digit, is_in_digits) {
            (true, false) => out.extend_from_slice(b"<num>"),
            (true, true) => {}
            (false, _) => out.push(byte),
        }
        is_in_digits = is_digit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &str) {
        assert_eq!(template(message), expected);
    }

    #[test]
    fn what_varies_is_masked_and_words_stay() {
        check("payment failed for order 4711 after 107ms", "payment failed for order <num> after <num>");
        check("Connection from 10.0.0.1:5432 refused", "Connection from <addr> refused");
        check("peer fe80::1 is gone", "peer <addr> is gone");
        check("open /var/log/app.log: No such file", "open <path>: No such file");
        check("GET https://a.example/b?x=1 took 1.5s", "GET <path>?x=<num> took <num>");
        check("user 'Jane Doe' isn't known", "user <str> isn't known");
        check("Received block blk_-1608999687919862906 of size 91178", "Received block blk_-<num> of size <num>");
        check("trace 4bf92f3577b34da6a3ce929d0e0e4736 lost", "trace <hex> lost");
        check("id 550e8400-e29b-41d4-a716-446655440000", "id <hex>");
        check("worker-7 stopped, code=0x1F", "worker-<num> stopped, code=<hex>");
        check("at 2026-11-24T03:00:00 level 5", "at <num> level <num>");
        check("token a8f3kz91q2 for jane@example.com", "token <id> for <id>");
        check("first line\nsecond line 7", "first line");
        check("  two   spaces ", "two spaces");
        check("retry 3/5, 99.9% done.", "retry <num>, <num> done.");
        check("", "");
    }

    #[test]
    fn messages_of_one_kind_have_one_signature() {
        let of = |user: u32| signature(&format!("login of user {user} from 10.1.2.{}", user % 250));
        assert!((1..1000).all(|user| of(user) == of(0)));
        assert_ne!(of(0), signature("logout of user 0 from 10.1.2.0"));
    }

    proptest! {
        #[test]
        fn any_text_has_a_template_of_bounded_length(text in ".{0,700}") {
            prop_assert!(template(&text).len() <= BYTES_MAX * 5);
        }

        #[test]
        fn the_numbers_do_not_matter(a in 0u64..1_000_000, b in 0u64..1_000_000) {
            let of = |number: u64| template(&format!("item {number} of cart-{number} at {number}.5 ms"));
            prop_assert_eq!(of(a), of(b));
        }
    }
}
