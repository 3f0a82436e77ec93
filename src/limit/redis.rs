//! The Redis store: one limit's counts, shared by all load balancers that use the same Redis.
//!
//! A check is one script run, atomic in Redis, on one key, so it works on any node of a cluster that owns the key. The
//! scripts keep time by the server's clock, which all load balancers see alike, and every key they write expires.
//! They need Redis 5 or newer.
//!
//! ```text
//! RedisStore ── RedisConnection ─┬─ Link ── Server            one server, or a master: Sentinels name it
//!                                └─ Cluster ── slots, a Link to each primary
//! ```
//! What happens when a server does not answer is in `link`.

mod cluster;
mod connection;
mod link;
mod script;
mod sentinel;
mod server;
mod settings;
mod slots;
mod stats;

use std::rc::Rc;
use std::time::Duration;

use redis::FromRedisValue;

use self::script::Script;
use super::window::{SlidingState, SlidingWindow};
use super::{Algorithm, LimitKey, Quota, Verdict};

pub use self::connection::{RedisConnection, StoreError};
pub(super) use self::link::look_again;
pub use self::settings::{DEFAULT_TIMEOUT, RedisSettings, Role};
pub use self::stats::{Count, RedisStats};

const FIXED_WINDOW: &str = include_str!("redis/fixed_window.lua");
const SLIDING_WINDOW: &str = include_str!("redis/sliding_window.lua");
const TOKEN_BUCKET: &str = include_str!("redis/token_bucket.lua");
const RETURN_TO_FIXED_WINDOW: &str = include_str!("redis/return_to_fixed_window.lua");
const RETURN_TO_SLIDING_WINDOW: &str = include_str!("redis/return_to_sliding_window.lua");
const RETURN_TO_TOKEN_BUCKET: &str = include_str!("redis/return_to_token_bucket.lua");

/// What probes count on.
const PROBE_KEY: &str = "lb:{probe}";

/// One limit's counts in Redis, over one worker's connection.
pub struct RedisStore {
    connection: Rc<RedisConnection>,
    quota: Quota,
    take: Script,
    give_back: Script,
    prefix: String,
    suffix: String,
}

/// What Redis has admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// How many requests, all of which are counted.
    pub(super) admitted: u32,
    /// `Deny` if not all were admitted that were needed, or none.
    pub(super) verdict: Verdict,
    /// The window that they count in.
    pub(super) window: Window,
}

/// The window that requests count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Its number, for what is given back.
    pub(super) number: u64,
    /// The time until it ends; a bucket has no end.
    pub(super) left: Option<Duration>,
}

impl RedisStore {
    /// The counts of the limit `name`.
    ///
    /// A key reads `lb:{name:client}:fw60000`: the braces are the cluster's hash tag, the end names the algorithm and
    /// the window in milliseconds. A limit whose algorithm or window changes therefore begins afresh and never reads
    /// what it would misunderstand.
    pub fn new(connection: Rc<RedisConnection>, name: &str, quota: Quota) -> Self {
        let (take, give_back, algorithm) = match quota.algorithm {
            Algorithm::FixedWindow => (FIXED_WINDOW, RETURN_TO_FIXED_WINDOW, "fw"),
            Algorithm::SlidingWindow => (SLIDING_WINDOW, RETURN_TO_SLIDING_WINDOW, "sw"),
            Algorithm::TokenBucket => (TOKEN_BUCKET, RETURN_TO_TOKEN_BUCKET, "tb"),
        };
        Self {
            connection,
            quota,
            take: Script::new(take),
            give_back: Script::new(give_back),
            prefix: format!("lb:{{{name}:"),
            suffix: format!("}}:{algorithm}{}", quota.window_millis()),
        }
    }

    /// Counts one request of `key` if its quota allows.
    ///
    /// # Errors
    /// When Redis gives no verdict within the connection's timeout; at once when it is known to be down.
    pub async fn check(&self, key: &LimitKey) -> Result<Verdict, StoreError> {
        Ok(self.take(key, 1, 1).await?.verdict)
    }

    /// Counts `needed` requests of `key`, as far as its quota allows, and up to `wanted` in all ahead of time.
    ///
    /// # Errors
    /// Like those of [`check`](Self::check).
    pub(super) async fn take(
        &self,
        key: &LimitKey,
        needed: u32,
        wanted: u32,
    ) -> Result<Grant, StoreError> {
        let amounts = [needed, wanted.max(needed)].map(u64::from);
        let enough = |admitted: u32| admitted > 0 && admitted >= needed;
        Ok(match self.quota.algorithm {
            Algorithm::FixedWindow => {
                let (admitted, remaining, left) = self.run(key, amounts).await?;
                let left = Duration::from_millis(left);
                grant(
                    admitted,
                    verdict(enough(admitted), remaining, left),
                    0,
                    Some(left),
                )
            }
            Algorithm::SlidingWindow => {
                let (admitted, previous, current, offset, number) = self.run(key, amounts).await?;
                let offset: i64 = offset;
                let length = self.quota.window_millis();
                // The window that the counts are of begins at one length: a server's clock may be a little behind it.
                let now = length.saturating_add_signed(offset);
                let state = SlidingState {
                    index: 1,
                    previous,
                    current,
                };
                let window = SlidingWindow::new(&self.quota);
                let verdict = window.verdict(state, now, enough(admitted));
                let left = (2 * length).saturating_sub(now);
                grant(admitted, verdict, number, Some(Duration::from_millis(left)))
            }
            Algorithm::TokenBucket => {
                let (admitted, remaining, wait) = self.run(key, amounts).await?;
                let wait = Duration::from_micros(wait);
                grant(
                    admitted,
                    verdict(enough(admitted), remaining, wait),
                    0,
                    None,
                )
            }
        })
    }

    /// Gives back requests of `key` that were counted in `window` and not made. Says how many that has freed.
    ///
    /// # Errors
    /// Like those of [`check`](Self::check).
    pub(super) async fn give_back(
        &self,
        key: &LimitKey,
        unused: u32,
        window: Window,
    ) -> Result<u32, StoreError> {
        let left = window.left.unwrap_or_default().as_millis();
        let which = match self.quota.algorithm {
            Algorithm::FixedWindow => u64::try_from(left).unwrap_or(u64::MAX),
            Algorithm::SlidingWindow | Algorithm::TokenBucket => window.number,
        };
        let arguments = [u64::from(unused), which, self.quota.window_millis()];
        let key = self.key(key);
        let call = self.give_back.call(&key, &arguments);
        self.connection.call(&key, &call).await
    }

    /// Whether the Redis that counts `key` is known to be down, so that a check fails without asking it.
    pub fn is_down(&self, key: &LimitKey) -> bool {
        self.connection.is_down(|| self.key(key))
    }

    /// How long a check may take.
    pub(super) fn timeout(&self) -> Duration {
        self.connection.timeout()
    }

    async fn run<T: FromRedisValue>(
        &self,
        key: &LimitKey,
        [needed, wanted]: [u64; 2],
    ) -> Result<T, StoreError> {
        let arguments = [
            u64::from(self.quota.requests.get()),
            self.quota.window_millis(),
            u64::from(self.quota.burst.get()),
            needed,
            wanted,
        ];
        let key = self.key(key);
        let call = self.take.call(&key, &arguments);
        self.connection.call(&key, &call).await
    }

    fn key(&self, key: &LimitKey) -> String {
        format!("{}{key}{}", self.prefix, self.suffix)
    }
}

fn grant(admitted: u32, verdict: Verdict, number: u64, left: Option<Duration>) -> Grant {
    Grant {
        admitted,
        verdict,
        window: Window { number, left },
    }
}

fn verdict(admitted: bool, remaining: u32, wait: Duration) -> Verdict {
    if admitted {
        Verdict::Allow {
            remaining,
            reset: wait,
        }
    } else {
        Verdict::Deny { retry_after: wait }
    }
}

#[cfg(test)]
pub(super) mod tests;
