//! Limits, their leases, and the Redis that they count in.

use super::{Family, families};
use crate::limit::{LeaseStats, RedisStats};
use crate::metrics::text::Text;
use crate::proxy::snapshot::{LimitEntry, Snapshot};

const LIMIT_COUNTERS: [Family<LimitEntry>; 3] = [
    (
        "lb_limit_allowed_total",
        "Requests, or connections, that the limit admitted.",
        |it| it.stats.sum(|s| s.allowed.get()),
    ),
    (
        "lb_limit_denied_total",
        "Requests, or connections, that the limit denied.",
        |it| it.stats.sum(|s| s.denied.get()),
    ),
    (
        "lb_limit_store_failures_total",
        "Requests, or connections, that on_store_failure decided.",
        |it| it.stats.sum(|s| s.store_failures.get()),
    ),
];

const LEASE_COUNTERS: [Family<LeaseStats>; 4] = [
    (
        "lb_limit_leases_total",
        "Questions for a lease that were sent to Redis.",
        |it| it.taken.get(),
    ),
    (
        "lb_limit_leased_requests_total",
        "Requests that Redis counted for leases.",
        |it| it.requests.get(),
    ),
    (
        "lb_limit_returned_requests_total",
        "Leased requests that were not made, and given back to Redis.",
        |it| it.returned.get(),
    ),
    (
        "lb_limit_lapsed_requests_total",
        "Leased requests that were not made, nor given back, or that Redis may have counted and did not say so.",
        |it| it.lapsed.get(),
    ),
];

const REDIS_COUNTERS: [Family<RedisStats>; 4] = [
    (
        "lb_redis_dials_total",
        "Connections to Redis that were tried.",
        |it| it.dials.get(),
    ),
    (
        "lb_redis_failures_total",
        "Checks that Redis did not answer, or answered with an error.",
        |it| it.failures.get(),
    ),
    (
        "lb_redis_redirections_total",
        "Checks that a node of the Redis cluster sent on to another one.",
        |it| it.redirections.get(),
    ),
    (
        "lb_redis_failovers_total",
        "Times that another server became the master, or has got the slots of a primary that has none any more.",
        |it| it.failovers.get(),
    ),
];

/// Writes what there is of limits.
pub(super) fn write(text: &mut Text, snapshot: &Snapshot) {
    let limits = snapshot.limits.iter();
    let limits: Vec<_> = limits
        .map(|it| ([("limit", it.shared.name())], it))
        .collect();
    families(text, Text::counter, &LIMIT_COUNTERS, &limits);
    text.gauge(
        "lb_limit_keys",
        "Keys that the limit counts in this process.",
    );
    for (labels, limit) in &limits {
        if let Some(store) = limit.shared.memory() {
            text.sample("lb_limit_keys", labels, store.len() as u64);
        }
    }
    let leases = limits.iter();
    let leases: Vec<_> = leases
        .filter_map(|(labels, limit)| Some((*labels, limit.shared.leases()?)))
        .collect();
    if !leases.is_empty() {
        families(text, Text::counter, &LEASE_COUNTERS, &leases);
    }
    if let Some(settings) = &snapshot.redis {
        redis(text, &settings.stats);
    }
}

fn redis(text: &mut Text, stats: &RedisStats) {
    text.gauge(
        "lb_redis_connections",
        "Workers that are connected to the server.",
    );
    for (server, role, workers) in stats.servers() {
        let labels = [("server", server.as_str()), ("role", role.name())];
        text.sample("lb_redis_connections", &labels, workers);
    }
    families(text, Text::counter, &REDIS_COUNTERS, &[([], stats)]);
}
