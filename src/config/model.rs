//! The resolved configuration: what the rest of the program reads.
//!
//! Every value here has been checked: references are indices, durations and sizes are parsed, secrets are read. The
//! raw form that the user writes is `schema.rs`; `validate.rs` turns one into the other.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::types::{HostPattern, PathPattern, Secret, ServerAddress, StatusSet};

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker threads; `"auto"` has been resolved to the number of cores.
    pub workers: NonZeroUsize,
    /// How long in-flight requests may go on after SIGTERM (`drain_timeout`, default 30 s).
    pub drain_timeout: Duration,
    /// `None` when `admin.listen = "off"`.
    pub admin: Option<Admin>,
    /// Peers whose X-Forwarded-* and Forwarded headers are believed; empty by default.
    pub trusted_proxies: Vec<IpNet>,
    /// The Redis that limits with a Redis store use.
    pub redis: Option<Redis>,
    /// The limit for requests whose route has none of its own.
    pub rate_limit: Option<RateLimit>,
    /// `None` (the default) writes no access log.
    pub access_log: Option<AccessLog>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// At least one; with a single upstream and no `[[routes]]` the catch-all route has been made.
    pub routes: Vec<Route>,
    /// At least one unless every route redirects or responds.
    pub upstreams: Vec<Upstream>,
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

/// The Redis server of the limiter.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://[user:password@]host:port[/db]`.
    pub url: Secret,
    /// How long one check may take before `on_store_failure` decides; default 50 ms.
    pub timeout: Duration,
}

/// A request limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// How requests are counted; default fixed window.
    pub algorithm: Algorithm,
    /// Requests admitted each `window`.
    pub requests: NonZeroU32,
    /// The time that `requests` is given for; required with `requests`.
    pub window: Duration,
    /// Bucket size of the token bucket; equals `requests` by default and for the other algorithms.
    pub burst: NonZeroU32,
    /// Whose requests are counted together; default the client's address.
    pub key: LimitKey,
    /// Where the counts live; default memory.
    pub store: Store,
    /// What happens while Redis does not answer; default `Local`.
    pub on_store_failure: OnStoreFailure,
    /// Whether admitted answers carry the RateLimit headers too; denied ones always do.
    pub headers: LimitHeaders,
}

/// Limiter algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// One counter a window, aligned to the first request of the window.
    FixedWindow,
    /// Two windows, the older one weighted by its overlap.
    SlidingWindow,
    /// Refills evenly, holds up to `burst`.
    TokenBucket,
}

/// What a limit counts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// Client address: IPv4 whole, IPv6 by /64.
    ClientIp,
    /// A request header's value; requests without it share one count.
    Header(HeaderName),
    /// All requests of the route together.
    Route,
}

/// Where a limit keeps its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In this process, shared by its workers.
    Memory,
    /// In Redis, shared by all load balancers that use it.
    Redis,
}

/// What decides while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// The same limit, counted in this process.
    Local,
    /// Admit.
    Allow,
    /// Answer 429.
    Deny,
}

/// Which answers carry RateLimit headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitHeaders {
    /// Only 429 answers (default).
    Denied,
    /// Every answer of a limited route.
    Always,
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

/// A bound address, or several, and what is spoken there.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique; default `listener0`, `listener1`, ... by position.
    pub name: String,
    /// At least one; no address occurs in two listeners.
    pub addresses: Vec<SocketAddr>,
    /// Over all workers; default 100,000.
    pub max_connections: NonZeroUsize,
    /// See the fields.
    pub timeouts: ListenerTimeouts,
}

/// Client-side timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// From a request's first byte to the end of its headers; default 10 s.
    pub headers: Duration,
    /// Between requests; default 75 s.
    pub keep_alive: Duration,
    /// Without progress of a body or tunnel; default 60 s.
    pub idle: Duration,
}

/// Conditions and what happens to requests that meet them.
#[derive(Debug, Clone)]
pub struct Route {
    /// Unique; default `route0`, `route1`, ... by position.
    pub name: String,
    /// Indices into `Config::listeners`; empty never (default: all).
    pub listeners: Vec<usize>,
    /// Empty matches every host.
    pub hosts: Vec<HostPattern>,
    /// Empty matches every path.
    pub paths: Vec<PathPattern>,
    /// Empty matches every method.
    pub methods: Vec<Method>,
    /// All must be present with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What to do.
    pub action: Action,
    /// See the enum.
    pub rate_limit: RouteLimit,
    /// Request bodies larger than this, in bytes, are answered 413; no limit by default.
    pub max_body: Option<u64>,
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

/// How a route forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Index into `Config::upstreams`.
    pub upstream: usize,
    /// Removed from the front of the path, at a segment boundary.
    pub strip_prefix: Option<String>,
    /// `true` (default) sends the client's Host, `false` the server's address.
    pub preserve_host: bool,
    /// To the response's headers; default the upstream's `response` timeout.
    pub timeout: Option<Duration>,
    /// Further tries on another endpoint; default 2, 0 is none (`retry = { attempts = 2 }`).
    pub retries: u32,
}

/// A named group of servers and its policy.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Unique.
    pub name: String,
    /// Default round robin.
    pub strategy: StrategyKind,
    /// What `consistent_hash` hashes; default the client's address.
    pub hash: HashKey,
    /// May be empty: the admin API can add some. Addresses are unique within the upstream.
    pub servers: Vec<Server>,
    /// `None` for `kind = "off"`; default an HTTP check of /health.
    pub health_check: Option<HealthCheck>,
    /// See the fields.
    pub timeouts: UpstreamTimeouts,
}

/// Load-balancing strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyKind {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Weighted random.
    Random,
    /// Fewest requests in flight for its weight.
    LeastConnections,
    /// The less loaded of two drawn at random.
    PowerOfTwo,
    /// The lower latency-times-load of two drawn at random.
    PeakEwma,
    /// Maglev.
    ConsistentHash,
}

/// What a consistent hash is taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A request header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// The path, without query.
    Path,
}

/// One server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// IP or name, and port.
    pub address: ServerAddress,
    /// 0 to 256; default 1; 0 gets no new requests.
    pub weight: u32,
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What a probe does.
    pub kind: HealthCheckKind,
    /// Between probes, plus or minus 10 % jitter; default 5 s.
    pub interval: Duration,
    /// A whole probe; default 2 s.
    pub timeout: Duration,
    /// Consecutive failures that make a server unhealthy; default 3.
    pub fall: NonZeroU32,
    /// Consecutive successes that make it healthy again; default 2.
    pub rise: NonZeroU32,
    /// Probe this port in place of the server's.
    pub port: Option<u16>,
}

/// Kinds of probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheckKind {
    /// GET over HTTP/1.1.
    Http {
        /// Default `/health`.
        path: String,
        /// Default the server's address.
        host: Option<HeaderValue>,
        /// Statuses that count as healthy; default 2xx and 3xx.
        expect: StatusSet,
    },
    /// A TCP connection that is accepted.
    Tcp,
}

/// Server-side timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// TCP connect; default 3 s.
    pub connect: Duration,
    /// From the request's last byte to the response's headers; default 60 s.
    pub response: Duration,
    /// Without progress of a body or tunnel; default 60 s.
    pub idle: Duration,
    /// How long an unused pooled connection is kept; default 30 s.
    pub pool_idle: Duration,
}
