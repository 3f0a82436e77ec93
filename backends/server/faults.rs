//! What goes wrong with which requests: the faults as JSON says them, and what was drawn of them for one request.

use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// The faults, as `--faults` and `POST /faults` give them. Without any, requests are answered as their paths say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Milliseconds that every request waits.
    delay_ms: u64,
    /// A share of requests that waits longer.
    slow: Slow,
    /// A share of requests that is answered with an error.
    errors: Errors,
    /// The share of requests whose connection is reset before an answer.
    reset: Ratio,
    /// The share of requests that is never answered.
    hang: Ratio,
    /// The share of requests that is answered with a status line that is none.
    garbage: Ratio,
    /// Bytes after which bodies of answers end in a reset.
    reset_at: Option<u64>,
    /// Bytes a second at which bodies of answers come.
    body_rate: Option<NonZeroU64>,
    /// How many requests are served at once; the others wait.
    pub capacity: Option<Capacity>,
    /// Whether all this is for `/health` too.
    pub health: bool,
    /// Where the random numbers begin.
    pub seed: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slow {
    ratio: Ratio,
    ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Errors {
    ratio: Ratio,
    status: Status,
}

impl Default for Errors {
    fn default() -> Self {
        Self {
            ratio: Ratio::default(),
            status: Status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// What a server can do: so many `requests` at once, each of which takes `ms` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    pub requests: NonZeroU32,
    pub ms: u64,
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
struct Ratio(f64);

impl TryFrom<f64> for Ratio {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        match value {
            0.0..=1.0 => Ok(Self(value)),
            _ => Err("expected a ratio from 0 to 1"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
struct Status(StatusCode);

impl TryFrom<u16> for Status {
    type Error = &'static str;

    fn try_from(value: u16) -> Result<Self, Self::Error> {
        super::answers::status(&value.to_string()).map(Self)
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.0.as_u16()
    }
}

impl FromStr for Faults {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

/// What becomes of one request.
#[derive(Debug, PartialEq)]
pub struct Fate {
    /// How long it waits before anything else.
    pub delay: Duration,
    pub end: End,
    pub body: BodyFault,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Answer,
    Status(StatusCode),
    Reset,
    Hang,
    Garbage,
}

/// What is wrong with an answer's body.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BodyFault {
    /// Bytes after which the connection is reset.
    pub reset_at: Option<u64>,
    /// Bytes a second.
    pub rate: Option<NonZeroU64>,
}

impl BodyFault {
    /// Whether nothing is.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl Faults {
    /// Draws what becomes of a request. A request has one end, so the shares of resets, errors and so on add up; whether it
    /// is slow is drawn apart.
    pub fn draw(&self, rng: &mut Rng) -> Fate {
        let ends = [
            (self.reset, End::Reset),
            (self.hang, End::Hang),
            (self.garbage, End::Garbage),
            (self.errors.ratio, End::Status(self.errors.status.0)),
        ];
        let mut lot = rng.f64();
        let end = ends.into_iter().find_map(|(Ratio(ratio), end)| {
            lot -= ratio;
            (lot < 0.0).then_some(end)
        });
        let slow = rng.f64() < self.slow.ratio.0;
        let delay = self.delay_ms + if slow { self.slow.ms } else { 0 };
        Fate {
            delay: Duration::from_millis(delay),
            end: end.unwrap_or(End::Answer),
            body: BodyFault {
                reset_at: self.reset_at,
                rate: self.body_rate,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(json: &str, count: usize) -> Vec<Fate> {
        let faults: Faults = json.parse().unwrap();
        let mut rng = Rng::with_seed(faults.seed);
        (0..count).map(|_| faults.draw(&mut rng)).collect()
    }

    fn count(fates: &[Fate], is: impl Fn(&Fate) -> bool) -> usize {
        fates.iter().filter(|fate| is(fate)).count()
    }

    #[test]
    fn shares_of_ends_add_up_and_slowness_is_apart() {
        let fates = drawn(
            r#"{"reset": 0.25, "errors": {"ratio": 0.25, "status": 503}, "hang": 0.5, "slow": {"ratio": 0.1, "ms": 7}}"#,
            10_000,
        );
        let status = End::Status(StatusCode::SERVICE_UNAVAILABLE);
        for (end, expected) in [(End::Reset, 2500), (status, 2500), (End::Hang, 5000)] {
            let found = count(&fates, |fate| fate.end == end);
            assert!(found.abs_diff(expected) < 250, "{end:?}: {found}");
        }
        assert_eq!(count(&fates, |fate| fate.end == End::Answer), 0);
        let slow = count(&fates, |fate| fate.delay == Duration::from_millis(7));
        assert!(slow.abs_diff(1000) < 150, "{slow}");
    }

    #[test]
    fn a_seed_gives_the_same_fates() {
        let with_seed = |seed| drawn(&format!(r#"{{"reset": 0.5, "seed": {seed}}}"#), 64);
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
    }

    #[test]
    fn nothing_happens_without_faults_and_all_of_it_at_ratio_1() {
        assert!(drawn("{}", 100).iter().all(|fate| fate.end == End::Answer));
        let all = drawn(r#"{"garbage": 1.0}"#, 100);
        assert!(all.iter().all(|fate| fate.end == End::Garbage));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for json in [
            r#"{"reset": 1.5}"#,
            r#"{"reset": -1}"#,
            r#"{"errors": {"ratio": 1, "status": 100}}"#,
            r#"{"slow": {"ratio": 1}}"#,
            r#"{"capacity": {"requests": 0, "ms": 1}}"#,
            r#"{"body_rate": 0}"#,
            r#"{"reest": 1}"#,
        ] {
            assert!(json.parse::<Faults>().is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_shown_can_be_given_again() {
        let json = r#"{"delay_ms": 3, "reset_at": 9, "capacity": {"requests": 2, "ms": 5}, "health": true}"#;
        let faults: Faults = json.parse().unwrap();
        let shown = serde_json::to_string(&faults).unwrap();
        assert_eq!(shown.parse::<Faults>().unwrap(), faults);
    }
}
