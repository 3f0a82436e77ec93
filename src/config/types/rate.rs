//! Numbers of bytes a second: `"1KiB/s"`, `"10MB"`, `4096`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::{ByteSize, Invalid};

const EXPECTED: &str = r#"a rate such as "1KiB/s" or a number of bytes a second"#;

/// A rate that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate(NonZeroU64);

impl ByteRate {
    /// A rate of this many bytes a second.
    pub fn new(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).map(Self)
    }

    /// The number of bytes a second.
    pub fn bytes_a_second(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for ByteRate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why| Invalid::new(format!("{text:?} {why}; expected {EXPECTED}"));
        let size: ByteSize = text
            .strip_suffix("/s")
            .unwrap_or(text)
            .parse()
            .map_err(|_| invalid("is not a rate"))?;
        Self::new(size.bytes()).ok_or_else(|| invalid("is zero"))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize::from(self.0.get()))
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrBytes;

        impl Visitor<'_> for TextOrBytes {
            type Value = ByteRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteRate, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteRate, E> {
                let zero = || E::invalid_value(de::Unexpected::Unsigned(0), &self);
                ByteRate::new(bytes).ok_or_else(zero)
            }
        }

        deserializer.deserialize_any(TextOrBytes)
    }
}

impl Serialize for ByteRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, bytes, written) in [
            ("1KiB/s", 1_024, "1KiB/s"),
            ("10MB", 10_000_000, "10MB/s"),
            ("500", 500, "500B/s"),
        ] {
            let rate: ByteRate = text.parse().unwrap();
            assert_eq!(rate.bytes_a_second(), bytes, "{text}");
            assert_eq!(rate.to_string(), written);
            assert_eq!(written.parse(), Ok(rate));
        }
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for (text, why) in [
            ("", "is not a rate"),
            ("1KiB/m", "is not a rate"),
            ("/s", "is not a rate"),
            ("1KiB/s/s", "is not a rate"),
            ("-1", "is not a rate"),
            ("0/s", "is zero"),
        ] {
            let error = text.parse::<ByteRate>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("1KiB/s"), "{error}");
        }
    }
}
