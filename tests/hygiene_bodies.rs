//! Chunked bodies as an attacker writes them: what two readers could end in different places is 400, the connection ends,
//! and the server never sees a body that looks whole.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::backend::{RawBackend, report, reporting};
use crate::support::client::{message, request};
use crate::support::proxy::before_script;
use crate::support::wait_until;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_malformed_chunk_is_400_and_never_the_end_of_a_body() {
    let bodies: &[&[u8]] = &[
        b"\r\n",
        b"x\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\t\r\nhello\r\n0\r\n\r\n",
        b"5\x0b\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"+0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5h\r\nhello\r\n0\r\n\r\n",
        b"1_0\r\nhello world!!!!!\r\n0\r\n\r\n",
        b"5.0\r\nhello\r\n0\r\n\r\n",
        b"\"5\"\r\nhello\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!!\r\n0\r\n\r\n",
        b"5\r\nhel\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;a;\r\nhello\r\n0\r\n\r\n",
        b"5;\nhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        b"5;a=\"b\r\nhello\r\n0\r\n\r\n",
        b"5;a[=b\r\nhello\r\n0\r\n\r\n",
        b"5;\0\r\nhello\r\n0\r\n\r\n",
        b"5,a\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\n\r\r\n",
        b"0\n\r\n",
        b"0\r\nx: y\n\r\n",
        b"0\r\nx: y\r\n\n",
        b"0\r\nx : y\r\n\r\n",
        b"0\r\n x: y\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nx: y\r\n folded\r\n\r\n",
        b"0\r\nx: \0\r\n\r\n",
    ];
    let (whole, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let backend = RawBackend::start({
        let (whole, ended) = (Arc::clone(&whole), Arc::clone(&ended));
        move |connection| {
            let mut seen = Vec::new();
            // The proxy closes the connection when the client's body breaks off.
            let read = connection.stream.read_to_end(&mut seen);
            if seen.ends_with(b"0\r\n\r\n") {
                whole.fetch_add(1, Ordering::Relaxed);
            }
            ended.fetch_add(1, Ordering::Release);
            read.map(drop)
        }
    });
    let proxy = before_script(&backend);
    for body in bodies {
        proxy.refuses([CHUNKED, body].concat(), 400);
    }
    wait_until("the end of every connection", || {
        ended.load(Ordering::Acquire) == backend.connections()
    });
    assert_eq!(whole.load(Ordering::Relaxed), 0);
    assert!(backend.connections() > 0);
}

#[test]
fn a_chunk_line_and_trailers_that_are_too_long_are_refused() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let proxy = before_script(&backend);
    let long = "x".repeat(65_536);
    for body in [
        format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("0\r\nx: {long}\r\n\r\n"),
    ] {
        proxy.refuses([CHUNKED, body.as_bytes()].concat(), 400);
    }
}

#[test]
fn chunks_are_made_anew_without_their_extensions() {
    let (backend, bodies) = reporting(|connection| {
        connection.read_head()?;
        let body = connection.read_until(b"0\r\n\r\n")?;
        connection.stream.write_all(OK)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    });
    let proxy = before_script(&backend);
    for body in [
        "A;x=y\r\n0123456789\r\n0\r\n\r\n",
        "000a ; x = \"\\\"; 5\"; z\r\n0123456789\r\n000;last\r\n\r\n",
        "0000000000000005\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    ] {
        assert_eq!(
            request(proxy.addr(), [CHUNKED, body.as_bytes()].concat()).text(),
            "ok"
        );
        let content: String = report(&bodies).split("\r\n").skip(1).step_by(2).collect();
        assert_eq!(content, "0123456789", "{body:?}");
    }
}

#[test]
fn a_trailer_that_frames_routes_or_is_nominated_does_not_pass() {
    let (backend, trailers) = reporting(|connection| {
        connection.read_head()?;
        let body = connection.read_until(b"\r\n\r\n")?;
        connection.stream.write_all(OK)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    });
    let proxy = before_script(&backend);
    let names = "x-sum, content-length, transfer-encoding, host, connection, te, authorization, content-type, cookie, \
                 set-cookie, expect, max-forwards, cache-control, x-nominated, x_forwarded_for, x-forwarded-for";
    let fields = [
        ("transfer-encoding", "chunked"),
        ("trailer", names),
        ("connection", "x-nominated"),
    ];
    let sent: String = names
        .split(", ")
        .map(|name| format!("{name}: 1\r\n"))
        .collect();
    let body = format!("0\r\n{sent}x-unannounced: 1\r\n\r\n");
    let answer = request(proxy.addr(), message("POST", "/", &fields, body.as_bytes()));
    assert_eq!(answer.status, 200);
    assert_eq!(report(&trailers), "0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn what_follows_a_body_is_the_next_request_and_nothing_else() {
    let backend = RawBackend::start(|connection| {
        loop {
            let head = connection.read_head()?;
            let length = if head.contains("content-length: 5\r\n") {
                5
            } else {
                0
            };
            connection.stream.read_exact(&mut vec![0; length])?;
            connection.stream.write_all(OK)?;
        }
    });
    let proxy = before_script(&backend);
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "POST"] {
        let mut client = proxy.connect();
        let with_body = message(method, "/first", &[], b"GET /");
        let next = message("GET", "/second", &[("connection", "close")], b"");
        client.send_raw([with_body, next].concat()).expect("sent");
        let to_head = method == "HEAD";
        assert_eq!(
            client.read_response(to_head).expect("an answer").status,
            200
        );
        assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
        let heads = backend.heads();
        assert!(
            heads[heads.len() - 1].starts_with("GET /second "),
            "{heads:?}"
        );
    }
}
