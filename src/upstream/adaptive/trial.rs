//! A limit on trial: is a server with fewer requests faster for it?
//!
//! ```text
//! draining ──as many answers as there were requests──▶ measuring ──a batch──▶ faster, or not
//!    │                                                     │
//!    └──one that was not slow──▶ unfounded                 └──too few in time──▶ as if it was not
//! ```
//! Requests that were there when the limit went down do not show what it does. They do show how slow the server was with
//! so many, and better than those before them: while a queue grows, answers tell of what it was when they came.

use super::Sample;
use super::batch::{Batch, Finding};

/// How long a trial in a hurry may take, in seconds.
const PATIENCE: f64 = 2.0;

/// What is known of a trial that goes on.
#[derive(Debug)]
pub(super) struct Trial {
    /// The limit to go back to if it was in vain.
    pub(super) before: f64,
    /// How many requests there were.
    from: f64,
    /// How long the fastest answers took with so many, in seconds.
    pub(super) was: f64,
    /// Answers to come that were begun before.
    stale: u64,
    /// Seconds until it ends undecided.
    left: f64,
    batch: Batch,
}

/// What a trial has come to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// It goes on.
    Undecided,
    /// Answers were fast again before the limit could have an effect.
    Unfounded,
    /// With fewer requests the server is as slow as before, or there are too few answers to tell.
    InVain,
    /// It is faster.
    Helps(Finding),
}

impl Trial {
    /// Begins with a server that has `sample.in_flight` requests, the fastest of which take `was` seconds.
    pub(super) fn new(before: f64, was: f64, sample: &Sample) -> Self {
        Self {
            before,
            from: before.min(f64::from(sample.in_flight)),
            was,
            stale: sample.in_flight.into(),
            left: f64::INFINITY,
            batch: Batch::new(),
        }
    }

    /// Has it end soon, however few answers there are.
    pub(super) fn hurry(self) -> Self {
        Self {
            left: PATIENCE,
            ..self
        }
    }

    /// Whether it has to end soon.
    pub(super) fn is_early(&self) -> bool {
        self.left.is_finite()
    }

    /// What there is to say after another sample. `limit` is what is tried; answers that take `slow` seconds at most are not
    /// slow.
    pub(super) fn look(&mut self, sample: &Sample, limit: f64, slow: f64) -> Verdict {
        self.left -= sample.elapsed.as_secs_f64();
        self.batch.add(sample);
        if self.stale > 0 {
            self.stale = self.stale.saturating_sub(sample.answers);
            if self.batch.is_faster_than(slow) {
                return Verdict::Unfounded;
            }
            if self.stale == 0 {
                // Some of these are the first to show an effect.
                self.batch = Batch::new();
            } else if let Some(found) = self.batch.end(0) {
                self.was = self.was.max(found.fastest);
            }
        } else if let Some(found) = self.batch.end(sample.in_flight) {
            // With a queue in it the server is faster in proportion; half of that is a sign.
            let sign = self.was * (1.0 + limit / self.from) / 2.0;
            return match found.fastest < sign {
                true => Verdict::Helps(found),
                false => {
                    self.was = found.fastest;
                    Verdict::InVain
                }
            };
        }
        match self.left < 0.0 {
            true => Verdict::InVain,
            false => Verdict::Undecided,
        }
    }
}
