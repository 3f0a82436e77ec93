//! Some answers that came one after the other, and what they say together.

use super::Sample;

/// Answers that tell how fast the fastest are, at least.
const ENOUGH: u64 = 10;

/// And at most: the fastest of so many says the same of a server with a hundred requests as of one with thousands.
const MANY: u64 = 40;

/// Latencies below this are noise, in seconds: nobody minds a queue that short.
const NOISE: f64 = 0.001;

/// Answers so far.
#[derive(Debug)]
pub(super) struct Batch {
    answers: u64,
    fastest: f64,
    /// The time in which they came.
    seconds: f64,
}

/// A batch that is complete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding {
    pub(super) answers: u64,
    /// The shortest time that one took, in seconds.
    pub(super) fastest: f64,
    /// Answers a second.
    pub(super) rate: f64,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            answers: 0,
            fastest: f64::INFINITY,
            seconds: 0.0,
        }
    }

    pub(super) fn add(&mut self, sample: &Sample) {
        self.answers += sample.answers;
        self.seconds += sample.elapsed.as_secs_f64();
        if let Some(fastest) = sample.fastest {
            self.fastest = self.fastest.min(fastest.as_secs_f64());
        }
    }

    /// The fastest answer so far, in seconds, if there are enough to speak of one.
    pub(super) fn so_far(&self) -> Option<f64> {
        (self.answers >= ENOUGH).then(|| self.fastest.max(NOISE))
    }

    /// Whether there was an answer that took so many seconds at most.
    pub(super) fn is_faster_than(&self, seconds: f64) -> bool {
        self.fastest <= seconds
    }

    /// Ends the batch if it is complete for a server with so many requests.
    pub(super) fn end(&mut self, in_flight: u32) -> Option<Finding> {
        if self.answers < size(in_flight) {
            return None;
        }
        let batch = std::mem::replace(self, Self::new());
        Some(Finding {
            answers: batch.answers,
            fastest: batch.fastest.max(NOISE),
            rate: batch.answers as f64 / batch.seconds,
        })
    }
}

/// How many answers make a batch while a server has so many requests.
pub(super) fn size(in_flight: u32) -> u64 {
    u64::from(in_flight).clamp(ENOUGH, MANY)
}
