//! Requests of HTTP/2, right and malformed (RFC 9113, section 8), and what HTTP/1.1 makes of them behind the proxy.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::backend::RawBackend;
use crate::support::frames::*;
use crate::support::proxy::{self, RunningProxy};
use crate::support::wait_until;

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that answers everything, and a proxy before it.
pub fn before_a_server() -> (RawBackend, RunningProxy) {
    let backend = RawBackend::answering(OK);
    let proxy = proxy::before_script(&backend);
    (backend, proxy)
}

/// Sends frames as stream 1 and asserts what becomes of it, that the server has seen nothing of it, and that the next
/// request is answered.
pub fn refused(what: &str, bytes: impl AsRef<[u8]>, expected: &[End]) {
    let (backend, proxy) = before_a_server();
    let mut client = Frames::connect(proxy.addr());
    client.send(bytes);
    let end = client.end_of(1);
    assert!(expected.contains(&end), "{what}: {end:?}");
    let mut client = match end {
        End::Goaway(_) | End::Close => Frames::connect(proxy.addr()),
        End::Answer(_) | End::Reset(_) => client,
    };
    client.ask(3, fields_with(&[(":path", Some("/next"))]));
    assert_eq!(
        client.end_of(3),
        End::Answer(200),
        "{what}: the next request"
    );
    let heads = backend.heads();
    assert_eq!(heads.len(), 1, "{what}: {heads:?}");
    assert!(
        heads[0].starts_with("GET /next HTTP/1.1\r\n"),
        "{what}: {heads:?}"
    );
}

/// What the specification asks for a malformed request.
pub const MALFORMED: &[End] = &[End::Reset(PROTOCOL_ERROR)];
/// It may be taken for an error of the connection.
pub const MALFORMED_OR_END: &[End] = &[End::Reset(PROTOCOL_ERROR), End::Goaway(PROTOCOL_ERROR)];

pub fn whole(block: impl AsRef<[u8]>) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, block)
}

/// A GET with another field.
fn with_field(name: &[u8], value: &[u8]) -> Vec<u8> {
    whole([get(), block(&[(name, value)])].concat())
}

#[test]
fn a_request_becomes_exactly_one_request_of_http_1() {
    let (backend, proxy) = before_a_server();
    let mut client = Frames::connect(proxy.addr());
    let fields = [
        (":path", Some("/a?b=c")),
        ("x-field", Some("a: b")),
        ("te", Some("trailers")),
        ("cookie", Some("a=1")),
    ];
    client.ask(1, fields_with(&fields));
    assert_eq!(client.end_of(1), End::Answer(200));
    let heads = backend.heads();
    let lines: Vec<_> = heads[0].trim_end().split("\r\n").collect();
    assert_eq!(lines[0], "GET /a?b=c HTTP/1.1");
    for line in [
        "host: test",
        "x-field: a: b",
        "te: trailers",
        "connection: te",
        "cookie: a=1",
    ] {
        let times = lines.iter().filter(|it| **it == line).count();
        assert_eq!(times, 1, "{line} in {lines:?}");
    }
    assert!(!heads[0].contains("content-length") && !heads[0].contains("transfer-encoding"));
}

#[test]
fn names_of_fields_are_lower_case_tokens() {
    for name in [
        &b"X-Upper"[..],
        b"x y",
        b"x\ty",
        b"x:y",
        b"x\r\ny",
        b"x\0",
        b"x\x7f",
        b"x\xff",
        b"(x)",
        b"",
        b"x: a\r\nsmuggled",
    ] {
        refused(
            &format!("{name:?}"),
            with_field(name, b"a"),
            MALFORMED_OR_END,
        );
    }
}

#[test]
fn values_have_no_line_ends_and_no_space_around_them() {
    for value in [
        &b"a\r\nx-smuggled: 1"[..],
        b"a\nb",
        b"a\rb",
        b"a\0b",
        b"a\x7f",
        b"a\x1b",
        b"\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b" a",
        b"\ta",
        b"a ",
        b"a\t",
        b" ",
    ] {
        refused(
            &format!("{value:?}"),
            with_field(b"x", value),
            MALFORMED_OR_END,
        );
    }
    refused(
        "a Host that :authority replaces",
        with_field(b"host", b" evil"),
        MALFORMED_OR_END,
    );
    let (backend, proxy) = before_a_server();
    let mut client = Frames::connect(proxy.addr());
    client.send(with_field(b"x", b"a \t\xc3\xa9 b"));
    assert_eq!(client.end_of(1), End::Answer(200));
    assert!(backend.heads()[0].contains("\r\nx: a \t\u{e9} b\r\n"));
}

#[test]
fn fields_of_a_connection_are_malformed() {
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-request-id"),
        ("keep-alive", "1"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ] {
        let bytes = with_field(name.as_bytes(), value.as_bytes());
        refused(&format!("{name}: {value}"), bytes, MALFORMED);
    }
}

#[test]
fn pseudo_fields_are_known_and_come_once_and_first() {
    let late = [
        (&b":method"[..], &b"GET"[..]),
        (b":scheme", b"http"),
        (b"x", b"a"),
        (b":path", b"/"),
        (b":authority", b"test"),
    ];
    refused("late", whole(block(&late)), MALFORMED);
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/smuggled"),
        (":authority", "other"),
    ] {
        let twice = [block(&[(name.as_bytes(), value.as_bytes())]), get()].concat();
        refused(&format!("{name} twice"), whole(twice), MALFORMED);
    }
    for name in [":status", ":unknown", ":"] {
        let bytes = whole([block(&[(name.as_bytes(), b"200")]), get()].concat());
        refused(name, bytes, MALFORMED_OR_END);
    }
}

#[test]
fn a_request_has_a_method_a_scheme_a_path_and_a_host() {
    for name in [":method", ":scheme", ":path", ":authority"] {
        refused(
            &format!("no {name}"),
            whole(fields_with(&[(name, None)])),
            MALFORMED,
        );
    }
    let hosted = fields_with(&[
        (":authority", None),
        (":path", None),
        ("host", Some("test")),
    ]);
    refused("no path, but a host", whole(hosted), MALFORMED);
    let (backend, proxy) = before_a_server();
    let mut client = Frames::connect(proxy.addr());
    client.ask(
        1,
        fields_with(&[(":authority", None), ("host", Some("by-host"))]),
    );
    assert_eq!(client.end_of(1), End::Answer(200));
    assert!(backend.heads()[0].contains("\r\nhost: by-host\r\n"));
}

#[test]
fn a_method_is_a_token() {
    for method in [
        "",
        "GET /smuggled HTTP/1.1\r\nx:",
        "GE T",
        "G\0T",
        "GET\n",
        " GET",
        "G\u{e9}T",
    ] {
        let bytes = whole(fields_with(&[(":method", Some(method))]));
        refused(&format!("{method:?}"), bytes, MALFORMED_OR_END);
    }
}

#[test]
fn a_path_is_one_of_a_uri() {
    for path in [
        "",
        "x",
        "*",
        "?q",
        "http://evil/",
        "/ HTTP/1.1\r\nx: y\r\n\r\nGET /smuggled",
        "/a b",
        "/a\tb",
        "/a\r\n",
        "/\0",
        "/\u{7f}",
        "/\u{e9}",
        "/a<b",
    ] {
        let bytes = whole(fields_with(&[(":path", Some(path))]));
        refused(&format!("{path:?}"), bytes, MALFORMED_OR_END);
    }
    // A fragment never gets beyond the library.
    let (backend, proxy) = before_a_server();
    let mut client = Frames::connect(proxy.addr());
    client.ask(1, fields_with(&[(":path", Some("/a#b"))]));
    assert_eq!(client.end_of(1), End::Answer(200));
    assert!(backend.heads()[0].starts_with("GET /a HTTP/1.1\r\n"));
}

#[test]
fn a_scheme_is_http_or_https() {
    for scheme in ["ftp", "wss", "", "http\r\n", "http://evil/?", "ht tp"] {
        let bytes = whole(fields_with(&[(":scheme", Some(scheme))]));
        refused(&format!("{scheme:?}"), bytes, MALFORMED_OR_END);
    }
}

#[test]
fn an_authority_is_a_host_without_a_user() {
    let expected = &[End::Answer(400), MALFORMED[0], MALFORMED_OR_END[1]];
    for authority in [
        "",
        "user@test",
        "user:secret@test",
        "te st",
        "test/path",
        "test\r\nx-smuggled: 1",
        "a,b",
        "test:99999",
        "t\u{e9}st",
        &"x".repeat(256),
    ] {
        let bytes = whole(fields_with(&[(":authority", Some(authority))]));
        refused(&format!("{authority:?}"), bytes, expected);
    }
    for host in ["", "user@test", "a b", "a,b"] {
        let fields = fields_with(&[(":authority", None), ("host", Some(host))]);
        refused(&format!("host {host:?}"), whole(fields), expected);
    }
    let two = fields_with(&[(":authority", None), ("host", Some("a"))]);
    let two = [two, block(&[(b"host", b"b")])].concat();
    refused("two hosts", whole(two), expected);
}

#[test]
fn connect_needs_a_protocol_that_is_websocket() {
    let connect = (":method", Some("CONNECT"));
    let websocket = (":protocol", Some("websocket"));
    let (path, scheme, host) = ((":path", None), (":scheme", None), (":authority", None));
    for (what, fields, expected) in [
        (
            "a tunnel",
            vec![connect, path, scheme],
            &[End::Answer(405)][..],
        ),
        ("a tunnel with a path", vec![connect], MALFORMED),
        (
            "another protocol",
            vec![connect, (":protocol", Some("connect-udp"))],
            &[End::Answer(405)],
        ),
        ("without a path", vec![connect, websocket, path], MALFORMED),
        (
            "without a scheme",
            vec![connect, websocket, scheme],
            MALFORMED,
        ),
        ("without a host", vec![connect, websocket, host], MALFORMED),
        ("with another method", vec![websocket], MALFORMED),
    ] {
        // A protocol stands with the other pseudo-fields.
        let (protocol, others): (Vec<_>, Vec<_>) =
            fields.iter().partition(|(name, _)| *name == ":protocol");
        let protocol = protocol.iter().map(|(name, value)| {
            let value = value.unwrap_or_default();
            block(&[(name.as_bytes(), value.as_bytes())])
        });
        let first = protocol.collect::<Vec<_>>().concat();
        let request = [first, fields_with(&others)].concat();
        refused(what, whole(request), expected);
    }
}

#[test]
fn compression_that_makes_no_sense_ends_the_connection() {
    let (_backend, proxy) = before_a_server();
    for (what, bytes) in [
        ("index 0", vec![0x80]),
        ("an index beyond the table", vec![0xff, 0x80, 0x01]),
        ("a number without end", [&[0xff][..], &[0xff; 20]].concat()),
        ("a text beyond the block", vec![0x00, 0x7f, 0x7f, b'x']),
        ("a table larger than was allowed", vec![0x3f, 0xe2, 0x1f]),
        ("a size behind a field", [&get()[..], &[0x20]].concat()),
        (
            "bad padding of a code",
            [&get()[..], &[0x00, 0x81, 0x00, 0x00]].concat(),
        ),
        (
            "an end within a code",
            [&get()[..], &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]].concat(),
        ),
        ("half a field", [&get()[..], &[0x00, 0x01]].concat()),
    ] {
        let mut client = Frames::connect(proxy.addr());
        client.send(whole(bytes));
        assert!(matches!(client.end(), End::Goaway(1..)), "{what}");
    }
}

#[test]
fn fields_that_are_too_large_are_431_and_far_too_large_ones_the_end() {
    let (backend, proxy) = before_a_server();
    // One large field, kept in the table, and then named again and again.
    let mut block = get();
    literal(&mut block, 0x40, b"x", &[b'a'; 3000]);
    let bomb = |times: usize| [block.clone(), vec![0x80 | 62; times]].concat();
    let mut client = Frames::connect(proxy.addr());
    client.ask(1, bomb(15));
    assert_eq!(client.end_of(1), End::Answer(431));
    client.is_usable(3);
    client.ask(5, bomb(100));
    assert_eq!(client.end(), End::Goaway(ENHANCE_YOUR_CALM));
    let metric = r#"lb_http2_floods_total{listener="web",flood="header_list"} 1"#;
    wait_until("a count", || proxy.metrics().contains(metric));
    assert_eq!(backend.heads().len(), 1);
}

#[test]
fn a_client_of_http_1_cannot_talk_to_a_stream() {
    let (_backend, proxy) = before_a_server();
    let mut socket = TcpStream::connect(proxy.addr()).expect("a connection");
    let bytes = [PREFACE, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"].concat();
    socket.write_all(&bytes).expect("sent");
    socket
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket");
    let mut seen = Vec::new();
    _ = socket.read_to_end(&mut seen);
    assert!(!seen.windows(5).any(|bytes| bytes == b"HTTP/"));
}
