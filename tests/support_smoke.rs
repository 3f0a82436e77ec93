//! The fixtures themselves, without a proxy: what a test of the proxy believes of its backends and its client.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{Connection, get, message, request, try_get};
use crate::support::process::{BACKEND, Process};
use crate::support::{DEADLINE, wait_until};

/// The content of `/bytes`, `/slow` and `/cut`.
fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
fn a_backend_names_itself_in_every_answer() {
    let backend = Backend::start();
    let greeting = get(backend.addr(), "/");
    assert_eq!(greeting.status, 200);
    assert_eq!(greeting.text(), format!("Hello from {}\n", backend.name()));
    assert_eq!(get(backend.addr(), "/health").text(), "ok");

    let missing = get(backend.addr(), "/missing");
    assert_eq!(
        (missing.status, missing.headers.get("x-backend")),
        (404, Some(backend.name()))
    );
    assert_ne!(backend.name(), Backend::start().name());
}

#[test]
fn flags_change_health_and_delay() {
    let backend = Backend::start_with(&["--health-status", "503", "--delay", "50"]);
    let start = Instant::now();
    assert_eq!(get(backend.addr(), "/health").status, 503);
    assert!(
        start.elapsed() >= Duration::from_millis(50),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(get(backend.addr(), "/").status, 200);

    let slow_health = Backend::start_with(&["--health-delay", "50"]);
    let start = Instant::now();
    assert_eq!(get(slow_health.addr(), "/health").status, 200);
    assert!(
        start.elapsed() >= Duration::from_millis(50),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn echo_returns_a_mebibyte_and_its_type() {
    let backend = Backend::start();
    let body = pattern(1 << 20);
    let answer = request(
        backend.addr(),
        message("PUT", "/echo", &[("content-type", "image/x-test")], &body),
    );
    assert_eq!(answer.headers.get("content-type"), Some("image/x-test"));
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

#[test]
fn upload_hashes_what_arrived() {
    let backend = Backend::start();
    let body = pattern(100_000);
    let answer = request(backend.addr(), message("POST", "/upload", &[], &body)).json();
    assert_eq!(answer["bytes"], 100_000);
    assert_eq!(answer["xxh3"], format!("{:016x}", xxh3_64(&body)));
}

#[test]
fn headers_describes_the_request() {
    let backend = Backend::start();
    let fields = [("host", "a.example"), ("X-Twice", "1"), ("x-twice", "2")];
    let described = request(
        backend.addr(),
        message("POST", "/headers?q=1", &fields, b"12345"),
    )
    .json();
    assert_eq!(described["method"], "POST");
    assert_eq!(described["uri"], "/headers?q=1");
    assert_eq!(described["version"], "HTTP/1.1");
    assert_eq!(
        described["headers"]["host"],
        serde_json::json!(["a.example"])
    );
    assert_eq!(
        described["headers"]["x-twice"],
        serde_json::json!(["1", "2"])
    );
    assert_eq!(described["body_bytes"], 5);
}

#[test]
fn large_bodies_stream_in_flat_memory() {
    let backend = Backend::start();
    assert!(get(backend.addr(), "/bytes/70000").body == pattern(70_000));

    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    connection
        .send_raw(message("GET", "/bytes/256MiB", &[], b""))
        .expect("the backend reads");
    let head = connection.read_head().expect("an answer");
    assert_eq!(head.headers.get("content-length"), Some("268435456"));
    let (mut count, mut peak) = (0, 0);
    let mut next_look = 0;
    let trailers = connection.read_body(&head, |data| {
        count += data.len();
        if count >= next_look {
            next_look += 64 << 20;
            peak = peak.max(backend.process().rss_kib());
        }
    });
    assert!(trailers.expect("a whole body").0.is_empty());
    assert_eq!(count, 256 << 20);
    assert!(peak < 32 << 10, "the backend grew to {peak} KiB");
}

#[test]
fn slow_bodies_keep_their_rate() {
    let backend = Backend::start();
    let start = Instant::now();
    assert!(get(backend.addr(), "/slow/20000/100000").body == pattern(20_000));
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn chunks_and_trailers_are_parsed() {
    let backend = Backend::start();
    let chunked = get(backend.addr(), "/chunked/3");
    assert_eq!(chunked.headers.get("transfer-encoding"), Some("chunked"));
    assert_eq!(chunked.text(), "chunk 0\nchunk 1\nchunk 2\n");

    let answer = request(
        backend.addr(),
        message("GET", "/trailers", &[("te", "trailers")], b""),
    );
    assert_eq!(answer.text(), "a body with a trailer\n");
    assert_eq!(answer.trailers.get("X-Checksum"), Some("abc"));
}

#[test]
fn one_connection_serves_many_requests_also_pipelined() {
    let backend = Backend::start();
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    assert_eq!(connection.get("/status/204").expect("an answer").body, b"");
    let head = connection
        .request(message("HEAD", "/bytes/10", &[], b""))
        .expect("an answer");
    assert_eq!(
        (head.headers.get("content-length"), head.body.len()),
        (Some("10"), 0)
    );

    connection
        .send_raw(
            [
                message("GET", "/bytes/3", &[], b""),
                message("GET", "/", &[], b""),
            ]
            .concat(),
        )
        .expect("sent");
    assert_eq!(
        connection
            .read_response(false)
            .expect("the first answer")
            .body,
        pattern(3)
    );
    assert_eq!(
        connection
            .read_response(false)
            .expect("the second answer")
            .text()
            .len(),
        12 + backend.name().len()
    );

    connection.finish_sending().expect("the backend is there");
    assert_eq!(connection.read_to_end().expect("the backend closes"), b"");
}

#[test]
fn an_interim_answer_is_read_on_its_own() {
    let backend = Backend::start();
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    let head = message(
        "POST",
        "/echo",
        &[("expect", "100-continue"), ("content-length", "2")],
        b"",
    );
    connection.send_raw(head).expect("sent");
    assert_eq!(
        connection.read_response(false).expect("an answer").status,
        100
    );
    connection.send_raw("hi").expect("sent");
    assert_eq!(
        connection.read_response(false).expect("an answer").text(),
        "hi"
    );
}

#[test]
fn an_early_answer_leaves_the_connection_usable() {
    let backend = Backend::start();
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    connection
        .send_raw(message("POST", "/early", &[("content-length", "4")], b""))
        .expect("sent");
    assert_eq!(
        connection
            .read_response(false)
            .expect("an answer before the body")
            .text(),
        "early\n"
    );
    connection.send_raw("body").expect("sent");
    assert_eq!(connection.get("/health").expect("an answer").text(), "ok");
}

#[test]
fn an_upgraded_connection_echoes_bytes() {
    let backend = Backend::start();
    assert_eq!(get(backend.addr(), "/ws").status, 426);

    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    let asking = message(
        "GET",
        "/ws",
        &[("connection", "upgrade"), ("upgrade", "echo")],
        b"",
    );
    let answer = connection.request(asking).expect("an answer");
    assert_eq!(
        (answer.status, answer.headers.get("upgrade")),
        (101, Some("echo"))
    );
    connection.send_raw("not HTTP").expect("sent");
    assert_eq!(connection.read_exact(8).expect("an echo"), b"not HTTP");
    connection.finish_sending().expect("the backend is there");
    assert_eq!(connection.read_to_end().expect("the tunnel ends"), b"");
}

#[test]
fn a_request_that_hangs_ends_with_its_connection() {
    let backend = Backend::start();
    let open_files = || {
        let files = fs::read_dir(format!("/proc/{}/fd", backend.process().pid()));
        files.expect("it runs").count()
    };
    let before = open_files();
    let hanging: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Connection::open(backend.addr()).expect("it listens");
            let body = [("content-length", "1000")];
            let begun = message("POST", "/hang", &body, b"some of it");
            client.send_raw(begun).expect("sent");
            client
        })
        .collect();
    wait_until("all are there", || open_files() >= before + 20);
    drop(hanging);
    wait_until("none is left", || open_files() <= before);
}

#[test]
fn broken_answers_are_errors() {
    let backend = Backend::start();
    for path in ["/reset", "/cut/1000"] {
        let error = try_get(backend.addr(), path).expect_err(path);
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ),
            "{error}"
        );
    }
    // Half of the body arrives all the same.
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    connection
        .send_raw(message("GET", "/cut/1000", &[], b""))
        .expect("sent");
    let head = connection.read_head().expect("an answer");
    let mut body = Vec::new();
    connection
        .read_body(&head, |data| body.extend_from_slice(data))
        .expect_err("the rest is missing");
    assert!(body == pattern(500), "{} bytes arrived", body.len());

    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    connection
        .set_read_timeout(Duration::from_millis(50))
        .expect("not zero");
    connection.get("/hang").expect_err("no answer");
}

#[test]
fn a_killed_backend_comes_back_on_its_port() {
    let mut backend = Backend::start();
    let (addr, name) = (backend.addr(), backend.name().to_owned());
    backend.kill_9();
    try_get(addr, "/").expect_err("nobody listens");

    backend.restart_on_same_port();
    assert_eq!(backend.addr(), addr);
    assert_eq!(get(addr, "/").headers.get("x-backend"), Some(name.as_str()));
}

#[test]
fn a_paused_backend_accepts_and_says_nothing() {
    let backend = Backend::start();
    backend.pause();
    let mut connection = Connection::open(backend.addr()).expect("the kernel accepts");
    connection
        .set_read_timeout(Duration::from_millis(50))
        .expect("not zero");
    connection
        .send_raw(message("GET", "/", &[], b""))
        .expect("the kernel takes it");
    connection.read_head().expect_err("no answer while paused");

    backend.resume();
    connection.set_read_timeout(DEADLINE).expect("not zero");
    assert_eq!(
        connection
            .read_response(false)
            .expect("an answer at last")
            .status,
        200
    );
}

#[test]
fn a_backend_ends_well_on_sigterm_and_finishes_what_it_answers() {
    let mut process = Process::start(BACKEND, &["--listen", "127.0.0.1:0"]);
    let line = process.wait_for_line("backend1 listening on 127.0.0.1:");
    let addr = line
        .rsplit(' ')
        .next()
        .and_then(|addr| addr.parse().ok())
        .expect("an address");
    let mut connection = Connection::open(addr).expect("the backend listens");
    connection
        .send_raw(message("GET", "/slow/10/100", &[], b""))
        .expect("sent");
    let head = connection.read_head().expect("an answer");

    process.signal("TERM");
    let mut count = 0;
    connection
        .read_body(&head, |data| count += data.len())
        .expect("a whole body");
    assert_eq!(count, 10);
    assert!(process.wait_exit(DEADLINE).success());
    try_get(addr, "/").expect_err("nobody listens");
}

#[test]
fn a_port_in_use_is_one_line_and_a_failure() {
    let first = Backend::start();
    let mut second = Process::start(BACKEND, &["--listen", &first.addr().to_string()]);
    assert_eq!(second.wait_exit(DEADLINE).code(), Some(1));
    let output = second.output();
    assert!(
        output.starts_with(&format!("backends1: cannot listen on {}: ", first.addr())),
        "{output}"
    );
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[test]
fn a_raw_backend_follows_its_script_and_keeps_count() {
    let ok = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let mut connection = Connection::open(ok.addr()).expect("the script listens");
    assert_eq!(connection.get("/a").expect("an answer").text(), "ok");
    assert_eq!(connection.get("/b").expect("an answer").text(), "ok");
    assert_eq!(ok.connections(), 1);
    assert_eq!(
        ok.heads(),
        ["/a", "/b"].map(|path| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
    );

    let second_time_lucky = RawBackend::start(|connection| {
        connection.read_head()?;
        if connection.number == 0 {
            return Ok(());
        }
        connection
            .stream
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    });
    try_get(second_time_lucky.addr(), "/").expect_err("closed without an answer");
    assert_eq!(get(second_time_lucky.addr(), "/").text(), "until the end");
    wait_until("two connections counted", || {
        second_time_lucky.connections() == 2
    });
}

#[test]
fn an_ambiguous_length_is_no_answer() {
    let smuggler = RawBackend::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    let error = try_get(smuggler.addr(), "/").expect_err("two lengths");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
