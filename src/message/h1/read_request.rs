//! The head of a request: what is asked for, and how its body is framed (RFC 9112, sections 3 to 6).

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::HeaderMap;
use http::{Method, Version};

use super::body::Framing;
use super::head::{self, Invalid, MAX_FIELDS, Places, Scan};
use crate::message::headers::CodingError;
use crate::message::request_head::{Field, Head};
use crate::message::target;

/// Largest head, in bytes.
const MAX_SIZE: usize = 32 * 1024;

/// The head of a request.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub head: Head,
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
    // Empty lines before a request are ignored (RFC 9112, section 2.2): old clients end a body with one too many.
    while input.starts_with(b"\r\n") {
        input.advance(2);
    }
    if input.starts_with(b"\n") {
        return Err(Invalid::Syntax);
    }
    if scan.may_be_complete(input)
        && let Some(request) = parse(scan, input)?
    {
        return Ok(Some(request));
    }
    match scan.incomplete(input, MAX_SIZE) {
        Ok(()) => Ok(None),
        Err(_) => Err(too_large(input)),
    }
}

/// What is wrong with a head that is too large: its target, if that takes it all (RFC 9112, section 3).
fn too_large(input: &[u8]) -> Invalid {
    let line = &input[..MAX_SIZE];
    if line.contains(&b'\n') {
        Invalid::TooLarge
    } else if line.contains(&b' ') {
        Invalid::LongTarget
    } else {
        Invalid::Syntax // no method is that long
    }
}

fn parse(scan: &mut Scan, input: &mut BytesMut) -> Result<Option<Request>, Invalid> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut head,
        input,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) => {
            settle_version(input)?;
            return parse(scan, input);
        }
        Err(error) => return Err(head::invalid(error)),
    };
    if !head::ends_lines_well(&input[..length], head.headers) {
        return Err(Invalid::Syntax);
    }
    let places = Places::new(input, head.headers);
    scan.complete();
    if length > MAX_SIZE {
        return Err(too_large(input));
    }
    let version = match head.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let method = Method::from_bytes(head.method.unwrap_or_default().as_bytes())
        .map_err(|_| Invalid::Syntax)?;
    let target = head::range(input, head.path.unwrap_or_default().as_bytes());
    let head_bytes = input.split_to(length).freeze();
    let uri = target::read(&method, head::slice(&head_bytes, target))?;

    let mut fields = HeaderMap::with_capacity(places.count());
    for field in places.fields(&head_bytes) {
        let (name, value) = field?;
        fields.append(name, value);
    }
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = method;
    head.uri = uri;
    head.version = version;
    head.headers = fields;
    let head = Head::from(head);
    Ok(Some(Request {
        framing: framing(&head)?,
        keep_alive: head.keeps_alive().map_err(|_| Invalid::TooLarge)?,
        head,
    }))
}

/// Takes a request of a later HTTP/1 for one of HTTP/1.1, as RFC 9110, section 2.5, asks for.
///
/// # Errors
/// It is of another HTTP, or no request.
#[cold]
fn settle_version(input: &mut [u8]) -> Result<(), Invalid> {
    let mut words = input.splitn_mut(3, |b| *b == b' ');
    match words.nth(2) {
        Some(
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                b'1',
                b'.',
                minor @ b'2'..=b'9',
                ..,
            ],
        ) => {
            *minor = b'1';
            Ok(())
        }
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor, ..])
            if *major != b'1' && major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Invalid::Version)
        }
        _ => Err(Invalid::Syntax),
    }
}

fn framing(head: &Head) -> Result<Framing, Invalid> {
    let length = head.content_length().map_err(|_| Invalid::Framing)?;
    let coded = head.has(Field::TransferEncoding);
    if coded && (length.is_some() || head.version == Version::HTTP_10) {
        return Err(Invalid::Framing);
    }
    let chunked = head.chunked().map_err(|error| match error {
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
mod tests;
