//! Lengths of time: `"250ms"`, `"5s"`, `"1m"`, `"1h30m"`, `"365d"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Invalid, serde_as_text};

/// Longest first: the order in which a duration's parts are written.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// More than any setting means, and little enough to add to any clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration that may be zero, in whole milliseconds, of at most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyDuration(Duration);

/// A duration that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositiveDuration(Duration);

serde_as_text!(
    AnyDuration,
    r#"a duration with its unit, for example "250ms", "5s" or "1h30m""#
);
serde_as_text!(
    PositiveDuration,
    r#"a duration with its unit, for example "250ms", "5s" or "1h30m""#
);

impl AnyDuration {
    /// The duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl PositiveDuration {
    /// The duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for AnyDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// For durations that are known to be valid, as those of a `Config` are.
impl From<Duration> for PositiveDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for AnyDuration {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why| {
            Invalid::new(format!(
                r#"{text:?} {why}; expected a number and a unit (d, h, m, s, ms), for example "250ms", "5s" or "1h30m""#
            ))
        };
        let mut units = UNITS.iter();
        let mut total = 0u64;
        let mut rest = text;
        if text.is_empty() {
            return Err(invalid("is not a duration"));
        }
        while !rest.is_empty() {
            let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
            let (unit, after) = split_where(after, |c| c.is_ascii_digit());
            if number.is_empty() {
                return Err(invalid("is not a duration"));
            }
            if unit.is_empty() {
                return Err(invalid("has no unit"));
            }
            let (_, millis) = units
                .find(|(name, _)| *name == unit)
                .ok_or_else(|| invalid("is not a duration"))?;
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|count| count.checked_mul(*millis)?.checked_add(total))
                .ok_or_else(|| invalid("is too long"))?;
            rest = after;
        }
        let duration = Duration::from_millis(total);
        if duration > LONGEST {
            return Err(invalid("is longer than a year"));
        }
        Ok(Self(duration))
    }
}

impl FromStr for PositiveDuration {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let AnyDuration(duration) = text.parse()?;
        if duration.is_zero() {
            return Err(Invalid::new(format!(
                "{text:?} is zero; expected a duration of at least 1ms"
            )));
        }
        Ok(Self(duration))
    }
}

/// Splits before the first character that `ends` the piece.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

impl fmt::Display for AnyDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0.as_millis();
        for (unit, millis) in UNITS {
            let millis = u128::from(millis);
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl fmt::Display for PositiveDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        AnyDuration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, millis, written) in [
            ("250ms", 250, "250ms"),
            ("5s", 5_000, "5s"),
            ("1m", 60_000, "1m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("1s500ms", 1_500, "1s500ms"),
            ("0s", 0, "0s"),
            ("8760h", 31_536_000_000, "365d"),
            ("1d12h", 129_600_000, "1d12h"),
        ] {
            let duration: AnyDuration = text.parse().unwrap();
            assert_eq!(duration.get(), Duration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), written);
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for (text, why) in [
            ("", "is not a duration"),
            ("5", "has no unit"),
            ("s", "is not a duration"),
            ("-5s", "is not a duration"),
            ("1.5s", "is not a duration"),
            ("5 s", "is not a duration"),
            ("5w", "is not a duration"),
            ("1m1h", "is not a duration"),
            ("1s1s", "is not a duration"),
            ("99999999999999999999s", "is too long"),
            ("18446744073709551615h", "is too long"),
            ("365d1ms", "is longer than a year"),
            ("5ß", "is not a duration"),
        ] {
            let error = text.parse::<AnyDuration>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!("0ms".parse::<PositiveDuration>().is_err());
        assert!("1ms".parse::<PositiveDuration>().is_ok());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0..=31_536_000_000u64) {
            let duration = AnyDuration(Duration::from_millis(millis));
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
