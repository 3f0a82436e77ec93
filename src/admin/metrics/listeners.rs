//! What listeners count: connections, how those ended, and requests by route.

use super::{Family, by_class, families, udp};
use crate::message::h2::Flood;
use crate::metrics::text::Text;
use crate::proxy::snapshot::ListenerEntry;
use crate::proxy::tcp::Reason;

const COUNTERS: [Family<ListenerEntry>; 14] = [
    (
        "lb_connections_accepted_total",
        "Connections accepted from clients.",
        |it| it.stats.sum(|s| s.accepted.get()),
    ),
    (
        "lb_header_timeouts_total",
        "Connections closed because a request's headers did not arrive in time.",
        |it| it.stats.sum(|s| s.header_timeouts.get()),
    ),
    (
        "lb_malformed_requests_total",
        "Connections closed because what arrived was not HTTP or too large.",
        |it| it.stats.sum(|s| s.malformed.get()),
    ),
    (
        "lb_address_limit_closed_total",
        "Connections closed because their client had as many as it may.",
        |it| it.stats.sum(|s| s.over_address_limit.get()),
    ),
    (
        "lb_connection_rate_closed_total",
        "Connections closed because their client had opened as many as it may.",
        |it| it.stats.sum(|s| s.over_rate.get()),
    ),
    (
        "lb_tls_handshakes_total",
        "TLS handshakes that came to their end.",
        |it| it.stats.sum(|s| s.tls_handshakes.get()),
    ),
    (
        "lb_tls_resumptions_total",
        "TLS handshakes that resumed an earlier session.",
        |it| it.stats.sum(|s| s.tls_resumed.get()),
    ),
    (
        "lb_tls_failures_total",
        "TLS handshakes that failed or took too long.",
        |it| it.stats.sum(|s| s.tls_failures.get()),
    ),
    (
        "lb_proxy_header_failures_total",
        "Connections closed for want of a PROXY header from a trusted peer.",
        |it| it.stats.sum(|s| s.proxy_header_failures.get()),
    ),
    (
        "lb_stalled_answers_total",
        "Answers given up because the client did not take them.",
        |it| it.stats.sum(|s| s.stalled_answers.get()),
    ),
    (
        "lb_stalled_bodies_total",
        "Bodies of requests given up because they did not come, or too slowly.",
        |it| it.stats.sum(|s| s.stalled_bodies.get()),
    ),
    (
        "lb_accept_failures_total",
        "Times that accepting a connection failed.",
        |it| it.stats.sum(|s| s.accept_failures.get()),
    ),
    (
        "lb_bytes_received_total",
        "Bytes received from clients.",
        |it| it.bytes.sum(|s| s.received.get()),
    ),
    ("lb_bytes_sent_total", "Bytes sent to clients.", |it| {
        it.bytes.sum(|s| s.sent.get())
    }),
];

const GAUGES: [Family<ListenerEntry>; 2] = [
    (
        "lb_connections_open",
        "Connections of clients that are open.",
        |it| it.stats.sum(|s| s.open.get()),
    ),
    (
        "lb_connections_parked",
        "Open connections that wait for a request and hold no buffers.",
        |it| it.stats.sum(|s| s.parked.get()),
    ),
];

/// Writes requests by listener and route; requests that matched no route have the route "".
pub(super) fn requests(text: &mut Text, listeners: &[&ListenerEntry]) {
    let mut outcomes = Vec::new();
    for listener in listeners {
        let name = ("listener", listener.name.as_str());
        let routes = listener
            .entries
            .iter()
            .map(|route| ([name, ("route", route.name.as_str())], &*route.stats));
        outcomes.extend(routes.chain([([name, ("route", "")], &*listener.unrouted)]));
    }
    text.counter(
        "lb_requests_total",
        "Requests by the class of their answer's status.",
    );
    for (labels, outcomes) in &outcomes {
        by_class(text, "lb_requests_total", labels, outcomes, |it| it);
    }
    text.histogram(
        "lb_request_duration_seconds",
        "From a request's headers to the end of the answer's body.",
    );
    for (labels, outcomes) in &outcomes {
        text.durations("lb_request_duration_seconds", labels, outcomes, |it| {
            &it.durations
        });
    }
}

/// Writes what concerns connections.
pub(super) fn write(text: &mut Text, listeners: &[&ListenerEntry]) {
    let listeners: Vec<_> = listeners
        .iter()
        .map(|it| ([("listener", it.name.as_str())], *it))
        .collect();
    families(text, Text::counter, &COUNTERS, &listeners);
    families(text, Text::gauge, &GAUGES, &listeners);
    text.counter(
        "lb_tcp_connections_ended_total",
        "Connections that were passed on as they are, or were to be, by why that has ended.",
    );
    let relaying = listeners.iter().filter(|(_, it)| it.passes_on());
    for ([name], listener) in relaying {
        for reason in Reason::ALL {
            let count = listener
                .stats
                .sum(|shard| shard.ends[reason as usize].get());
            let labels = [*name, ("reason", reason.name())];
            text.sample("lb_tcp_connections_ended_total", &labels, count);
        }
    }
    udp::write(text, &listeners);
    text.counter(
        "lb_http2_floods_total",
        "Connections closed because the client flooded them with HTTP/2 frames, by what with.",
    );
    for ([name], listener) in &listeners {
        for flood in Flood::ALL {
            let count = listener
                .stats
                .sum(|shard| shard.floods[flood.index()].get());
            let labels = [*name, ("flood", flood.name())];
            text.sample("lb_http2_floods_total", &labels, count);
        }
    }
}
