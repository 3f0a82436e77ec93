//! Servers that fail: what goes to another one, what must not, and what the client sees when nothing helps.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, RawBackend, RefusingPort};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, RunningProxy, before_script};
use crate::support::{DEADLINE, wait_until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Takes a request's head and closes the connection.
fn dropping() -> RawBackend {
    RawBackend::start(|connection| connection.read_head().map(drop))
}

/// How many requests these servers have got together.
fn requests(servers: &[&RawBackend]) -> usize {
    servers.iter().map(|server| server.heads().len()).sum()
}

#[test]
fn a_refused_connection_costs_no_request_of_any_method() {
    let (refusing, backend) = (RefusingPort::new(), Backend::start());
    let servers = [refusing.addr(), backend.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    let mut client = proxy.connect();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "REPORT"] {
        // Twice, so that no strategy can avoid the server that refuses.
        for _ in 0..2 {
            let answer = client.request(message(method, "/echo", &[], b"precious"));
            let answer = answer.expect("an answer");
            assert_eq!(
                (answer.status, answer.text()),
                (200, "precious"),
                "{method}"
            );
        }
    }
}

#[test]
fn every_server_is_tried_once_at_most() {
    let (refusing, backend) = ([RefusingPort::new(), RefusingPort::new()], Backend::start());
    let servers = [refusing[0].addr(), refusing[1].addr(), backend.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    // Two further tries reach the third of three servers only if none repeats another.
    for _ in 0..12 {
        assert_eq!(proxy.get("/").status, 200);
    }
}

#[test]
fn a_route_can_forbid_further_tries() {
    let (refusing, backend) = (RefusingPort::new(), Backend::start());
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[refusing.addr(), backend.addr()])
        .extra("[[routes]]\nupstream = \"app\"\nretry = { attempts = 0 }")
        .start();
    let mut statuses: Vec<_> = (0..4).map(|_| proxy.get("/").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
}

#[test]
fn a_get_that_a_server_drops_goes_to_another_one() {
    let (dropping, backend) = (dropping(), RawBackend::answering(OK));
    let servers = [dropping.addr(), backend.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(backend.heads().len(), 4);
    assert!(!dropping.heads().is_empty(), "no request was dropped");
}

#[test]
fn a_post_that_a_server_drops_is_not_made_again() {
    let servers = [dropping(), dropping()];
    let addrs = [servers[0].addr(), servers[1].addr()];
    let proxy = Proxy::new().unprobed("app", &addrs).start();
    for (count, body) in [&b""[..], b"order"].iter().enumerate() {
        let answer = request(proxy.addr(), message("POST", "/orders", &[], body));
        assert_eq!(answer.status, 502);
        assert_eq!(requests(&[&servers[0], &servers[1]]), count + 1);
    }
}

#[test]
fn a_server_that_is_alone_is_not_asked_again() {
    let server = dropping();
    assert_eq!(before_script(&server).get("/").status, 502);
    assert_eq!(server.heads().len(), 1);
}

/// A server alone, with a route that forbids further tries.
fn before_once(server: &RawBackend) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[server.addr()])
        .extra("[[routes]]\nupstream = \"app\"\nretry = { attempts = 0 }")
        .start()
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_costs_nothing() {
    let (closed, closes) = mpsc::channel();
    let server = RawBackend::start(move |connection| {
        let head = connection.read_head()?;
        let body = if head.starts_with("POST") { 5 } else { 0 };
        connection.stream.read_exact(&mut [0; 5][..body])?;
        connection.stream.write_all(OK)?;
        connection.stream.shutdown(Shutdown::Both)?;
        closed.send(()).map_err(io::Error::other)
    });
    let proxy = before_once(&server);
    let mut client = proxy.connect();
    for _ in 0..10 {
        for bytes in [
            message("POST", "/", &[], b"order"),
            message("GET", "/", &[], b""),
        ] {
            let answer = client.request(bytes).expect("an answer");
            assert_eq!(answer.text(), "ok");
            closes.recv_timeout(DEADLINE).expect("the server closes");
        }
    }
    assert_eq!((server.connections(), server.heads().len()), (20, 20));
}

/// Answers the first request on each connection and closes it at the second.
fn closing_at_the_second_request() -> RawBackend {
    RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.write_all(OK)?;
        connection.read_head().map(drop)
    })
}

#[test]
fn a_get_that_meets_the_close_of_a_used_connection_goes_on_a_new_one() {
    let server = closing_at_the_second_request();
    let proxy = before_once(&server);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    // Each connection but the last got a second request, which then went to the next one.
    assert_eq!((server.connections(), server.heads().len()), (5, 9));
}

#[test]
fn a_post_that_meets_the_close_of_a_used_connection_is_not_made_again() {
    let server = closing_at_the_second_request();
    let proxy = before_once(&server);
    let post = message("POST", "/orders", &[], b"");
    assert_eq!(request(proxy.addr(), &post).text(), "ok");
    assert_eq!(request(proxy.addr(), &post).status, 502);
    assert_eq!((server.connections(), server.heads().len()), (1, 2));
}

#[test]
fn no_eligible_server_is_503_at_once() {
    let refusing = RefusingPort::new();
    let proxy = Proxy::new().upstream("app", &[refusing.addr()]).start();
    wait_until("the server is known to be down", || {
        proxy.get("/").status == 503
    });
    let mut client = proxy.connect();
    let times = (0..5).map(|_| {
        let start = Instant::now();
        let answer = client.get("/").expect("an answer");
        let elapsed = start.elapsed();
        assert_eq!(answer.status, 503);
        let after = answer
            .headers
            .get("retry-after")
            .and_then(|after| after.parse().ok());
        assert!(
            after.is_some_and(|seconds: u32| seconds > 0),
            "{:?}",
            answer.headers
        );
        elapsed
    });
    let best = times.min().expect("five times");
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[test]
fn probed_servers_that_all_refuse_are_503_before_any_probe_has_noticed() {
    // As many as there are tries.
    let mut servers = [Backend::start(), Backend::start(), Backend::start()];
    let addresses = servers.each_ref().map(Backend::addr);
    let probes = "health_check = { interval = \"1h\" }";
    let proxy = Proxy::new()
        .upstream_with("app", &addresses, probes)
        .start();
    assert_eq!(proxy.get("/").status, 200);
    servers.iter_mut().for_each(Backend::kill_9);
    let answer = proxy.get("/");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers.get("retry-after"), Some("3600"));
}

#[test]
fn servers_that_all_refuse_are_502() {
    let refusing = [RefusingPort::new(), RefusingPort::new()];
    let servers = [refusing[0].addr(), refusing[1].addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    for method in ["GET", "POST"] {
        assert_eq!(
            request(proxy.addr(), message(method, "/", &[], b"")).status,
            502
        );
    }
}

#[test]
fn killing_a_server_under_load_fails_no_request() {
    const CLIENTS: usize = 4;
    const EACH: usize = 1000;
    let (mut doomed, other) = (Backend::start(), Backend::start());
    let servers = [doomed.addr(), other.addr()];
    let proxy = Proxy::new().upstream("app", &servers).start();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = proxy.connect();
                for _ in 0..EACH {
                    let answer = client.get("/").expect("an answer");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_until("half of the answers", || {
            done.load(Ordering::Relaxed) > CLIENTS * EACH / 2
        });
        doomed.kill_9();
        assert!(
            done.load(Ordering::Relaxed) < CLIENTS * EACH,
            "it was killed too late"
        );
    });
    assert_eq!(proxy.get("/").headers.get("x-backend"), Some(other.name()));
}

#[test]
fn what_follows_an_answer_never_becomes_the_next_one() {
    let (sent, times_sent) = mpsc::channel();
    let server = RawBackend::start(move |connection| {
        while connection.read_head().is_ok() {
            let evil = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            connection.stream.write_all(&[OK, evil].concat())?;
            sent.send(()).map_err(io::Error::other)?;
        }
        Ok(())
    });
    let proxy = before_script(&server);
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").expect("an answer").text(), "ok");
        times_sent.recv_timeout(DEADLINE).expect("both were sent");
    }
}

#[test]
fn a_retried_request_is_the_same_request() {
    let (dropping, backend) = (dropping(), RawBackend::answering(OK));
    let servers = [dropping.addr(), backend.addr()];
    let proxy = Proxy::new().unprobed("app", &servers).start();
    let bytes = message(
        "GET",
        "/x?y",
        &[("via", "1.1 a"), ("x-request-id", "one")],
        b"",
    );
    while dropping.heads().is_empty() {
        assert_eq!(request(proxy.addr(), &bytes).text(), "ok");
    }
    assert_eq!(backend.heads().last(), dropping.heads().last());
}
