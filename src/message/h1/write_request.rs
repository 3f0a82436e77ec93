//! The head of a request, written field by field.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::message::headers;

/// The head of a request that is being written.
#[derive(Debug)]
pub struct RequestHead<'a>(&'a mut Vec<u8>);

impl<'a> RequestHead<'a> {
    /// Begins a request for `target`, given in parts.
    pub fn begin(out: &'a mut Vec<u8>, method: &http::Method, target: [&str; 2]) -> Self {
        let [lead, rest] = target;
        for part in [method.as_str(), " ", lead, rest, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        Self(out)
    }

    /// Adds a field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.parts(name.as_str(), &[value.as_bytes()]);
    }

    /// Adds a field whose value is the concatenation of `parts`, all of which must be valid in a value.
    pub fn parts(&mut self, name: &str, parts: &[&[u8]]) {
        let out = &mut *self.0;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Adds a list field with the members of `lines`, and `member` as its last one.
    pub fn list<'v>(
        &mut self,
        name: &str,
        lines: impl Iterator<Item = &'v HeaderValue>,
        member: &[&[u8]],
    ) {
        let out = &mut *self.0;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        for line in lines.filter(|line| !line.is_empty()) {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b", ");
        }
        for part in member {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Adds Content-Length.
    pub fn length(&mut self, length: u64) {
        let mut digits = [0; 20];
        self.parts("content-length", &[decimal(length, &mut digits)]);
    }

    /// Ends the head.
    pub fn end(self) {
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Writes the line before a chunk of `size` bytes.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for position in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (4 * position)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a body in chunks: the last chunk, and those trailers that are wanted and may be there.
pub fn write_trailers(
    out: &mut Vec<u8>,
    trailers: &HeaderMap,
    wanted: impl Fn(&HeaderName) -> bool,
) {
    out.extend_from_slice(b"0\r\n");
    let mut section = RequestHead(out);
    for (name, value) in trailers {
        if wanted(name) && headers::may_be_trailer(name) {
            section.field(name, value);
        }
    }
    section.end();
}

/// `number` in decimal digits.
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http::header::{ACCEPT, HOST};

    use super::*;

    #[test]
    fn chunks_and_trailers_are_written_as_rfc_9112_says() {
        let mut out = Vec::new();
        for size in [1, 0xf, 0x10, 0x2000, usize::MAX] {
            write_chunk_size(&mut out, size);
        }
        assert_eq!(out, b"1\r\nf\r\n10\r\n2000\r\nffffffffffffffff\r\n");
        out.clear();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        trailers.insert("x-other", HeaderValue::from_static("1"));
        trailers.insert(HOST, HeaderValue::from_static("evil"));
        write_trailers(&mut out, &trailers, |name| name != "x-other");
        assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
    }

    #[test]
    fn a_head_is_written_as_rfc_9112_says() {
        let mut out = Vec::new();
        let mut head = RequestHead::begin(&mut out, &Method::POST, ["/", "?a=b"]);
        head.field(&HOST, &HeaderValue::from_static("example.com"));
        let before = [
            HeaderValue::from_static("1.0 a"),
            HeaderValue::from_static(""),
            HeaderValue::from_static("1.1 b"),
        ];
        head.list("via", before.iter(), &[b"1.1 ", b"c"]);
        head.list("x-forwarded-for", [].iter(), &[b"192.0.2.1"]);
        head.parts(ACCEPT.as_str(), &[b"*/", b"*"]);
        head.length(u64::MAX);
        head.length(0);
        head.end();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /?a=b HTTP/1.1\r\nhost: example.com\r\nvia: 1.0 a, 1.1 b, 1.1 c\r\nx-forwarded-for: 192.0.2.1\r\n\
             accept: */*\r\ncontent-length: 18446744073709551615\r\ncontent-length: 0\r\n\r\n"
        );
    }
}
