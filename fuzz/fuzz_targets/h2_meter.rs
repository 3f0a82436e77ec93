//! The meter of HTTP/2 frames: cuts change nothing.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use loadbalancer::message::h2::{Fault, Limits, Meter};
use loadbalancer::net::clock;

/// Small, so that short inputs reach them.
const LIMITS: Limits = Limits {
    window: Duration::from_secs(10),
    resets: 6,
    streams_for_ratio: 3,
    settings: 1,
    pings: 2,
    empty_data: 3,
    window_updates: 4,
    priorities: 5,
    headers: 8,
    others: 7,
    continuations: 3,
    header_block: 1000,
};

fuzz_target!(|input: &[u8]| {
    let whole = verdict(std::iter::once(input));
    assert_eq!(verdict(input.chunks(1)), whole);
    assert_eq!(verdict(input.chunks(7)), whole);
});

fn verdict<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), Fault> {
    let mut meter = Meter::new(LIMITS);
    let now = clock::now();
    pieces.try_for_each(|piece| meter.observe(piece, now))
}
