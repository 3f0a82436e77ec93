//! What the fleet has used of one hot key, as one node knows it, and how far that node may go. Plain arithmetic: times are
//! milliseconds of the fleet's clock, which all nodes share within the time that a datagram takes.
//!
//! Each node counts only what it admits itself, and tells the others its count; what all have used is the sum. A count is
//! told as a whole and not as a difference, so that datagrams may be lost, doubled or late.

use std::time::Duration;

use super::super::{Algorithm, Quota};
use super::TURN;
use super::share::{Claim, entitlement};
use super::slot::Grant;

/// Rounds for which a node's rate is taken to go on.
const HORIZON: u64 = 4;
/// Rounds after which a node that has told of a key wants nothing more of it, unless it says so again.
const MAX_SILENCE: u64 = 8;
/// Rounds in which all that a node counts for a bucket is new.
const NEW: u64 = 4;
/// The part that is added to what a node has asked for: it may ask for a little more.
const MARGIN: f64 = 1.1;
/// The debt that a bucket may have, in what it gives in a window and at once: what is beyond can only be nonsense.
const MAX_DEBT: f64 = 4.0;
/// Runs of nodes whose counts are kept one by one.
const MAX_OTHERS: usize = 256;

/// What a limit gives, in the units of this module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) algorithm: Algorithm,
    /// Requests in a window.
    pub(super) limit: f64,
    /// Requests that a full bucket has.
    pub(super) burst: f64,
    /// In milliseconds.
    pub(super) window: u64,
}

/// The counts of a node: of the window and the one before, or of all time and what is missing in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The window's number; 0 for a bucket.
    pub(super) index: u64,
    /// Admitted by the node in this window, or ever.
    pub(super) current: u64,
    /// Admitted by the node in the window before.
    pub(super) previous: u64,
    /// Admitted by all in this window as far as it knows, or missing in the bucket.
    pub(super) total: u64,
    /// Admitted by all in the window before.
    pub(super) total_previous: u64,
    /// Whether a node has begun to count for its bucket so lately that nobody knows of any of it.
    pub(super) is_new: bool,
}

/// What another node has told.
#[derive(Debug, Clone, Copy)]
struct Other {
    peer: u64,
    at: u64,
    /// Requests asked for in its last round.
    asked: u32,
    counts: Counts,
    /// What it has probably used of a bucket since.
    guessed: f64,
}

/// The circumstances of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet<'a> {
    /// The time.
    pub(super) clock: u64,
    /// Time between two rounds.
    pub(super) interval: u64,
    /// Nodes that have the limit, besides this one.
    pub(super) peers: &'a [u64],
    /// Nodes that are likely to be there, besides those.
    pub(super) expected: usize,
}

impl<'a> Fleet<'a> {
    pub(super) fn of(clock: u64, interval: Duration, peers: &'a [u64], expected: usize) -> Self {
        Self {
            clock,
            interval: (interval.as_millis() as u64).max(1),
            peers,
            expected,
        }
    }

    /// How many nodes divide a key of which nothing is known.
    pub(super) fn size(&self) -> usize {
        1 + self.peers.len() + self.expected
    }
}

/// This node's side of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// Requests asked for in a round, as far as the others know by now.
    pub(super) asked: u32,
    /// Whether others that use the key have had the time to say so.
    pub(super) settled: bool,
}

/// The account of a key.
#[derive(Debug)]
pub(super) struct Account {
    rule: Rule,
    own: Counts,
    others: Vec<Other>,
    /// Decides whether a part of a request is one: so the parts of all nodes add up.
    draw: f64,
    /// When it was opened.
    opened: u64,
    /// The last turn.
    at: u64,
    bucket: Bucket,
}

/// The fleet's bucket, and this node's part of it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below zero: more was used than there was.
    tokens: f64,
    /// What this node may take of them.
    credit: f64,
    /// What this node has taken in this round.
    taken: f64,
    /// The part of the refill that is this node's.
    share: f64,
    /// When the credit was this.
    granted: u64,
}

impl Rule {
    pub(super) fn of(quota: &Quota) -> Self {
        Self {
            algorithm: quota.algorithm,
            limit: quota.requests.get().into(),
            burst: quota.burst.get().into(),
            window: quota.window_millis(),
        }
    }

    fn is_bucket(&self) -> bool {
        self.algorithm == Algorithm::TokenBucket
    }

    /// The window that a time is in.
    pub(super) fn index(&self, clock: u64) -> u64 {
        if self.is_bucket() {
            0
        } else {
            clock / self.window
        }
    }

    /// How much of the window before is still in view.
    fn in_view(&self, clock: u64) -> f64 {
        match self.algorithm {
            Algorithm::SlidingWindow => 1.0 - (clock % self.window) as f64 / self.window as f64,
            Algorithm::FixedWindow | Algorithm::TokenBucket => 0.0,
        }
    }

    /// What a bucket has at least.
    fn least_tokens(&self) -> f64 {
        -MAX_DEBT * (self.limit + self.burst)
    }

    /// Tokens that come in so many milliseconds.
    fn refill(&self, millis: u64) -> f64 {
        self.limit * millis as f64 / self.window as f64
    }
}

impl Account {
    /// The account of a key of which this node has used so much lately.
    pub(super) fn new(rule: Rule, used: u64, clock: u64, draw: f64) -> Self {
        let own = Counts {
            index: rule.index(clock),
            current: used,
            ..Counts::default()
        };
        let tokens = rule.burst - used as f64;
        Self {
            rule,
            own,
            others: Vec::new(),
            draw,
            opened: clock,
            at: clock,
            bucket: Bucket {
                tokens,
                credit: 0.0,
                taken: 0.0,
                share: 0.0,
                granted: clock,
            },
        }
    }

    /// Adds what this node has admitted since the last turn. `draw` is a random number below 1, for a new window.
    pub(super) fn advance(&mut self, used: u64, fleet: Fleet<'_>, draw: f64) {
        let clock = fleet.clock;
        let elapsed = clock.saturating_sub(self.at);
        self.at = self.at.max(clock);
        if self.rule.is_bucket() {
            let guessed = self.guess(elapsed, fleet);
            let bucket = &mut self.bucket;
            bucket.tokens -= guessed;
            bucket.tokens =
                (bucket.tokens + self.rule.refill(elapsed)).min(self.rule.burst) - used as f64;
            bucket.credit -= used as f64;
            bucket.taken += used as f64;
            self.own.current += used;
            return;
        }
        let since = clock % self.rule.window;
        let index = self.rule.index(clock);
        if index == self.own.index + 1 && elapsed > since {
            // What was used since the last turn is as old as the time since then.
            let before = (used as f64 * (elapsed - since) as f64 / elapsed as f64).round() as u64;
            self.own.current += before;
            self.roll(index);
            self.own.current += used - before;
            self.draw = draw;
            return;
        }
        if self.roll(index) {
            self.draw = draw;
        }
        self.own.current += used;
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

    /// Goes on to a window, if it is a later one.
    fn roll(&mut self, index: u64) -> bool {
        if index <= self.own.index {
            return false;
        }
        let next = index == self.own.index + 1;
        let (own, all) = (self.own.current, self.known().0);
        self.own = Counts {
            index,
            previous: if next { own } else { 0 },
            total_previous: if next { all } else { 0 },
            ..Counts::default()
        };
        // What a node wants is not over with the window, though its datagrams may have been lost meanwhile.
        let matters = |it: &Other| it.counts.index + 1 >= index || it.asked > 0;
        self.others.retain(matters);
        true
    }

    /// A round begins: what is left is divided anew.
    pub(super) fn begin_round(&mut self, fleet: Fleet<'_>, draw: f64) {
        self.bucket.taken = 0.0;
        // Of a fixed window all is divided at its beginning. What is left of that is known a round later.
        let is_known = fleet.clock % self.rule.window >= fleet.interval;
        if is_known || self.rule.algorithm == Algorithm::SlidingWindow {
            self.draw = draw;
        }
    }

    /// Notes what another node tells.
    pub(super) fn hear(&mut self, peer: u64, asked: u32, counts: Counts, clock: u64) {
        if !self.rule.is_bucket() {
            // A node whose clock is a window ahead or behind would say nothing of use here.
            if counts.index.abs_diff(self.own.index) > 1 {
                return;
            }
            self.roll(counts.index);
            if counts.index == self.own.index {
                self.own.total = self.own.total.max(counts.total);
                self.own.total_previous = self.own.total_previous.max(counts.total_previous);
            }
        }
        let other = Other {
            peer,
            at: clock,
            asked,
            counts,
            guessed: 0.0,
        };
        match self.others.iter_mut().find(|it| it.peer == peer) {
            Some(known) => {
                let (before, now, guessed) = (known.counts, counts, known.guessed);
                // One that is late.
                if (now.index, now.current) < (before.index, before.current)
                    && !self.rule.is_bucket()
                {
                    return;
                }
                *known = other;
                if self.rule.is_bucket() {
                    match now.current.checked_sub(before.current) {
                        Some(used) => self.bucket.tokens += guessed - used as f64,
                        None => self.believe(counts),
                    }
                }
            }
            None => {
                if self.others.len() >= MAX_OTHERS {
                    // Runs that are long over come first. What they used is still known.
                    (self.own.total, self.own.total_previous) = self.known();
                    self.others.remove(0);
                }
                self.others.push(other);
                self.believe(counts);
            }
        }
        self.bucket.tokens = self.bucket.tokens.max(self.rule.least_tokens());
    }

    /// Takes over what another one knows of the bucket, or adds what only that one can know.
    fn believe(&mut self, counts: Counts) {
        if counts.is_new {
            self.bucket.tokens -= counts.current as f64;
            return;
        }
        let tokens = self.rule.burst - counts.total as f64;
        self.bucket.tokens = self.bucket.tokens.min(tokens);
    }

    /// Forgets nodes that are no longer there, but for what they have used of a window, and the demand of those that have
    /// not told of it for some rounds: who wants something says so in each.
    pub(super) fn forget(&mut self, fleet: Fleet<'_>) {
        let is_bucket = self.rule.is_bucket();
        self.others.retain_mut(|it| {
            let there = fleet.peers.contains(&it.peer);
            let silent = fleet.clock.saturating_sub(it.at) > MAX_SILENCE * fleet.interval;
            if silent || !there {
                it.asked = 0;
            }
            there || !is_bucket
        });
    }

    /// What is to be told to others.
    pub(super) fn counts(&self, fleet: Fleet<'_>) -> Counts {
        if self.rule.is_bucket() {
            let missing = (self.rule.burst - self.bucket.tokens).max(0.0);
            return Counts {
                total: missing as u64,
                is_new: self.at.saturating_sub(self.opened) < NEW * fleet.interval,
                ..self.own
            };
        }
        let (total, total_previous) = self.known();
        Counts {
            total,
            total_previous,
            ..self.own
        }
    }

    /// What all have used in this window and in the one before: what they told, or what one of them knew.
    fn known(&self) -> (u64, u64) {
        let index = self.own.index;
        let (mut current, mut previous) = (self.own.current, self.own.previous);
        for counts in self.others.iter().map(|it| &it.counts) {
            if counts.index == index {
                current += counts.current;
                previous += counts.previous;
            } else if counts.index + 1 == index {
                previous += counts.current;
            }
        }
        (
            current.max(self.own.total),
            previous.max(self.own.total_previous),
        )
    }

    /// The part of the limit that is used, from 0 to 1 and perhaps more.
    pub(super) fn fraction(&self, clock: u64) -> f64 {
        if self.rule.is_bucket() {
            return 1.0 - self.bucket.tokens / self.rule.burst;
        }
        let (current, previous) = self.known();
        (current as f64 + previous as f64 * self.rule.in_view(clock)) / self.rule.limit
    }

    /// Whether nothing is known of the key that a new account would not say too.
    pub(super) fn is_over(&self) -> bool {
        if self.rule.is_bucket() {
            self.bucket.tokens >= self.rule.burst
        } else {
            self.known() == (0, 0)
        }
    }

    /// How far this node may go from here.
    pub(super) fn grant(&mut self, own: Own, fleet: Fleet<'_>) -> Grant {
        if self.rule.is_bucket() {
            self.grant_of_bucket(own, fleet)
        } else {
            self.grant_of_window(own, fleet)
        }
    }

    fn grant_of_window(&self, own: Own, fleet: Fleet<'_>) -> Grant {
        let Rule { limit, window, .. } = self.rule;
        let clock = fleet.clock;
        let rest = window - clock % window;
        // The grant is for the turn to come, at whose end less of the window before is in view.
        let in_view = self
            .rule
            .in_view(clock + (TURN.as_millis() as u64).min(rest - 1));
        let (current, previous) = self.known();
        let known = current as f64 + previous as f64 * in_view;
        let used = |counts: &Counts| match self.own.index.checked_sub(counts.index) {
            Some(0) => counts.current as f64 + counts.previous as f64 * in_view,
            Some(1) => counts.current as f64 * in_view,
            _ => 0.0,
        };
        let mut heard = 0.0;
        let mut claims = Vec::with_capacity(fleet.size());
        for other in &self.others {
            let used = used(&other.counts);
            heard += used;
            if fleet.peers.contains(&other.peer) {
                let wanted = self.wanted(used, other.asked, other.at, fleet);
                claims.push(Claim { used, wanted });
            }
        }
        let own_used = used(&self.own);
        heard += own_used;
        // What nodes have used that are gone is nobody's.
        let budget = limit
            - (known - heard).max(0.0)
            - (heard - own_used - claims.iter().map(|it| it.used).sum::<f64>());
        let own_claim = Claim {
            used: own_used,
            wanted: self.wanted(own_used, own.asked, clock, fleet),
        };
        let entitled = self.divide(own_claim, claims, own.settled, budget, fleet);
        let left = (limit - known).max(0.0);
        let mut allowance = (entitled - own_used + self.draw).max(0.0) as u64;
        // Nobody should be turned away for being the first to come here.
        if own_used < 1.0 && own.asked == 0 && left >= 1.0 {
            allowance = allowance.max(1);
        }
        Grant {
            allowance: allowance.min(left as u64),
            left: left as u64,
            reset: match self.rule.algorithm {
                Algorithm::SlidingWindow => rest + window,
                Algorithm::FixedWindow | Algorithm::TokenBucket => rest,
            },
            retry: if left < 1.0 {
                self.fades_in(current, previous, rest)
            } else {
                fleet.interval.min(rest)
            },
        }
    }

    /// Milliseconds until one more request fits into the window, if nobody else comes.
    fn fades_in(&self, current: u64, previous: u64, rest: u64) -> u64 {
        let (Rule { limit, window, .. }, previous) = (self.rule, previous as f64);
        let room = limit - 1.0 - current as f64;
        if self.rule.algorithm == Algorithm::FixedWindow || room < 0.0 || previous < 1.0 {
            return rest;
        }
        let in_view = (room / previous * window as f64) as u64;
        rest.saturating_sub(in_view)
    }

    /// What a node wants of a window in all, which has used so much and then has asked for so much in a round.
    fn wanted(&self, used: f64, asked: u32, then: u64, fleet: Fleet<'_>) -> f64 {
        let window = self.rule.window;
        let horizon = fleet.interval * HORIZON;
        let rate = f64::from(asked) * MARGIN / fleet.interval as f64;
        if self.rule.algorithm == Algorithm::SlidingWindow {
            // While the new comes the old goes.
            let horizon = horizon.min(window) as f64;
            return (used * (1.0 - horizon / window as f64) + rate * horizon).max(used);
        }
        let end = (self.own.index + 1) * window;
        used + rate * horizon.min(end.saturating_sub(then)) as f64
    }

    fn divide(
        &self,
        own: Claim,
        mut claims: Vec<Claim>,
        settled: bool,
        budget: f64,
        fleet: Fleet<'_>,
    ) -> f64 {
        let somebody = claims.iter().any(|it| it.wanted > it.used);
        let (mut own, mut silent) = (own, Claim::of(0.0));
        if !settled {
            // Others may be using their parts and not have said so yet.
            let part = budget / fleet.size() as f64;
            silent = Claim::of(part);
            if !somebody {
                own.wanted = part;
            }
        }
        claims.resize(fleet.size() - 1, silent);
        entitlement(own, &claims, budget)
    }

    fn grant_of_bucket(&mut self, own: Own, fleet: Fleet<'_>) -> Grant {
        let Rule {
            burst,
            limit,
            window,
            ..
        } = self.rule;
        let tokens = self.bucket.tokens;
        let budget = self.rule.refill(fleet.interval);
        let wanted = |asked: u32| Claim::of(f64::from(asked) * MARGIN);
        let claims = self.others.iter().map(|it| wanted(it.asked));
        let share = self.divide(
            wanted(own.asked),
            claims.collect(),
            own.settled,
            budget,
            fleet,
        ) / budget;

        let bucket = &mut self.bucket;
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
        let allowance = if tokens > 0.0 {
            bucket.credit.max(0.0) as u64
        } else {
            0
        };
        let left = tokens.max(0.0);
        let until = |tokens: f64| (tokens.max(0.0) * window as f64 / limit).ceil() as u64;
        Grant {
            allowance,
            left: left as u64,
            reset: until(burst - tokens),
            retry: until(1.0 - tokens).max(until(1.0 - bucket.credit)),
        }
    }
}
