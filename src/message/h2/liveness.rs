//! Whether a peer that says nothing is still there (RFC 9113, section 6.7).
//!
//! ```text
//!             30 s without a byte             20 s without a byte
//!   ┌───────┐     (a PING is sent)   ┌───────┐
//!   │ Heard │───────────────────────▶│ Asked │──────────────────▶ dead
//!   └───────┘◀───────────────────────└───────┘
//!                  a byte comes
//! ```
//!
//! Only connections with open streams are asked: the others are closed for being idle.

use std::time::Duration;

use tokio::time::Instant;

/// How long a peer may be silent until it is asked.
const SILENCE: Duration = Duration::from_secs(30);

/// How long it may be silent then.
const PATIENCE: Duration = Duration::from_secs(20);

/// How far apart a server is asked. Those of gRPC close a connection for the fourth PING that comes within five minutes of
/// the one before, unless they have sent something else between them.
const BETWEEN_SERVERS_PINGS: Duration = Duration::from_secs(310);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then.
    Wait(Instant),
    /// To send a PING.
    Ask,
    /// To close the connection.
    Close,
}

/// What is known of a peer.
#[derive(Debug)]
pub struct Liveness {
    asked: Option<Instant>,
    /// The shortest time between two questions.
    between: Duration,
}

impl Liveness {
    /// A client, that may be asked whenever it is silent.
    pub fn of_client() -> Self {
        Self {
            asked: None,
            between: Duration::ZERO,
        }
    }

    /// A server, that may not be asked often.
    pub fn of_server() -> Self {
        Self {
            asked: None,
            between: BETWEEN_SERVERS_PINGS,
        }
    }

    /// What is to be done at `now`, when the last byte came, or the first stream was opened, at `heard`.
    pub fn step(&mut self, now: Instant, heard: Instant) -> Step {
        let (due, step) = match self.asked {
            Some(asked) if heard < asked => (asked + PATIENCE, Step::Close),
            Some(asked) => ((heard + SILENCE).max(asked + self.between), Step::Ask),
            None => (heard + SILENCE, Step::Ask),
        };
        if now < due {
            return Step::Wait(due);
        }
        if step == Step::Ask {
            self.asked = Some(now);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_is_silent_is_asked_and_closed_without_an_answer() {
        for mut peer in [Liveness::of_client(), Liveness::of_server()] {
            let start = Instant::now();
            assert_eq!(peer.step(start, start), Step::Wait(start + seconds(30)));
            let heard = start + seconds(10);
            let due = start + seconds(40);
            assert_eq!(peer.step(start + seconds(30), heard), Step::Wait(due));
            assert_eq!(peer.step(due, heard), Step::Ask);
            assert_eq!(peer.step(due, heard), Step::Wait(due + seconds(20)));
            assert_eq!(peer.step(due + seconds(20), heard), Step::Close);
        }
    }

    #[test]
    fn who_answers_is_asked_again_a_server_not_before_long() {
        let start = Instant::now();
        let asked = start + seconds(30);
        let heard = asked + seconds(1);
        for (mut peer, again) in [
            (Liveness::of_client(), heard + seconds(30)),
            (Liveness::of_server(), asked + seconds(310)),
        ] {
            assert_eq!(peer.step(asked, start), Step::Ask);
            assert_eq!(peer.step(heard, heard), Step::Wait(again));
            assert_eq!(peer.step(again, heard), Step::Ask);
            assert_eq!(peer.step(again + seconds(20), heard), Step::Close);
        }
    }
}
