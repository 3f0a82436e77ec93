//! The head of an answer, as a client gets it.

use http::StatusCode;

use super::write_request::decimal;

/// How the client learns where an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is no body; Content-Length may say how long another one would be (HEAD, 304).
    NoBody(Option<u64>),
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

/// The fields of an answer.
#[derive(Debug, Default)]
pub struct Fields {
    /// Each as a line with its line break.
    pub lines: Vec<u8>,
    /// Whether Date is among them.
    pub has_date: bool,
}

impl Fields {
    /// Adds a field whose value is valid.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }

    /// Removes all fields of a name.
    pub fn remove(&mut self, name: &str) {
        let is_other = |line: &&[u8]| {
            let (start, rest) = line.split_at_checked(name.len()).unwrap_or_default();
            !(start.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":"))
        };
        let lines = self.lines.split_inclusive(|b| *b == b'\n');
        self.lines = lines.filter(is_other).collect::<Vec<_>>().concat();
    }
}

/// Writes an interim answer (RFC 9110, section 15.2), which is but a head, and says nothing of a body.
pub fn write_interim(out: &mut Vec<u8>, status: StatusCode, fields: &Fields) {
    begin(out, status, fields);
    out.extend_from_slice(b"\r\n");
}

fn begin(out: &mut Vec<u8>, status: StatusCode, fields: &Fields) {
    let reason = status.canonical_reason().unwrap_or_default();
    for part in [
        b"HTTP/1.1 ",
        status.as_str().as_bytes(),
        b" ",
        reason.as_bytes(),
        b"\r\n",
        &fields.lines,
    ] {
        out.extend_from_slice(part);
    }
}

/// Writes an answer's head. `date` is for those that have none (RFC 9110, section 6.6.1).
pub fn write(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &Fields,
    ending: Ending,
    afterwards: Afterwards,
    date: impl FnOnce(&mut Vec<u8>),
) {
    begin(out, status, fields);
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    match ending {
        Ending::NoBody(Some(length)) | Ending::Length(length) => {
            add(&[b"content-length: ", decimal(length, &mut [0; 20]), b"\r\n"]);
        }
        Ending::Chunked => add(&[b"transfer-encoding: chunked\r\n"]),
        Ending::NoBody(None) | Ending::Close => {}
    }
    match afterwards {
        Afterwards::AsUsual => {}
        Afterwards::KeepAlive => add(&[b"connection: keep-alive\r\n"]),
        Afterwards::Close => add(&[b"connection: close\r\n"]),
    }
    if !fields.has_date {
        add(&[b"date: "]);
        date(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: u16, has_date: bool, ending: Ending, afterwards: Afterwards) -> String {
        let mut fields = Fields {
            lines: b"A: 1\r\n".to_vec(),
            has_date,
        };
        fields.add("b", b"2");
        let mut out = Vec::new();
        let status = StatusCode::from_u16(status).unwrap();
        write(&mut out, status, &fields, ending, afterwards, |out| {
            out.extend_from_slice(b"today");
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_says_where_the_body_ends() {
        let start = "HTTP/1.1 200 OK\r\nA: 1\r\nb: 2\r\n";
        let cases = [
            (Ending::NoBody(Some(7)), "content-length: 7\r\n\r\n"),
            (Ending::NoBody(None), "\r\n"),
            (Ending::Length(0), "content-length: 0\r\n\r\n"),
            (Ending::Chunked, "transfer-encoding: chunked\r\n\r\n"),
            (Ending::Close, "\r\n"),
        ];
        for (ending, rest) in cases {
            assert_eq!(
                written(200, true, ending, Afterwards::AsUsual),
                format!("{start}{rest}")
            );
        }
    }

    #[test]
    fn a_name_is_removed_whatever_its_case_and_no_other() {
        let mut fields = Fields::default();
        for name in ["A", "ab", "b", "a", "c"] {
            fields.add(name, b"a: 1");
        }
        fields.remove("a");
        assert_eq!(fields.lines, b"ab: a: 1\r\nb: a: 1\r\nc: a: 1\r\n");
    }

    #[test]
    fn a_status_without_a_name_the_connection_and_the_date_are_written() {
        assert_eq!(
            written(599, false, Ending::NoBody(None), Afterwards::Close),
            "HTTP/1.1 599 \r\nA: 1\r\nb: 2\r\nconnection: close\r\ndate: today\r\n\r\n"
        );
    }
}
