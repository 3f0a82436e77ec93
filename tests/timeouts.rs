//! Nothing waits for ever: each deadline on both sides, and what is told to whom.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::backend::{Backend, FullPort, RawBackend};
use crate::support::client::{message, request};
use crate::support::proxy::Proxy;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The shortest limit that a test sets.
const LIMIT: Duration = Duration::from_millis(300);

/// Not before the limit, and not when a deadline of the test's own was the reason.
fn at_the_limit(start: Instant) {
    let elapsed = start.elapsed();
    assert!((LIMIT..DEADLINE / 2).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn headers_that_do_not_end_are_408_and_the_end() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { headers = \"300ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let mut new = proxy.connect();
    let mut used = proxy.connect();
    assert_eq!(used.get("/health").expect("an answer").status, 200);
    for client in [&mut new, &mut used] {
        let start = Instant::now();
        client.send_raw("GET / HTTP/1.1\r\nhost: te").expect("sent");
        let answer = client.read_response(false).expect("an answer");
        assert_eq!(answer.status, 408);
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
        at_the_limit(start);
    }
}

#[test]
fn headers_that_trickle_in_are_no_excuse() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { headers = \"300ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    let start = Instant::now();
    // One byte in 20 ms; this ends when the proxy has closed.
    while client.send_raw("G").is_ok() && start.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(20));
    }
    at_the_limit(start);
}

#[test]
fn empty_lines_are_no_excuse_either() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { headers = \"300ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let (mut new, mut used) = (proxy.connect(), proxy.connect());
    assert_eq!(used.get("/health").expect("an answer").status, 200);
    for client in [&mut new, &mut used] {
        let start = Instant::now();
        // They are no request that could be answered with 408.
        client.send_raw("\r\n").expect("sent");
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
        at_the_limit(start);
    }
    let mut client = proxy.connect();
    let start = Instant::now();
    while client.send_raw("\r\n").is_ok() && start.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(20));
    }
    at_the_limit(start);
}

#[test]
fn a_connection_without_requests_is_closed_silently() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { keep_alive = \"300ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let start = Instant::now();
    let mut new = proxy.connect();
    assert_eq!(new.read_to_end().expect("the proxy closes"), b"");
    at_the_limit(start);

    let mut used = proxy.connect();
    for _ in 0..3 {
        // Each of them takes most of the limit: it is for the time between two.
        assert_eq!(used.get("/delay/200").expect("an answer").status, 200);
    }
    let start = Instant::now();
    assert_eq!(used.get("/health").expect("an answer").status, 200);
    assert_eq!(used.read_to_end().expect("the proxy closes"), b"");
    at_the_limit(start);
}

#[test]
fn an_upload_that_stalls_is_408_and_the_end() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { idle = \"300ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let framings = [("content-length", "10"), ("transfer-encoding", "chunked")];
    for framing in framings {
        let mut client = proxy.connect();
        let start = Instant::now();
        client
            .send_raw(message("POST", "/upload", &[framing], b"3\r\nabc"))
            .expect("sent");
        let answer = client.read_response(false).expect("an answer");
        assert_eq!(answer.status, 408);
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
        at_the_limit(start);
    }
}

#[test]
fn bodies_that_move_may_take_their_time() {
    let backend = Backend::start();
    let listener = "timeouts = { idle = \"500ms\", headers = \"500ms\", keep_alive = \"500ms\" }";
    let upstream = "timeouts = { idle = \"500ms\", response = \"500ms\", connect = \"500ms\" }";
    let proxy = Proxy::new()
        .listener(listener)
        .upstream_with("app", &[backend.addr()], upstream)
        .start();
    // Both take twice as long as any limit.
    let download = thread::spawn({
        let mut client = proxy.connect();
        move || {
            client
                .get("/slow/100/100")
                .expect("a whole body")
                .body
                .len()
        }
    });
    let mut client = proxy.connect();
    let fields = [("content-length", "50")];
    client
        .send_raw(message("POST", "/upload", &fields, b""))
        .expect("sent");
    for _ in 0..50 {
        client.send_raw("x").expect("the proxy reads");
        thread::sleep(Duration::from_millis(20));
    }
    let answer = client.read_response(false).expect("an answer").json();
    assert_eq!(answer["bytes"], 50);
    assert_eq!(download.join().expect("a download"), 100);
}

#[test]
fn a_server_that_does_not_answer_is_504() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream_with(
            "app",
            &[backend.addr()],
            "timeouts = { response = \"300ms\" }",
        )
        .extra("[[routes]]\nupstream = \"app\"")
        .extra("[[routes]]\npaths = [\"/delay/*\"]\nupstream = \"app\"\ntimeout = \"1m\"")
        .start();
    let mut client = proxy.connect();
    for bytes in [
        message("GET", "/hang", &[], b""),
        message("POST", "/hang", &[], b"small"),
    ] {
        let start = Instant::now();
        assert_eq!(client.request(bytes).expect("an answer").status, 504);
        at_the_limit(start);
    }
    // The route's own limit; the client's connection is as good as before.
    assert_eq!(client.get("/delay/500").expect("an answer").status, 200);
}

#[test]
fn a_routes_timeout_goes_before_the_upstreams() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra("[[routes]]\nupstream = \"app\"\ntimeout = \"300ms\"")
        .start();
    let start = Instant::now();
    assert_eq!(proxy.get("/hang").status, 504);
    at_the_limit(start);
}

#[test]
fn a_server_that_got_a_request_and_is_silent_does_not_get_it_twice() {
    let silent = || {
        RawBackend::start(|connection| {
            connection.read_head()?;
            // Until the proxy gives up.
            io::copy(&mut connection.stream, &mut io::sink()).map(drop)
        })
    };
    let servers = [silent(), silent()];
    let proxy = Proxy::new()
        .unprobed_with(
            "app",
            &[servers[0].addr(), servers[1].addr()],
            "timeouts = { response = \"300ms\" }",
        )
        .start();
    assert_eq!(proxy.get("/").status, 504);
    assert_eq!(servers[0].heads().len() + servers[1].heads().len(), 1);
}

#[test]
fn a_server_that_cannot_be_reached_in_time_is_504_unless_another_can() {
    let full = FullPort::new();
    let timeouts = "timeouts = { connect = \"300ms\" }";
    let alone = Proxy::new()
        .unprobed_with("app", &[full.addr()], timeouts)
        .start();
    let start = Instant::now();
    let post = message("POST", "/echo", &[], b"precious");
    assert_eq!(request(alone.addr(), &post).status, 504);
    at_the_limit(start);

    let backend = Backend::start();
    let servers = [full.addr(), backend.addr()];
    let both = Proxy::new()
        .unprobed_with("app", &servers, timeouts)
        .start();
    for _ in 0..2 {
        assert_eq!(request(both.addr(), &post).text(), "precious");
    }
}

#[test]
fn a_download_that_stalls_is_cut_off() {
    let heads: [&'static [u8]; 2] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for head in heads {
        let (closed, closes) = mpsc::channel();
        let backend = RawBackend::start(move |connection| {
            connection.read_head()?;
            connection.stream.write_all(head)?;
            let left = connection.stream.read(&mut [0]);
            let left = left.map_err(|error| error.kind());
            closed.send(left).map_err(io::Error::other)
        });
        let proxy = Proxy::new()
            .unprobed_with("app", &[backend.addr()], "timeouts = { idle = \"300ms\" }")
            .start();
        let mut client = proxy.connect();
        let start = Instant::now();
        client
            .send_raw(message("GET", "/", &[], b""))
            .expect("sent");
        let head = client.read_head().expect("an answer");
        let mut body = Vec::new();
        let read = client.read_body(&head, |data| body.extend_from_slice(data));
        assert_eq!(read.expect_err("no end").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(body, b"half");
        at_the_limit(start);
        let closed = closes.recv_timeout(DEADLINE).expect("closed there too");
        assert_eq!(closed, Err(ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let (closed, closes) = mpsc::channel();
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        connection.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        while connection.stream.write_all(&[0; 100_000]).is_ok() {}
        closed.send(Instant::now()).map_err(io::Error::other)
    });
    let proxy = Proxy::new()
        .listener("timeouts = { idle = \"300ms\" }")
        .unprobed("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    let start = Instant::now();
    client
        .send_raw(message("GET", "/", &[], b""))
        .expect("sent");
    let end = closes
        .recv_timeout(DEADLINE)
        .expect("the server is cut off too");
    let elapsed = end - start;
    assert!((LIMIT..DEADLINE).contains(&elapsed), "{elapsed:?}");
    // What is left in the kernel's buffers, without the end of the body.
    let head = client.read_head().expect("an answer");
    client
        .read_body(&head, |_| {})
        .expect_err("the rest is missing");
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed_and_any_other_is_not() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { idle = \"500ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    let asking = message(
        "GET",
        "/ws",
        &[("connection", "upgrade"), ("upgrade", "echo")],
        b"",
    );
    assert_eq!(client.request(asking).expect("an answer").status, 101);
    let mut start = Instant::now();
    // Longer than twice the limit.
    for _ in 0..13 {
        thread::sleep(Duration::from_millis(90));
        start = Instant::now();
        client.send_raw("x").expect("sent");
        assert_eq!(client.read_exact(1).expect("an echo"), b"x");
    }
    // The client is told by an end or by a reset.
    assert_eq!(client.read_to_end().unwrap_or_default(), b"");
    at_the_limit(start);
}

#[test]
fn an_unused_connection_to_a_server_is_closed() {
    let (closed, closes) = mpsc::channel();
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        let start = Instant::now();
        connection.stream.write_all(OK)?;
        let left = connection.stream.read(&mut [0])?;
        closed.send((start, left)).map_err(io::Error::other)
    });
    let proxy = Proxy::new()
        .unprobed_with(
            "app",
            &[backend.addr()],
            "timeouts = { pool_idle = \"300ms\" }",
        )
        .start();
    assert_eq!(proxy.get("/").text(), "ok");
    let (start, left) = closes.recv_timeout(DEADLINE).expect("the proxy closes");
    assert_eq!(left, 0);
    at_the_limit(start);
}
