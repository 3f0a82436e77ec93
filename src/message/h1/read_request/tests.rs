//! Heads of requests: what is read, what is refused.

use super::*;

fn read_whole(text: &str) -> Result<Option<Request>, Invalid> {
    read(&mut Scan::default(), &mut BytesMut::from(text))
}

fn framing_of(lines: &str) -> Result<(Framing, bool), Invalid> {
    read_whole(&format!("{lines}\r\n\r\n")).map(|request| {
        let request = request.unwrap();
        (request.framing, request.keep_alive)
    })
}

#[test]
fn a_body_ends_where_rfc_9112_says() {
    use Framing::{Chunked, Empty, Length};
    let cases = [
        ("GET / HTTP/1.1", (Empty, true)),
        ("POST / HTTP/1.1\r\ncontent-length: 0", (Empty, true)),
        ("POST / HTTP/1.1\r\ncontent-length: 5", (Length(5), true)),
        (
            "POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5",
            (Length(5), true),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked",
            (Chunked, true),
        ),
        ("GET / HTTP/1.1\r\nconnection: x, Close", (Empty, false)),
        ("GET / HTTP/1.0", (Empty, false)),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive, close",
            (Empty, false),
        ),
        (
            "GET / HTTP/1.1\r\nconnection: \u{fc}, close",
            (Empty, false),
        ),
        (
            "POST / HTTP/1.0\r\ncontent-length: 5\r\nconnection: keep-alive",
            (Length(5), true),
        ),
    ];
    for (head, expected) in cases {
        assert_eq!(framing_of(head), Ok(expected), "{head}");
    }
}

#[test]
fn doubtful_framing_is_refused() {
    let cases = [
        (
            "content-length: 5\r\ntransfer-encoding: chunked",
            Invalid::Framing,
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 0",
            Invalid::Framing,
        ),
        ("content-length: 5\r\ncontent-length: 6", Invalid::Framing),
        ("content-length: 5, 6", Invalid::Framing),
        ("content-length: -5", Invalid::Framing),
        ("content-length: 0x5", Invalid::Framing),
        ("content-length:", Invalid::Framing),
        ("transfer-encoding: gzip", Invalid::Framing),
        ("transfer-encoding: chunked, gzip", Invalid::Framing),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            Invalid::Framing,
        ),
        ("transfer-encoding: gzip, chunked", Invalid::Coding),
        (
            "transfer-encoding: gzip, chunked, chunked",
            Invalid::Framing,
        ),
        ("transfer-encoding: xchunked", Invalid::Framing),
        ("transfer-encoding:", Invalid::Framing),
    ];
    for (lines, error) in cases {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}");
        assert_eq!(framing_of(&head).unwrap_err(), error, "{lines}");
    }
    assert_eq!(
        framing_of("POST / HTTP/1.0\r\ntransfer-encoding: chunked").unwrap_err(),
        Invalid::Framing
    );
}

#[test]
fn a_head_is_found_however_it_is_cut() {
    let text = "\r\nPOST /a?b HTTP/1.1\r\nhost: example.com\r\ncontent-length: 2\r\nx: 1\r\nX: 2\r\n\r\nok";
    for step in 1..text.len() {
        let (mut scan, mut input) = (Scan::default(), BytesMut::new());
        let mut request = None;
        for piece in text.as_bytes().chunks(step) {
            input.extend_from_slice(piece);
            if request.is_none() {
                request = read(&mut scan, &mut input).unwrap();
            }
        }
        let head = request.expect("a head").head;
        assert_eq!(
            (head.method.as_str(), head.uri.to_string()),
            ("POST", "/a?b".to_owned())
        );
        assert_eq!(
            head.headers.get_all("x").iter().collect::<Vec<_>>(),
            ["1", "2"]
        );
        assert_eq!(input, "ok", "in steps of {step}");
    }
}

#[test]
fn later_versions_of_http_1_are_taken_for_1_1_and_no_others() {
    for step in [1, 7, 100] {
        let (mut scan, mut input) = (Scan::default(), BytesMut::new());
        let mut version = None;
        for piece in b"GET / HTTP/1.9\r\nhost: a\r\n\r\n".chunks(step) {
            input.extend_from_slice(piece);
            let request = read(&mut scan, &mut input).unwrap();
            version = version.or(request.map(|request| request.head.version));
        }
        assert_eq!(version, Some(Version::HTTP_11));
    }
    for other in ["0.9", "2.0", "3.0", "9.9"] {
        let text = format!("GET / HTTP/{other}\r\n\r\n");
        assert_eq!(read_whole(&text).unwrap_err(), Invalid::Version, "{other}");
    }
}

#[test]
fn what_is_no_head_is_refused_and_bounded() {
    let cases = [
        "\x16\x03\x01 garbage\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/2\r\n\r\n",
        "GET / HTTP/01.1\r\n\r\n",
        "GET / HTTP/1.10\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "\nGET / HTTP/1.1\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\n\r\n",
        "\rGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\n\r\n",
        "GET / HTTP/1.1\r\n\n",
        "GET / HTTP/1.1\na: 1\r\n\r\n",
        "GET / HTTP/1.1\r\na: 1\nb: 2\r\n\r\n",
        "GET / HTTP/1.1\r\na:\nb: 2\r\n\r\n",
        "GET / HTTP/1.1\r\na: 1\n\r\n",
        "GET / HTTP/1.1\r\na: 1\r\n\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\na : 1\r\n\r\n",
        "GET / HTTP/1.1\r\na: 1\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n a: 1\r\n\r\n",
        "GET / HTTP/1.1\r\na: 1\rb: 2\r\n\r\n",
        "GET / HTTP/1.1\r\na: \0\r\n\r\n",
        "GET / HTTP/1.1\r\n: 1\r\n\r\n",
    ];
    for text in cases {
        assert_eq!(read_whole(text).unwrap_err(), Invalid::Syntax, "{text:?}");
    }
    let long = "x".repeat(MAX_SIZE + 1);
    let cases = [
        (format!("GET / HTTP/1.1\r\nx: {long}"), Invalid::TooLarge),
        (format!("GET /{long}"), Invalid::LongTarget),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), Invalid::LongTarget),
        (long, Invalid::Syntax),
    ];
    for (text, error) in cases {
        assert_eq!(read_whole(&text).unwrap_err(), error);
    }
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "a: 1\r\n".repeat(MAX_FIELDS + 1)
    );
    assert_eq!(read_whole(&many).unwrap_err(), Invalid::TooLarge);
}
