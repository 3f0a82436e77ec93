//! The head of an answer, as a client gets it.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap};

use super::write_request::decimal;

/// How the client learns where an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is no body, and what Content-Length says of another one stays: HEAD and 304.
    NoBody,
    /// There is no body and never could be: 1xx and 204.
    Bodiless,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It stays open, which goes without saying, or switches protocols, which the fields say.
    AsUsual,
    /// It stays open, which an HTTP/1.0 client has to be told.
    KeepAlive,
    /// It is closed.
    Close,
}

/// Writes an answer's head. `date` is for those that have none (RFC 9110, section 6.6.1).
pub fn write(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    ending: Ending,
    afterwards: Afterwards,
    date: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    let keep_length = ending == Ending::NoBody;
    for (name, value) in fields {
        if keep_length || name != CONTENT_LENGTH {
            for part in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
                out.extend_from_slice(part);
            }
        }
    }
    if !fields.contains_key(DATE) {
        out.extend_from_slice(b"\r\ndate: ");
        date(out);
    }
    match ending {
        Ending::Length(length) => {
            out.extend_from_slice(b"\r\ncontent-length: ");
            out.extend_from_slice(decimal(length, &mut [0; 20]));
        }
        Ending::Chunked => out.extend_from_slice(b"\r\ntransfer-encoding: chunked"),
        Ending::NoBody | Ending::Bodiless | Ending::Close => {}
    }
    out.extend_from_slice(match afterwards {
        Afterwards::AsUsual => b"\r\n\r\n",
        Afterwards::KeepAlive => b"\r\nconnection: keep-alive\r\n\r\n",
        Afterwards::Close => b"\r\nconnection: close\r\n\r\n",
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn written(status: u16, ending: Ending, afterwards: Afterwards) -> String {
        let mut fields = HeaderMap::new();
        fields.append("a", HeaderValue::from_static("1"));
        fields.append("a", HeaderValue::from_static("2"));
        fields.append(CONTENT_LENGTH, HeaderValue::from_static("7"));
        let mut out = Vec::new();
        let status = StatusCode::from_u16(status).unwrap();
        write(&mut out, status, &fields, ending, afterwards, |out| {
            out.extend_from_slice(b"today");
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_says_where_the_body_ends_once() {
        let start = "HTTP/1.1 200 OK\r\na: 1\r\na: 2\r\n";
        let cases = [
            (Ending::NoBody, "content-length: 7\r\ndate: today\r\n\r\n"),
            (Ending::Bodiless, "date: today\r\n\r\n"),
            (
                Ending::Length(0),
                "date: today\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                Ending::Chunked,
                "date: today\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
            (Ending::Close, "date: today\r\n\r\n"),
        ];
        for (ending, rest) in cases {
            assert_eq!(
                written(200, ending, Afterwards::AsUsual),
                format!("{start}{rest}")
            );
        }
    }

    #[test]
    fn a_status_without_a_name_and_the_connection_are_written() {
        assert_eq!(
            written(599, Ending::Bodiless, Afterwards::Close),
            "HTTP/1.1 599 \r\na: 1\r\na: 2\r\ndate: today\r\nconnection: close\r\n\r\n"
        );
    }
}
