//! Tables of users: segment and country by user id.
//!
//! For: millions of users in little memory. Not for: which columns of a record they fill ([`crate::rules`]). A user takes
//! the bytes of the id and 13.3 bytes more: where the id starts, which pair of segment and country it has (each pair is
//! kept once), and a third more than one slot of an index with open addressing.

use std::collections::HashMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::csv::{CsvError, Records};
use crate::value;

/// Longest user id, bytes.
const ID_BYTES_MAX: usize = 1_024;
/// Longest segment or country, bytes.
const VALUE_BYTES_MAX: usize = 256;

/// Users of one file.
#[derive(Debug)]
pub struct UserTable {
    content_hash: u128,
    /// All ids, one behind the other.
    ids: Vec<u8>,
    /// Where each id starts; at the end, where the last one ends.
    starts: Vec<u32>,
    /// The pair of each user.
    pair_indices: Vec<u32>,
    pairs: Vec<UserFacts>,
    /// Number of a user plus one, or 0, at the place of the id's hash or behind it.
    slots: Vec<u32>,
}

/// What a table says of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFacts {
    /// Segment.
    pub segment: Option<Box<str>>,
    /// Country.
    pub country: Option<Box<str>>,
}

impl UserTable {
    /// Reads a CSV text with the columns `user_id` and `user_segment`, `country` or both. Other columns are passed over; an
    /// empty value says nothing.
    ///
    /// # Errors
    /// The first mistake: a column that is missing, a wrong number of values, an id that is empty or there twice, a value
    /// that is too long.
    pub fn parse(text: &str) -> Result<Self, CsvError> {
        let mut records = Records::new(text)?;
        let id_column = records.required("user_id")?;
        let (segment_column, country_column) = (records.column("user_segment"), records.column("country"));
        if segment_column.or(country_column).is_none() {
            let problem = "there is neither a column user_segment nor a column country";
            return Err(CsvError::new(1, problem, format!("the header names {}", records.header().join(", "))));
        }
        let mut pairs = Pairs::default();
        let (mut ids, mut starts, mut pair_indices) = (Vec::new(), vec![0], Vec::new());
        while let Some((line, values)) = records.next()? {
            let id = values[id_column].as_ref();
            let cells =
                [segment_column, country_column].map(|column| column.map_or("", |column| values[column].as_ref()));
            check_lengths(line, id, cells)?;
            ids.extend_from_slice(id.as_bytes());
            starts.push(ids.len() as u32);
            pair_indices.push(pairs.index_of(cells));
        }
        ids.shrink_to_fit();
        starts.shrink_to_fit();
        pair_indices.shrink_to_fit();
        let content_hash = xxh3_128(text.as_bytes());
        let mut table = Self { content_hash, ids, starts, pair_indices, pairs: pairs.list, slots: Vec::new() };
        match table.fill_slots() {
            None => Ok(table),
            Some((first, second)) => Err(table.repeated(text, first, second)),
        }
    }

    /// What is known of a user; `None` for one that is not in the table.
    #[must_use]
    pub fn get(&self, user: &[u8]) -> Option<&UserFacts> {
        let index = self.find(user).ok()?;
        self.pairs.get(self.pair_indices[index as usize] as usize)
    }

    /// Number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pair_indices.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pair_indices.is_empty()
    }

    /// Memory of the table, bytes, without the few pairs.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.ids.capacity() + 4 * (self.starts.capacity() + self.pair_indices.capacity() + self.slots.capacity())
    }

    /// Hash of the text that it was read from.
    pub(crate) const fn content_hash(&self) -> u128 {
        self.content_hash
    }

    fn id(&self, index: u32) -> &[u8] {
        let index = index as usize;
        &self.ids[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// The number of a user, else the slot that is free for one.
    fn find(&self, user: &[u8]) -> Result<u32, usize> {
        if self.slots.is_empty() {
            return Err(0);
        }
        let mut slot = ((u128::from(xxh3_64(user)) * self.slots.len() as u128) >> 64) as usize;
        loop {
            match self.slots[slot].checked_sub(1) {
                None => return Err(slot),
                Some(index) if self.id(index) == user => return Ok(index),
                Some(_) => slot = if slot + 1 == self.slots.len() { 0 } else { slot + 1 },
            }
        }
    }

    /// Builds the index. Returns two users with one id, if there are any.
    fn fill_slots(&mut self) -> Option<(u32, u32)> {
        let users = self.len();
        self.slots = vec![0; users + users / 3 + usize::from(users > 0)];
        for index in 0..users as u32 {
            match self.find(self.id(index)) {
                Err(slot) => self.slots[slot] = index + 1,
                Ok(first) => return Some((first, index)),
            }
        }
        None
    }

    /// The mistake that one user is there twice. Lines are not kept: they are counted anew.
    fn repeated(&self, text: &str, first: u32, second: u32) -> CsvError {
        let mut lines = Vec::new();
        if let Ok(mut records) = Records::new(text) {
            while let Ok(Some((line, _))) = records.next() {
                lines.push(line);
            }
        }
        let line = |index: u32| lines.get(index as usize).copied().unwrap_or_default();
        let id = String::from_utf8_lossy(self.id(first));
        let problem = format!("user {id:?} is in line {} already", line(first));
        CsvError::new(line(second), problem, "leave one line for each user").in_column("user_id")
    }
}

fn check_lengths(line: usize, id: &str, cells: [&str; 2]) -> Result<(), CsvError> {
    if id.is_empty() {
        let hint = "give the id, or leave the line out";
        return Err(CsvError::new(line, "the user id is empty", hint).in_column("user_id"));
    }
    let named = [
        ("user_id", id, ID_BYTES_MAX),
        ("user_segment", cells[0], VALUE_BYTES_MAX),
        ("country", cells[1], VALUE_BYTES_MAX),
    ];
    match named.into_iter().find(|(_, value, max)| value.len() > *max) {
        None => Ok(()),
        Some((name, value, max)) => {
            let problem = format!("the value has {} B, more than {max}", value.len());
            Err(CsvError::new(line, problem, "shorten it; perhaps a quote is missing").in_column(name))
        }
    }
}

/// Pairs of segment and country, each once.
#[derive(Default)]
struct Pairs {
    list: Vec<UserFacts>,
    indices: HashMap<Box<[u8]>, u32>,
    /// Room for the pair at hand: both texts and what separates them.
    key: Vec<u8>,
}

impl Pairs {
    fn index_of(&mut self, cells: [&str; 2]) -> u32 {
        self.key.clear();
        self.key.extend_from_slice(&(cells[0].len() as u32).to_le_bytes());
        self.key.extend_from_slice(cells[0].as_bytes());
        self.key.extend_from_slice(cells[1].as_bytes());
        if let Some(index) = self.indices.get(self.key.as_slice()) {
            return *index;
        }
        let index = self.list.len() as u32;
        let [segment, country] = cells.map(|cell| (!value::is_null_word(cell.as_bytes())).then(|| cell.into()));
        self.list.push(UserFacts { segment, country });
        self.indices.insert(self.key.clone().into_boxed_slice(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(table: &UserTable, user: &str, expected: Option<(Option<&str>, Option<&str>)>) {
        let found = table.get(user.as_bytes());
        assert_eq!(found.map(|facts| (facts.segment.as_deref(), facts.country.as_deref())), expected, "{user}");
    }

    #[track_caller]
    fn check_error(text: &str, error: &str) {
        let found = UserTable::parse(text).expect_err("a mistake");
        assert_eq!(found.to_string(), error);
        assert!(!found.hint.is_empty());
    }

    #[test]
    fn columns_may_stand_in_any_order_and_say_nothing() {
        let table = UserTable::parse("country,plan,user_id,user_segment\nDE,x,u1,gold\n,y,u2,silver\nnull,z,u3,\n");
        let table = table.expect("a table");
        check(&table, "u1", Some((Some("gold"), Some("DE"))));
        check(&table, "u2", Some((Some("silver"), None)));
        check(&table, "u3", Some((None, None)));
        check(&table, "u4", None);
        check(&UserTable::parse("user_id,country\nu1,FR\n").expect("a table"), "u1", Some((None, Some("FR"))));
        check(&UserTable::parse("user_id,user_segment\n").expect("a table without users"), "u1", None);
    }

    #[test]
    fn mistakes_have_their_line_and_column() {
        check_error("id,user_segment\n", "line 1: there is no column \"user_id\"");
        check_error("user_id,plan\n", "line 1: there is neither a column user_segment nor a column country");
        check_error(
            "user_id,country\nu1,DE\n\nu2,\"a\nb\"\nu1,FR\n",
            "line 6, column user_id: user \"u1\" is in line 2 already",
        );
        check_error("user_id,country\nu1,DE\n,FR\n", "line 3, column user_id: the user id is empty");
        let long = "x".repeat(300);
        check_error(
            &format!("user_id,country\nu1,{long}\n"),
            "line 2, column country: the value has 300 B, more than 256",
        );
    }

    #[test]
    fn a_user_takes_few_bytes_beside_the_id() {
        let lines = (0..30_000)
            .map(|user| format!("{user:08},{},{}\n", ["new", "loyal"][user % 2], ["DE", "FR", "US"][user % 3]));
        let table = UserTable::parse(&format!("user_id,user_segment,country\n{}", lines.collect::<String>()));
        let table = table.expect("a table");
        assert_eq!((table.len(), table.pairs.len()), (30_000, 6));
        assert!(table.memory_bytes() <= 30_000 * (8 + 14), "{}", table.memory_bytes());
    }

    proptest! {
        #[test]
        fn a_table_knows_what_its_text_says(users in proptest::collection::btree_map("[a-c]{1,5}", ("[x-z]{0,2}", "[A-B]{0,2}"), 0..80), other in "[a-d]{1,5}") {
            let mut text = "user_id,user_segment,country\n".to_owned();
            text.extend(users.iter().map(|(user, (segment, country))| format!("{user},{segment},{country}\n")));
            let table = UserTable::parse(&text).expect("a table");
            prop_assert_eq!(table.len(), users.len());
            let known: &BTreeMap<String, (String, String)> = &users;
            for user in known.keys().chain([&other]) {
                let expected = known.get(user).map(|(segment, country)| UserFacts {
                    segment: (!segment.is_empty()).then(|| segment.as_str().into()),
                    country: (!country.is_empty()).then(|| country.as_str().into()),
                });
                prop_assert_eq!(table.get(user.as_bytes()), expected.as_ref());
            }
        }
    }
}
