//! The head of an answer: status, fields, and how its body is framed (RFC 9112, sections 4 to 6).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{StatusCode, Version};

use super::body::Framing;
use super::head::{self, Invalid, MAX_FIELDS, Places, Scan};
use crate::message::headers;

/// Largest head, in bytes.
const MAX_SIZE: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its end-to-end fields.
    pub headers: HeaderMap,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the server keeps the connection open after it.
    pub keep_alive: bool,
    /// The protocol that it switches to, or offers.
    pub upgrade: Option<HeaderValue>,
}

/// Takes the head of the final answer from the front of `input`, or of one that switches protocols, if it is there
/// completely. Informational answers before it are dropped (RFC 9110, section 15.2).
///
/// # Errors
/// What is there cannot be the beginning of an answer. `to_head` says that HEAD was asked.
pub fn read(
    scan: &mut Scan,
    input: &mut BytesMut,
    to_head: bool,
) -> Result<Option<Answer>, Invalid> {
    while scan.may_be_complete(input) {
        let Some(answer) = parse(scan, input, to_head)? else {
            break;
        };
        let switches = answer.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches || !answer.status.is_informational() {
            return Ok(Some(answer));
        }
    }
    scan.incomplete(input, MAX_SIZE).map(|()| None)
}

fn parse(scan: &mut Scan, input: &mut BytesMut, to_head: bool) -> Result<Option<Answer>, Invalid> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, input, &mut fields)
        .map_err(head::invalid)?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let places = Places::new(input, head.headers);
    scan.complete();
    let version = match head.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Invalid::Syntax)?;
    if length > MAX_SIZE {
        return Err(Invalid::TooLarge);
    }
    let head = input.split_to(length).freeze();

    // Two more are added on the way to the client.
    let mut fields = HeaderMap::with_capacity(places.count() + 2);
    let mut hop = HeaderMap::new();
    for field in places.fields(&head) {
        let (name, value) = field?;
        if headers::is_hop_by_hop(&name) {
            hop.append(name, value);
        } else {
            fields.append(name, value);
        }
    }
    interpret(status, version, fields, &hop, to_head).map(Some)
}

/// Finds out what the fields of this `hop` say, and removes those that they nominate.
fn interpret(
    status: StatusCode,
    version: Version,
    mut fields: HeaderMap,
    hop: &HeaderMap,
    to_head: bool,
) -> Result<Answer, Invalid> {
    let length = headers::content_length(&fields).map_err(|_| Invalid::Framing)?;
    let chunked = headers::chunked(hop).map_err(|_| Invalid::Framing)?;
    if chunked && version == Version::HTTP_10 {
        return Err(Invalid::Framing); // RFC 9112, section 6.1
    }
    let bodiless = to_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let framing = match length {
        _ if bodiless => Framing::Empty,
        _ if chunked => Framing::Chunked,
        Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    let stays = match version {
        Version::HTTP_10 => headers::has_token(hop, &CONNECTION, "keep-alive"),
        _ => !headers::has_token(hop, &CONNECTION, "close"),
    };
    // Who sends both framings may mean either (RFC 9112, section 6.3).
    let keep_alive = stays && framing != Framing::UntilClose && !(chunked && length.is_some());
    for name in headers::nominated(hop) {
        fields.remove(name);
    }
    if chunked {
        fields.remove(CONTENT_LENGTH);
    } else if let Some(length) = length {
        headers::set_single_length(&mut fields, length);
    }
    Ok(Answer {
        status,
        headers: fields,
        framing,
        keep_alive,
        upgrade: headers::upgrade(hop),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_whole(text: &str) -> Result<Option<Answer>, Invalid> {
        read(&mut Scan::default(), &mut BytesMut::from(text), false)
    }

    fn framing(head: &str) -> Result<(Framing, bool), Invalid> {
        read_whole(&format!("{head}\r\n\r\n")).map(|answer| {
            let answer = answer.unwrap();
            (answer.framing, answer.keep_alive)
        })
    }

    #[test]
    fn a_body_ends_where_rfc_9112_says() {
        use Framing::{Chunked, Empty, Length, UntilClose};
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5", (Length(5), true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0", (Empty, true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5", (Length(5), true)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5",
                (Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
                (Chunked, true),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
                (Chunked, false),
            ),
            ("HTTP/1.1 200 OK", (UntilClose, false)),
            ("HTTP/1.1 204 No Content", (Empty, true)),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 5",
                (Empty, true),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close",
                (Length(5), false),
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5", (Length(5), false)),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: Keep-Alive",
                (Length(5), true),
            ),
        ];
        for (head, expected) in cases {
            assert_eq!(framing(head), Ok(expected), "{head}");
        }
    }

    #[test]
    fn doubtful_framing_is_refused() {
        let heads = [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 6",
            "HTTP/1.1 200 OK\r\ncontent-length: +5",
            "HTTP/1.1 200 OK\r\ncontent-length: ",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: ",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        ];
        for head in heads {
            assert_eq!(framing(head).unwrap_err(), Invalid::Framing, "{head}");
        }
    }

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        let text = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\na: 1\r\nConnection: b\r\nb: 2\r\n\
                    content-length: 2\r\n\r\nok";
        for step in 1..text.len() {
            let (mut scan, mut input) = (Scan::default(), BytesMut::new());
            let mut answer = None;
            for piece in text.as_bytes().chunks(step) {
                input.extend_from_slice(piece);
                if answer.is_none() {
                    answer = read(&mut scan, &mut input, false).unwrap();
                }
            }
            let answer = answer.expect("a head");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers.len(), 2, "{:?}", answer.headers);
            assert_eq!(answer.headers["a"], "1");
            assert_eq!(input, "ok", "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused_and_bounded() {
        for text in [
            "garbage\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
        ] {
            assert_eq!(read_whole(text).unwrap_err(), Invalid::Syntax, "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_SIZE));
        assert_eq!(read_whole(&endless).unwrap_err(), Invalid::TooLarge);
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: 1\r\n".repeat(MAX_FIELDS + 1)
        );
        assert_eq!(read_whole(&many).unwrap_err(), Invalid::TooLarge);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        let answer = read(&mut Scan::default(), &mut input, true)
            .unwrap()
            .unwrap();
        assert_eq!(answer.framing, Framing::Empty);
        assert_eq!(answer.headers[CONTENT_LENGTH], "5");
    }
}
