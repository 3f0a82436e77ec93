//! As much of DNS messages (RFC 1035, section 4) as it takes to ask a server something and to know its answer.

use std::fmt;

use thiserror::Error;

/// Bytes before the first question.
const HEADER: usize = 12;

/// In the third byte of a message: it is an answer.
const ANSWER: u8 = 0x80;
/// The kind of query, of which 0 is the usual one.
const OPCODE: u8 = 0x78;
/// The query is to be answered with the help of other servers, if need be.
const RECURSION_DESIRED: u8 = 1;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const CLASS_IN: u16 = 1;

/// The longest part of a name between two dots.
const MAX_LABEL: usize = 63;

/// What a server thinks of a query (RFC 6895, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rcode(u8);

impl Rcode {
    /// The server could not do its work.
    pub const SERVFAIL: Self = Self(2);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("NOERROR"),
            1 => f.write_str("FORMERR"),
            2 => f.write_str("SERVFAIL"),
            3 => f.write_str("NXDOMAIN"),
            4 => f.write_str("NOTIMP"),
            5 => f.write_str("REFUSED"),
            code => write!(f, "rcode {code}"),
        }
    }
}

/// Why a message is not the answer to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// It ends too early.
    #[error("it is no DNS message")]
    Short,
    /// It has another number than the query, or asks something itself.
    #[error("it answers something else")]
    Other,
}

/// A query for the addresses of `name`, which has labels of 1 to 63 bytes; for `.`, the name servers of the root.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let is_root = name == ".";
    let mut query = Vec::with_capacity(HEADER + name.len() + 6);
    query.extend(id.to_be_bytes());
    // Of the root every server knows something, or refuses to say.
    query.push(if is_root { 0 } else { RECURSION_DESIRED });
    query.extend([0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(MAX_LABEL)];
        query.push(label.len() as u8);
        query.extend(label);
    }
    query.push(0);
    let kind = if is_root { TYPE_NS } else { TYPE_A };
    query.extend([kind, CLASS_IN].map(u16::to_be_bytes).as_flattened());
    query
}

/// What `message` says to `query`.
///
/// # Errors
/// It is no answer to that.
pub fn answer(message: &[u8], query: &[u8]) -> Result<Rcode, NoAnswer> {
    let (header, rest) = message
        .split_first_chunk::<HEADER>()
        .ok_or(NoAnswer::Short)?;
    let is_answer = header[2] & ANSWER != 0 && header[2] & OPCODE == 0;
    if !is_answer || header[..2] != query[..2] {
        return Err(NoAnswer::Other);
    }
    let rcode = Rcode(header[3] & 0x0f);
    // A server that did not understand the question, or not even read it, need not repeat it.
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if questions == 0 && rcode.0 != 0 {
        return Ok(rcode);
    }
    let question = &query[HEADER..];
    let repeated = rest.get(..question.len()).ok_or(NoAnswer::Short)?;
    match questions == 1 && repeated.eq_ignore_ascii_case(question) {
        true => Ok(rcode),
        false => Err(NoAnswer::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these flags to a query.
    fn to(query: &[u8], rcode: u8) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= ANSWER;
        message[3] = 0x80 | rcode;
        message
    }

    #[test]
    fn queries_are_those_of_the_standard() {
        assert_eq!(
            query(0x1234, "example.com"),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01"
        );
        assert_eq!(query(1, "."), b"\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01");
    }

    #[test]
    fn answers_say_what_the_server_thinks() {
        let query = query(7, "example.com");
        for (code, word) in [
            (0, "NOERROR"),
            (2, "SERVFAIL"),
            (5, "REFUSED"),
            (11, "rcode 11"),
        ] {
            let rcode = answer(&to(&query, code), &query).unwrap();
            assert_eq!(rcode.to_string(), word);
        }
        let mut more = to(&query, 0);
        more.extend(b"records");
        more[13..20].copy_from_slice(b"EXAMPLE");
        assert_eq!(answer(&more, &query), Ok(Rcode(0)), "in capitals");
        more[13..20].copy_from_slice(b"another");
        assert_eq!(answer(&more, &query), Err(NoAnswer::Other));
        let mut bare = to(&query, 1)[..HEADER].to_vec();
        bare[5] = 0;
        assert_eq!(answer(&bare, &query), Ok(Rcode(1)));
        bare[3] = 0;
        assert_eq!(answer(&bare, &query), Err(NoAnswer::Short));
    }

    #[test]
    fn what_answers_nothing_is_told_apart() {
        let query = query(7, "example.com");
        assert_eq!(answer(&query, &query), Err(NoAnswer::Other), "a query");
        let whole = to(&query, 0);
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length], &query), Err(NoAnswer::Short));
        }
        let mut other = whole.clone();
        other[1] = 8;
        assert_eq!(answer(&other, &query), Err(NoAnswer::Other));
        let mut update = whole.clone();
        update[2] |= 0x28;
        assert_eq!(answer(&update, &query), Err(NoAnswer::Other));
    }
}
