//! Limits of rates: whether one more request or connection of a key is within its quota, and how many bytes it may move.
//!
//! ```text
//! Limiter ──── MemoryStore ── FixedWindow, SlidingWindow, TokenBucket (pure arithmetic)
//!    ├──────── ClusterStore ── a part of the quota for each process of a fleet, which tell each other
//!    ├──────── RedisStore  ── the same three as scripts that run in Redis
//!    └──────── LeasedStore ── requests that a RedisStore has counted ahead of time
//! Bandwidth ── bytes a second, of a client or of all (the waiting is `net`'s)
//! ```
//!
//! This module owns the counting, the stores and the header values that tell a client about its quota. Which request
//! belongs to which limit and key, and what a denied one is answered, is decided by the caller.

pub mod bandwidth;
mod bucket;
pub mod cluster;
pub mod headers;
mod key;
pub mod leased;
mod limiter;
pub mod memory;
pub mod redis;
mod window;

use std::num::NonZeroU32;
use std::time::Duration;

pub use self::bandwidth::{Bandwidth, Rates};
pub use self::cluster::ClusterStore;
pub use self::headers::QuotaHeaders;
pub use self::key::LimitKey;
pub use self::leased::{LeaseStats, LeasedStore};
pub use self::limiter::{Decision, Limiter, LimiterShared, OnStoreFailure, Store};
pub use self::memory::MemoryStore;
pub use self::redis::{RedisConnection, RedisSettings, RedisStats, RedisStore, StoreError};

/// How requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// One counter; its window starts with a key's first request. Up to twice the quota can pass around its end.
    FixedWindow,
    /// Two adjacent windows of equal length, the older one weighted by how much of it is still in view.
    SlidingWindow,
    /// Refills evenly and holds up to `burst` requests (GCRA, ITU-T I.371).
    TokenBucket,
}

/// How many requests a key may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How requests are counted.
    pub algorithm: Algorithm,
    /// Requests admitted each `window`.
    pub requests: NonZeroU32,
    /// The time that `requests` is given for; counted in whole milliseconds, rounded up, at least one.
    pub window: Duration,
    /// How many requests a full token bucket admits at once; the other algorithms do not read it.
    pub burst: NonZeroU32,
}

impl Quota {
    /// The most requests that can be left to a key.
    pub fn capacity(&self) -> u32 {
        match self.algorithm {
            Algorithm::FixedWindow | Algorithm::SlidingWindow => self.requests.get(),
            Algorithm::TokenBucket => self.burst.get(),
        }
    }

    /// The window in milliseconds, at most 2^39 of them (17 years): whatever is computed from it fits its integer.
    fn window_millis(&self) -> u64 {
        const MAX: u64 = 1 << 39;
        let millis = self.window.as_nanos().div_ceil(1_000_000);
        u64::try_from(millis).unwrap_or(MAX).clamp(1, MAX)
    }
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request is within the quota and has been counted.
    Allow {
        /// How many more would be admitted right now.
        remaining: u32,
        /// Time until the whole quota is there again if nothing else is asked for.
        reset: Duration,
    },
    /// The request is over the quota; it has not been counted.
    Deny {
        /// When the next one is admitted, if nobody else of the same key comes first.
        retry_after: Duration,
    },
}

impl Verdict {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}
