//! Who is ejected, and for how long.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn tally(successes: u64, failures: u64, latency_ms: u64) -> Tally {
    Tally {
        successes,
        failures,
        latency: successes * latency_ms * 1000,
    }
}

fn history(intervals: impl IntoIterator<Item = Tally>) -> History {
    let mut history = History::default();
    intervals
        .into_iter()
        .for_each(|it| history.latest(it, true));
    history
}

fn found(servers: &[History], settings: &Settings) -> Vec<(usize, Reason)> {
    outliers(&servers.iter().collect::<Vec<_>>(), settings)
}

#[test]
fn each_ejection_in_a_row_is_longer_up_to_a_limit() {
    let settings = Settings::default();
    let mut now = Instant::now();
    let mut record = Record::default();
    for length in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
        let ejected = record.eject(Reason::ErrorRatio, now, &settings);
        assert_eq!(ejected.as_secs(), length);
        assert!(!record.tick(now + ejected - SECOND, &settings));
        assert!(record.ejected().is_some());
        now += ejected;
        assert!(record.tick(now, &settings), "it returns");
        assert!(!record.tick(now, &settings), "only once");
        assert_eq!(record.ejected(), None);
    }
}

#[test]
fn quiet_time_makes_ejections_shorter_again() {
    let settings = Settings::default();
    let mut now = Instant::now();
    let mut record = Record::default();
    for _ in 0..3 {
        now += record.eject(Reason::Latency, now, &settings);
        record.tick(now, &settings);
    }
    for _ in 0..2 * settings.base.as_secs() {
        now += SECOND;
        record.tick(now, &settings);
    }
    let length = record.eject(Reason::Latency, now, &settings);
    assert_eq!(length, 2 * settings.base, "two of three are forgotten");
    now += length;
    record.tick(now, &settings);
    for _ in 0..10 * settings.base.as_secs() {
        now += SECOND;
        record.tick(now, &settings);
    }
    assert_eq!(
        record.eject(Reason::Latency, now, &settings),
        settings.base,
        "all are, and no more than all"
    );
}

#[test]
fn no_more_than_a_share_but_always_one_of_two_or_more() {
    let allowed = |servers: usize, max_share| {
        let settings = Settings {
            max_share,
            ..Settings::default()
        };
        (0..=servers)
            .take_while(|&ejected| settings.allows(servers, ejected))
            .count()
    };
    assert_eq!(
        [0, 1, 2, 3, 4, 10].map(|it| allowed(it, 0.5)),
        [0, 0, 1, 1, 2, 5]
    );
    assert_eq!([1, 2, 10].map(|it| allowed(it, 0.1)), [0, 1, 1]);
    assert_eq!([1, 2, 10].map(|it| allowed(it, 1.0)), [0, 2, 10]);
    assert_eq!(allowed(10, 0.0), 1);
}

#[test]
fn too_few_usable_servers_are_a_panic() {
    let settings = Settings::default();
    assert!(settings.panics(4, 1));
    assert!(!settings.panics(4, 2));
    assert!(settings.panics(3, 1));
    assert!(settings.panics(2, 0));
    let never = Settings {
        panic: 0.0,
        ..settings
    };
    assert!(!never.panics(4, 0));
}

#[test]
fn half_of_the_answers_failing_is_seen_within_seconds_after_a_good_time() {
    let settings = Settings::default();
    for per_second in [8, 40, 1000] {
        let good = || history((0..10).map(|_| tally(per_second, 0, 1)));
        let mut servers = [good(), good()];
        let seconds = (1..10).find(|_| {
            servers[0].latest(tally(per_second / 2, per_second / 2, 1), true);
            servers[1].latest(tally(per_second, 0, 1), true);
            found(&servers, &settings) == [(0, Reason::ErrorRatio)]
        });
        assert!(
            seconds.is_some_and(|it| it <= 5),
            "{seconds:?} with {per_second} a second"
        );
    }
}

#[test]
fn few_requests_say_nothing() {
    let servers = [history([tally(0, 19, 0)]), history([tally(1000, 0, 1)])];
    assert_eq!(found(&servers, &Settings::default()), []);
    let servers = [history([tally(10, 10, 0)]), history([])];
    assert_eq!(
        found(&servers, &Settings::default()),
        [(0, Reason::ErrorRatio)]
    );
}

#[test]
fn who_fails_as_others_do_is_no_outlier() {
    let settings = Settings::default();
    let all = [50, 45, 60].map(|failures| history([tally(100 - failures, failures, 1)]));
    assert_eq!(found(&all, &settings), []);
    let off = Settings {
        error_ratio: 1.0,
        ..settings
    };
    let one = [history([tally(0, 100, 1)]), history([tally(100, 0, 1)])];
    assert_eq!(found(&one, &off), []);
}

#[test]
fn a_slow_server_is_an_outlier_if_that_is_asked_for() {
    let servers = [1, 2, 2, 11, 12].map(|ms| history([tally(100, 0, ms)]));
    assert_eq!(found(&servers, &Settings::default()), []);
    let settings = Settings {
        latency_factor: Some(5.0),
        ..Settings::default()
    };
    assert_eq!(
        found(&servers, &settings),
        [(3, Reason::Latency), (4, Reason::Latency)]
    );
    let fast = [100, 900].map(|micros| {
        history([Tally {
            successes: 100,
            failures: 0,
            latency: 100 * micros,
        }])
    });
    assert_eq!(found(&fast, &settings), [], "less than 5 ms are no matter");
    assert_eq!(
        found(&servers[4..], &settings),
        [],
        "alone it is no outlier"
    );
}

#[test]
fn the_median_leaves_its_own_value_out() {
    assert_eq!(median_of_others(&[1.0], 1.0), None);
    assert_eq!(median_of_others(&[1.0, 9.0], 9.0), Some(1.0));
    assert_eq!(median_of_others(&[1.0, 9.0], 1.0), Some(9.0));
    assert_eq!(median_of_others(&[1.0, 2.0, 9.0], 9.0), Some(1.0));
    assert_eq!(median_of_others(&[1.0, 2.0, 3.0, 9.0], 9.0), Some(2.0));
    assert_eq!(median_of_others(&[1.0, 2.0, 3.0, 9.0], 1.0), Some(3.0));
}
