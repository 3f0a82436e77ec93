//! A second try beside the first, for requests that take longer than most: the faster one wins.
//!
//! The loser is taken back: its connection is closed, or its stream reset. That says nothing against its server.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::attempt::{Attempt, Failure};
use super::outgoing::Outgoing;
use super::tries::Tries;
use crate::message::Upload;
use crate::message::h1::Answer;
use crate::net::clock;
use crate::proxy::policy::{Hedge, Retry};
use crate::upstream::{Connection, InFlight, LocalEndpoint};

/// What a try comes to.
type Outcome = Result<(Connection, Answer), Failure>;

/// Who had the last word.
enum Winner {
    /// The first, of one.
    Alone(Outcome),
    /// The first, of two. The second had failed if there is a failure.
    First(Outcome),
    /// The second; the first had failed, or not ended.
    Second { outcome: Outcome, first_ended: bool },
    /// Nobody: this is the first one's failure, or bad answer.
    Neither(Outcome),
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
    let winner = {
        let mut first = pin!(outgoing.try_on(attempt));
        match timeout(after.unwrap_or(Duration::MAX), first.as_mut()).await {
            Ok(outcome) => Winner::Alone(outcome),
            Err(_) => match begin(outgoing, tries, &first_endpoint) {
                None => Winner::Alone(first.await),
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
    // A first try that was taken back would have taken longer: without it, the estimate would sink below itself.
    upstream.times.borrow_mut().observe(attempt.elapsed());
    let stats = tries.stats();
    match (winner, second) {
        (Winner::First(outcome), Some(second)) => {
            stats.hedges[0].increment();
            second.abandon();
            outcome
        }
        (
            Winner::Second {
                outcome,
                first_ended,
            },
            Some(second),
        ) => {
            stats.hedges[1].increment();
            let first = std::mem::replace(attempt, second);
            if !first_ended {
                first.abandon();
            }
            outcome
        }
        (Winner::Neither(outcome), Some(second)) => {
            tries.refused(Rc::clone(second.endpoint()));
            outcome
        }
        (
            Winner::Alone(outcome)
            | Winner::First(outcome)
            | Winner::Second { outcome, .. }
            | Winner::Neither(outcome),
            _,
        ) => outcome,
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
    let flight = tries.pick_besides(first)?;
    let may = tries.upstream.hedges.borrow_mut().withdraw(clock::now());
    may.then_some((flight, copy))
}

fn is_good(outcome: &Outcome, retry: &Retry) -> bool {
    outcome
        .as_ref()
        .is_ok_and(|(_, answer)| !retry.statuses.contains(&answer.status))
}

/// Waits for a good outcome, or for both.
async fn race(
    mut first: Pin<&mut impl Future<Output = Outcome>>,
    mut second: Pin<&mut impl Future<Output = Outcome>>,
    is_good: impl Fn(&Outcome) -> bool,
) -> Winner {
    let mut first_failed = None;
    let mut second_failed = false;
    poll_fn(|cx| {
        if first_failed.is_none()
            && let Poll::Ready(outcome) = first.as_mut().poll(cx)
        {
            if is_good(&outcome) {
                return Poll::Ready(Winner::First(outcome));
            }
            first_failed = Some(outcome);
        }
        if !second_failed && let Poll::Ready(outcome) = second.as_mut().poll(cx) {
            if is_good(&outcome) {
                let first_ended = first_failed.is_some();
                return Poll::Ready(Winner::Second {
                    outcome,
                    first_ended,
                });
            }
            second_failed = true;
        }
        match first_failed.take() {
            Some(outcome) if second_failed => Poll::Ready(Winner::Neither(outcome)),
            outcome => {
                first_failed = outcome;
                Poll::Pending
            }
        }
    })
    .await
}
