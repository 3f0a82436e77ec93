//! `Limiter`: one configured limit, its store, and what decides while the store does not answer.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::DEFAULT_MAX_KEYS;
use super::{
    ClusterStore, LeaseStats, LeasedStore, LimitKey, MemoryStore, Quota, QuotaHeaders,
    RedisConnection, RedisStore, Verdict,
};

/// What a client is told to wait when `OnStoreFailure::Deny` turns it away: Redis is probed more often than that.
const DENIED_WITHOUT_STORE: Duration = Duration::from_secs(1);

/// Where a limit keeps its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In this process, shared by its workers.
    Memory,
    /// In each process of a fleet, which tell each other.
    Cluster,
    /// In Redis, shared by all load balancers that use it.
    Redis {
        /// What decides while Redis does not.
        on_failure: OnStoreFailure,
    },
    /// In Redis, which counts requests ahead of time, so that it is not asked for each of them.
    RedisLeased {
        /// What decides while Redis does not.
        on_failure: OnStoreFailure,
        /// The most requests that a worker holds of a key.
        lease: u32,
    },
}

/// What decides while the store gives no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// The same quota, counted in this process.
    Local,
    /// Every request is admitted.
    Allow,
    /// Every request is denied.
    Deny,
}

/// A verdict and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub verdict: Verdict,
    /// The store gave no verdict: this one is the failure policy's.
    pub degraded: bool,
}

impl Decision {
    fn of_store(verdict: Verdict) -> Self {
        Self {
            verdict,
            degraded: false,
        }
    }
}

/// What all workers share of one limit.
pub struct LimiterShared {
    name: Box<str>,
    quota: Quota,
    headers: QuotaHeaders,
    counts: Counts,
}

enum Counts {
    Memory(MemoryStore),
    Cluster(Box<ClusterStore>),
    Redis(Fallback),
    Leased {
        fallback: Fallback,
        lease: u32,
        stats: Arc<LeaseStats>,
    },
}

enum Fallback {
    Local(MemoryStore),
    Allow,
    Deny,
}

impl LimiterShared {
    /// The limit `name`, whose memory store, if it needs one, takes `start` for the zero of its clock. One of a fleet
    /// counts for itself alone until it is told who is there.
    pub fn new(name: &str, quota: Quota, store: Store, start: Instant) -> Self {
        Self::among(1, name, quota, store, start)
    }

    /// The same of a process in a fleet of so many nodes, as far as is known.
    pub fn among(nodes: u32, name: &str, quota: Quota, store: Store, start: Instant) -> Self {
        let memory = || MemoryStore::new(&quota, DEFAULT_MAX_KEYS, start);
        let fallback = |on_failure| match on_failure {
            OnStoreFailure::Local => Fallback::Local(memory()),
            OnStoreFailure::Allow => Fallback::Allow,
            OnStoreFailure::Deny => Fallback::Deny,
        };
        let counts = match store {
            Store::Memory => Counts::Memory(memory()),
            Store::Cluster => {
                let store = ClusterStore::new(name, quota, DEFAULT_MAX_KEYS, start);
                Counts::Cluster(Box::new(store.among(nodes)))
            }
            Store::Redis { on_failure } => Counts::Redis(fallback(on_failure)),
            Store::RedisLeased { on_failure, lease } => Counts::Leased {
                fallback: fallback(on_failure),
                lease,
                stats: Arc::default(),
            },
        };
        Self {
            name: name.into(),
            quota,
            headers: QuotaHeaders::new(name, &quota),
            counts,
        }
    }

    /// The limit's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the limit gives.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Where it counts.
    pub fn store(&self) -> Store {
        match &self.counts {
            Counts::Memory(_) => Store::Memory,
            Counts::Cluster(_) => Store::Cluster,
            Counts::Redis(fallback) => Store::Redis {
                on_failure: fallback.policy(),
            },
            Counts::Leased {
                fallback, lease, ..
            } => Store::RedisLeased {
                on_failure: fallback.policy(),
                lease: *lease,
            },
        }
    }

    /// The header fields that tell a client about its quota.
    pub fn headers(&self) -> &QuotaHeaders {
        &self.headers
    }

    /// The counts that are shared with other processes of the fleet, if it is such a limit.
    pub fn cluster(&self) -> Option<&ClusterStore> {
        match &self.counts {
            Counts::Cluster(store) => Some(store),
            Counts::Memory(_) | Counts::Redis(_) | Counts::Leased { .. } => None,
        }
    }

    /// The counts that are kept in this process, if any.
    pub fn memory(&self) -> Option<&MemoryStore> {
        match &self.counts {
            Counts::Memory(store) => Some(store),
            Counts::Cluster(store) => Some(store.cold()),
            Counts::Redis(fallback) | Counts::Leased { fallback, .. } => match fallback {
                Fallback::Local(store) => Some(store),
                Fallback::Allow | Fallback::Deny => None,
            },
        }
    }

    /// What its leases came to, if it has any.
    pub fn leases(&self) -> Option<&LeaseStats> {
        match &self.counts {
            Counts::Leased { stats, .. } => Some(stats),
            Counts::Memory(_) | Counts::Cluster(_) | Counts::Redis(_) => None,
        }
    }
}

impl Fallback {
    fn policy(&self) -> OnStoreFailure {
        match self {
            Self::Local(_) => OnStoreFailure::Local,
            Self::Allow => OnStoreFailure::Allow,
            Self::Deny => OnStoreFailure::Deny,
        }
    }

    fn decide(&self, quota: &Quota, key: &LimitKey, now: Instant) -> Decision {
        let verdict = match self {
            Self::Local(store) => store.check(key, now),
            // Nothing is counted, so nothing has been used.
            Self::Allow => Verdict::Allow {
                remaining: quota.capacity(),
                reset: Duration::ZERO,
            },
            Self::Deny => Verdict::Deny {
                retry_after: DENIED_WITHOUT_STORE,
            },
        };
        Decision {
            verdict,
            degraded: true,
        }
    }
}

/// One worker's side of a limit.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<LimiterShared>,
    remote: Remote,
}

/// A worker's way to the counts that are not in this process.
#[derive(Clone)]
enum Remote {
    None,
    Redis(Rc<RedisStore>),
    Leased(Rc<LeasedStore>),
}

impl Limiter {
    /// The worker's side of `shared`. A limit in Redis uses the worker's connection; without one its failure policy
    /// decides every request.
    pub fn new(shared: Arc<LimiterShared>, connection: Option<&Rc<RedisConnection>>) -> Self {
        let store = |connection: &Rc<RedisConnection>| {
            RedisStore::new(Rc::clone(connection), &shared.name, shared.quota)
        };
        let remote = match (&shared.counts, connection) {
            (Counts::Memory(_) | Counts::Cluster(_), _) | (_, None) => Remote::None,
            (Counts::Redis(_), Some(connection)) => Remote::Redis(Rc::new(store(connection))),
            (Counts::Leased { lease, stats, .. }, Some(connection)) => {
                let stats = Arc::clone(stats);
                let store = LeasedStore::new(store(connection), &shared.quota, *lease, stats);
                Remote::Leased(store)
            }
        };
        Self { shared, remote }
    }

    /// What all workers share of the limit.
    pub fn shared(&self) -> &Arc<LimiterShared> {
        &self.shared
    }

    /// Counts one request of `key` if its quota allows. Never takes much longer than the Redis connection's timeout.
    pub async fn check(&self, key: &LimitKey, now: Instant) -> Decision {
        let verdict = match &self.remote {
            Remote::None => None,
            Remote::Redis(redis) => redis.check(key).await.ok(),
            Remote::Leased(leased) => leased.check(key, now).await.ok(),
        };
        match verdict {
            Some(verdict) => Decision::of_store(verdict),
            None => self.without_redis(key, now),
        }
    }

    /// The decision if it can be had without waiting, which is always so unless a Redis that is not known to be down
    /// has to be asked. `None` has counted nothing: go on to [`Limiter::check`].
    pub fn check_local(&self, key: &LimitKey, now: Instant) -> Option<Decision> {
        match &self.remote {
            Remote::None => {}
            Remote::Redis(redis) => {
                if !redis.is_down(key) {
                    return None;
                }
            }
            Remote::Leased(leased) => {
                if let Some(verdict) = leased.check_local(key, now) {
                    return Some(Decision::of_store(verdict));
                }
                if !leased.is_down(key) {
                    return None;
                }
            }
        }
        Some(self.without_redis(key, now))
    }

    fn without_redis(&self, key: &LimitKey, now: Instant) -> Decision {
        match &self.shared.counts {
            Counts::Memory(store) => Decision::of_store(store.check(key, now)),
            Counts::Cluster(store) => Decision::of_store(store.check(key, now)),
            Counts::Redis(fallback) | Counts::Leased { fallback, .. } => {
                fallback.decide(&self.shared.quota, key, now)
            }
        }
    }
}

impl fmt::Debug for LimiterShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterShared")
            .field("name", &self.name)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.shared).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Algorithm;
    use std::num::NonZeroU32;

    fn limiter(store: Store, start: Instant) -> Limiter {
        let quota = Quota {
            algorithm: Algorithm::FixedWindow,
            requests: NonZeroU32::new(2).unwrap(),
            window: Duration::from_secs(60),
            burst: NonZeroU32::new(2).unwrap(),
        };
        Limiter::new(
            Arc::new(LimiterShared::new("test", quota, store, start)),
            None,
        )
    }

    fn allowed(limiter: &Limiter, start: Instant) -> [bool; 3] {
        let check = || limiter.check_local(&LimitKey::ALL, start).unwrap();
        [(); 3].map(|()| check().verdict.is_allowed())
    }

    #[test]
    fn memory_decides_at_once() {
        let start = Instant::now();
        let limiter = limiter(Store::Memory, start);
        assert_eq!(allowed(&limiter, start), [true, true, false]);
        let decision = limiter.check_local(&LimitKey::ALL, start).unwrap();
        assert!(!decision.degraded);
        assert_eq!(limiter.shared().memory().map(MemoryStore::len), Some(1));
    }

    #[test]
    fn workers_share_one_count() {
        let start = Instant::now();
        let first = limiter(Store::Memory, start);
        let second = Limiter::new(Arc::clone(&first.shared), None);
        assert_eq!(allowed(&first, start), [true, true, false]);
        assert_eq!(allowed(&second, start), [false; 3]);
    }

    #[test]
    fn the_policy_decides_without_a_store() {
        let start = Instant::now();
        for (on_failure, expected) in [
            (OnStoreFailure::Local, [true, true, false]),
            (OnStoreFailure::Allow, [true; 3]),
            (OnStoreFailure::Deny, [false; 3]),
        ] {
            let limiter = limiter(Store::Redis { on_failure }, start);
            assert_eq!(allowed(&limiter, start), expected);
            assert!(limiter.check_local(&LimitKey::ALL, start).unwrap().degraded);
        }
    }

    #[tokio::test]
    async fn both_ways_of_checking_count_alike() {
        let start = Instant::now();
        let limiter = limiter(Store::Memory, start);
        assert!(
            limiter
                .check(&LimitKey::ALL, start)
                .await
                .verdict
                .is_allowed()
        );
        assert_eq!(allowed(&limiter, start), [true, false, false]);
    }
}
