//! Going back in a subscription, or forward.
//!
//! For: saying what a seek does, and doing it. Not for: recognizing what comes again, which dedup does by the message id.

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::client::SubscriptionAdmin;
use google_cloud_pubsub::model::seek_request::Target;
use google_cloud_wkt::Timestamp;
use sawlog_core::time::to_rfc3339;

use crate::access::Access;

/// Where a subscription goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTarget {
    /// To a time, UTC microseconds: what was published since comes, what was before counts as acknowledged.
    Time(i64),
    /// To a snapshot, `projects/PROJECT/snapshots/NAME`: what was not acknowledged then comes, and what was published later.
    Snapshot(String),
}

/// What is known of a seek before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekPlan {
    /// Topic of the subscription.
    pub topic: String,
    /// Whether the subscription keeps what was acknowledged.
    pub retains_acknowledged: bool,
    /// How long it keeps messages, seconds.
    pub retention_seconds: i64,
    /// Whether each message is confirmed once.
    pub is_exactly_once: bool,
    /// When the snapshot ends, RFC 3339; `None` for a time.
    pub snapshot_expires: Option<String>,
}

/// Why a seek is not done.
#[derive(Debug, thiserror::Error)]
pub enum SeekError {
    /// There is no client: the endpoint or the credentials cannot be used.
    #[error("Pub/Sub cannot be reached: {0}")]
    Client(String),
    /// There is no subscription or snapshot of the name.
    #[error("{name} does not exist; `gcloud pubsub` lists subscriptions and snapshots")]
    Missing {
        /// The name.
        name: String,
    },
    /// The snapshot is of another topic.
    #[error("{snapshot} is of {of}, but the subscription is of {topic}; use a snapshot of its topic")]
    OtherTopic {
        /// The snapshot.
        snapshot: String,
        /// Its topic.
        of: String,
        /// That of the subscription.
        topic: String,
    },
    /// The service refuses it.
    #[error("Pub/Sub refuses it: {0}; it takes roles/pubsub.editor, or pubsub.subscriptions.consume and .get")]
    Refused(String),
}

/// Seeks in one subscription.
pub struct Seeker {
    admin: SubscriptionAdmin,
    subscription: String,
}

impl Seeker {
    /// A seeker of a subscription, `projects/PROJECT/subscriptions/NAME`.
    ///
    /// # Errors
    /// When there is no client.
    pub async fn connect(subscription: &str, access: &Access) -> Result<Self, SeekError> {
        let mut builder = SubscriptionAdmin::builder();
        if let Some(endpoint) = &access.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(credentials) = access.credentials() {
            builder = builder.with_credentials(credentials);
        }
        let admin = builder.build().await.map_err(|error| SeekError::Client(error.to_string()))?;
        Ok(Self { admin, subscription: subscription.to_owned() })
    }

    /// What a seek would do. Nothing is changed.
    ///
    /// # Errors
    /// When the subscription or the snapshot cannot be read, or they are of different topics.
    pub async fn plan(&self, target: &SeekTarget) -> Result<SeekPlan, SeekError> {
        let found = self.admin.get_subscription().set_subscription(&self.subscription).send().await;
        let found = found.map_err(|error| refusal(&error, &self.subscription))?;
        let mut plan = SeekPlan {
            topic: found.topic,
            retains_acknowledged: found.retain_acked_messages,
            retention_seconds: found.message_retention_duration.map_or(0, |duration| duration.seconds()),
            is_exactly_once: found.enable_exactly_once_delivery,
            snapshot_expires: None,
        };
        if let SeekTarget::Snapshot(name) = target {
            let snapshot = self.admin.get_snapshot().set_snapshot(name).send().await;
            let snapshot = snapshot.map_err(|error| refusal(&error, name))?;
            if snapshot.topic != plan.topic {
                return Err(SeekError::OtherTopic { snapshot: name.clone(), of: snapshot.topic, topic: plan.topic });
            }
            let expires = snapshot.expire_time.map(|time| to_rfc3339(time.seconds() * 1_000_000));
            plan.snapshot_expires = Some(expires.unwrap_or_else(|| "an unknown time".to_owned()));
        }
        Ok(plan)
    }

    /// Seeks. What comes by it may take a minute to come.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn seek(&self, target: &SeekTarget) -> Result<(), SeekError> {
        let target = match target {
            SeekTarget::Time(micros) => {
                let nanos = micros.rem_euclid(1_000_000) as i32 * 1_000;
                let time = Timestamp::new(micros.div_euclid(1_000_000), nanos);
                Target::Time(Box::new(time.map_err(|error| SeekError::Refused(error.to_string()))?))
            }
            SeekTarget::Snapshot(name) => Target::Snapshot(name.clone()),
        };
        let sought = self.admin.seek().set_subscription(&self.subscription).set_target(target).send().await;
        sought.map(|_| ()).map_err(|error| refusal(&error, &self.subscription))
    }
}

fn refusal(error: &google_cloud_pubsub::Error, name: &str) -> SeekError {
    match error.status() {
        Some(status) if status.code == Code::NotFound => SeekError::Missing { name: name.to_owned() },
        Some(status) => SeekError::Refused(status.message.clone()),
        None => SeekError::Client(error.to_string()),
    }
}
