//! `[[upstreams]]`: servers, how they are chosen, checked, spared and spoken to.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{ServerBandwidth, SocketOptions, UpstreamTls};
use crate::config::types::{Percent, Secret, ServerAddress, StatusSet};

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
    /// `None` for `kind = "off"`; default an HTTP check of /health, where only TCP listeners use the upstream a TCP check,
    /// and none where only UDP listeners do.
    pub health_check: Option<HealthCheck>,
    /// See the fields.
    pub timeouts: UpstreamTimeouts,
    /// What is spoken to the servers; default HTTP/1.1.
    pub protocol: Protocol,
    /// `None` (the default) speaks plain text.
    pub tls: Option<UpstreamTls>,
    /// The PROXY header that each connection to a server begins with; none by default.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Fields that every request is sent with, in place of the client's of these names; sorted by name. Values are valid
    /// field values; those out of the environment or a file are not shown.
    pub set_headers: Vec<(HeaderName, Secret)>,
    /// Connections to one server, over all workers; no limit by default.
    pub max_connections: Option<NonZeroU32>,
    /// Requests of one server at a time, over all workers; no limit by default.
    pub max_in_flight: Option<NonZeroU32>,
    /// Where requests wait that no server has room for.
    pub queue: Queue,
    /// A limit to each server's requests at a time that finds itself; `None` for `"off"`, which is the default where no
    /// route uses the upstream, but listeners do.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// How long a server's share grows after it was added or has recovered; default 30 s, zero is off.
    pub slow_start: Duration,
    /// Keeps a client on a server by a cookie; none by default, and never with `ConsistentHash`.
    pub sticky: Option<Sticky>,
    /// Takes servers out that fail requests; `None` for `"off"`.
    pub ejection: Option<Ejection>,
    /// Of each server, all its clients together; no limit by default.
    pub bandwidth: Option<ServerBandwidth>,
    /// Of connections to the servers.
    pub tcp: SocketOptions,
}

/// Where requests wait that no server has room for: one an upstream, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Requests that may wait; default 1024, 0 is none.
    pub size: u32,
    /// How long each waits; default 1 s.
    pub timeout: Duration,
}

/// Bounds of a server's limit of requests at a time that finds itself; `min <= initial <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// Default 8.
    pub min: NonZeroU32,
    /// Default 512, or the nearest that `min` and `max` allow.
    pub initial: NonZeroU32,
    /// Default 65,536.
    pub max: NonZeroU32,
}

/// Keeps a client on a server by a cookie.
#[derive(Debug, Clone)]
pub struct Sticky {
    /// The cookie's name, a token (RFC 6265, section 4.1.1); default `lb`.
    pub cookie: String,
    /// How long the cookie is good for, in whole seconds; default 1 h.
    pub ttl: Duration,
    /// Signs the cookie; at least 16 bytes.
    pub secret: Option<Secret>,
}

/// When servers that fail requests get none for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// Failures in a row; default 5.
    pub consecutive_failures: NonZeroU32,
    /// Share of failures within an `interval`; default 30 %, 100 % is off.
    pub error_ratio: Percent,
    /// Slower than this times the median of the others; above 1, default none, which is off.
    pub latency_factor: Option<f64>,
    /// How often `error_ratio` and `latency_factor` are looked at; default 1 s.
    pub interval: Duration,
    /// For how long the first time; longer each further time. Default 30 s, at most `max`.
    pub base: Duration,
    /// For how long at most; default 300 s.
    pub max: Duration,
    /// Of the servers, at a time; default 50 %.
    pub max_share: Percent,
    /// When less than this share of the servers is usable, all are used; default 50 %.
    pub panic: Percent,
}

/// What is spoken to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, otherwise by prior knowledge.
    Http2,
    /// HTTP/2 where the server chooses it by ALPN, otherwise HTTP/1.1; only with TLS.
    Auto,
}

/// Versions of the PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
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
    /// `grpc.health.v1.Health/Check` over HTTP/2, whatever the upstream's protocol is.
    Grpc {
        /// The service that is asked for; default empty, the server as a whole.
        service: String,
    },
    /// An answer to a query over UDP (RFC 1035).
    Dns {
        /// The name that is asked for, in lower case and without the last dot; default `.`, whose name servers are.
        name: String,
    },
    /// A datagram, and what comes of it.
    Udp {
        /// What is sent; default nothing, in an empty datagram.
        send: String,
        /// A part of the answer; `None` (the default) wants no answer, only that ICMP does not say that nobody listens.
        expect: Option<String>,
    },
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
