//! How a route forwards: to which upstream, and what is done so that nobody notices a server that fails.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::snapshot::RoutePriority;
use crate::config::model::{self, SplitKey};
use crate::upstream::RetryReason;

/// How a route forwards.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Where to; at least one.
    pub targets: Vec<Target>,
    /// How one of several is chosen.
    pub split: Option<Split>,
    /// How much a request matters when servers are full.
    pub priority: RoutePriority,
    /// What is tried again.
    pub retry: Retry,
    /// What is tried twice at a time.
    pub hedge: Option<Hedge>,
    /// Where copies of requests go.
    pub mirror: Option<Arc<Mirror>>,
}

impl Forward {
    /// Whether a part of the path is removed.
    pub fn strips_prefix(&self) -> bool {
        self.targets.iter().any(|to| to.strip_prefix.is_some())
    }
}

/// An upstream, and what requests to it look like.
#[derive(Debug, Clone)]
pub struct Target {
    /// Index into `Snapshot::upstreams`.
    pub upstream: usize,
    /// Removed from the front of the path.
    pub strip_prefix: Option<String>,
    /// Whether the client's Host is sent.
    pub preserve_host: bool,
    /// To the answer's headers.
    pub timeout: Duration,
    /// Fields that requests get, in place of the client's.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
}

/// Shares of several upstreams.
#[derive(Debug, Clone)]
pub struct Split {
    /// Sums of the weights up to and including each.
    ends: Vec<u64>,
    /// What decides.
    pub by: SplitKey,
}

impl Split {
    /// Shares in proportion to `weights`, of which at least one is above 0.
    pub fn new(weights: impl IntoIterator<Item = u32>, by: SplitKey) -> Self {
        let sums = weights.into_iter().scan(0, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        });
        Self {
            ends: sums.collect(),
            by,
        }
    }

    /// Whose share this is of all points, which are spread evenly. When weights change, no more points change hands than
    /// must between neighbours.
    pub fn at(&self, point: u64) -> usize {
        let total = self.ends.last().copied().unwrap_or_default();
        let place = (u128::from(point) * u128::from(total)) >> 64;
        self.ends.partition_point(|end| u128::from(*end) <= place)
    }
}

/// What is tried again, how often, and when.
#[derive(Debug, Clone)]
pub struct Retry {
    /// As it is configured.
    pub rules: model::Retry,
    /// What each request pays into the upstream's budget, in thousandths of a try.
    pub share: u32,
}

/// Longest wait before a further try.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

impl Retry {
    /// How long one try may wait for an answer, of a request that may wait for `timeout` altogether. If there is to be
    /// time for others after a timeout and nothing is said of one try, all have the same.
    pub fn limit(&self, timeout: Duration) -> Duration {
        match self.rules.per_try_timeout {
            Some(limit) => limit.min(timeout),
            None if self.rules.timeout => timeout / self.rules.attempts.saturating_add(1),
            None => timeout,
        }
    }

    /// Whether this is a reason to try again.
    pub fn wants(&self, reason: RetryReason) -> bool {
        match reason {
            RetryReason::Connect => self.rules.connect,
            RetryReason::Unsent => self.rules.connect || self.rules.reset,
            RetryReason::Reset => self.rules.reset,
            RetryReason::Timeout => self.rules.timeout,
            RetryReason::Status => true,
        }
    }

    /// How long to wait before further try number `number`, counted from 1: not at all before the first, as that goes to
    /// another server; then anything up to a time that doubles, so that those who failed together do not come again
    /// together.
    pub fn backoff(&self, number: u32, rng: &mut fastrand::Rng) -> Duration {
        let Some(doublings) = number.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.saturating_pow(doublings);
        let longest = self
            .rules
            .backoff
            .saturating_mul(factor)
            .min(LONGEST_BACKOFF);
        longest.mul_f64(rng.f64())
    }
}

/// Second tries beside the first, which the faster one wins.
#[derive(Debug, Clone, Copy)]
pub struct Hedge {
    /// When the second one begins; `None` when the first takes longer than nineteen of twenty.
    pub after: Option<Duration>,
    /// What each request pays into the upstream's budget, in thousandths of a try.
    pub share: u32,
}

/// Copies of requests, whose answers nobody gets.
#[derive(Debug)]
pub struct Mirror {
    /// Where they go.
    pub target: Target,
    /// How many of a thousand requests are copied.
    pub share: u32,
    /// Bytes of a body that is copied.
    pub max_body: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::Percent;

    fn retry() -> Retry {
        Retry {
            rules: model::Retry {
                attempts: 2,
                connect: true,
                reset: true,
                timeout: false,
                statuses: Vec::new(),
                per_try_timeout: None,
                budget: Percent::new(20).unwrap(),
                backoff: Duration::from_millis(25),
                max_body: 0,
            },
            share: 0,
        }
    }

    #[test]
    fn a_split_gives_each_its_share() {
        let split = Split::new([95, 0, 5], SplitKey::Random);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut counts = [0; 3];
        for _ in 0..100_000 {
            counts[split.at(rng.u64(..))] += 1;
        }
        assert!((94_500..95_500).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
        assert_eq!((split.at(0), split.at(u64::MAX)), (0, 2));
        let last_only = Split::new([0, 1], SplitKey::Random);
        assert_eq!((last_only.at(0), last_only.at(u64::MAX)), (1, 1));
    }

    #[test]
    fn a_changed_weight_moves_no_more_than_it_must() {
        let (before, after) = ([95, 5], [90, 10]);
        let [before, after] = [before, after].map(|it| Split::new(it, SplitKey::ClientIp));
        let mut rng = fastrand::Rng::with_seed(1);
        let points: Vec<u64> = (0..100_000).map(|_| rng.u64(..)).collect();
        let moved = points.iter().filter(|it| before.at(**it) != after.at(**it));
        let back = points
            .iter()
            .filter(|it| before.at(**it) > after.at(**it))
            .count();
        let moved = moved.count();
        assert!((4500..5500).contains(&moved), "{moved}");
        assert_eq!(back, 0);
    }

    #[test]
    fn waits_double_from_the_second_further_try_on() {
        let retry = retry();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut longest = |number| {
            let waits = (0..1000).map(|_| retry.backoff(number, &mut rng).as_millis());
            let waits: Vec<_> = waits.collect();
            assert!(*waits.iter().min().unwrap() < 5, "no jitter: {number}");
            *waits.iter().max().unwrap()
        };
        assert_eq!(longest(1), 0);
        assert_eq!(longest(2), 24);
        assert_eq!(longest(3), 49);
        for number in [10, 40, u32::MAX] {
            assert!((990..=1000).contains(&longest(number)));
        }
    }

    #[test]
    fn a_try_has_its_own_limit_within_that_of_all() {
        const S: Duration = Duration::from_secs(1);
        let mut retry = retry();
        assert_eq!(retry.limit(30 * S), 30 * S);
        assert!(!retry.wants(RetryReason::Timeout));
        retry.rules.timeout = true;
        assert_eq!(retry.limit(30 * S), 10 * S);
        assert!(retry.wants(RetryReason::Timeout));
        retry.rules.per_try_timeout = Some(S);
        assert_eq!((retry.limit(30 * S), retry.limit(S / 2)), (S, S / 2));
    }
}
