//! The configuration as a resource: what is in force, how the last change of it went, and asking for the next.
//!
//! Whoever reloads it is above this module. [`Reloads`] is what the two share: requests one way, the status the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use super::AdminState;
use super::error::{ApiError, ErrorBody};
use crate::config::{ConfigError, Fault, Place};

/// What the admin API and whoever reloads the configuration share.
#[derive(Debug)]
pub struct Reloads {
    requests: mpsc::Sender<Request>,
    running: AtomicBool,
    status: ArcSwap<ConfigStatus>,
}

/// Somebody asks for a reload, and is to be told how it went.
pub type Request = oneshot::Sender<Result<Applied, Vec<Problem>>>;

/// What asked for a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The start of the process.
    Start,
    /// The file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// `POST /config/reload`.
    Api,
    /// `reload_guard`: the one before was better.
    Guard,
}

/// How a reload went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new configuration is in force.
    Success,
    /// It has errors, and nothing has changed.
    Failure,
    /// It was in force, and the one before has been put back.
    RolledBack,
}

/// An error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The file, or the environment's variable, if it is there.
    #[schema(example = "config.toml")]
    pub file: Option<String>,
    /// From 1.
    #[schema(example = 12)]
    pub line: Option<usize>,
    /// What is wrong there.
    #[schema(example = "upstreams[0].servers[1]")]
    pub key: Option<String>,
    /// What is wrong with it and what is expected.
    pub message: String,
}

/// A configuration that has been taken over.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Applied {
    /// Counts the configurations that were in force, from 1 at the start.
    pub generation: u64,
    /// What has changed, in plain words; empty if nothing has.
    pub changes: Vec<String>,
    /// Keys whose new values take effect after a restart.
    pub restart_needed: Vec<String>,
}

/// What is known of the configuration.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigStatus {
    /// Counts the configurations that were in force, from 1 at the start.
    pub generation: u64,
    /// Since when it is in force.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// What asked for it.
    pub by: Trigger,
    /// Keys whose values in the file take effect after a restart.
    pub restart_needed: Vec<String>,
    /// The last try to change it, if there was one.
    pub last: Option<Try>,
    /// How many tries succeeded.
    pub successes: u64,
    /// How many failed.
    pub failures: u64,
    /// How many configurations were given up again for the one before.
    pub rollbacks: u64,
}

/// A try to change the configuration.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Try {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What asked for it.
    pub by: Trigger,
    /// How it went.
    pub result: Outcome,
    /// What has changed, in plain words.
    pub changes: Vec<String>,
    /// What is wrong with the new configuration, or why it was given up.
    pub errors: Vec<Problem>,
}

impl From<&ConfigError> for Problem {
    fn from(error: &ConfigError) -> Self {
        let (file, line) = match &error.place {
            Place::File { name, line, .. } => (name.clone(), *line),
            Place::Variable(name) => (name.clone(), None),
        };
        Self {
            file: Some(file),
            line,
            key: error.key.clone(),
            message: error.message.clone(),
        }
    }
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Self {
        Self {
            key: Some(fault.key.to_string()),
            ..Self::from(fault.message.clone())
        }
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self {
            file: None,
            line: None,
            key: None,
            message,
        }
    }
}

impl ConfigStatus {
    fn at_start() -> Self {
        Self {
            generation: 1,
            since: Timestamp::now(),
            by: Trigger::Start,
            restart_needed: Vec::new(),
            last: None,
            successes: 0,
            failures: 0,
            rollbacks: 0,
        }
    }

    /// Whether the last try, or the start, put a new configuration into force.
    pub fn last_succeeded(&self) -> bool {
        let last = self.last.as_ref();
        last.is_none_or(|last| last.result == Outcome::Success)
    }
}

impl ConfigStatus {
    /// A new configuration is in force.
    pub fn in_force(&mut self, by: Trigger, since: Timestamp) {
        self.generation += 1;
        self.since = since;
        self.by = by;
    }
}

impl Try {
    /// A try that has ended just now.
    pub fn now(by: Trigger, result: Outcome, changes: &[String], errors: Vec<Problem>) -> Self {
        Self {
            time: Timestamp::now(),
            by,
            result,
            changes: changes.to_vec(),
            errors,
        }
    }
}

impl Reloads {
    /// What is shared, and where requests come out.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Request>) {
        let (requests, asked) = mpsc::channel(1);
        let reloads = Self {
            requests,
            running: AtomicBool::new(false),
            status: ArcSwap::from_pointee(ConfigStatus::at_start()),
        };
        (Arc::new(reloads), asked)
    }

    /// What is known of the configuration.
    pub fn status(&self) -> Arc<ConfigStatus> {
        self.status.load_full()
    }

    /// A reload begins or ends. While one runs, others that are asked for are refused.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Relaxed);
    }

    /// Something is known by now. To be called by the one who reloads.
    pub fn update(&self, edit: impl FnOnce(&mut ConfigStatus)) {
        let mut status = ConfigStatus::clone(&self.status.load());
        edit(&mut status);
        self.status.store(Arc::new(status));
    }

    /// Asks for a reload and waits for its end.
    async fn request(&self) -> Result<Result<Applied, Vec<Problem>>, ApiError> {
        if self.running.load(Relaxed) {
            return Err(ApiError::Reloading);
        }
        let (report, reported) = oneshot::channel();
        match self.requests.try_send(report) {
            Ok(()) => reported.await.map_err(|_| ApiError::Internal),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ApiError::Reloading),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ApiError::Internal),
        }
    }
}

/// The body of an answer to a configuration that is not valid.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InvalidConfig {
    /// A word for programs.
    #[schema(example = "invalid_config")]
    error: &'static str,
    /// A sentence for people.
    message: String,
    /// All errors.
    errors: Vec<Problem>,
}

/// Reads the configuration file again. The whole of it is checked; only if it has no error anything changes.
#[utoipa::path(
    post,
    path = "/config/reload",
    responses(
        (status = 200, description = "The configuration is in force, in all workers", body = Applied),
        (status = 409, description = "Another reload has not ended yet", body = ErrorBody),
        (status = 422, description = "It has errors; nothing has changed", body = InvalidConfig),
    ),
)]
pub(super) async fn reload(State(state): State<Arc<AdminState>>) -> Result<Response, ApiError> {
    Ok(match state.reloads.request().await? {
        Ok(applied) => Json(applied).into_response(),
        Err(errors) => {
            let body = InvalidConfig {
                error: "invalid_config",
                message: "nothing was changed: the configuration has errors".to_owned(),
                errors,
            };
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
    })
}

/// Which configuration is in force, and how the last try to change it went.
#[utoipa::path(
    get,
    path = "/config/status",
    responses((status = 200, description = "The configuration's status", body = ConfigStatus)),
)]
pub(super) async fn status(State(state): State<Arc<AdminState>>) -> Json<ConfigStatus> {
    Json(ConfigStatus::clone(&state.reloads.status()))
}
