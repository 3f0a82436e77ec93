//! How many requests a server can have at a time, found out from how fast it answers: plain arithmetic.
//!
//! A server that has more than it can work on makes all of them wait: its fastest answers become slower than they were
//! when it had room. As many as wait there are taken from the limit: by Little's law, answers a second times how much
//! slower they are. A headroom of the limit's square root is left, as in Netflix' concurrency-limits (Gradient2).
//!
//! A limit that is wrong does more harm than none. So:
//! - *The fastest answer* of a batch is looked at, not the mean. Routes that are slow by nature, or wait for something
//!   to happen, make the mean go up and down; the fastest goes up when everything waits.
//! - The limit goes down while it is (nearly) used up. Before that it does only if all answers are much slower than
//!   usual and it will be known soon whether fewer requests make them faster.
//! - It goes down on trial (`trial`). If the server has fewer requests and is no faster for it, it was not their number that
//!   made it slow: then that is how fast it is from now on, and the limit goes back to where it was.

mod batch;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod trial;

use std::time::Duration;

use batch::{Batch, Finding};
use trial::{Trial, Verdict};

/// Fastest answers up to this many times slower than usual are no sign of too much.
const TOLERANCE: f64 = 1.5;

/// From so many times on they are a sign even in a server that is not full.
const ALARMING: f64 = 3.0;

/// So many batches in a row, at least, are more than chance.
const IN_A_ROW: u32 = 2;

/// A server that has this share of its limit is as good as full.
const NEARLY_FULL: f64 = 0.8;

/// Servers with fewer requests than this are left alone until they are full.
const EARLIEST: u32 = 32;

/// Within so many seconds an early trial has to be decided, at the present rate of answers.
const SOON: f64 = 1.5;

/// How far down the limit goes as long as it is not known that this helps.
const FIRST_STEP: f64 = 0.6;

/// And when it is.
const STEP: f64 = 0.25;

/// How far down it has to be for its effect to be seen.
const VISIBLE: f64 = 0.8;

/// A limit that would stay above this share of it is not touched.
const WORTHWHILE: f64 = 0.9;

/// The seconds in which a limit may grow by its square root.
const GROWTH: f64 = 0.2;

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
    /// The time since then.
    pub(super) elapsed: Duration,
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
    batch: Batch,
    /// Batches that were slower than tolerated.
    slow: Streak,
    /// Batches that were much slower.
    alarming: Streak,
    trial: Option<Trial>,
}

/// Batches in a row of which something is true.
#[derive(Debug, Default)]
struct Streak {
    batches: u32,
    answers: u64,
}

impl Streak {
    fn go_on(&mut self, goes_on: bool, answers: u64) {
        *self = match goes_on {
            true => Self {
                batches: self.batches + 1,
                answers: self.answers + answers,
            },
            false => Self::default(),
        };
    }

    fn is_long(&self) -> bool {
        self.batches >= IN_A_ROW
    }
}

impl Adaptive {
    /// A server of which nothing is known.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            limit: f64::from(settings.initial),
            usual: None,
            batch: Batch::new(),
            slow: Streak::default(),
            alarming: Streak::default(),
            trial: None,
        }
    }

    /// The limit now.
    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Whether it is being found out what a limit does, so that looks are worth more than usual.
    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Takes into account what was seen, and gives the limit from now on.
    pub(super) fn update(&mut self, sample: Sample, settings: &Settings) -> u32 {
        let nearly = self.limit * NEARLY_FULL;
        let full = sample.waiting || f64::from(sample.in_flight) >= nearly;
        match self.trial.take() {
            // What was begun with fewer requests says nothing of this many, and none are too many now.
            Some(_) if !full => self.look_anew(),
            Some(trial) => self.go_on(trial, &sample, settings),
            None => self.watch(&sample, full, settings),
        }
        let (min, max) = (f64::from(settings.min), f64::from(settings.max));
        self.limit = self.limit.clamp(min, max);
        self.limit()
    }

    fn watch(&mut self, sample: &Sample, full: bool, settings: &Settings) {
        self.batch.add(sample);
        let so_far = self.batch.so_far();
        let slow = so_far.is_some_and(|it| it > self.tolerated(it));
        if !full {
            self.grow(sample.elapsed, settings.initial);
        } else if !slow && self.slow.batches == 0 {
            self.grow(sample.elapsed, settings.max);
        }
        let Some(found) = self.batch.end(sample.in_flight) else {
            return;
        };
        let tolerated = self.tolerated(found.fastest);
        self.slow.go_on(found.fastest > tolerated, found.answers);
        let alarming = found.fastest > tolerated / TOLERANCE * ALARMING;
        self.alarming.go_on(alarming, found.answers);
        let in_flight = sample.in_flight;
        let due = u64::from(in_flight) + batch::size(in_flight);
        let early = in_flight >= EARLIEST && due as f64 <= found.rate * SOON;
        // A little slower may be chance; less so while as many are answered as there are requests.
        let thorough = self.slow.is_long() && self.slow.answers >= in_flight.into();
        if self.alarming.is_long() && (full || early) {
            self.begin((FIRST_STEP, FIRST_STEP), &found, sample, settings);
            if !full {
                self.trial = self.trial.take().map(Trial::hurry);
            }
        } else if full && thorough {
            self.begin((FIRST_STEP, VISIBLE), &found, sample, settings);
        }
        if self.trial.is_none() {
            self.learn(found.fastest, full);
        }
    }

    /// What its fastest answers may take, in seconds; `now` if nothing is known.
    fn tolerated(&self, now: f64) -> f64 {
        self.usual.unwrap_or(now) * TOLERANCE
    }

    fn learn(&mut self, fastest: f64, full: bool) {
        let usual = *self.usual.get_or_insert(fastest);
        if fastest < usual {
            // Soon, but not for a single answer.
            self.usual = Some(usual + (fastest - usual) * 0.1);
        } else if !full {
            // It has room, and is slower all the same; or everything begins to wait.
            self.usual = Some(usual + (fastest.min(usual * ALARMING) - usual) * 0.05);
        }
    }

    /// Takes those that wait in the server from the limit, on trial: of the requests that there are, shares of at least
    /// `least` and at most `most` are left. False if too few wait.
    fn begin(
        &mut self,
        (least, most): (f64, f64),
        found: &Finding,
        sample: &Sample,
        settings: &Settings,
    ) -> bool {
        self.look_anew();
        let from = self.limit.min(sample.in_flight.into());
        let waiting = found.rate * (found.fastest - self.tolerated(found.fastest));
        let working = (from - waiting).max(0.0);
        let limit = (working + working.sqrt()).max(from * least);
        if limit > from * WORTHWHILE {
            return false;
        }
        let limit = limit.min(from * most).max(settings.min.into());
        if limit <= from * VISIBLE {
            self.trial = Some(Trial::new(self.limit, found.fastest, sample));
            self.limit = limit;
        }
        true
    }

    fn go_on(&mut self, mut trial: Trial, sample: &Sample, settings: &Settings) {
        match trial.look(sample, self.limit, self.tolerated(trial.was)) {
            Verdict::Undecided => self.trial = Some(trial),
            Verdict::Unfounded => self.limit = trial.before,
            Verdict::InVain => {
                self.usual = Some(trial.was);
                self.limit = trial.before;
            }
            Verdict::Helps(found) => {
                let more = self.begin((STEP, VISIBLE), &found, sample, settings);
                if !more && trial.is_early() {
                    // Much too many are still too many after a first step. So it was chance.
                    self.limit = trial.before;
                }
            }
        }
    }

    /// Forgets what has begun to look like too much.
    fn look_anew(&mut self) {
        self.batch = Batch::new();
        self.slow = Streak::default();
        self.alarming = Streak::default();
    }

    fn grow(&mut self, elapsed: Duration, most: u32) {
        let most = f64::from(most);
        if self.limit < most {
            let share = (elapsed.as_secs_f64() / GROWTH).min(1.0);
            self.limit = (self.limit + self.limit.sqrt() * share).min(most);
        }
    }
}
