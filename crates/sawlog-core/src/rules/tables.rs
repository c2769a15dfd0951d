//! Reading the files that rules name.
//!
//! For: tables of users and of attributes, as part of the rules: their content is part of the rules' version. Not for:
//! what they do to records ([`super`]) or the syntax ([`crate::csv`]).

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::{Lookup, LookupConfig, Rules, RulesError, UsersConfig, UsersLookup, compile_field};
use crate::csv::{CsvError, Records};
use crate::users::UserTable;

/// Reads tables and notes their mistakes.
pub(super) struct Reader<'a> {
    pub(super) file: &'a dyn Fn(&str) -> Result<String, String>,
    /// Rules whose tables may be shared.
    pub(super) others: &'a [Arc<Rules>],
    /// What the version is a hash of.
    pub(super) identity: &'a mut String,
    pub(super) errors: &'a mut Vec<RulesError>,
}

impl Reader<'_> {
    pub(super) fn users(&mut self, configs: &[UsersConfig]) -> Vec<UsersLookup> {
        let mut tables = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let place = format!("users {:?}", config.name);
            if config.name.is_empty() || configs[..index].iter().any(|other| other.name == config.name) {
                let problem = "the name is empty or that of another table".to_owned();
                let hint = "give each table of users a name of its own: its matches are counted under it".to_owned();
                self.errors.push(RulesError { place: place.clone(), problem, hint });
            }
            let Some(text) = self.text(&place, &config.file) else { continue };
            let hash = xxh3_128(text.as_bytes());
            let known = self.others.iter().flat_map(|rules| &rules.users).map(|users| &users.table);
            let table = match known.into_iter().find(|table| table.content_hash() == hash) {
                Some(table) => Ok(Arc::clone(table)),
                None => UserTable::parse(&text).map(Arc::new),
            };
            match table {
                Ok(table) => tables.push(UsersLookup { name: config.name.clone(), table }),
                Err(error) => self.refuse(&place, &config.file, error),
            }
        }
        tables
    }

    pub(super) fn lookups(&mut self, configs: &[LookupConfig]) -> Vec<Lookup> {
        let mut lookups = Vec::new();
        for config in configs {
            let place = format!("lookup {:?}", config.name);
            let Some(text) = self.text(&place, &config.file) else { continue };
            match read_lookup(config, &text) {
                Ok((names, rows)) => {
                    let field = format!("{place}, field {:?}", config.field);
                    let field = compile_field(&config.field, &field, self.errors);
                    lookups.extend(field.map(|field| Lookup { field, names, rows }));
                }
                Err(error) => self.refuse(&place, &config.file, error),
            }
        }
        lookups
    }

    fn text(&mut self, place: &str, file: &str) -> Option<String> {
        match (self.file)(file) {
            Ok(text) => {
                self.identity.push_str(&format!("{:032x}", xxh3_128(text.as_bytes())));
                Some(text)
            }
            Err(problem) => {
                self.errors.push(RulesError {
                    place: place.to_owned(),
                    problem: format!("file {file:?} cannot be read: {problem}"),
                    hint: "give the path of a CSV file in UTF-8 that this process may read".to_owned(),
                });
                None
            }
        }
    }

    fn refuse(&mut self, place: &str, file: &str, error: CsvError) {
        let problem = error.to_string();
        let (place, hint) = (format!("{place}, file {file:?}"), error.hint);
        self.errors.push(RulesError { place, problem, hint });
    }
}

type LookupRows = HashMap<Vec<u8>, Vec<Vec<u8>>>;

/// The names of the attributes that a row adds, and the rows by key.
fn read_lookup(config: &LookupConfig, text: &str) -> Result<(Vec<Vec<u8>>, LookupRows), CsvError> {
    let mut records = Records::new(text)?;
    let key_index = records.required(&config.key)?;
    let names = records.header().iter().enumerate().filter(|(index, _)| *index != key_index);
    let names = names.map(|(_, name)| format!("{}.{name}", config.name).into_bytes()).collect();
    let mut rows = HashMap::new();
    while let Some((_, values)) = records.next()? {
        let mut row: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        let key = row.remove(key_index);
        rows.insert(key, row);
    }
    Ok((names, rows))
}
