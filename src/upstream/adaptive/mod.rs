//! How many requests a server can have at a time, found out from how fast it answers: plain arithmetic.
//!
//! A server that has more than it can work on makes all of them wait: its fastest answers become slower than they were
//! when it had room. Then the limit goes down in proportion, as in Netflix' concurrency-limits (Gradient2), with a
//! headroom of the limit's square root, in which it grows again.
//!
//! A limit that is wrong does more harm than none. So:
//! - *The fastest answer* of a while is looked at, not the mean. Routes that are slow by nature, or wait for something to
//!   happen, make the mean go up and down; the fastest goes up when everything waits.
//! - The limit goes down only while it is (nearly) used up. In-flight counts below it need no limit.
//! - It goes down as an experiment. If the server has fewer requests and is no faster for it, it was not their number
//!   that made it slow: then that is how fast it is from now on, and the limit goes back to where it was.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// Fastest answers up to this many times slower than usual are no sign of too much.
const TOLERANCE: f64 = 1.5;

/// A server that may work on this share of its limit is as good as full.
const NEARLY_FULL: f64 = 0.8;

/// Answers that tell how fast the fastest are, at least; otherwise as many as there are requests in flight, which is what
/// comes while all of those are answered.
const ENOUGH: u64 = 10;

/// How far down the limit goes at a time, as long as it is not known that this helps.
const FIRST_STEP: f64 = 0.7;

/// And when it is.
const STEP: f64 = 0.5;

/// How far down the limit has to be before it can be seen whether that has helped.
const EXPERIMENT: f64 = 0.8;

/// Latencies below this are noise, in seconds: nobody minds a queue that short.
const NOISE: f64 = 0.001;

/// Between which numbers the limit may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// It never gets smaller.
    pub min: u32,
    /// It starts here, and comes back here while there is no reason for another.
    pub initial: u32,
    /// It never gets larger.
    pub max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min: 8,
            initial: 512,
            max: 65_536,
        }
    }
}

/// What was seen of a server since it was looked at last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Answers that came.
    pub(super) answers: u64,
    /// The shortest time that one of them took to its headers.
    pub(super) fastest: Option<Duration>,
    /// Requests that it has now.
    pub(super) in_flight: u32,
    /// Whether requests wait for a server.
    pub(super) waiting: bool,
}

/// A server's limit.
#[derive(Debug)]
pub(super) struct Adaptive {
    limit: f64,
    /// How fast its fastest answers are when it has room, in seconds.
    usual: Option<f64>,
    /// Whether they were not much slower at the last judgement.
    well: bool,
    /// Limit and fastest answer when the present experiment began.
    experiment: Option<(f64, f64)>,
    /// Whether the last one has shown that fewer requests make the server faster.
    helps: bool,
    /// Answers to come that were begun under another limit.
    stale: u64,
    /// Answers since the last judgement.
    answers: u64,
    fastest: f64,
}

impl Adaptive {
    /// A server of which nothing is known.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            limit: f64::from(settings.initial),
            usual: None,
            well: true,
            experiment: None,
            helps: false,
            stale: 0,
            answers: 0,
            fastest: f64::INFINITY,
        }
    }

    /// The limit now.
    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Takes into account what was seen, and gives the limit from now on.
    pub(super) fn update(&mut self, sample: Sample, settings: &Settings) -> u32 {
        self.look(sample, settings);
        let (min, max) = (f64::from(settings.min), f64::from(settings.max));
        self.limit = self.limit.clamp(min, max);
        self.limit()
    }

    fn look(&mut self, sample: Sample, settings: &Settings) {
        let in_flight = u64::from(sample.in_flight);
        if in_flight > u64::from(self.limit()) {
            // Those that are too many after a change have to leave before it can have an effect.
            self.stale = in_flight;
        }
        if self.stale > 0 {
            self.stale = self.stale.saturating_sub(sample.answers);
            return;
        }
        self.answers += sample.answers;
        if let Some(fastest) = sample.fastest {
            self.fastest = self.fastest.min(fastest.as_secs_f64());
        }
        let full = sample.waiting || in_flight as f64 >= self.limit * NEARLY_FULL;
        if !full {
            // What was begun with fewer requests says nothing of this many, and none are too many now.
            self.experiment = None;
            self.helps = false;
            self.grow(settings.initial);
        } else if self.well {
            self.grow(settings.max);
        }
        if self.answers >= in_flight.max(ENOUGH) {
            let fastest = self.fastest.max(NOISE);
            self.answers = 0;
            self.fastest = f64::INFINITY;
            self.learn(fastest, full);
            let was_well = self.well;
            self.well = !full || !self.is_slow(fastest);
            if self.well {
                self.experiment = None;
                self.helps = false;
            } else if was_well {
                // The limit was growing: how slow the server is at this one is not known yet.
                self.stale = in_flight;
            } else {
                self.shrink(fastest, in_flight);
            }
        }
    }

    fn learn(&mut self, fastest: f64, full: bool) {
        let usual = *self.usual.get_or_insert(fastest);
        if fastest < usual {
            // Soon, but not for a single answer.
            self.usual = Some(usual + (fastest - usual) * 0.3);
        } else if !full {
            // It has room, and is slower all the same.
            self.usual = Some(usual + (fastest - usual) * 0.05);
        }
    }

    fn is_slow(&self, fastest: f64) -> bool {
        self.usual.is_some_and(|usual| fastest > usual * TOLERANCE)
    }

    fn shrink(&mut self, fastest: f64, in_flight: u64) {
        if let Some((limit, was)) = self.experiment
            && self.limit <= limit * EXPERIMENT
        {
            self.experiment = None;
            // With a queue in it the server is faster in proportion; half of that is a sign.
            self.helps = fastest < was * (1.0 + self.limit / limit) / 2.0;
            if !self.helps {
                self.usual = Some(fastest);
                self.well = true;
                self.limit = limit;
                return;
            }
        }
        let step = if self.helps { STEP } else { FIRST_STEP };
        let usual = self.usual.unwrap_or(fastest);
        let before = self.limit;
        self.limit = before * (usual * TOLERANCE / fastest).max(step) + before.sqrt();
        if self.limit < before {
            self.experiment.get_or_insert((before, fastest));
            self.stale = in_flight;
        } else {
            self.experiment = None;
        }
    }

    fn grow(&mut self, most: u32) {
        let most = f64::from(most);
        if self.limit < most {
            self.limit = (self.limit + self.limit.sqrt()).min(most);
        }
    }
}
