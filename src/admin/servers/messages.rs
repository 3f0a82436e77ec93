//! What requests and answers about servers look like.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::error::ApiError;
use crate::admin::weight::Weight;
use crate::config::types::ServerAddress;
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
    /// Requests in flight.
    in_flight: u32,
    /// Who put it there: `config` or `admin`.
    #[schema(example = "config")]
    origin: &'static str,
    /// Requests that it was chosen for and that have ended.
    requests: u64,
    /// Its IP addresses; none while its name is not resolved.
    #[schema(example = json!(["127.0.0.1:3000"]))]
    resolved: Vec<String>,
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
        Self {
            id: endpoint.id().to_owned(),
            upstream: upstream.name().to_owned(),
            address: endpoint.address().to_string(),
            weight: endpoint.weight(),
            draining: endpoint.draining(),
            health: endpoint.health().to_string(),
            eligible: endpoint.eligible(),
            in_flight: endpoint.in_flight(),
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
