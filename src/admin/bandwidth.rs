//! The metrics of limits of bytes a second.

use super::metrics::Family;
use crate::limit::bandwidth::Limits;
use crate::metrics::text::Text;
use crate::net::bandwidth::{Direction, Limit};
use crate::proxy::snapshot::Snapshot;

/// The families with a figure a direction.
const FAMILIES: [Family<Limit>; 3] = [
    (
        "lb_bandwidth_limit_bytes",
        "Bytes a second that each of those may move who share the limit.",
        |it| it.rate(),
    ),
    (
        "lb_bandwidth_delayed_bytes_total",
        "Bytes that had to wait for their turn.",
        |it| it.delayed(),
    ),
    (
        "lb_bandwidth_waiting",
        "Directions of connections that wait for their turn.",
        |it| it.waiting(),
    ),
];

const WAITED: &str = "lb_bandwidth_waited_seconds_total";
const CLIENTS: &str = "lb_bandwidth_clients";

/// Those of all limits. An upstream's has the key `server`.
pub(super) fn write(text: &mut Text, snapshot: &Snapshot) {
    let shared = || snapshot.bandwidths.iter().map(|it| &it.shared);
    let mut all: Vec<(String, &str, &Limits)> = shared()
        .map(|it| (it.name().to_owned(), it.key(), it.limits()))
        .collect();
    for upstream in &snapshot.upstreams {
        let name = format!("upstream:{}", upstream.shared.name());
        all.push((name, "server", &upstream.shared.bandwidth));
    }
    let is_one = |it: &&Limit| it.rate() > 0;
    let mut figures: Vec<([(&str, &str); 3], &Limit)> = Vec::new();
    for (name, key, limits) in &all {
        for direction in Direction::ALL {
            let limit = &**limits.of(direction);
            let labels = [
                ("limit", &**name),
                ("key", key),
                ("direction", direction.name()),
            ];
            figures.extend(Some(limit).filter(is_one).map(|it| (labels, it)));
        }
    }
    if figures.is_empty() {
        return;
    }
    for (name, help, figure) in FAMILIES {
        match name.ends_with("_total") {
            true => text.counter(name, help),
            false => text.gauge(name, help),
        }
        for (labels, limit) in &figures {
            text.sample(name, labels, figure(limit));
        }
    }
    text.counter(
        WAITED,
        "How long they did, those of all connections added up.",
    );
    for (labels, limit) in &figures {
        text.sample(WAITED, labels, limit.waited().as_secs_f64());
    }
    text.gauge(CLIENTS, "Clients that the limit knows.");
    for limit in shared() {
        if let Some(clients) = limit.clients() {
            text.sample(CLIENTS, &[("limit", limit.name())], clients);
        }
    }
}
