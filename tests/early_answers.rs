//! Answers that come before their request has ended.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::support::backend::{RawBackend, report, reporting};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, before_script};
use crate::support::wait_until;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// More than the kernel's buffers on its way hold.
const LARGE: usize = 5_000_000;

#[test]
fn an_answer_that_comes_before_the_upload_has_ended_is_passed_on_at_once() {
    let (backend, rests) = reporting(|connection| {
        connection.read_head()?;
        connection.stream.write_all(OK)?;
        let mut body = vec![0; LARGE];
        connection.stream.read_exact(&mut body)?;
        Ok(xxh3_64(&body))
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..=250).cycle().take(LARGE).collect();
    let bytes = message("POST", "/", &[], &body);
    let (begin, rest) = bytes.split_at(10_000);
    client.send_raw(begin).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    client.send_raw(rest).expect("the proxy still reads");
    assert_eq!(report(&rests), xxh3_64(&body));
    // The connection is as good as before.
    client.send_raw(bytes).expect("the proxy reads");
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    assert_eq!(report(&rests), xxh3_64(&body));
}

#[test]
fn an_upload_passes_whole_although_its_early_answer_has_no_body() {
    let (backend, rests) = reporting(|connection| {
        connection.read_head()?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        connection.stream.write_all(answer)?;
        let mut body = vec![0; LARGE];
        connection.stream.read_exact(&mut body)?;
        Ok(xxh3_64(&body))
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..=250).cycle().take(LARGE).collect();
    let bytes = message("POST", "/", &[], &body);
    let (begin, rest) = bytes.split_at(10_000);
    client.send_raw(begin).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").status, 200);
    client.send_raw(rest).expect("the proxy still reads");
    assert_eq!(report(&rests), xxh3_64(&body));
}

#[test]
fn an_upload_may_take_longer_after_its_answer_than_headers_may() {
    let (backend, rests) = reporting(|connection| {
        connection.read_head()?;
        connection.stream.write_all(OK)?;
        let mut body = [0; 20];
        connection.stream.read_exact(&mut body)?;
        Ok(body)
    });
    let proxy = Proxy::new()
        .listener("timeouts = { headers = \"200ms\", keep_alive = \"200ms\" }")
        .unprobed("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    let fields = [("content-length", "20")];
    client
        .send_raw(message("POST", "/", &fields, b""))
        .expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    for _ in 0..20 {
        client.send_raw("x").expect("the proxy still reads");
        thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(&report(&rests), &[b'x'; 20]);
}

#[test]
fn an_answer_passes_although_the_server_does_not_want_the_rest_of_the_upload() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
        connection.stream.write_all(answer)?;
        connection.stream.shutdown(Shutdown::Write)?;
        // Some of it was on its way; a close right now would reset the connection and could lose the answer.
        io::copy(&mut connection.stream, &mut io::sink()).map(drop)
    });
    let proxy = before_script(&backend);
    for _ in 0..3 {
        let answer = request(proxy.addr(), message("POST", "/", &[], &vec![0; LARGE]));
        assert_eq!((answer.status, answer.text()), (403, "no"));
    }
}

#[test]
fn an_answer_outlives_the_reset_of_a_server_that_drops_the_upload() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.write_all(OK)
        // The close with unread bytes is a reset. What came before it can still be read.
    });
    let proxy = before_script(&backend);
    for _ in 0..10 {
        let answer = request(proxy.addr(), message("POST", "/", &[], &vec![0; LARGE]));
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
}

#[test]
fn nobody_takes_anything_from_an_upload_whose_server_is_slow_behind_an_empty_answer() {
    const HUGE: usize = 20_000_000;
    let (go_on, wanted) = mpsc::channel();
    let wanted = Mutex::new(wanted);
    let (backend, rests) = reporting(move |connection| {
        connection.read_head()?;
        connection
            .stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        let wanted = wanted.lock().expect("no holder panics");
        wanted.recv().expect("the test goes on");
        let mut body = vec![0; HUGE];
        connection.stream.read_exact(&mut body)?;
        Ok(xxh3_64(&body))
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..=250).cycle().take(HUGE).collect();
    let bytes = message("POST", "/", &[], &body);
    let mut stream = client.try_clone_stream().expect("a second handle");
    let sender = thread::spawn(move || stream.write_all(&bytes));
    assert_eq!(client.read_response(false).expect("an answer").status, 204);
    // The kernel's buffers are full, and the rest waits with the client.
    let (mut received, mut before) = (0, u64::MAX);
    wait_until("nothing moves any more", || {
        before = mem::replace(&mut received, proxy.metric("lb_bytes_received_total"));
        thread::sleep(Duration::from_millis(20));
        received == before
    });
    assert!(received < HUGE as u64, "{received}");
    go_on.send(()).expect("the server waits");
    assert_eq!(report(&rests), xxh3_64(&body));
    sender.join().expect("no panic").expect("all was taken");
    assert_eq!(client.get("/").expect("the same connection").status, 204);
}

#[test]
fn a_server_that_answers_and_stops_taking_the_upload_ends_it() {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        connection.stream.write_all(OK)?;
        _ = ended.lock().expect("no holder panics").recv();
        Ok(())
    });
    let settings = "timeouts = { idle = \"200ms\" }";
    let mut proxy = Proxy::new()
        .listener(settings)
        .unprobed_with("app", &[backend.addr()], settings)
        .start();
    let mut client = proxy.connect();
    let head = message("POST", "/", &[("content-length", "100000000")], b"");
    client.send_raw(head).expect("sent");
    let mut stream = client.try_clone_stream().expect("a second handle");
    let sender = thread::spawn(move || {
        let part = [b'x'; 65536];
        while stream.write_all(&part).is_ok() {}
    });
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    wait_until("the connection is closed", || {
        proxy.metric("lb_connections_open") == 0
    });
    sender.join().expect("no panic");
    assert!(proxy.terminate().success());
    drop(end);
}

#[test]
fn an_upload_ends_with_its_answer_when_that_breaks_off() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        connection.stream.write_all(half)
    });
    let proxy = before_script(&backend);
    for (version, kind) in [
        ("1.1", ErrorKind::UnexpectedEof),
        ("1.0", ErrorKind::ConnectionReset),
    ] {
        let mut client = proxy.connect();
        let head = format!("POST / HTTP/{version}\r\nhost: a\r\ncontent-length: 100\r\n\r\nx");
        client.send_raw(head).expect("sent");
        let error = client.read_response(false).expect_err("half of an answer");
        assert_eq!(error.kind(), kind, "{version}: {error}");
        wait_until("the connection is closed", || {
            proxy.metric("lb_connections_open") == 0
        });
    }
}
