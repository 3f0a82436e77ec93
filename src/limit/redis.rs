//! The Redis store: one limit's counts, shared by all load balancers that use the same Redis.
//!
//! A check is one script run, atomic in Redis, on one key, so it works on any node of a cluster that owns the key. The
//! scripts keep time by the server's clock, which all load balancers see alike, and every key they write expires.
//! They need Redis 5 or newer. The connection, and what happens when Redis does not answer, is in `connection`.

mod connection;

use std::rc::Rc;
use std::time::Duration;

use redis::{FromRedisValue, Script};

use super::window::{SlidingState, SlidingWindow};
use super::{Algorithm, LimitKey, Quota, Verdict};

pub use self::connection::{DEFAULT_TIMEOUT, RedisConnection, StoreError};

const FIXED_WINDOW: &str = include_str!("redis/fixed_window.lua");
const SLIDING_WINDOW: &str = include_str!("redis/sliding_window.lua");
const TOKEN_BUCKET: &str = include_str!("redis/token_bucket.lua");

/// One limit's counts in Redis, over one worker's connection.
pub struct RedisStore {
    connection: Rc<RedisConnection>,
    quota: Quota,
    script: Script,
    prefix: String,
    suffix: String,
}

impl RedisStore {
    /// The counts of the limit `name`.
    ///
    /// A key reads `lb:{name:client}:fw60000`: the braces are the cluster's hash tag, the end names the algorithm and
    /// the window in milliseconds. A limit whose algorithm or window changes therefore begins afresh and never reads
    /// what it would misunderstand.
    pub fn new(connection: Rc<RedisConnection>, name: &str, quota: Quota) -> Self {
        let (code, algorithm) = match quota.algorithm {
            Algorithm::FixedWindow => (FIXED_WINDOW, "fw"),
            Algorithm::SlidingWindow => (SLIDING_WINDOW, "sw"),
            Algorithm::TokenBucket => (TOKEN_BUCKET, "tb"),
        };
        Self {
            connection,
            quota,
            script: Script::new(code),
            prefix: format!("lb:{{{name}:"),
            suffix: format!("}}:{algorithm}{}", quota.window_millis()),
        }
    }

    /// Counts one request of `key` if its quota allows.
    ///
    /// # Errors
    /// When Redis gives no verdict within the connection's timeout; at once when it is known to be down.
    pub async fn check(&self, key: &LimitKey) -> Result<Verdict, StoreError> {
        match self.quota.algorithm {
            Algorithm::FixedWindow => {
                let (admitted, remaining, left) = self.run(key).await?;
                Ok(verdict(admitted, remaining, Duration::from_millis(left)))
            }
            Algorithm::SlidingWindow => {
                let (admitted, previous, current, offset) = self.run(key).await?;
                let state = SlidingState {
                    index: 0,
                    previous,
                    current,
                };
                Ok(SlidingWindow::new(&self.quota).verdict(state, offset, admitted))
            }
            Algorithm::TokenBucket => {
                let (admitted, remaining, wait) = self.run(key).await?;
                Ok(verdict(admitted, remaining, Duration::from_micros(wait)))
            }
        }
    }

    /// Whether Redis is known to be down, so that a check fails without asking it.
    pub fn is_down(&self) -> bool {
        self.connection.is_down()
    }

    async fn run<T: FromRedisValue>(&self, key: &LimitKey) -> Result<T, StoreError> {
        let mut call = self.script.prepare_invoke();
        call.key(self.key(key))
            .arg(self.quota.requests.get())
            .arg(self.quota.window_millis())
            .arg(self.quota.burst.get());
        self.connection.call(&call).await
    }

    fn key(&self, key: &LimitKey) -> String {
        format!("{}{key}{}", self.prefix, self.suffix)
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
mod tests;
