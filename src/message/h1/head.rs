//! What the heads of requests and answers have in common: where they end, their limits, and taking their fields.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use crate::message::target::InvalidTarget;

/// Most fields in a head.
pub(super) const MAX_FIELDS: usize = 100;

/// What a peer sent is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Not HTTP/1.
    #[error("what it sent is not HTTP/1.1")]
    Syntax,
    /// Another major version of HTTP.
    #[error("its version of HTTP is not supported")]
    Version,
    /// What is asked for is no target.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// A target that is longer than a head may be.
    #[error("its target is too long")]
    LongTarget,
    /// More bytes or fields than allowed.
    #[error("its headers are too large")]
    TooLarge,
    /// Where its body ends cannot be told.
    #[error("its body is framed in a way that says nothing certain")]
    Framing,
    /// It has a transfer coding other than chunked.
    #[error("its transfer coding is not supported")]
    Coding,
}

/// Knows how much of an incomplete head was looked at.
#[derive(Debug, Default)]
pub struct Scan(usize);

impl Scan {
    /// Whether parsing `input` may be of use: parsing from the start again before an empty line has come would not.
    pub(super) fn may_be_complete(&self, input: &[u8]) -> bool {
        let new = &input[self.0.saturating_sub(3)..];
        let empty_line = |pair: &[u8]| pair == b"\n\r" || pair == b"\n\n";
        !input.is_empty() && (self.0 == 0 || new.windows(2).any(empty_line))
    }

    /// The head was complete.
    pub(super) fn complete(&mut self) {
        self.0 = 0;
    }

    /// The head in `input` is not complete.
    ///
    /// # Errors
    /// It is larger than `max` bytes already.
    pub(super) fn incomplete(&mut self, input: &[u8], max: usize) -> Result<(), Invalid> {
        self.0 = input.len();
        if self.0 > max {
            Err(Invalid::TooLarge)
        } else {
            Ok(())
        }
    }
}

/// Whether all lines of `head` end in CRLF. httparse takes a bare LF for a line's end too, which RFC 9112, section 2.2,
/// allows: but where one reader sees two lines and another one, there is room for a request nobody checked.
pub(super) fn ends_lines_well(head: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let begins_well = |field: &httparse::Header<'_>| {
        let (name, _) = range(head, field.name.as_bytes());
        name == 0 || head[..name as usize].ends_with(b"\r\n")
    };
    fields.iter().all(begins_well) && head.ends_with(b"\r\n\r\n")
}

/// Where the fields of a head are. It stays on the stack.
pub(super) struct Places {
    places: [Place; MAX_FIELDS],
    count: usize,
}

/// Where a field's name and value are.
#[derive(Clone, Copy, Default)]
struct Place {
    name: (u32, u32),
    value: (u32, u32),
}

impl Places {
    /// The places of `fields`, which are parts of `input`.
    pub(super) fn new(input: &[u8], fields: &[httparse::Header<'_>]) -> Self {
        let mut places = [Place::default(); MAX_FIELDS];
        for (place, field) in places.iter_mut().zip(fields) {
            *place = Place {
                name: range(input, field.name.as_bytes()),
                value: range(input, field.value),
            };
        }
        Self {
            places,
            count: fields.len(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The fields, in `head`, which begins like the input did.
    pub(super) fn fields(
        &self,
        head: &Bytes,
    ) -> impl Iterator<Item = Result<(HeaderName, HeaderValue), Invalid>> {
        self.places[..self.count].iter().map(|place| {
            let name = HeaderName::from_bytes(&head[place.name.0 as usize..place.name.1 as usize]);
            let value = HeaderValue::from_maybe_shared(slice(head, place.value));
            name.ok().zip(value.ok()).ok_or(Invalid::Syntax)
        })
    }
}

/// The part of `head` at `place`, without a copy.
pub(super) fn slice(head: &Bytes, place: (u32, u32)) -> Bytes {
    head.slice(place.0 as usize..place.1 as usize)
}

/// Where `part` is in `whole`.
pub(super) fn range(whole: &[u8], part: &[u8]) -> (u32, u32) {
    let from = part.as_ptr().addr() - whole.as_ptr().addr();
    (from as u32, (from + part.len()) as u32)
}

/// What went wrong in httparse.
pub(super) fn invalid(error: httparse::Error) -> Invalid {
    match error {
        httparse::Error::TooManyHeaders => Invalid::TooLarge,
        _ => Invalid::Syntax,
    }
}

/// The fields of a trailer section at the front of `input` that may be there, and its length; `None` if it is not there
/// completely.
pub(super) fn trailers(input: &[u8], max: usize) -> Result<Option<(usize, HeaderMap)>, Invalid> {
    let input = &input[..input.len().min(max + 1)];
    // Parsing from the start at each read, before an empty line has come, would be a lot for who sends them in drops.
    let is_end = |end: &[u8]| end == b"\n\r\n" || end[1..] == *b"\n\n";
    let is_complete = input.starts_with(b"\n") || input.windows(3).any(is_end);
    if !is_complete {
        return match input.len() > max {
            true => Err(Invalid::TooLarge),
            false => Ok(None),
        };
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(input, &mut fields).map_err(invalid)? {
        httparse::Status::Complete((length, fields)) => {
            if !ends_lines_well(&input[..length], fields) {
                return Err(Invalid::Framing);
            }
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                let value = HeaderValue::from_bytes(field.value);
                let (name, value) = name.ok().zip(value.ok()).ok_or(Invalid::Syntax)?;
                if crate::message::headers::may_be_trailer(&name) {
                    trailers.append(name, value);
                }
            }
            Ok(Some((length, trailers)))
        }
        httparse::Status::Partial => Err(Invalid::Framing), // an empty line that is none
    }
}
