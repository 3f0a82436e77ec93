//! Windows, which all nodes begin and end at once: who has used little of one has the more of it left.

use super::super::share::Claim;
use super::super::slot::Grant;
use super::{Account, Counts, Fleet, MARGIN, Other, Own, Rule};
use crate::limit::Algorithm;
use crate::net::moment::TURN;

/// Rounds for which a node's rate is taken to go on.
const HORIZON: u64 = 4;

impl Account {
    /// Adds what this node has admitted in the last `elapsed` milliseconds, which may be of two windows.
    pub(super) fn advance_window(&mut self, used: u64, clock: u64, elapsed: u64, draw: f64) {
        let since = clock % self.rule.window;
        let index = self.rule.index(clock);
        let mut before = 0;
        if index == self.own.index + 1 && elapsed > since {
            // What was used since the last turn is as old as the time since then.
            before = (used as f64 * (elapsed - since) as f64 / elapsed as f64).round() as u64;
        }
        self.count(before);
        if self.roll(index) {
            self.draw = draw;
        }
        self.count(used - before);
    }

    /// What is known of all grows with what this node adds to it, also where it was told by others.
    fn count(&mut self, used: u64) {
        self.own.current += used;
        self.own.total += used;
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
        self.told = 0;
        // What a node wants is not over with the window, though its datagrams may have been lost meanwhile.
        let matters = |it: &Other| it.counts.index + 1 >= index || it.asked > 0;
        self.others.retain(matters);
        true
    }

    /// Notes what another node tells of its windows.
    pub(super) fn hear_of_window(&mut self, other: Other) {
        let counts = other.counts;
        // A node whose clock is a window ahead or behind would say nothing of use here.
        if counts.index.abs_diff(self.own.index) > 1 {
            return;
        }
        self.roll(counts.index);
        if counts.index == self.own.index {
            self.own.total = self.own.total.max(counts.total + self.untold());
            self.own.total_previous = self.own.total_previous.max(counts.total_previous);
        }
        let Some(at) = self.others.iter().position(|it| it.peer == other.peer) else {
            self.add(other);
            return;
        };
        let old = self.others[at].counts;
        if (counts.index, counts.current) < (old.index, old.current) {
            // Who knows more of all and less of itself has opened its account anew.
            let is_anew = counts.index == old.index && counts.total > old.total;
            if !is_anew {
                return; // it is late
            }
            (self.own.total, self.own.total_previous) = self.known();
        }
        self.others[at] = other;
    }

    /// What all have used in this window and in the one before: what they told, or what one of them knew.
    pub(super) fn known(&self) -> (u64, u64) {
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

    /// What a node's counts come to in this window, with so much of the one before in view.
    fn in_window(&self, counts: &Counts, in_view: f64) -> f64 {
        match self.own.index.checked_sub(counts.index) {
            Some(0) => counts.current as f64 + counts.previous as f64 * in_view,
            Some(1) => counts.current as f64 * in_view,
            _ => 0.0,
        }
    }

    pub(super) fn grant_of_window(&self, own: Own, fleet: Fleet<'_>) -> Grant {
        let window = self.rule.window;
        let clock = fleet.clock;
        let rest = window - clock % window;
        // The grant is for the turn to come, at whose end less of the window before is in view.
        let turn = (TURN.as_millis() as u64).min(rest - 1);
        let in_view = self.rule.in_view(clock + turn);
        let (current, previous) = self.known();
        let known = current as f64 + previous as f64 * in_view;
        let left = (self.rule.limit - known).max(0.0);
        let used = self.in_window(&self.own, in_view);
        let entitled = self.entitled(own, known, in_view, fleet);
        let mut allowance = (entitled - used + self.draw).max(0.0) as u64;
        // Nobody should be turned away for being the first to come here.
        if used < 1.0 && own.asked == 0 && left >= 1.0 {
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

    /// What this node may have of a window in all, of which `known` are used.
    fn entitled(&self, own: Own, known: f64, in_view: f64, fleet: Fleet<'_>) -> f64 {
        let used = self.in_window(&self.own, in_view);
        let mut claimed = used;
        let mut claims = Vec::with_capacity(fleet.size());
        for other in self.others.iter().filter(|it| fleet.has(it.peer)) {
            let used = self.in_window(&other.counts, in_view);
            claimed += used;
            let wanted = self.wanted(used, other.asked, other.at, fleet);
            claims.push(Claim { used, wanted });
        }
        let own_claim = Claim {
            used,
            wanted: self.wanted(used, own.asked, fleet.clock, fleet),
        };
        // What nodes have used that are gone is nobody's.
        let budget = self.rule.limit - (known - claimed).max(0.0);
        self.divide(own_claim, claims, own.settled, budget, fleet)
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
        // The last grant of a window is used for some of the next one.
        let rest = end.saturating_sub(then).max(TURN.as_millis() as u64);
        used + rate * horizon.min(rest) as f64
    }
}
