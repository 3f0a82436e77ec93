//! The configuration as it is written: every key that a file may have, and no default.
//!
//! Each field's type refuses texts that cannot be a value of it; what concerns several keys is for `validate`.
//! Serialization writes the same form (`effective`).

mod expected;
mod limit;
mod listener;

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::choices::RetryOn;
use super::forms::{List, OrOff, Shorthand, Table, TableOrList, Workers};
use super::model::{
    AccessLogFormat, CidrSource, HashKey, HedgeAfter, Priority, Protocol, SplitKey, StrategyKind,
};
use super::names::{AdminListenOrOff, CookieName, MethodName, Name, PathOrOff};
use super::networks::Network;
use super::types::{
    AnyDuration, ByteRate, ByteSize, Factor, HostPattern, Invalid, PathPattern, Percent,
    PositiveDuration, SecretSource, ServerAddress, Text,
};
pub use expected::Expected;
pub use limit::{Bandwidth, Cluster, ConnectionRate, RateLimit, Redis, Sentinel};
pub use listener::{
    AcceptProxy, CertificateFiles, ClientAuth, Listener, ListenerTimeouts, ListenerTls,
    SocketOptions,
};

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Root {
    pub workers: Option<Workers>,
    pub drain_timeout: Option<AnyDuration>,
    pub watch_config: Option<bool>,
    pub reload_guard: Option<Table<ReloadGuard>>,
    pub upgrade_socket: Option<PathOrOff>,
    pub admin: Option<Table<Admin>>,
    pub trusted_proxies: Option<List<Network>>,
    pub redis: Option<Table<Redis>>,
    pub cluster: Option<Table<Cluster>>,
    pub rate_limit: Option<Table<RateLimit>>,
    pub access_log: Option<Table<AccessLog>>,
    pub listeners: Option<List<Table<Listener>>>,
    pub routes: Option<List<Table<Route>>>,
    pub upstreams: Option<List<Table<Upstream>>>,
}

/// `[reload_guard]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ReloadGuard {
    pub window: Option<PositiveDuration>,
    pub error_increase: Option<Percent>,
    pub latency_factor: Option<Factor>,
}

/// `[admin]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Admin {
    pub listen: Option<AdminListenOrOff>,
    pub token: Option<SecretSource>,
    pub state_file: Option<PathBuf>,
}

/// `[access_log]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AccessLog {
    pub format: Option<AccessLogFormat>,
    pub path: Option<PathBuf>,
}

/// `[[routes]]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Route {
    pub name: Option<Name>,
    pub listeners: Option<List<Name>>,
    pub hosts: Option<List<HostPattern>>,
    pub paths: Option<List<PathPattern>>,
    pub methods: Option<List<MethodName>>,
    pub headers: Option<BTreeMap<String, String>>,
    pub upstream: Option<Name>,
    pub split: Option<BTreeMap<String, u32>>,
    pub split_by: Option<SplitKey>,
    pub mirror: Option<Table<Mirror>>,
    pub redirect: Option<Table<Redirect>>,
    pub respond: Option<Table<Respond>>,
    pub strip_prefix: Option<String>,
    pub preserve_host: Option<bool>,
    pub max_body: Option<ByteSize>,
    pub timeout: Option<PositiveDuration>,
    pub rate_limit: Option<OrOff<RateLimit>>,
    pub retry: Option<Table<Retry>>,
    pub hedge: Option<Table<Hedge>>,
    pub priority: Option<Priority>,
    pub hsts: Option<Shorthand<Hsts>>,
    pub allow: Option<List<CidrSource>>,
    pub deny: Option<List<CidrSource>>,
    pub bandwidth: Option<TableOrList<Bandwidth>>,
}

/// `routes.hsts`: the maximal age or a table.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Hsts {
    pub max_age: Option<AnyDuration>,
    pub include_subdomains: Option<bool>,
    pub preload: Option<bool>,
}

/// `routes.redirect`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Redirect {
    pub to: Option<String>,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<NonZeroU16>,
    pub status: Option<u16>,
}

/// `routes.respond`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Respond {
    pub status: Option<u16>,
    pub body: Option<String>,
}

/// `routes.mirror`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Mirror {
    pub upstream: Option<Name>,
    pub share: Option<Percent>,
    pub max_body: Option<ByteSize>,
}

/// `routes.retry`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Retry {
    pub attempts: Option<u32>,
    pub on: Option<List<RetryOn>>,
    pub per_try_timeout: Option<PositiveDuration>,
    pub budget: Option<Percent>,
    pub backoff: Option<AnyDuration>,
    pub max_body: Option<ByteSize>,
}

/// `routes.hedge`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Hedge {
    pub after: Option<HedgeAfter>,
    pub budget: Option<Percent>,
}

/// `[[upstreams]]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Upstream {
    pub name: Option<Name>,
    pub strategy: Option<StrategyKind>,
    pub hash: Option<HashKey>,
    pub servers: Option<List<Shorthand<Server>>>,
    pub health_check: Option<Table<HealthCheck>>,
    pub timeouts: Option<Table<UpstreamTimeouts>>,
    pub protocol: Option<Protocol>,
    pub tls: Option<Table<UpstreamTls>>,
    pub proxy_protocol: Option<SendProxy>,
    pub set_headers: Option<BTreeMap<String, SecretSource>>,
    pub max_connections: Option<NonZeroU32>,
    pub max_in_flight: Option<NonZeroU32>,
    pub queue: Option<Table<Queue>>,
    pub adaptive_concurrency: Option<OrOff<AdaptiveConcurrency>>,
    pub slow_start: Option<AnyDuration>,
    pub sticky: Option<Table<Sticky>>,
    pub ejection: Option<OrOff<Ejection>>,
    pub bandwidth: Option<Table<ServerBandwidth>>,
    pub tcp: Option<Table<SocketOptions>>,
}

/// `upstreams.bandwidth`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ServerBandwidth {
    pub upload: Option<ByteRate>,
    pub download: Option<ByteRate>,
}

/// `upstreams.queue`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    pub size: Option<u32>,
    pub timeout: Option<PositiveDuration>,
}

/// `upstreams.adaptive_concurrency`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AdaptiveConcurrency {
    pub min: Option<NonZeroU32>,
    pub initial: Option<NonZeroU32>,
    pub max: Option<NonZeroU32>,
}

/// `upstreams.sticky`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sticky {
    pub cookie: Option<CookieName>,
    pub ttl: Option<PositiveDuration>,
    pub secret: Option<SecretSource>,
}

/// `upstreams.ejection`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ejection {
    pub consecutive_failures: Option<NonZeroU32>,
    pub error_ratio: Option<Percent>,
    pub latency_factor: Option<Factor>,
    pub interval: Option<PositiveDuration>,
    pub base: Option<PositiveDuration>,
    pub max: Option<PositiveDuration>,
    pub max_share: Option<Percent>,
    pub panic: Option<Percent>,
}

/// `upstreams.tls`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UpstreamTls {
    pub ca: Option<PathBuf>,
    pub server_name: Option<String>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub insecure_skip_verify: Option<bool>,
}

/// `upstreams.proxy_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendProxy {
    Off,
    V1,
    V2,
}

/// `upstreams.servers`: an address or a table.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Server {
    pub address: Option<ServerAddress>,
    pub weight: Option<u32>,
}

/// `upstreams.health_check`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HealthCheck {
    pub kind: Option<HealthCheckKind>,
    pub service: Option<String>,
    pub name: Option<String>,
    pub send: Option<String>,
    pub path: Option<String>,
    pub host: Option<String>,
    pub expect: Option<Expected>,
    pub port: Option<NonZeroU16>,
    pub interval: Option<PositiveDuration>,
    pub timeout: Option<PositiveDuration>,
    pub fall: Option<NonZeroU32>,
    pub rise: Option<NonZeroU32>,
}

/// `upstreams.health_check.kind`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckKind {
    Http,
    Tcp,
    Grpc,
    Dns,
    Udp,
    Off,
}

/// `upstreams.timeouts`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UpstreamTimeouts {
    pub connect: Option<PositiveDuration>,
    pub response: Option<PositiveDuration>,
    pub idle: Option<PositiveDuration>,
    pub pool_idle: Option<PositiveDuration>,
}

impl Text for Server {
    const EXPECTED: &'static str = ServerAddress::EXPECTED;
}

impl FromStr for Server {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self {
            address: Some(text.parse()?),
            weight: None,
        })
    }
}

impl Text for Hsts {
    const EXPECTED: &'static str = AnyDuration::EXPECTED;
}

impl FromStr for Hsts {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self {
            max_age: Some(text.parse()?),
            ..Self::default()
        })
    }
}
