//! What the service holds of a subscription, as Cloud Monitoring says.
//!
//! For: the newest value of two metrics of Pub/Sub, asked for once a minute. Not for: what was taken and is not acknowledged
//! ([`super::backlog`]). Names of metrics and labels are those of Google's list of metrics; a request is
//! `projects.timeSeries.list` in JSON.

use std::time::Duration;

use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials};
use http::Extensions;
use sawlog_core::time::to_rfc3339;
use sawlog_seams::{Clock, SystemClock};
use sawlog_telemetry::Metrics;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::access::Access;

const HOST: &str = "https://monitoring.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/monitoring.read";
/// Values are sampled every minute, and may come some minutes late.
const INTERVAL: Duration = Duration::from_secs(60);
const LOOK_BACK_MICROS: i64 = 10 * 60 * 1_000_000;
const ANSWER_MAX: Duration = Duration::from_secs(20);
const MESSAGES: &str = "pubsub.googleapis.com/subscription/num_undelivered_messages";
const AGE: &str = "pubsub.googleapis.com/subscription/oldest_unacked_message_age";

/// Which subscription is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogOptions {
    /// Its name, `projects/PROJECT/subscriptions/NAME`.
    pub subscription: String,
    /// Name of its source, which the metrics are labelled with.
    pub source: String,
    /// Where Cloud Monitoring is.
    pub access: Access,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
enum BacklogError {
    #[error("no credentials for Google Cloud: {0}")]
    Credentials(String),
    #[error("Cloud Monitoring cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    #[error("Cloud Monitoring answers {status}: {problem}; the account needs roles/monitoring.viewer on the project")]
    Refused { status: u16, problem: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    time_series: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    /// Newest first.
    #[serde(default)]
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    /// JSON of protobuf has 64-bit numbers as texts.
    int64_value: Option<String>,
}

/// Brings the service's backlog into the metrics until a stop. What fails is logged and tried again.
pub async fn watch(options: BacklogOptions, metrics: &Metrics, mut stopped: watch::Receiver<bool>) {
    let mut client = None;
    loop {
        let asked = async {
            if client.is_none() {
                client = Some(Client::new(&options.access)?);
            }
            match &client {
                Some(client) => client.update(&options, metrics).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            outcome = asked => if let Err(error) = outcome {
                let subscription = &options.subscription;
                tracing::warn!(subscription, %error, "the backlog of the subscription is not known");
            }
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = sleep(INTERVAL) => {}
        }
    }
}

struct Client {
    http: reqwest::Client,
    url: String,
    /// None travel without TLS.
    credentials: Option<Credentials>,
}

impl Client {
    fn new(access: &Access) -> Result<Self, BacklogError> {
        let http = reqwest::Client::builder().timeout(ANSWER_MAX).build()?;
        let url = access.endpoint.clone().unwrap_or_else(|| HOST.to_owned());
        let credentials = match access.credentials() {
            Some(_) => None,
            None => {
                let built = Builder::default().with_scopes([SCOPE]).build();
                Some(built.map_err(|error| BacklogError::Credentials(error.to_string()))?)
            }
        };
        Ok(Self { http, url, credentials })
    }

    async fn update(&self, options: &BacklogOptions, metrics: &Metrics) -> Result<(), BacklogError> {
        let messages = self.newest(&options.subscription, MESSAGES).await?;
        let age = self.newest(&options.subscription, AGE).await?;
        if let Some(messages) = messages {
            metrics.set_pubsub_undelivered(&options.source, messages);
        }
        if let Some(age) = age {
            metrics.set_pubsub_undelivered_age(&options.source, age);
        }
        Ok(())
    }

    /// The newest value of a metric; `None` while there is none.
    async fn newest(&self, subscription: &str, metric: &str) -> Result<Option<u64>, BacklogError> {
        let mut parts = subscription.split('/').skip(1).step_by(2);
        let (project, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let filter = format!("metric.type = \"{metric}\" AND resource.labels.subscription_id = \"{name}\"");
        let now = SystemClock::new().now_micros();
        let query = [
            ("filter", filter),
            ("interval.startTime", to_rfc3339(now - LOOK_BACK_MICROS)),
            ("interval.endTime", to_rfc3339(now)),
        ];
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let mut request = self.http.get(format!("{}/v3/projects/{project}/timeSeries?{query}", self.url));
        if let Some(credentials) = &self.credentials {
            let headers = credentials.headers(Extensions::new()).await;
            let headers = headers.map_err(|error| BacklogError::Credentials(error.to_string()))?;
            if let CacheableResource::New { data, .. } = headers {
                request = request.headers(data);
            }
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let parsed = serde_json::from_slice::<Answer>(&body);
        match parsed {
            Ok(answer) if status.is_success() => {
                let points = answer.time_series.into_iter().flat_map(|series| series.points);
                Ok(points.filter_map(|point| point.value.int64_value?.parse().ok()).next())
            }
            _ => {
                let problem = String::from_utf8_lossy(&body).chars().take(200).collect();
                Err(BacklogError::Refused { status: status.as_u16(), problem })
            }
        }
    }
}
