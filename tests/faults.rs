//! The faults of the test servers, which the tests of everything that copes with faults rely on.

use std::fs;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::client::{Connection, get, message, request, try_get};
use crate::support::temp_dir::TempDir;
use crate::support::{in_parallel, wait_until};

#[test]
fn faults_are_shown_and_changed_while_it_runs() {
    let backend = Backend::start_with(&["--faults", r#"{"errors": {"ratio": 1, "status": 503}}"#]);
    assert_eq!(get(backend.addr(), "/").status, 503);
    assert_eq!(get(backend.addr(), "/health").status, 200);
    assert_eq!(
        get(backend.addr(), "/faults").json()["errors"]["status"],
        503
    );

    backend.faults(r#"{"errors": {"ratio": 1, "status": 418}, "health": true}"#);
    for path in ["/", "/health"] {
        let answer = get(backend.addr(), path);
        assert_eq!(answer.status, 418, "{path}");
        assert_eq!(answer.headers.get("x-backend"), Some(backend.name()));
    }

    let odd = message(
        "POST",
        "/faults",
        &[],
        br#"{"errors": {"ratio": 2, "status": 500}}"#,
    );
    let answer = request(backend.addr(), odd);
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("ratio from 0 to 1"),
        "{}",
        answer.text()
    );
    assert_eq!(get(backend.addr(), "/").status, 418, "nothing has changed");

    backend.faults("{}");
    assert_eq!(get(backend.addr(), "/").status, 200);
}

#[test]
fn connections_are_reset_before_an_answer_and_within_one() {
    let backend = Backend::start_with(&["--faults", r#"{"reset": 1}"#]);
    let error = try_get(backend.addr(), "/").expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    backend.faults(r#"{"reset_at": 1000}"#);
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    let asked = message("GET", "/bytes/5000", &[], b"");
    connection.send_raw(asked).expect("the backend reads");
    let head = connection.read_head().expect("headers");
    assert_eq!(head.headers.get("content-length"), Some("5000"));
    assert_eq!(connection.read_exact(1000).expect("a part").len(), 1000);
    let error = connection.read_exact(1).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // Too short to get there.
    assert_eq!(get(backend.addr(), "/bytes/1000").body.len(), 1000);
}

#[test]
fn an_answer_may_be_no_http() {
    let backend = Backend::start_with(&["--faults", r#"{"garbage": 1}"#]);
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    let asked = message("GET", "/", &[], b"");
    connection.send_raw(asked).expect("the backend reads");
    let answer = connection.read_to_end().expect("an answer and its end");
    assert!(answer.starts_with(b"HTTP/1.1 \x00\xff"), "{answer:?}");
}

#[test]
fn answers_hang_until_the_fault_is_over() {
    let backend = Backend::start_with(&["--faults", r#"{"hang": 1}"#]);
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    let asked = message("GET", "/", &[], b"");
    connection.send_raw(asked).expect("the backend reads");
    let mut stream = connection.try_clone_stream().expect("a second handle");
    let short = Some(Duration::from_millis(100));
    stream.set_read_timeout(short).expect("a timeout");
    let error = stream.read(&mut [0]).expect_err("nothing comes");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);

    backend.faults("{}");
    assert_eq!(get(backend.addr(), "/").status, 200);
}

#[test]
fn delays_and_slow_bodies_take_their_time() {
    let backend = Backend::start();
    let took = |faults: &str, path| {
        backend.faults(faults);
        let start = Instant::now();
        assert_eq!(get(backend.addr(), path).status, 200);
        start.elapsed()
    };
    assert!(took(r#"{"delay_ms": 80}"#, "/") >= Duration::from_millis(80));
    let slow = r#"{"slow": {"ratio": 1, "ms": 80}, "delay_ms": 20}"#;
    assert!(took(slow, "/") >= Duration::from_millis(100));
    assert!(took(r#"{"body_rate": 10000}"#, "/bytes/1000") >= Duration::from_millis(100));
}

#[test]
fn capacity_makes_requests_wait_for_each_other() {
    let backend = Backend::start_with(&["--faults", r#"{"capacity": {"requests": 2, "ms": 50}}"#]);
    let start = Instant::now();
    in_parallel(6, |_| assert_eq!(get(backend.addr(), "/").status, 200));
    // Three rounds of two.
    assert!(start.elapsed() >= Duration::from_millis(150));

    backend.faults(r#"{"capacity": {"requests": 1, "ms": 50}}"#);
    let start = Instant::now();
    in_parallel(3, |_| assert_eq!(get(backend.addr(), "/").status, 200));
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn the_journal_tells_what_a_killed_server_had_begun() {
    let dir = TempDir::new();
    let path = dir.path().join("journal");
    let journal = path.to_str().expect("the path is text");
    let mut backend = Backend::start_with(&["--journal", journal]);
    let ask = |path, id| message("POST", path, &[("x-chaos-id", id)], b"");
    assert_eq!(request(backend.addr(), ask("/", "one")).status, 200);
    assert_eq!(get(backend.addr(), "/").status, 200);

    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    connection
        .send_raw(ask("/hang", "two"))
        .expect("the backend reads");
    let read = || fs::read_to_string(&path).expect("the journal");
    wait_until("the second request begins", || read().contains("two"));
    let pid = backend.process().pid();
    backend.restart_on_same_port();
    assert_eq!(request(backend.addr(), ask("/", "three")).status, 200);
    backend.faults(r#"{"errors": {"ratio": 1, "status": 500}}"#);
    assert_eq!(request(backend.addr(), ask("/", "four")).status, 500);

    let next = backend.process().pid();
    let expected = format!(
        "one POST {pid} begin\none POST {pid} end\ntwo POST {pid} begin\n\
         three POST {next} begin\nthree POST {next} end\n"
    );
    assert_eq!(read(), expected);
}

#[test]
fn a_server_that_lingers_says_that_it_will_leave() {
    let mut backend = Backend::start_with(&["--linger", "5000"]);
    let mut connection = Connection::open(backend.addr()).expect("the backend listens");
    assert_eq!(connection.get("/").expect("an answer").status, 200);
    backend.process().signal("TERM");
    wait_until("nobody listens", || {
        Connection::open(backend.addr()).is_err()
    });
    let answer = connection.get("/").expect("an answer");
    assert_eq!(answer.headers.get("connection"), Some("close"));
    // The last connection has ended, so there is nothing to wait for.
    assert!(backend.wait_exit(Duration::from_secs(4)).success());
}
