//! What a look at allow and deny lists costs, by how many networks they name and where those are. Run with
//! `cargo bench --bench access`.
//!
//! Addresses come in no order, half of them out of a network of the list. A processor that looks ahead waits for several
//! of them at once, which it cannot in the proxy: with `chained` each address depends on the answer before.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use divan::Bencher;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use loadbalancer::access::Table;

const COUNTS: [usize; 3] = [10, 1_000, 100_000];
/// The first 16 bits of networks that are given out.
const REGISTRIES: [u16; 7] = [0x2001, 0x2400, 0x2600, 0x2804, 0x2a00, 0x2a02, 0x2a0e];
const ADDRESSES: usize = 1 << 14;

fn main() {
    for (name, networks) in [("IPv4", spread as fn(usize) -> _), ("IPv6", v6)] {
        let size = Table::new([], networks(100_000), true).size();
        println!("100,000 networks of {name}: {} KiB", size / 1024);
    }
    divan::main();
}

/// One of these, any.
fn one_of<T: Copy>(rng: &mut fastrand::Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

/// Networks of IPv4 from everywhere, as lists of attackers have them.
fn spread(count: usize) -> Vec<IpNet> {
    let mut rng = fastrand::Rng::with_seed(1);
    let nets = (0..count).map(|_| {
        let length = one_of(&mut rng, &[16, 20, 22, 24, 24, 24, 32, 32]);
        Ipv4Net::new(Ipv4Addr::from_bits(rng.u32(..)), length)
            .expect("a length of IPv4")
            .trunc()
            .into()
    });
    nets.collect()
}

/// Single addresses of 10.0.0.0/8.
fn crowded(count: usize) -> Vec<IpNet> {
    let mut rng = fastrand::Rng::with_seed(2);
    let addresses = (0..count).map(|_| 10 << 24 | rng.u32(..1 << 24));
    let nets = addresses.map(|it| IpAddr::V4(Ipv4Addr::from_bits(it)).into());
    nets.collect()
}

/// Networks of IPv6 among those that are given out.
fn v6(count: usize) -> Vec<IpNet> {
    let mut rng = fastrand::Rng::with_seed(3);
    let nets = (0..count).map(|_| {
        let registry = u128::from(one_of(&mut rng, &REGISTRIES));
        let bits = registry << 112 | rng.u128(..1 << 112);
        let length = one_of(&mut rng, &[32, 40, 48, 48, 56, 64]);
        Ipv6Net::new(Ipv6Addr::from_bits(bits), length)
            .expect("a length of IPv6")
            .trunc()
            .into()
    });
    nets.collect()
}

#[divan::bench(args = COUNTS, sample_size = 10_000)]
fn ipv4(bencher: Bencher<'_, '_>, count: usize) {
    independent(bencher, spread(count));
}

#[divan::bench(args = COUNTS, sample_size = 10_000)]
fn ipv4_crowded(bencher: Bencher<'_, '_>, count: usize) {
    independent(bencher, crowded(count));
}

#[divan::bench(args = COUNTS, sample_size = 10_000)]
fn ipv6(bencher: Bencher<'_, '_>, count: usize) {
    independent(bencher, v6(count));
}

#[divan::bench(args = COUNTS, sample_size = 10_000)]
fn ipv4_chained(bencher: Bencher<'_, '_>, count: usize) {
    chained(bencher, spread(count));
}

#[divan::bench(args = COUNTS, sample_size = 10_000)]
fn ipv6_chained(bencher: Bencher<'_, '_>, count: usize) {
    chained(bencher, v6(count));
}

/// Addresses of which every other one is in a network.
fn addresses(networks: &[IpNet]) -> Vec<IpAddr> {
    let mut rng = fastrand::Rng::with_seed(4);
    let addresses = (0..ADDRESSES).map(|number| {
        let network = networks[rng.usize(..networks.len())];
        match network {
            _ if number % 2 == 0 => network.addr(),
            IpNet::V4(_) => Ipv4Addr::from_bits(rng.u32(..)).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(0x2 << 124 | rng.u128(..1 << 124)).into(),
        }
    });
    addresses.collect()
}

fn independent(bencher: Bencher<'_, '_>, networks: Vec<IpNet>) {
    let addresses = addresses(&networks);
    let table = Table::new([], networks, true);
    let mut next = addresses.iter().cycle();
    bencher.bench_local(|| table.allows(black_box(*next.next().expect("it goes on for ever"))));
}

fn chained(bencher: Bencher<'_, '_>, networks: Vec<IpNet>) {
    let addresses = addresses(&networks);
    let table = Table::new([], networks, true);
    let mut number = 0;
    bencher.bench_local(|| {
        let allowed = table.allows(addresses[number % ADDRESSES]);
        number = black_box(number + 1 + usize::from(allowed));
        allowed
    });
}
