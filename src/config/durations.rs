//! Durations that can be switched off.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::types::{Invalid, PositiveDuration, serde_as_text};

/// A duration that is not zero; `None` is `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationOrOff(pub Option<Duration>);

serde_as_text!(
    DurationOrOff,
    r#""off" or a duration with its unit, for example "60s""#
);

impl FromStr for DurationOrOff {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "off" {
            return Ok(Self(None));
        }
        match text.parse::<PositiveDuration>() {
            Ok(duration) => Ok(Self(Some(duration.get()))),
            Err(error) => Err(Invalid::new(format!(r#"{error}; or "off""#))),
        }
    }
}

impl fmt::Display for DurationOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(duration) => PositiveDuration::from(duration).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, duration) in [
            ("off", None),
            ("1m", Some(Duration::from_secs(60))),
            ("1500ms", Some(Duration::from_millis(1500))),
        ] {
            let parsed: DurationOrOff = text.parse().unwrap();
            assert_eq!(parsed.0, duration, "{text}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        for text in ["", "0s", "on", "60"] {
            let error = text.parse::<DurationOrOff>().unwrap_err().to_string();
            assert!(error.ends_with("or \"off\""), "{error}");
        }
    }
}
