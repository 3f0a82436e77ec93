//! What the fleet has used of one hot key, as one node knows it, and how far that node may go. Plain arithmetic: times are
//! milliseconds of the fleet's clock, which all nodes share within the time that a datagram takes.
//!
//! Each node counts only what it admits itself, and tells the others its count; what all have used is the sum. A count is
//! told as a whole and not as a difference, so that datagrams may be lost, doubled or late.

mod bucket;
mod rule;
mod window;

use self::bucket::Bucket;
pub(super) use self::rule::{Counts, Fleet, Own, Rule};
use super::share::{Claim, entitlement};
use super::slot::Grant;
use crate::limit::Algorithm;

/// Rounds after which a node that has told of a key wants nothing more of it, unless it says so again.
const MAX_SILENCE: u64 = 8;
/// The part that is added to what a node has asked for: it may ask for a little more.
const MARGIN: f64 = 1.1;
/// Rounds in which an account is new: nobody else can know what its node has counted since it was opened.
const NEW: u64 = 4;
/// Runs of nodes whose counts are kept one by one.
const MAX_OTHERS: usize = 256;

/// The account of a key.
#[derive(Debug)]
pub(super) struct Account {
    rule: Rule,
    own: Counts,
    /// What others may know of this node's count: it was told, in this window.
    told: u64,
    others: Vec<Other>,
    /// Decides whether a part of a request is one: so the parts of all nodes add up.
    draw: f64,
    /// The last turn.
    at: u64,
    bucket: Bucket,
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

impl Account {
    /// The account of a key of which this node has used so much lately.
    pub(super) fn new(rule: Rule, used: u64, clock: u64, draw: f64) -> Self {
        let own = Counts {
            index: rule.index(clock),
            current: used,
            opened: clock,
            ..Counts::default()
        };
        Self {
            rule,
            own,
            told: 0,
            others: Vec::new(),
            draw,
            at: clock,
            bucket: Bucket::new(rule.burst - used as f64, clock),
        }
    }

    /// Adds what this node has admitted since the last turn. `draw` is a random number below 1, for a new window.
    pub(super) fn advance(&mut self, used: u64, fleet: Fleet<'_>, draw: f64) {
        let elapsed = fleet.clock.saturating_sub(self.at);
        self.at = self.at.max(fleet.clock);
        if self.rule.is_bucket() {
            self.own.current += used;
            self.advance_bucket(used, elapsed, fleet);
        } else {
            self.advance_window(used, fleet.clock, elapsed, draw);
        }
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
    pub(super) fn hear(&mut self, peer: u64, asked: u32, counts: Counts, fleet: Fleet<'_>) {
        let other = Other {
            peer,
            at: fleet.clock,
            asked,
            counts,
            guessed: 0.0,
        };
        if self.rule.is_bucket() {
            self.hear_of_bucket(other, fleet);
        } else {
            self.hear_of_window(other);
        }
    }

    fn add(&mut self, other: Other) {
        if self.others.len() >= MAX_OTHERS {
            // Runs that are long over come first. What they used is still known.
            (self.own.total, self.own.total_previous) = self.known();
            self.others.remove(0);
        }
        self.others.push(other);
    }

    /// Forgets nodes that are no longer there, but for what they have used of a window, and the demand of those that have
    /// not told of it for some rounds: who wants something says so in each.
    pub(super) fn forget(&mut self, fleet: Fleet<'_>) {
        let is_bucket = self.rule.is_bucket();
        self.others.retain_mut(|it| {
            let there = fleet.has(it.peer);
            let silent = fleet.clock.saturating_sub(it.at) > MAX_SILENCE * fleet.interval;
            if silent || !there {
                it.asked = 0;
            }
            there || !is_bucket
        });
    }

    /// What is to be told to others, who are taken to know of it from now on.
    pub(super) fn tell(&mut self) -> Counts {
        self.told = self.own.current;
        self.counts()
    }

    /// What this node has admitted and nobody else can know of.
    fn untold(&self) -> u64 {
        self.own.current.saturating_sub(self.told)
    }

    /// Whether another node, which has told these counts, has to learn of what was used.
    pub(super) fn knows_more(&self, told: &Counts, fleet: Fleet<'_>) -> bool {
        let counts = self.counts();
        if self.rule.is_bucket() {
            // Later it takes over nothing from nodes that it knows.
            let is_new = fleet.clock.saturating_sub(told.opened) < NEW * fleet.interval;
            return is_new && counts.total > told.total + 1;
        }
        let totals = |it: &Counts| (it.total, it.total_previous);
        let (ours, theirs) = (totals(&counts), totals(told));
        told.index == counts.index && (ours.0 > theirs.0 || ours.1 > theirs.1)
    }

    fn counts(&self) -> Counts {
        if self.rule.is_bucket() {
            let missing = (self.rule.burst - self.bucket.tokens).max(0.0);
            return Counts {
                total: missing as u64,
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

    /// That time, or the end of the window if that comes first.
    pub(super) fn until(&self, clock: u64) -> u64 {
        if self.rule.is_bucket() {
            clock
        } else {
            clock.min((self.own.index + 1) * self.rule.window)
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

    /// What this node may have of a budget, beside those that claim something of it and those that are silent.
    fn divide(
        &self,
        mut own: Claim,
        mut claims: Vec<Claim>,
        settled: bool,
        budget: f64,
        fleet: Fleet<'_>,
    ) -> f64 {
        let somebody = claims.iter().any(|it| it.wanted > it.used);
        let mut silent = Claim::of(0.0);
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
}
