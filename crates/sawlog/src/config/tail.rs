//! The list `[[tail]]` of files to follow.
//!
//! For: its shape and its mistakes. Not for: following ([`crate::tail`]).

use sawlog_core::batch::Format;
use serde::Deserialize;
use toml::Value;

use super::ConfigProblem;
use crate::tail::Tail;

const SOURCE: &str = "tail";
const SOURCE_BYTES_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TailSection {
    paths: Vec<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    start: Start,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Start {
    #[default]
    Beginning,
    End,
}

/// Reads the list; what is wrong is left out and reported.
pub(super) fn read(value: &Value) -> (Vec<Tail>, Vec<ConfigProblem>) {
    let mut problems = Vec::new();
    let mut note = |index: Option<usize>, problem: String, hint: &str| {
        let key = index.map_or("tail".to_owned(), |index| format!("tail[{index}]"));
        problems.push(ConfigProblem { origin: String::new(), key, problem, hint: hint.to_owned() });
    };
    let Value::Array(sections) = value else {
        note(None, "it is no list".to_owned(), "write each of them as [[tail]]");
        return (Vec::new(), problems);
    };
    let mut tails: Vec<Tail> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        match section.clone().try_into().map_err(|error: toml::de::Error| {
            (
                error.message().trim().replace('\n', " "),
                "the settings are paths, format, source and start (beginning or end)",
            )
        }) {
            Ok(section) => match checked(section) {
                Ok(tail) if tails.iter().any(|other| other.paths == tail.paths) => {
                    note(Some(index), "another [[tail]] has the same paths".to_owned(), "join them");
                }
                Ok(tail) => tails.push(tail),
                Err((problem, hint)) => note(Some(index), problem, hint),
            },
            Err((problem, hint)) => note(Some(index), problem, hint),
        }
    }
    (tails, problems)
}

fn checked(section: TailSection) -> Result<Tail, (String, &'static str)> {
    if section.paths.is_empty() {
        return Err(("paths is empty".to_owned(), "name files, for example paths = [\"/var/log/*.log\"]"));
    }
    for path in &section.paths {
        if let Err(error) = glob::Pattern::new(path) {
            return Err((
                format!("{path:?} is no pattern: {error}"),
                "write *, ? and [a-z]; ** for folders of any depth",
            ));
        }
    }
    let format = match section.format.as_deref() {
        None | Some("detect") => None,
        Some(name) => match Format::from_name(name).filter(|format| format.is_lines()) {
            Some(format) => Some(format),
            None => {
                return Err((
                    format!("format {name:?} is unknown"),
                    "use detect, json, logfmt, access, syslog or text",
                ));
            }
        },
    };
    let source = section.source.unwrap_or_else(|| SOURCE.to_owned());
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if source.is_empty() || source.len() > SOURCE_BYTES_MAX || !source.bytes().all(is_allowed) {
        return Err((format!("{source:?} is no source name"), "use 1 to 64 of the characters a-z, 0-9, _ and -"));
    }
    Ok(Tail { paths: section.paths, format, source, starts_at_end: section.start == Start::End })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> (Vec<Tail>, Vec<String>) {
        let table: toml::Table = text.parse().expect("TOML");
        let (tails, problems) = read(&table["tail"]);
        (tails, problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.problem)).collect())
    }

    #[test]
    fn sections_are_read_with_their_defaults() {
        let text = "[[tail]]\npaths = [\"/a/*.log\"]\n[[tail]]\npaths = [\"b\"]\nformat = \"json\"\nsource = \"shop\"\nstart = \"end\"";
        let (tails, problems) = problems_of(text);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((tails[0].format, tails[0].source.as_str(), tails[0].starts_at_end), (None, "tail", false));
        assert_eq!(
            (tails[1].format, tails[1].source.as_str(), tails[1].starts_at_end),
            (Some(Format::Json), "shop", true)
        );
    }

    #[test]
    fn each_mistake_is_named_with_its_section() {
        let (tails, problems) = problems_of(
            "[[tail]]\npaths = []\n[[tail]]\npaths = [\"a\"]\nfrom = \"end\"\n[[tail]]\npaths = [\"***\"]\n\
             [[tail]]\npaths = [\"a\"]\nformat = \"xml\"\n[[tail]]\npaths = [\"a\"]\nsource = \"A\"\n\
             [[tail]]\npaths = [\"a\"]\n[[tail]]\npaths = [\"a\"]",
        );
        assert_eq!(tails.len(), 1);
        assert_eq!(problems.len(), 6, "{problems:#?}");
        assert!(problems[0].starts_with("tail[0]: paths is empty") && problems[1].contains("from"), "{problems:#?}");
        assert_eq!(problems_of("tail = 3").1, ["tail: it is no list"]);
    }
}
