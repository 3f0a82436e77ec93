//! A server's weight, as the API and the state file spell it.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// A server's share relative to others: 0 to 256, 1 by default; 0 gets no new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weight(u32);

impl Weight {
    const MAX: u32 = 256;

    /// None if it is too large.
    pub(super) fn new(weight: u32) -> Option<Self> {
        (weight <= Self::MAX).then_some(Self(weight))
    }

    pub(super) fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u32(WeightVisitor)
    }
}

struct WeightVisitor;

impl Visitor<'_> for WeightVisitor {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from 0 to {}", Weight::MAX)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Weight, E> {
        match u32::try_from(value) {
            Ok(weight) if weight <= Weight::MAX => Ok(Weight(weight)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_integer_from_0_to_256() {
        for weight in [0, 1, 256] {
            let read: Weight = serde_json::from_str(&weight.to_string()).unwrap();
            assert_eq!(read.get(), weight);
        }
        for text in ["257", "4294967297", "-1", "1.5", "\"1\"", "null"] {
            let error = serde_json::from_str::<Weight>(text)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("expected an integer from 0 to 256"),
                "{error}"
            );
        }
    }
}
