//! What happens to header fields on their way, and how much of them a request may have.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::backend::{Backend, RawBackend, report, reporting};
use crate::support::client::{Connection, message, request};
use crate::support::proxy::{Proxy, RunningProxy, before, before_script};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The fields of a GET with these fields as the server sees them: lists of values by name.
fn seen_by_the_server(proxy: &RunningProxy, fields: &[(&str, &str)]) -> Value {
    let described = request(proxy.addr(), message("GET", "/headers", fields, b""));
    assert_eq!(described.status, 200);
    described.json()["headers"].clone()
}

#[test]
fn fields_for_one_hop_do_not_reach_the_server() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let fields = [
        ("connection", "keep-alive, X-Nominated, te"),
        ("connection", "x-also, host"),
        ("x-nominated", "1"),
        ("x-also", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eDp5"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("authorization", "Basic eDp5"),
        ("x-kept", "1"),
        ("x-kept", "2"),
    ];
    let seen = seen_by_the_server(&proxy, &fields);
    for (gone, _) in &fields[..10] {
        assert_eq!(seen[gone], Value::Null, "{gone}: {seen}");
    }
    assert_eq!(seen["authorization"], json!(["Basic eDp5"]));
    assert_eq!(seen["x-kept"], json!(["1", "2"]));
    assert_eq!(
        seen["host"],
        json!(["test"]),
        "no request can do without it"
    );
}

#[test]
fn fields_for_one_hop_do_not_reach_the_client() {
    let backend = RawBackend::answering(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Nominated\r\nX-Nominated: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTE: trailers\r\n\
        Set-Cookie: a=1\r\nX-Kept: 1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = before_script(&backend);
    let answer = Connection::open(proxy.addr()).and_then(|mut client| client.get("/"));
    let headers = answer.expect("an answer").headers;
    let gone = [
        "connection",
        "x-nominated",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "upgrade",
        "te",
    ];
    for name in gone {
        assert_eq!(headers.get(name), None, "{headers:?}");
    }
    let cookies: Vec<_> = headers.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(headers.get("x-kept"), Some("1"));
    assert_eq!(headers.all("content-length").collect::<Vec<_>>(), ["2"]);
}

#[test]
fn the_client_is_told_to_the_server() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let seen = seen_by_the_server(&proxy, &[("host", "a.example:81")]);
    assert_eq!(seen["x-forwarded-for"], json!(["127.0.0.1"]));
    assert_eq!(seen["x-forwarded-proto"], json!(["http"]));
    assert_eq!(seen["x-forwarded-host"], json!(["a.example:81"]));
    let forwarded = json!(["for=127.0.0.1;proto=http;host=\"a.example:81\""]);
    assert_eq!(seen["forwarded"], forwarded);
}

const CLAIMS: &[(&str, &str)] = &[
    ("host", "a.example"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-for", "198.51.100.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "outer.example"),
    ("forwarded", "for=192.0.2.1;proto=https"),
];

#[test]
fn what_an_unknown_peer_claims_is_replaced() {
    let backend = Backend::start();
    let seen = seen_by_the_server(&before(&backend), CLAIMS);
    assert_eq!(seen["x-forwarded-for"], json!(["127.0.0.1"]));
    assert_eq!(seen["x-forwarded-proto"], json!(["http"]));
    assert_eq!(seen["x-forwarded-host"], json!(["a.example"]));
    let forwarded = json!(["for=127.0.0.1;proto=http;host=\"a.example\""]);
    assert_eq!(seen["forwarded"], forwarded);
}

#[test]
fn what_a_trusted_proxy_says_is_continued() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .setting("trusted_proxies = [\"127.0.0.0/8\"]")
        .upstream("app", &[backend.addr()])
        .start();
    let seen = seen_by_the_server(&proxy, CLAIMS);
    let chain = json!(["192.0.2.1, 198.51.100.7, 127.0.0.1"]);
    assert_eq!(seen["x-forwarded-for"], chain);
    assert_eq!(seen["x-forwarded-proto"], json!(["https"]));
    assert_eq!(seen["x-forwarded-host"], json!(["outer.example"]));
    let forwarded = "for=192.0.2.1;proto=https, for=127.0.0.1;proto=http;host=\"a.example\"";
    assert_eq!(seen["forwarded"], json!([forwarded]));
}

#[test]
fn via_names_the_proxy_both_ways_after_those_before_it() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let seen = seen_by_the_server(&proxy, &[("via", "1.0 a"), ("via", "1.1 b")]);
    assert_eq!(seen["via"], json!(["1.0 a, 1.1 b, 1.1 loadbalancer"]));
    let answer = proxy.get("/");
    assert_eq!(
        answer.headers.all("via").collect::<Vec<_>>(),
        ["1.1 loadbalancer"]
    );
}

#[test]
fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let long = "x".repeat(129);
    let sent = [
        "7b3f-4.a_b/c:1",
        "two words",
        "<script>",
        "quo\"te",
        "",
        &long,
    ];
    let mut ids = Vec::new();
    for sent in sent {
        let asked = message("GET", "/headers", &[("x-request-id", sent)], b"");
        let answer = request(proxy.addr(), asked);
        let id = answer
            .headers
            .get("x-request-id")
            .expect("an id")
            .to_owned();
        assert_eq!(answer.json()["headers"]["x-request-id"], json!([id]));
        ids.push(id);
    }
    ids.push(
        proxy
            .get("/")
            .headers
            .get("x-request-id")
            .expect("an id")
            .to_owned(),
    );
    assert_eq!(ids[0], sent[0]);
    for made in &ids[1..] {
        let hexadecimal = made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(hexadecimal, "{made:?}");
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id was made twice");
}

#[test]
fn host_is_passed_or_becomes_the_servers_address() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra("[[routes]]\nupstream = \"app\"")
        .extra("[[routes]]\nhosts = [\"rewritten.example\"]\nupstream = \"app\"\npreserve_host = false")
        .start();
    let seen = seen_by_the_server(&proxy, &[("host", "Kept.Example:8080")]);
    assert_eq!(seen["host"], json!(["Kept.Example:8080"]));
    let seen = seen_by_the_server(&proxy, &[("host", "rewritten.example:8080")]);
    assert_eq!(seen["host"], json!([backend.addr().to_string()]));
    assert_eq!(seen["x-forwarded-host"], json!(["rewritten.example:8080"]));
}

#[test]
fn an_absolute_target_wins_over_host_and_is_sent_in_origin_form() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let targets = [
        ("http://a.example:81/x?y", "/x?y"),
        ("http://a.example:81", "/"),
        ("HTTP://a.example:81?y", "/?y"),
        ("https://a.example:81/", "/"),
    ];
    for (absolute, origin) in targets {
        let answer = request(
            proxy.addr(),
            message("GET", absolute, &[("host", "b.example")], b""),
        );
        assert_eq!(answer.text(), "ok");
        let head = backend.heads().pop().expect("a request");
        assert!(
            head.starts_with(&format!("GET {origin} HTTP/1.1\r\n")),
            "{head}"
        );
        assert_eq!(
            head.matches("host: ").count(),
            2,
            "Host and X-Forwarded-Host: {head}"
        );
        assert!(head.contains("\r\nhost: a.example:81\r\n"), "{head}");
    }
}

#[test]
fn a_request_needs_exactly_one_host() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let cases = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
    ];
    for case in cases {
        let answer = request(proxy.addr(), case);
        assert_eq!(answer.status, 400, "{case:?}");
        assert!(answer.text().contains("Host"), "{:?}", answer.text());
    }
    assert_eq!(backend.connections(), 0);
}

/// A GET with `count` fields in all.
fn with_fields(count: usize) -> Vec<u8> {
    let names: Vec<_> = (1..count).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    message("GET", "/", &fields, b"")
}

#[test]
fn a_request_may_have_a_hundred_fields() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    assert_eq!(request(proxy.addr(), with_fields(100)).status, 200);
    let head = &backend.heads()[0];
    assert!(
        (1..100).all(|number| head.contains(&format!("\r\nx-{number}: 1\r\n"))),
        "{head}"
    );

    assert_eq!(request(proxy.addr(), with_fields(101)).status, 431);
    assert_eq!(request(proxy.addr(), with_fields(1000)).status, 431);
    assert_eq!(backend.heads().len(), 1);
}

#[test]
fn a_requests_head_may_have_32_kib() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let with_size = |size| {
        let empty = message("GET", "/", &[("x-long", "")], b"").len();
        message("GET", "/", &[("x-long", &"x".repeat(size - empty))], b"")
    };
    assert_eq!(request(proxy.addr(), with_size(31 << 10)).status, 200);
    assert_eq!(request(proxy.addr(), with_size(33 << 10)).status, 431);
    // Refused long before its end, and the rest is no reason to reset the connection.
    let mut client = Connection::open(proxy.addr()).expect("the proxy listens");
    let head = with_size(500 << 10);
    let (begin, rest) = head.split_at(50 << 10);
    client.send_raw(begin).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").status, 431);
    for piece in rest.chunks(10_000) {
        client.send_raw(piece).expect("the proxy takes it");
    }
    assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
    assert_eq!(backend.heads().len(), 1);
}

#[test]
fn connection_may_name_a_hundred_fields_in_any_bytes() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let options = |count: usize| vec!["a"; count].join(",");
    for (count, status) in [(100, 200), (101, 431)] {
        let fields = [("connection", options(count).as_str())].map(|(n, v)| (n, v.to_owned()));
        let fields = fields.each_ref().map(|(n, v)| (*n, v.as_str()));
        let answer = request(proxy.addr(), message("GET", "/", &fields, b""));
        assert_eq!(answer.status, status, "{count}");
    }
    let fields = [("connection", "x-secret, \u{fc}"), ("x-secret", "1")];
    let seen = seen_by_the_server(&proxy, &fields);
    assert!(seen.get("x-secret").is_none(), "{seen}");
}

#[test]
fn what_only_a_proxy_may_say_does_not_pass_as_a_trailer() {
    let (backend, trailers) = reporting(|connection| {
        connection.read_head()?;
        let body = connection.read_until(b"\r\n\r\n")?;
        connection.stream.write_all(OK)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    });
    let proxy = before_script(&backend);
    let names = "x-sum, x-forwarded-for, x-real-ip, x-request-id, content-length, host";
    let fields = [("transfer-encoding", "chunked"), ("trailer", names)];
    let trailers_sent = names.split(", ").map(|name| format!("{name}: 1\r\n"));
    let body = format!("0\r\n{}\r\n", trailers_sent.collect::<String>());
    let answer = request(proxy.addr(), message("POST", "/", &fields, body.as_bytes()));
    assert_eq!(answer.status, 200);
    assert_eq!(report(&trailers), "0\r\nx-sum: 1\r\n\r\n");
}
