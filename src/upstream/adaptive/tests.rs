//! Limits before simulated servers.

use super::simulation::{Server, Service, Simulation};
use super::*;

fn ten_ms(_: &mut fastrand::Rng) -> f64 {
    0.010
}

fn twenty_ms(_: &mut fastrand::Rng) -> f64 {
    0.020
}

/// Most answers come at once, one in five takes half a second.
fn mixed(rng: &mut fastrand::Rng) -> f64 {
    if rng.f64() < 0.2 { 0.5 } else { 0.001 }
}

fn half_a_second(_: &mut fastrand::Rng) -> f64 {
    0.5
}

fn long_poll(rng: &mut fastrand::Rng) -> f64 {
    1.0 + 29.0 * rng.f64()
}

fn quarter(_: &mut fastrand::Rng) -> f64 {
    0.25
}

fn up_to_a_second(rng: &mut fastrand::Rng) -> f64 {
    rng.f64()
}

fn long_tail(rng: &mut fastrand::Rng) -> f64 {
    -0.5 * (1.0 - rng.f64()).ln()
}

fn short_tail(rng: &mut fastrand::Rng) -> f64 {
    -0.04 * (1.0 - rng.f64()).ln()
}

fn around_ten_ms(rng: &mut fastrand::Rng) -> f64 {
    0.005 + 0.010 * rng.f64()
}

fn simulation(slots: usize, service: Service, rate: f64) -> Simulation {
    Simulation::new(Server { slots, service }, rate, Settings::default())
}

#[test]
fn a_server_with_room_is_not_limited() {
    let mut simulation = simulation(16, ten_ms, 800.0);
    let outcome = simulation.run(60.0);
    assert_eq!((outcome.refused, outcome.lowest), (0, 512));
}

#[test]
fn an_overloaded_server_does_what_it_can_and_keeps_nobody_waiting() {
    for (slots, service) in [
        (4, ten_ms as Service),
        (16, ten_ms),
        (16, around_ten_ms),
        (100, around_ten_ms),
    ] {
        let possible = slots as f64 / 0.010;
        let mut simulation = simulation(slots, service, possible / 2.0);
        simulation.run(20.0);
        simulation.rate = 3.0 * possible;
        simulation.run(30.0); // until 512 requests have left a server of 400 a second a few times
        let outcome = simulation.run(30.0);
        assert!(
            outcome.answered as f64 > 0.9 * 30.0 * possible,
            "{slots}: {outcome:?}"
        );
        assert!(outcome.slowest < 0.060, "{slots}: {outcome:?}");
    }
}

#[test]
fn a_server_that_loses_half_of_its_capacity_goes_on_with_the_other_half() {
    let mut simulation = simulation(16, ten_ms, 1500.0);
    simulation.run(30.0);
    simulation.server.slots = 8;
    let outcome = simulation.run(30.0); // from the first moment on
    let capacity = 30.0 * 8.0 / 0.010;
    assert!(outcome.answered as f64 > 0.9 * capacity, "{outcome:?}");
    let outcome = simulation.run(30.0);
    assert!(outcome.answered as f64 > 0.9 * capacity, "{outcome:?}");
    assert!(outcome.slowest < 0.060, "{outcome:?}");
    simulation.server.slots = 16;
    simulation.run(10.0);
    let outcome = simulation.run(20.0);
    assert!(
        outcome.answered as f64 > 0.98 * 20.0 * 1500.0,
        "{outcome:?}"
    );
}

#[test]
fn a_service_that_became_slower_for_good_is_accepted() {
    let mut simulation = simulation(16, ten_ms, 1500.0);
    simulation.run(30.0);
    simulation.server.service = twenty_ms; // 800 a second
    simulation.run(15.0);
    let outcome = simulation.run(60.0);
    let capacity = 60.0 * 16.0 / 0.020;
    assert!(outcome.answered as f64 > 0.9 * capacity, "{outcome:?}");
    assert!(outcome.slowest < 0.2, "{outcome:?}");
}

#[test]
fn mixed_latencies_do_not_shrink_the_limit() {
    let mut simulation = simulation(1000, mixed, 4000.0); // 400 in flight, near the limit
    let outcome = simulation.run(60.0);
    assert_eq!(outcome.refused, 0, "{outcome:?}");
    assert!(outcome.lowest >= 512, "{outcome:?}");
}

#[test]
fn requests_that_are_all_slow_for_a_while_are_not_refused_for_it() {
    let mut simulation = simulation(2000, mixed, 900.0);
    simulation.run(30.0);
    simulation.server.service = half_a_second; // 450 in flight
    let outcome = simulation.run(60.0);
    assert!(outcome.refused < 60 * 900 / 100, "{outcome:?}");
    let outcome = simulation.run(60.0);
    assert_eq!(outcome.refused, 0, "{outcome:?}");
}

#[test]
fn long_polling_grows_over_the_initial_limit() {
    let mut simulation = simulation(100_000, long_poll, 30.0);
    simulation.run(120.0);
    simulation.rate = 100.0; // 1550 in flight
    simulation.run(120.0);
    let outcome = simulation.run(120.0);
    assert_eq!(outcome.refused, 0, "{outcome:?}");
}

#[test]
fn a_limit_that_went_down_comes_back_when_the_load_is_gone() {
    let mut simulation = simulation(16, ten_ms, 800.0);
    simulation.run(10.0);
    simulation.rate = 4800.0;
    simulation.run(20.0);
    assert!(
        simulation.limit.limit() < 64,
        "{}",
        simulation.limit.limit()
    );
    simulation.rate = 100.0;
    simulation.run(20.0);
    assert_eq!(simulation.limit.limit(), 512);
}

#[test]
fn it_stays_between_its_bounds() {
    let settings = Settings {
        min: 8,
        initial: 16,
        max: 32,
    };
    let mut limit = Adaptive::new(&settings);
    let mut look = |millis: u64, in_flight: u32| {
        let sample = Sample {
            elapsed: Duration::from_millis(200),
            answers: 100,
            fastest: Some(Duration::from_millis(millis)),
            in_flight,
            waiting: true,
        };
        limit.update(sample, &settings)
    };
    assert!((0..50).all(|_| (16..=32).contains(&look(10, 16))));
    assert_eq!(look(10, 32), 32);
    let mut millis = 10;
    for _ in 0..50 {
        millis += 10; // slower each time, however few there are
        assert!((8..=32).contains(&look(millis, 8)));
    }
}

#[test]
fn a_server_that_cannot_do_what_it_did_is_relieved_within_two_seconds() {
    for seed in 1..=20 {
        let mut simulation = simulation(8, twenty_ms, 300.0).with_seed(seed);
        simulation.run(5.0);
        simulation.server.slots = 4; // 200 a second
        simulation.run(2.0);
        for second in 2..20 {
            let outcome = simulation.run(1.0);
            assert!(outcome.useful >= 190, "{seed}, {second}: {outcome:?}");
            assert!(outcome.slowest < 0.5, "{seed}, {second}: {outcome:?}");
        }
        simulation.server.slots = 8;
        simulation.run(5.0);
        let outcome = simulation.run(20.0);
        assert_eq!(outcome.refused, 0, "{seed}: {outcome:?}");
        assert_eq!(simulation.limit.limit(), 512, "{seed}");
    }
}

#[test]
fn a_burst_that_fills_a_server_at_once_is_over_within_ten_seconds() {
    for seed in 1..=20 {
        let mut simulation = simulation(4, twenty_ms, 100.0).with_seed(seed);
        simulation.run(5.0);
        simulation.rate = 2000.0;
        simulation.run(10.0);
        let outcome = simulation.run(20.0);
        assert!(outcome.useful >= 19 * 200, "{seed}: {outcome:?}");
        assert!(outcome.slowest < 0.5, "{seed}: {outcome:?}");
    }
}

#[test]
fn a_service_that_became_much_slower_with_room_is_not_kept_from_it() {
    let slower: [Service; 3] = [half_a_second, quarter, long_tail];
    for (index, slower) in slower.into_iter().enumerate() {
        for seed in 1..=20 {
            let mut simulation = simulation(2000, ten_ms, 500.0).with_seed(seed);
            simulation.run(10.0);
            simulation.server.service = slower; // about 250 in flight at most
            let outcome = simulation.run(60.0);
            assert_eq!(outcome.refused, 0, "{index}, {seed}: {outcome:?}");
            assert!(simulation.limit.limit() >= 512, "{index}, {seed}");
        }
    }
}

#[test]
fn latencies_of_all_kinds_do_not_pass_for_overload() {
    let kinds: [(Service, f64); 4] = [
        (long_tail, 450.0), // 225 in flight
        (mixed, 2000.0),    // 200
        (up_to_a_second, 450.0),
        (long_poll, 20.0), // 310
    ];
    for (index, (service, rate)) in kinds.into_iter().enumerate() {
        for seed in 1..=5 {
            let mut simulation = simulation(100_000, service, rate).with_seed(seed);
            let outcome = simulation.run(300.0);
            assert_eq!(outcome.refused, 0, "{index}, {seed}: {outcome:?}");
        }
    }
}

#[test]
fn it_is_relieved_too_if_no_two_requests_take_as_long() {
    for seed in 1..=10 {
        let mut simulation = simulation(40, short_tail, 700.0).with_seed(seed);
        simulation.run(5.0);
        simulation.server.slots = 20; // 500 a second
        simulation.run(2.0);
        let outcome = simulation.run(20.0);
        assert!(outcome.useful > 20 * 450, "{seed}: {outcome:?}");
    }
}
