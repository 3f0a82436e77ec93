//! The resolved configuration: what the rest of the program reads.
//!
//! Every value here has been checked: references are indices, durations and sizes are parsed, secrets are read. The
//! raw form that the user writes is `schema.rs`; `validate.rs` turns one into the other.

mod fleet;
mod forward;
mod limit;
mod listener;
mod tls;
mod upstream;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use fleet::{Cluster, Redis};
pub use forward::{Forward, Hedge, HedgeAfter, Mirror, Priority, Retry, SplitKey};
pub use limit::{
    Access, Algorithm, Bandwidth, BandwidthKey, CidrSource, ConnectionRate, LimitHeaders, LimitKey,
    OnStoreFailure, RateLimit, ServerBandwidth, Store,
};
pub use listener::{Listener, ListenerTimeouts, Mode, SocketOptions};
pub use tls::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion, UpstreamTls};
pub use upstream::{
    AdaptiveConcurrency, Ejection, HashKey, HealthCheck, HealthCheckKind, Protocol, ProxyVersion,
    Queue, Server, Sticky, StrategyKind, Upstream, UpstreamTimeouts,
};

use super::types::{HostPattern, PathPattern, Percent, Secret};

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker threads; `"auto"` has been resolved to the number of cores.
    pub workers: NonZeroUsize,
    /// How long in-flight requests may go on after SIGTERM (`drain_timeout`, default 30 s).
    pub drain_timeout: Duration,
    /// Whether the file is looked at every second, and read again when its content changed; default true.
    pub watch_config: bool,
    /// `None` (the default) watches no reload.
    pub reload_guard: Option<ReloadGuard>,
    /// Where the next program takes over from this one; default `loadbalancer.upgrade`, relative to the working
    /// directory. `None` when `upgrade_socket = "off"`.
    pub upgrade_socket: Option<PathBuf>,
    /// `None` when `admin.listen = "off"`.
    pub admin: Option<Admin>,
    /// Peers whose X-Forwarded-*, Forwarded and PROXY headers are believed; empty by default.
    pub trusted_proxies: Vec<IpNet>,
    /// The Redis that limits with a Redis store use.
    pub redis: Option<Redis>,
    /// The other load balancers of the fleet; `None` (the default) knows none.
    pub cluster: Option<Cluster>,
    /// The limit for requests whose route has none of its own.
    pub rate_limit: Option<RateLimit>,
    /// `None` (the default) writes no access log.
    pub access_log: Option<AccessLog>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// At least one where a listener speaks HTTP; with a single upstream and no `[[routes]]` the catch-all route has been
    /// made.
    pub routes: Vec<Route>,
    /// At least one unless every route redirects or responds.
    pub upstreams: Vec<Upstream>,
}

/// When a reload is taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReloadGuard {
    /// How long a reload is watched; default 30 s.
    pub window: Duration,
    /// How much larger, as a share of all answers, that of errors may become; default 5 %.
    pub error_increase: Percent,
    /// How many times as long answers may take; above 1, default 2.
    pub latency_factor: f64,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens; default 127.0.0.1:9901.
    pub listen: AdminListen,
    /// Bearer token; always present when `listen` is not loopback and not a Unix socket.
    pub token: Option<Secret>,
    /// Where changes made at run time are kept; default `loadbalancer.state`, relative to the working directory.
    pub state_file: PathBuf,
}

/// An admin listener's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket, from `unix:/path`.
    Unix(PathBuf),
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// A line's form.
    pub format: AccessLogFormat,
    /// `None` is standard output.
    pub path: Option<PathBuf>,
}

/// A log line's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// Conditions and what happens to requests that meet them.
#[derive(Debug, Clone)]
pub struct Route {
    /// Unique; default `route0`, `route1`, ... by position.
    pub name: String,
    /// Indices into `Config::listeners`, of those that speak HTTP; empty never (default: all such).
    pub listeners: Vec<usize>,
    /// Empty matches every host.
    pub hosts: Vec<HostPattern>,
    /// Empty matches every path.
    pub paths: Vec<PathPattern>,
    /// In upper case, for requests in any case; empty matches every method.
    pub methods: Vec<Method>,
    /// All must be present with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What to do.
    pub action: Action,
    /// See the enum.
    pub rate_limit: RouteLimit,
    /// Request bodies larger than this, in bytes, are answered 413; no limit by default.
    pub max_body: Option<u64>,
    /// Strict-Transport-Security of answers over TLS (RFC 6797); none by default.
    pub hsts: Option<Hsts>,
    /// Which clients it answers; default all. Others get 403.
    pub access: Access,
    /// What its requests' and answers' bodies may make; at most one of each key, none by default.
    pub bandwidth: Vec<Bandwidth>,
}

/// What Strict-Transport-Security says (RFC 6797, section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    /// In whole seconds; zero makes browsers forget.
    pub max_age: Duration,
    /// Default false.
    pub include_subdomains: bool,
    /// Default false.
    pub preload: bool,
}

/// A route's own word on rate limiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteLimit {
    /// Uses `Config::rate_limit`, shared with all routes that inherit it.
    Inherit,
    /// `rate_limit = "off"`.
    Off,
    /// Its own, in place of the global one.
    Own(RateLimit),
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends the request to an upstream.
    Forward(Forward),
    /// Answers with a redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308; default 308.
        status: StatusCode,
        /// Each part of the request's own URL may be replaced.
        to: RedirectTarget,
    },
    /// Answers by itself.
    Respond {
        /// Default 200.
        status: StatusCode,
        /// Sent as text/plain.
        body: String,
    },
}

/// Where a redirect leads. What is `None` stays as it was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectTarget {
    /// `to = "https://other.example/x"`: this exact location.
    Location(Uri),
    /// `scheme`, `host`, `port`: the request's URL with parts replaced, path and query kept.
    Parts {
        /// `http` or `https`.
        scheme: Option<String>,
        /// A host name without port.
        host: Option<String>,
        /// Omitted from the URL when it is the scheme's default.
        port: Option<u16>,
    },
}
