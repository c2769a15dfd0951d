//! What a check found out, for people and for programs.

use serde::Serialize;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it has to be.
    Ok,
    /// The worker needs it and does not have it.
    Lacking,
    /// It works, and may cost data or money.
    Warning,
    /// The service did not say.
    Unknown,
    /// The worker does without, and so nobody knows.
    Unseen,
}

/// What gives a permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// The permission.
    pub permission: &'static str,
    /// The smallest predefined role that has it and all that the worker does there.
    pub role: &'static str,
    /// The command that grants the role to the worker's account.
    pub command: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The service, as people call it.
    pub service: &'static str,
    /// Name of the resource.
    pub resource: String,
    /// What of it: `exists`, a permission, a setting.
    pub subject: String,
    /// How it is.
    pub state: State,
    /// More about it; empty where the state says it all.
    pub detail: String,
    /// What to do; empty where nothing is.
    pub remedy: String,
    /// What gives the permission, where one is lacking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
}

/// Makes findings about one resource.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) service: &'static str,
    pub(super) resource: String,
}

impl About {
    pub(super) fn new(service: &'static str, resource: impl Into<String>) -> Self {
        Self { service, resource: resource.into() }
    }

    fn finding(&self, subject: &str, state: State, detail: String, remedy: String) -> Finding {
        let (service, resource, subject) = (self.service, self.resource.clone(), subject.to_owned());
        Finding { service, resource, subject, state, detail, remedy, grant: None }
    }

    pub(super) fn ok(&self, subject: &str, detail: impl Into<String>) -> Finding {
        self.finding(subject, State::Ok, detail.into(), String::new())
    }

    pub(super) fn lacking(&self, subject: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.finding(subject, State::Lacking, detail.into(), remedy.into())
    }

    pub(super) fn warning(&self, subject: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.finding(subject, State::Warning, detail.into(), remedy.into())
    }

    pub(super) fn unknown(&self, subject: &str, detail: impl Into<String>) -> Finding {
        self.finding(subject, State::Unknown, detail.into(), String::new())
    }

    pub(super) fn unseen(&self, subject: &str, detail: impl Into<String>) -> Finding {
        self.finding(subject, State::Unseen, detail.into(), String::new())
    }

    pub(super) fn denied(&self, grant: Grant, detail: impl Into<String>) -> Finding {
        let remedy = format!("{} has it: {}", grant.role, grant.command);
        Finding { grant: Some(grant.clone()), ..self.finding(grant.permission, State::Lacking, detail.into(), remedy) }
    }
}
