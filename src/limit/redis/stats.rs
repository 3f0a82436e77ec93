//! What the connections of all workers to Redis come to, for the metrics.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Role;

/// Workers that see the same failover do so within this time.
const SAME_FAILOVER: Duration = Duration::from_secs(30);

/// What the connections of all workers to Redis come to. None of it is on a request's way while Redis is well.
#[derive(Debug, Default)]
pub struct RedisStats {
    /// Connections that were tried.
    pub dials: Count,
    /// Checks that Redis did not answer, or answered with an error.
    pub failures: Count,
    /// Checks that a node of a cluster sent on to another one.
    pub redirections: Count,
    /// Times that another server has become the master, or has got the slots of a primary that has none any more.
    pub failovers: Count,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    /// Workers that have a session with a server, by its address.
    sessions: BTreeMap<String, (Role, u64)>,
    /// Failovers that workers have seen lately: from whom, to whom, when.
    failovers: Vec<(String, String, Instant)>,
}

/// A number of events.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(in crate::limit) fn increment(&self) {
        self.add(1);
    }

    pub(in crate::limit) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl RedisStats {
    /// The servers that counts are kept by: their addresses, what they are, and how many workers have a session with each.
    pub fn servers(&self) -> Vec<(String, Role, u64)> {
        let changes = self.changes();
        let sessions = changes.sessions.iter();
        let server = |(name, (role, count)): (&String, &(Role, u64))| (name.clone(), *role, *count);
        sessions.map(server).collect()
    }

    /// A worker has a session with `to`, and with `from` no more.
    pub(super) fn sessions(&self, role: Role, from: Option<String>, to: Option<String>) {
        let mut changes = self.changes();
        if let Some(to) = to {
            let entry = changes.sessions.entry(to).or_insert((role, 0));
            *entry = (role, entry.1 + 1);
        }
        if let Some(from) = from
            && let Some((_, count)) = changes.sessions.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                changes.sessions.remove(&from);
            }
        }
    }

    /// A worker has found that the work of `from` is done by `to` now. Counts, and is logged, once for all workers.
    pub(super) fn failover(&self, role: Role, from: &impl Display, to: &impl Display) {
        let (from, to) = (from.to_string(), to.to_string());
        let now = Instant::now();
        let mut changes = self.changes();
        changes
            .failovers
            .retain(|(_, _, at)| now.duration_since(*at) < SAME_FAILOVER);
        let same = |it: &(String, String, Instant)| it.0 == from && it.1 == to;
        if changes.failovers.iter().any(same) {
            return;
        }
        self.failovers.increment();
        let what = match role {
            Role::Primary => "another server of the Redis cluster now has the slots of this one",
            Role::Master | Role::Server => "Redis has failed over",
        };
        tracing::warn!(from, to, "{what}, and may have forgotten the last counts");
        changes.failovers.push((from, to, now));
    }

    /// A panic while it was held left nothing half done that matters.
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn workers_count_one_failover_once() {
        let stats = RedisStats::default();
        for _ in 0..4 {
            stats.failover(Role::Primary, &"a:1", &"b:1");
            stats.failover(Role::Primary, &"c:1", &"d:1");
        }
        assert_eq!(stats.failovers.get(), 2);
        tokio::time::advance(SAME_FAILOVER).await;
        stats.failover(Role::Primary, &"a:1", &"b:1");
        assert_eq!(stats.failovers.get(), 3);
    }

    #[test]
    fn a_server_without_sessions_is_not_told_of() {
        let stats = RedisStats::default();
        let text = |name: &str| Some(name.to_owned());
        stats.sessions(Role::Primary, None, text("a:1"));
        stats.sessions(Role::Primary, None, text("a:1"));
        stats.sessions(Role::Primary, text("a:1"), text("b:1"));
        let servers = stats.servers();
        let expected = ["a:1", "b:1"].map(|name| (name.to_owned(), Role::Primary, 1));
        assert_eq!(servers, expected);
        stats.sessions(Role::Primary, text("a:1"), None);
        assert_eq!(stats.servers().len(), 1);
    }
}
