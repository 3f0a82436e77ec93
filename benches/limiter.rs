//! What counting a request costs in the in-memory store, for each algorithm and number of keys. Run with
//! `cargo bench --bench limiter`.
//!
//! The time is given, one microsecond later for each request. With a million keys, in no order, the key's cell is hardly
//! ever in the processor's caches; a processor that looks ahead waits for several of them at once, which it cannot in
//! the proxy. Cells lie in memory as the program's allocator has them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use divan::Bencher;
use loadbalancer::limit::memory::DEFAULT_MAX_KEYS;
use loadbalancer::limit::{Algorithm, LimitKey, MemoryStore, Quota};

#[global_allocator]
static ALLOCATOR: loadbalancer::server::Allocator = loadbalancer::server::Allocator;

const KEYS: [u32; 2] = [1, 1_000_000];
const BETWEEN_REQUESTS: Duration = Duration::from_micros(1);
const WINDOW: Duration = Duration::from_secs(3600);

/// More than any run can use up: what is over the quota is cheaper, and has figures of its own.
const PLENTY: NonZeroU32 = NonZeroU32::MAX;

fn main() {
    divan::main();
}

mod allowed {
    use super::*;

    #[divan::bench(args = KEYS, sample_size = 1000)]
    fn fixed_window(bencher: Bencher<'_, '_>, keys: u32) {
        bench(bencher, Algorithm::FixedWindow, keys, PLENTY);
    }

    #[divan::bench(args = KEYS, sample_size = 1000)]
    fn sliding_window(bencher: Bencher<'_, '_>, keys: u32) {
        bench(bencher, Algorithm::SlidingWindow, keys, PLENTY);
    }

    #[divan::bench(args = KEYS, sample_size = 1000)]
    fn token_bucket(bencher: Bencher<'_, '_>, keys: u32) {
        bench(bencher, Algorithm::TokenBucket, keys, PLENTY);
    }
}

mod denied {
    use super::*;

    #[divan::bench(args = KEYS, sample_size = 1000)]
    fn fixed_window(bencher: Bencher<'_, '_>, keys: u32) {
        bench(bencher, Algorithm::FixedWindow, keys, NonZeroU32::MIN);
    }

    #[divan::bench(args = KEYS, sample_size = 1000)]
    fn sliding_window(bencher: Bencher<'_, '_>, keys: u32) {
        bench(bencher, Algorithm::SlidingWindow, keys, NonZeroU32::MIN);
    }

    #[divan::bench(args = KEYS, sample_size = 1000)]
    fn token_bucket(bencher: Bencher<'_, '_>, keys: u32) {
        bench(bencher, Algorithm::TokenBucket, keys, NonZeroU32::MIN);
    }
}

/// Measures requests of `keys` clients, each of which has sent one before.
fn bench(bencher: Bencher<'_, '_>, algorithm: Algorithm, keys: u32, requests: NonZeroU32) {
    let quota = Quota {
        algorithm,
        requests,
        window: WINDOW,
        burst: requests,
    };
    let start = Instant::now();
    let store = MemoryStore::new(&quota, DEFAULT_MAX_KEYS, start);
    for number in 0..keys {
        assert!(store.check(&key(number), start).is_allowed());
    }
    assert_eq!(store.len(), keys as usize, "each key has a cell of its own");

    let mut rng = fastrand::Rng::with_seed(1);
    let mut now = start;
    bencher
        .with_inputs(|| {
            now += BETWEEN_REQUESTS;
            (key(rng.u32(..keys)), now)
        })
        .bench_local_values(|(key, now)| store.check(black_box(&key), black_box(now)));

    let last = store.check(&key(0), now);
    assert_eq!(last.is_allowed(), requests == PLENTY);
}

/// The key of a client, by its address.
fn key(number: u32) -> LimitKey {
    let address = Ipv4Addr::new(10, 0, 0, 0).to_bits() + number;
    LimitKey::address(IpAddr::V4(Ipv4Addr::from_bits(address)))
}
