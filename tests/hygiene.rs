//! Request heads as an attacker writes them: what two readers could take for different requests is refused, and the
//! connection ends with the refusal, so that nothing behind it becomes a request that nobody sent.

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{message, request};
use crate::support::proxy::{before, before_script};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// Each of these, behind `POST / HTTP/1.1` and Host, and before an empty line and `hello`, is answered with `status`, and
/// no server hears of it.
fn fields_are_refused(fields: &[&[u8]], status: u16) {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for fields in fields {
        let start: &[u8] = b"POST / HTTP/1.1\r\nHost: test\r\n";
        proxy.refuses([start, fields, b"\r\n\r\nhello"].concat(), status);
    }
    assert_eq!(backend.connections(), 0);
    assert_eq!(proxy.get("/").text(), "ok");
}

/// Each of these, as it is, is answered with `status`, and no server hears of it.
fn heads_are_refused(heads: &[&[u8]], status: u16) {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for head in heads {
        proxy.refuses(head, status);
    }
    assert_eq!(backend.connections(), 0);
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn a_length_and_a_coding_together_are_refused() {
    fields_are_refused(
        &[
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Content-Length: 0\r\nTransfer-Encoding: chunked",
            b"Content-Length: 5\r\nTransfer-Encoding: Chunked",
            b"Content-Length: 5\r\nTransfer-Encoding:\tchunked",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked ",
            b"Content-Length: 5\r\nTransfer-Encoding: , chunked",
            b"Content-Length: 5\r\nTransfer-Encoding: identity",
            b"Content-Length: 5\r\nTransfer-Encoding:",
            b"Content-Length: 5\r\nTRANSFER-ENCODING: chunked",
            b"Content-Length: +5\r\nTransfer-Encoding: chunked",
        ],
        400,
    );
}

#[test]
fn a_length_is_digits_and_one_number() {
    fields_are_refused(
        &[
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5, 6",
            b"Content-Length: 5\r\nContent-Length:",
            b"Content-Length:",
            b"Content-Length: ,",
            b"Content-Length: 5,",
            b"Content-Length: +5",
            b"Content-Length: -5",
            b"Content-Length: -0",
            b"Content-Length: 0x5",
            b"Content-Length: 0o5",
            b"Content-Length: 5e0",
            b"Content-Length: 5.0",
            b"Content-Length: 1_0",
            b"Content-Length: 1 0",
            b"Content-Length: \"5\"",
            b"Content-Length: 5;x",
            b"Content-Length: 5\x0b",
            b"Content-Length: \xd9\xa5",
            b"Content-Length: 18446744073709551616",
            b"Content-Length: 99999999999999999999999999",
        ],
        400,
    );
}

#[test]
fn a_length_said_twice_is_passed_on_once() {
    let backend = Backend::start();
    let proxy = before(&backend);
    for length in ["5, 5", "5\r\ncontent-length: 5", "005", " \t5\t "] {
        let head = format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
        assert_eq!(request(proxy.addr(), head + "hello").text(), "hello");
        let head =
            format!("GET /headers HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
        let seen = request(proxy.addr(), head + "hello");
        assert_eq!(
            seen.json()["headers"]["content-length"],
            serde_json::json!(["5"])
        );
    }
}

#[test]
fn a_coding_that_is_not_exactly_chunked_is_refused() {
    fields_are_refused(
        &[
            b"Transfer-Encoding:",
            b"Transfer-Encoding: ,",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunkedx",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: chunked, gzip",
            b"Transfer-Encoding: chunked,",
            b"Transfer-Encoding: , chunked",
            b"Transfer-Encoding: chunked;q=1",
            b"Transfer-Encoding: \"chunked\"",
            b"Transfer-Encoding: 'chunked'",
            b"Transfer-Encoding: [chunked]",
            b"Transfer-Encoding: chunked\x0b",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding: \x0cchunked",
            b"Transfer-Encoding: chunked\0",
            b"Transfer-Encoding: chunked\xa0",
            b"Transfer-Encoding: chunk\xc3\xa9d",
            b"Transfer-Encoding:\r\n chunked",
            b"Transfer-Encoding: x\r\n chunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding\t: chunked",
            b"Transfer-Encoding\0: chunked",
            b" Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked, x",
            b"X: y\rTransfer-Encoding: chunked",
            b"X: y\nTransfer-Encoding: chunked",
        ],
        400,
    );
}

#[test]
fn a_coding_that_cannot_be_undone_is_501() {
    fields_are_refused(
        &[
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        ],
        501,
    );
}

#[test]
fn http_1_0_has_no_codings() {
    heads_are_refused(
        &[
            b"POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: identity\r\n\r\n",
            b"POST / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn a_line_ends_in_crlf_and_nothing_else() {
    heads_are_refused(
        &[
            b"GET / HTTP/1.1\nHost: test\n\n",
            b"GET / HTTP/1.1\nHost: test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: test\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: test\n\r\n",
            b"GET / HTTP/1.1\r\nHost: test\r\n\n",
            b"GET / HTTP/1.1\r\nX:\nHost: test\r\n\r\n",
            b"GET / HTTP/1.1\rHost: test\r\n\r\n",
            b"GET / HTTP/1.1\r\r\nHost: test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: test\rX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: test\r\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: test\r\n\r\r\n",
            b"\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"\r\n\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"\rGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for breaks in ["\r\n", "\r\n\r\n", ""] {
        let bytes = format!("{breaks}GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(client.request(bytes).expect("an answer").text(), "ok");
    }
    // However they are cut.
    for piece in ["\r", "\nGET", " / HTTP/1.1\r\nhost: test\r\n\r", "\n"] {
        client.send_raw(piece).expect("sent");
    }
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
}

#[test]
fn a_start_line_is_three_words_and_two_spaces() {
    heads_are_refused(
        &[
            b"GET  / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET /  HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: test\r\n\r\n",
            b" GET / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"\tGET / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET\t/ HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET /\tHTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET\x0b/ HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET / x HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET /\r\nHost: test\r\n\r\n",
            b"GET\r\n\r\n",
            b"/ HTTP/1.1\r\nHost: test\r\n\r\n",
            b"G(T / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"G\xc3\xa9T / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET\0 / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET: / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"\0GET / HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET / HTTP/1.1\r\n \r\nHost: test\r\n\r\n",
            b"GET / HTTP/1.1\r\n\tX: y\r\nHost: test\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nHost: test\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn a_field_is_a_token_a_colon_and_a_line() {
    fields_are_refused(
        &[
            b"no colon",
            b": no name",
            b"space : before",
            b"tab\t: before",
            b"two words: x",
            b"br[ck]ts: x",
            b"n\xc3\xa9: x",
            b"x\0: y",
            b"x: folded\r\n line",
            b"x: folded\r\n\tline",
            b"x:\r\n folded",
            b"x: \0",
            b"x: a\x01b",
            b"x: \x07\x08\x0b",
            b"x: \x1b[31m",
            b"x: \x7f",
            b"x: a\rb",
            b"cookie: a=\0",
        ],
        400,
    );
}

#[test]
fn tabs_and_bytes_beyond_ascii_pass_in_values() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let head = b"GET / HTTP/1.1\r\nHost: test\r\nX-A: \t a\tb \t\r\nX-B:\xc3\xa9\r\nX-C:\r\n\r\n";
    assert_eq!(request(proxy.addr(), head).text(), "ok");
    let head = backend.heads().pop().expect("a request");
    for line in ["x-a: a\tb\r\n", "x-b: \u{e9}\r\n", "x-c: \r\n"] {
        assert!(head.contains(line), "{line:?} in {head:?}");
    }
}

#[test]
fn another_major_version_is_505() {
    heads_are_refused(
        &[
            b"GET / HTTP/2.0\r\nHost: test\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: test\r\n\r\n",
            b"GET / HTTP/0.9\r\nHost: test\r\n\r\n",
        ],
        505,
    );
    heads_are_refused(
        &[
            b"GET / HTTP/1\r\nHost: test\r\n\r\n",
            b"GET / HTTP/1.\r\nHost: test\r\n\r\n",
            b"GET / HTTP/2\r\nHost: test\r\n\r\n",
            b"GET / HTTP/1.10\r\nHost: test\r\n\r\n",
            b"GET / HTTP/01.1\r\nHost: test\r\n\r\n",
            b"GET / HTTP/ 1.1\r\nHost: test\r\n\r\n",
            b"GET / http/1.1\r\nHost: test\r\n\r\n",
            b"GET / HTTPS/1.1\r\nHost: test\r\n\r\n",
            b"GET / RTSP/1.0\r\nHost: test\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn a_later_minor_version_is_served_as_1_1() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.request("GET / HTTP/1.2\r\nhost: test\r\n\r\n");
        assert_eq!(answer.expect("an answer").text(), "ok");
        assert!(backend.heads()[0].starts_with("GET / HTTP/1.1\r\n"));
    }
}

#[test]
fn what_is_too_large_is_told_what_of_it_is() {
    let long = "x".repeat(100_000);
    let cases = [
        (format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n"), 414),
        (format!("{long} / HTTP/1.1\r\nHost: test\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n"), 431),
        (
            format!("GET / HTTP/1.1\r\nHost: test\r\n{long}: 1\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: test\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: test\r\n{}\r\n",
                "x: 1\r\n".repeat(10_000)
            ),
            431,
        ),
    ];
    for (head, status) in cases {
        heads_are_refused(&[head.as_bytes()], status);
    }
}

#[test]
fn names_that_programs_take_for_others_do_not_pass() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let fields = [
        ("X_Forwarded_For", "forged"),
        ("x-forwarded_proto", "forged"),
        ("X.Real.IP", "forged"),
        ("X_Forwarded_Ssl", "forged"),
        ("Front_End_Https", "forged"),
        ("X-Original_URL", "forged"),
        ("X_Rewrite-URL", "forged"),
        ("Content_Length", "forged"),
        ("Transfer_Encoding", "forged"),
        ("my_field", "passes"),
    ];
    assert_eq!(
        request(proxy.addr(), message("GET", "/", &fields, b"")).text(),
        "ok"
    );
    let head = backend.heads().pop().expect("a request");
    assert!(!head.contains("forged"), "{head}");
    assert!(head.contains("\r\nmy_field: passes\r\n"), "{head}");
}

#[test]
fn a_client_cannot_take_away_what_the_proxy_adds() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let nominated = "close, host, content-length, transfer-encoding, x-forwarded-for, x-forwarded-proto, forwarded, \
                     via, x-request-id";
    let asked = message("POST", "/", &[("connection", nominated)], b"hello");
    assert_eq!(request(proxy.addr(), asked).text(), "ok");
    let head = backend.heads().pop().expect("a request");
    for name in [
        "host",
        "content-length",
        "x-forwarded-for",
        "x-forwarded-proto",
        "forwarded",
        "via",
        "x-request-id",
    ] {
        assert!(head.contains(&format!("\r\n{name}: ")), "{name} in {head}");
    }
}
