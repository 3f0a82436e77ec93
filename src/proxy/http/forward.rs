//! Finds a server that answers: picks, tries, and tries another one when that is safe.

use std::rc::Rc;

use http::{HeaderValue, Version};
use tokio::time::sleep;

use super::attempt::{Attempt, Failure, Patience};
use super::choice;
use super::client::Client;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::interim::Interim;
use super::outgoing::{Outcome, Outgoing, Reached, deliver, discard, may_repeat, rewind};
use super::rewrite::{Rewrite, grpc_deadline};
use super::service::Answered;
use super::tries::{self, Tries};
use super::{hedge, mirror, sticky};
use crate::message::Head;
use crate::net::bandwidth::Direction;
use crate::proxy::policy::{Forward, Hedge, Target};
use crate::proxy::snapshot::UpstreamEntry;
use crate::proxy::view::View;
use crate::upstream::sticky::Session;
use crate::upstream::{InFlight, Picked, Refusal, RetryReason, Sticky, Waiter};

/// Sends a request to a server of the route's upstream and gives its answer.
///
/// # Errors
/// No server is eligible, or the last one tried gave no answer.
pub async fn forward(
    exchange: &mut Exchange,
    policy: &Forward,
    head: &Head,
    interim: Option<&Interim<'_>>,
) -> Result<Answered, ProxyError> {
    let client = Rc::clone(&exchange.client);
    let local = &client.local;
    let target = choice::target(policy, exchange.address, head, &local.rng);
    let view = Rc::clone(&exchange.view);
    let entry = &view.snapshot.upstreams[target.upstream];
    let own_cookie = entry.sticky.as_ref().map(Sticky::cookie);
    let upgrade = match head.version {
        Version::HTTP_11 | Version::HTTP_2 => head.upgrade(),
        _ => None, // HTTP/1.0 has no such thing (RFC 9110, section 7.8)
    };
    if (policy.retry.rules.attempts > 0 || policy.hedge.is_some())
        && let Some(upload) = &exchange.upload
    {
        upload.keep(policy.retry.rules.max_body);
    }
    let mirror = match upgrade {
        None => mirror::begin(policy, exchange, head, own_cookie),
        Some(_) => None,
    };
    let request = Request {
        client: &client,
        view: &view,
        policy,
        target,
        entry,
        head,
        own_cookie,
        is_mirrored: mirror.is_some(),
        upgrade,
        interim,
    };
    let answered = request.find_answer(exchange).await;
    if let Some(mirror) = mirror {
        mirror::send(mirror, exchange, head, own_cookie);
    }
    if let Some(upload) = &exchange.upload {
        upload.forget();
    }
    answered
}

/// A request to an upstream: what is the same for all its tries.
struct Request<'a> {
    client: &'a Client,
    view: &'a View,
    policy: &'a Forward,
    target: &'a Target,
    entry: &'a UpstreamEntry,
    head: &'a Head,
    own_cookie: Option<&'a str>,
    is_mirrored: bool,
    upgrade: Option<HeaderValue>,
    interim: Option<&'a Interim<'a>>,
}

impl Request<'_> {
    async fn find_answer(&self, exchange: &mut Exchange) -> Result<Answered, ProxyError> {
        let local = &self.client.local;
        let upstream = &self.view.upstreams[self.target.upstream];
        let retry = &self.policy.retry;
        let since = exchange.started;
        let hash = match &self.entry.hash {
            Some(key) => choice::hash_of(key, exchange.address, self.head),
            None => 0,
        };
        let patience = Patience {
            since,
            connect: self.target.timeout,
            limit: retry.limit(self.target.timeout),
            until: grpc_deadline(self.head, since),
        };
        if retry.rules.attempts > 0 {
            let mut budget = upstream.retries.borrow_mut();
            budget.deposit(retry.share, since);
        }
        let session = self.session();
        let had = session.and_then(|session| upstream.pick_identity(session.identity));
        let picked = match had {
            Some(flight) => Picked::Flight(flight),
            None => tries::pick(local, upstream, since, hash, &[]),
        };
        let flight = match picked {
            Picked::Flight(flight) => Ok(flight),
            // Boxed: most requests need no room for this.
            Picked::Full => Box::pin(self.wait(exchange, hash)).await,
            Picked::Nobody => Err(Refusal::Nobody),
        };
        let flight = match flight {
            Ok(flight) => flight,
            Err(Refusal::Shed) => return Err(ProxyError::Overloaded),
            Err(Refusal::Overdue) => return Err(ProxyError::QueueTimeout),
            Err(Refusal::Nobody) => {
                let tries = Tries::new(local, upstream, retry, patience, hash);
                return Err(tries.conclude(None));
            }
        };
        let mut attempt = Attempt::new(flight, local.worker);
        exchange.tries(upstream, attempt.endpoint());
        let outcome = match &self.policy.hedge {
            None => {
                let outgoing = Outgoing {
                    rewrite: self.rewrite(exchange),
                    upstream,
                    patience,
                };
                Some(outgoing.try_on(&mut attempt).await)
            }
            Some(_) => None,
        };
        let reached = match outcome {
            Some(Ok((connection, answer))) if !retry.rules.statuses.contains(&answer.status) => {
                Reached {
                    attempt,
                    connection,
                    answer,
                }
            }
            // Boxed: most requests need no room for this.
            outcome => {
                let tries = Tries::new(local, upstream, retry, patience, hash);
                Box::pin(self.go_on(exchange, tries, attempt, outcome)).await?
            }
        };
        let endpoint = reached.attempt.endpoint();
        let identity = endpoint.shared.identity();
        let throttle = exchange.throttle(upstream, endpoint, Direction::Download);
        let upload = exchange.upload.as_deref();
        let answered = deliver(upstream, upload, reached).await;
        let mut answered = answered.map_err(Failure::into_error)?;
        match &mut answered {
            Answered::Reply(reply) => {
                if let Some(throttle) = throttle {
                    reply.body.pace(throttle);
                }
            }
            Answered::Switched(_, server) => {
                let endpoint = server.attempt.endpoint();
                let upload = exchange.throttle(upstream, endpoint, Direction::Upload);
                server.throttles = [upload, throttle];
            }
        }
        self.settle(&mut answered, identity, session);
        Ok(answered)
    }

    /// Waits for a server, as all have as many requests as they may.
    async fn wait(&self, exchange: &Exchange, hash: u64) -> Result<InFlight, Refusal> {
        let local = &self.client.local;
        let upstream = &self.view.upstreams[self.target.upstream];
        let waiter = Waiter {
            client: exchange.address,
            priority: self.policy.priority.of(&self.head.headers),
        };
        upstream.wait(&local.rng, hash, waiter).await
    }

    /// Goes on from the first try, which has ended with a bad outcome, or not begun.
    async fn go_on(
        &self,
        exchange: &mut Exchange,
        mut tries: Tries<'_>,
        mut attempt: Attempt,
        mut outcome: Option<Outcome>,
    ) -> Result<Reached, ProxyError> {
        let retry = &self.policy.retry;
        loop {
            let outgoing = Outgoing {
                rewrite: self.rewrite(exchange),
                upstream: tries.upstream,
                patience: tries.patience(),
            };
            let outcome = match (outcome.take(), self.hedge(exchange)) {
                (Some(outcome), _) => outcome,
                (None, Some(hedge)) => {
                    let both = (hedge, retry);
                    hedge::try_on(&outgoing, &mut tries, both, &mut attempt).await
                }
                (None, None) => outgoing.try_on(&mut attempt).await,
            };
            let endpoint = Rc::clone(attempt.endpoint());
            let repeats = |reason| may_repeat(&outgoing.rewrite, reason);
            let (next, wait) = match outcome {
                Ok((connection, answer)) => {
                    let is_bad = retry.rules.statuses.contains(&answer.status);
                    let repeats = is_bad && repeats(RetryReason::Status);
                    tries.note_hedge(exchange, &endpoint);
                    let next = match repeats {
                        true => tries.after_answer(&endpoint, exchange),
                        false => None,
                    };
                    let Some(next) = next else {
                        return Ok(Reached {
                            attempt,
                            connection,
                            answer,
                        });
                    };
                    discard(endpoint, connection, answer);
                    next
                }
                Err(failure) => {
                    let reason = failure.reason().filter(|reason| repeats(*reason));
                    tries.after_failure(endpoint, failure, reason, exchange)?
                }
            };
            drop(attempt);
            if !wait.is_zero() {
                sleep(wait).await;
            }
            rewind(exchange.upload.as_ref());
            attempt = Attempt::new(next, self.client.local.worker);
            exchange.tries(tries.upstream, attempt.endpoint());
        }
    }

    /// The session that the request belongs to.
    fn session(&self) -> Option<Session> {
        let sticky = self.entry.sticky.as_ref()?;
        sticky::session(sticky, &self.head.headers)
    }

    /// The request, as it goes to a server.
    fn rewrite<'b>(&'b self, exchange: &'b Exchange) -> Rewrite<'b> {
        Rewrite {
            client: self.client,
            view: self.view,
            id: &exchange.id,
            head: self.head,
            upload: exchange.upload.as_ref(),
            target: self.target,
            own_cookie: self.own_cookie,
            is_mirrored: self.is_mirrored,
            upgrade: self.upgrade.clone(),
            interim: self.interim,
        }
    }

    /// Whether its next try may get another one beside it: only the first may, of what may be done twice. A client with a
    /// session must not get the answer of a server that does not know it, only because that was fast.
    fn hedge(&self, exchange: &Exchange) -> Option<&Hedge> {
        let hedge = self.policy.hedge.as_ref()?;
        let may = exchange.retries == 0
            && self.upgrade.is_none()
            && self.entry.sticky.is_none()
            && self.head.method.is_idempotent();
        may.then_some(hedge)
    }

    /// Tells the client which server it has, if it is to come back to it.
    fn settle(&self, answered: &mut Answered, identity: u64, session: Option<Session>) {
        if let Some(sticky) = &self.entry.sticky {
            let fields = match answered {
                Answered::Reply(reply) | Answered::Switched(reply, _) => &mut reply.fields,
            };
            let is_encrypted = self.client.hop.is_encrypted();
            sticky::tell(sticky, session, identity, is_encrypted, fields);
        }
    }
}
