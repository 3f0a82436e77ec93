//! `upstreams.queue` and `upstreams.adaptive_concurrency`

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Validation, duration_or};
use crate::config::forms::OrOff;
use crate::config::key_path::KeyPath;
use crate::config::model::{AdaptiveConcurrency, Queue};
use crate::config::schema;

const QUEUE_SIZE: u32 = 1024;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

const MIN: NonZeroU32 = NonZeroU32::new(8).expect("it is not zero");
const INITIAL: NonZeroU32 = NonZeroU32::new(512).expect("it is not zero");
const MAX: NonZeroU32 = NonZeroU32::new(65_536).expect("it is not zero");

impl Validation<'_> {
    pub(super) fn queue(&mut self, raw: &schema::Upstream, at: &KeyPath) -> Queue {
        let given = raw.queue.as_deref();
        let queue = Queue {
            size: given.and_then(|queue| queue.size).unwrap_or(QUEUE_SIZE),
            timeout: duration_or(given.and_then(|queue| queue.timeout), QUEUE_TIMEOUT),
        };
        let limits = ["max_in_flight", "max_connections", "adaptive_concurrency"];
        let is_limited = raw.max_in_flight.is_some()
            || raw.max_connections.is_some()
            || self.is_adaptive(raw)
            || limits.iter().any(|key| self.problems.concern(&at.key(key)));
        if given.is_some() && queue.size > 0 && !is_limited {
            self.problems.add(
                at.key("queue"),
                "is for requests that no server has room for, and nothing limits how many a server has; set \"max_in_flight\" or \"max_connections\", take adaptive_concurrency = \"off\" out, or leave the queue out",
            );
        }
        queue
    }

    /// Whether the limit that finds itself is on: not where it has no requests to go by.
    fn is_adaptive(&self, raw: &schema::Upstream) -> bool {
        match raw.adaptive_concurrency {
            Some(OrOff::Off) => false,
            Some(OrOff::On(_)) => true,
            None => !self.uses_of(raw).is_below_http(),
        }
    }

    pub(super) fn adaptive_concurrency(
        &mut self,
        raw: &schema::Upstream,
        at: &KeyPath,
    ) -> Option<AdaptiveConcurrency> {
        let default = schema::AdaptiveConcurrency::default();
        let raw = match &raw.adaptive_concurrency {
            Some(OrOff::Off) => return None,
            Some(OrOff::On(raw)) => raw,
            None if self.is_adaptive(raw) => &default,
            None => return None,
        };
        let (min, max) = (raw.min.unwrap_or(MIN), raw.max.unwrap_or(MAX));
        // Who gives one bound does not have to give the other numbers too, where they can follow.
        let min = match raw.min {
            None => min.min(max),
            Some(_) => min,
        };
        if min > max {
            self.problems.add(
                at.key("min"),
                format!("{min} is more than \"max\", which is {max}"),
            );
        }
        let initial = raw.initial.unwrap_or_else(|| INITIAL.min(max).max(min));
        for (is_wrong, relation, key, bound) in [
            (initial < min, "less", "min", min),
            (initial > max, "more", "max", max),
        ] {
            if is_wrong && min <= max {
                self.problems.add(
                    at.key("initial"),
                    format!("{initial} is {relation} than {key:?}, which is {bound}"),
                );
            }
        }
        Some(AdaptiveConcurrency { min, initial, max })
    }
}
