//! The head of an answer: status, fields, and how its body is framed (RFC 9112, sections 4 to 6).

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use thiserror::Error;

use super::body::Framing;
use crate::message::headers;

/// Largest head, in bytes.
const MAX_SIZE: usize = 64 * 1024;

/// Most fields in a head.
const MAX_FIELDS: usize = 100;

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

/// What a server sent is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Not the head of an HTTP/1 answer.
    #[error("what it sent is not HTTP/1.1")]
    Syntax,
    /// More than 64 KiB or 100 fields.
    #[error("its headers are too large")]
    TooLarge,
    /// Where its body ends cannot be told.
    #[error("its body is framed in a way that is not supported")]
    Framing,
}

/// Takes the heads of answers out of what a server sends.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes that were looked at without finding the end of a head.
    seen: usize,
    /// Kept for the next head.
    places: Vec<Place>,
}

impl Reader {
    /// Takes the head of the final answer from the front of `input`, or of one that switches protocols, if it is there
    /// completely. Informational answers before it are dropped (RFC 9110, section 15.2).
    ///
    /// # Errors
    /// What is there cannot be the beginning of an answer. `to_head` says that HEAD was asked.
    pub fn read(&mut self, input: &mut BytesMut, to_head: bool) -> Result<Option<Answer>, Invalid> {
        loop {
            if self.seen > 0 && !ends(&input[self.seen.saturating_sub(3)..]) {
                self.seen = input.len();
            } else {
                match self.parse(input, to_head)? {
                    Some(answer) => {
                        self.seen = 0;
                        let interim = answer.status.is_informational()
                            && answer.status != StatusCode::SWITCHING_PROTOCOLS;
                        if interim {
                            continue;
                        }
                        return Ok(Some(answer));
                    }
                    None => self.seen = input.len(),
                }
            }
            return if input.len() > MAX_SIZE {
                Err(Invalid::TooLarge)
            } else {
                Ok(None)
            };
        }
    }

    fn parse(&mut self, input: &mut BytesMut, to_head: bool) -> Result<Option<Answer>, Invalid> {
        if input.is_empty() {
            return Ok(None);
        }
        let places = &mut self.places;
        places.clear();
        let (length, version, status) = {
            let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
            let mut head = httparse::Response::new(&mut []);
            let parsed = httparse::ParserConfig::default()
                .parse_response_with_uninit_headers(&mut head, input, &mut fields)
                .map_err(|error| match error {
                    httparse::Error::TooManyHeaders => Invalid::TooLarge,
                    _ => Invalid::Syntax,
                })?;
            let httparse::Status::Complete(length) = parsed else {
                return Ok(None);
            };
            let start = input.as_ptr().addr();
            let within = |part: &[u8]| {
                let from = part.as_ptr().addr() - start;
                (from, from + part.len())
            };
            places.extend(head.headers.iter().map(|field| Place {
                name: within(field.name.as_bytes()),
                value: within(field.value),
            }));
            let version = match head.version {
                Some(0) => Version::HTTP_10,
                _ => Version::HTTP_11,
            };
            (length, version, head.code)
        };
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Invalid::Syntax)?;
        if length > MAX_SIZE {
            return Err(Invalid::TooLarge);
        }
        let head = input.split_to(length).freeze();

        // Two more are added on the way to the client.
        let mut fields = HeaderMap::with_capacity(places.len() + 2);
        let mut hop = HeaderMap::new();
        for place in &*places {
            let name = HeaderName::from_bytes(&head[place.name.0..place.name.1])
                .map_err(|_| Invalid::Syntax)?;
            let value = HeaderValue::from_maybe_shared(head.slice(place.value.0..place.value.1))
                .map_err(|_| Invalid::Syntax)?;
            if headers::is_hop_by_hop(&name) {
                hop.append(name, value);
            } else {
                fields.append(name, value);
            }
        }
        interpret(status, version, fields, &hop, to_head).map(Some)
    }
}

/// Whether an empty line may be in `bytes`: parsing from the start again before that would be in vain.
fn ends(bytes: &[u8]) -> bool {
    bytes
        .windows(2)
        .any(|pair| pair == b"\n\r" || pair == b"\n\n")
}

/// Where a field's name and value are.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: (usize, usize),
    value: (usize, usize),
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

/// The fields of a trailer section at the front of `input`, if it is there completely; it is taken.
pub(super) fn trailers(input: &mut BytesMut, max: usize) -> Result<Option<HeaderMap>, Invalid> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (length, trailers) = match httparse::parse_headers(input, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                let value = HeaderValue::from_bytes(field.value);
                let (Ok(name), Ok(value)) = (name, value) else {
                    return Err(Invalid::Syntax);
                };
                if headers::may_be_trailer(&name) {
                    trailers.append(name, value);
                }
            }
            (length, trailers)
        }
        Ok(httparse::Status::Partial) if input.len() <= max => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Invalid::TooLarge);
        }
        Err(_) => return Err(Invalid::Syntax),
    };
    input.advance(length);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Answer>, Invalid> {
        Reader::default().read(&mut BytesMut::from(text), false)
    }

    fn framing(head: &str) -> Result<(Framing, bool), Invalid> {
        read(&format!("{head}\r\n\r\n")).map(|answer| {
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
            let (mut reader, mut input) = (Reader::default(), BytesMut::new());
            let mut answer = None;
            for piece in text.as_bytes().chunks(step) {
                input.extend_from_slice(piece);
                if answer.is_none() {
                    answer = reader.read(&mut input, false).unwrap();
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
            assert_eq!(read(text).unwrap_err(), Invalid::Syntax, "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_SIZE));
        assert_eq!(read(&endless).unwrap_err(), Invalid::TooLarge);
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: 1\r\n".repeat(MAX_FIELDS + 1)
        );
        assert_eq!(read(&many).unwrap_err(), Invalid::TooLarge);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        let answer = Reader::default().read(&mut input, true).unwrap().unwrap();
        assert_eq!(answer.framing, Framing::Empty);
        assert_eq!(answer.headers[CONTENT_LENGTH], "5");
    }
}
