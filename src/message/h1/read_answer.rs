//! The head of an answer: status, fields, and how its body is framed (RFC 9112, sections 4 to 6).
//!
//! Nobody here looks at most fields of an answer. They are checked and passed on as the lines they came in, without a
//! map being made of them.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;
use http::{StatusCode, Version};

use super::body::Framing;
use super::head::{self, Invalid, MAX_FIELDS, Scan};
use super::write_answer::Fields;
use crate::message::headers::{self, Trailers};

/// Largest head, in bytes.
const MAX_SIZE: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its end-to-end fields but for Content-Length, with this proxy in Via.
    pub fields: Fields,
    /// What Content-Length says, which for HEAD and 304 is not the length of what follows.
    pub length: Option<u64>,
    /// How its body ends.
    pub framing: Framing,
    /// The trailers that it may have.
    pub trailers: Trailers,
    /// Whether the server keeps the connection open after it.
    pub keep_alive: bool,
    /// The protocol that it switches to, or offers.
    pub upgrade: Option<Box<HeaderValue>>,
}

impl Answer {
    /// Whether another one follows, to the same request (RFC 9110, section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// The answer on a stream of HTTP/2, which is over already if it `is_empty`.
    ///
    /// # Errors
    /// Its length is doubtful.
    pub fn of_stream(head: Parts, is_empty: bool, to_head: bool) -> Result<Self, Invalid> {
        let mut fields = Fields::default();
        let length = headers::content_length(&head.headers).map_err(|_| Invalid::Framing)?;
        let mut via = Vec::new();
        for (name, value) in &head.headers {
            match Kind::of(name.as_str()) {
                Kind::Other | Kind::Trailer => fields.add(name.as_str(), value.as_bytes()),
                Kind::Date => {
                    fields.has_date = true;
                    fields.add(name.as_str(), value.as_bytes());
                }
                Kind::Via => {
                    via.extend_from_slice(value.as_bytes());
                    via.extend_from_slice(b", ");
                }
                Kind::Length | Kind::Hop(_) | Kind::Dropped => {}
            }
        }
        via.extend_from_slice(headers::own_via(Version::HTTP_2).as_bytes());
        fields.add("via", &via);
        let bodiless = is_empty || is_bodiless(head.status, to_head);
        // Trailers may follow even a body of no length.
        let length = length.filter(|length| *length > 0 || bodiless);
        Ok(Self {
            status: head.status,
            fields,
            length,
            framing: match length {
                _ if bodiless => Framing::Empty,
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            },
            trailers: Trailers::Any,
            keep_alive: true,
            upgrade: None,
        })
    }
}

/// Whether an answer of this status has no body, whatever it says of its length (RFC 9112, section 6.3).
fn is_bodiless(status: StatusCode, to_head: bool) -> bool {
    to_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Takes the head of an answer from the front of `input`, if it is there completely. It may be an
/// [interim](Answer::is_interim) one.
///
/// # Errors
/// What is there cannot be the beginning of an answer. `to_head` says that HEAD was asked.
pub fn read(
    scan: &mut Scan,
    input: &mut BytesMut,
    to_head: bool,
) -> Result<Option<Answer>, Invalid> {
    if scan.may_be_complete(input)
        && let Some(answer) = parse(scan, input, to_head)?
    {
        return Ok(Some(answer));
    }
    scan.incomplete(input, MAX_SIZE).map(|()| None)
}

fn parse(scan: &mut Scan, input: &mut BytesMut, to_head: bool) -> Result<Option<Answer>, Invalid> {
    // httparse passes over empty lines, which may be there before requests only.
    if !input.starts_with(b"H") {
        return Err(Invalid::Syntax);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, input, &mut fields)
        .map_err(head::invalid)?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    scan.complete();
    if length > MAX_SIZE {
        return Err(Invalid::TooLarge);
    }
    let version = match head.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Invalid::Syntax)?;
    let sorted = Sorted::new(head.headers, length, version)?;
    let answer = sorted.interpret(status, version, to_head)?;
    input.advance(length);
    Ok(Some(answer))
}

/// The fields of an answer, by whom they concern.
struct Sorted {
    /// All the others.
    fields: Fields,
    /// This hop.
    hop: HeaderMap,
    via: Vec<u8>,
    length: Option<u64>,
    trailers: Vec<HeaderName>,
    keep_alive: bool,
}

impl Sorted {
    /// Sorts the fields of a head of `size` bytes.
    fn new(
        fields: &[httparse::Header<'_>],
        size: usize,
        version: Version,
    ) -> Result<Self, Invalid> {
        let mut sorted = Self {
            fields: Fields {
                // This proxy and the request's id are added.
                lines: Vec::with_capacity(size + 128),
                has_date: false,
            },
            hop: HeaderMap::new(),
            via: Vec::new(),
            length: None,
            trailers: Vec::new(),
            keep_alive: false,
        };
        for field in fields {
            sorted.add(field)?;
        }
        sorted.keep_alive =
            headers::keeps_alive(version, &sorted.hop).map_err(|_| Invalid::TooLarge)?;
        let mut nominated = headers::nominated(&sorted.hop);
        nominated.retain(|name| matches!(Kind::of(name.as_str()), Kind::Other | Kind::Date));
        if !nominated.is_empty() {
            sorted.fields = Fields::default();
            sorted.hop.clear();
            sorted.via.clear();
            sorted.trailers.clear();
            let wanted = |field: &&httparse::Header<'_>| {
                !nominated.iter().any(|name| is(field.name, name.as_str()))
            };
            for field in fields.iter().filter(wanted) {
                sorted.add(field)?;
            }
            sorted.leave_out(&nominated);
        }
        sorted.add_via(version);
        Ok(sorted)
    }

    /// Takes in a field. It may come twice.
    fn add(&mut self, field: &httparse::Header<'_>) -> Result<(), Invalid> {
        let (name, value) = (field.name, field.value);
        match Kind::of(name) {
            Kind::Other => self.fields.add(name, value),
            Kind::Date => {
                self.fields.has_date = true;
                self.fields.add(name, value);
            }
            Kind::Length => {
                self.length =
                    headers::same_length(self.length, value).map_err(|_| Invalid::Framing)?;
            }
            Kind::Trailer => {
                self.fields.add(name, value);
                let names = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
                self.trailers.extend(names);
            }
            Kind::Via => {
                for part in [b", ", value] {
                    self.via.extend_from_slice(part);
                }
            }
            // Most servers say this, which means nothing.
            Kind::Hop(name) if name == CONNECTION && value.eq_ignore_ascii_case(b"keep-alive") => {
                if !self.hop.contains_key(CONNECTION) {
                    self.hop.insert(CONNECTION, KEEP_ALIVE);
                }
            }
            Kind::Hop(name) => {
                let value = HeaderValue::from_bytes(value).map_err(|_| Invalid::Syntax)?;
                self.hop.append(name, value);
            }
            Kind::Dropped => {}
        }
        Ok(())
    }

    /// Announces no trailers of these names.
    fn leave_out(&mut self, nominated: &[HeaderName]) {
        let before = self.trailers.len();
        self.trailers.retain(|name| !nominated.contains(name));
        if self.trailers.len() < before {
            self.fields.remove(TRAILER.as_str());
            let rest: Vec<&str> = self.trailers.iter().map(HeaderName::as_str).collect();
            if !rest.is_empty() {
                self.fields
                    .add(TRAILER.as_str(), rest.join(", ").as_bytes());
            }
        }
    }

    fn add_via(&mut self, received: Version) {
        let before = self.via.get(2..).unwrap_or_default();
        let comma: &[u8] = if before.is_empty() { b"" } else { b", " };
        let own = headers::own_via(received).as_bytes();
        for part in [b"via: ", before, comma, own, b"\r\n"] {
            self.fields.lines.extend_from_slice(part);
        }
    }

    /// Finds out where the body ends, and what becomes of the connection then.
    fn interpret(
        self,
        status: StatusCode,
        version: Version,
        to_head: bool,
    ) -> Result<Answer, Invalid> {
        let (hop, length) = (&self.hop, self.length);
        let chunked = headers::chunked(hop).map_err(|_| Invalid::Framing)?;
        if chunked && version == Version::HTTP_10 {
            return Err(Invalid::Framing); // RFC 9112, section 6.1
        }
        if chunked && length.is_some() {
            return Err(Invalid::Framing); // it may mean either (section 6.3)
        }
        let bodiless = is_bodiless(status, to_head);
        let framing = match length {
            _ if bodiless => Framing::Empty,
            _ if chunked => Framing::Chunked,
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        Ok(Answer {
            status,
            fields: self.fields,
            length,
            framing,
            trailers: Trailers::Named(self.trailers),
            keep_alive: self.keep_alive && framing != Framing::UntilClose,
            upgrade: headers::upgrade(hop).map(Box::new),
        })
    }
}

const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("keep-alive");

/// What a field is to a proxy.
enum Kind {
    /// Nothing.
    Other,
    Date,
    Length,
    Trailer,
    Via,
    /// It tells something about this hop.
    Hop(HeaderName),
    /// It concerns this hop only, and tells nothing; or it is this proxy that says it.
    Dropped,
}

impl Kind {
    fn of(name: &str) -> Self {
        // Few names have such a length at all.
        match name.len() {
            2 if is(name, "te") => Self::Dropped,
            3 if is(name, "via") => Self::Via,
            4 if is(name, "date") => Self::Date,
            7 if is(name, "trailer") => Self::Trailer,
            7 if is(name, "upgrade") => Self::Hop(UPGRADE),
            10 if is(name, "connection") => Self::Hop(CONNECTION),
            10 if is(name, "keep-alive") => Self::Dropped,
            12 if is(name, "x-request-id") => Self::Dropped,
            14 if is(name, "content-length") => Self::Length,
            14 if is(name, "http2-settings") => Self::Dropped,
            16 if is(name, "proxy-connection") => Self::Dropped,
            17 if is(name, "transfer-encoding") => Self::Hop(TRANSFER_ENCODING),
            18 if is(name, "proxy-authenticate") => Self::Dropped,
            19 if is(name, "proxy-authorization") => Self::Dropped,
            _ => Self::Other,
        }
    }
}

fn is(name: &str, expected: &str) -> bool {
    name.eq_ignore_ascii_case(expected)
}

#[cfg(test)]
mod tests;
