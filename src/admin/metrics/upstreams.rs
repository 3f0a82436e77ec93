//! What upstreams and their servers count: requests, tries beside the first, queues and health.

use super::{Family, by_class, families};
use crate::health::State;
use crate::metrics::text::Text;
use crate::proxy::snapshot::Snapshot;
use crate::upstream::ejection::Reason;
use crate::upstream::{Endpoint, MirrorResult, Priority, RetryReason, Upstream};

const UPSTREAM_COUNTERS: [Family<Upstream>; 3] = [
    (
        "lb_upstream_retries_denied_total",
        "Tries after a request's first that the budget forbade.",
        |it| it.stats.sum(|s| s.retries_denied.get()),
    ),
    (
        "lb_upstream_lost_on_close_total",
        "Requests that must not be made twice, lost because the server closed a used connection as they were sent.",
        |it| it.stats.sum(|s| s.lost_on_close.get()),
    ),
    (
        "lb_upstream_no_server_total",
        "Requests for which no server was eligible.",
        |it| it.stats.sum(|s| s.nobody.get()),
    ),
];

const UPSTREAM_GAUGES: [Family<Upstream>; 3] = [
    (
        "lb_upstream_eligible_servers",
        "Servers that get new requests.",
        |it| it.members().endpoints.len() as u64,
    ),
    (
        "lb_upstream_queue_length",
        "Requests that wait for a server with room for them.",
        |it| it.queue().len() as u64,
    ),
    (
        "lb_upstream_panic",
        "1 while ejected servers are used for want of others, else 0.",
        |it| it.panics().into(),
    ),
];

const SERVER_COUNTERS: [Family<Endpoint>; 4] = [
    (
        "lb_server_connects_total",
        "Connections opened to the server.",
        |it| it.stats.sum(|s| s.connects.get()),
    ),
    (
        "lb_server_connect_failures_total",
        "Connections to the server that could not be opened.",
        |it| it.stats.sum(|s| s.connect_failures.get()),
    ),
    (
        "lb_server_bytes_received_total",
        "Bytes received from the server.",
        |it| it.bytes.sum(|s| s.received.get()),
    ),
    (
        "lb_server_bytes_sent_total",
        "Bytes sent to the server.",
        |it| it.bytes.sum(|s| s.sent.get()),
    ),
];

const SERVER_GAUGES: [Family<Endpoint>; 6] = [
    (
        "lb_server_in_flight",
        "Requests in flight to the server.",
        |it| it.in_flight().into(),
    ),
    (
        "lb_server_connections",
        "Connections to the server that are open or being opened.",
        |it| it.sockets().open().into(),
    ),
    (
        "lb_server_ejected",
        "1 while the server is ejected, else 0.",
        |it| it.standing().ejected().is_some().into(),
    ),
    (
        "lb_server_weight",
        "The server's share relative to others.",
        |it| it.weight().into(),
    ),
    (
        "lb_server_up",
        "0 while health checks find the server down, else 1.",
        |it| (it.health() != State::Down).into(),
    ),
    (
        "lb_server_eligible",
        "1 while the server gets new requests, else 0.",
        |it| it.eligible().into(),
    ),
];

/// Writes the families of upstreams.
pub(super) fn write(text: &mut Text, snapshot: &Snapshot) {
    let upstreams = snapshot.upstreams.iter().map(|entry| entry.shared.as_ref());
    let upstreams: Vec<_> = upstreams
        .map(|it| ([("upstream", it.name())], it))
        .collect();
    by_label(
        text,
        (
            "lb_upstream_retries_total",
            "Tries after a request's first, by the reason.",
        ),
        &upstreams,
        ("reason", RetryReason::ALL.map(RetryReason::name)),
        |it, index| it.stats.sum(|s| s.retries[index].get()),
    );
    by_label(
        text,
        (
            "lb_upstream_hedges_total",
            "Second tries beside a request's first, by the one that won.",
        ),
        &upstreams,
        ("won", ["first", "second"]),
        |it, index| it.stats.sum(|s| s.hedges[index].get()),
    );
    by_label(
        text,
        (
            "lb_mirror_requests_total",
            "Copies of requests to the upstream, by what became of them.",
        ),
        &upstreams,
        ("result", MirrorResult::ALL.map(MirrorResult::name)),
        |it, index| it.stats.sum(|s| s.mirrored[index].get()),
    );
    families(text, Text::counter, &UPSTREAM_COUNTERS, &upstreams);
    families(text, Text::gauge, &UPSTREAM_GAUGES, &upstreams);
    queues(text, &upstreams);
}

fn queues(text: &mut Text, upstreams: &[([(&str, &str); 1], &Upstream)]) {
    text.histogram(
        "lb_upstream_queue_seconds",
        "How long requests waited for a server with room for them.",
    );
    for (labels, upstream) in upstreams {
        text.durations("lb_upstream_queue_seconds", labels, &upstream.stats, |it| {
            &it.queued
        });
    }
    text.counter(
        "lb_upstream_shed_total",
        "Requests refused because all servers were full, by why and priority.",
    );
    for ([name], upstream) in upstreams {
        for priority in Priority::ALL {
            let full = upstream.stats.sum(|it| it.shed[priority as usize].get());
            let overdue = upstream.stats.sum(|it| it.overdue[priority as usize].get());
            for (reason, count) in [("full", full), ("timeout", overdue)] {
                let priority = ("priority", priority.name());
                let labels = [*name, ("reason", reason), priority];
                text.sample("lb_upstream_shed_total", &labels, count);
            }
        }
    }
}

/// Writes the families of servers.
pub(super) fn servers(text: &mut Text, snapshot: &Snapshot) {
    // Read once: servers that come or go meanwhile are in all families or in none.
    let mut roster = Vec::new();
    for entry in &snapshot.upstreams {
        let endpoints = entry.shared.endpoints().into_iter();
        roster.extend(endpoints.map(|it| (entry.shared.name(), it.address().to_string(), it)));
    }
    let labels = |upstream, address| [("upstream", upstream), ("server", address)];
    let servers: Vec<_> = roster
        .iter()
        .map(|(upstream, address, it)| (labels(*upstream, address.as_str()), it.as_ref()))
        .collect();
    text.counter(
        "lb_server_requests_total",
        "Requests sent to the server, by the class of its answer's status.",
    );
    for (labels, endpoint) in &servers {
        by_class(
            text,
            "lb_server_requests_total",
            labels,
            &endpoint.stats,
            |it| &it.outcomes,
        );
    }
    text.histogram(
        "lb_server_duration_seconds",
        "From choosing the server to the end of its answer.",
    );
    for (labels, endpoint) in &servers {
        text.durations(
            "lb_server_duration_seconds",
            labels,
            &endpoint.stats,
            |it| &it.outcomes.durations,
        );
    }
    text.histogram(
        "lb_server_connect_seconds",
        "How long opening a connection to the server took, TLS included.",
    );
    for (labels, endpoint) in &servers {
        text.durations("lb_server_connect_seconds", labels, &endpoint.stats, |it| {
            &it.connect_times
        });
    }
    families(text, Text::counter, &SERVER_COUNTERS, &servers);
    families(text, Text::gauge, &SERVER_GAUGES, &servers);
    text.counter(
        "lb_server_ejections_total",
        "Times that the server was ejected, by why.",
    );
    for ([upstream, server], endpoint) in &servers {
        for reason in Reason::ALL {
            let labels = [*upstream, *server, ("reason", reason.name())];
            let count = endpoint.standing().ejections(reason);
            text.sample("lb_server_ejections_total", &labels, count);
        }
    }
    text.gauge(
        "lb_server_concurrency_limit",
        "Requests that the server may have at a time; absent without a limit.",
    );
    for (labels, endpoint) in &servers {
        if let Some(limit) = endpoint.load().limit() {
            text.sample("lb_server_concurrency_limit", labels, limit);
        }
    }
}

/// Writes a family of counters of upstreams that has a figure for each of `values` of another label.
fn by_label<const N: usize>(
    text: &mut Text,
    (name, help): (&str, &str),
    upstreams: &[([(&str, &str); 1], &Upstream)],
    (label, values): (&str, [&str; N]),
    figure: impl Fn(&Upstream, usize) -> u64,
) {
    text.counter(name, help);
    for ([upstream], it) in upstreams {
        for (index, value) in values.iter().enumerate() {
            text.sample(name, &[*upstream, (label, value)], figure(it, index));
        }
    }
}
