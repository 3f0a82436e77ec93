//! `[[upstreams]]` as a file would say them: each with the keys that those who send to it have a use for.

use super::limit::server_bandwidth;
use super::list;
use super::listener::socket_options;
use crate::config::forms::{OrOff, Shorthand, Table};
use crate::config::model::{
    Action, Config, Ejection, HealthCheck, HealthCheckKind, Mode, ProxyVersion, Server, Sticky,
    Upstream, UpstreamTls,
};
use crate::config::names::{CookieName, Name};
use crate::config::schema::{self, Expected};
use crate::config::types::{Factor, SecretSource};

/// Who sends to an upstream.
struct Uses {
    /// Routes; or nobody does.
    http: bool,
    /// Anyone but listeners of UDP; or nobody.
    connections: bool,
}

impl Uses {
    fn of(index: usize, config: &Config) -> Self {
        let routes = config.routes.iter();
        let has_route = routes
            .filter_map(|route| match &route.action {
                Action::Forward(forward) => Some(forward),
                Action::Redirect { .. } | Action::Respond { .. } => None,
            })
            .any(|forward| forward.upstreams().any(|it| it == index));
        let listeners = config.listeners.iter();
        let modes = listeners.filter_map(|it| {
            let named = it.sni.iter().map(|(_, upstream)| *upstream);
            let offered = it.alpn.iter().map(|(_, upstream)| *upstream);
            let mut all = named.chain(offered).chain(it.upstream);
            all.any(|it| it == index).then_some(it.mode)
        });
        let modes: Vec<Mode> = modes.collect();
        Self {
            http: has_route || modes.is_empty(),
            connections: has_route || modes.is_empty() || modes.iter().any(|it| *it != Mode::Udp),
        }
    }
}

pub(super) fn upstream(index: usize, config: &Config) -> schema::Upstream {
    let upstream = &config.upstreams[index];
    let uses = Uses::of(index, config);
    schema::Upstream {
        name: Some(Name(upstream.name.clone())),
        strategy: Some(upstream.strategy),
        hash: Some(upstream.hash.clone()),
        servers: Some(list(&upstream.servers, |it| Shorthand(server(it)))),
        health_check: Some(Table(health_check(upstream.health_check.as_ref()))),
        timeouts: Some(Table(schema::UpstreamTimeouts {
            connect: uses.connections.then(|| upstream.timeouts.connect.into()),
            response: uses.http.then(|| upstream.timeouts.response.into()),
            idle: uses.http.then(|| upstream.timeouts.idle.into()),
            pool_idle: uses.http.then(|| upstream.timeouts.pool_idle.into()),
        })),
        protocol: Some(upstream.protocol),
        tls: upstream.tls.as_ref().map(|it| Table(upstream_tls(it))),
        proxy_protocol: Some(match upstream.proxy_protocol {
            None => schema::SendProxy::Off,
            Some(ProxyVersion::V1) => schema::SendProxy::V1,
            Some(ProxyVersion::V2) => schema::SendProxy::V2,
        }),
        set_headers: Some(
            upstream
                .set_headers
                .iter()
                .map(|(name, value)| (name.to_string(), SecretSource::Literal(value.clone())))
                .collect(),
        ),
        max_connections: upstream.max_connections,
        max_in_flight: upstream.max_in_flight,
        queue: queue(upstream).map(Table),
        adaptive_concurrency: Some(match upstream.adaptive_concurrency {
            None => OrOff::Off,
            Some(it) => OrOff::On(schema::AdaptiveConcurrency {
                min: Some(it.min),
                initial: Some(it.initial),
                max: Some(it.max),
            }),
        }),
        slow_start: Some(upstream.slow_start.into()),
        sticky: upstream.sticky.as_ref().map(|it| Table(sticky(it))),
        ejection: Some(match &upstream.ejection {
            None => OrOff::Off,
            Some(it) => OrOff::On(ejection(it)),
        }),
        bandwidth: upstream
            .bandwidth
            .as_ref()
            .map(|it| Table(server_bandwidth(it))),
        tcp: uses
            .connections
            .then(|| Table(socket_options(&upstream.tcp))),
    }
}

/// Where nothing limits, a file has no queue, as it would never be used.
fn queue(upstream: &Upstream) -> Option<schema::Queue> {
    let is_limited = upstream.max_connections.is_some()
        || upstream.max_in_flight.is_some()
        || upstream.adaptive_concurrency.is_some();
    (is_limited || upstream.queue.size == 0).then(|| schema::Queue {
        size: Some(upstream.queue.size),
        timeout: Some(upstream.queue.timeout.into()),
    })
}

fn sticky(sticky: &Sticky) -> schema::Sticky {
    schema::Sticky {
        cookie: Some(CookieName(sticky.cookie.clone())),
        ttl: Some(sticky.ttl.into()),
        secret: sticky.secret.clone().map(SecretSource::Literal),
    }
}

fn ejection(ejection: &Ejection) -> schema::Ejection {
    schema::Ejection {
        consecutive_failures: Some(ejection.consecutive_failures),
        error_ratio: Some(ejection.error_ratio),
        latency_factor: ejection.latency_factor.and_then(Factor::new),
        interval: Some(ejection.interval.into()),
        base: Some(ejection.base.into()),
        max: Some(ejection.max.into()),
        max_share: Some(ejection.max_share),
        panic: Some(ejection.panic),
    }
}

fn upstream_tls(tls: &UpstreamTls) -> schema::UpstreamTls {
    let (cert, key) = tls.client.clone().unzip();
    schema::UpstreamTls {
        ca: tls.ca.clone(),
        server_name: tls.server_name.clone(),
        cert,
        key,
        insecure_skip_verify: Some(tls.insecure_skip_verify),
    }
}

fn server(server: &Server) -> schema::Server {
    schema::Server {
        address: Some(server.address.clone()),
        weight: Some(server.weight),
    }
}

fn health_check(check: Option<&HealthCheck>) -> schema::HealthCheck {
    let Some(check) = check else {
        return schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Off),
            ..schema::HealthCheck::default()
        };
    };
    let timing = schema::HealthCheck {
        interval: Some(check.interval.into()),
        timeout: Some(check.timeout.into()),
        fall: Some(check.fall),
        rise: Some(check.rise),
        port: check.port.and_then(|port| port.try_into().ok()),
        ..schema::HealthCheck::default()
    };
    match &check.kind {
        HealthCheckKind::Tcp => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Tcp),
            ..timing
        },
        HealthCheckKind::Grpc { service } => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Grpc),
            service: Some(service.clone()),
            ..timing
        },
        HealthCheckKind::Http { path, host, expect } => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Http),
            path: Some(path.clone()),
            host: host
                .as_ref()
                .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()),
            expect: Some(Expected::Statuses(
                expect.ranges().iter().cloned().map(Some).collect(),
            )),
            ..timing
        },
        HealthCheckKind::Dns { name } => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Dns),
            name: Some(name.clone()),
            ..timing
        },
        HealthCheckKind::Udp { send, expect } => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Udp),
            send: Some(send.clone()),
            expect: expect.clone().map(Expected::Text),
            ..timing
        },
    }
}
