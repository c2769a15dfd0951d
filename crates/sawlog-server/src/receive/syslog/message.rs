//! Making one line of a message.
//!
//! For: what a relay does (RFC 3164, section 4.3): a message without a time gets the time of receipt and the sender's
//! address as its host. Not for: reading messages. A line feed inside a message becomes `#012`, as rsyslog writes it,
//! since records are lines.

use std::net::IpAddr;

use sawlog_core::time;

/// Appends a message as a line. An empty message is none: returns whether there was one.
pub(super) fn push_line(out: &mut Vec<u8>, message: &[u8], sender: IpAddr, now_micros: i64) -> bool {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | b'\0' | b' ')).map_or(0, |last| last + 1);
    let message = &message[..end];
    if message.trim_ascii().is_empty() {
        return false;
    }
    let mut rest = message;
    if let Some(len) = priority_len(message)
        && !message[len..].starts_with(b"1 ")
        && time::parse_prefix(&message[len..], now_micros).is_none()
    {
        out.extend_from_slice(&message[..len]);
        out.extend_from_slice(format!("{} {} ", time::to_rfc3339(now_micros), sender.to_canonical()).as_bytes());
        rest = message[len..].trim_ascii_start();
    }
    for &byte in rest {
        match byte {
            b'\n' => out.extend_from_slice(b"#012"),
            byte => out.push(byte),
        }
    }
    out.push(b'\n');
    true
}

/// Length of `<0>` to `<191>`.
fn priority_len(message: &[u8]) -> Option<usize> {
    let digits = message.strip_prefix(b"<")?.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    let number: u32 = std::str::from_utf8(&message[1..=digits]).ok()?.parse().ok()?;
    (digits <= 3 && number < 192 && message.get(digits + 1) == Some(&b'>')).then_some(digits + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_489_200_000_000;

    #[track_caller]
    fn check(message: &str, expected: &str) {
        let mut out = Vec::new();
        push_line(&mut out, message.as_bytes(), IpAddr::from([10, 0, 0, 7]), NOW);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn whole_messages_stay_as_they_are() {
        check("<34>1 2026-11-24T03:00:00Z h a - - - hi\n", "<34>1 2026-11-24T03:00:00Z h a - - - hi\n");
        check("<34>Nov 24 03:00:00 host su: hi\0", "<34>Nov 24 03:00:00 host su: hi\n");
        check("no priority\r\n", "no priority\n");
    }

    #[test]
    fn a_message_without_time_gets_one_and_its_sender_as_host() {
        check("<999>no priority", "<999>no priority\n");
        check("<14>app[7]: hi", "<14>2026-11-24T03:00:00.000000Z 10.0.0.7 app[7]: hi\n");
    }

    #[test]
    fn a_message_is_one_line_or_none() {
        check("<34>Nov 24 03:00:00 host su: a\nb\n\n", "<34>Nov 24 03:00:00 host su: a#012b\n");
        check(" \n\0", "");
    }
}
