//! Whom a request is for: methods, targets and hosts (RFC 9112, section 3.2), and what OPTIONS and Expect ask of proxies.

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, before, before_script};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// Requests with these methods, targets and Hosts are answered with 400.
fn are_refused(requests: &[(&str, &str, &str)]) {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for (method, target, host) in requests {
        proxy.refuses(message(method, target, &[("host", host)], b""), 400);
    }
    assert_eq!(backend.connections(), 0);
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn a_target_is_in_the_form_for_its_method() {
    are_refused(&[
        ("GET", "*", "test"),
        ("POST", "*", "test"),
        ("GET", "test", "test"),
        ("GET", "test:80", "test"),
        ("OPTIONS", "test:80", "test"),
        ("GET", "index.html", "test"),
        ("GET", "../x", "test"),
        ("GET", "?q", "test"),
        ("GET", "http:/test/", "test"),
        ("GET", "http:///x", "test"),
        ("GET", "http://", "test"),
        ("GET", "http://:80/", "test"),
    ]);
}

#[test]
fn a_target_has_no_fragment_and_no_user_and_a_known_scheme() {
    are_refused(&[
        ("GET", "/x#fragment", "test"),
        ("GET", "/x?y#", "test"),
        ("GET", "#", "test"),
        ("GET", "http://test/#x", "test"),
        ("GET", "http://user@test/", "test"),
        ("GET", "http://user:password@test/", "test"),
        ("GET", "http://a%40b@test/", "test"),
        ("GET", "ftp://test/", "test"),
        ("GET", "ws://test/", "test"),
        ("GET", "file:///etc/passwd", "test"),
        ("GET", "javascript://test/", "test"),
    ]);
}

#[test]
fn a_target_has_only_characters_of_a_uri() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let targets: &[&[u8]] = &[
        b"/\0x",
        b"/\x01",
        b"/\x7f",
        b"/caf\xc3\xa9",
        b"/\xc0\xaf",
        b"/?\xff",
        b"/<x>",
        b"/`x`",
        b"/a\x0bb",
    ];
    for target in targets {
        proxy.refuses(
            [b"GET ", *target, b" HTTP/1.1\r\nhost: test\r\n\r\n"].concat(),
            400,
        );
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
    let hosts = [
        "",
        " ",
        "a b",
        "a,b",
        "a, b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "user@a",
        "a\\b",
        "a..b",
        ".a",
        "a:b",
        "a:-1",
        "a:+80",
        "a:65536",
        "a:80:80",
        ":80",
        "[::1",
        "::1",
        "[::1]x",
        "[x]",
        "[fe80::1%25eth0]",
        "a%2eb",
        "a\u{e9}",
        "http://a",
        "\"a\"",
        "a;b",
        "(a)",
    ];
    let refused: Vec<_> = hosts.iter().map(|host| ("GET", "/", *host)).collect();
    are_refused(&refused);

    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for host in [
        "a",
        "A.Example.",
        "a_b-c.example:8080",
        "192.0.2.1:80",
        "[2001:db8::1]",
        "[::1]:80",
        "a:",
        "a:65535",
    ] {
        assert_eq!(
            request(proxy.addr(), message("GET", "/", &[("host", host)], b"")).text(),
            "ok"
        );
        let head = backend.heads().pop().expect("a request");
        assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
    }
}

#[test]
fn host_comes_once() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET http://a..b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://a:x/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://a:65536/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nx: y\r\n host: a\r\n\r\n",
    ] {
        proxy.refuses(head, 400);
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_targets_host_wins_over_host_for_routes_too() {
    let proxy = Proxy::new()
        .extra("[[routes]]\nhosts = [\"a.example\"]\nrespond = { body = \"a\" }")
        .extra("[[routes]]\nhosts = [\"[2001:db8::1]\"]\nrespond = { body = \"v6\" }")
        .extra("[[routes]]\nrespond = { body = \"other\" }")
        .start();
    let cases = [
        ("http://a.example/", "b.example", "a"),
        ("http://A.EXAMPLE.:81/", "b.example", "a"),
        ("http://b.example/", "a.example", "other"),
        ("/", "a.example:", "a"),
        ("/", "[2001:DB8:0:0::1]:80", "v6"),
        ("http://a.example/", "", "a"),
    ];
    for (target, host, route) in cases {
        let answer = request(proxy.addr(), message("GET", target, &[("host", host)], b""));
        assert_eq!(answer.text(), route, "{target} {host}");
    }
}

#[test]
fn connect_and_trace_end_the_connection_in_any_case() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for head in [
        "CONNECT test:443 HTTP/1.1\r\nhost: test:443\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nhost: test\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: test\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: test\r\nmax-forwards: 0\r\n\r\n",
        "trace / HTTP/1.1\r\nhost: test\r\n\r\n",
        "Connect /x HTTP/1.1\r\nhost: test\r\n\r\n",
    ] {
        proxy.refuses(head, 405);
    }
    proxy.refuses(
        "TRACE / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello",
        405,
    );
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_host_has_255_bytes_and_no_rule_is_lost_on_a_longer_one() {
    let proxy = Proxy::new()
        .extra(
            "[[routes]]\nhosts = [\"*.sub.example\"]\nrespond = { status = 403 }\n\
             [[routes]]\nrespond = {}",
        )
        .start();
    let host = |length: usize| {
        let label = "x".repeat(length - ".sub.example".len());
        label + ".sub.example"
    };
    let ask = |target: &str, host: &str| {
        let bytes = message("GET", target, &[("host", host)], b"");
        request(proxy.addr(), bytes).status
    };
    for (length, status) in [(254, 403), (255, 403), (256, 400), (257, 400), (300, 400)] {
        for end in ["", ":80", ":00080"] {
            let host = host(length) + end;
            assert_eq!(ask("/", &host), status, "{length} {end}");
            let target = format!("http://{host}/");
            assert_eq!(ask(&target, "test"), status, "{length} {end}");
        }
    }
    assert_eq!(ask("/", &(host(254) + ".")), 403);
    assert_eq!(ask("/", &(host(255) + ".")), 400);
    assert_eq!(ask("/", "sub.example"), 200);
}

#[test]
fn a_rule_for_a_method_is_one_for_it_in_any_case() {
    let proxy = Proxy::new()
        .extra(
            "[[routes]]\nmethods = [\"DELETE\", \"PURGE\"]\nrespond = { status = 403 }\n\
             [[routes]]\nrespond = {}",
        )
        .start();
    for method in ["DELETE", "delete", "Delete", "dELETE", "PURGE", "purge"] {
        let answer = request(proxy.addr(), message(method, "/x", &[], b""));
        assert_eq!(answer.status, 403, "{method}");
    }
    for method in ["GET", "DELETES", "DELET"] {
        let answer = request(proxy.addr(), message(method, "/x", &[], b""));
        assert_eq!(answer.status, 200, "{method}");
    }
}

#[test]
fn methods_pass_in_their_own_case() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for method in ["get", "Foo", "M-SEARCH", "X!#$%&'*+-.^_`|~1"] {
        assert_eq!(
            request(proxy.addr(), message(method, "/", &[], b"")).text(),
            "ok"
        );
        let head = backend.heads().pop().expect("a request");
        assert!(
            head.starts_with(&format!("{method} / HTTP/1.1\r\n")),
            "{head}"
        );
    }
}

#[test]
fn options_of_a_whole_server_is_passed_on_as_such() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let cases = [
        ("*", "*"),
        ("http://a.example:81", "*"),
        ("http://a.example:81/", "/"),
        ("http://a.example:81?q", "/?q"),
    ];
    for (target, sent) in cases {
        assert_eq!(
            request(proxy.addr(), message("OPTIONS", target, &[], b"")).text(),
            "ok"
        );
        let head = backend.heads().pop().expect("a request");
        assert!(
            head.starts_with(&format!("OPTIONS {sent} HTTP/1.1\r\n")),
            "{head}"
        );
    }
}

#[test]
fn max_forwards_of_options_is_counted_down() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let ask = |method, hops| {
        request(
            proxy.addr(),
            message(method, "/", &[("max-forwards", hops)], b""),
        )
    };
    assert_eq!(ask("OPTIONS", "7").text(), "ok");
    assert!(backend.heads()[0].contains("\r\nmax-forwards: 6\r\n"));
    assert_eq!(ask("GET", "0").text(), "ok");
    assert!(backend.heads()[1].contains("\r\nmax-forwards: 0\r\n"));
    let last = ask("OPTIONS", "0");
    assert_eq!((last.status, last.text()), (200, ""));
    assert_eq!(last.headers.get("content-length"), Some("0"));
    assert!(
        last.headers
            .get("allow")
            .is_some_and(|allow| allow.contains("OPTIONS"))
    );
    assert_eq!(backend.heads().len(), 2, "the last one went no further");
}

#[test]
fn an_expectation_that_nobody_can_fulfil_is_417() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    for expected in ["200-ok", "100-continue, x", "x=\"y\""] {
        let answer = client.request(message("GET", "/", &[("expect", expected)], b""));
        assert_eq!(answer.expect("an answer").status, 417, "{expected}");
    }
    assert_eq!(client.get("/health").expect("an answer").text(), "ok");
}

#[test]
fn an_http_1_0_client_gets_no_interim_answer_and_no_switch() {
    let backend = RawBackend::start(|connection| {
        use std::io::{Read, Write};
        let head = connection.read_head()?;
        assert!(!head.to_lowercase().contains("upgrade"), "{head}");
        let mut body = [0; 5];
        connection.stream.read_exact(&mut body)?;
        connection
            .stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")?;
        connection.stream.write_all(OK)
    });
    let proxy = before_script(&backend);
    let fields =
        "expect: 100-continue\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 5";
    let mut client = proxy.connect();
    client
        .send_raw(format!("POST / HTTP/1.0\r\n{fields}\r\n\r\nhello"))
        .expect("sent");
    let answer = client.read_response(false).expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert!(
        backend.heads()[0].contains("\r\nvia: 1.0 loadbalancer\r\n"),
        "{:?}",
        backend.heads()
    );
}
