//! How many times as much is too much: `2.0`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

const EXPECTED: &str =
    "a number above 1 and up to 1000, with at most two decimal places, for example 2.0";

/// A factor above 1 and up to 1000, in steps of a hundredth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    hundredths: u32,
}

impl Factor {
    /// The factor `value`; `None` where that is out of range or between two steps.
    pub fn new(value: f64) -> Option<Self> {
        // Numbers of decimal texts are a little beside what they say.
        let hundredths = (value * 100.0).round();
        let is_step = (value * 100.0 - hundredths).abs() < 1e-6;
        (is_step && hundredths > 100.0 && hundredths <= 100_000.0).then_some(Self {
            hundredths: hundredths as u32,
        })
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from(self.hundredths) / 100.0
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Factor;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Factor, E> {
                Factor::new(value)
                    .ok_or_else(|| E::custom(format_args!("{value} is not right; expected {self}")))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Factor, E> {
                // Above 2^53 it is out of range, however it is rounded.
                self.visit_f64(value as f64)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Factor, E> {
                Err(E::invalid_value(Unexpected::Signed(value), &self))
            }
        }

        impl fmt::Display for Number {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
        }

        deserializer.deserialize_any(Number)
    }
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_only_what_is_a_factor() {
        for (value, held) in [(2.0, 2.0), (1.01, 1.01), (1000.0, 1000.0), (4.35, 4.35)] {
            assert_eq!(Factor::new(value).map(Factor::get), Some(held));
        }
        for value in [
            1.0,
            0.0,
            -2.0,
            1.001,
            2.345,
            1000.01,
            f64::INFINITY,
            f64::NAN,
        ] {
            assert_eq!(Factor::new(value), None, "{value}");
        }
    }

    #[test]
    fn is_written_as_a_number() {
        let factor: Factor = serde_json::from_str("3").unwrap();
        assert_eq!(serde_json::to_string(&factor).unwrap(), "3.0");
        for text in ["1", "-1", "18446744073709551615", "1.5e300"] {
            let error = serde_json::from_str::<Factor>(text).unwrap_err();
            assert!(error.to_string().contains("above 1"), "{text}: {error}");
        }
        assert!(serde_json::from_str::<Factor>("\"2\"").is_err());
    }
}
