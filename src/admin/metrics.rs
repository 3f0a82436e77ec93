//! `GET /metrics`: adds the workers' shards up and writes them as Prometheus text.
//!
//! The families are tables: a name, what it says, and where the figure is. docs/admin.md lists them for users.

mod limits;
mod udp;

use super::reload::ConfigStatus;
use super::{AdminState, access, bandwidth, cluster, process};
use crate::health::State;
use crate::message::h2::Flood;
use crate::metrics::text::Text;
use crate::metrics::{CLASSES, Outcomes, Sharded};
use crate::proxy::snapshot::{ListenerEntry, Snapshot};
use crate::proxy::tcp::Reason;
use crate::upstream::ejection::Reason as EjectionReason;
use crate::upstream::{Endpoint, MirrorResult, Priority, RetryReason, Upstream};

/// A family with one figure for each `T`.
pub(super) type Family<T> = (&'static str, &'static str, fn(&T) -> u64);

const LISTENER_COUNTERS: [Family<ListenerEntry>; 14] = [
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

const LISTENER_GAUGES: [Family<ListenerEntry>; 2] = [
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

/// All metrics, in the Prometheus text format.
pub fn render(state: &AdminState) -> String {
    let mut text = Text::default();
    text.gauge("lb_build_info", "The version that runs.");
    text.sample(
        "lb_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    process::write(&mut text);
    config(&mut text, &state.reloads.status());
    let snapshot = state.snapshot();
    // A listener that is gone is told of as long as it has connections.
    let is_there = |it: &&ListenerEntry| !it.closed || it.stats.sum(|s| s.open.get()) > 0;
    let there: Vec<&ListenerEntry> = snapshot.listeners.iter().filter(is_there).collect();
    requests(&mut text, &there);
    listeners(&mut text, &there);
    access::write(&mut text, &there, &snapshot.access);
    upstreams(&mut text, &snapshot);
    servers(&mut text, &snapshot);
    limits::write(&mut text, &snapshot);
    bandwidth::write(&mut text, &snapshot);
    cluster::write(&mut text, state, &snapshot);
    if let Some(log) = &state.access_log {
        text.counter(
            "lb_access_log_dropped_total",
            "Lines dropped because the log could not be written fast enough.",
        );
        text.sample("lb_access_log_dropped_total", &[], log.dropped());
    }
    text.finish()
}

fn config(text: &mut Text, status: &ConfigStatus) {
    text.gauge(
        "lb_config_generation",
        "Counts the configurations that were in force, from 1 at the start.",
    );
    text.sample("lb_config_generation", &[], status.generation);
    text.gauge(
        "lb_config_last_reload_successful",
        "0 if the last new configuration had errors or was given up again, else 1.",
    );
    let successful = u64::from(status.last_succeeded());
    text.sample("lb_config_last_reload_successful", &[], successful);
    text.gauge(
        "lb_config_last_reload_success_timestamp_seconds",
        "When the configuration came into force, in Unix time.",
    );
    let since = u64::try_from(status.since.as_second()).unwrap_or_default();
    text.sample(
        "lb_config_last_reload_success_timestamp_seconds",
        &[],
        since,
    );
    text.counter(
        "lb_config_reloads_total",
        "New configurations, by what came of them.",
    );
    for (result, count) in [
        ("success", status.successes),
        ("failure", status.failures),
        ("rolled_back", status.rollbacks),
    ] {
        text.sample("lb_config_reloads_total", &[("result", result)], count);
    }
}

/// By listener and route; requests that matched no route have the route "".
fn requests(text: &mut Text, listeners: &[&ListenerEntry]) {
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

fn listeners(text: &mut Text, listeners: &[&ListenerEntry]) {
    let listeners: Vec<_> = listeners
        .iter()
        .map(|it| ([("listener", it.name.as_str())], *it))
        .collect();
    families(text, Text::counter, &LISTENER_COUNTERS, &listeners);
    families(text, Text::gauge, &LISTENER_GAUGES, &listeners);
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

fn upstreams(text: &mut Text, snapshot: &Snapshot) {
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

fn servers(text: &mut Text, snapshot: &Snapshot) {
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
        for reason in EjectionReason::ALL {
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

/// Writes some families of the same kind for the same things, each of which has labels of its own.
fn families<T, const N: usize>(
    text: &mut Text,
    open: fn(&mut Text, &str, &str),
    families: &[Family<T>],
    things: &[([(&str, &str); N], &T)],
) {
    for (name, help, figure) in families {
        open(text, name, help);
        for (labels, thing) in things {
            text.sample(name, labels, figure(thing));
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

fn by_class<T>(
    text: &mut Text,
    name: &str,
    [first, second]: &[(&str, &str); 2],
    shards: &Sharded<T>,
    outcomes: impl Fn(&T) -> &Outcomes,
) {
    for (index, class) in CLASSES.iter().enumerate() {
        let count = shards.sum(|shard| outcomes(shard).by_class[index].get());
        text.sample(name, &[*first, *second, ("class", class)], count);
    }
}
