//! X-Request-Id: kept when it is sane, made otherwise.

use std::cell::Cell;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field's name.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client, in bytes.
const MAX_LENGTH: usize = 128;

/// A worker's source of ids: 16 hexadecimal digits drawn at its start, then 16 that count.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
}

impl RequestIds {
    /// A source whose ids no other source of this or another process makes, but for a chance of 2^-64.
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        Self {
            prefix: rng.u64(..),
            next: Cell::new(0),
        }
    }

    /// The id that the request came with, or a new one.
    pub fn id_of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(X_REQUEST_ID) {
            Some(id) if sane(id) => id.clone(),
            _ => self.make(),
        }
    }

    fn make(&self) -> HeaderValue {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let mut id = [0; 32];
        write_hex(&mut id[..16], self.prefix);
        write_hex(&mut id[16..], count);
        HeaderValue::from_bytes(&id).expect("hexadecimal digits are a valid field value")
    }
}

/// Printable, without quotes, and short: safe in logs and in the answers that quote it.
fn sane(id: &HeaderValue) -> bool {
    !id.is_empty()
        && id.len() <= MAX_LENGTH
        && id
            .as_bytes()
            .iter()
            .all(|b| b.is_ascii_graphic() && !b"\"\\<>&".contains(b))
}

fn write_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_distinct_and_long() {
        let ids = RequestIds {
            prefix: 0xabc,
            next: Cell::new(254),
        };
        assert_eq!(ids.make(), "0000000000000abc00000000000000fe");
        assert_eq!(ids.make(), "0000000000000abc00000000000000ff");
        assert_eq!(ids.make(), "0000000000000abc0000000000000100");
    }

    #[test]
    fn only_sane_ids_are_kept() {
        let ids = RequestIds {
            prefix: 0,
            next: Cell::new(0),
        };
        let kept = |id: &str| {
            let headers =
                HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(id).unwrap())]);
            ids.id_of(&headers) == id
        };
        assert!(kept("7b3f-4.a_b/c:1"));
        assert!(kept(&"x".repeat(128)));
        assert!(!kept(&"x".repeat(129)));
        assert!(!kept(""));
        assert!(!kept("a b"));
        assert!(!kept("<script>"));
    }
}
