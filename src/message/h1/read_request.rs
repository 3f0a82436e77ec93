//! The head of a request: what is asked for, and how its body is framed (RFC 9112, sections 3 to 6).

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, Uri, Version};

use super::body::Framing;
use super::head::{self, Invalid, MAX_FIELDS, Places, Scan};
use crate::message::headers::{self, CodingError};

/// Largest head, in bytes.
const MAX_SIZE: usize = 32 * 1024;

/// The head of a request.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub head: Parts,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client keeps the connection open after it.
    pub keep_alive: bool,
}

/// Takes the head of a request from the front of `input`, if it is there completely.
///
/// # Errors
/// What is there cannot be the beginning of a request, or it says nothing certain about where its body ends: such a
/// thing is what request smuggling is made of (RFC 9112, sections 6.3 and 11.2).
pub fn read(scan: &mut Scan, input: &mut BytesMut) -> Result<Option<Request>, Invalid> {
    // What precedes a request is ignored (RFC 9112, section 2.2): old clients end a body with a line break too many.
    let breaks = input.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    let breaks = breaks.count();
    input.advance(breaks);
    if scan.may_be_complete(input)
        && let Some(request) = parse(scan, input)?
    {
        return Ok(Some(request));
    }
    scan.incomplete(input, MAX_SIZE).map(|()| None)
}

fn parse(scan: &mut Scan, input: &mut BytesMut) -> Result<Option<Request>, Invalid> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_request_with_uninit_headers(&mut head, input, &mut fields)
        .map_err(head::invalid)?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let places = Places::new(input, head.headers);
    scan.complete();
    if length > MAX_SIZE {
        return Err(Invalid::TooLarge);
    }
    let version = match head.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let method = Method::from_bytes(head.method.unwrap_or_default().as_bytes())
        .map_err(|_| Invalid::Syntax)?;
    let target = head::range(input, head.path.unwrap_or_default().as_bytes());
    let head_bytes = input.split_to(length).freeze();
    let uri =
        Uri::from_maybe_shared(head::slice(&head_bytes, target)).map_err(|_| Invalid::Syntax)?;

    let mut fields = HeaderMap::with_capacity(places.count());
    for field in places.fields(&head_bytes) {
        let (name, value) = field?;
        fields.append(name, value);
    }
    let framing = framing(version, &fields)?;
    let keep_alive = headers::keeps_alive(version, &fields).map_err(|_| Invalid::TooLarge)?;
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = method;
    head.uri = uri;
    head.version = version;
    head.headers = fields;
    Ok(Some(Request {
        head,
        framing,
        keep_alive,
    }))
}

fn framing(version: Version, fields: &HeaderMap) -> Result<Framing, Invalid> {
    let length = headers::content_length(fields).map_err(|_| Invalid::Framing)?;
    let coded = headers::is_coded(fields);
    if coded && (length.is_some() || version == Version::HTTP_10) {
        return Err(Invalid::Framing);
    }
    let chunked = headers::chunked(fields).map_err(|error| match error {
        CodingError::Unsupported => Invalid::Coding,
        CodingError::Doubtful => Invalid::Framing,
    })?;
    Ok(match length {
        _ if chunked => Framing::Chunked,
        None | Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
    })
}

#[cfg(test)]
mod tests {
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
    fn what_is_no_head_is_refused_and_bounded() {
        let cases = [
            "\x16\x03\x01 garbage\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
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
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(MAX_SIZE));
        assert_eq!(read_whole(&endless).unwrap_err(), Invalid::TooLarge);
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: 1\r\n".repeat(MAX_FIELDS + 1)
        );
        assert_eq!(read_whole(&many).unwrap_err(), Invalid::TooLarge);
    }
}
