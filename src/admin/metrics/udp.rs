//! What listeners of UDP count: datagrams, and the sessions that they belong to.

use super::{Family, families};
use crate::metrics::text::Text;
use crate::proxy::snapshot::ListenerEntry;
use crate::proxy::udp::stats::{Dropped, End};

const COUNTERS: [Family<ListenerEntry>; 3] = [
    (
        "lb_udp_datagrams_received_total",
        "Datagrams received from clients.",
        |it| it.stats.sum(|s| s.udp.received.get()),
    ),
    (
        "lb_udp_datagrams_sent_total",
        "Datagrams sent to clients.",
        |it| it.stats.sum(|s| s.udp.sent.get()),
    ),
    (
        "lb_udp_sessions_moved_total",
        "Times that a session went on with another server, because its own was lost.",
        |it| it.stats.sum(|s| s.udp.moved.get()),
    ),
];

/// Writes the families of those that are of UDP.
pub(super) fn write(text: &mut Text, listeners: &[([(&str, &str); 1], &ListenerEntry)]) {
    let listeners = listeners.iter().filter(|(_, it)| it.udp.is_some());
    let listeners: Vec<_> = listeners.copied().collect();
    families(text, Text::counter, &COUNTERS, &listeners);
    text.counter(
        "lb_udp_datagrams_dropped_total",
        "Datagrams that were not passed on, by why.",
    );
    for ([name], listener) in &listeners {
        for reason in Dropped::ALL {
            let labels = [*name, ("reason", reason.name())];
            let count = listener
                .stats
                .sum(|it| it.udp.dropped[reason as usize].get());
            text.sample("lb_udp_datagrams_dropped_total", &labels, count);
        }
    }
    text.counter(
        "lb_udp_sessions_ended_total",
        "Sessions that have ended, by why.",
    );
    for ([name], listener) in &listeners {
        for end in End::ALL {
            let labels = [*name, ("reason", end.name())];
            let count = listener.stats.sum(|it| it.udp.ended[end as usize].get());
            text.sample("lb_udp_sessions_ended_total", &labels, count);
        }
    }
    text.gauge(
        "lb_udp_quic_ids",
        "Connection ids of QUIC whose servers are known.",
    );
    for (labels, listener) in &listeners {
        if let Some(ids) = listener.udp.as_ref().and_then(|it| it.ids.as_ref()) {
            text.sample("lb_udp_quic_ids", labels, ids.count());
        }
    }
}
