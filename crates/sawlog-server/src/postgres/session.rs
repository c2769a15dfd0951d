//! What a Postgres client's session holds: settings, cursors, and how to cancel its running query.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::error::PgWireResult;
use pgwire::messages::response::TransactionStatus;
use sawlog_query::postgres::{SessionStatement, setting_default};
use tokio::sync::{Mutex, watch};

use super::error::error;
use super::rows::{Reader, rows};

/// Settings that a session keeps.
const SETTINGS_MAX: usize = 100;
/// Bytes of the value of a setting.
const SETTING_BYTES_MAX: usize = 1000;
/// Open cursors of a session. Each holds one of the turns of `query.concurrent-max` until its query ends.
const CURSORS_MAX: usize = 4;
/// Prepared statements and named portals of a session.
const NAMES_MAX: usize = 200;
/// Settings that say how answers are written. They are what they are; a client that asks for others is told so by SHOW.
const FIXED: [&str; 8] = [
    "timezone",
    "datestyle",
    "intervalstyle",
    "bytea_output",
    "server_encoding",
    "standard_conforming_strings",
    "transaction_read_only",
    "default_transaction_read_only",
];

/// A session. Its parts lock themselves, since `pgwire` hands out sessions as shared.
#[derive(Debug)]
pub(super) struct Session {
    settings: StdMutex<HashMap<String, String>>,
    cursors: StdMutex<HashMap<String, Arc<Mutex<Reader>>>>,
    names: StdMutex<HashSet<(u8, String)>>,
    canceled: watch::Sender<u64>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            settings: StdMutex::default(),
            cursors: StdMutex::default(),
            names: StdMutex::default(),
            canceled: watch::Sender::new(0),
        }
    }
}

fn locked<T>(mutex: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Stops what runs now.
    pub(super) fn cancel(&self) {
        self.canceled.send_modify(|count| *count += 1);
    }

    /// Returns when [`Self::cancel`] is called after this call.
    pub(super) fn canceled(&self) -> impl Future<Output = ()> + use<> {
        let mut canceled = self.canceled.subscribe();
        async move {
            if canceled.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes a prepared statement or portal; unnamed ones replace each other.
    pub(super) fn add_name(&self, kind: u8, name: Option<&str>) -> PgWireResult<()> {
        let Some(name) = name else { return Ok(()) };
        let mut names = locked(&self.names);
        names.insert((kind, name.to_owned()));
        if names.len() > NAMES_MAX {
            names.remove(&(kind, name.to_owned()));
            let problem = format!("the session has {NAMES_MAX} prepared statements and portals");
            return Err(error("53400", problem, "close or DEALLOCATE some, or prepare without a name"));
        }
        Ok(())
    }

    /// Forgets a prepared statement or portal.
    pub(super) fn remove_name(&self, kind: u8, name: &str) {
        locked(&self.names).remove(&(kind, name.to_owned()));
    }

    /// All names of a kind.
    pub(super) fn names(&self, kind: u8) -> Vec<String> {
        locked(&self.names).iter().filter(|(held, _)| *held == kind).map(|(_, name)| name.clone()).collect()
    }

    /// An open cursor.
    pub(super) fn cursor(&self, name: &str) -> PgWireResult<Arc<Mutex<Reader>>> {
        locked(&self.cursors).get(name).cloned().ok_or_else(|| {
            error("34000", format!("cursor \"{name}\" does not exist"), "DECLARE it in the same session first")
        })
    }

    /// Checks that a cursor can be opened under this name.
    pub(super) fn check_new_cursor(&self, name: &str) -> PgWireResult<()> {
        let cursors = locked(&self.cursors);
        if cursors.contains_key(name) {
            return Err(error("42P03", format!("cursor \"{name}\" already exists"), "CLOSE it first"));
        }
        if cursors.len() >= CURSORS_MAX {
            return Err(error("53400", format!("the session has {CURSORS_MAX} open cursors"), "CLOSE one first"));
        }
        Ok(())
    }

    pub(super) fn open_cursor(&self, name: String, reader: Arc<Mutex<Reader>>) {
        locked(&self.cursors).insert(name, reader);
    }

    /// Closes a cursor, if there is one of that name.
    pub(super) fn close_cursor(&self, name: &str) {
        locked(&self.cursors).remove(name);
    }

    /// Ends a transaction: its cursors end with it.
    pub(super) fn close_cursors(&self) {
        locked(&self.cursors).clear();
    }

    /// Value of a setting.
    pub(super) fn show(&self, name: &str) -> PgWireResult<String> {
        let name = name.to_lowercase();
        let set = locked(&self.settings).get(&name).cloned();
        set.or_else(|| setting_default(&name).map(str::to_owned)).ok_or_else(|| {
            let problem = format!("unrecognized configuration parameter \"{name}\"");
            error("42704", problem, "SHOW knows the settings that Postgres clients ask for; `SHOW TABLES` lists tables")
        })
    }

    fn set(&self, name: &str, value: &str) -> PgWireResult<()> {
        let name = name.to_lowercase();
        let is_utf8 = ["utf8", "utf-8", "unicode", "default"].contains(&value.to_lowercase().as_str());
        if name == "client_encoding" && !is_utf8 {
            return Err(error("22023", format!("the encoding {value:.50} is not known"), "use UTF8"));
        }
        if FIXED.contains(&name.as_str()) || name == "client_encoding" {
            return Ok(());
        }
        let mut settings = locked(&self.settings);
        if value.len() > SETTING_BYTES_MAX || (settings.len() >= SETTINGS_MAX && !settings.contains_key(&name)) {
            let problem = format!("a session keeps {SETTINGS_MAX} settings of {SETTING_BYTES_MAX} bytes");
            return Err(error("53400", problem, "RESET ALL, or set less"));
        }
        settings.insert(name, value.to_owned());
        Ok(())
    }

    fn reset(&self, name: Option<&str>) {
        match name {
            Some(name) => {
                locked(&self.settings).remove(&name.to_lowercase());
            }
            None => locked(&self.settings).clear(),
        }
    }

    /// Runs a statement that concerns the session alone. DECLARE and DEALLOCATE are for the caller, which has queries
    /// and prepared statements. `fields` are the columns of SHOW and FETCH.
    pub(super) fn run(
        &self,
        statement: &SessionStatement,
        fields: Arc<Vec<FieldInfo>>,
        status: TransactionStatus,
    ) -> PgWireResult<Response> {
        let done = |tag: &str| Ok(Response::Execution(Tag::new(tag)));
        match statement {
            SessionStatement::Begin => Ok(Response::TransactionStart(Tag::new("BEGIN"))),
            SessionStatement::Commit | SessionStatement::Rollback => {
                self.close_cursors();
                let is_commit = *statement == SessionStatement::Commit && status != TransactionStatus::Error;
                Ok(Response::TransactionEnd(Tag::new(if is_commit { "COMMIT" } else { "ROLLBACK" })))
            }
            SessionStatement::Acknowledge(tag) => done(tag),
            SessionStatement::Set { name, value } => self.set(name, value).and_then(|()| done("SET")),
            SessionStatement::Reset(name) => {
                self.reset(name.as_deref());
                done("RESET")
            }
            SessionStatement::Show(name) => text_row(&self.show(name)?, fields),
            SessionStatement::Fetch { name, row_count } => {
                let mut response =
                    QueryResponse::new(Arc::clone(&fields), rows(self.cursor(name)?, fields, *row_count));
                response.set_command_tag("FETCH");
                Ok(Response::Query(response))
            }
            SessionStatement::Close(Some(name)) => {
                self.cursor(name)?;
                self.close_cursor(name);
                done("CLOSE CURSOR")
            }
            SessionStatement::Close(None) => {
                self.close_cursors();
                done("CLOSE CURSOR ALL")
            }
            SessionStatement::DiscardAll => {
                self.close_cursors();
                self.reset(None);
                done("DISCARD ALL")
            }
            SessionStatement::Deallocate(_) | SessionStatement::Declare { .. } => done("DEALLOCATE"),
        }
    }
}

/// One row of one text.
fn text_row(text: &str, fields: Arc<Vec<FieldInfo>>) -> PgWireResult<Response> {
    let mut encoder = pgwire::api::results::DataRowEncoder::new(Arc::clone(&fields));
    encoder.encode_field(&Some(text))?;
    let row = encoder.take_row();
    let mut response = QueryResponse::new(fields, futures::stream::once(async move { Ok(row) }));
    response.set_command_tag("SHOW");
    Ok(Response::Query(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_shown_and_reset_but_not_those_that_are_fixed() {
        let session = Session::default();
        assert_eq!(session.show("TimeZone").expect("a setting"), "UTC");
        session.set("Application_Name", "psql").expect("set");
        session.set("TimeZone", "Europe/Berlin").expect("accepted");
        assert_eq!(session.show("application_name").expect("a setting"), "psql");
        assert_eq!(session.show("timezone").expect("a setting"), "UTC");
        session.reset(None);
        assert_eq!(session.show("application_name").expect("a setting"), "");
        assert!(session.show("nope").is_err());
        assert!(session.set("client_encoding", "LATIN1").is_err());
        assert!(session.set("a", &"x".repeat(2000)).is_err());
    }

    #[test]
    fn names_of_a_session_are_bounded() {
        let session = Session::default();
        for number in 0..NAMES_MAX {
            session.add_name(b'S', Some(&number.to_string())).expect("a name");
        }
        assert!(session.add_name(b'S', Some("more")).is_err());
        session.add_name(b'S', Some("7")).expect("a name that is there");
        session.add_name(b'S', None).expect("no name");
        session.remove_name(b'S', "7");
        session.add_name(b'P', Some("more")).expect("room");
    }

    #[tokio::test]
    async fn a_cancel_stops_what_runs_now_and_nothing_later() {
        let session = Session::default();
        let before = session.canceled();
        session.cancel();
        before.await;
        let after = tokio::time::timeout(std::time::Duration::from_millis(20), session.canceled()).await;
        assert!(after.is_err(), "a later query is not canceled");
    }
}
