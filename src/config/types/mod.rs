//! Value types of the configuration. Each holds only what is valid: parsing is the check.
//!
//! All but [`RedisServers`] have a textual form, the same in the file, in the environment and in `GET /config`: `FromStr` reads it,
//! `Display` writes it, and serde goes by way of the two.

mod address;
mod duration;
mod factor;
mod host;
mod path;
mod percent;
mod rate;
mod redis;
mod secret;
mod size;
mod status;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Visitor};

pub use address::ServerAddress;
pub use duration::{AnyDuration, PositiveDuration};
pub use factor::Factor;
pub use host::HostPattern;
pub(super) use host::parse_host;
pub use path::PathPattern;
pub use percent::Percent;
pub use rate::ByteRate;
pub use redis::RedisServers;
pub use secret::{Secret, SecretSource};
pub use size::ByteSize;
pub use status::{StatusRange, StatusSet};

/// Bytes that a name may have which load balancers of a fleet tell each other.
pub const MAX_TOLD_NAME: usize = 128;

/// A text that is not a value of the type: says what it is, what is wrong with it and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// An error with this message.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A type that is written as a string.
pub trait Text: FromStr<Err = Invalid> {
    /// What a string of this type looks like, for the message about a value that is no string at all.
    const EXPECTED: &'static str;
}

/// Implements `Text`, and serde by way of `FromStr` and `Display`.
macro_rules! serde_as_text {
    ($type:ty, $expected:literal) => {
        impl $crate::config::types::Text for $type {
            const EXPECTED: &'static str = $expected;
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::config::types::TextVisitor::new())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(super) use serde_as_text;

/// Takes a string and parses it.
pub(super) struct TextVisitor<T>(PhantomData<T>);

impl<T> TextVisitor<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
