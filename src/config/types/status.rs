//! Sets of HTTP statuses: `["2xx", "304", "400-404"]`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use http::StatusCode;

use super::{Invalid, serde_as_text};

/// `2xx`, `200` or `200-204`, both ends included, within 100 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRange(RangeInclusive<u16>);

/// The statuses of one or more ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<StatusRange>);

serde_as_text!(
    StatusRange,
    r#"statuses as a string: "2xx", "200" or "200-204""#
);

impl StatusRange {
    /// The lowest and the highest status, both included.
    pub fn bounds(&self) -> (u16, u16) {
        (*self.0.start(), *self.0.end())
    }
}

impl StatusSet {
    /// The set of these ranges.
    pub fn new(ranges: Vec<StatusRange>) -> Self {
        Self(ranges)
    }

    /// 2xx and 3xx.
    pub fn success_or_redirection() -> Self {
        Self(vec![StatusRange(200..=299), StatusRange(300..=399)])
    }

    /// Whether `status` is in one of the ranges.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0
            .iter()
            .any(|range| range.0.contains(&status.as_u16()))
    }

    /// The ranges, in the order in which they were given.
    pub fn ranges(&self) -> &[StatusRange] {
        &self.0
    }
}

impl FromStr for StatusRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let range = match text.split_once('-') {
            Some((first, last)) => status(first).zip(status(last)),
            None => match text.strip_suffix("xx") {
                Some(class) => status(&format!("{class}00")).map(|first| (first, first + 99)),
                None => status(text).map(|status| (status, status)),
            },
        };
        match range {
            Some((first, last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(Invalid::new(format!(
                r#"{text:?} is not a status; expected "2xx", "200" or "200-204", from 100 to 599"#
            ))),
        }
    }
}

fn status(text: &str) -> Option<u16> {
    (text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
        .filter(|status| (100..=599).contains(status))
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.bounds();
        if first == last {
            write!(f, "{first}")
        } else if first.is_multiple_of(100) && last == first + 99 {
            write!(f, "{}xx", first / 100)
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, range, written) in [
            ("2xx", 200..=299, "2xx"),
            ("200", 200..=200, "200"),
            ("200-204", 200..=204, "200-204"),
            ("300-399", 300..=399, "3xx"),
            ("100-599", 100..=599, "100-599"),
        ] {
            let parsed: StatusRange = text.parse().unwrap();
            assert_eq!(parsed, StatusRange(range));
            assert_eq!(parsed.to_string(), written);
        }
    }

    #[test]
    fn refuses_what_is_no_status() {
        for text in [
            "", "xx", "0xx", "6xx", "2x", "2XX", "99", "600", "204-200", "200-", "+20", "200-2xx",
            "2€x",
        ] {
            assert!(text.parse::<StatusRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_set_contains_its_ranges() {
        let set = StatusSet::new(vec!["2xx".parse().unwrap(), "304".parse().unwrap()]);
        let contains = |status| set.contains(StatusCode::from_u16(status).unwrap());
        assert!(contains(200) && contains(299) && contains(304));
        assert!(!contains(199) && !contains(300) && !contains(303) && !contains(305));
    }
}
