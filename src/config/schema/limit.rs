//! Limits, and what load balancers share for them, as they are written: `rate_limit`, `connection_rate`, `bandwidth`,
//! `[redis]`, `[cluster]`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::forms::{List, Table};
use crate::config::model::{
    Algorithm, BandwidthKey, LimitHeaders, LimitKey, OnStoreFailure, Store,
};
use crate::config::names::{ListenAddress, Name};
use crate::config::types::{ByteRate, PositiveDuration, SecretSource, ServerAddress};

/// `[redis]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Redis {
    pub url: Option<SecretSource>,
    pub urls: Option<List<SecretSource>>,
    pub sentinel: Option<Table<Sentinel>>,
    pub timeout: Option<PositiveDuration>,
    pub ca: Option<PathBuf>,
    pub server_name: Option<String>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub insecure_skip_verify: Option<bool>,
}

/// `redis.sentinel`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sentinel {
    pub master: Option<String>,
    pub urls: Option<List<SecretSource>>,
    pub username: Option<String>,
    pub password: Option<SecretSource>,
    pub database: Option<u32>,
}

/// `[cluster]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    pub listen: Option<ListenAddress>,
    pub advertise: Option<ListenAddress>,
    pub seeds: Option<List<ServerAddress>>,
    pub key: Option<SecretSource>,
    pub name: Option<Name>,
    pub interval: Option<PositiveDuration>,
    pub dead_after: Option<PositiveDuration>,
    pub share_servers: Option<bool>,
}

/// `[rate_limit]`, and a route's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RateLimit {
    pub algorithm: Option<Algorithm>,
    pub requests: Option<NonZeroU32>,
    pub window: Option<PositiveDuration>,
    pub burst: Option<NonZeroU32>,
    pub key: Option<LimitKey>,
    pub store: Option<Store>,
    pub lease: Option<NonZeroU32>,
    pub on_store_failure: Option<OnStoreFailure>,
    pub headers: Option<LimitHeaders>,
}

/// `listeners.connection_rate`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ConnectionRate {
    pub algorithm: Option<Algorithm>,
    pub connections: Option<NonZeroU32>,
    pub window: Option<PositiveDuration>,
    pub burst: Option<NonZeroU32>,
    pub store: Option<Store>,
    pub lease: Option<NonZeroU32>,
    pub on_store_failure: Option<OnStoreFailure>,
}

/// `listeners.bandwidth` and `routes.bandwidth`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Bandwidth {
    pub upload: Option<ByteRate>,
    pub download: Option<ByteRate>,
    pub key: Option<BandwidthKey>,
}
