//! The health of one endpoint as a state machine over the results of its probes.
//!
//! ```text
//!                   first success                    first failure,
//!              ┌──────────────────── Unknown ──────────────────────┐
//!              │                                   live failures   │
//!              ▼                                                   ▼
//!             Up ────── `fall` consecutive failures ───────────▶ Down
//!              ▲        or live failures                           │
//!              └─────── `rise` consecutive successes ──────────────┘
//! ```
//!
//! A new endpoint needs one probe, not `rise`, to get traffic: at start there is nothing to be careful about.

use std::fmt;
use std::num::NonZeroU32;

/// What is known about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not probed yet.
    Unknown,
    /// Fit for traffic.
    Up,
    /// Not fit for traffic.
    Down,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// A change of state; `from` and `to` differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
}

/// The state machine. It starts as [`State::Unknown`], unless more is known, and never returns there.
#[derive(Debug, Clone)]
pub struct Health {
    state: State,
    fall: NonZeroU32,
    rise: NonZeroU32,
    /// Consecutive results that speak against `state`; always less than the threshold that they count towards.
    streak: u32,
}

impl Health {
    /// `fall` consecutive failures take an endpoint down, `rise` consecutive successes bring it back.
    #[must_use]
    pub fn new(fall: NonZeroU32, rise: NonZeroU32) -> Self {
        Self::resume(State::Unknown, fall, rise)
    }

    /// The same for an endpoint of which something is known already.
    #[must_use]
    pub fn resume(state: State, fall: NonZeroU32, rise: NonZeroU32) -> Self {
        Self {
            state,
            fall,
            rise,
            streak: 0,
        }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the last result differs from the state, so that a change may be near and is worth confirming quickly.
    #[must_use]
    pub fn changing(&self) -> bool {
        self.streak > 0
    }

    /// A probe succeeded.
    pub fn on_success(&mut self) -> Option<Transition> {
        match self.state {
            State::Unknown => self.enter(State::Up),
            State::Down => self.count(self.rise, State::Up),
            State::Up => self.confirm(),
        }
    }

    /// A probe failed.
    pub fn on_failure(&mut self) -> Option<Transition> {
        match self.state {
            State::Unknown => self.enter(State::Down),
            State::Up => self.count(self.fall, State::Down),
            State::Down => self.confirm(),
        }
    }

    /// Live traffic failed often enough to be believed without a probe. Says nothing new of an endpoint that is down.
    pub fn on_live_failures(&mut self) -> Option<Transition> {
        match self.state {
            State::Unknown | State::Up => self.enter(State::Down),
            State::Down => None,
        }
    }

    fn confirm(&mut self) -> Option<Transition> {
        self.streak = 0;
        None
    }

    fn count(&mut self, threshold: NonZeroU32, to: State) -> Option<Transition> {
        self.streak += 1;
        if self.streak < threshold.get() {
            return None;
        }
        self.enter(to)
    }

    fn enter(&mut self, to: State) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.streak = 0;
        Some(Transition { from, to })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::State::{Down, Unknown, Up};
    use super::*;

    fn health(fall: u32, rise: u32) -> Health {
        Health::new(
            NonZeroU32::new(fall).unwrap(),
            NonZeroU32::new(rise).unwrap(),
        )
    }

    fn moved(from: State, to: State) -> Option<Transition> {
        Some(Transition { from, to })
    }

    #[test]
    fn the_first_probe_decides() {
        assert_eq!(health(3, 2).state(), Unknown);
        assert_eq!(health(3, 2).on_success(), moved(Unknown, Up));
        assert_eq!(health(3, 2).on_failure(), moved(Unknown, Down));
    }

    #[test]
    fn fall_failures_in_a_row_take_it_down_and_rise_successes_bring_it_back() {
        let mut health = health(3, 2);
        health.on_success();
        assert_eq!(health.on_failure(), None);
        assert_eq!(health.on_failure(), None);
        assert!(health.changing());
        assert_eq!(health.on_success(), None, "a success ends the row");
        assert!(!health.changing());
        assert_eq!(health.on_failure(), None);
        assert_eq!(health.on_failure(), None);
        assert_eq!(health.on_failure(), moved(Up, Down));
        assert!(!health.changing());

        assert_eq!(health.on_success(), None);
        assert!(health.changing());
        assert_eq!(health.on_failure(), None, "a failure ends the row");
        assert_eq!(health.on_success(), None);
        assert_eq!(health.on_success(), moved(Down, Up));
    }

    #[test]
    fn live_failures_take_it_down_at_once_and_only_once() {
        let mut up = health(3, 2);
        up.on_success();
        up.on_failure();
        assert_eq!(up.on_live_failures(), moved(Up, Down));
        assert!(!up.changing(), "the row of failures is used up");
        assert_eq!(up.on_live_failures(), None);
        assert_eq!(health(3, 2).on_live_failures(), moved(Unknown, Down));
    }

    #[test]
    fn live_failures_do_not_end_a_row_of_successes() {
        let mut health = health(1, 2);
        health.on_failure();
        health.on_success();
        assert_eq!(health.on_live_failures(), None);
        assert_eq!(health.on_success(), moved(Down, Up));
    }

    /// The state after `results`, worked out from the whole history in place of a counter.
    fn state_by_history(results: &[bool], fall: usize, rise: usize) -> State {
        let mut state = Unknown;
        let mut since_change = 0;
        for now in 0..results.len() {
            let seen = &results[since_change..=now];
            let ends_in = |wanted: bool, count: usize| {
                seen.len() >= count && seen[seen.len() - count..].iter().all(|&r| r == wanted)
            };
            let next = match state {
                Unknown => Some(if results[now] { Up } else { Down }),
                Up if ends_in(false, fall) => Some(Down),
                Down if ends_in(true, rise) => Some(Up),
                Up | Down => None,
            };
            if let Some(next) = next {
                state = next;
                since_change = now + 1;
            }
        }
        state
    }

    #[test]
    fn agrees_with_the_history_for_every_short_run() {
        for (fall, rise) in [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (4, 4)] {
            for bits in 0_u32..1 << 10 {
                let results: Vec<bool> = (0..10).map(|i| bits >> i & 1 == 1).collect();
                let mut health = health(fall, rise);
                for (i, &good) in results.iter().enumerate() {
                    let before = health.state();
                    let transition = if good {
                        health.on_success()
                    } else {
                        health.on_failure()
                    };
                    let expected = state_by_history(&results[..=i], fall as usize, rise as usize);
                    assert_eq!(health.state(), expected, "{results:?} {fall} {rise}");
                    let expected = (before != expected)
                        .then_some(moved(before, expected))
                        .flatten();
                    assert_eq!(transition, expected);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn changing_means_that_the_last_result_disagrees_with_the_state(
            results in proptest::collection::vec(any::<bool>(), 1..200),
            fall in 1_u32..6,
            rise in 1_u32..6,
        ) {
            let mut health = health(fall, rise);
            for good in results {
                if good { health.on_success() } else { health.on_failure() };
                let agrees = health.state() == if good { Up } else { Down };
                prop_assert_eq!(health.changing(), !agrees);
            }
        }
    }
}
