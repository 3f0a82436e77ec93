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

/// Answers that tell how fast the fastest are.
const ENOUGH: u64 = 10;

/// How far down the limit goes before it is looked whether that has helped.
const EXPERIMENT: f64 = 0.7;

/// It has helped if the server became faster than this share of what it was.
const HELPED: f64 = 0.85;

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
    /// Limit and fastest answer when the present experiment began.
    experiment: Option<(f64, f64)>,
    /// What came since the last change.
    answers: u64,
    fastest: f64,
}

impl Adaptive {
    /// A server of which nothing is known.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            limit: f64::from(settings.initial),
            usual: None,
            experiment: None,
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
        self.answers += sample.answers;
        if let Some(fastest) = sample.fastest {
            self.fastest = self.fastest.min(fastest.as_secs_f64());
        }
        let in_flight = f64::from(sample.in_flight);
        let full = sample.waiting || in_flight >= self.limit * NEARLY_FULL;
        if !full {
            // What was begun with fewer requests says nothing of this many, and none are too many now.
            self.experiment = None;
            self.grow(f64::from(settings.initial));
        }
        // Those that are too many after a change have to leave before it can have an effect.
        if self.answers >= ENOUGH && in_flight <= self.limit {
            let fastest = self.fastest.max(NOISE);
            self.judge(fastest, full, settings);
            self.answers = 0;
            self.fastest = f64::INFINITY;
        }
        let (min, max) = (f64::from(settings.min), f64::from(settings.max));
        self.limit = self.limit.clamp(min, max);
        self.limit()
    }

    fn judge(&mut self, fastest: f64, full: bool, settings: &Settings) {
        let usual = *self.usual.get_or_insert(fastest);
        if fastest < usual {
            // Soon, but not for a single answer.
            self.usual = Some(usual + (fastest - usual) * 0.3);
        } else if !full {
            // It has room, and is slower all the same.
            self.usual = Some(usual + (fastest - usual) * 0.05);
        }
        if !full {
            return;
        }
        let slower = usual * TOLERANCE / fastest;
        if slower >= 1.0 {
            self.experiment = None;
            self.grow(f64::from(settings.max));
            return;
        }
        if let Some((limit, was)) = self.experiment
            && self.limit <= limit * EXPERIMENT
        {
            if fastest >= was * HELPED {
                self.usual = Some(fastest);
                self.limit = limit;
                self.experiment = None;
                return;
            }
            self.experiment = None;
        }
        let before = self.limit;
        let wanted = before * slower.max(0.5) + before.sqrt();
        self.limit = (before + wanted) / 2.0;
        if self.limit < before {
            self.experiment.get_or_insert((before, fastest));
        } else {
            self.experiment = None;
        }
    }

    fn grow(&mut self, most: f64) {
        if self.limit < most {
            self.limit = (self.limit + self.limit.sqrt()).min(most);
        }
    }
}
