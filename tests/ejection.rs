//! Servers that fail requests: left out for a while, but never too many of them, and slowly taken back.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{get, message, request};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::wait_until;

/// A server of which each so many-th answer is a failure, as long as the test wants that.
struct Failing {
    backend: RawBackend,
    fails: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
}

impl Failing {
    /// With 500, which is nobody's to try again.
    fn start(each: usize) -> Self {
        Self::answering("500 No", each)
    }

    fn answering(failure: &'static str, each: usize) -> Self {
        let fails = Arc::new(AtomicBool::new(true));
        let seen = Arc::new(AtomicUsize::new(0));
        let (does, count) = (Arc::clone(&fails), Arc::clone(&seen));
        let backend = RawBackend::start(move |connection| {
            loop {
                connection.read_head()?;
                let number = count.fetch_add(1, Ordering::Relaxed);
                let fails = does.load(Ordering::Relaxed) && number.is_multiple_of(each);
                let status = if fails { failure } else { "200 OK" };
                let answer =
                    format!("HTTP/1.1 {status}\r\nx-backend: failing\r\ncontent-length: 0\r\n\r\n");
                connection.stream.write_all(answer.as_bytes())?;
            }
        });
        Self {
            backend,
            fails,
            seen,
        }
    }

    /// Requests so far.
    fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }
}

/// A server in the admin API's words.
fn server(proxy: &RunningProxy, address: SocketAddr) -> Value {
    let answer = get(proxy.admin(), &format!("/servers/app@{address}"));
    assert_eq!(answer.status, 200);
    answer.json()
}

/// Nothing is tried again.
const ONCE: &str = "[[routes]]\nupstream = \"app\"\nretry = { attempts = 0 }";

#[test]
fn answers_of_500_in_a_row_say_little_of_a_server() {
    let (failing, good) = (Failing::start(1), Backend::start());
    let servers = [failing.addr(), good.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    // Fewer than it takes to know their share.
    (0..16).for_each(|_| _ = proxy.get("/"));
    assert_eq!(proxy.metric("lb_server_ejected"), 0);
}

#[test]
fn a_server_that_fails_half_of_its_requests_is_ejected_within_seconds() {
    let (failing, good) = (Failing::start(2), Backend::start());
    let proxy = Proxy::new()
        .setting("workers = 2")
        .unprobed("app", &[failing.addr(), good.addr()])
        .start();
    let start = Instant::now();
    let mut client = proxy.connect();
    while proxy.metric("lb_server_ejected") == 0 {
        (0..20).for_each(|_| _ = client.get("/").expect("an answer"));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    for _ in 0..20 {
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
    let view = server(&proxy, failing.addr());
    assert_eq!(view["ejected"]["reason"], "error_ratio", "{view}");
    assert_eq!(view["eligible"], false);
    assert_eq!(view["health"], "unknown");
    assert_eq!(server(&proxy, good.addr())["ejected"], Value::Null);
    proxy.process().wait_for_line("server is ejected");
}

#[test]
fn failures_in_a_row_eject_at_once_and_the_server_starts_slowly_afterwards() {
    let (failing, good) = (Failing::answering("503 No", 1), Backend::start());
    let proxy = Proxy::new()
        .setting("workers = 2")
        .unprobed_with(
            "app",
            &[failing.addr(), good.addr()],
            "ejection = { base = \"1s\" }\nslow_start = \"1h\"",
        )
        .extra(ONCE)
        .start();
    let failures = (0..40).filter(|_| proxy.get("/").status == 503).count();
    // Two workers may have sent one more each before they knew.
    assert!((5..=7).contains(&failures), "{failures}");
    assert_eq!(
        server(&proxy, failing.addr())["ejected"]["reason"],
        "consecutive_failures"
    );
    failing.fails.store(false, Ordering::Relaxed);
    wait_until("it is back", || {
        server(&proxy, failing.addr())["eligible"] == true
    });
    assert_eq!(server(&proxy, failing.addr())["start_share"], 0.05);
    let sent = (0..200)
        .filter(|_| proxy.get("/").headers.get("x-backend") == Some("failing"))
        .count();
    assert!((1..30).contains(&sent), "{sent} of 200");
    assert_eq!(proxy.metric("lb_server_ejections_total"), 1);
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let failing = [(); 3].map(|()| Failing::answering("503 No", 1));
    let good = Backend::start();
    let mut servers = failing.each_ref().map(Failing::addr).to_vec();
    servers.push(good.addr());
    let proxy = Proxy::new().unprobed("app", &servers).extra(ONCE).start();
    for _ in 0..60 {
        proxy.get("/");
        assert!(proxy.metric("lb_server_ejected") <= 2);
    }
    wait_until("half of them are ejected", || {
        proxy.get("/");
        proxy.metric("lb_server_ejected") == 2
    });
    assert_eq!(proxy.metric("lb_upstream_panic"), 0);
    assert_eq!(proxy.metric("lb_upstream_eligible_servers"), 2);
}

#[test]
fn ejected_servers_are_used_rather_than_none() {
    let (failing, mut good) = (Failing::start(1), Backend::start());
    let health = "health_check = { kind = \"tcp\", interval = \"100ms\", fall = 2, rise = 1 }";
    let proxy = Proxy::new()
        .upstream_with("app", &[failing.addr(), good.addr()], health)
        .start();
    wait_until("it is ejected", || {
        proxy.get("/");
        proxy.metric("lb_server_ejected") == 1
    });
    failing.fails.store(false, Ordering::Relaxed);
    good.kill_9();
    wait_until("there is a panic", || {
        proxy.metric("lb_upstream_panic") == 1
    });
    assert_eq!(proxy.get("/").headers.get("x-backend"), Some("failing"));
    good.restart_on_same_port();
    wait_until("it is over", || proxy.metric("lb_upstream_panic") == 0);
    let answer = proxy.get("/");
    assert_eq!(answer.headers.get("x-backend"), Some(good.name()));
}

#[test]
fn an_ejected_server_is_tried_when_no_other_one_can_be_reached() {
    let (failing, mut good) = (Failing::answering("503 No", 1), Backend::start());
    let servers = [failing.addr(), good.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    wait_until("it is ejected", || {
        proxy.get("/");
        proxy.metric("lb_server_ejected") == 1
    });
    failing.fails.store(false, Ordering::Relaxed);
    good.kill_9();
    let answer = proxy.get("/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers.get("x-backend"), Some("failing"));
    assert_eq!(proxy.metric("lb_upstream_panic"), 0, "before anybody knows");
}

#[test]
fn an_ejected_server_gets_no_second_tries() {
    let failing = Failing::answering("503 No", 1);
    let slow = Backend::start_with(&["--delay", "300"]);
    let routes = "[[routes]]\nupstream = \"app\"\nhedge = { after = \"50ms\", budget = \"100%\" }";
    let servers = [failing.addr(), slow.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).extra(routes).start();
    wait_until("it is ejected", || {
        proxy.get("/");
        proxy.metric("lb_server_ejected") == 1
    });
    let seen = failing.seen();
    for _ in 0..4 {
        let answer = proxy.get("/");
        assert_eq!(answer.headers.get("x-backend"), Some(slow.name()));
    }
    assert_eq!(failing.seen(), seen);
}

#[test]
fn ejected_servers_share_what_no_other_one_takes() {
    let failing = [(); 2].map(|()| Failing::answering("503 No", 1));
    let mut good = [(); 2].map(|()| Backend::start());
    let servers = [
        failing[0].addr(),
        failing[1].addr(),
        good[0].addr(),
        good[1].addr(),
    ];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    wait_until("both are ejected", || {
        proxy.get("/");
        proxy.metric("lb_server_ejected") == 2
    });
    for server in &failing {
        server.fails.store(false, Ordering::Relaxed);
    }
    good.iter_mut().for_each(Backend::kill_9);
    let before = failing.each_ref().map(Failing::seen);
    wait_until("each gets some", || {
        proxy.get("/");
        let now = failing.each_ref().map(Failing::seen);
        now.iter().zip(before).all(|(now, before)| *now > before)
    });
}

#[test]
fn ejection_can_be_switched_off() {
    let (failing, good) = (Failing::start(1), Backend::start());
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed_with("app", &[failing.addr(), good.addr()], "ejection = \"off\"")
        .start();
    let failures = (0..40).filter(|_| proxy.get("/").status == 500).count();
    assert_eq!(failures, 20);
}

#[test]
fn a_server_that_is_added_begins_with_a_small_share() {
    let (old, new) = (Backend::start(), Backend::start());
    let proxy = Proxy::new()
        .unprobed_with("app", &[old.addr()], "slow_start = \"1h\"")
        .start();
    assert_eq!(server(&proxy, old.addr())["start_share"], 1.0);
    let body = json!({ "address": new.addr().to_string() }).to_string();
    let host = proxy.admin().to_string();
    let add = message("POST", "/servers", &[("host", &host)], body.as_bytes());
    assert_eq!(request(proxy.admin(), add).status, 201);
    let sent = (0..200)
        .filter(|_| proxy.get("/").headers.get("x-backend") == Some(new.name()))
        .count();
    assert!((1..30).contains(&sent), "{sent} of 200");
}
