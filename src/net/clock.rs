//! The time, read once for all that a connection's task does in one turn.
//!
//! A request asks for the time about ten times, and reading the clock costs as much as parsing a header. What happens
//! within a turn takes microseconds: it may as well happen at once.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time when the present turn began; outside of turns the time now.
pub fn now() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

/// Does `work` as one turn.
pub fn turn<R>(work: impl FnOnce() -> R) -> R {
    let _end = End;
    TURN.set(Some(Instant::now()));
    work()
}

/// Ends a turn, be it by a panic.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        TURN.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_within_a_turn_only() {
        let start = now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (first, second) = turn(|| (now(), now()));
        assert_eq!(first, second);
        assert_eq!(first - start, Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now() - start, Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_a_turn() {
        let panicked = catch_unwind(AssertUnwindSafe(|| turn(|| panic!("in a turn"))));
        assert!(panicked.is_err());
        let before = now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now() - before, Duration::from_secs(1));
    }
}
