//! From the configuration to the snapshot: the one place that knows both the configuration's types and those of the
//! modules that do the work, and turns the one into the other.

mod bandwidth;
mod entrance;
mod forward;
mod health_check;
mod redis;
mod udp;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;

pub use self::entrance::{sources, tcp_options};
use super::former::Former;
use super::protection;
use super::snapshot::{Action, LimitEntry, ListenerEntry, RouteEntry, Snapshot, UpstreamEntry};
use super::tcp::Names;
use crate::access::Lists;
use crate::balance::Kind;
use crate::config::model::{self, Config, RouteLimit, StrategyKind};
use crate::config::types::{HostPattern, PathPattern};
use crate::limit::{Algorithm, LimiterShared, OnStoreFailure, Quota, Store};
use crate::listener::PerAddress;
use crate::message::forwarded::TrustedProxies;
use crate::metrics::Sharded;
use crate::route::{self, RouteSpec, RouteTable};
use crate::tls::{ClientTls, ServerTls};
use crate::upstream::endpoint::Spec;
use crate::upstream::{Announces, Protocol, Settings, Upstream};

/// The certificates and keys of a configuration, as they are in force.
#[derive(Debug, Clone, Default)]
pub struct TlsMaterial {
    /// Of each listener, in the configuration's order; `None` speaks plain text.
    pub listeners: Vec<Option<Arc<ServerTls>>>,
    /// Of each upstream.
    pub upstreams: Vec<Option<Arc<ClientTls>>>,
    /// Towards Redis.
    pub redis: Option<Arc<ClientTls>>,
}

/// A snapshot, and how to come to it from the one before.
#[derive(Debug)]
pub struct Built {
    /// What requests need from the configuration.
    pub snapshot: Snapshot,
    /// The index in the snapshot of each listener of the configuration.
    pub places: Vec<usize>,
    /// What is to become of the upstreams that there were already.
    pub kept: Vec<Kept>,
}

/// An upstream that was there already, and what it is to become.
#[derive(Debug)]
pub struct Kept {
    /// As it still is.
    pub upstream: Arc<Upstream>,
    /// Its new policy.
    pub settings: Settings,
    /// Its new servers.
    pub servers: Vec<Spec>,
}

impl Snapshot {
    /// Builds what a configuration describes, and changes nothing. `access` has its lists. `servers` gives the servers of the upstream at an index.
    /// What is named like something in `former` takes over its counts.
    ///
    /// # Errors
    /// The routes contradict each other. A validated configuration's do not.
    pub fn build(
        config: &Config,
        tls: &TlsMaterial,
        access: &Lists,
        former: Option<&Self>,
        mut servers: impl FnMut(usize) -> Vec<Spec>,
    ) -> Result<Built, route::BuildError> {
        let former = Former::new(former);
        let mut limits = Vec::new();
        let limit_of = limits_of_routes(config, &former, &mut limits);
        let rate_of = entrance::connection_rates(config, &former, &mut limits);
        let mut bandwidths = Vec::new();
        let bandwidth = bandwidth::of(config, &former, &mut bandwidths);
        let shared = Shared {
            bandwidth: &bandwidth,
            access,
            limit_of: &limit_of,
            rate_of: &rate_of,
        };
        let listeners = (0..config.listeners.len()).map(|index| {
            let tls = tls.listeners.get(index).cloned().flatten();
            listener(config, index, tls, &shared, &former)
        });
        let places = former.places(config);
        let mut kept = Vec::new();
        let upstreams = config.upstreams.iter().enumerate().map(|(index, it)| {
            let tls = tls.upstreams.get(index).cloned().flatten();
            let (settings, servers) = (settings(it, tls), servers(index));
            let shared = match former.upstream(&it.name) {
                Some(upstream) => {
                    kept.push(Kept {
                        upstream: Arc::clone(&upstream),
                        settings,
                        servers,
                    });
                    upstream
                }
                None => Upstream::new(it.name.clone(), settings, servers, config.workers.get()),
            };
            let hashes = it.strategy == StrategyKind::ConsistentHash;
            UpstreamEntry {
                shared,
                hash: hashes.then(|| it.hash.clone()),
                sticky: forward::sticky(it),
            }
        });
        let upstreams = upstreams.collect();
        let listeners = listeners.collect::<Result<_, _>>()?;
        let snapshot = Self {
            listeners: former.arrange(listeners, &places),
            upstreams,
            limits,
            access: access.clone(),
            bandwidths,
            announces: config
                .upstreams
                .iter()
                .any(|upstream| upstream.proxy_protocol.is_some()),
            trusted_proxies: TrustedProxies::new(config.trusted_proxies.clone()),
            redis: redis::settings(config, tls, former.redis_stats()),
            drain_timeout: config.drain_timeout,
        };
        Ok(Built {
            snapshot,
            places,
            kept,
        })
    }
}

/// What listeners and routes refer to.
struct Shared<'a> {
    bandwidth: &'a bandwidth::Bandwidths,
    access: &'a Lists,
    /// Limits of requests, by route.
    limit_of: &'a [Option<usize>],
    /// Limits of new connections, by listener.
    rate_of: &'a [Option<usize>],
}

fn listener(
    config: &Config,
    index: usize,
    tls: Option<Arc<ServerTls>>,
    shared: &Shared<'_>,
    former: &Former<'_>,
) -> Result<ListenerEntry, route::BuildError> {
    let workers = config.workers.get();
    let listener = &config.listeners[index];
    let former = former.listener(&listener.name);
    let known = former
        .map(ListenerEntry::routes_by_name)
        .unwrap_or_default();
    let mut table = Vec::new();
    let mut entries = Vec::new();
    for (number, (route, limit)) in config.routes.iter().zip(shared.limit_of).enumerate() {
        if route.listeners.contains(&index) {
            let known = known.get(route.name.as_str()).copied();
            let entry = Arc::new(RouteEntry {
                name: route.name.clone(),
                access: entrance::of_route(config, route, shared.access, known),
                action: action(config, &route.action),
                limit: *limit,
                bandwidth: shared.bandwidth.of_route(index, number),
                max_body: route.max_body,
                hsts: route.hsts.as_ref().map(hsts),
                stats: known.map_or_else(new_shards(workers), |it| Arc::clone(&it.stats)),
            });
            table.push((conditions(route), Arc::clone(&entry)));
            entries.push(entry);
        }
    }
    Ok(ListenerEntry {
        name: listener.name.clone(),
        closed: false,
        timeouts: listener.timeouts,
        tls,
        access: shared.access.get(&sources(&listener.access)),
        connection_rate: shared.rate_of[index],
        bandwidth: shared.bandwidth.of_listener(index),
        proxy_protocol: listener.proxy_protocol,
        http2: listener.http2,
        per_address: listener
            .max_connections_per_ip
            .map(|max| Arc::new(per_address(max, former))),
        min_body_rate: listener.min_body_rate,
        normalize_path: listener.normalize_path,
        is_tcp: listener.mode == model::Mode::Tcp,
        upstream: listener.upstream,
        names: names(listener),
        udp: (listener.mode == model::Mode::Udp).then(|| udp::settings(listener, former)),
        routes: RouteTable::build(table)?,
        entries,
        unrouted: former.map_or_else(new_shards(workers), |it| Arc::clone(&it.unrouted)),
        stats: former.map_or_else(new_shards(workers), |it| Arc::clone(&it.stats)),
        bytes: former.map_or_else(new_shards(workers), |it| Arc::clone(&it.bytes)),
    })
}

fn new_shards<T: Default>(workers: usize) -> impl FnOnce() -> Arc<Sharded<T>> {
    move || Arc::new(Sharded::new(workers))
}

fn per_address(max: NonZeroU32, former: Option<&ListenerEntry>) -> PerAddress {
    let former = former.and_then(|it| it.per_address.as_ref());
    former.map_or_else(|| PerAddress::new(max), |it| it.with_max(max))
}

fn conditions(route: &model::Route) -> RouteSpec {
    let path = |path: &PathPattern| match path {
        PathPattern::Exact(path) => route::Path::Exact(normal(path)),
        PathPattern::Prefix(prefix) => {
            route::Path::Prefix(normal(prefix).trim_end_matches('/').to_owned())
        }
        PathPattern::Template(template) => route::Path::Template(normal(template)),
    };
    RouteSpec {
        hosts: route.hosts.iter().map(host).collect(),
        paths: route.paths.iter().map(path).collect(),
        methods: route.methods.clone(),
        headers: route.headers.clone(),
    }
}

fn host(host: &HostPattern) -> route::Host {
    match host {
        HostPattern::Exact(name) => route::Host::Exact(name.clone()),
        HostPattern::Wildcard(suffix) => route::Host::Wildcard(suffix.clone()),
    }
}

/// The TLS connections that a listener passes through.
fn names(listener: &model::Listener) -> Option<Names> {
    let hosts = listener
        .sni
        .iter()
        .map(|(pattern, to)| (host(pattern), *to));
    let has_any = !listener.sni.is_empty() || !listener.alpn.is_empty();
    has_any.then(|| Names::new(listener.alpn.iter().cloned(), hosts))
}

/// A path as routes see those of requests. What has no such form fits no request.
fn normal(path: &str) -> String {
    route::normal_path(path).map_or_else(|_| path.to_owned(), |normal| normal.path.into_owned())
}

fn action(config: &Config, action: &model::Action) -> Action {
    match action {
        model::Action::Forward(it) => Action::Forward(forward::forward(config, it)),
        model::Action::Redirect { status, to } => Action::Redirect {
            status: *status,
            to: to.clone(),
        },
        model::Action::Respond { status, body } => Action::Respond {
            status: *status,
            body: Bytes::from(body.clone()),
        },
    }
}

/// The value of Strict-Transport-Security (RFC 6797, section 6.1).
fn hsts(hsts: &model::Hsts) -> HeaderValue {
    let mut value = format!("max-age={}", hsts.max_age.as_secs());
    if hsts.include_subdomains {
        value += "; includeSubDomains";
    }
    if hsts.preload {
        value += "; preload";
    }
    HeaderValue::try_from(value).expect("all of it is text")
}

/// Makes the limits, and tells for each route which of them it is under.
fn limits_of_routes(
    config: &Config,
    former: &Former<'_>,
    limits: &mut Vec<LimitEntry>,
) -> Vec<Option<usize>> {
    let mut push = |name: &str, it: &model::RateLimit| {
        limits.push(limit(name, it, config, former));
        limits.len() - 1
    };
    let global = config.rate_limit.as_ref().map(|it| push("global", it));
    let of_route = config.routes.iter().map(|route| match &route.rate_limit {
        RouteLimit::Inherit => global,
        RouteLimit::Off => None,
        RouteLimit::Own(it) => Some(push(&format!("route:{}", route.name), it)),
    });
    of_route.collect()
}

fn limit(name: &str, limit: &model::RateLimit, config: &Config, former: &Former<'_>) -> LimitEntry {
    let quota = Quota {
        algorithm: match limit.algorithm {
            model::Algorithm::FixedWindow => Algorithm::FixedWindow,
            model::Algorithm::SlidingWindow => Algorithm::SlidingWindow,
            model::Algorithm::TokenBucket => Algorithm::TokenBucket,
        },
        requests: limit.requests,
        window: limit.window,
        burst: limit.burst,
    };
    let on_failure = match limit.on_store_failure {
        model::OnStoreFailure::Local => OnStoreFailure::Local,
        model::OnStoreFailure::Allow => OnStoreFailure::Allow,
        model::OnStoreFailure::Deny => OnStoreFailure::Deny,
    };
    let store = match limit.store {
        model::Store::Memory => Store::Memory,
        model::Store::Cluster => Store::Cluster,
        model::Store::Redis => Store::Redis { on_failure },
        model::Store::RedisLeased => Store::RedisLeased {
            on_failure,
            lease: limit.lease.get(),
        },
    };
    let named = || config.cluster.as_ref().map(model::Cluster::nodes);
    let nodes = former.fleet_size().or_else(named).unwrap_or(1);
    let (counts, former) = former.limit(name, &quota, store, &limit.key);
    let new = || {
        Arc::new(LimiterShared::among(
            nodes,
            name,
            quota,
            store,
            Instant::now(),
        ))
    };
    LimitEntry {
        shared: counts.unwrap_or_else(new),
        key: limit.key.clone(),
        always: limit.headers == model::LimitHeaders::Always,
        stats: former.map_or_else(new_shards(config.workers.get()), |it| Arc::clone(&it.stats)),
    }
}

fn settings(upstream: &model::Upstream, tls: Option<Arc<ClientTls>>) -> Settings {
    Settings {
        strategy: match upstream.strategy {
            StrategyKind::RoundRobin => Kind::RoundRobin,
            StrategyKind::Random => Kind::Random,
            StrategyKind::LeastConnections => Kind::LeastConnections,
            StrategyKind::PowerOfTwo => Kind::PowerOfTwo,
            StrategyKind::PeakEwma => Kind::PeakEwma,
            StrategyKind::ConsistentHash => Kind::ConsistentHash,
        },
        health: upstream
            .health_check
            .as_ref()
            .map(health_check::health_check),
        health_port: upstream.health_check.as_ref().and_then(|check| check.port),
        protocol: match upstream.protocol {
            model::Protocol::Http1 => Protocol::Http1,
            model::Protocol::Http2 => Protocol::Http2,
            model::Protocol::Auto => Protocol::Auto,
        },
        tls,
        tcp: tcp_options(&upstream.tcp),
        bandwidth: bandwidth::of_servers(upstream),
        announces: upstream.proxy_protocol.map(|version| match version {
            model::ProxyVersion::V1 => Announces::V1,
            model::ProxyVersion::V2 => Announces::V2,
        }),
        connect: upstream.timeouts.connect,
        response: upstream.timeouts.response,
        idle: upstream.timeouts.idle,
        pool_idle: upstream.timeouts.pool_idle,
        protection: protection::protection(upstream),
    }
}
