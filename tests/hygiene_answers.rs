//! Answers as a broken or hostile server writes them: 502, or an answer that is visibly cut short, and never a second one.

use std::io::{self, Write};

use crate::support::backend::{RawBackend, RawConnection};
use crate::support::client::{message, request};
use crate::support::proxy::before_script;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that says this and no more, and keeps its connection open until the proxy has had enough of it.
fn always(answer: impl Into<Vec<u8>>) -> RawBackend {
    let answer = answer.into();
    RawBackend::start(move |connection| {
        connection.read_head()?;
        connection.stream.write_all(&answer)?;
        discard(connection)
    })
}

fn discard(connection: &mut RawConnection) -> io::Result<()> {
    io::copy(&mut connection.stream, &mut io::sink()).map(drop)
}

/// Each of these answers becomes a 502, and its connection is not used again.
fn are_502(answers: &[&[u8]]) {
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(120)]);
        let server = always(*answer);
        let proxy = before_script(&server);
        let mut client = proxy.connect();
        for count in 1..=2 {
            let answer = client.get("/").expect("an answer");
            assert_eq!(answer.status, 502, "{shown:?}");
            assert_eq!(server.connections(), count, "{shown:?}");
        }
    }
}

#[test]
fn a_bad_status_line_is_502() {
    are_502(&[
        b"garbage\r\n\r\n",
        b"\0\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1\t200 OK\r\n\r\n",
        b"HTTP/1.1 200\0OK\r\n\r\n",
        b"HTTP/1.1 200 O\x01K\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ]);
}

#[test]
fn an_invalid_field_of_an_answer_is_502() {
    are_502(&[
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntwo words: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \x01\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n x: before\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nn\xc3\xa9: 1\r\n\r\n",
    ]);
}

#[test]
fn an_answer_that_may_end_in_two_places_is_502() {
    are_502(&[
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 12\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_502() {
    are_502(&[
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ]);
}

#[test]
fn a_switch_to_another_protocol_than_was_asked_for_is_502() {
    for (asked, answer) in [
        (
            "echo",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo, other\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nupgrade: other\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ,\r\n\r\n",
        ),
        (
            ",",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ,\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\n\r\n",
        ),
        (
            "h2c",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        ),
    ] {
        let server = always(answer);
        let proxy = before_script(&server);
        let fields = [("connection", "upgrade"), ("upgrade", asked)];
        let answered = request(proxy.addr(), message("GET", "/", &fields, b""));
        assert_eq!(answered.status, 502, "{asked}: {answer:?}");
    }
}

#[test]
fn a_head_of_an_answer_is_bounded() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(70_000));
    let many = "x: 1\r\n".repeat(1000);
    let many = format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n");
    let reason = format!(
        "HTTP/1.1 200 {}\r\ncontent-length: 0\r\n\r\n",
        "x".repeat(70_000)
    );
    are_502(&[long.as_bytes(), many.as_bytes(), reason.as_bytes()]);
}

#[test]
fn a_body_of_an_answer_that_breaks_off_is_cut_off_visibly() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello!!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\n0\n\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nhello",
    ] {
        let server = RawBackend::start(move |connection| {
            connection.read_head()?;
            connection.stream.write_all(answer.as_bytes())
        });
        let proxy = before_script(&server);
        let mut client = proxy.connect();
        client
            .send_raw(message("GET", "/", &[], b""))
            .expect("sent");
        let whole = client.read_response(false);
        assert!(whole.is_err(), "{answer:?}: {whole:?}");
    }
}

#[test]
fn what_a_server_sends_behind_a_message_without_body_is_no_answer() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil",
        ),
    ] {
        let server = RawBackend::start(move |connection| {
            let first = connection.number == 0;
            while connection.read_head().is_ok() {
                connection
                    .stream
                    .write_all(if first { answer.as_bytes() } else { OK })?;
            }
            Ok(())
        });
        let proxy = before_script(&server);
        let mut client = proxy.connect();
        let first = client
            .request(message(method, "/", &[], b""))
            .expect("an answer");
        assert!(!first.text().contains("evil"), "{answer:?}");
        assert_eq!(
            client.get("/").expect("an answer").text(),
            "ok",
            "{answer:?}"
        );
        assert_eq!(server.connections(), 2, "{answer:?}");
    }
}

#[test]
fn odd_answers_that_mean_one_thing_are_passed_on_in_good_form() {
    let cases: &[(&[u8], u16)] = &[
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 \xc3\xa9\r\ncontent-length: 2\r\n\r\nok", 200),
        (
            b"HTTP/1.1 999 Request denied\r\ncontent-length: 2\r\n\r\nok",
            999,
        ),
        // RFC 9112, section 2.2: a bare LF may be taken for a line's end, and what is sent on has none.
        (b"HTTP/1.1 200 OK\ncontent-length: 2\nx: 1\n\nok", 200),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", 200),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            200,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nok", 200),
    ];
    for (answer, status) in cases {
        let answer: &'static [u8] = answer;
        let server = RawBackend::start(move |connection| {
            connection.read_head()?;
            connection.stream.write_all(answer)
        });
        let proxy = before_script(&server);
        let passed = request(proxy.addr(), message("GET", "/", &[], b""));
        assert_eq!((passed.status, passed.text()), (*status, "ok"));
        let version = if answer.starts_with(b"HTTP/1.0") {
            "1.0"
        } else {
            "1.1"
        };
        let via = format!("{version} loadbalancer");
        assert_eq!(passed.headers.get("via"), Some(&*via));
    }
}

#[test]
fn a_nominated_trailer_of_an_answer_does_not_pass() {
    let server = RawBackend::answering(
        b"HTTP/1.1 200 OK\r\nconnection: x-hop\r\ntrailer: x-hop, x-sum, content-length\r\n\
        transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-hop: 1\r\nx-sum: 2\r\ncontent-length: 9\r\n\r\n",
    );
    let proxy = before_script(&server);
    let fields = [("te", "trailers"), ("connection", "te")];
    let answer = request(proxy.addr(), message("GET", "/", &fields, b""));
    let trailers: Vec<_> = answer.trailers.0.iter().map(|(name, _)| &**name).collect();
    assert_eq!((answer.text(), &*trailers), ("ok", &["x-sum"][..]));
}
