//! Shares of a whole: `"20%"`, `"2.5%"`.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, serde_as_text};

/// 0 % to 100 %, in steps of a tenth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    per_mille: u16,
}

serde_as_text!(Percent, r#"a share such as "20%" or "2.5%""#);

impl Percent {
    /// This many percent; `None` above 100.
    pub const fn new(percent: u8) -> Option<Self> {
        match percent {
            0..=100 => Some(Self {
                per_mille: percent as u16 * 10,
            }),
            _ => None,
        }
    }

    /// The share of `n`, rounded down.
    pub fn of(self, n: u64) -> u64 {
        // The whole thousands first: their share needs no rounding, and nothing overflows.
        let per_mille = u64::from(self.per_mille);
        n / 1000 * per_mille + n % 1000 * per_mille / 1000
    }

    /// From 0.0 to 1.0.
    pub fn ratio(self) -> f64 {
        f64::from(self.per_mille) / 1000.0
    }
}

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why| {
            Invalid::new(format!(
                r#"{text:?} {why}; expected "0%" to "100%", with at most one decimal place, for example "20%" or "2.5%""#
            ))
        };
        let number = text
            .strip_suffix('%')
            .ok_or_else(|| invalid("has no \"%\" at its end"))?;
        let (whole, tenth) = match number.split_once('.') {
            Some((whole, tenth)) => (whole, tenth),
            None => (number, "0"),
        };
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(tenth) {
            return Err(invalid("is not a share"));
        }
        if tenth.len() > 1 {
            return Err(invalid("has too many decimal places"));
        }
        // Both are digits, so that what does not fit is too large.
        format!("{whole}{tenth}")
            .parse()
            .ok()
            .filter(|per_mille| *per_mille <= 1000)
            .map(|per_mille| Self { per_mille })
            .ok_or_else(|| invalid("is more than the whole"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_mille / 10)?;
        match self.per_mille % 10 {
            0 => f.write_str("%"),
            tenth => write!(f, ".{tenth}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, ratio, written) in [
            ("0%", 0.0, "0%"),
            ("20%", 0.2, "20%"),
            ("2.5%", 0.025, "2.5%"),
            ("100.0%", 1.0, "100%"),
            ("007%", 0.07, "7%"),
        ] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!(percent.ratio(), ratio, "{text}");
            assert_eq!(percent.to_string(), written);
        }
    }

    #[test]
    fn refuses_what_is_no_share() {
        for (text, why) in [
            ("", "has no \"%\""),
            ("20", "has no \"%\""),
            ("%", "is not a share"),
            ("-1%", "is not a share"),
            ("+1%", "is not a share"),
            ("1 %", "is not a share"),
            ("1.%", "is not a share"),
            (".5%", "is not a share"),
            ("1,5%", "is not a share"),
            ("1.25%", "too many decimal places"),
            ("100.1%", "more than the whole"),
            ("6553700%", "more than the whole"),
        ] {
            let error = text.parse::<Percent>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("20%"), "{error}");
        }
        assert_eq!(Percent::new(101), None);
    }

    #[test]
    fn shares_are_rounded_down() {
        let of = |text: &str, n| text.parse::<Percent>().unwrap().of(n);
        assert_eq!(of("20%", 9), 1);
        assert_eq!(of("20%", 4), 0);
        assert_eq!(of("99.9%", 1_000_999), 999_998);
        assert_eq!(of("100%", u64::MAX), u64::MAX);
        assert_eq!(of("0%", u64::MAX), 0);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(per_mille in 0..=1000u16) {
            let percent = Percent { per_mille };
            assert_eq!(percent.to_string().parse(), Ok(percent));
        }
    }
}
