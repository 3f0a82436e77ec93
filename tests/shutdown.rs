//! How the proxy ends: what is under way is finished, within limits, and nothing new is taken.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::{RawBackend, RawConnection};
use crate::support::client::{Connection, Head, message};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::temp_dir::TempDir;
use crate::support::{DEADLINE, wait_until};

/// A server that sends the head and half of a body of 10 bytes, and the rest when the test says so.
struct Slow {
    backend: RawBackend,
    go_on: Arc<AtomicBool>,
}

impl Slow {
    fn start() -> Self {
        Self::start_with(|connection, wait| {
            let start = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234";
            connection.stream.write_all(start)?;
            wait();
            connection.stream.write_all(b"56789")
        })
    }

    /// Answers each request with `script`, whose second argument returns when the test says so.
    fn start_with(
        script: impl Fn(&mut RawConnection, &dyn Fn()) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let go_on = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&go_on);
        let backend = RawBackend::start(move |connection| {
            loop {
                connection.read_head()?;
                script(connection, &|| {
                    let end = Instant::now() + 2 * DEADLINE;
                    while !told.load(Ordering::Relaxed) && Instant::now() < end {
                        thread::sleep(Duration::from_millis(5));
                    }
                })?;
            }
        });
        Self { backend, go_on }
    }

    fn go_on(&self) {
        self.go_on.store(true, Ordering::Relaxed);
    }

    fn proxy(&self) -> Proxy {
        let unchecked = "health_check = { kind = \"off\" }";
        Proxy::new().upstream_with("app", &[self.backend.addr()], unchecked)
    }
}

/// An answer of which the head and half of the body have arrived.
struct Download {
    connection: Connection,
    head: Head,
}

impl Download {
    fn start(proxy: &RunningProxy) -> Self {
        let mut connection = proxy.connect();
        connection
            .send_raw(message("GET", "/", &[], b""))
            .expect("the proxy reads");
        let head = connection.read_head().expect("an answer");
        assert_eq!(
            connection.read_exact(5).expect("half of the body"),
            b"01234"
        );
        Self { connection, head }
    }

    /// Reads the rest.
    fn finish(mut self) {
        assert_eq!(self.head.status, 200);
        let rest = self.connection.read_to_end().expect("the connection ends");
        assert_eq!(rest, b"56789");
    }

    /// What of the rest comes before the end, be it an error.
    fn rest_if_any(mut self) -> Vec<u8> {
        self.connection.read_to_end().unwrap_or_default()
    }
}

/// Sends a signal and waits until the proxy accepts no connection any more.
fn end(proxy: &RunningProxy, signal: &str) {
    proxy.process().signal(signal);
    let line = proxy.process().wait_for_line("draining");
    assert!(line.contains(&format!("SIG{signal}")), "{line}");
    wait_until("new connections are refused", || {
        let refused = TcpStream::connect(proxy.addr()).err();
        refused.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
}

#[test]
fn an_idle_proxy_ends_at_once() {
    let mut proxy = Proxy::new().extra("[[routes]]\nrespond = {}").start();
    assert_eq!(proxy.get("/").status, 200);
    proxy.process().signal("TERM");
    assert!(
        proxy.wait_exit(DEADLINE).success(),
        "before its drain limit of 30 s"
    );
}

#[test]
fn a_download_under_way_is_finished_and_nothing_new_is_accepted() {
    for signal in ["TERM", "INT"] {
        let slow = Slow::start();
        let mut proxy = slow.proxy().start();
        let download = Download::start(&proxy);
        end(&proxy, signal);
        slow.go_on();
        download.finish();
        assert!(proxy.wait_exit(DEADLINE).success(), "SIG{signal}");
    }
}

#[test]
fn an_upload_under_way_is_finished() {
    let slow = Slow::start_with(|connection, _| {
        let mut body = [0; 10];
        io::Read::read_exact(&mut connection.stream, &mut body)?;
        connection
            .stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")?;
        connection.stream.write_all(&body)
    });
    let mut proxy = slow.proxy().start();
    let mut upload = proxy.connect();
    let start = message("POST", "/", &[("content-length", "10")], b"01234");
    upload.send_raw(start).expect("the proxy reads");
    wait_until("the request has reached the server", || {
        slow.backend.heads().len() == 1
    });
    end(&proxy, "TERM");
    upload.send_raw("56789").expect("the proxy reads on");
    assert_eq!(
        upload.read_response(false).expect("an answer").text(),
        "0123456789"
    );
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn idle_connections_are_closed_at_once() {
    let slow = Slow::start();
    let mut proxy = slow
        .proxy()
        .extra("[[routes]]\nupstream = \"app\"\n[[routes]]\npaths = [\"/idle\"]\nrespond = {}")
        .start();
    let download = Download::start(&proxy);
    let (mut used, mut unused) = (proxy.connect(), proxy.connect());
    assert_eq!(used.get("/idle").expect("an answer").status, 200);
    end(&proxy, "TERM");
    for idle in [&mut used, &mut unused] {
        assert_eq!(idle.read_to_end().expect("a close in order"), b"");
    }
    // All that while the proxy still runs.
    slow.go_on();
    download.finish();
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn the_answer_to_a_request_under_way_says_that_the_connection_closes() {
    let slow = Slow::start_with(|connection, wait| {
        wait();
        connection
            .stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let mut proxy = slow.proxy().setting("workers = 1").start();
    let mut connection = proxy.connect();
    connection
        .send_raw(message("GET", "/", &[], b""))
        .expect("the proxy reads");
    wait_until("the request has reached the server", || {
        slow.backend.heads().len() == 1
    });
    end(&proxy, "TERM");
    slow.go_on();
    let answer = connection.read_response(false).expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.headers.get("connection"), Some("close"));
    assert_eq!(connection.read_to_end().expect("the close"), b"");
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn what_lasts_longer_than_drain_timeout_is_cut_off() {
    let slow = Slow::start();
    let mut proxy = slow.proxy().setting("drain_timeout = \"400ms\"").start();
    let download = Download::start(&proxy);
    let start = Instant::now();
    proxy.process().signal("TERM");
    assert!(proxy.wait_exit(DEADLINE).success());
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(download.rest_if_any(), b"");
    proxy.process().wait_for_line("the drain limit has passed");
}

/// Interrupts a download by a second signal.
fn end_twice(config: &str) {
    let slow = Slow::start();
    let mut proxy = slow.proxy().extra(config).start();
    let download = Download::start(&proxy);
    end(&proxy, "TERM");
    // Within 100 ms it would be the same signal, sent to the process and to its group.
    thread::sleep(Duration::from_millis(200));
    proxy.process().signal("TERM");
    let status = proxy.wait_exit(DEADLINE);
    assert_eq!(status.code(), Some(1), "before the drain limit of 30 s");
    assert_eq!(download.rest_if_any(), b"");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    end_twice("");
}

#[test]
fn a_second_signal_ends_it_at_once_although_a_line_of_the_access_log_is_to_come() {
    let directory = TempDir::new();
    let path = directory.path().join("access.log");
    end_twice(&format!("[access_log]\npath = {path:?}"));
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let slow = Slow::start();
    let mut proxy = slow.proxy().start();
    let download = Download::start(&proxy);
    proxy.process().signal("TERM");
    end(&proxy, "TERM");
    slow.go_on();
    assert!(proxy.wait_exit(DEADLINE).success());
    assert_eq!(download.rest_if_any(), b"56789");
}

#[test]
fn sighup_does_not_end_it() {
    let slow = Slow::start();
    let proxy = slow.proxy().start();
    proxy.process().signal("HUP");
    proxy.process().wait_for_line("SIGHUP");
    slow.go_on();
    assert_eq!(proxy.get("/").text(), "0123456789");
}
