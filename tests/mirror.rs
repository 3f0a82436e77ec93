//! Copies of requests that nobody notices.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, RawBackend, RefusingPort, report, reporting};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::wait_until;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn before(app: std::net::SocketAddr, shadow: std::net::SocketAddr, keys: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[app])
        .unprobed_with("shadow", &[shadow], "timeouts = { response = \"500ms\" }")
        .extra(&format!(
            "[[routes]]\nupstream = \"app\"\nmirror = {{ upstream = \"shadow\"{keys} }}"
        ))
        .start()
}

/// Waits until so many copies have come to this.
fn wait_for(proxy: &RunningProxy, result: &str, count: u64) {
    let label = format!("result=\"{result}\"");
    wait_until(&format!("{count} copies {result}"), || {
        proxy.metric_with("lb_mirror_requests_total", &label) == count
    });
}

#[test]
fn a_copy_is_the_same_request() {
    let app = RawBackend::start(|connection| {
        loop {
            let head = connection.read_head()?;
            let body = if head.starts_with("GET") { 0 } else { 8 };
            connection.stream.read_exact(&mut [0; 8][..body])?;
            connection.stream.write_all(OK)?;
        }
    });
    let (shadow, bodies) = reporting(|connection| {
        let head = connection.read_head()?;
        let mut body = vec![0; if head.starts_with("GET") { 0 } else { 8 }];
        connection.stream.read_exact(&mut body)?;
        // Each connection ends here, and nobody should take it for one that can be used again.
        let last = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        connection.stream.write_all(last)?;
        Ok(body)
    });
    let proxy = before(app.addr(), shadow.addr(), "");
    let fields = [("x-request-id", "one"), ("host", "a.example")];
    for (method, body) in [("GET", &b""[..]), ("POST", b"precious")] {
        let bytes = message(method, "/x?y", &fields, body);
        assert_eq!(request(proxy.addr(), bytes).text(), "ok");
        assert_eq!(report(&bodies), body);
        assert_eq!(shadow.heads().last(), app.heads().last());
    }
    wait_for(&proxy, "answered", 2);
    assert_eq!(proxy.metric("lb_requests_total"), 2);
}

#[test]
fn a_mirror_that_fails_or_is_slow_touches_nobody() {
    let (app, refusing) = (Backend::start(), RefusingPort::new());
    let silent = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.read_head().map(drop)
    });
    for shadow in [refusing.addr(), silent.addr()] {
        let proxy = before(app.addr(), shadow, "");
        let mut client = proxy.connect();
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(client.get("/").expect("an answer").status, 200);
            let post = message("POST", "/echo", &[], b"precious");
            assert_eq!(client.request(post).expect("an answer").text(), "precious");
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        wait_for(&proxy, "failed", 40);
        assert_eq!(proxy.metric("lb_upstream_retries_total"), 0);
        assert_eq!(proxy.metric("lb_upstream_no_server_total"), 0);
    }
}

#[test]
fn a_large_body_is_not_copied() {
    let (app, shadow) = (Backend::start(), Backend::start());
    let proxy = before(app.addr(), shadow.addr(), ", max_body = \"8B\"");
    let chunked = [("transfer-encoding", "chunked")];
    let chunks = b"9\r\n123456789\r\n0\r\n\r\n";
    for bytes in [
        message("PUT", "/echo", &[], b"123456789"),
        message("PUT", "/echo", &chunked, chunks),
    ] {
        assert_eq!(request(proxy.addr(), bytes).text(), "123456789");
    }
    wait_for(&proxy, "skipped_body", 2);
    let bytes = message("PUT", "/echo", &[], b"12345678");
    assert_eq!(request(proxy.addr(), bytes).text(), "12345678");
    wait_for(&proxy, "answered", 1);
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let (app, shadow) = (Backend::start(), Backend::start());
    let proxy = before(app.addr(), shadow.addr(), ", share = \"25%\"");
    let mut client = proxy.connect();
    for _ in 0..400 {
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
    // Six standard deviations about the mean of 100.
    let copied = || proxy.metric("lb_mirror_requests_total");
    wait_until("the last copies", || {
        let answered = proxy.metric_with("lb_server_requests_total", "upstream=\"shadow\"");
        copied() == answered
    });
    assert!((48..=152).contains(&copied()), "{}", copied());
}

#[test]
fn too_many_copies_at_a_time_are_skipped() {
    let app = RawBackend::answering(OK);
    let silent = RawBackend::start(|connection| {
        connection.read_head()?;
        let mut rest = Vec::new();
        connection.stream.read_to_end(&mut rest).map(drop)
    });
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[app.addr()])
        .unprobed("shadow", &[silent.addr()])
        .extra("[[routes]]\nupstream = \"app\"\nmirror = { upstream = \"shadow\" }")
        .start();
    let mut client = proxy.connect();
    for _ in 0..300 {
        assert_eq!(client.get("/").expect("an answer").text(), "ok");
    }
    wait_for(&proxy, "skipped_busy", 44);
}

#[test]
fn an_endless_answer_to_a_copy_is_closed() {
    let app = RawBackend::answering(OK);
    let (endless, written) = reporting(|connection| {
        connection.read_head()?;
        let head = b"HTTP/1.1 200 OK\r\n\r\n";
        connection.stream.write_all(head)?;
        let mut written = 0_u64;
        let error = loop {
            match connection.stream.write(&[0; 65536]) {
                Ok(count) => written += count as u64,
                Err(error) => break error,
            }
        };
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
        Ok(written)
    });
    let proxy = before(app.addr(), endless.addr(), "");
    assert_eq!(proxy.get("/").text(), "ok");
    let written = report(&written);
    assert!(written >= 1 << 20, "{written}");
    wait_for(&proxy, "answered", 1);
}
