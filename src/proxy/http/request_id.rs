//! X-Request-Id: kept when it is sane, made otherwise.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field's name.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client, in bytes.
const MAX_LENGTH: usize = 128;

/// Bytes of an id that is made here.
const LENGTH: usize = 32;

/// Ids that share an allocation: one that is kept for long, with a tunnel say, keeps the others' bytes too.
const BATCH: usize = 16;

/// A worker's source of ids: 16 hexadecimal digits drawn at its start, then 16 that count.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
    batch: RefCell<Bytes>,
}

impl RequestIds {
    /// A source whose ids no other source of this or another process makes, but for a chance of 2^-64.
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        Self {
            prefix: rng.u64(..),
            next: Cell::new(0),
            batch: RefCell::default(),
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
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            *batch = self.make_batch();
        }
        HeaderValue::from_maybe_shared(batch.split_to(LENGTH))
            .expect("hexadecimal digits are a valid field value")
    }

    fn make_batch(&self) -> Bytes {
        let mut batch = vec![0; BATCH * LENGTH];
        for id in batch.chunks_exact_mut(LENGTH) {
            let count = self.next.get();
            self.next.set(count.wrapping_add(1));
            let (prefix, number) = id.split_at_mut(LENGTH / 2);
            write_hex(prefix, self.prefix);
            write_hex(number, count);
        }
        Bytes::from(batch)
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

    fn source(prefix: u64, next: u64) -> RequestIds {
        RequestIds {
            prefix,
            next: Cell::new(next),
            batch: RefCell::default(),
        }
    }

    #[test]
    fn made_ids_are_distinct_and_long() {
        let ids = source(0xabc, 254);
        for count in 254..300 {
            assert_eq!(ids.make(), format!("0000000000000abc{count:016x}").as_str());
        }
    }

    #[test]
    fn only_sane_ids_are_kept() {
        let ids = source(0, 0);
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
