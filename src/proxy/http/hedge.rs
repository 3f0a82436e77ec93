//! A second try beside the first, for requests that take longer than most: the faster one wins.
//!
//! The loser is taken back: its connection is closed, or its stream reset. That says nothing against its server.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::attempt::Attempt;
use super::outgoing::{Outcome, Outgoing};
use super::tries::Tries;
use crate::message::Upload;
use crate::net::clock;
use crate::proxy::policy::{Hedge, Retry};
use crate::upstream::{InFlight, LocalEndpoint, Picked};

/// Who had the last word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Winner {
    First,
    Second,
    /// Both failed, or gave bad answers.
    Neither,
}

/// How it ended.
struct End {
    winner: Winner,
    /// The winner's, or the first one's.
    outcome: Outcome,
    /// Whether the other one had failed by then.
    other_failed: bool,
}

/// Tries one server, and after a while another one beside it. `attempt` becomes that of the winner.
///
/// # Errors
/// Neither gave an answer.
pub async fn try_on(
    outgoing: &Outgoing<'_>,
    tries: &mut Tries<'_>,
    (hedge, retry): (&Hedge, &Retry),
    attempt: &mut Attempt,
) -> Outcome {
    let worker = outgoing.rewrite.client.local.worker;
    let upstream = Rc::clone(tries.upstream);
    upstream
        .hedges
        .borrow_mut()
        .deposit(hedge.share, clock::now());
    let after = hedge.after.or_else(|| upstream.times.borrow().p95());
    let first_endpoint = [Rc::clone(attempt.endpoint())];
    let mut second = None;
    let end = {
        let mut first = pin!(outgoing.try_on(attempt));
        match timeout(after.unwrap_or(Duration::MAX), first.as_mut()).await {
            Ok(outcome) => End::alone(outcome),
            Err(_) => match begin(outgoing, tries, &first_endpoint) {
                None => End::alone(first.await),
                Some((flight, copy)) => {
                    tries.hedged = true;
                    let twin = outgoing.with_upload(copy.as_ref());
                    let attempt = second.insert(Attempt::new(flight, worker));
                    let second = pin!(twin.try_on(attempt));
                    race(first, second, |outcome| is_good(outcome, retry)).await
                }
            },
        }
    };
    if !end.first_failed() {
        // A first try that was taken back would have taken longer: without it, the estimate would sink below itself.
        upstream.times.borrow_mut().observe(attempt.elapsed());
    }
    let Some(second) = second else {
        return end.outcome;
    };
    let stats = tries.stats();
    let loser = match end.winner {
        Winner::First => {
            stats.hedges[0].increment();
            second
        }
        Winner::Second => {
            stats.hedges[1].increment();
            mem::replace(attempt, second)
        }
        Winner::Neither => {
            tries.refused(Rc::clone(second.endpoint()));
            second
        }
    };
    if !end.other_failed {
        loser.abandon();
    }
    end.outcome
}

impl End {
    /// The end of a first try without a second one.
    fn alone(outcome: Outcome) -> Self {
        Self {
            winner: match outcome {
                Ok(_) => Winner::First,
                Err(_) => Winner::Neither,
            },
            outcome,
            other_failed: false,
        }
    }

    fn first_failed(&self) -> bool {
        match self.winner {
            Winner::First => false,
            Winner::Second => self.other_failed,
            Winner::Neither => true,
        }
    }
}

/// What a second try needs: a body that is there as a whole, another server, and that the budget allows it.
fn begin(
    outgoing: &Outgoing<'_>,
    tries: &Tries<'_>,
    first: &[Rc<LocalEndpoint>],
) -> Option<(InFlight, Option<Rc<Upload>>)> {
    let copy = match outgoing.rewrite.upload {
        Some(upload) => Some(upload.copy()?),
        None => None,
    };
    let Picked::Flight(flight) = tries.pick_besides(first) else {
        return None;
    };
    if !flight.endpoint().shared.eligible() {
        return None; // it is ejected, and would be taken for want of others only
    }
    let may = tries.upstream.hedges.borrow_mut().withdraw(clock::now());
    may.then_some((flight, copy))
}

fn is_good(outcome: &Outcome, retry: &Retry) -> bool {
    outcome
        .as_ref()
        .is_ok_and(|(_, answer)| !retry.rules.statuses.contains(&answer.status))
}

/// Waits for a good outcome, or for both.
async fn race(
    mut first: Pin<&mut impl Future<Output = Outcome>>,
    mut second: Pin<&mut impl Future<Output = Outcome>>,
    is_good: impl Fn(&Outcome) -> bool,
) -> End {
    let mut first_failed = None;
    let mut second_failed = false;
    poll_fn(|cx| {
        if first_failed.is_none()
            && let Poll::Ready(outcome) = first.as_mut().poll(cx)
        {
            if is_good(&outcome) {
                return Poll::Ready(End {
                    winner: Winner::First,
                    outcome,
                    other_failed: second_failed,
                });
            }
            first_failed = Some(outcome);
        }
        if !second_failed && let Poll::Ready(outcome) = second.as_mut().poll(cx) {
            if is_good(&outcome) {
                return Poll::Ready(End {
                    winner: Winner::Second,
                    outcome,
                    other_failed: first_failed.is_some(),
                });
            }
            second_failed = true;
        }
        match first_failed.take() {
            Some(outcome) if second_failed => Poll::Ready(End {
                winner: Winner::Neither,
                outcome,
                other_failed: true,
            }),
            outcome => {
                first_failed = outcome;
                Poll::Pending
            }
        }
    })
    .await
}
