//! Patterns of names: `*` stands for any text, also none, `?` for one character; everything else is itself.
//!
//! For: choosing metrics to watch and groups to alert on. Not for: paths, whose `*` ends at a slash. Takes at most the
//! product of both lengths in steps.

/// Whether a name matches a pattern.
pub(crate) fn is_match(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when what follows the last star does not fit: one character further.
    let mut retry = None;
    loop {
        match (pattern.next(), name.clone().next()) {
            (Some('*'), _) => retry = Some((pattern.clone(), name.clone())),
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                name.next();
            }
            _ => {
                let Some((after_star, mut from)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, name) = (after_star.clone(), from.clone());
                retry = Some((after_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|at| naive(rest, &name[at..])),
            (Some((wanted, pattern)), Some((found, name))) => {
                (*wanted == b'?' || wanted == found) && naive(pattern, name)
            }
            _ => false,
        }
    }

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, name, matches) in [
            ("", "", true),
            ("*", "", true),
            ("check*", "checkout", true),
            ("*out", "checkout-out", true),
            ("c?eck*t", "checkout", true),
            ("caf?", "café", true),
            ("a.b", "axb", false),
            ("?", "", false),
        ] {
            assert_eq!(is_match(pattern, name), matches, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_everything(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(is_match(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
