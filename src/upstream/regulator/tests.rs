//! Ejections, slow starts and limits, in paused time.

use std::num::NonZeroU32;

use tokio::time::advance;

use super::*;
use crate::balance::Kind;
use crate::health;
use crate::upstream::endpoint::{Origin, Spec};
use crate::upstream::{Members, Protection, Protocol, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn spec(port: u16) -> Spec {
    Spec {
        address: format!("127.0.0.1:{port}").parse().unwrap(),
        weight: 1,
        origin: Origin::Config,
        draining: false,
    }
}

struct Fixture {
    upstream: Arc<Upstream>,
    regulator: Regulator,
}

impl Fixture {
    /// An upstream with so many servers and no probes.
    fn new(servers: u16, protection: Protection) -> Self {
        let settings = Settings {
            strategy: Kind::RoundRobin,
            health: None,
            health_port: None,
            protocol: Protocol::Http1,
            tls: None,
            announces: None,
            tcp: crate::net::TcpOptions::default(),
            bandwidth: crate::limit::Rates::default(),
            connect: SECOND,
            response: SECOND,
            idle: SECOND,
            pool_idle: SECOND,
            protection,
        };
        let servers = (1..=servers).map(spec).collect();
        Self {
            upstream: Upstream::new("app".to_owned(), settings, servers, 2),
            regulator: Regulator::new(Instant::now()),
        }
    }

    fn server(&self, index: usize) -> Arc<Endpoint> {
        self.upstream.endpoints()[index].clone()
    }

    fn fails(&self, index: usize, times: usize) {
        (0..times).for_each(|time| self.server(index).failed(time % 2));
    }

    fn answers(&self, index: usize, times: usize) {
        let now = std::time::Instant::now();
        (0..times).for_each(|time| self.server(index).answered(time % 2, 200, SECOND, now));
    }

    fn look(&mut self) {
        if self.regulator.step(&self.upstream, Instant::now()) {
            self.upstream.publish();
        }
    }

    async fn look_after(&mut self, time: Duration) {
        advance(time).await;
        self.look();
    }

    /// The ports of those that are used.
    fn used(&self) -> Vec<u16> {
        let Members { endpoints, .. } = &*self.upstream.members();
        let port = |it: &Arc<Endpoint>| it.resolved()[0].port();
        endpoints.iter().map(port).collect()
    }
}

fn ejecting() -> Protection {
    Protection {
        ejection: Some(ejection::Settings::default()),
        ..Protection::default()
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_at_once_and_the_server_returns() {
    let mut fixture = Fixture::new(3, ejecting());
    fixture.fails(1, 4);
    fixture.look();
    assert_eq!(fixture.used(), [1, 2, 3]);
    fixture.fails(1, 1);
    let told = tokio::time::timeout(Duration::ZERO, fixture.upstream.failing());
    assert!(told.await.is_ok(), "the control thread is told");
    fixture.look();
    assert_eq!(fixture.used(), [1, 3]);
    let server = fixture.server(1);
    assert!(!server.eligible());
    assert_eq!(server.standing().ejections(Reason::ConsecutiveFailures), 1);
    fixture.look_after(29 * SECOND).await;
    assert_eq!(fixture.used(), [1, 3]);
    fixture.look_after(SECOND).await;
    assert_eq!(fixture.used(), [1, 2, 3]);
    assert_eq!(server.standing().ejected(), None);
}

#[tokio::test(start_paused = true)]
async fn a_high_share_of_failures_ejects_within_seconds() {
    let mut fixture = Fixture::new(2, ejecting());
    for _ in 0..3 {
        for _ in 0..30 {
            fixture.fails(0, 1);
            fixture.answers(0, 1);
            fixture.answers(1, 2);
        }
        fixture.look_after(SECOND).await;
    }
    assert_eq!(fixture.used(), [2]);
    assert_eq!(
        fixture.server(0).standing().ejections(Reason::ErrorRatio),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn looking_sooner_finds_who_fails_few_requests() {
    let mut fixture = Fixture::new(2, ejecting());
    // It answers all of ten requests a second with 500, which are too few to judge one interval by.
    let mut looks = 0;
    while fixture.used() == [1, 2] {
        let server = fixture.server(0);
        server.answered(0, 500, SECOND, std::time::Instant::now());
        fixture.answers(1, 1);
        fixture.look_after(SECOND / 10).await;
        looks += 1;
        assert!(looks <= 30, "three seconds");
    }
    assert!(looks > 15, "it has not failed often enough");
    assert_eq!(fixture.used(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_does_not_hasten_judgement() {
    let mut fixture = Fixture::new(4, ejecting());
    let down = fixture.server(0);
    (0..5).for_each(|_| down.answered(0, 500, SECOND, std::time::Instant::now()));
    fixture.upstream.set_health(&down, health::State::Down);
    fixture.upstream.publish();
    fixture.look_after(SECOND).await;
    for _ in 0..30 {
        (0..2).for_each(|_| fixture.fails(1, 1));
        fixture.answers(1, 1);
    }
    (2..4).for_each(|index| fixture.answers(index, 90));
    fixture.look_after(SECOND / 2).await;
    assert_eq!(fixture.used(), [2, 3, 4], "the interval is not over");
    fixture.look_after(SECOND / 2).await;
    assert_eq!(fixture.used(), [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_half_are_ejected_and_one_alone_never_is() {
    let mut fixture = Fixture::new(4, ejecting());
    (0..4).for_each(|index| fixture.fails(index, 5));
    fixture.look();
    assert_eq!(fixture.used(), [3, 4]);
    fixture.look_after(SECOND).await;
    assert_eq!(fixture.used(), [3, 4]);

    let mut alone = Fixture::new(1, ejecting());
    alone.fails(0, 500);
    alone.look_after(SECOND).await;
    assert_eq!(alone.used(), [1]);
}

#[tokio::test(start_paused = true)]
async fn ejected_servers_are_used_when_too_few_are_left() {
    let mut fixture = Fixture::new(4, ejecting());
    (0..2).for_each(|index| fixture.fails(index, 5));
    fixture.look();
    assert_eq!(fixture.used(), [3, 4]);
    assert!(!fixture.upstream.panics());
    fixture
        .upstream
        .set_health(&fixture.server(3), health::State::Down);
    fixture.upstream.publish();
    assert_eq!(fixture.used(), [1, 2, 3], "but not those that are down");
    assert!(fixture.upstream.panics());
    assert!(fixture.server(0).eligible());
    fixture
        .upstream
        .set_health(&fixture.server(3), health::State::Up);
    fixture.upstream.publish();
    assert_eq!(fixture.used(), [3, 4]);
    assert!(!fixture.upstream.panics());
}

#[tokio::test(start_paused = true)]
async fn a_good_probe_ends_no_ejection() {
    let mut fixture = Fixture::new(2, ejecting());
    fixture.fails(0, 5);
    fixture.look();
    for state in [health::State::Down, health::State::Up] {
        fixture.upstream.set_health(&fixture.server(0), state);
        fixture.upstream.publish();
        assert_eq!(fixture.used(), [2]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_before_a_server_was_down_is_not_held_against_it() {
    let mut fixture = Fixture::new(2, ejecting());
    let health = |fixture: &Fixture, state| {
        fixture.upstream.set_health(&fixture.server(0), state);
        fixture.upstream.publish();
    };
    fixture.fails(0, 4);
    health(&fixture, health::State::Down);
    fixture.fails(0, 30);
    fixture.look_after(SECOND).await;
    health(&fixture, health::State::Up);
    fixture.fails(0, 4);
    fixture.answers(0, 20);
    fixture.look_after(SECOND).await;
    assert_eq!(fixture.used(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_starts_slowly_unless_it_was_there_from_the_start() {
    let protection = Protection {
        slow_start: 30 * SECOND,
        ..ejecting()
    };
    let mut fixture = Fixture::new(2, protection);
    let share = |fixture: &Fixture, index: usize| {
        let standing = fixture.server(index);
        standing.standing().start_share(Instant::now(), 30 * SECOND)
    };
    assert_eq!(share(&fixture, 0), None);
    fixture.upstream.add(spec(3)).unwrap();
    assert_eq!(share(&fixture, 2), Some(0.05));
    fixture.look_after(15 * SECOND).await;
    assert_eq!(share(&fixture, 2), Some(0.5));
    fixture.look_after(15 * SECOND).await;
    assert_eq!(share(&fixture, 2), None);

    fixture
        .upstream
        .set_health(&fixture.server(0), health::State::Down);
    assert_eq!(share(&fixture, 0), None);
    fixture
        .upstream
        .set_health(&fixture.server(0), health::State::Up);
    assert_eq!(share(&fixture, 0), Some(0.05));

    fixture.fails(1, 5);
    fixture.look();
    fixture.look_after(30 * SECOND).await;
    assert_eq!(share(&fixture, 1), Some(0.05));
}

#[tokio::test(start_paused = true)]
async fn shares_are_published_until_the_last_start_is_over() {
    let protection = Protection {
        slow_start: 3 * SECOND,
        ..Protection::default()
    };
    let mut fixture = Fixture::new(2, protection);
    fixture.look_after(SECOND).await;
    fixture.upstream.add(spec(3)).unwrap();
    let mut published = Vec::new();
    for _ in 0..5 {
        let before = fixture.upstream.generation();
        fixture.look_after(SECOND).await;
        published.push(fixture.upstream.generation() > before);
    }
    assert_eq!(published, [true, true, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn limits_are_the_smaller_of_those_that_are_there() {
    let most = |number| NonZeroU32::new(number);
    let limit = |protection| {
        let mut fixture = Fixture::new(1, protection);
        let first = fixture.server(0).load().limit();
        fixture.look();
        assert_eq!(fixture.server(0).load().limit(), first, "from the start");
        first
    };
    let adaptive = Some(adaptive::Settings::default());
    assert_eq!(limit(Protection::default()), None);
    assert_eq!(
        limit(Protection {
            adaptive,
            ..Protection::default()
        }),
        Some(512)
    );
    assert_eq!(
        limit(Protection {
            adaptive,
            max_in_flight: most(7),
            max_connections: most(9),
            ..Protection::default()
        }),
        Some(7)
    );
    assert_eq!(
        limit(Protection {
            adaptive,
            max_connections: most(9),
            ..Protection::default()
        }),
        Some(9)
    );
}

#[tokio::test(start_paused = true)]
async fn servers_with_requests_are_looked_at_more_often() {
    let protection = Protection {
        adaptive: Some(adaptive::Settings::default()),
        ..Protection::default()
    };
    let mut fixture = Fixture::new(2, protection);
    fixture.look();
    assert_eq!(fixture.regulator.pause, TICK);
    assert!((0..BUSY).all(|_| fixture.server(1).load().begin()));
    fixture.look();
    assert_eq!(fixture.regulator.pause, BUSY_TICK);
}
