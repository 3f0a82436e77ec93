//! What clients may: how many requests and connections, how many bytes, and who.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    /// Requests that a worker takes at a time out of a `RedisLeased` store, at most `requests`; default a hundredth of them,
    /// at least 1 and at most 1000.
    pub lease: NonZeroU32,
    /// What happens while the store does not answer; default `Local`.
    pub on_store_failure: OnStoreFailure,
    /// Whether admitted answers carry the RateLimit headers too; denied ones always do.
    pub headers: LimitHeaders,
}

/// A limit of new connections, by the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRate {
    /// How connections are counted; default token bucket.
    pub algorithm: Algorithm,
    /// Connections admitted each `window`.
    pub connections: NonZeroU32,
    /// The time that `connections` is given for.
    pub window: Duration,
    /// As that of `RateLimit`.
    pub burst: NonZeroU32,
    /// As that of `RateLimit`.
    pub store: Store,
    /// As that of `RateLimit`.
    pub lease: NonZeroU32,
    /// As that of `RateLimit`.
    pub on_store_failure: OnStoreFailure,
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
    /// In Redis, shared by all load balancers that use it and asked for each request.
    Redis,
    /// In Redis, from where workers take several at a time.
    RedisLeased,
    /// Agreed on by the load balancers of `[cluster]`.
    Cluster,
}

/// What decides while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// The same limit, counted in this process.
    Local,
    /// Admit.
    Allow,
    /// Answer 429, or close the connection.
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

/// Which clients may come, by their addresses. The most specific network decides, of two equal ones that of `deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Empty allows all that `deny` does not name.
    pub allow: Vec<CidrSource>,
    /// Empty denies nobody.
    pub deny: Vec<CidrSource>,
}

impl Access {
    /// Whether everybody may come.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// One network, or a file of networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CidrSource {
    /// Without bits behind its prefix.
    Net(IpNet),
    /// One network or address a line, `#` begins a comment; relative to the working directory.
    File(PathBuf),
}

/// A limit of bytes a second; at least one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// From clients, in bytes a second, above 0.
    pub upload: Option<u64>,
    /// To clients, in bytes a second, above 0.
    pub download: Option<u64>,
    /// Whose bytes are counted together; default a client's address.
    pub key: BandwidthKey,
}

/// Whose bytes are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BandwidthKey {
    /// Those of one client address: IPv4 whole, IPv6 by /64.
    ClientIp,
    /// All of the listener or route.
    Total,
}

/// A limit of bytes a second of one server, all its clients together; at least one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerBandwidth {
    /// From clients to the server, in bytes a second, above 0.
    pub upload: Option<u64>,
    /// From the server to clients, in bytes a second, above 0.
    pub download: Option<u64>,
}
