//! What one pick costs, for each strategy and number of servers. Run with `cargo bench --bench pick`.
//!
//! Servers are as in the proxy: shared, each with its own counters, and spread over memory.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use divan::Bencher;
use loadbalancer::balance::{Balancer, Candidate, Kind, Load, Member, Pick, Strategy};

const SERVERS: [usize; 3] = [2, 100, 10_000];

fn main() {
    divan::main();
}

#[divan::bench(args = SERVERS)]
fn round_robin(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::RoundRobin, servers, |_| 1);
}

#[divan::bench(args = SERVERS)]
fn round_robin_weighted(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::RoundRobin, servers, varied);
}

/// The ticket that all workers share: what it costs when they all take theirs at once.
#[divan::bench(threads = [1, 2, 4])]
fn round_robin_contended(bencher: Bencher<'_, '_>) {
    let balancer = Balancer::build(Kind::RoundRobin, &members(100, varied), None);
    let mut rng = fastrand::Rng::with_seed(1);
    let set: Vec<Server> = (0..100).map(|_| Server::new(&mut rng)).collect();
    let now = Instant::now();
    bencher
        .with_inputs(|| fastrand::Rng::with_seed(1))
        .bench_refs(|rng| {
            balancer.pick(
                &set,
                &mut Pick {
                    rng,
                    now,
                    hash: 0,
                    retry: false,
                },
            )
        });
}

#[divan::bench(args = SERVERS)]
fn random(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::Random, servers, varied);
}

#[divan::bench(args = SERVERS)]
fn least_connections(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::LeastConnections, servers, varied);
}

#[divan::bench(args = SERVERS)]
fn power_of_two(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::PowerOfTwo, servers, varied);
}

#[divan::bench(args = SERVERS)]
fn peak_ewma(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::PeakEwma, servers, varied);
}

#[divan::bench(args = SERVERS)]
fn consistent_hash(bencher: Bencher<'_, '_>, servers: usize) {
    bench(bencher, Kind::ConsistentHash, servers, varied);
}

/// What a change of the set costs: the table of `consistent_hash` is by far the dearest.
#[divan::bench(args = SERVERS, sample_count = 10)]
fn build_consistent_hash(servers: usize) -> Balancer {
    Balancer::build(Kind::ConsistentHash, &members(servers, varied), None)
}

#[divan::bench(args = SERVERS, sample_count = 10)]
fn build_round_robin(servers: usize) -> Balancer {
    Balancer::build(Kind::RoundRobin, &members(servers, varied), None)
}

/// Weights from 1 to 256 without a pattern.
fn varied(server: usize) -> u32 {
    1 + (server as u32).wrapping_mul(0x9e37_79b9) % 256
}

fn members(servers: usize, weight: fn(usize) -> u32) -> Vec<Member> {
    (0..servers)
        .map(|server| Member {
            identity: fastrand::Rng::with_seed(server as u64).u64(..),
            weight: weight(server),
        })
        .collect()
}

fn bench(bencher: Bencher<'_, '_>, kind: Kind, servers: usize, weight: fn(usize) -> u32) {
    let mut rng = fastrand::Rng::with_seed(1);
    let balancer = Balancer::build(kind, &members(servers, weight), None);
    let mut set: Vec<Server> = (0..servers).map(|_| Server::new(&mut rng)).collect();
    rng.shuffle(&mut set);
    let now = Instant::now();
    bencher.bench_local(|| {
        let hash = rng.u64(..);
        let rng = &mut rng;
        balancer.pick(
            black_box(&set),
            &mut Pick {
                rng,
                now,
                hash,
                retry: false,
            },
        )
    });
}

struct Server(Arc<State>);

struct State {
    available: AtomicBool,
    in_flight: AtomicU64,
    latency: AtomicU64,
    _rest: [u64; 32],
}

impl Server {
    fn new(rng: &mut fastrand::Rng) -> Self {
        Self(Arc::new(State {
            available: AtomicBool::new(true),
            in_flight: AtomicU64::new(rng.u64(..20)),
            latency: AtomicU64::new(rng.u64(100_000..10_000_000)),
            _rest: [0; 32],
        }))
    }
}

impl Candidate for Server {
    fn load(&self, measure: Load, _now: Instant) -> u64 {
        let in_flight = self.0.in_flight.load(Ordering::Relaxed);
        match measure {
            Load::InFlight => in_flight,
            Load::PeakEwma => self.0.latency.load(Ordering::Relaxed) * (in_flight + 1),
        }
    }

    fn available(&self) -> bool {
        self.0.available.load(Ordering::Relaxed)
    }
}
