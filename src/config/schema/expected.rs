//! `upstreams.health_check.expect`, which HTTP probes have as statuses and UDP probes as a text.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::config::forms::List;
use crate::config::types::StatusRange;

/// What a probe's answer must be.
#[derive(Debug, Clone)]
pub enum Expected {
    /// Of one of these statuses.
    Statuses(List<StatusRange>),
    /// One with this in it.
    Text(String),
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExpectedVisitor;

        impl<'de> Visitor<'de> for ExpectedVisitor {
            type Value = Expected;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of statuses, or a text for kind = \"udp\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expected, E> {
                Ok(Expected::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Expected, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Expected::Statuses)
            }
        }

        deserializer.deserialize_any(ExpectedVisitor)
    }
}

impl Serialize for Expected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Statuses(list) => list.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}
