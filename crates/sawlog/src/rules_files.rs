//! Rules by version, as files: so that a restart replays each batch under the rules it was accepted under.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use sawlog_core::rules::{Rules, RulesConfig};
use sawlog_seams::disk::write_atomic;
use sawlog_seams::{Disk, RealDisk};
use sawlog_stream::RulesArchive;

const RULES_FILE: &str = "rules.toml";

/// A folder with one folder for each version of the rules.
#[derive(Debug)]
pub(crate) struct RulesFiles {
    folder: PathBuf,
    loaded: Mutex<HashMap<i64, Arc<Rules>>>,
}

impl RulesFiles {
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self { folder: folder.to_path_buf(), loaded: Mutex::default() })
    }

    /// Compiles rules and keeps them, with the lookup texts they were compiled from, before they are used. The rules
    /// themselves are written last: their file says that the version is complete.
    pub(crate) fn save(&self, config: &RulesConfig) -> anyhow::Result<Arc<Rules>> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| error.to_string());
        let texts: HashMap<&str, Result<String, String>> =
            config.lookup.iter().map(|lookup| (lookup.file.as_str(), read(&lookup.file))).collect();
        let rules =
            compile(config, &|path| texts.get(path).cloned().unwrap_or_else(|| Err("no such lookup".to_owned())))?;
        let folder = self.folder.join(rules.version().to_string());
        if !folder.join(RULES_FILE).exists() {
            RealDisk.create_dir_all(&folder)?;
            for (index, lookup) in config.lookup.iter().enumerate() {
                if let Some(Ok(text)) = texts.get(lookup.file.as_str()) {
                    write_atomic(&RealDisk, &folder.join(lookup_file(index)), text.as_bytes())?;
                }
            }
            write_atomic(&RealDisk, &folder.join(RULES_FILE), toml::to_string(config)?.as_bytes())?;
        }
        let rules = Arc::new(rules);
        self.remember(Arc::clone(&rules));
        Ok(rules)
    }

    fn remember(&self, rules: Arc<Rules>) {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(rules.version(), rules);
    }

    fn load(&self, version: i64) -> anyhow::Result<Arc<Rules>> {
        let folder = self.folder.join(version.to_string());
        let config: RulesConfig = toml::from_str(&fs::read_to_string(folder.join(RULES_FILE))?)?;
        let place_of = |name: &str| config.lookup.iter().position(|lookup| lookup.file == name);
        let rules = compile(&config, &|name| {
            let index = place_of(name).ok_or("no such lookup")?;
            fs::read_to_string(folder.join(lookup_file(index))).map_err(|error| error.to_string())
        })?;
        Ok(Arc::new(rules.with_version(version)))
    }
}

impl RulesArchive for RulesFiles {
    fn rules(&self, version: i64) -> Option<Arc<Rules>> {
        if let Some(rules) = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(&version) {
            return Some(Arc::clone(rules));
        }
        match self.load(version) {
            Ok(rules) => {
                self.remember(Arc::clone(&rules));
                Some(rules)
            }
            Err(error) => {
                tracing::error!(version, error = format!("{error:#}"), "rules cannot be read");
                None
            }
        }
    }
}

fn compile(config: &RulesConfig, file: &dyn Fn(&str) -> Result<String, String>) -> anyhow::Result<Rules> {
    Rules::compile(config, file).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{error} (hint: {})", error.hint)).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

fn lookup_file(index: usize) -> String {
    format!("lookup-{index}.csv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_back_as_the_same_version_even_when_a_lookup_file_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let csv = folder.path().join("users.csv");
        fs::write(&csv, "id,segment\n1,gold\n").expect("written");
        let text = format!(
            "[[lookup]]\nname = \"user\"\nfile = {:?}\nkey = \"id\"\nfield = \"user_id\"\n\
             [[filter]]\nname = \"h\"\nwhere = [{{ field = \"http_path\", equals = \"/healthz\" }}]\n",
            csv.display().to_string()
        );
        let config: RulesConfig = toml::from_str(&text).expect("rules");
        let version = RulesFiles::open(folder.path()).expect("opened").save(&config).expect("saved").version();
        fs::remove_file(csv).expect("removed");
        let reopened = RulesFiles::open(folder.path()).expect("opened");
        assert_eq!(reopened.rules(version).expect("kept").version(), version);
        assert!(reopened.rules(version + 1).is_none());
    }
}
