//! Bodies and trailers of HTTP/2 (RFC 9113, section 8.1), and what HTTP/1.1 makes of them behind the proxy.

use std::io::{Read, Write};

use crate::http2_requests::{MALFORMED, MALFORMED_OR_END, OK, before_a_server, refused, whole};
use crate::support::backend::{Backend, FullPort, report, reporting};
use crate::support::frames::*;
use crate::support::proxy::{self, Proxy};

#[test]
fn a_length_is_a_number_and_that_of_the_body() {
    for length in [
        "",
        "x",
        "+1",
        "-1",
        "0x1",
        "1, 2",
        "99999999999999999999",
        "1 ",
    ] {
        let bytes = whole(fields_with(&[("content-length", Some(length))]));
        refused(&format!("{length:?}"), bytes, MALFORMED);
    }
    let differing = [
        get(),
        block(&[(b"content-length", b"0"), (b"content-length", b"1")]),
    ]
    .concat();
    refused("two lengths", whole(differing), MALFORMED);
    refused(
        "a length without a body",
        whole(fields_with(&[("content-length", Some("5"))])),
        MALFORMED,
    );
}

/// What a server sees of a POST that says it has five bytes, and of which these frames come.
fn seen_of_five_bytes(frames: &[Vec<u8>]) -> (End, Vec<u8>) {
    let (backend, reports) = reporting(|connection| {
        let mut seen = Vec::new();
        let mut space = [0; 4096];
        while !seen.ends_with(b"\r\n\r\nhello") {
            match connection.stream.read(&mut space) {
                Ok(0) | Err(_) => return Ok(seen),
                Ok(length) => seen.extend_from_slice(&space[..length]),
            }
        }
        connection.stream.write_all(OK)?;
        Ok(seen)
    });
    let proxy = proxy::before_script(&backend);
    let mut client = Frames::connect(proxy.addr());
    let fields = [(":method", Some("POST")), ("content-length", Some("5"))];
    client.send(frame(HEADERS, END_HEADERS, 1, fields_with(&fields)));
    for frame in frames {
        client.send(frame);
    }
    let end = client.end_of(1);
    client.is_open();
    // Nothing of it may have been sent at all, which is as good.
    let seen = match backend.connections() {
        0 => Vec::new(),
        _ => report(&reports),
    };
    (end, seen)
}

#[test]
fn a_body_of_another_length_than_was_said_never_looks_whole() {
    let (end, seen) = seen_of_five_bytes(&[frame(DATA, END_STREAM, 1, b"hello")]);
    assert_eq!(end, End::Answer(200));
    assert!(seen.ends_with(b"\r\n\r\nhello"));

    let short = [frame(DATA, END_STREAM, 1, b"hell")];
    let long = [
        frame(DATA, 0, 1, b"hel"),
        frame(DATA, END_STREAM, 1, b"lo world"),
    ];
    let long_at_once = [frame(DATA, END_STREAM, 1, b"hello world")];
    let trailed = [
        frame(DATA, 0, 1, b"hell"),
        frame(HEADERS, WHOLE, 1, block(&[(b"x", b"y")])),
    ];
    let none = [frame(DATA, END_STREAM, 1, b"")];
    for frames in [&short[..], &long, &long_at_once, &trailed, &none] {
        let (end, seen) = seen_of_five_bytes(frames);
        assert_eq!(end, End::Reset(PROTOCOL_ERROR), "{frames:?}");
        let text = String::from_utf8_lossy(&seen);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(body.len() < 5, "{frames:?}: {text}");
        assert!(!text.contains("world"), "{frames:?}: {text}");
    }
}

#[test]
fn bytes_of_http_1_in_a_body_are_a_body() {
    let smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut expected = format!("{:x}\r\n", smuggled.len()).into_bytes();
    expected.extend([smuggled, &b"\r\n0\r\n\r\n"[..]].concat());
    let (backend, reports) = reporting(move |connection| {
        let head = connection.read_head()?.to_lowercase();
        let mut body = vec![0; expected.len()];
        connection.stream.read_exact(&mut body)?;
        connection.stream.write_all(OK)?;
        Ok((head, body, expected.clone()))
    });
    let proxy = proxy::before_script(&backend);
    let mut client = Frames::connect(proxy.addr());
    client.send(frame(HEADERS, END_HEADERS, 1, post()));
    client.send(frame(DATA, END_STREAM, 1, smuggled));
    assert_eq!(client.end_of(1), End::Answer(200));
    let (head, body, expected) = report(&reports);
    assert!(head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"));
    assert_eq!(
        String::from_utf8_lossy(&body),
        String::from_utf8_lossy(&expected)
    );
}

#[test]
fn trailers_end_their_stream_and_are_fields() {
    let begun = || frame(HEADERS, END_HEADERS, 1, post());
    let trailers = |flags, fields: &[(&[u8], &[u8])]| {
        [begun(), frame(HEADERS, flags, 1, block(fields))].concat()
    };
    for (what, bytes) in [
        ("without an end", trailers(END_HEADERS, &[(b"x", b"y")])),
        ("upper case", trailers(WHOLE, &[(b"X", b"y")])),
        ("a line", trailers(WHOLE, &[(b"x", b"y\r\nz: 1")])),
        (
            "a connection's",
            trailers(WHOLE, &[(b"transfer-encoding", b"chunked")]),
        ),
    ] {
        let (_backend, proxy) = before_a_server();
        let mut client = Frames::connect(proxy.addr());
        client.send(bytes);
        let end = client.end_of(1);
        assert!(MALFORMED_OR_END.contains(&end), "{what}: {end:?}");
    }
}

#[test]
fn values_of_trailers_have_no_space_around_them() {
    for value in [&b" y"[..], b"y ", b"\ty", b"y\t", b" "] {
        let (backend, reports) = reporting(|connection| {
            let mut seen = Vec::new();
            _ = connection.stream.read_to_end(&mut seen);
            Ok(seen)
        });
        let proxy = proxy::before_script(&backend);
        let mut client = Frames::connect(proxy.addr());
        client.send(frame(HEADERS, END_HEADERS, 1, post()));
        client.send(frame(DATA, 0, 1, b"hello"));
        client.send(frame(HEADERS, WHOLE, 1, block(&[(b"x", value)])));
        let end = client.end_of(1);
        assert_eq!(end, End::Answer(400), "{value:?}");
        if backend.connections() > 0 {
            let seen = report(&reports);
            let seen = String::from_utf8_lossy(&seen);
            assert!(!seen.contains("\r\n0\r\n"), "{value:?}: {seen}");
        }
    }
}

#[test]
fn pseudo_fields_of_trailers_go_nowhere() {
    let (backend, reports) = reporting(|connection| {
        connection.read_head()?;
        let body = connection.read_until(b"\r\n\r\n")?;
        connection.stream.write_all(OK)?;
        Ok(body)
    });
    let proxy = proxy::before_script(&backend);
    let mut client = Frames::connect(proxy.addr());
    client.send(frame(HEADERS, END_HEADERS, 1, post()));
    client.send(frame(
        HEADERS,
        WHOLE,
        1,
        block(&[(b":path", b"/smuggled"), (b"x", b"y")]),
    ));
    client.end_of(1);
    let seen = report(&reports);
    assert_eq!(String::from_utf8_lossy(&seen), "0\r\nx: y\r\n\r\n");
}

#[test]
fn many_small_messages_may_wait_for_their_server() {
    let (backend, connecting) = (Backend::start(), FullPort::new());
    let proxy = Proxy::new()
        .unprobed("app", &[backend.addr()])
        .unprobed("slow", &[connecting.addr()])
        .extra(
            "[[routes]]\nmethods = [\"POST\"]\nupstream = \"slow\"\n[[routes]]\nupstream = \"app\"",
        )
        .start();
    let mut client = Frames::connect(proxy.addr());
    client.send(frame(HEADERS, END_HEADERS, 1, post()));
    // As many as the window of a stream has room for, of the size that a number has in gRPC.
    client.send(frame(DATA, 0, 1, [0; 16]).repeat(256 * 1024 / 16));
    client.is_usable(3);
}
