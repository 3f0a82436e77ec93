//! Numbers and texts as datagrams carry them: compact to write, and read with bounds, since a sender may be anybody.

/// Appends a number in groups of seven bits, the lowest first (LEB128): small ones take a byte.
pub fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Appends bytes behind their length.
pub fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Reads from the front. Whatever is not there or not as it should be is `None`, and the reader of no more use.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// So many bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// So many bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A number that [`put_number`] has written.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// What [`put_bytes`] has written, if it is not longer than `max`.
    pub fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        if length > max {
            return None;
        }
        self.take(length)
    }

    /// The same as text of at most `max` bytes, without control characters.
    pub fn text(&mut self, max: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.bytes(max)?).ok()?;
        (!text.contains(char::is_control)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(numbers: Vec<u64>, text in "[^\\p{Cc}]{0,40}") {
            let mut bytes = Vec::new();
            for number in &numbers {
                put_number(&mut bytes, *number);
            }
            put_bytes(&mut bytes, text.as_bytes());
            let mut reader = Reader::new(&bytes);
            for number in numbers {
                prop_assert_eq!(reader.number(), Some(number));
            }
            prop_assert_eq!(reader.text(160), Some(text.as_str()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn anything_is_read_without_harm(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.number().is_some() && reader.text(9).is_some() {}
        }
    }

    #[test]
    fn what_is_too_long_is_nothing() {
        assert_eq!(Reader::new(&[0xff; 10]).number(), None);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Reader::new(&largest).number(), Some(u64::MAX));
        assert_eq!(Reader::new(&[3, 1, 2]).bytes(9), None);
        assert_eq!(Reader::new(&[3, 1, 2, 3]).bytes(2), None);
        assert_eq!(Reader::new(b"\x02a\n").text(9), None);
    }
}
