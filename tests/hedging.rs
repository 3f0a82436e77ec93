//! Second tries beside slow first ones.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::backend::{Backend, RawBackend, report, reporting};
use crate::support::client::{Response, message, request};
use crate::support::proxy::{Proxy, RunningProxy};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Longer than what is hedged, and shorter than what a test waits for.
const SOON: Duration = Duration::from_secs(5);

/// Takes requests and says nothing, until the other side goes away, which it reports.
fn silent() -> (RawBackend, std::sync::mpsc::Receiver<Option<ErrorKind>>) {
    reporting(|connection| {
        connection.read_head()?;
        let end = connection.stream.read_to_end(&mut Vec::new());
        Ok(end.err().map(|error| error.kind()))
    })
}

fn before(servers: &[std::net::SocketAddr], hedge: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed("app", servers)
        .extra(&format!(
            "[[routes]]\nupstream = \"app\"\nhedge = {{ {hedge} }}"
        ))
        .start()
}

/// An answer, which must be there soon.
#[track_caller]
fn soon(ask: impl FnOnce() -> Response) -> Response {
    let start = Instant::now();
    let answer = ask();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    answer
}

#[test]
fn the_faster_of_two_servers_answers() {
    let (silent, gone) = silent();
    let backend = Backend::start();
    let servers = [silent.addr(), backend.addr()];
    let proxy = before(&servers, "after = \"50ms\", budget = \"100%\"");
    for _ in 0..6 {
        let answer = soon(|| proxy.get("/"));
        assert_eq!(answer.headers.get("x-backend"), Some(backend.name()));
    }
    for _ in 0..3 {
        let end = report(&gone);
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "it is given up");
    }
    let won = |who: &str| proxy.metric_with("lb_upstream_hedges_total", who);
    assert_eq!((won("won=\"second\""), won("won=\"first\"")), (3, 0));
    assert_eq!(proxy.metric("lb_upstream_retries_total"), 0);
    // To be slower than another one is no failure.
    let failed = proxy.metric_with("lb_server_requests_total", "class=\"none\"");
    assert_eq!(failed, 0);
}

#[test]
fn the_first_may_still_win() {
    let slow = Backend::start_with(&["--delay", "300"]);
    let (silent, _gone) = silent();
    let servers = [slow.addr(), silent.addr()];
    let proxy = before(&servers, "after = \"50ms\", budget = \"100%\"");
    // They take turns; one of two begins with the slow one.
    for _ in 0..2 {
        let answer = soon(|| proxy.get("/"));
        assert_eq!(answer.headers.get("x-backend"), Some(slow.name()));
    }
    let won = |who: &str| proxy.metric_with("lb_upstream_hedges_total", who);
    assert_eq!((won("won=\"first\""), won("won=\"second\"")), (1, 1));
}

#[test]
fn a_body_that_is_there_is_sent_to_both() {
    let (silent, _gone) = silent();
    let backend = Backend::start();
    let servers = [silent.addr(), backend.addr()];
    let proxy = before(&servers, "after = \"50ms\", budget = \"100%\"");
    for _ in 0..2 {
        let answer = soon(|| request(proxy.addr(), message("PUT", "/echo", &[], b"precious")));
        assert_eq!((answer.status, answer.text()), (200, "precious"));
    }
    assert_eq!(proxy.metric("lb_upstream_hedges_total"), 1);
}

#[test]
fn what_must_not_be_made_twice_has_one_try() {
    let slow = [
        Backend::start_with(&["--delay", "300"]),
        Backend::start_with(&["--delay", "300"]),
    ];
    let servers = [slow[0].addr(), slow[1].addr()];
    let proxy = before(&servers, "after = \"20ms\", budget = \"100%\"");
    for body in [&b""[..], b"order"] {
        let answer = request(proxy.addr(), message("POST", "/", &[], body));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(proxy.metric("lb_upstream_hedges_total"), 0);
    assert_eq!(proxy.metric("lb_server_requests_total"), 2);
}

#[test]
fn the_budget_bounds_second_tries() {
    let slow = [
        Backend::start_with(&["--delay", "100"]),
        Backend::start_with(&["--delay", "100"]),
    ];
    let servers = [slow[0].addr(), slow[1].addr()];
    let proxy = before(&servers, "after = \"1ms\", budget = \"50%\"");
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(proxy.metric("lb_upstream_hedges_total"), 5);
}

#[test]
fn what_is_slow_is_learned() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let turned = Arc::clone(&is_silent);
    let turning = RawBackend::start(move |connection| {
        loop {
            connection.read_head()?;
            if turned.load(Ordering::Relaxed) {
                let rest = connection.stream.read(&mut [0])?;
                return Err(io::Error::other(format!("{rest} bytes")));
            }
            connection.stream.write_all(OK)?;
        }
    });
    let steady = RawBackend::answering(OK);
    let servers = [turning.addr(), steady.addr()];
    let proxy = before(&servers, "budget = \"100%\"");
    let mut client = proxy.connect();
    for _ in 0..200 {
        assert_eq!(client.get("/").expect("an answer").text(), "ok");
    }
    is_silent.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        let answer = soon(|| client.get("/").expect("an answer"));
        assert_eq!(answer.text(), "ok");
    }
    assert!(proxy.metric_with("lb_upstream_hedges_total", "won=\"second\"") >= 5);
}

#[test]
fn a_first_try_that_fails_leaves_the_answer_to_the_second() {
    // Drops its connection once the second try has begun, and the second answers once that has happened.
    let (asked, is_asked) = mpsc::channel();
    let (dropped, is_dropped) = mpsc::channel();
    let (is_asked, is_dropped) = (Mutex::new(is_asked), Mutex::new(is_dropped));
    let dropping = RawBackend::start(move |connection| {
        connection.read_head()?;
        let is_asked = is_asked.lock().expect("no holder panics");
        is_asked.recv_timeout(DEADLINE).map_err(io::Error::other)?;
        connection.stream.shutdown(Shutdown::Both)?;
        dropped.send(()).map_err(io::Error::other)
    });
    let slow = RawBackend::start(move |connection| {
        loop {
            connection.read_head()?;
            asked.send(()).map_err(io::Error::other)?;
            let is_dropped = is_dropped.lock().expect("no holder panics");
            is_dropped
                .recv_timeout(DEADLINE)
                .map_err(io::Error::other)?;
            connection
                .stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
    });
    let servers = [dropping.addr(), slow.addr()];
    let proxy = before(&servers, "after = \"20ms\", budget = \"100%\"");
    for _ in 0..2 {
        assert_eq!(soon(|| proxy.get("/")).status, 200);
    }
    assert_eq!(proxy.metric("lb_upstream_retries_total"), 0);
}
