//! The layers of the configuration, merged key by key.
//!
//! For: finding out which layer sets a key, where exactly, and what an unknown key was probably meant to be. Not for:
//! which keys the rules, the files to follow and the subscriptions have, which are sections without defaults to merge with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::ConfigProblem;

const DEFAULTS: &str = include_str!("../../../../config/default.toml");
pub(crate) const FILE_NAME: &str = "sawlog.toml";
const ENVIRONMENT_PREFIX: &str = "SAWLOG__";
/// The section that is typed by the core and checked as a whole.
pub(crate) const RULES: &str = "rules";
/// The list of files to follow, which has no defaults to merge with.
pub(crate) const TAIL: &str = "tail";
/// The list of subscriptions.
pub(crate) const PUBSUB: &str = "pubsub";
pub(crate) const ALERTS: &str = "alerts";
/// The services of Google Cloud.
pub(crate) const GCP: &str = "gcp";

/// What the layers above the defaults are read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigSources {
    /// Path and text of the file, or why it cannot be read.
    pub(crate) file: Option<Result<(PathBuf, String), (PathBuf, String)>>,
    /// Environment variables.
    pub(crate) environment: Vec<(String, String)>,
    /// Keys and values of flags.
    pub(crate) flags: Vec<(String, String)>,
}

impl ConfigSources {
    /// The sources of this process: the named file or `./sawlog.toml`, and the environment.
    pub(crate) fn from_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let file = file.or_else(|| Path::new(FILE_NAME).exists().then(|| PathBuf::from(FILE_NAME)));
        let file = file.map(|path| match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err((path, error.to_string())),
        });
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        Self { file, environment, flags }
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf, usize),
    Environment(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(key) => write!(f, "flag for {key}"),
        }
    }
}

/// One setting.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// A section that one layer sets as a whole, and where its parts stand.
#[derive(Debug)]
pub(crate) struct Section {
    name: &'static str,
    pub(crate) value: Value,
    /// The file that sets it and the lines of its keys; `None` where none does.
    file: Option<(PathBuf, BTreeMap<String, usize>)>,
}

impl Section {
    fn unset(name: &'static str, value: Value) -> Self {
        Self { name, value, file: None }
    }

    /// Where a key stands, or the nearest thing around it whose line is known.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        let Some((path, lines)) = &self.file else { return Origin::Default };
        let mut around = key;
        let line = loop {
            match (lines.get(around), around.rfind(['.', '['])) {
                (Some(line), _) => break *line,
                (None, Some(end)) => around = &around[..end],
                (None, None) => break 0,
            }
        };
        Origin::File(path.clone(), line)
    }

    /// Each value by its place, with where it comes from.
    pub(crate) fn shown(&self) -> BTreeMap<String, (String, Origin)> {
        let mut values = BTreeMap::new();
        if self.file.is_some() {
            flatten_places(self.name, &self.value, &mut values);
        }
        values.into_iter().map(|(key, value)| (key.clone(), (value.to_string(), self.origin(&key)))).collect()
    }
}

/// All layers merged.
#[derive(Debug)]
pub(crate) struct Layered {
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) rules: Section,
    pub(crate) tail: Section,
    pub(crate) pubsub: Section,
    pub(crate) alerts: Section,
    pub(crate) gcp: Section,
    pub(crate) problems: Vec<ConfigProblem>,
    defaults: BTreeMap<String, Value>,
}

impl Layered {
    pub(crate) fn load(sources: &ConfigSources) -> Self {
        let table: Table = DEFAULTS.parse().expect("the built-in defaults are valid TOML, which a test checks");
        let mut defaults = BTreeMap::new();
        flatten("", &table, &mut defaults);
        let as_default = |value: &Value| Setting { value: value.clone(), origin: Origin::Default };
        let mut layered = Self {
            settings: defaults.iter().map(|(key, value)| (key.clone(), as_default(value))).collect(),
            rules: Section::unset(RULES, Value::Table(Table::new())),
            tail: Section::unset(TAIL, Value::Array(Vec::new())),
            pubsub: Section::unset(PUBSUB, Value::Array(Vec::new())),
            alerts: Section::unset(ALERTS, Value::Array(Vec::new())),
            gcp: Section::unset(GCP, Value::Table(Table::new())),
            problems: Vec::new(),
            defaults,
        };
        match &sources.file {
            Some(Ok((path, text))) => layered.add_file(path, text),
            Some(Err((path, error))) => {
                let hint = "give the path of a readable TOML file";
                layered.note(Origin::File(path.clone(), 0), "", &format!("it cannot be read: {error}"), hint);
            }
            None => {}
        }
        for (name, value) in &sources.environment {
            let key = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace("__", ".").replace('_', "-");
            layered.set(&key, Value::String(value.clone()), Origin::Environment(name.clone()));
        }
        for (key, value) in &sources.flags {
            layered.set(key, Value::String(value.clone()), Origin::Flag(key.clone()));
        }
        layered
    }

    fn add_file(&mut self, path: &Path, text: &str) {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let problem = error.to_string().trim().to_owned();
                self.note(Origin::File(path.to_path_buf(), 0), "", &problem, "correct the TOML syntax");
                return;
            }
        };
        let lines = lines_of_keys(text);
        let mut found = BTreeMap::new();
        flatten("", &table, &mut found);
        for (key, value) in found {
            let line = lines.get(&key).copied().unwrap_or(0);
            self.set(&key, value, Origin::File(path.to_path_buf(), line));
        }
        for section in [&mut self.rules, &mut self.tail, &mut self.pubsub, &mut self.alerts, &mut self.gcp] {
            if let Some(value) = table.get(section.name) {
                section.value = value.clone();
                section.file = Some((path.to_path_buf(), lines.clone()));
            }
        }
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        match self.settings.get_mut(key) {
            Some(setting) => *setting = Setting { value, origin },
            None => {
                let hint = match self.nearest(key) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => "`sawlog config show` lists all settings".to_owned(),
                };
                self.note(origin, key, "there is no such setting", &hint);
            }
        }
    }

    fn note(&mut self, origin: Origin, key: &str, problem: &str, hint: &str) {
        self.problems.push(ConfigProblem {
            origin: origin.to_string(),
            key: key.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        });
    }

    /// The known key that is most like this one, if any is alike at all.
    fn nearest(&self, key: &str) -> Option<&str> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let same_name = self.settings.keys().find(|known| last(known) == last(key));
        let (distance, nearest) =
            self.settings.keys().map(|known| (edit_distance(key, known), known.as_str())).min()?;
        if distance <= 4 { Some(nearest) } else { same_name.map(String::as_str) }
    }

    pub(crate) fn default_of(&self, key: &str) -> String {
        self.defaults.get(key).map(ToString::to_string).unwrap_or_default()
    }

    pub(crate) fn shown(&self) -> BTreeMap<String, (String, Origin)> {
        let show =
            |(key, setting): (&String, &Setting)| (key.clone(), (setting.value.to_string(), setting.origin.clone()));
        self.settings.iter().map(show).collect()
    }
}

/// Dotted keys of all values but the rules, the files to follow, the subscriptions, the alerts and Google Cloud.
fn flatten(prefix: &str, table: &Table, out: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        if prefix.is_empty() && [RULES, TAIL, PUBSUB, ALERTS, GCP].contains(&name.as_str()) {
            continue;
        }
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, out),
            value => {
                out.insert(key, value.clone());
            }
        }
    }
}

/// The values of a section by their places: `rules.redact[0].name`.
fn flatten_places(place: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                flatten_places(&format!("{place}.{name}"), value, out);
            }
        }
        Value::Array(elements) if elements.iter().any(Value::is_table) => {
            for (index, element) in elements.iter().enumerate() {
                flatten_places(&format!("{place}[{index}]"), element, out);
            }
        }
        value => {
            out.insert(place.to_owned(), value.clone());
        }
    }
}

/// Line of each `key = value` and of each header of a TOML text, by dotted key; elements of lists have their index:
/// `tail[1].paths`.
fn lines_of_keys(text: &str) -> BTreeMap<String, usize> {
    let mut section = String::new();
    let mut element_counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = place_of_header(header, &mut element_counts);
            lines.insert(section.clone(), index + 1);
        } else if let Some((name, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let name = name.trim();
            let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            lines.insert(key, index + 1);
        }
    }
    lines
}

/// The place that a header opens: `[rules.redact` of `[[rules.redact]]` the second time is `rules.redact[1]`.
fn place_of_header(header: &str, element_counts: &mut BTreeMap<String, usize>) -> String {
    let names: Vec<&str> = header.trim_start_matches('[').split('.').map(str::trim).collect();
    let mut place = String::new();
    for (index, name) in names.iter().enumerate() {
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(name);
        if header.starts_with('[') && index + 1 == names.len() {
            *element_counts.entry(place.clone()).or_default() += 1;
        }
        if let Some(count) = element_counts.get(&place) {
            place.push_str(&format!("[{}]", count - 1));
        }
    }
    place
}

/// Levenshtein distance.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
