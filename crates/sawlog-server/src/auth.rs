//! API keys: who may send events, ask questions, and change things.
//!
//! For: keeping keys in one file of the data folder, and checking the `Authorization` header of a request against
//! them. Not for: encryption on the wire or user accounts. Invariants: the file holds hashes only, a secret is shown
//! once; a credential that is there must be valid, even where none is needed; a revoke acts within two seconds.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How often the key file is looked at, at most.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Keys in one store.
const KEYS_MAX: usize = 1000;
/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 100;
/// Bytes of a secret: 256 bits.
const SECRET_BYTES: usize = 32;
/// Bytes of a key's id: enough for ids not to repeat.
const ID_BYTES: usize = 6;
/// Version of the file's layout.
const FILE_VERSION: u32 = 1;
const TOKEN_PREFIX: &str = "sawlog_";

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sending events.
    Ingest,
    /// Reading: SQL, search, metrics.
    Query,
    /// Everything, changes of the configuration included.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Query, Self::Admin];

    /// The scope on the command line and in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("{text:?} is no scope; there are ingest, query and admin"))
    }
}

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Id, part of the token.
    pub id: String,
    /// Name that a person gave.
    pub name: String,
    /// SHA-256 of the secret, hexadecimal. The secret has 256 random bits, so it needs no slow hash.
    pub sha256: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made, UTC microseconds.
    pub created_micros: i64,
}

impl Key {
    /// Whether the key allows something; `admin` allows all.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|held| *held == scope || *held == Scope::Admin)
    }
}

/// A new key's secret text, `sawlog_<id>_<secret>`. It is kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The text to give to the client.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Id of the key.
    #[must_use]
    pub fn id(&self) -> &str {
        split_token(&self.0).map_or("", |(id, _)| id)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({}{}_…)", TOKEN_PREFIX, self.id())
    }
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: the server needs no key.
    Anyone,
    /// The holder of a key.
    Key {
        /// Id of the key.
        id: String,
        /// Its name.
        name: String,
    },
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no credential.
    #[error("an API key is needed")]
    Missing,
    /// The header is not `Bearer sawlog_<id>_<secret>`.
    #[error("the Authorization header does not hold an API key")]
    Malformed,
    /// There is no such key, or not any more.
    #[error("the API key is unknown or was revoked")]
    Unknown,
    /// The key does not allow this.
    #[error("the API key does not have the scope {needed}")]
    Scope {
        /// What it would need.
        needed: Scope,
    },
}

/// Why the key file cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// Reading or writing failed.
    #[error("key file {path} cannot be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The content makes no sense.
    #[error("key file {path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The new key's name or scopes are not usable.
    #[error("{0}")]
    Refused(&'static str),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// There is no key with that id.
    #[error("there is no key with the id {0:?}")]
    NoSuchKey(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u32,
    keys: Vec<Key>,
}

/// What tells one content of the file from another without reading it. A change replaces the file, so that the inode
/// changes even within one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

#[derive(Debug)]
struct Loaded {
    /// `None` while there is no file, that is before the first key.
    stamp: Option<Stamp>,
    keys: Arc<Vec<Key>>,
    looked_at: Instant,
}

/// The keys of a deployment, in one file.
#[derive(Debug)]
pub struct KeyStore {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

impl KeyStore {
    /// Opens the store; the file need not exist.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense.
    pub fn open(path: &Path) -> Result<Self, KeyStoreError> {
        let (stamp, keys) = read(path)?;
        let loaded = Loaded { stamp, keys: Arc::new(keys), looked_at: Instant::now() };
        Ok(Self { path: path.to_owned(), loaded: Mutex::new(loaded) })
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys_at(Instant::now()).1.is_empty()
    }

    /// The keys, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Key> {
        self.keys_at(Instant::now()).1.to_vec()
    }

    /// Makes a key. The token is not kept: show it now or never.
    ///
    /// # Errors
    /// When name or scopes are not usable, or the file cannot be written; then there is no new key.
    pub fn create(&self, name: &str, scopes: &[Scope]) -> Result<Token, KeyStoreError> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(KeyStoreError::Refused("the name of a key has from 1 to 100 characters and no line breaks"));
        }
        if scopes.is_empty() {
            return Err(KeyStoreError::Refused("a key needs a scope: ingest, query or admin"));
        }
        let mut held = Vec::new();
        for scope in scopes {
            if !held.contains(scope) {
                held.push(*scope);
            }
        }
        let secret = random_hex::<SECRET_BYTES>()?;
        self.change(|keys| {
            if keys.len() >= KEYS_MAX {
                return Err(KeyStoreError::Refused("there are 1000 keys already; revoke some first"));
            }
            let id = loop {
                let id = random_hex::<ID_BYTES>()?;
                if keys.iter().all(|key| key.id != id) {
                    break id;
                }
            };
            let token = Token(format!("{TOKEN_PREFIX}{id}_{secret}"));
            let sha256 = to_hex(&hash(&secret));
            keys.push(Key { id, name: name.to_owned(), sha256, scopes: held, created_micros: now_micros() });
            Ok(token)
        })
    }

    /// Revokes a key: from now on it is unknown. Running servers notice within two seconds.
    ///
    /// # Errors
    /// When there is no such key, or the file cannot be written.
    pub fn revoke(&self, id: &str) -> Result<Key, KeyStoreError> {
        self.change(|keys| {
            let index = keys.iter().position(|key| key.id == id);
            index.map(|index| keys.remove(index)).ok_or_else(|| KeyStoreError::NoSuchKey(id.to_owned()))
        })
    }

    /// Checks the value of an `Authorization` header for a scope.
    ///
    /// # Errors
    /// Unless the value holds a key that allows the scope.
    pub fn check(&self, authorization: Option<&str>, scope: Scope) -> Result<Principal, AuthError> {
        check_key(&self.keys_at(Instant::now()).1, authorization, scope)
    }

    /// Changes the file under a lock, so that two commands at the same time lose nothing of each other.
    fn change<T>(&self, edit: impl FnOnce(&mut Vec<Key>) -> Result<T, KeyStoreError>) -> Result<T, KeyStoreError> {
        let failed = |action| move |source| KeyStoreError::Io { path: self.path.clone(), action, source };
        let lock_path = self.path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path);
        let lock = lock.map_err(failed("locked"))?;
        lock.lock().map_err(failed("locked"))?;
        let (_, mut keys) = read(&self.path)?;
        let answer = edit(&mut keys)?;
        write(&self.path, keys).map_err(failed("written"))?;
        let (stamp, keys) = read(&self.path)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) =
            Loaded { stamp, keys: Arc::new(keys), looked_at: Instant::now() };
        Ok(answer)
    }

    /// Whether the file is there, and the keys. Looks at the file if the last look is a while ago; a file that cannot
    /// be read leaves the keys as they were, since ingest must not stop for it.
    fn keys_at(&self, now: Instant) -> (bool, Arc<Vec<Key>>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(loaded.looked_at) >= RELOAD_INTERVAL {
            loaded.looked_at = now;
            let changed = match stamp(&self.path) {
                Ok(current) if current == loaded.stamp => Ok(None),
                Ok(_) => read(&self.path).map(Some),
                Err(source) => Err(KeyStoreError::Io { path: self.path.clone(), action: "looked at", source }),
            };
            match changed {
                Ok(None) => {}
                Ok(Some((stamp, keys))) => (loaded.stamp, loaded.keys) = (stamp, Arc::new(keys)),
                Err(error) => tracing::warn!(%error, "the API keys stay as they were"),
            }
        }
        (loaded.stamp.is_some(), Arc::clone(&loaded.keys))
    }
}

/// Who may do what on this server.
#[derive(Debug)]
pub struct AuthPolicy {
    keys: KeyStore,
    is_open: bool,
}

impl AuthPolicy {
    /// A policy. `is_open`: without any key everything is allowed; only for servers that listen on loopback alone.
    ///
    /// The policy closes with the first key and stays closed when the last one is revoked (the key file stays): a
    /// revoke must never let anyone in.
    #[must_use]
    pub const fn new(keys: KeyStore, is_open: bool) -> Self {
        Self { keys, is_open }
    }

    /// The keys.
    #[must_use]
    pub const fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Whether requests without a key are allowed now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open && !self.keys.keys_at(Instant::now()).0
    }

    /// Checks the value of an `Authorization` header for a scope.
    ///
    /// # Errors
    /// If the value holds no valid key although one is needed, and always if it holds an invalid one.
    pub fn check(&self, authorization: Option<&str>, scope: Scope) -> Result<Principal, AuthError> {
        let (is_file_there, keys) = self.keys.keys_at(Instant::now());
        if authorization.is_none() && self.is_open && !is_file_there {
            return Ok(Principal::Anyone);
        }
        check_key(&keys, authorization, scope)
    }
}

fn check_key(keys: &[Key], authorization: Option<&str>, scope: Scope) -> Result<Principal, AuthError> {
    let value = authorization.ok_or(AuthError::Missing)?;
    let token = presented_token(value).ok_or(AuthError::Malformed)?;
    let (id, secret) = split_token(&token).ok_or(AuthError::Malformed)?;
    let presented = to_hex(&hash(secret));
    let key = keys.iter().find(|key| key.id == id && is_equal(&key.sha256, &presented)).ok_or(AuthError::Unknown)?;
    if !key.allows(scope) {
        return Err(AuthError::Scope { needed: scope });
    }
    Ok(Principal::Key { id: key.id.clone(), name: key.name.clone() })
}

/// The token in `Bearer TOKEN`; `Basic` with the token as the password, the user may be anything; or Elasticsearch's
/// `ApiKey` with the token plain or as the second part of its `id:key`.
fn presented_token(authorization: &str) -> Option<String> {
    let (scheme, credential) = authorization.trim().split_once(' ')?;
    let credential = credential.trim();
    let is_api_key = scheme.eq_ignore_ascii_case("apikey");
    if scheme.eq_ignore_ascii_case("bearer") || (is_api_key && credential.starts_with(TOKEN_PREFIX)) {
        return Some(credential.to_owned());
    }
    if !is_api_key && !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(credential).ok()?).ok()?;
    pair.split_once(':').map(|(_, token)| token.to_owned())
}

/// Id and secret of a token; both have exactly the length that [`KeyStore::create`] gives them.
fn split_token(token: &str) -> Option<(&str, &str)> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (id, secret) = token.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    let is_whole = id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES;
    (is_whole && is_hex(id) && is_hex(secret)).then_some((id, secret))
}

/// Compares in a time that depends on the lengths only.
fn is_equal(left: &str, right: &str) -> bool {
    let difference =
        left.bytes().zip(right.bytes()).fold(0, |sum, (left, right)| std::hint::black_box(sum | (left ^ right)));
    left.len() == right.len() && difference == 0
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random_hex<const BYTES: usize>() -> Result<String, KeyStoreError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| KeyStoreError::Random(error.to_string()))?;
    Ok(to_hex(&bytes))
}

fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}

fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(stamp_of(&found))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn stamp_of(metadata: &fs::Metadata) -> Stamp {
    Stamp { inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()), bytes: metadata.len() }
}

fn read(path: &Path) -> Result<(Option<Stamp>, Vec<Key>), KeyStoreError> {
    let failed = |source| KeyStoreError::Io { path: path.to_owned(), action: "read", source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((None, Vec::new())),
        Err(error) => return Err(failed(error)),
    };
    // Of the open file, so that stamp and content belong together.
    let stamp = stamp_of(&file.metadata().map_err(failed)?);
    let text = io::read_to_string(file).map_err(failed)?;
    let damaged = |problem| KeyStoreError::Damaged { path: path.to_owned(), problem };
    let content: KeyFile = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if content.version != FILE_VERSION {
        return Err(damaged(format!("version {} is not known, only {FILE_VERSION}", content.version)));
    }
    Ok((Some(stamp), content.keys))
}

/// Replaces the file in one step, readable by its owner only.
fn write(path: &Path, keys: Vec<Key>) -> io::Result<()> {
    let staged = path.with_extension("tmp");
    let bytes = serde_json::to_vec_pretty(&KeyFile { version: FILE_VERSION, keys })?;
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _gone => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, KeyStore) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = KeyStore::open(&folder.path().join("keys.json")).expect("an empty store");
        (folder, store)
    }

    fn bearer(token: &Token) -> String {
        format!("Bearer {}", token.reveal())
    }

    #[test]
    fn a_key_allows_its_scopes_and_admin_allows_all() {
        let (_folder, store) = store();
        let ingest = bearer(&store.create("shipper", &[Scope::Ingest]).unwrap());
        let admin = bearer(&store.create("root", &[Scope::Admin]).unwrap());
        assert!(
            matches!(store.check(Some(&ingest), Scope::Ingest), Ok(Principal::Key { name, .. }) if name == "shipper")
        );
        assert_eq!(store.check(Some(&ingest), Scope::Query), Err(AuthError::Scope { needed: Scope::Query }));
        for scope in Scope::ALL {
            assert!(store.check(Some(&admin), scope).is_ok());
        }
    }

    #[test]
    fn the_same_key_is_taken_in_the_schemes_of_elasticsearch_clients() {
        let (_folder, store) = store();
        let token = store.create("beats", &[Scope::Ingest]).unwrap();
        let secret = token.reveal();
        let encoded = |pair: String| BASE64_STANDARD.encode(pair);
        for header in [
            format!("ApiKey {secret}"),
            format!("apikey {}", encoded(format!("any:{secret}"))),
            format!("Basic {}", encoded(format!("elastic:{secret}"))),
        ] {
            assert!(store.check(Some(&header), Scope::Ingest).is_ok(), "{header}");
        }
        for header in [
            format!("ApiKey {}", encoded(secret.to_owned())),
            format!("Basic {}", encoded(format!("{secret}:"))),
            format!("Basic {secret}"),
            format!("Digest {secret}"),
        ] {
            assert_eq!(store.check(Some(&header), Scope::Ingest), Err(AuthError::Malformed), "{header}");
        }
    }

    #[test]
    fn empty_and_broken_credentials_are_never_valid() {
        let (_folder, store) = store();
        let token = store.create("a", &[Scope::Admin]).unwrap();
        assert_eq!(store.check(None, Scope::Query), Err(AuthError::Missing));
        let id = token.id();
        let headers = ["", " ", "Bearer", "Bearer ", "Bearer  \t", "Bearer sawlog__", "Basic YTpi"].map(str::to_owned);
        let more = [format!("Bearer sawlog_{id}_"), format!("Bearer {}0", token.reveal()), token.reveal().to_owned()];
        for header in headers.iter().chain(&more) {
            assert_eq!(store.check(Some(header), Scope::Query), Err(AuthError::Malformed), "{header:?}");
        }
        let wrong = format!("Bearer sawlog_{id}_{}", "0".repeat(2 * SECRET_BYTES));
        assert_eq!(store.check(Some(&wrong), Scope::Query), Err(AuthError::Unknown));
    }

    #[test]
    fn the_file_holds_no_secret_and_only_its_owner_may_read_it() {
        let (folder, store) = store();
        let token = store.create("a", &[Scope::Query]).unwrap();
        let path = folder.path().join("keys.json");
        let text = fs::read_to_string(&path).unwrap();
        let (id, secret) = split_token(token.reveal()).unwrap();
        assert!(text.contains(id) && !text.contains(secret));
        assert!(!format!("{token:?}").contains(secret));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_another_process_is_known_and_a_revoked_one_unknown_after_a_second() {
        let (folder, store) = store();
        let other = KeyStore::open(&folder.path().join("keys.json")).unwrap();
        let token = other.create("a", &[Scope::Query]).unwrap();
        let later = Instant::now() + RELOAD_INTERVAL;
        assert!(check_key(&store.keys_at(later).1, Some(&bearer(&token)), Scope::Query).is_ok());
        other.revoke(token.id()).unwrap();
        let keys = store.keys_at(later + RELOAD_INTERVAL).1;
        assert_eq!(check_key(&keys, Some(&bearer(&token)), Scope::Query), Err(AuthError::Unknown));
        assert!(matches!(other.revoke(token.id()), Err(KeyStoreError::NoSuchKey(_))));
    }

    #[test]
    fn a_server_on_loopback_is_open_until_the_first_key_and_never_again() {
        let (_folder, store) = store();
        let policy = AuthPolicy::new(store, true);
        assert_eq!(policy.check(None, Scope::Admin), Ok(Principal::Anyone));
        assert_eq!(policy.check(Some(" "), Scope::Query), Err(AuthError::Malformed));
        let token = policy.keys().create("a", &[Scope::Ingest]).unwrap();
        assert_eq!(policy.check(None, Scope::Ingest), Err(AuthError::Missing));
        policy.keys().revoke(token.id()).unwrap();
        assert!(!policy.is_open());
        assert_eq!(policy.check(None, Scope::Ingest), Err(AuthError::Missing));
    }

    #[test]
    fn a_server_that_others_reach_is_never_open() {
        let (_folder, store) = store();
        assert_eq!(AuthPolicy::new(store, false).check(None, Scope::Query), Err(AuthError::Missing));
    }

    #[test]
    fn keys_made_at_the_same_time_are_all_kept() {
        let (folder, store) = store();
        let path = folder.path().join("keys.json");
        std::thread::scope(|scope| {
            for index in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    KeyStore::open(path).unwrap().create(&format!("k{index}"), &[Scope::Query]).unwrap();
                });
            }
        });
        assert_eq!(store.keys_at(Instant::now() + RELOAD_INTERVAL).1.len(), 4);
    }

    #[test]
    fn a_damaged_file_is_an_error_at_the_start_and_keeps_the_keys_later() {
        let (folder, store) = store();
        let path = folder.path().join("keys.json");
        let token = store.create("a", &[Scope::Query]).unwrap();
        fs::write(&path, "{").unwrap();
        let keys = store.keys_at(Instant::now() + 2 * RELOAD_INTERVAL).1;
        assert!(check_key(&keys, Some(&bearer(&token)), Scope::Query).is_ok());
        assert!(matches!(KeyStore::open(&path), Err(KeyStoreError::Damaged { .. })));
    }

    #[test]
    fn names_and_scopes_are_checked() {
        let (_folder, store) = store();
        for (name, scopes) in [(" ", &[Scope::Query][..]), ("a\nb", &[Scope::Query]), ("a", &[])] {
            assert!(matches!(store.create(name, scopes), Err(KeyStoreError::Refused(_))), "{name:?}");
        }
        assert!(store.is_empty());
    }
}
