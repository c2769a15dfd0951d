//! Signatures: what messages of one kind have in common.
//!
//! For: grouping messages without any state, the same wherever it runs: what varies from one message to the next (numbers,
//! ids, addresses, paths, hexadecimal and quoted text) is masked, and the hash of the rest is the signature. Not for:
//! learning templates from many messages: two words that differ make two signatures.

use xxhash_rust::xxh3::xxh3_64;

/// So many bytes of a message count; what follows tends to be a stack trace or a payload.
const BYTES_MAX: usize = 512;
/// A word without digits that is longer than this is no word.
const WORD_BYTES_MAX: usize = 48;

/// The signature of a message: a hash of its template.
#[must_use]
pub fn signature(message: &str) -> i64 {
    xxh3_64(template(message).as_bytes()) as i64
}

/// The message with what varies masked: `user 17 from 10.0.0.1` becomes `user <num> from <addr>`.
#[must_use]
pub fn template(message: &str) -> String {
    let message = &message[..message.floor_char_boundary(BYTES_MAX)];
    let first_line = message.trim_start().lines().next().unwrap_or_default();
    let mut out = String::with_capacity(first_line.len());
    let mut rest = first_line;
    while let Some(first) = rest.chars().next() {
        if matches!(first, '"' | '\'' | '`')
            && let Some(len) = quoted(rest, first)
        {
            out.push_str("<str>");
            rest = &rest[len..];
            continue;
        }
        let len = rest.find(|letter| !is_word_letter(letter)).unwrap_or(rest.len());
        if len == 0 {
            push_delimiter(&mut out, first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        mask(&mut out, &rest[..len]);
        rest = &rest[len..];
    }
    out.truncate(out.trim_end().len());
    out
}

fn is_word_letter(letter: char) -> bool {
    letter.is_alphanumeric() || "_-./:@%+#$&*\\~".contains(letter)
}

/// White space counts once.
fn push_delimiter(out: &mut String, delimiter: char) {
    if !delimiter.is_whitespace() {
        out.push(delimiter);
    } else if !out.ends_with(' ') {
        out.push(' ');
    }
}

/// Length of the quoted text at the front, quotes included. An apostrophe inside a word starts none.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let inner = &text[1..];
    let end = inner.find(quote)?;
    let after = inner[end + 1..].chars().next();
    let is_closed = after.is_none_or(|letter| !letter.is_alphanumeric());
    is_closed.then_some(end + 2)
}

fn mask(out: &mut String, word: &str) {
    let bare = word.trim_end_matches(['.', ':', '!', '?', '-']);
    let tail = &word[bare.len()..];
    out.push_str(mask_of(bare).unwrap_or_default());
    if mask_of(bare).is_none() {
        mask_inside(out, bare);
    }
    out.push_str(tail);
}

/// What stands for a word that varies as a whole.
fn mask_of(word: &str) -> Option<&'static str> {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let slashes = word.bytes().filter(|byte| matches!(byte, b'/' | b'\\')).count();
    if is_number(word) {
        return Some("<num>");
    }
    if word.contains("://") || (slashes > 0 && (word.starts_with(['/', '~', '\\']) || slashes > 1)) {
        return Some(if word.len() == 1 { "/" } else { "<path>" });
    }
    if has_digit && is_address(word) {
        return Some("<addr>");
    }
    if has_digit && is_hex(word) {
        return Some("<hex>");
    }
    if word.len() > WORD_BYTES_MAX || (word.contains('@') && word.contains('.')) {
        return Some("<id>");
    }
    None
}

/// Digits with signs, separators of numbers, dates and times, and a short unit behind.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(['+', '-', '#', '$']).unwrap_or(word);
    let front = digits.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == '%');
    let unit = digits.len() - front.len();
    front.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && front.bytes().filter(|byte| *byte == b'.').count() < 3
        && front.bytes().all(|byte| byte.is_ascii_digit() || b".,:/-+TZ".contains(&byte))
        && unit <= 3
}

/// An address of IPv4 or IPv6, perhaps with a port.
fn is_address(word: &str) -> bool {
    let host = word.strip_prefix('/').unwrap_or(word);
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !bare.contains(':') => bare,
        _ => host,
    };
    bare.parse::<std::net::IpAddr>().is_ok()
}

/// `0x…`, or at least eight hexadecimal digits, perhaps in groups as in a UUID.
fn is_hex(word: &str) -> bool {
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Runs of digits within a word are masked; a word that mixes digits and letters more often than a name does is an id.
/// Parts around `:` stand for themselves.
fn mask_inside(out: &mut String, word: &str) {
    if let Some((front, back)) = word.split_once(':').filter(|(front, back)| !front.is_empty() && !back.is_empty()) {
        mask(out, front);
        out.push(':');
        mask(out, back);
        return;
    }
    let bytes = word.as_bytes();
    let runs = bytes.windows(2).filter(|pair| !pair[0].is_ascii_digit() && pair[1].is_ascii_digit()).count()
        + usize::from(bytes.first().is_some_and(u8::is_ascii_digit));
    let separators = bytes.iter().filter(|byte| matches!(byte, b'_' | b'-' | b'.' | b'/')).count();
    if runs > separators + 2 {
        out.push_str("<id>");
        return;
    }
    let mut is_in_digits = false;
    for letter in word.chars() {
        if letter.is_ascii_digit() {
            if !is_in_digits {
                out.push_str("<num>");
            }
            is_in_digits = true;
        } else {
            is_in_digits = false;
            out.push(letter);
        }
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
