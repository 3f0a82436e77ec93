//! `Seldom`: what happens as often as others like is told of in the log once a second at most, by each worker.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::net::clock;

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// When something was told of last.
#[derive(Debug, Default)]
pub struct Seldom(Cell<Option<Instant>>);

impl Seldom {
    /// Whether it is to be told of now. It has been then.
    pub fn is_due(&self) -> bool {
        let now = clock::now();
        let last = self.0.get();
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if is_due {
            self.0.set(Some(now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_of_each_second_is_told_of() {
        let seldom = Seldom::default();
        let mut told = 0;
        for _ in 0..3000 {
            told += u32::from(seldom.is_due());
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(told, 3);
        advance(Duration::from_secs(3600)).await;
        assert!(seldom.is_due() && !seldom.is_due());
    }
}
