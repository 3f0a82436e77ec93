//! Whether a server is ejected, and whether it has just come: what the control thread keeps of it, and shows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ejection::{Ejected, Reason, Record, Settings};
use super::slow_start;

/// A server's standing. Workers see nothing of it but whether the server is among the members.
#[derive(Debug, Default)]
pub struct Standing {
    state: Mutex<State>,
    ejections: [AtomicU64; Reason::ALL.len()],
    /// Ejected, and not used all the same.
    left_out: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    record: Record,
    starts_since: Option<Instant>,
    /// Whether it came after its upstream, so that it starts slowly when it is used first.
    late: bool,
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single step that does not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ejection that is in force.
    pub fn ejected(&self) -> Option<Ejected> {
        self.state().record.ejected()
    }

    /// How often it was ejected for this reason.
    pub fn ejections(&self, reason: Reason) -> u64 {
        self.ejections[reason as usize].load(Relaxed)
    }

    /// Ejects it, and says for how long.
    pub(super) fn eject(&self, reason: Reason, now: Instant, settings: &Settings) -> Duration {
        self.ejections[reason as usize].fetch_add(1, Relaxed);
        self.state().record.eject(reason, now, settings)
    }

    /// Time has passed; true if that ended an ejection. Without `settings` any ejection ends.
    pub(super) fn tick(&self, now: Instant, settings: Option<&Settings>) -> bool {
        let record = &mut self.state().record;
        match settings {
            Some(settings) => record.tick(now, settings),
            None => {
                let was_ejected = record.ejected().is_some();
                if was_ejected {
                    record.end(now);
                }
                was_ejected
            }
        }
    }

    /// Its share of its weight, from 0 to 1, while it starts slowly.
    pub fn start_share(&self, now: Instant, length: Duration) -> Option<f64> {
        slow_start::share(self.state().starts_since?, now, length)
    }

    /// Its slow start begins.
    pub(super) fn start_slowly(&self, now: Instant) {
        self.state().starts_since = Some(now);
    }

    /// It came after its upstream.
    pub(super) fn comes_late(&self) {
        self.state().late = true;
    }

    /// Whether it did.
    pub(super) fn is_late(&self) -> bool {
        self.state().late
    }

    /// Whether it gets no requests for being ejected.
    pub fn is_left_out(&self) -> bool {
        self.left_out.load(Relaxed)
    }

    pub(super) fn leave_out(&self, left_out: bool) {
        self.left_out.store(left_out, Relaxed);
    }
}
