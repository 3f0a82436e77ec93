//! A server and its clients in simulated time: a test bench for limits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::{Adaptive, Sample, Settings};

/// Time between two looks at the server, and while a limit is on trial; as the regulator has it.
const TICK: f64 = 0.1;
const TRIAL_TICK: f64 = 0.025;

/// Requests that may wait in front of the limit, as by default.
const QUEUE: usize = 1024;

/// How long they may.
const PATIENCE: f64 = 1.0;

/// Later answers find nobody who waits.
const USEFUL: f64 = 1.5;

/// How long a server works on a request, in seconds; drawn for each.
pub(super) type Service = fn(&mut fastrand::Rng) -> f64;

/// A server that works on so many requests at a time; the others wait in it, in their order.
pub(super) struct Server {
    pub(super) slots: usize,
    pub(super) service: Service,
}

/// What came of some time.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Requests answered.
    pub(super) answered: u64,
    /// Those of them that came in time.
    pub(super) useful: u64,
    /// Requests refused, or that waited too long for a slot of the limit.
    pub(super) refused: u64,
    /// Longest time in the server, in seconds.
    pub(super) slowest: f64,
    /// The lowest limit.
    pub(super) lowest: u32,
}

/// A request that has come into the server; times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    since: u64,
    /// When its client sent it.
    sent: u64,
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
    tick: f64,
    /// In front of the limit, by time of arrival.
    queue: VecDeque<f64>,
    /// In the server and not worked on.
    backlog: VecDeque<Request>,
    /// Worked on, by their end; in nanoseconds.
    working: BinaryHeap<Reverse<(u64, Request)>>,
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
            tick: TICK,
            queue: VecDeque::new(),
            backlog: VecDeque::new(),
            working: BinaryHeap::new(),
            seen: (0, f64::INFINITY),
        }
    }

    /// The same with other arrivals.
    pub(super) fn with_seed(self, seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            ..self
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
                self.look(&mut outcome);
            }
            self.admit();
        }
        outcome
    }

    fn answer(&mut self, outcome: &mut Outcome) {
        let Some(Reverse((_, request))) = self.working.pop() else {
            return;
        };
        let took = self.now - seconds_of(request.since);
        self.seen = (self.seen.0 + 1, self.seen.1.min(took));
        outcome.answered += 1;
        if self.now - seconds_of(request.sent) <= USEFUL {
            outcome.useful += 1;
        }
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
            elapsed: Duration::from_secs_f64(self.tick),
            answers,
            fastest: (answers > 0).then(|| Duration::from_secs_f64(fastest)),
            in_flight: self.in_server() as u32,
            waiting: !self.queue.is_empty(),
        };
        outcome.lowest = outcome
            .lowest
            .min(self.limit.update(sample, &self.settings));
        self.tick = match self.limit.is_on_trial() {
            true => TRIAL_TICK,
            false => TICK,
        };
        self.next_tick += self.tick;
    }

    /// Moves requests from the queue into the server, and there to where they are worked on.
    fn admit(&mut self) {
        while self.in_server() < self.limit.limit() as usize
            && let Some(sent) = self.queue.pop_front()
        {
            let (since, sent) = (nanos_of(self.now), nanos_of(sent));
            self.backlog.push_back(Request { since, sent });
        }
        while self.working.len() < self.server.slots
            && let Some(request) = self.backlog.pop_front()
        {
            let end = self.now + (self.server.service)(&mut self.rng);
            self.working.push(Reverse((nanos_of(end), request)));
        }
    }
}

fn nanos_of(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn seconds_of(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
