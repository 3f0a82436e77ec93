//! The loop, in paused time and with a scripted probe; one test uses a socket.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::{HttpProbe, StatusRanges};
use super::State::{Down, Up};
use super::*;

const FALL: u32 = 3;

fn settings() -> Settings {
    Settings {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        fall: NonZeroU32::new(FALL).unwrap(),
        rise: NonZeroU32::new(2).unwrap(),
    }
}

/// What a scripted probe does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Good,
    Bad,
    Hang,
    /// Good, after so many seconds.
    Slow(u64),
}
use Step::{Bad, Good, Hang, Slow};

/// Follows a script, then repeats its last step; notes when each probe began.
#[derive(Clone)]
struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    began: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    fn new(steps: &[Step]) -> Self {
        Self {
            steps: Arc::new(Mutex::new(steps.iter().copied().collect())),
            began: Arc::default(),
        }
    }

    fn began(&self) -> Vec<Instant> {
        self.began.lock().unwrap().clone()
    }

    /// Between the beginnings of consecutive probes.
    fn pauses(&self) -> Vec<Duration> {
        self.began().windows(2).map(|w| w[1] - w[0]).collect()
    }

    fn next(&self) -> Step {
        self.began.lock().unwrap().push(Instant::now());
        let mut steps = self.steps.lock().unwrap();
        let step = steps[0];
        if steps.len() > 1 {
            steps.pop_front();
        }
        step
    }
}

impl HealthProbe for Script {
    async fn probe(&self, _: &Target) -> Result<(), ProbeError> {
        match self.next() {
            Good => Ok(()),
            Bad => Err(ProbeError::Status(http::StatusCode::BAD_GATEWAY)),
            Hang => std::future::pending().await,
            Slow(seconds) => {
                sleep(Duration::from_secs(seconds)).await;
                Ok(())
            }
        }
    }
}

/// An endpoint whose live traffic is played by the test.
#[derive(Default)]
struct Server {
    target: Option<Target>,
    failures: AtomicU32,
    failed: Notify,
    published: Mutex<Vec<(Instant, State, String)>>,
    changed: Notify,
}

impl Server {
    fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failed.notify_one();
    }

    /// Waits until `count` changes have been published; gives all of them, without their time.
    async fn changes(&self, count: usize) -> Vec<(State, String)> {
        loop {
            let published = self.published.lock().unwrap().clone();
            if published.len() >= count {
                return published.into_iter().map(|(_, s, r)| (s, r)).collect();
            }
            self.changed.notified().await;
        }
    }

    fn change_times(&self) -> Vec<Instant> {
        let published = self.published.lock().unwrap();
        published.iter().map(|(at, ..)| *at).collect()
    }
}

impl Subject for Arc<Server> {
    fn upstream(&self) -> &str {
        "app"
    }

    fn target(&self) -> Target {
        self.target.clone().unwrap_or(Target {
            address: "app.internal:3000".to_owned(),
            addrs: Vec::new(),
            ..Target::default()
        })
    }

    async fn live_failures(&self) {
        while self.failures.load(Ordering::Relaxed) < FALL {
            self.failed.notified().await;
        }
    }

    fn publish(&self, state: State, reason: &str) {
        self.failures.store(0, Ordering::Relaxed);
        let change = (Instant::now(), state, reason.to_owned());
        self.published.lock().unwrap().push(change);
        self.changed.notify_one();
    }
}

/// Starts watching a server whose probes follow `steps`.
fn start(steps: &[Step]) -> (Arc<Server>, Script) {
    let server = Arc::<Server>::default();
    let script = Script::new(steps);
    let rng = fastrand::Rng::with_seed(7);
    tokio::spawn(watch(server.clone(), script.clone(), settings(), rng));
    (server, script)
}

fn change(state: State, reason: &str) -> (State, String) {
    (state, reason.to_owned())
}

fn is_near(actual: Duration, expected: Duration) -> bool {
    // The timer of a paused clock has a granularity of a millisecond.
    actual.abs_diff(expected) <= Duration::from_millis(2)
}

#[tokio::test(start_paused = true)]
async fn the_first_probe_comes_soon_and_decides() {
    for (step, expected) in [
        (Good, change(Up, "first probe succeeded")),
        (Bad, change(Down, "first probe failed: status 502")),
    ] {
        let start_of_watch = Instant::now();
        let (server, script) = start(&[step]);
        assert_eq!(server.changes(1).await, [expected]);
        let delay = script.began()[0] - start_of_watch;
        assert!(delay <= Duration::from_millis(102), "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn first_probes_of_many_endpoints_are_spread() {
    let mut scripts = Vec::new();
    for seed in 0..100 {
        let script = Script::new(&[Good]);
        let rng = fastrand::Rng::with_seed(seed);
        let server = Arc::<Server>::default();
        tokio::spawn(watch(server, script.clone(), settings(), rng));
        scripts.push(script);
    }
    let start = Instant::now();
    sleep(Duration::from_millis(110)).await;
    let first_half = Duration::from_millis(50);
    let early = scripts.iter().filter(|s| s.began()[0] - start < first_half);
    assert!((30..70).contains(&early.count()));
}

#[tokio::test(start_paused = true)]
async fn a_steady_server_is_probed_every_interval_with_jitter_and_published_once() {
    let (server, script) = start(&[Good]);
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(server.changes(1).await.len(), 1);
    let pauses = script.pauses();
    let (shortest, longest) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*shortest >= Duration::from_millis(4500), "{shortest:?}");
    assert!(*shortest < Duration::from_millis(4600), "{shortest:?}");
    assert!(*longest <= Duration::from_millis(5502), "{longest:?}");
    assert!(*longest > Duration::from_millis(5400), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_confirmed_at_one_second_intervals() {
    let (server, script) = start(&[Good, Bad, Bad, Bad, Good, Good]);
    assert_eq!(
        server.changes(3).await,
        [
            change(Up, "first probe succeeded"),
            change(Down, "3 consecutive probes failed, the last: status 502"),
            change(Up, "2 consecutive probes succeeded"),
        ]
    );
    let pauses = script.pauses();
    let second = Duration::from_secs(1);
    for (pause, is_confirming) in pauses.iter().zip([false, true, true, false, true]) {
        assert_eq!(is_near(*pause, second), is_confirming, "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_below_a_second_is_not_stretched_to_confirm() {
    let server = Arc::<Server>::default();
    let script = Script::new(&[Good, Bad, Bad, Bad]);
    let settings = Settings {
        interval: Duration::from_millis(200),
        ..settings()
    };
    let rng = fastrand::Rng::with_seed(7);
    tokio::spawn(watch(server.clone(), script.clone(), settings, rng));
    server.changes(2).await;
    assert!(is_near(script.pauses()[1], settings.interval));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_fails_at_its_timeout() {
    let begin = Instant::now();
    let (server, _) = start(&[Hang]);
    let expected = change(Down, "first probe failed: timeout after 2s");
    assert_eq!(server.changes(1).await, [expected]);
    let took = server.change_times()[0] - begin;
    assert!((1999..2110).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_delays_no_other_endpoint() {
    let (_hanging, _) = start(&[Hang]);
    let begin = Instant::now();
    let (server, _) = start(&[Good]);
    server.changes(1).await;
    assert!(begin.elapsed() <= Duration::from_millis(102));
}

#[tokio::test(start_paused = true)]
async fn live_failures_take_a_server_down_at_once() {
    let (server, _) = start(&[Good]);
    server.changes(1).await;
    let failed_at = Instant::now();
    (0..FALL).for_each(|_| server.fail());
    assert_eq!(
        server.changes(2).await[1],
        change(Down, "3 consecutive connection failures on live traffic")
    );
    assert_eq!(server.change_times()[1], failed_at);
    assert_eq!(
        server.changes(3).await[2],
        change(Up, "2 consecutive probes succeeded")
    );
}

#[tokio::test(start_paused = true)]
async fn fewer_live_failures_change_nothing() {
    let (server, _) = start(&[Good]);
    server.changes(1).await;
    (1..FALL).for_each(|_| server.fail());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server.changes(1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn live_failures_while_down_are_not_heard() {
    let (server, _) = start(&[Bad]);
    server.changes(1).await;
    (0..FALL).for_each(|_| server.fail());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server.changes(1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn live_failures_during_a_probe_do_not_cut_it_short() {
    // The second probe takes a second and succeeds; the third makes two in a row.
    let (server, script) = start(&[Good, Slow(1), Good]);
    server.changes(1).await;
    while script.began().len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let failed_at = Instant::now();
    (0..FALL).for_each(|_| server.fail());
    assert_eq!(server.changes(2).await[1].0, Down);
    assert_eq!(server.change_times()[1], failed_at, "not after the probe");
    assert_eq!(
        server.changes(3).await[2],
        change(Up, "2 consecutive probes succeeded")
    );
    assert_eq!(script.began().len(), 3, "the slow probe was one of the two");
}

#[tokio::test(start_paused = true)]
async fn live_failures_before_the_first_probe_take_a_server_down() {
    let (server, script) = start(&[Hang]);
    (0..FALL).for_each(|_| server.fail());
    let changes = server.changes(1).await;
    assert_eq!(
        changes,
        [change(
            Down,
            "3 consecutive connection failures on live traffic"
        )]
    );
    assert!(script.began().is_empty(), "it did not take a probe");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        address: "app.internal:3000".to_owned(),
        addrs: vec![listener.local_addr().unwrap()],
        ..Target::default()
    };
    let probe = HttpProbe {
        path: http::uri::PathAndQuery::from_static("/health"),
        host: None,
        expect: StatusRanges::default(),
    };
    let limit = Duration::from_millis(50);
    let error = probe_in_time(&probe, &target, limit).await.unwrap_err();
    assert_eq!(error.to_string(), "timeout after 50ms");
}
