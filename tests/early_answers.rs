//! Answers that come before their request has ended.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::support::backend::{RawBackend, report, reporting};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, before_script};

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
