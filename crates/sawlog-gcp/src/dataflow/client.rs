//! The calls of Dataflow's API, v1b3, in JSON.
//!
//! For: calls that are repeated where that is safe, and a launch that is not made twice. Not for: when to launch, replace or
//! stop.

use std::cmp::Reverse;

use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials};
use http::header::CONTENT_TYPE;
use http::{Extensions, Method};
use serde_json::{Value, json};

use super::health::{Health, Message, messages};
use super::job::micros;
use super::{DataflowError, DataflowOptions, Job, Launch};
use crate::call::{CallFailed, Caller, Failed};

const HOST: &str = "https://dataflow.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Jobs and messages of a page.
const PAGE: &str = "100";
/// Most pages of a list that are read: a name has had this many jobs times [`PAGE`], or a job said so much.
const PAGES_MAX: usize = 50;

/// A client of the jobs of a region.
#[derive(Debug)]
pub struct Dataflow {
    http: reqwest::Client,
    /// `https://HOST/v1b3/projects/PROJECT/locations/REGION`
    base: String,
    /// None travel without TLS.
    credentials: Option<Credentials>,
    caller: Caller,
}

/// One request.
struct Ask<'a> {
    call: &'static str,
    method: Method,
    path: String,
    query: Vec<(&'static str, &'a str)>,
    body: Option<Value>,
}

impl<'a> Ask<'a> {
    fn get(call: &'static str, path: String, query: &[(&'static str, &'a str)]) -> Self {
        Self { call, method: Method::GET, path, query: query.to_vec(), body: None }
    }
}

impl Dataflow {
    /// A client with the credentials of `options.access`.
    ///
    /// # Errors
    /// When there are no credentials.
    pub fn new(options: DataflowOptions) -> Result<Self, DataflowError> {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(|error| DataflowError::Client(error.to_string()))?;
        let credentials = match options.access.credentials() {
            Some(_) => None,
            None => {
                let built = Builder::default().with_scopes([SCOPE]).build();
                Some(built.map_err(|error| DataflowError::Client(error.to_string()))?)
            }
        };
        let host = options.access.endpoint.as_deref().unwrap_or(HOST).trim_end_matches('/');
        let base = format!("{host}/v1b3/projects/{}/locations/{}", options.project, options.region);
        Ok(Self { http, base, credentials, caller: Caller::new("Dataflow", options.retry) })
    }

    /// Starts a job. Where `replaced` is the running job of that name, the new one takes its place and its state.
    ///
    /// A try whose answer is lost may have started it: before the next one the job is looked for.
    ///
    /// # Errors
    /// When the service refuses it or cannot be reached.
    pub async fn launch(&self, launch: &Launch, replaced: Option<&Job>) -> Result<Job, DataflowError> {
        const CALL: &str = "LaunchFlexTemplate";
        let ask = Ask {
            call: CALL,
            method: Method::POST,
            path: "/flexTemplates:launch".to_owned(),
            query: Vec::new(),
            body: Some(launch.body(replaced.is_some())),
        };
        let mut tries = self.caller.begin(CALL);
        loop {
            match tries.run(self.once(&ask)).await {
                Ok(answer) => return read(CALL, &answer["job"]),
                Err(failure) => tries.wait(failure).await?,
            }
            let begun = self.active(&launch.job_name).await?;
            if let Some(job) = begun.into_iter().find(|job| replaced.is_none_or(|old| old.id != job.id)) {
                return Ok(job);
            }
        }
    }

    /// The active jobs of a name, newest first: one, or two while one replaces the other.
    ///
    /// # Errors
    /// When the service refuses it or cannot be reached.
    pub async fn active(&self, name: &str) -> Result<Vec<Job>, DataflowError> {
        self.jobs(name, "ACTIVE").await
    }

    /// The newest job of a name, active or not.
    ///
    /// # Errors
    /// When the service refuses it or cannot be reached.
    pub async fn newest(&self, name: &str) -> Result<Option<Job>, DataflowError> {
        Ok(self.jobs(name, "ALL").await?.into_iter().next())
    }

    async fn jobs(&self, name: &str, filter: &str) -> Result<Vec<Job>, DataflowError> {
        const CALL: &str = "ListJobs";
        let query = [("filter", filter), ("name", name)];
        let listed = self.pages(CALL, "/jobs", &query, "jobs").await?;
        let jobs: Result<Vec<Job>, DataflowError> = listed.iter().map(|job| read(CALL, job)).collect();
        let mut jobs: Vec<Job> = jobs?.into_iter().filter(|job| job.name == name).collect();
        jobs.sort_by_key(|job| Reverse(micros(&job.created)));
        Ok(jobs)
    }

    /// A job with all that is known of it.
    ///
    /// # Errors
    /// When there is no such job, or the service cannot be asked.
    pub async fn job(&self, id: &str) -> Result<Job, DataflowError> {
        const CALL: &str = "GetJob";
        let answer = self.ask(&Ask::get(CALL, format!("/jobs/{id}"), &[("view", "JOB_VIEW_ALL")])).await?;
        read(CALL, &answer)
    }

    /// Lets a job take in nothing more and finish what it has.
    ///
    /// # Errors
    /// When its state does not allow it, or the service cannot be asked.
    pub async fn drain(&self, id: &str) -> Result<Job, DataflowError> {
        self.request(id, "JOB_STATE_DRAINED").await
    }

    /// Stops a job; what it has taken in and not written is dropped.
    ///
    /// # Errors
    /// When its state does not allow it, or the service cannot be asked.
    pub async fn cancel(&self, id: &str) -> Result<Job, DataflowError> {
        self.request(id, "JOB_STATE_CANCELLED").await
    }

    async fn request(&self, id: &str, state: &str) -> Result<Job, DataflowError> {
        const CALL: &str = "UpdateJob";
        let ask = Ask {
            call: CALL,
            method: Method::PUT,
            path: format!("/jobs/{id}"),
            query: Vec::new(),
            body: Some(json!({ "requestedState": state })),
        };
        let answer = self.ask(&ask).await?;
        read(CALL, &answer)
    }

    /// How a job fares.
    ///
    /// # Errors
    /// When there is no such job, or the service cannot be asked.
    pub async fn health(&self, id: &str) -> Result<Health, DataflowError> {
        let answer = self.ask(&Ask::get("GetJobMetrics", format!("/jobs/{id}/metrics"), &[])).await?;
        Ok(Health::read(&answer))
    }

    /// The latest errors that a job tells of, oldest first.
    ///
    /// # Errors
    /// When there is no such job, or the service cannot be asked.
    pub async fn errors(&self, id: &str, count_max: usize) -> Result<Vec<Message>, DataflowError> {
        let query = [("minimumImportance", "JOB_MESSAGE_ERROR")];
        let listed = self.pages("ListJobMessages", &format!("/jobs/{id}/messages"), &query, "jobMessages").await?;
        let mut found = messages(&listed);
        Ok(found.split_off(found.len().saturating_sub(count_max)))
    }

    /// The members of a list, of all its pages.
    async fn pages(
        &self,
        call: &'static str,
        path: &str,
        query: &[(&'static str, &str)],
        members: &str,
    ) -> Result<Vec<Value>, DataflowError> {
        let (mut found, mut token) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let mut ask = Ask::get(call, path.to_owned(), query);
            ask.query.push(("pageSize", PAGE));
            if !token.is_empty() {
                ask.query.push(("pageToken", &token));
            }
            let mut answer = self.ask(&ask).await?;
            if let Some(Value::Array(page)) = answer.get_mut(members).map(Value::take) {
                found.extend(page);
            }
            match answer["nextPageToken"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => break,
            }
        }
        Ok(found)
    }

    /// A call that may be repeated.
    async fn ask(&self, ask: &Ask<'_>) -> Result<Value, CallFailed> {
        let mut tries = self.caller.begin(ask.call);
        loop {
            match tries.run(self.once(ask)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Value, Failed> {
        let mut url = format!("{}{}", self.base, ask.path);
        if !ask.query.is_empty() {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&ask.query).finish();
            url = format!("{url}?{query}");
        }
        let mut request = self.http.request(ask.method.clone(), url);
        if let Some(credentials) = &self.credentials {
            let headers = credentials.headers(Extensions::new()).await;
            let headers = headers.map_err(|error| Failed::unauthenticated(error.to_string(), error.is_transient()))?;
            if let CacheableResource::New { data, .. } = headers {
                request = request.headers(data);
            }
        }
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| Failed::unreachable(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|error| Failed::unreachable(&error))?;
        if !status.is_success() {
            return Err(Failed::refused(status, &headers, &body));
        }
        serde_json::from_slice(&body).map_err(|_| Failed::refused(status, &headers, &body))
    }
}

fn read(call: &'static str, value: &Value) -> Result<Job, DataflowError> {
    Job::read(value).map_err(|problem| DataflowError::Answer { call, problem })
}
