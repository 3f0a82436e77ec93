//! The one bucket of a fleet: what all have taken of it is added up, and what was too much is a debt.

use super::super::share::Claim;
use super::super::slot::Grant;
use super::{Account, Fleet, MARGIN, NEW, Other, Own, Rule};

/// The fleet's bucket, and this node's part of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// Below zero: more was used than there was.
    pub(super) tokens: f64,
    /// What this node may take of them.
    credit: f64,
    /// What this node has taken in this round.
    pub(super) taken: f64,
    /// The part of the refill that is this node's.
    share: f64,
    /// When the credit was this.
    granted: u64,
}

impl Bucket {
    /// One with so many tokens, of which nothing has been granted.
    pub(super) fn new(tokens: f64, clock: u64) -> Self {
        Self {
            tokens,
            credit: 0.0,
            taken: 0.0,
            share: 0.0,
            granted: clock,
        }
    }
}

impl Account {
    /// Takes what this node has admitted in the last `elapsed` milliseconds, and what the others probably have.
    pub(super) fn advance_bucket(&mut self, used: u64, elapsed: u64, fleet: Fleet<'_>) {
        let guessed = self.guess(elapsed, fleet);
        let refilled = self.bucket.tokens + self.rule.refill(elapsed) - guessed;
        let used = used as f64;
        self.bucket.tokens = refilled.min(self.rule.burst) - used;
        self.bucket.credit -= used;
        self.bucket.taken += used;
    }

    /// What others have probably used since the last turn, at most what is theirs. Without that a bucket would overflow
    /// while nothing is heard.
    fn guess(&mut self, elapsed: u64, fleet: Fleet<'_>) -> f64 {
        let used = |it: &Other| {
            let rate = f64::from(it.asked) / fleet.interval as f64;
            rate * elapsed.min(fleet.clock.saturating_sub(it.at)) as f64
        };
        let all: f64 = self.others.iter().map(used).sum();
        let most = self.rule.refill(elapsed) * (1.0 - self.bucket.share);
        let part = if all > most { most / all } else { 1.0 };
        for other in &mut self.others {
            other.guessed += used(other) * part;
        }
        all * part
    }

    /// Takes what another node tells that it has taken, in the place of what was guessed.
    pub(super) fn hear_of_bucket(&mut self, other: Other, fleet: Fleet<'_>) {
        let counts = other.counts;
        match self.others.iter_mut().find(|it| it.peer == other.peer) {
            Some(known) if known.counts.opened == counts.opened => {
                let Some(new) = counts.current.checked_sub(known.counts.current) else {
                    return; // it is late
                };
                self.bucket.tokens += known.guessed - new as f64;
                *known = other;
            }
            Some(known) if known.counts.opened > counts.opened => return,
            Some(known) => {
                self.bucket.tokens += known.guessed;
                *known = other;
                self.believe(other, fleet);
            }
            None => {
                self.add(other);
                self.believe(other, fleet);
            }
        }
        self.bucket.tokens = self.bucket.tokens.max(self.rule.least_tokens());
    }

    /// Takes what only that node can know of, and takes over what it knows of the bucket.
    fn believe(&mut self, other: Other, fleet: Fleet<'_>) {
        let age = fleet.clock.saturating_sub(other.counts.opened);
        if age < NEW * fleet.interval {
            self.bucket.tokens -= other.counts.current as f64;
        }
        let used = other.counts.total + self.untold();
        let tokens = self.rule.burst - used as f64;
        self.bucket.tokens = self.bucket.tokens.min(tokens);
    }

    pub(super) fn grant_of_bucket(&mut self, own: Own, fleet: Fleet<'_>) -> Grant {
        let Rule {
            burst,
            limit,
            window,
            ..
        } = self.rule;
        let budget = self.rule.refill(fleet.interval);
        let wanted = |asked: u32| Claim::of(f64::from(asked) * MARGIN);
        let claims = self.others.iter().map(|it| wanted(it.asked)).collect();
        let part = self.divide(wanted(own.asked), claims, own.settled, budget, fleet);
        let share = part / budget;

        let bucket = &mut self.bucket;
        let tokens = bucket.tokens;
        let elapsed = fleet.clock.saturating_sub(bucket.granted);
        let at_once = match own.settled {
            // What it has taken of what there was is known here before it is known what the others have taken.
            true => share * (tokens + bucket.taken) - bucket.taken,
            // Its part of a full bucket; others may be using theirs.
            false => tokens - burst + burst / fleet.size() as f64,
        };
        let most = (at_once.max(0.0) + share * budget).max(1.0);
        let refilled = bucket.credit + share * limit * elapsed as f64 / window as f64;
        bucket.credit = refilled.max(at_once).min(most);
        bucket.granted = fleet.clock;
        bucket.share = share;
        let allowance = if tokens > 0.0 { bucket.credit } else { 0.0 };
        let until = |tokens: f64| (tokens.max(0.0) * window as f64 / limit).ceil() as u64;
        Grant {
            allowance: allowance.max(0.0) as u64,
            left: tokens.max(0.0) as u64,
            reset: until(burst - tokens),
            retry: until(1.0 - tokens).max(until(1.0 - bucket.credit)),
        }
    }
}
