//! A server and its clients in simulated time: a test bench for limits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::{Adaptive, Sample, Settings};

/// Time between two looks at the server.
const TICK: f64 = 0.2;

/// Requests that may wait in front of the limit, as by default.
const QUEUE: usize = 1024;

/// How long they may.
const PATIENCE: f64 = 1.0;

/// A server that works on so many requests at a time; the others wait in it, in their order.
pub(super) struct Server {
    pub(super) slots: usize,
    /// How long it works on a request, in seconds; drawn for each.
    pub(super) service: fn(&mut fastrand::Rng) -> f64,
}

/// What came of some time.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Requests answered.
    pub(super) answered: u64,
    /// Requests refused, or that waited too long for a slot of the limit.
    pub(super) refused: u64,
    /// Longest time in the server, in seconds.
    pub(super) slowest: f64,
    /// The lowest limit.
    pub(super) lowest: u32,
}

pub(super) struct Simulation {
    pub(super) server: Server,
    /// Requests a second that clients send, at random times.
    pub(super) rate: f64,
    pub(super) limit: Adaptive,
    pub(super) settings: Settings,
    rng: fastrand::Rng,
    now: f64,
    next_arrival: f64,
    next_tick: f64,
    /// In front of the limit, by time of arrival.
    queue: VecDeque<f64>,
    /// In the server and not worked on, by the time when they came into it.
    backlog: VecDeque<f64>,
    /// Worked on: end, and when they came into the server; in nanoseconds.
    working: BinaryHeap<Reverse<(u64, u64)>>,
    seen: (u64, f64),
}

impl Simulation {
    pub(super) fn new(server: Server, rate: f64, settings: Settings) -> Self {
        Self {
            server,
            rate,
            limit: Adaptive::new(&settings),
            settings,
            rng: fastrand::Rng::with_seed(7),
            now: 0.0,
            next_arrival: 0.0,
            next_tick: TICK,
            queue: VecDeque::new(),
            backlog: VecDeque::new(),
            working: BinaryHeap::new(),
            seen: (0, f64::INFINITY),
        }
    }

    fn in_server(&self) -> usize {
        self.backlog.len() + self.working.len()
    }

    /// Lets so many seconds pass.
    pub(super) fn run(&mut self, seconds: f64) -> Outcome {
        let end = self.now + seconds;
        let mut outcome = Outcome {
            lowest: u32::MAX,
            ..Outcome::default()
        };
        while self.now < end {
            let next_end = self
                .working
                .peek()
                .map_or(f64::INFINITY, |it| seconds_of(it.0.0));
            self.now = next_end.min(self.next_arrival).min(self.next_tick);
            if self.now == next_end {
                self.answer(&mut outcome);
            } else if self.now == self.next_arrival {
                self.next_arrival += -(1.0 - self.rng.f64()).ln() / self.rate;
                match self.queue.len() < QUEUE {
                    true => self.queue.push_back(self.now),
                    false => outcome.refused += 1,
                }
            } else {
                self.next_tick += TICK;
                self.look(&mut outcome);
            }
            self.admit();
        }
        outcome
    }

    fn answer(&mut self, outcome: &mut Outcome) {
        let Some(Reverse((_, since))) = self.working.pop() else {
            return;
        };
        let took = self.now - seconds_of(since);
        self.seen = (self.seen.0 + 1, self.seen.1.min(took));
        outcome.answered += 1;
        outcome.slowest = outcome.slowest.max(took);
    }

    fn look(&mut self, outcome: &mut Outcome) {
        while self
            .queue
            .front()
            .is_some_and(|since| self.now - since > PATIENCE)
        {
            self.queue.pop_front();
            outcome.refused += 1;
        }
        let (answers, fastest) = std::mem::replace(&mut self.seen, (0, f64::INFINITY));
        let sample = Sample {
            answers,
            fastest: (answers > 0).then(|| Duration::from_secs_f64(fastest)),
            in_flight: self.in_server() as u32,
            waiting: !self.queue.is_empty(),
        };
        outcome.lowest = outcome
            .lowest
            .min(self.limit.update(sample, &self.settings));
    }

    /// Moves requests from the queue into the server, and there to where they are worked on.
    fn admit(&mut self) {
        while self.in_server() < self.limit.limit() as usize && self.queue.pop_front().is_some() {
            self.backlog.push_back(self.now);
        }
        while self.working.len() < self.server.slots
            && let Some(since) = self.backlog.pop_front()
        {
            let end = self.now + (self.server.service)(&mut self.rng);
            self.working.push(Reverse((nanos_of(end), nanos_of(since))));
        }
    }
}

fn nanos_of(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn seconds_of(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
