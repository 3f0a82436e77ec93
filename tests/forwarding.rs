//! Requests and answers pass intact, and what is no request is refused.

use std::io::Write;

use crate::support::backend::{Backend, RawBackend, RefusingPort};
use crate::support::client::{Response, message, request};
use crate::support::proxy::{Proxy, RunningProxy, before, before_script};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn methods_and_targets_arrive_as_sent() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let lines = [
        "GET / HTTP/1.1",
        "POST /a/b HTTP/1.1",
        "PUT //double//slash/../dots/./ HTTP/1.1",
        "DELETE /a%2Fb%20c;p=1/%C3%A9?q=%20&r=a+b&&s HTTP/1.1",
        "PATCH /x?u=http://host/y?z HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "PURGE /cache/*?:@!$&'()*+,=[] HTTP/1.1",
        "GET /? HTTP/1.1",
    ];
    for line in lines {
        let answer = client.request(format!("{line}\r\nhost: test\r\n\r\n"));
        assert_eq!(answer.expect(line).text(), "ok", "{line}");
    }
    let heads = backend.heads();
    let arrived: Vec<_> = heads
        .iter()
        .filter_map(|head| head.lines().next())
        .collect();
    assert_eq!(arrived, lines);
}

#[test]
fn bodies_pass_intact_both_ways_with_any_method() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "REPORT"] {
        let fields = [("content-type", "image/x-test")];
        let answer = client.request(message(method, "/echo", &fields, &body));
        let answer = answer.expect(method);
        assert_eq!(answer.headers.get("content-type"), Some("image/x-test"));
        assert_eq!(answer.headers.get("content-length"), Some("100000"));
        assert!(answer.body == body, "{method}: {} bytes", answer.body.len());
    }
}

#[test]
fn statuses_of_servers_pass() {
    let backend = Backend::start();
    let proxy = before(&backend);
    for status in [200, 201, 206, 301, 400, 404, 418, 429, 500, 503, 599] {
        let answer = proxy.get(&format!("/status/{status}"));
        assert_eq!(answer.status, status);
        assert!(answer.text().starts_with(&format!("status {status}")));
        assert_eq!(answer.headers.get("x-backend"), Some(backend.name()));
    }
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    for path in ["/bytes/10", "/bytes/1GiB"] {
        let head = client
            .request(message("HEAD", path, &[], b""))
            .expect("an answer");
        assert_eq!(head.status, 200);
        let get = connect_and_read_length(&proxy, path);
        assert_eq!(head.headers.get("content-length"), Some(&*get));
    }
    // A byte of a body would be taken for the beginning of this answer.
    assert_eq!(client.get("/health").expect("an answer").text(), "ok");
}

fn connect_and_read_length(proxy: &RunningProxy, path: &str) -> String {
    let mut client = proxy.connect();
    client
        .send_raw(message("GET", path, &[], b""))
        .expect("sent");
    let head = client.read_head().expect("an answer");
    let length = head.headers.get("content-length");
    length.expect("a length").to_owned()
}

#[test]
fn answers_without_a_body_leave_both_connections_usable() {
    let backend = RawBackend::start(|connection| {
        loop {
            let head = connection.read_head()?;
            connection.stream.write_all(match &head {
                head if head.starts_with("GET /204") => b"HTTP/1.1 204 No Content\r\n\r\n",
                // RFC 9110, section 15.4.5: the length that a 200 would have had.
                head if head.starts_with("GET /304") => {
                    b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 999\r\n\r\n"
                }
                _ => OK,
            })?;
        }
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let none = client.get("/204").expect("an answer");
        assert_eq!((none.status, &*none.body), (204, &b""[..]));
        assert_eq!(none.headers.get("content-length"), None);
        assert_eq!(none.headers.get("transfer-encoding"), None);
        let unchanged = client.get("/304").expect("an answer");
        assert_eq!((unchanged.status, &*unchanged.body), (304, &b""[..]));
        assert_eq!(unchanged.headers.get("etag"), Some("\"1\""));
        assert_eq!(client.get("/").expect("an answer").text(), "ok");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_http_1_0_client_gets_no_chunks() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    let answer = client.request("GET /chunked/3 HTTP/1.0\r\nhost: test\r\n\r\n");
    let answer = answer.expect("an answer that ends with the connection");
    assert_eq!(answer.headers.get("transfer-encoding"), None);
    assert_eq!(answer.text(), "chunk 0\nchunk 1\nchunk 2\n");

    // Its connection ends after an answer even if that has a length.
    let mut client = proxy.connect();
    let answer = client.request("GET /bytes/3 HTTP/1.0\r\nhost: test\r\n\r\n");
    assert_eq!(answer.expect("an answer").body, [0, 1, 2]);
    assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
}

#[test]
fn an_http_1_0_client_needs_no_host_and_can_keep_its_connection() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    let hosts = [
        ("host: a.example\r\n", "a.example".to_owned()),
        ("", backend.addr().to_string()),
    ];
    for (field, expected) in hosts {
        let bytes = format!("GET /headers HTTP/1.0\r\n{field}connection: keep-alive\r\n\r\n");
        let answer = client.request(bytes).expect("an answer");
        assert_eq!(answer.headers.get("connection"), Some("keep-alive"));
        assert_eq!(answer.json()["version"], "HTTP/1.1");
        assert_eq!(
            answer.json()["headers"]["host"],
            serde_json::json!([expected])
        );
    }
}

#[test]
fn an_http_1_0_servers_answer_ends_with_its_connection() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection
            .stream
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for round in 1..=3 {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.text(), "until the end");
        assert_eq!(backend.connections(), round);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    let requests = [
        message("GET", "/delay/100", &[], b""),
        message("POST", "/echo", &[], b"second"),
        message("HEAD", "/bytes/7", &[], b""),
        message("GET", "/chunked/2", &[], b""),
        message("GET", "/status/204", &[], b""),
        message("GET", "/health", &[("connection", "close")], b""),
    ];
    client.send_raw(requests.concat()).expect("sent");
    let mut next = |to_head| client.read_response(to_head).expect("an answer");
    assert_eq!(
        next(false).text(),
        format!("Hello from {}\n", backend.name())
    );
    assert_eq!(next(false).text(), "second");
    assert_eq!(next(true).headers.get("content-length"), Some("7"));
    assert_eq!(next(false).text(), "chunk 0\nchunk 1\n");
    assert_eq!(next(false).status, 204);
    assert_eq!(next(false).text(), "ok");
    assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
}

#[test]
fn connect_and_trace_are_not_served() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let connect = "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n";
    assert_eq!(request(proxy.addr(), connect).status, 405);
    assert_eq!(
        request(proxy.addr(), message("TRACE", "/", &[], b"")).status,
        405
    );
    assert_eq!(backend.connections(), 0);
}

#[test]
fn what_is_no_request_is_answered_400_and_the_end() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let cases = [
        "garbage\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\x03\x03",
        "GET /\x01 HTTP/1.1\r\nhost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nspace : before\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nx: folded\r\n line\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nx: nul\0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: many\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: gzip\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for case in cases {
        let mut client = proxy.connect();
        let answer = client.request(case);
        let answer = answer.unwrap_or_else(|error| panic!("{case:?}: {error}"));
        assert_eq!(answer.status, 400, "{case:?}");
        assert_eq!(
            client.read_to_end().expect("the proxy closes"),
            b"",
            "{case:?}"
        );
    }
    assert_eq!(backend.connections(), 0);
    assert_eq!(proxy.get("/").text(), "ok");
}

fn asked_for(kind: &str, path: &str) -> Vec<u8> {
    message(
        "GET",
        path,
        &[("accept", kind), ("x-request-id", "id-4711")],
        b"",
    )
}

#[test]
fn an_error_says_what_happened_and_its_request_id_and_no_address() {
    let refusing = RefusingPort::new();
    let dropping = RawBackend::start(|connection| connection.read_head().map(drop));
    let proxy = Proxy::new()
        .unprobed("refusing", &[refusing.addr()])
        .unprobed("dropping", &[dropping.addr()])
        .unprobed("none", &[] as &[&str])
        .extra("[[routes]]\npaths = [\"/refusing\"]\nupstream = \"refusing\"")
        .extra("[[routes]]\npaths = [\"/dropping\"]\nupstream = \"dropping\"")
        .extra("[[routes]]\npaths = [\"/none\"]\nupstream = \"none\"")
        .start();
    let cases = [
        ("/refusing", 502, "connect_failed"),
        ("/dropping", 502, "server_closed"),
        ("/none", 503, "no_server"),
        ("/nowhere", 404, "no_route"),
    ];
    for (path, status, code) in cases {
        let text = request(proxy.addr(), asked_for("*/*", path));
        assert_eq!(text.status, status, "{path}");
        let kind = text.headers.get("content-type");
        assert_eq!(kind, Some("text/plain; charset=utf-8"));
        assert!(
            text.text().starts_with(&status.to_string()),
            "{}",
            text.text()
        );
        assert!(
            text.text().contains("request id: id-4711"),
            "{}",
            text.text()
        );

        let json = request(proxy.addr(), asked_for("text/html, application/json", path));
        assert_eq!(json.headers.get("content-type"), Some("application/json"));
        assert_eq!(json.json()["status"], status);
        assert_eq!(json.json()["error"], code);
        assert_eq!(json.json()["request_id"], "id-4711");
        assert!(
            json.json()["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );

        for answer in [&text, &json] {
            assert_eq!(answer.headers.get("x-request-id"), Some("id-4711"));
            names_no_server(answer, &[refusing.addr().port(), dropping.addr().port()]);
        }
    }
}

fn names_no_server(answer: &Response, ports: &[u16]) {
    let shown = format!("{:?} {}", answer.headers, answer.text());
    assert!(!shown.contains("127.0.0.1"), "{shown}");
    for port in ports {
        assert!(!shown.contains(&port.to_string()), "{shown}");
    }
}
