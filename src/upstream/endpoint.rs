//! One server of an upstream: what all threads share about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use super::conduct::{Conduct, Met};
use super::latency::PeakEwma;
use super::load::InFlightCount;
use super::queue::Queue;
use super::sockets::Sockets;
use super::standing::Standing;
use crate::config::types::ServerAddress;
use crate::health;
use crate::metrics::{Counter, Durations, Outcomes, Sharded};
use crate::net::bandwidth::Lines;
use crate::net::stream::ByteStats;

/// So many connection failures there are never: nobody is told.
const NEVER: u32 = u32::MAX;

/// Who put a server into its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file. At start it is used until its first probe has failed, since there is no better knowledge.
    Config,
    /// The admin API. It is used only after its first probe has succeeded.
    Admin,
}

/// What happened to the requests that were sent to a server.
#[derive(Debug, Default)]
pub struct EndpointStats {
    /// By status class, `none` for those that got no answer, and the time to the end of the answer.
    pub outcomes: Outcomes,
    /// Connections opened.
    pub connects: Counter,
    /// How long opening them took.
    pub connect_times: Durations,
    /// Connections that could not be opened.
    pub connect_failures: Counter,
    /// What says how the server behaves.
    pub met: Met,
}

/// One server of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    id: String,
    address: ServerAddress,
    host: HeaderValue,
    identity: u64,
    configured: AtomicBool,
    /// Whether it is used while nothing is known of its health.
    trusted: AtomicBool,
    /// Consecutive connection failures after which the health checks are told.
    fall: AtomicU32,
    weight: AtomicU32,
    draining: AtomicBool,
    gone: AtomicBool,
    health: AtomicU8,
    resolved: ArcSwap<Vec<SocketAddr>>,
    load: InFlightCount,
    sockets: Sockets,
    latency: PeakEwma,
    conduct: Conduct,
    standing: Standing,
    connect_failures: AtomicU32,
    trouble: Notify,
    /// Requests, by worker.
    pub stats: Sharded<EndpointStats>,
    /// Bytes on the wire, by worker.
    pub bytes: Arc<Sharded<ByteStats>>,
    /// Where its connections wait for their turn, if there is a limit of bytes a second.
    pub lines: Arc<Lines>,
}

/// What an endpoint is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Where it listens.
    pub address: ServerAddress,
    /// 0 to 256.
    pub weight: u32,
    /// Who put it there.
    pub origin: Origin,
    /// Whether it starts out draining.
    pub draining: bool,
}

impl Endpoint {
    /// A server of the upstream named `upstream`. `fall` is the health check's, `None` without one. Requests wait for it
    /// in `queue`; failures in a row are told by `alarm`.
    pub(super) fn new(
        upstream: &str,
        spec: Spec,
        fall: Option<u32>,
        workers: usize,
        queue: Arc<Queue>,
        alarm: Arc<Notify>,
    ) -> Self {
        let address = spec.address.to_string();
        let resolved = match spec.address {
            ServerAddress::Ip(ip) => vec![ip],
            ServerAddress::Name { .. } => Vec::new(),
        };
        Self {
            id: format!("{upstream}@{address}"),
            host: HeaderValue::try_from(&address).expect("a server address is a valid field value"),
            identity: xxh3_64(address.as_bytes()),
            address: spec.address,
            configured: AtomicBool::new(spec.origin == Origin::Config),
            trusted: AtomicBool::new(fall.is_none() || spec.origin == Origin::Config),
            fall: AtomicU32::new(fall.unwrap_or(NEVER)),
            weight: AtomicU32::new(spec.weight),
            draining: AtomicBool::new(spec.draining),
            gone: AtomicBool::new(false),
            health: AtomicU8::new(health::State::Unknown as u8),
            resolved: ArcSwap::from_pointee(resolved),
            load: InFlightCount::new(queue),
            sockets: Sockets::default(),
            latency: PeakEwma::new(Instant::now()),
            conduct: Conduct::new(alarm),
            standing: Standing::default(),
            connect_failures: AtomicU32::new(0),
            trouble: Notify::new(),
            stats: Sharded::new(workers),
            bytes: Arc::new(Sharded::new(workers)),
            lines: Arc::default(),
        }
    }

    /// Its name in the admin API: `upstream@address`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens, as configured.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The Host that requests carry when the client's is not preserved.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// A hash of its address, the same in every process.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Who put it there.
    pub fn origin(&self) -> Origin {
        match self.configured.load(Relaxed) {
            true => Origin::Config,
            false => Origin::Admin,
        }
    }

    /// Takes over what a new configuration says of it.
    pub(super) fn follow(&self, spec: &Spec) {
        self.configured
            .store(spec.origin == Origin::Config, Relaxed);
        self.set_weight(spec.weight);
        self.set_draining(spec.draining);
    }

    /// Whether it is used while nothing is known of its health.
    pub(super) fn set_trusted(&self, trusted: bool) {
        self.trusted.store(trusted, Relaxed);
    }

    /// Whether its health is checked.
    pub(super) fn is_checked(&self) -> bool {
        self.fall.load(Relaxed) != NEVER
    }

    /// Its health checks are others from now on, or there are none any more. What they have found out stays.
    pub(super) fn set_fall(&self, fall: Option<u32>) {
        self.fall.store(fall.unwrap_or(NEVER), Relaxed);
        if fall.is_none() {
            self.set_trusted(true);
            self.set_health(health::State::Unknown);
        }
    }

    /// Its share relative to others; 0 gets no new requests.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether it finishes what it has and gets nothing new.
    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    /// Whether it was removed from its upstream.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// It was removed from its upstream: it finishes what it has.
    pub(super) fn leave(&self) {
        self.gone.store(true, Relaxed);
        self.set_draining(true);
    }

    /// What its probes say.
    pub fn health(&self) -> health::State {
        match self.health.load(Relaxed) {
            state if state == health::State::Up as u8 => health::State::Up,
            state if state == health::State::Down as u8 => health::State::Down,
            _ => health::State::Unknown,
        }
    }

    pub(super) fn set_health(&self, state: health::State) {
        // Failures from before a change say nothing about the time after it.
        self.connect_failures.store(0, Relaxed);
        self.conduct.forgive();
        self.health.store(state as u8, Relaxed);
    }

    /// Whether it is meant to get requests, if it can take them.
    pub(super) fn is_wanted(&self) -> bool {
        !self.draining() && self.weight() > 0
    }

    /// Whether it can take requests, as far as its probes say.
    pub(super) fn is_fit(&self) -> bool {
        let healthy = match self.health() {
            health::State::Up => true,
            health::State::Down => false,
            health::State::Unknown => self.trusted.load(Relaxed),
        };
        healthy && self.is_wanted()
    }

    /// Whether new requests may be sent to it.
    pub fn eligible(&self) -> bool {
        self.is_fit() && !self.standing.is_left_out()
    }

    /// Its IP addresses; none while its name is not resolved.
    pub fn resolved(&self) -> Arc<Vec<SocketAddr>> {
        self.resolved.load_full()
    }

    pub(super) fn set_resolved(&self, addresses: Vec<SocketAddr>) {
        self.resolved.store(Arc::new(addresses));
    }

    /// Requests in flight, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.load.get()
    }

    /// Requests in flight, and how many there may be.
    pub fn load(&self) -> &InFlightCount {
        &self.load
    }

    /// Connections, and how many there may be.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Whether it is ejected, or has just come.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What live traffic says of it.
    pub(super) fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    /// Its recent latency.
    pub fn latency(&self) -> &PeakEwma {
        &self.latency
    }

    /// Live traffic could not connect; after `fall` times in a row the health checks hear of it.
    pub(super) fn connect_failed(&self) {
        if self.connect_failures.fetch_add(1, Relaxed) + 1 >= self.fall.load(Relaxed) {
            self.trouble.notify_one();
        }
    }

    /// Live traffic could connect, or has got an answer.
    pub(super) fn connect_succeeded(&self) {
        // Mostly it is 0, and a store would take the cache line from the other workers.
        if self.connect_failures.load(Relaxed) != 0 {
            self.connect_failures.store(0, Relaxed);
        }
    }

    /// A worker has got an answer's headers after `latency`.
    pub fn answered(&self, worker: usize, status: u16, latency: Duration, now: Instant) {
        self.connect_succeeded();
        self.latency.observe(latency, now);
        let met = &self.stats.shard(worker).met;
        self.conduct.answered(met, status, latency);
    }

    /// A worker has got no answer, and that is the server's fault.
    pub fn failed(&self, worker: usize) {
        self.conduct.failed(&self.stats.shard(worker).met);
    }

    /// Resolves when live traffic failed to connect `fall` times in a row.
    pub(super) async fn trouble(&self) {
        while self.connect_failures.load(Relaxed) < self.fall.load(Relaxed) {
            self.trouble.notified().await;
        }
    }
}
