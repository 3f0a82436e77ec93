//! What a route says about further tries: statuses, times, how many, and how much of it.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, FullPort, RawBackend};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::wait_until;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy";

/// Takes a request's head and closes the connection.
fn dropping() -> RawBackend {
    RawBackend::start(|connection| connection.read_head().map(drop))
}

/// Takes a request's head and says nothing.
fn silent() -> RawBackend {
    RawBackend::start(|connection| {
        connection.read_head()?;
        connection.read_head().map(drop)
    })
}

/// One worker before these servers, with a route that has these keys.
fn before(servers: &[&RawBackend], route: &str) -> RunningProxy {
    let addrs: Vec<_> = servers.iter().map(|server| server.addr()).collect();
    Proxy::new()
        .setting("workers = 1")
        // Servers that always fail are to be tried all the same.
        .unprobed_with("app", &addrs, "ejection = \"off\"")
        .extra(&format!("[[routes]]\nupstream = \"app\"\n{route}"))
        .start()
}

#[test]
fn an_answer_that_says_try_again_is_taken_from_another_server() {
    let (busy, backend) = (RawBackend::answering(BUSY), RawBackend::answering(OK));
    let proxy = before(&[&busy, &backend], "");
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    let retried = proxy.metric_with("lb_upstream_retries_total", "reason=\"status\"");
    assert_eq!(retried, 5);
    // The answers that were thrown away were read to their end.
    wait_until("the connection is used again", || {
        (0..4).for_each(|_| _ = proxy.get("/"));
        busy.connections() < busy.heads().len()
    });
}

#[test]
fn the_last_answer_is_passed_on_whatever_it_says() {
    let servers = [RawBackend::answering(BUSY), RawBackend::answering(BUSY)];
    let proxy = before(&[&servers[0], &servers[1]], "");
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.text()), (503, "busy"));
    let asked = servers.each_ref().map(|server| server.heads().len());
    assert_eq!(asked, [1, 1], "each of them once");
}

#[test]
fn what_must_not_be_made_twice_is_not_for_its_answer() {
    let (busy, backend) = (RawBackend::answering(BUSY), RawBackend::answering(OK));
    let proxy = before(&[&busy, &backend], "");
    let mut statuses: Vec<_> = (0..4)
        .map(|_| request(proxy.addr(), message("POST", "/", &[], b"")).status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
}

#[test]
fn a_route_says_which_statuses_are_reasons() {
    let gone = b"HTTP/1.1 500 Gone\r\ncontent-length: 4\r\n\r\ngone";
    let (bad, backend) = (RawBackend::answering(gone), RawBackend::answering(OK));
    let servers = [&bad, &backend];
    let proxy = before(&servers, "");
    let mut statuses = [proxy.get("/").status, proxy.get("/").status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 500]);
    let proxy = before(&servers, "retry = { on = [\"500\"] }");
    assert_eq!([proxy.get("/").status, proxy.get("/").status], [200, 200]);
}

#[test]
fn a_route_says_which_failures_are_reasons() {
    let (dropping, backend) = (dropping(), RawBackend::answering(OK));
    let proxy = before(&[&dropping, &backend], "retry = { on = [\"connect\"] }");
    let mut statuses = [proxy.get("/").status, proxy.get("/").status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
}

#[test]
fn a_server_that_does_not_answer_in_the_time_of_one_try_is_left() {
    let (silent, backend) = (silent(), RawBackend::answering(OK));
    let route = "timeout = \"8s\"\nretry = { per_try_timeout = \"200ms\" }";
    let proxy = before(&[&silent, &backend], route);
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(proxy.get("/").text(), "ok");
        assert!(start.elapsed() < Duration::from_secs(4));
    }
    assert_eq!(silent.heads().len(), 1);
    let retried = proxy.metric_with("lb_upstream_retries_total", "reason=\"timeout\"");
    assert_eq!(retried, 1);
}

#[test]
fn without_a_time_for_one_try_all_have_the_same() {
    let (silent, backend) = (silent(), RawBackend::answering(OK));
    let route = "timeout = \"900ms\"\nretry = { on = [\"timeout\"] }";
    let proxy = before(&[&silent, &backend], route);
    assert_eq!([proxy.get("/").status, proxy.get("/").status], [200, 200]);
    assert_eq!(silent.heads().len(), 1);
}

#[test]
fn all_tries_together_take_no_longer_than_the_route_allows() {
    let servers = [silent(), silent(), silent(), silent(), silent(), silent()];
    let all: Vec<_> = servers.iter().collect();
    let route =
        "timeout = \"1s\"\nretry = { attempts = 5, per_try_timeout = \"400ms\", backoff = \"0s\" }";
    let proxy = before(&all, route);
    let start = Instant::now();
    assert_eq!(proxy.get("/").status, 504);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(900), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    let asked = servers.iter().filter(|server| !server.heads().is_empty());
    assert_eq!(asked.count(), 3);
}

#[test]
fn connecting_takes_no_longer_than_the_route_allows() {
    let ports = [FullPort::new(), FullPort::new()];
    let proxy = Proxy::new()
        .unprobed_with(
            "app",
            &[ports[0].addr(), ports[1].addr()],
            "timeouts = { connect = \"9s\" }",
        )
        .extra("[[routes]]\nupstream = \"app\"\ntimeout = \"300ms\"")
        .start();
    let start = Instant::now();
    assert_eq!(proxy.get("/").status, 504);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn further_tries_are_a_share_of_the_requests() {
    const REQUESTS: u64 = 200;
    let servers = [dropping(), dropping()];
    let proxy = before(&[&servers[0], &servers[1]], "retry = { budget = \"10%\" }");
    let mut client = proxy.connect();
    let start = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").expect("an answer").status, 502);
    }
    let retries = proxy.metric("lb_upstream_retries_total");
    let denied = proxy.metric("lb_upstream_retries_denied_total");
    assert_eq!(retries + denied, REQUESTS);
    // Thirty that were saved, a tenth of the requests, and three a second.
    let most = 30 + REQUESTS / 10 + 3 * (start.elapsed().as_secs() + 1);
    assert!((49..=most).contains(&retries), "{retries} of {most}");
}

#[test]
fn an_answer_that_is_thrown_away_may_be_of_any_length() {
    let long = RawBackend::start(|connection| {
        connection.read_head()?;
        let head = b"HTTP/1.1 503 Busy\r\ncontent-length: 10000000\r\n\r\n";
        connection.stream.write_all(head)?;
        connection.read_head().map(drop)
    });
    let backend = Backend::start();
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[long.addr(), backend.addr()])
        .start();
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((long.connections(), long.heads().len()), (2, 2));
}
