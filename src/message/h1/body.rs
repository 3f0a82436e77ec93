//! Bodies as HTTP/1.1 frames them: by a length, in chunks, or until the connection closes (RFC 9112, sections 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::header::HeaderMap;

use super::head::{self, Invalid};

/// Longest line with a chunk's size, extensions included, and longest trailer section, in bytes.
const MAX_LINE: usize = 4 * 1024;
const MAX_TRAILERS: usize = 16 * 1024;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes, at least one.
    Length(u64),
    /// With the last chunk and the trailers.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Body(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are to come.
    Length(u64),
    /// A line with a chunk's size is to come.
    Size,
    /// So many bytes of a chunk are to come.
    Chunk(u64),
    /// The line break after a chunk is to come.
    ChunkEnd,
    /// Trailers or the empty line are to come.
    Trailers,
    /// What comes belongs to it.
    UntilClose,
    /// A stream of HTTP/2 brings it; so many bytes are to come, if that was said.
    Stream(Option<u64>),
    /// It has ended.
    Ended,
}

/// What was found in a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Some of its content.
    Data(Bytes),
    /// Its trailers, which end it.
    Trailers(HeaderMap),
    /// Its end.
    End,
}

impl Body {
    /// A body framed like this.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// A body that a stream of HTTP/2 brings, which may have said how long it is.
    pub fn of_stream(length: Option<u64>) -> Self {
        Self(State::Stream(length))
    }

    /// Counts a part of a stream's body, perhaps its last.
    ///
    /// # Errors
    /// It is not as long as was said (RFC 9113, section 8.1.1).
    pub fn pass(&mut self, bytes: usize, last: bool) -> Result<(), Invalid> {
        if let State::Stream(left) = self.0 {
            let left = match left.map(|left| left.checked_sub(bytes as u64)) {
                Some(None) => return Err(Invalid::Framing),
                Some(left) => left,
                None => None,
            };
            self.0 = match last {
                true if left.is_some_and(|left| left > 0) => return Err(Invalid::Framing),
                true => State::Ended,
                false => State::Stream(left),
            };
        }
        Ok(())
    }

    /// Whether its last part has been read.
    pub fn ended(&self) -> bool {
        matches!(self.0, State::Ended | State::Length(0))
    }

    /// Whether the end of the connection would be its end too.
    pub fn ends_with_connection(&self) -> bool {
        self.0 == State::UntilClose
    }

    /// The bytes that are still to come, if that was said.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::Stream(left) => left,
            State::Ended => Some(0),
            _ => None,
        }
    }

    /// Takes the next part from `input`; `None` if more has to be read for it.
    ///
    /// # Errors
    /// The chunks are malformed, or their lines too long.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Part>, Invalid> {
        loop {
            match self.0 {
                State::Ended | State::Length(0) => return Ok(Some(Part::End)),
                State::Stream(_) => return Ok(None),
                _ if input.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(Part::Data(input.split().freeze()))),
                State::Length(left) => {
                    let data = take_up_to(input, left);
                    self.0 = State::Length(left - data.len() as u64);
                    return Ok(Some(Part::Data(data)));
                }
                State::Chunk(left) => {
                    let data = take_up_to(input, left);
                    self.0 = match left - data.len() as u64 {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    };
                    return Ok(Some(Part::Data(data)));
                }
                State::Size => match chunk_size(input)? {
                    None => return Ok(None),
                    Some(0) => self.0 = State::Trailers,
                    Some(size) => self.0 = State::Chunk(size),
                },
                State::ChunkEnd => {
                    if input.len() < 2 {
                        return Ok(None);
                    }
                    if !input.starts_with(b"\r\n") {
                        return Err(Invalid::Framing);
                    }
                    input.advance(2);
                    self.0 = State::Size;
                }
                State::Trailers => {
                    if input.starts_with(b"\r\n") {
                        input.advance(2);
                        self.0 = State::Ended;
                        return Ok(Some(Part::End));
                    }
                    let Some((length, trailers)) = head::trailers(input, MAX_TRAILERS)? else {
                        return Ok(None);
                    };
                    input.advance(length);
                    self.0 = State::Ended;
                    return Ok(Some(Part::Trailers(trailers)));
                }
            }
        }
    }
}

fn take_up_to(input: &mut BytesMut, limit: u64) -> Bytes {
    let length = usize::try_from(limit).map_or(input.len(), |limit| limit.min(input.len()));
    input.split_to(length).freeze()
}

/// Takes a chunk's first line: its size, and extensions, which are dropped.
fn chunk_size(input: &mut BytesMut) -> Result<Option<u64>, Invalid> {
    let line = &input[..input.len().min(MAX_LINE)];
    let Some(end) = line.iter().position(|b| *b == b'\n') else {
        return if input.len() < MAX_LINE {
            Ok(None)
        } else {
            Err(Invalid::TooLarge)
        };
    };
    let line = line[..end].strip_suffix(b"\r").ok_or(Invalid::Framing)?;
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    // Sixteen digits are all that fit.
    if !(1..=16).contains(&digits) || !are_extensions(extensions) {
        return Err(Invalid::Framing);
    }
    let size = size.iter().fold(0, |size, digit| {
        size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default())
    });
    input.advance(end + 1);
    Ok(Some(size))
}

/// Whether this is a chunk's extensions (RFC 9112, section 7.1.1). They are dropped, but who takes them otherwise than
/// they were meant may take the chunk otherwise.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = without_space(rest).strip_prefix(b";") else {
            return false;
        };
        let Some(after) = without_token(without_space(name)) else {
            return false;
        };
        rest = match without_space(after).strip_prefix(b"=").map(without_space) {
            None => after,
            Some(value) => match without_quoted(value).or_else(|| without_token(value)) {
                Some(after) => after,
                None => return false,
            },
        };
    }
    true
}

fn without_space(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|b| matches!(b, b' ' | b'\t'));
    &text[spaces.count()..]
}

/// What follows the token at the front of `text`, if there is one (RFC 9110, section 5.6.2).
fn without_token(text: &[u8]) -> Option<&[u8]> {
    let is_part = |b: &&u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let length = text.iter().take_while(is_part).count();
    Some(&text[length..]).filter(|_| length > 0)
}

/// What follows the quoted string at the front of `text`, if there is one (RFC 9110, section 5.6.4).
fn without_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., after @ ..] => after,
            [b'\\', ..] => return None,
            [b'\t' | b' '..=b'~' | 0x80.., after @ ..] => after,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content and trailers of a body that arrives in pieces of `step` bytes, and what follows it.
    fn read(framing: Framing, text: &str, step: usize) -> Result<(String, usize, String), Invalid> {
        let (mut body, mut input) = (Body::new(framing), BytesMut::new());
        let (mut content, mut trailers) = (Vec::new(), 0);
        for piece in text.as_bytes().chunks(step) {
            input.extend_from_slice(piece);
            while !body.ended() {
                match body.take(&mut input)? {
                    Some(Part::Data(data)) => content.extend_from_slice(&data),
                    Some(Part::Trailers(fields)) => trailers += fields.len(),
                    Some(Part::End) => {}
                    None => break,
                }
            }
        }
        assert_eq!(body.ended(), framing != Framing::UntilClose, "{text:?}");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok((text(content), trailers, text(input.to_vec())))
    }

    #[test]
    fn a_body_is_read_however_it_is_cut() {
        let cases = [
            (Framing::Length(5), "hellorest", "hello", 0, "rest"),
            (
                Framing::Chunked,
                "5\r\nhello\r\n0\r\n\r\nrest",
                "hello",
                0,
                "rest",
            ),
            (
                Framing::Chunked,
                "2\r\nhe\r\n003;a=\"b\"\r\nllo\r\n0\r\n\r\n",
                "hello",
                0,
                "",
            ),
            (
                Framing::Chunked,
                "a ; q = \"\\\";\";r\r\n0123456789\r\n0;x\r\na: 1\r\nb: 2\r\n\r\nrest",
                "0123456789",
                2,
                "rest",
            ),
            (
                Framing::Chunked,
                "0\r\ncontent-length: 5\r\n\r\n",
                "",
                0,
                "",
            ),
            (Framing::UntilClose, "hello", "hello", 0, ""),
        ];
        for (framing, text, content, trailers, rest) in cases {
            for step in 1..=text.len() {
                let expected = (content.to_owned(), trailers, rest.to_owned());
                assert_eq!(
                    read(framing, text, step),
                    Ok(expected),
                    "{text:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let bodies = [
            "\r\n",
            "g\r\n",
            "5 5\r\nhello\r\n",
            "-1\r\n",
            "5\nhello\r\n",
            "5\r\nhelloo\r\n",
            "11112222333344445\r\n",
            "5;a\rb\r\nhello\r\n",
            "5 \r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5;\r\nhello\r\n",
            "5;;a\r\nhello\r\n",
            "5;a=\r\nhello\r\n",
            "5;a b\r\nhello\r\n",
            "5;a[\r\nhello\r\n",
            "5;a=\"b\r\nhello\r\n",
            "5;a=\"b\"c\r\nhello\r\n",
            "5;a=\"\u{1}\"\r\nhello\r\n",
            "5;a\0\r\nhello\r\n",
            "5\u{b}\r\nhello\r\n",
            "5\rhello\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "1_0\r\nhello\r\n",
            "00000000000000005\r\nhello\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "0\r\n\n",
            "0\r\na: 1\n\r\n",
            "0\r\na: 1\r\n\n",
            "0\r\na : 1\r\n\r\n",
            "0\r\na: 1\r\n b\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
        ];
        for body in bodies {
            for step in [1, body.len()] {
                let mut input = BytesMut::new();
                let mut reader = Body::new(Framing::Chunked);
                let mut result = Ok(None);
                for piece in body.as_bytes().chunks(step) {
                    input.extend_from_slice(piece);
                    result = loop {
                        match reader.take(&mut input) {
                            Ok(Some(Part::Data(_))) => {}
                            other => break other,
                        }
                    };
                    if result.is_err() {
                        break;
                    }
                }
                assert!(result.is_err(), "{body:?} by {step}: {result:?}");
            }
        }
    }

    #[test]
    fn lines_and_trailers_are_bounded() {
        let mut line = BytesMut::from(format!("5;{}", "x".repeat(MAX_LINE)).as_str());
        assert_eq!(
            Body::new(Framing::Chunked).take(&mut line),
            Err(Invalid::TooLarge)
        );
        let mut trailers = BytesMut::from(format!("0\r\nx: {}", "x".repeat(MAX_TRAILERS)).as_str());
        assert_eq!(
            Body::new(Framing::Chunked).take(&mut trailers),
            Err(Invalid::TooLarge)
        );
    }
}
