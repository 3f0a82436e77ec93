//! `[[upstreams]]`: servers, how they are chosen, checked and spoken to.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::UpstreamTls;
use crate::config::types::{Secret, ServerAddress, StatusSet};

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
    /// What is spoken to the servers; default HTTP/1.1.
    pub protocol: Protocol,
    /// `None` (the default) speaks plain text.
    pub tls: Option<UpstreamTls>,
    /// The PROXY header that each connection to a server begins with; none by default.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Fields that every request is sent with, in place of the client's of these names; sorted by name. Values are valid
    /// field values; those out of the environment or a file are not shown.
    pub set_headers: Vec<(HeaderName, Secret)>,
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
