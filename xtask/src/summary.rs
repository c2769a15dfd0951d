//! Adding up what test runners report.

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Counts from one line of output, if it is a runner's closing line: cargo test (`test result: ok. 3 passed; 0
    /// failed; …`), pytest (`== 3 passed, 1 failed in 2s ==`), vitest (`Tests  3 passed (3)`), or `3 passed, 0 failed`.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let plain = without_colours(line);
        let plain = plain.trim();
        let is_closing = plain.starts_with("test result:")
            || (plain.starts_with("==") && plain.ends_with("=="))
            || plain.starts_with("Tests ")
            || (plain.ends_with(" failed") && plain.contains(" passed, "))
            || is_quiet_pytest(plain);
        if !is_closing {
            return None;
        }
        let words: Vec<&str> =
            plain.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let before = |name: &str| {
            let pair = words.windows(2).find(|pair| pair[1] == name)?;
            pair[0].parse::<u64>().ok()
        };
        let counts = Self {
            passed: before("passed").unwrap_or(0),
            failed: before("failed").unwrap_or(0) + before("errors").or_else(|| before("error")).unwrap_or(0),
        };
        (counts != Self::default() || plain.contains("passed")).then_some(counts)
    }
}

/// `2 failed, 10 passed, 1 warning in 3.01s (0:00:03)`, as pytest closes with `-q`.
fn is_quiet_pytest(line: &str) -> bool {
    let Some((counts, time)) = line.split_once(" in ") else { return false };
    let is_count = |part: &str| {
        let (number, what) = part.trim().split_once(' ').unwrap_or_default();
        number.parse::<u64>().is_ok() && !what.contains(' ')
    };
    counts.split(',').all(is_count) && time.split(' ').next().is_some_and(|time| time.ends_with('s'))
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            for skipped in characters.by_ref() {
                if skipped.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_all_runners_are_read() {
        let counts = |passed, failed| Some(Counts { passed, failed });
        assert_eq!(Counts::of_line("test result: ok. 39 passed; 1 failed; 0 ignored"), counts(39, 1));
        assert_eq!(Counts::of_line("===== 2 failed, 10 passed in 3.01s ====="), counts(10, 2));
        assert_eq!(
            Counts::of_line("\u{1b}[2m      Tests \u{1b}[22m \u{1b}[1m\u{1b}[32m100 passed\u{1b}[39m (100)"),
            counts(100, 0)
        );
        assert_eq!(Counts::of_line("54 passed, 0 failed"), counts(54, 0));
        assert_eq!(Counts::of_line("152 passed, 2 warnings in 192.21s (0:03:12)"), counts(152, 0));
        assert_eq!(Counts::of_line("2 failed, 103 passed, 1 error in 9.04s"), counts(103, 3));
        assert_eq!(Counts::of_line("3 batches in 5 files"), None);
        assert_eq!(Counts::of_line("the 3 passed, and so on"), None);
    }
}
