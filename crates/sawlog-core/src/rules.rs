//! The rules that a user sets: which records to drop, what to redact, what to add.
//!
//! For: one typed configuration, checked as a whole and compiled once; its version stands in each row. Not for:
//! reading files (tables come in as text) or deciding when new rules apply. Patterns run in linear time.

mod tables;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::{Format, RawBatch};
use crate::enrich::{is_missing, route_template};
use crate::log_entry;
use crate::record::{AttributeType, Float, Int, Record, Text, Value};
use crate::redact::{self, Redaction};
use crate::schema::{Source, Table};
use crate::users::UserTable;
use crate::value;

/// Rules as written in the configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RulesConfig {
    /// Whether entries of Cloud Logging that Sawlog itself wrote are kept. By default they are dropped and counted as filtered:
    /// each of them would make another one.
    pub keep_own_logs: bool,
    /// Records to drop. A record is dropped when all conditions of one filter hold.
    pub filter: Vec<FilterConfig>,
    /// Text to make unreadable.
    pub redact: Vec<RedactConfig>,
    /// Values for records that lack them.
    pub defaults: DefaultsConfig,
    /// Tables of users, which fill `user_segment` and `country`.
    pub users: Vec<UsersConfig>,
    /// Tables that add attributes by a key.
    pub lookup: Vec<LookupConfig>,
}

/// A filter: drops the records for which all conditions hold.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FilterConfig {
    /// Name for messages and counts.
    pub name: String,
    /// Conditions, all of which must hold.
    #[serde(rename = "where")]
    pub conditions: Vec<ConditionConfig>,
}

/// One condition on a column or attribute. Exactly one test must be given.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConditionConfig {
    /// Column name, else attribute name.
    pub field: String,
    /// The value is this text.
    pub equals: Option<String>,
    /// The value is one of these texts.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<String>>,
    /// The value starts with this text.
    pub prefix: Option<String>,
    /// The value contains this text.
    pub contains: Option<String>,
    /// The value matches this regular expression.
    pub matches: Option<String>,
    /// The value is there (true) or not (false).
    pub exists: Option<bool>,
    /// The value is a number of at least this size.
    pub at_least: Option<f64>,
    /// The value is a number of at most this size.
    pub at_most: Option<f64>,
}

/// Where a redaction applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedactAt {
    /// On the payload as received, before anything is written.
    Receive,
    /// On the columns of a row; the raw record in the lake keeps the text.
    #[default]
    Transform,
}

/// A redaction.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RedactConfig {
    /// Name for messages; also what stands in place of the text, in brackets, unless `replace` is set.
    pub name: String,
    /// `email`, `card` (a payment card number), `token` (bearer tokens and keys), or a regular expression.
    pub pattern: String,
    /// Text to put in place.
    pub replace: Option<String>,
    /// When it applies.
    #[serde(default)]
    pub at: RedactAt,
}

/// Values for records that lack them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DefaultsConfig {
    /// For the column `service`.
    pub service: Option<String>,
    /// For the column `environment`.
    pub environment: Option<String>,
    /// For the column `region`.
    pub region: Option<String>,
    /// Values for the records of one source, by the source's name; they go before those for all.
    pub by_source: BTreeMap<String, SourceDefaultsConfig>,
}

/// Values for records of one source that lack them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SourceDefaultsConfig {
    /// For the column `service`.
    pub service: Option<String>,
    /// For the column `environment`.
    pub environment: Option<String>,
    /// For the column `region`.
    pub region: Option<String>,
}

/// A table of users ([`crate::users`]).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UsersConfig {
    /// Name for messages and counts.
    pub name: String,
    /// The CSV file, with a header line.
    pub file: String,
}

/// A lookup table: rows of a CSV file, found by one key column, add attributes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LookupConfig {
    /// Name for messages and prefix of the added attributes.
    pub name: String,
    /// The CSV file, with a header line.
    pub file: String,
    /// Column of the file to find a row by.
    pub key: String,
    /// Column or attribute of the record that holds the key.
    pub field: String,
}

/// A mistake in the rules.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {problem}")]
pub struct RulesError {
    /// Which rule.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

/// Largest compiled size of one pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Compiled rules.
#[derive(Debug)]
pub struct Rules {
    version: i64,
    keeps_own_logs: bool,
    filters: Vec<Filter>,
    at_receive: Vec<Redaction>,
    at_transform: Vec<Redaction>,
    defaults: Defaults,
    source_defaults: HashMap<String, Defaults>,
    users: Vec<UsersLookup>,
    lookups: Vec<Lookup>,
}

/// Columns and the values for records that lack them.
type Defaults = Vec<(Text, Vec<u8>)>;

#[derive(Debug)]
struct Filter {
    conditions: Vec<(FieldRef, Test)>,
}

#[derive(Debug)]
struct UsersLookup {
    name: String,
    table: Arc<UserTable>,
}

/// How often a table of users was asked and what it knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCounts {
    /// It has the user.
    pub matches: u64,
    /// It does not.
    pub misses: u64,
}

#[derive(Debug)]
struct Lookup {
    field: FieldRef,
    /// Names of the attributes that a row adds.
    names: Vec<Vec<u8>>,
    rows: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// A column or attribute that a rule names.
#[derive(Debug)]
enum FieldRef {
    /// A column of texts, and its name: where a table lacks the column, an attribute may have it.
    Text(Text, Vec<u8>),
    Int(Int),
    Float(Float),
    /// The source of the batch, its format and its file.
    BatchSource,
    BatchFormat,
    BatchFile,
    Attribute(Vec<u8>),
}

#[derive(Debug)]
enum Test {
    OneOf(Vec<Vec<u8>>),
    Prefix(Vec<u8>),
    Contains(Vec<u8>),
    Matches(Regex),
    Exists(bool),
    AtLeast(f64),
    AtMost(f64),
}

impl Rules {
    /// Compiles rules. `file` gives the text of a file that they name.
    ///
    /// # Errors
    /// All mistakes at once, each with its place and remedy.
    pub fn compile(
        config: &RulesConfig,
        file: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, Vec<RulesError>> {
        Self::compile_sharing(config, file, &[])
    }

    /// The same; tables of users that one of the `others` has read from the same text are shared with it.
    ///
    /// # Errors
    /// All mistakes at once, each with its place and remedy.
    pub fn compile_sharing(
        config: &RulesConfig,
        file: &dyn Fn(&str) -> Result<String, String>,
        others: &[Arc<Self>],
    ) -> Result<Self, Vec<RulesError>> {
        let mut errors = Vec::new();
        let mut identity = format!("{config:?}");
        let filters = config.filter.iter().filter_map(|filter| compile_filter(filter, &mut errors)).collect();
        let mut at_receive = Vec::new();
        let mut at_transform = Vec::new();
        for redact in &config.redact {
            if let Some(redaction) = compile_redaction(redact, &mut errors) {
                let list = if redact.at == RedactAt::Receive { &mut at_receive } else { &mut at_transform };
                list.push(redaction);
            }
        }
        let mut tables = tables::Reader { file, others, identity: &mut identity, errors: &mut errors };
        let (users, lookups) = (tables.users(&config.users), tables.lookups(&config.lookup));
        let DefaultsConfig { service, environment, region, by_source } = &config.defaults;
        let source_defaults = by_source.iter().map(|(source, values)| {
            let SourceDefaultsConfig { service, environment, region } = values;
            (source.clone(), compile_defaults([service, environment, region]))
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            version: (xxh3_64(identity.as_bytes()) >> 16) as i64,
            keeps_own_logs: config.keep_own_logs,
            filters,
            at_receive,
            at_transform,
            defaults: compile_defaults([service, environment, region]),
            source_defaults: source_defaults.collect(),
            users,
            lookups,
        })
    }

    /// Rules that change nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::compile(&RulesConfig::default(), &|_| Err("there are no files".to_owned())).unwrap_or_else(|errors| {
            unreachable!("empty rules have no mistakes, yet: {errors:?}");
        })
    }

    /// Version of the rules: a hash of their text and of their lookup tables.
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// The same rules under the version that an earlier build gave them: the hash covers settings that a build does not
    /// know yet.
    #[must_use]
    pub fn with_version(self, version: i64) -> Self {
        Self { version, ..self }
    }

    /// The body with the redactions that apply before anything is written; `None` when they match nothing.
    #[must_use]
    pub fn redact_at_receive(&self, format: Format, body: &[u8]) -> Option<Vec<u8>> {
        redact::body(&self.at_receive, format, body)
    }

    /// Redacts the record's texts and its attributes. What an earlier step made from a text is made anew.
    pub(crate) fn redact_record(&self, payload: &[u8], record: &mut Record) {
        if self.at_transform.is_empty() {
            return;
        }
        let redact = |record: &mut Record, slot: Text| {
            let found = record.text_bytes(payload, slot).and_then(|text| redact::text(&self.at_transform, text));
            if let Some(text) = &found {
                record.set_text_copy(slot, text);
            }
            found.is_some()
        };
        let is_path_changed = redact(record, Text::HttpPath);
        if is_path_changed && record.traits.is_route_derived {
            let route = record.text_bytes(payload, Text::HttpPath).and_then(route_template);
            record.clear_text(Text::HttpRoute);
            if let Some(route) = route {
                record.set_text_copy(Text::HttpRoute, &route);
            }
        }
        for slot in REDACTED {
            redact(record, slot);
        }
        let message_type = record.text_bytes(payload, Text::MessageType);
        if message_type == Some(&[AttributeType::Json.letter()]) {
            self.redact_json(payload, record, Text::Message);
        } else if redact(record, Text::Message) {
            // What was a number or a truth value is a text now.
            record.clear_text(Text::MessageType);
        }
        self.redact_json(payload, record, Text::Exemplars);
        record.rewrite_attributes(payload, |text, kind| match kind {
            AttributeType::Json => redact::body(&self.at_transform, Format::Json, text),
            _ => redact::text(&self.at_transform, text),
        });
    }

    fn redact_json(&self, payload: &[u8], record: &mut Record, slot: Text) {
        let json = record.text_bytes(payload, slot);
        if let Some(text) = json.and_then(|json| redact::body(&self.at_transform, Format::Json, json)) {
            record.set_text_copy(slot, &text);
        }
    }

    /// Whether a filter drops the record, or it is an own one.
    pub(crate) fn drops(&self, batch: &RawBatch<'_>, payload: &[u8], record: &Record) -> bool {
        if !self.keeps_own_logs && log_entry::is_own(payload, record) {
            return true;
        }
        let holds = |(field, test): &(FieldRef, Test)| test.holds(field, batch, payload, record);
        self.filters.iter().any(|filter| filter.conditions.iter().all(holds))
    }

    /// Names of the tables of users, in the order in which they are asked.
    pub fn user_tables(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(|users| users.name.as_str())
    }

    /// Adds defaults and what the tables know to a record of that batch. `counts` has an entry for each table of users.
    pub(crate) fn add_values(
        &self,
        batch: &RawBatch<'_>,
        payload: &[u8],
        record: &mut Record,
        counts: &mut [LookupCounts],
    ) {
        let of_source = self.source_defaults.get(batch.source).into_iter().flatten();
        for (slot, text) in of_source.chain(&self.defaults) {
            if is_missing(record, payload, *slot) {
                record.set_text_copy(*slot, text);
            }
        }
        self.add_user_facts(payload, record, counts);
        for lookup in &self.lookups {
            let key = lookup.field.text(batch, payload, record);
            let Some(row) = key.and_then(|key| lookup.rows.get(key.as_ref())) else {
                continue;
            };
            for (name, cell) in lookup.names.iter().zip(row) {
                let key = record.keep(name);
                let text = record.keep(cell);
                let kind = if value::is_null_word(cell) { AttributeType::Null } else { AttributeType::Text };
                record.add_attribute(payload, key, Value { text, kind });
            }
        }
    }
}

impl Rules {
    /// Fills segment and country where the record itself does not say them. Tables are asked in order until both are known.
    fn add_user_facts(&self, payload: &[u8], record: &mut Record, counts: &mut [LookupCounts]) {
        for (users, counts) in self.users.iter().zip(counts) {
            let lacks = |slot| is_missing(record, payload, slot);
            let (lacks_segment, lacks_country) = (lacks(Text::UserSegment), lacks(Text::Country));
            let Some(user) = record.text_bytes(payload, Text::UserId).filter(|_| lacks_segment || lacks_country) else {
                return;
            };
            let Some(facts) = users.table.get(user) else {
                counts.misses += 1;
                continue;
            };
            counts.matches += 1;
            for (slot, fact, is_lacking) in
                [(Text::UserSegment, &facts.segment, lacks_segment), (Text::Country, &facts.country, lacks_country)]
            {
                if let Some(fact) = fact.as_ref().filter(|_| is_lacking) {
                    record.set_text_copy(slot, fact.as_bytes());
                }
            }
        }
    }
}

/// Columns whose texts a redaction at `transform` applies to, besides message, path and exemplars. The other texts are
/// words of this program.
const REDACTED: [Text; 27] = [
    Text::HttpRoute,
    Text::Service,
    Text::ServiceVersion,
    Text::Environment,
    Text::Region,
    Text::Host,
    Text::Logger,
    Text::EventName,
    Text::TraceId,
    Text::SpanId,
    Text::SeverityText,
    Text::HttpMethod,
    Text::UserId,
    Text::SessionId,
    Text::UserSegment,
    Text::Country,
    Text::ClientAddress,
    Text::ClientAddressClass,
    Text::UserAgent,
    Text::UserAgentFamily,
    Text::Referrer,
    Text::InsertId,
    Text::Device,
    Text::MetricName,
    Text::MetricType,
    Text::Unit,
    Text::Description,
];

/// Why a rule cannot use a field, and what to do instead.
struct UnusableField {
    problem: String,
    hint: &'static str,
}

impl FieldRef {
    /// The column of that name, else the attribute. A column whose values rules do not see is refused, since a condition
    /// on it would never hold.
    fn new(name: &str) -> Result<Self, UnusableField> {
        let columns = [Table::Logs, Table::Metrics, Table::Activity].into_iter().flat_map(Table::columns);
        let Some(column) = columns.into_iter().find(|column| column.name == name) else {
            return Ok(Self::Attribute(name.as_bytes().to_vec()));
        };
        let hint = match column.source {
            Source::Text(Text::Signature) => "the signature is made after the rules: use the message itself",
            Source::Text(slot) => return Ok(Self::Text(slot, name.as_bytes().to_vec())),
            Source::Int32(slot) | Source::Int64(slot) => return Ok(Self::Int(slot)),
            Source::Float(slot) => return Ok(Self::Float(slot)),
            Source::BatchSource => return Ok(Self::BatchSource),
            Source::BatchFormat => return Ok(Self::BatchFormat),
            Source::BatchFile => return Ok(Self::BatchFile),
            Source::Time(_) | Source::ReceiveTime | Source::EventDate => {
                "rules see no times: limit ages with the settings of the source, old rows with retention"
            }
            Source::Attributes | Source::AttributeTypes | Source::Resource | Source::ResourceTypes => {
                "name the attribute itself, without the name of the map"
            }
            _ => "use a column of texts or numbers, or the name of an attribute",
        };
        Err(UnusableField { problem: format!("rules cannot use the column {name:?}"), hint })
    }

    fn text<'a>(&self, batch: &RawBatch<'a>, payload: &'a [u8], record: &'a Record) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(slot, name) => {
                record.text_bytes(payload, *slot).or_else(|| attribute(payload, record, name)).map(Cow::Borrowed)
            }
            Self::Int(slot) => record.int(*slot).map(|number| number.to_string().into_bytes().into()),
            Self::Float(slot) => record.float(*slot).map(|number| number.to_string().into_bytes().into()),
            Self::BatchSource => Some(batch.source.as_bytes().into()),
            Self::BatchFormat => Some(batch.format.name().as_bytes().into()),
            Self::BatchFile => batch.file.map(|file| file.as_bytes().into()),
            Self::Attribute(name) => attribute(payload, record, name).map(Cow::Borrowed),
        }
    }

    fn number(&self, batch: &RawBatch<'_>, payload: &[u8], record: &Record) -> Option<f64> {
        match self {
            Self::Int(slot) => record.int(*slot).map(|number| number as f64),
            Self::Float(slot) => record.float(*slot),
            _ => value::float(&self.text(batch, payload, record)?),
        }
    }
}

fn attribute<'a>(payload: &'a [u8], record: &'a Record, name: &[u8]) -> Option<&'a [u8]> {
    let entries = record.attributes.entries().iter().chain(record.resource.entries());
    entries
        .filter(|entry| entry.value.kind != AttributeType::Null)
        .find(|entry| record.bytes(payload, entry.key) == name)
        .map(|entry| record.bytes(payload, entry.value.text))
}

impl Test {
    fn holds(&self, field: &FieldRef, batch: &RawBatch<'_>, payload: &[u8], record: &Record) -> bool {
        let number = || field.number(batch, payload, record);
        match self {
            Self::AtLeast(bound) => number().is_some_and(|number| number >= *bound),
            Self::AtMost(bound) => number().is_some_and(|number| number <= *bound),
            Self::Exists(wanted) => field.text(batch, payload, record).is_some() == *wanted,
            _ => field.text(batch, payload, record).is_some_and(|text| self.holds_for(&text)),
        }
    }

    fn holds_for(&self, text: &[u8]) -> bool {
        match self {
            Self::OneOf(texts) => texts.iter().any(|wanted| wanted == text),
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Contains(part) => memchr::memmem::find(text, part).is_some(),
            Self::Matches(pattern) => pattern.is_match(text),
            Self::Exists(_) | Self::AtLeast(_) | Self::AtMost(_) => false,
        }
    }
}

/// `values` are those for service, environment and region.
fn compile_defaults(values: [&Option<String>; 3]) -> Defaults {
    let slots = [Text::Service, Text::Environment, Text::Region];
    slots.into_iter().zip(values).filter_map(|(slot, text)| Some((slot, text.clone()?.into_bytes()))).collect()
}

fn compile_filter(config: &FilterConfig, errors: &mut Vec<RulesError>) -> Option<Filter> {
    let place = format!("filter {:?}", config.name);
    if config.conditions.is_empty() {
        errors.push(RulesError {
            place,
            problem: "it has no condition and would drop every record".to_owned(),
            hint: "add a condition to `where`, or remove the filter".to_owned(),
        });
        return None;
    }
    let mut conditions = Vec::new();
    for condition in &config.conditions {
        let place = format!("{place}, field {:?}", condition.field);
        match (compile_field(&condition.field, &place, errors), compile_test(condition)) {
            (Some(field), Ok(test)) => conditions.push((field, test)),
            (None, Ok(_)) => {}
            (_, Err(problem)) => errors.push(RulesError {
                place,
                problem,
                hint: "give exactly one of equals, in, prefix, contains, matches, exists, at-least, at-most".to_owned(),
            }),
        }
    }
    Some(Filter { conditions })
}

fn compile_field(name: &str, place: &str, errors: &mut Vec<RulesError>) -> Option<FieldRef> {
    let refused = |UnusableField { problem, hint }| {
        errors.push(RulesError { place: place.to_owned(), problem, hint: hint.to_owned() });
    };
    FieldRef::new(name).map_err(refused).ok()
}

fn compile_test(config: &ConditionConfig) -> Result<Test, String> {
    if config.field.is_empty() {
        return Err("the condition names no field".to_owned());
    }
    let bytes = |text: &String| text.clone().into_bytes();
    let mut tests = Vec::new();
    tests.extend(config.equals.as_ref().map(|text| Test::OneOf(vec![bytes(text)])));
    tests.extend(config.one_of.as_ref().map(|texts| Test::OneOf(texts.iter().map(bytes).collect())));
    tests.extend(config.prefix.as_ref().map(|text| Test::Prefix(bytes(text))));
    tests.extend(config.contains.as_ref().map(|text| Test::Contains(bytes(text))));
    tests.extend(config.exists.map(Test::Exists));
    tests.extend(config.at_least.map(Test::AtLeast));
    tests.extend(config.at_most.map(Test::AtMost));
    if let Some(pattern) = &config.matches {
        tests.push(Test::Matches(compile_pattern(pattern)?));
    }
    match (tests.pop(), tests.is_empty()) {
        (Some(test), true) => Ok(test),
        (None, _) => Err("the condition has no test".to_owned()),
        (Some(_), false) => Err("the condition has more than one test".to_owned()),
    }
}

fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("pattern {pattern:?} is refused: {error}"))
}

fn compile_redaction(config: &RedactConfig, errors: &mut Vec<RulesError>) -> Option<Redaction> {
    let pattern = match config.pattern.as_str() {
        "email" => r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
        "card" => r"\b[0-9](?:[ -]?[0-9]){12,18}\b",
        "token" => {
            r"(?i)\b(?:bearer\s+[A-Za-z0-9._~+/-]{8,}=*|(?:sk|pk|ghp|xox[a-z])[-_][A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)"
        }
        custom => custom,
    };
    let replace = config.replace.clone().unwrap_or_else(|| format!("[{}]", config.name));
    if config.at == RedactAt::Receive && replace.contains(['"', '\\', '\n', '\r']) {
        errors.push(RulesError {
            place: format!("redact {:?}", config.name),
            problem: "the replacement has a quote, a backslash or a line break, which would break JSON payloads"
                .to_owned(),
            hint: "use a plain word in brackets".to_owned(),
        });
        return None;
    }
    match compile_pattern(pattern) {
        Ok(compiled) => {
            Some(Redaction { pattern: compiled, replace: replace.into_bytes(), is_card: config.pattern == "card" })
        }
        Err(problem) => {
            errors.push(RulesError {
                place: format!("redact {:?}", config.name),
                problem,
                hint: "use email, card, token, or a regular expression without look-around".to_owned(),
            });
            None
        }
    }
}

#[cfg(test)]
mod tests;
