//! Rules by version, so that a replay after a restart uses the rules that a batch was accepted under.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sawlog_core::rules::Rules;

/// Gives rules by their version. A version that was ever used for an accepted batch must stay readable until the log
/// has let go of that batch.
pub trait RulesArchive: Send + Sync {
    /// The rules of a version; `None` when they are not there any more.
    fn rules(&self, version: i64) -> Option<Arc<Rules>>;
}

/// Rules in memory.
#[derive(Debug, Default)]
pub struct MemoryRulesArchive {
    rules: Mutex<HashMap<i64, Arc<Rules>>>,
}

impl MemoryRulesArchive {
    /// Adds rules.
    pub fn insert(&self, rules: Arc<Rules>) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).insert(rules.version(), rules);
    }
}

impl RulesArchive for MemoryRulesArchive {
    fn rules(&self, version: i64) -> Option<Arc<Rules>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned()
    }
}
