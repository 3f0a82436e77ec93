//! `upstreams.ejection`

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Validation, duration_or};
use crate::config::forms::OrOff;
use crate::config::key_path::KeyPath;
use crate::config::model::Ejection;
use crate::config::schema;
use crate::config::types::{Factor, Percent, PositiveDuration};

const CONSECUTIVE_FAILURES: NonZeroU32 = NonZeroU32::new(5).expect("it is not zero");
const ERROR_RATIO: Percent = Percent::new(30).expect("it is no more than 100");
const INTERVAL: Duration = Duration::from_secs(1);
const BASE: Duration = Duration::from_secs(30);
const MAX: Duration = Duration::from_secs(300);
const MAX_SHARE: Percent = Percent::new(50).expect("it is no more than 100");
const PANIC: Percent = Percent::new(50).expect("it is no more than 100");

impl Validation<'_> {
    pub(super) fn ejection(&mut self, raw: &schema::Upstream, at: &KeyPath) -> Option<Ejection> {
        let default = schema::Ejection::default();
        let raw = match &raw.ejection {
            Some(OrOff::Off) => return None,
            Some(OrOff::On(raw)) => raw,
            None => &default,
        };
        let base = duration_or(raw.base, BASE);
        let max = duration_or(raw.max, MAX);
        if base > max {
            let (shown_base, shown_max) =
                (PositiveDuration::from(base), PositiveDuration::from(max));
            // At the key that was written.
            let (key, message) = match raw.base {
                Some(_) => (
                    "base",
                    format!("{shown_base} is longer than \"max\", which is {shown_max}"),
                ),
                None => (
                    "max",
                    format!("{shown_max} is shorter than \"base\", which is {shown_base}"),
                ),
            };
            self.problems.add(at.key(key), message);
        }
        Some(Ejection {
            consecutive_failures: raw.consecutive_failures.unwrap_or(CONSECUTIVE_FAILURES),
            error_ratio: raw.error_ratio.unwrap_or(ERROR_RATIO),
            latency_factor: raw.latency_factor.map(Factor::get),
            interval: duration_or(raw.interval, INTERVAL),
            base,
            max,
            max_share: raw.max_share.unwrap_or(MAX_SHARE),
            panic: raw.panic.unwrap_or(PANIC),
        })
    }
}
