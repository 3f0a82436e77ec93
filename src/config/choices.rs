//! The textual forms of what routes choose: by what they split, when they retry and hedge, what comes first.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;

use super::model::{HedgeAfter, Priority, SplitKey};
use super::names::{cookie_name, header_name};
use super::types::{Invalid, PositiveDuration, serde_as_text};

/// An element of `retry.on`: what makes a try worth another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// No connection.
    Connect,
    /// The connection ended before an answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// An answer with this status: 5xx, 425 or 429.
    Status(StatusCode),
}

serde_as_text!(
    SplitKey,
    r#""random", "client_ip", "header:NAME" or "cookie:NAME""#
);
serde_as_text!(
    RetryOn,
    r#""connect", "reset", "timeout" or a status as a string, for example "503""#
);
serde_as_text!(HedgeAfter, r#""p95" or a duration, for example "50ms""#);
serde_as_text!(Priority, r#""high", "normal", "low" or "header:NAME""#);

impl FromStr for SplitKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None if text == "random" => Ok(Self::Random),
            None if text == "client_ip" => Ok(Self::ClientIp),
            Some(("header", name)) => header_name(name).map(Self::Header),
            Some(("cookie", name)) => cookie_name(name).map(Self::Cookie),
            _ => Err(Invalid::new(format!(
                r#"{text:?} is not what a split goes by; expected "random", "client_ip", "header:NAME" or "cookie:NAME""#
            ))),
        }
    }
}

impl FromStr for RetryOn {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let status = || StatusCode::from_bytes(text.as_bytes()).ok();
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            _ => status()
                .filter(|it| (500..=599).contains(&it.as_u16()) || [425, 429].contains(&it.as_u16()))
                .map(Self::Status)
                .ok_or_else(|| {
                    Invalid::new(format!(
                        r#"{text:?} is nothing to retry on; expected "connect", "reset", "timeout" or a status, "500" to "599", "425" or "429""#
                    ))
                }),
        }
    }
}

impl FromStr for HedgeAfter {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "p95" {
            return Ok(Self::P95);
        }
        match text.parse::<PositiveDuration>() {
            Ok(duration) => Ok(Self::Fixed(duration.get())),
            Err(error) => Err(Invalid::new(format!(r#"{error}; or "p95""#))),
        }
    }
}

impl FromStr for Priority {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None if text == "high" => Ok(Self::High),
            None if text == "normal" => Ok(Self::Normal),
            None if text == "low" => Ok(Self::Low),
            Some(("header", name)) => header_name(name).map(Self::Header),
            _ => Err(Invalid::new(format!(
                r#"{text:?} is not a priority; expected "high", "normal", "low" or "header:NAME""#
            ))),
        }
    }
}

impl fmt::Display for SplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => f.write_str(status.as_str()),
        }
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P95 => f.write_str("p95"),
            Self::Fixed(duration) => PositiveDuration::from(*duration).fmt(f),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::High => f.write_str("high"),
            Self::Normal => f.write_str("normal"),
            Self::Low => f.write_str("low"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each text is written back as, or a part of its error.
    fn check<T: FromStr<Err = Invalid> + fmt::Display>(cases: &[(&str, Result<&str, &str>)]) {
        for (text, expected) in cases {
            match (text.parse::<T>(), expected) {
                (Ok(value), Ok(written)) => assert_eq!(value.to_string(), *written),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text:?}: {error}");
                }
                (Ok(value), Err(_)) => panic!("{text:?} was taken for {value}"),
                (Err(error), Ok(_)) => panic!("{text:?}: {error}"),
            }
        }
    }

    #[test]
    fn splits_and_priorities() {
        check::<SplitKey>(&[
            ("random", Ok("random")),
            ("client_ip", Ok("client_ip")),
            ("header:X-User", Ok("header:x-user")),
            ("cookie:Id", Ok("cookie:Id")),
            ("cookie:", Err("is not a cookie's name")),
            ("path", Err("is not what a split goes by")),
        ]);
        check::<Priority>(&[
            ("high", Ok("high")),
            ("normal", Ok("normal")),
            ("low", Ok("low")),
            ("header:X-Priority", Ok("header:x-priority")),
            ("header:", Err("is not a header's name")),
            ("header", Err("is not a priority")),
            ("urgent", Err("is not a priority")),
        ]);
    }

    #[test]
    fn retries_and_hedges() {
        check::<RetryOn>(&[
            ("connect", Ok("connect")),
            ("reset", Ok("reset")),
            ("timeout", Ok("timeout")),
            ("503", Ok("503")),
            ("429", Ok("429")),
            ("425", Ok("425")),
            ("404", Err("is nothing to retry on")),
            ("600", Err("is nothing to retry on")),
            ("5xx", Err("is nothing to retry on")),
            ("", Err("is nothing to retry on")),
        ]);
        check::<HedgeAfter>(&[
            ("p95", Ok("p95")),
            ("50ms", Ok("50ms")),
            ("0s", Err("is zero")),
            ("p99", Err("or \"p95\"")),
        ]);
    }
}
