//! Rules by version, as files: so that a restart replays each batch under the rules it was accepted under.
//!
//! For: `rules/VERSION/rules.toml`, and the content of the files that rules name, each kept once under its hash
//! (`rules/files/HASH.csv.zst`, XXH3 of 128 bits) however many versions use it; `rules/VERSION/files.toml` says which file
//! had which content. Not for: reading the files as they are now, beyond [`read_text`]. Nothing is ever changed or removed
//! here.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use sawlog_core::csv;
use sawlog_core::rules::{Rules, RulesConfig};
use sawlog_seams::disk::write_atomic;
use sawlog_seams::{Disk, RealDisk};
use sawlog_stream::RulesArchive;
use xxhash_rust::xxh3::xxh3_128;

const RULES_FILE: &str = "rules.toml";
/// Which content each file had that the rules name.
const CONTENTS_FILE: &str = "files.toml";
/// Folder of the contents, beside those of the versions.
const CONTENTS_FOLDER: &str = "files";
const ZSTD_LEVEL: i32 = 3;
/// Versions that stay in memory. More than the one in force are needed only while the log is replayed.
const VERSIONS_MAX: usize = 4;

/// A folder with one folder for each version of the rules.
#[derive(Debug)]
pub(crate) struct RulesFiles {
    folder: PathBuf,
    /// The versions used last, the newest at the end.
    loaded: Mutex<Vec<Arc<Rules>>>,
}

impl RulesFiles {
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self { folder: folder.to_path_buf(), loaded: Mutex::default() })
    }

    /// Compiles rules and keeps them, with the contents they were compiled from, before they are used. The rules
    /// themselves are written last: their file says that the version is complete.
    pub(crate) fn save(&self, config: &RulesConfig) -> anyhow::Result<Arc<Rules>> {
        let texts: HashMap<&str, Result<String, String>> =
            named_files(config).map(|path| (path, read_text(Path::new(path)))).collect();
        let rules = self.compile(config, &|path| texts.get(path).cloned().unwrap_or_else(|| Err(unnamed())))?;
        let folder = self.folder.join(rules.version().to_string());
        if !folder.join(RULES_FILE).exists() {
            RealDisk.create_dir_all(&folder)?;
            let mut contents = BTreeMap::new();
            for (path, text) in &texts {
                if let Ok(text) = text {
                    contents.insert((*path).to_owned(), self.keep(text)?);
                }
            }
            write_atomic(&RealDisk, &folder.join(CONTENTS_FILE), toml::to_string(&contents)?.as_bytes())?;
            write_atomic(&RealDisk, &folder.join(RULES_FILE), toml::to_string(config)?.as_bytes())?;
        }
        let rules = Arc::new(rules);
        self.remember(&rules);
        Ok(rules)
    }

    /// Keeps a content unless it is there; returns its hash.
    fn keep(&self, text: &str) -> anyhow::Result<String> {
        let hash = hash_of(text);
        let path = self.content_path(&hash);
        if !path.exists() {
            RealDisk.create_dir_all(&self.folder.join(CONTENTS_FOLDER))?;
            write_atomic(&RealDisk, &path, &zstd::bulk::compress(text.as_bytes(), ZSTD_LEVEL)?)?;
        }
        Ok(hash)
    }

    fn content_path(&self, hash: &str) -> PathBuf {
        self.folder.join(CONTENTS_FOLDER).join(format!("{hash}.csv.zst"))
    }

    fn content(&self, hash: &str) -> anyhow::Result<String> {
        let path = self.content_path(hash);
        let read = || -> anyhow::Result<String> {
            let mut text = String::new();
            let bytes = zstd::Decoder::new(fs::File::open(&path)?)?;
            bytes.take(csv::FILE_BYTES_MAX as u64).read_to_string(&mut text)?;
            ensure!(hash_of(&text) == hash, "its content is not the one that was kept");
            Ok(text)
        };
        read().with_context(|| format!("{} cannot be read", path.display()))
    }

    fn remember(&self, rules: &Arc<Rules>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|other| other.version() != rules.version());
        if loaded.len() == VERSIONS_MAX {
            loaded.remove(0);
        }
        loaded.push(Arc::clone(rules));
    }

    fn loaded(&self) -> Vec<Arc<Rules>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn load(&self, version: i64) -> anyhow::Result<Arc<Rules>> {
        let folder = self.folder.join(version.to_string());
        let config: RulesConfig = toml::from_str(&fs::read_to_string(folder.join(RULES_FILE))?)?;
        let contents = folder.join(CONTENTS_FILE);
        let rules = if contents.exists() {
            let contents: BTreeMap<String, String> = toml::from_str(&fs::read_to_string(contents)?)?;
            self.compile(&config, &|path| {
                let hash = contents.get(path).ok_or_else(unnamed)?;
                self.content(hash).map_err(|error| format!("{error:#}"))
            })?
        } else {
            self.compile(&config, &|path| read_copy(&config, &folder, path))?
        };
        Ok(Arc::new(rules.with_version(version)))
    }

    fn compile(&self, config: &RulesConfig, file: &dyn Fn(&str) -> Result<String, String>) -> anyhow::Result<Rules> {
        Rules::compile_sharing(config, file, &self.loaded()).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("{error} (hint: {})", error.hint)).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })
    }
}

impl RulesArchive for RulesFiles {
    fn rules(&self, version: i64) -> Option<Arc<Rules>> {
        if let Some(rules) = self.loaded().into_iter().find(|rules| rules.version() == version) {
            return Some(rules);
        }
        match self.load(version) {
            Ok(rules) => {
                self.remember(&rules);
                Some(rules)
            }
            Err(error) => {
                tracing::error!(version, error = format!("{error:#}"), "rules cannot be read");
                None
            }
        }
    }
}

/// The files that rules name.
pub(crate) fn named_files(config: &RulesConfig) -> impl Iterator<Item = &str> {
    let users = config.users.iter().map(|users| users.file.as_str());
    users.chain(config.lookup.iter().map(|lookup| lookup.file.as_str()))
}

/// The text of a file that a user keeps beside the configuration, or what is wrong with it.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    csv::to_text(bytes).map_err(|error| format!("{error} ({})", error.hint))
}

/// The content of a lookup file as builds kept it that had a copy for each version.
fn read_copy(config: &RulesConfig, folder: &Path, path: &str) -> Result<String, String> {
    let index = config.lookup.iter().position(|lookup| lookup.file == path).ok_or_else(unnamed)?;
    fs::read_to_string(folder.join(format!("lookup-{index}.csv"))).map_err(|error| error.to_string())
}

fn unnamed() -> String {
    "the rules name no such file".to_owned()
}

fn hash_of(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, service: &str) -> RulesConfig {
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "[defaults]\nservice = {service:?}\n[[lookup]]\nname = \"plan\"\nfile = {:?}\nkey = \"id\"\nfield = \"user_id\"\n\
             [[users]]\nname = \"crm\"\nfile = {:?}\n",
            path("plans.csv"),
            path("users.csv"),
        );
        toml::from_str(&text).expect("rules")
    }

    fn with_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("plans.csv"), "id,plan\n1,free\n").expect("written");
        fs::write(folder.path().join("users.csv"), "user_id,country\n1,DE\n").expect("written");
        folder
    }

    #[test]
    fn rules_are_read_back_as_the_same_version_even_when_their_files_are_gone() {
        let folder = with_files();
        let archive = folder.path().join("rules");
        let version =
            RulesFiles::open(&archive).expect("opened").save(&config(folder.path(), "a")).expect("saved").version();
        fs::remove_file(folder.path().join("plans.csv")).expect("removed");
        fs::remove_file(folder.path().join("users.csv")).expect("removed");
        let reopened = RulesFiles::open(&archive).expect("opened");
        assert_eq!(reopened.rules(version).expect("kept").version(), version);
        assert!(reopened.rules(version + 1).is_none());
    }

    #[test]
    fn a_content_is_kept_once_for_all_versions_and_its_damage_is_noticed() {
        let folder = with_files();
        let archive = folder.path().join("rules");
        let files = RulesFiles::open(&archive).expect("opened");
        let kept = || fs::read_dir(archive.join(CONTENTS_FOLDER)).expect("a folder").count();
        let first = files.save(&config(folder.path(), "a")).expect("saved").version();
        files.save(&config(folder.path(), "b")).expect("saved");
        assert_eq!(kept(), 2, "two contents, two versions");
        fs::write(folder.path().join("users.csv"), "user_id,country\n1,FR\n").expect("written");
        files.save(&config(folder.path(), "b")).expect("saved");
        assert_eq!(kept(), 3);
        let other = zstd::bulk::compress(b"user_id,country\n1,XX\n", 1).expect("compressed");
        fs::write(files.content_path(&hash_of("user_id,country\n1,DE\n")), other).expect("written");
        assert!(RulesFiles::open(&archive).expect("opened").rules(first).is_none());
    }

    #[test]
    fn rules_of_builds_with_a_copy_for_each_version_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let version = folder.path().join("17");
        fs::create_dir_all(&version).expect("made");
        let rules = "filter = []\nredact = []\n[[lookup]]\nname = \"l\"\nfile = \"gone.csv\"\nkey = \"id\"\nfield = \"user_id\"\n";
        fs::write(version.join(RULES_FILE), rules).expect("written");
        fs::write(version.join("lookup-0.csv"), "id,plan\n1,free\n").expect("written");
        let rules = RulesFiles::open(folder.path()).expect("opened").rules(17).expect("read");
        assert_eq!(rules.version(), 17);
    }

    #[test]
    fn only_the_versions_used_last_stay_in_memory() {
        let folder = with_files();
        let files = RulesFiles::open(&folder.path().join("rules")).expect("opened");
        let saved = |number: usize| files.save(&config(folder.path(), &number.to_string())).expect("saved").version();
        let versions: Vec<i64> = (0..VERSIONS_MAX + 2).map(saved).collect();
        assert_eq!(files.loaded().len(), VERSIONS_MAX);
        for version in versions {
            assert_eq!(files.rules(version).expect("read back").version(), version);
            assert_eq!(files.loaded().len(), VERSIONS_MAX);
        }
    }
}
