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
    // Sixteen digits are all that fit; white space before extensions is tolerated (RFC 9112, section 7.1.1).
    let tail = extensions.trim_ascii_start();
    let sound = (tail.is_empty() || tail.starts_with(b";")) && !extensions.contains(&b'\r');
    if !(1..=16).contains(&digits) || !sound {
        return Err(Invalid::Framing);
    }
    let size = size.iter().fold(0, |size, digit| {
        size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default())
    });
    input.advance(end + 1);
    Ok(Some(size))
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
                "a \r\n0123456789\r\n0;x\r\na: 1\r\nb: 2\r\n\r\nrest",
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
