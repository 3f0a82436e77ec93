//! What requests and answers about servers look like.

use jiff::{Timestamp, Unit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_path_to_error::Track;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::admin::error::ApiError;
use crate::admin::weight::Weight;
use crate::config::types::ServerAddress;
use crate::upstream::ejection::Ejected;
use crate::upstream::{Endpoint, Origin, Upstream};

/// A server as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ServerView {
    /// `upstream@address`.
    #[schema(example = "app@127.0.0.1:3000")]
    pub(super) id: String,
    /// The upstream's name.
    upstream: String,
    /// Host and port.
    #[schema(example = "127.0.0.1:3000")]
    address: String,
    /// Its share relative to others; 0 gets no new requests.
    weight: u32,
    /// Whether it finishes what it has and gets nothing new.
    draining: bool,
    /// What its health checks say: `up`, `down`, or `unknown` before the first and without any.
    #[schema(example = "up")]
    health: String,
    /// Whether it gets new requests.
    eligible: bool,
    /// The ejection that is in force, if one is.
    ejected: Option<EjectionView>,
    /// The share of its weight that it has, from 0 to 1; less than 1 while it starts slowly.
    #[schema(example = 1.0)]
    start_share: f64,
    /// Requests in flight.
    in_flight: u32,
    /// How many there may be; none without a limit.
    #[schema(example = 512)]
    in_flight_limit: Option<u32>,
    /// Who put it there: `config` or `admin`.
    #[schema(example = "config")]
    origin: &'static str,
    /// Requests that it was chosen for and that have ended.
    requests: u64,
    /// Its IP addresses; none while its name is not resolved.
    #[schema(example = json!(["127.0.0.1:3000"]))]
    resolved: Vec<String>,
}

/// An ejection of a server that fails requests.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct EjectionView {
    /// When it ends.
    #[schema(example = "2026-01-01T12:00:30Z")]
    until: String,
    /// `consecutive_failures`, `error_ratio` or `latency`.
    #[schema(example = "consecutive_failures")]
    reason: &'static str,
}

impl EjectionView {
    fn of(ejected: Ejected, now: Instant) -> Self {
        let left = ejected.until.saturating_duration_since(now);
        let until = Timestamp::now() + left;
        Self {
            until: until.round(Unit::Second).unwrap_or(until).to_string(),
            reason: ejected.reason.name(),
        }
    }
}

impl ServerView {
    pub(super) fn of(upstream: &Upstream, endpoint: &Endpoint) -> Self {
        let requests = endpoint.stats.sum(|stats| {
            stats
                .outcomes
                .by_class
                .iter()
                .map(|class| class.get())
                .sum()
        });
        let now = Instant::now();
        Self {
            id: endpoint.id().to_owned(),
            upstream: upstream.name().to_owned(),
            address: endpoint.address().to_string(),
            weight: endpoint.weight(),
            draining: endpoint.draining(),
            health: endpoint.health().to_string(),
            eligible: endpoint.eligible(),
            ejected: endpoint
                .standing()
                .ejected()
                .map(|it| EjectionView::of(it, now)),
            start_share: endpoint
                .standing()
                .start_share(now, upstream.settings().protection.slow_start)
                .map_or(1.0, |share| (share * 100.0).round() / 100.0),
            in_flight: endpoint.in_flight(),
            in_flight_limit: endpoint.load().limit(),
            origin: match endpoint.origin() {
                Origin::Config => "config",
                Origin::Admin => "admin",
            },
            requests,
            resolved: endpoint
                .resolved()
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

/// Servers, in the configuration's order; added ones last.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ServerList {
    pub(super) servers: Vec<ServerView>,
}

/// What a request's JSON body is read into.
pub(in crate::admin) trait FromBody: DeserializeOwned {
    /// What is shown to those who send no body.
    const EXAMPLE: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// It is empty, not JSON, or not what is expected.
    fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Err(ApiError::Invalid(format!(
                "the body is empty; expected a JSON object such as {}",
                Self::EXAMPLE
            )));
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let mut track = Track::new();
        let read = Self::deserialize(serde_path_to_error::Deserializer::new(
            &mut json, &mut track,
        ));
        let read = read.and_then(|message| json.end().map(|()| message));
        Ok(read.map_err(|error| serde_path_to_error::Error::new(track.path(), error))?)
    }
}

impl FromBody for NewServer {
    const EXAMPLE: &'static str = r#"{"address": "127.0.0.1:3002"}"#;
}

impl FromBody for ServerChange {
    const EXAMPLE: &'static str = r#"{"weight": 2}"#;
}

impl FromBody for ServerName {
    const EXAMPLE: &'static str = r#"{"address": "127.0.0.1:3002"}"#;
}

/// A server to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with \"address\", and perhaps \"upstream\" and \"weight\""
)]
pub(in crate::admin) struct NewServer {
    /// Host and port.
    #[schema(value_type = String, example = "127.0.0.1:3002")]
    pub(super) address: ServerAddress,
    /// May be left out when there is a single upstream.
    pub(super) upstream: Option<String>,
    /// Its share relative to others.
    #[serde(default)]
    #[schema(value_type = u32, minimum = 0, maximum = 256, default = 1)]
    pub(super) weight: Weight,
}

/// What to change; at least one of both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with \"weight\" or \"drain\" or both"
)]
pub(in crate::admin) struct ServerChange {
    /// Its share relative to others; 0 gets no new requests.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 256)]
    pub(super) weight: Option<Weight>,
    /// Whether it is to finish what it has and get nothing new.
    pub(super) drain: Option<bool>,
}

/// A server to remove: by `id`, or by `address`, with its `upstream` if several have one there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with \"id\", or with \"address\" and perhaps \"upstream\""
)]
pub(in crate::admin) struct ServerName {
    /// `upstream@address`.
    id: Option<String>,
    /// Host and port.
    #[schema(value_type = Option<String>)]
    address: Option<ServerAddress>,
    /// The upstream's name.
    upstream: Option<String>,
}

impl ServerName {
    pub(super) fn into_id(self) -> Result<String, ApiError> {
        match (self.id, self.address, self.upstream) {
            (Some(id), None, None) => Ok(id),
            (None, Some(address), Some(upstream)) => Ok(format!("{upstream}@{address}")),
            (None, Some(address), None) => Ok(address.to_string()),
            _ => Err(ApiError::Invalid(
                "expected either \"id\", or \"address\" with or without \"upstream\"".to_owned(),
            )),
        }
    }
}
