//! Which servers a request was tried on, and whether it may be tried on another one.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Failure, Patience};
use super::error::ProxyError;
use super::exchange::Exchange;
use crate::balance::Pick;
use crate::net::clock;
use crate::proxy::local::Local;
use crate::proxy::policy::Retry;
use crate::upstream::{InFlight, LocalEndpoint, LocalUpstream, Picked, RetryReason, UpstreamStats};

/// `Retry-After` when nobody probes the servers.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The tries of a request on the servers of one upstream.
pub struct Tries<'a> {
    local: &'a Local,
    /// The upstream.
    pub upstream: &'a Rc<LocalUpstream>,
    retry: &'a Retry,
    hash: u64,
    /// When the client gets an answer in any case.
    deadline: Instant,
    /// How long a first try waits.
    patience: Patience,
    /// Those that gave no good answer.
    endpoints: Vec<Rc<LocalEndpoint>>,
    /// Further tries so far.
    number: u32,
    /// Whether a try failed by something else than a server that refuses connections.
    reached: bool,
    /// Whether the first try had another one beside it.
    pub hedged: bool,
}

/// What follows a try that failed.
enum Next {
    /// Another one.
    Try(Following),
    /// Nothing: the request must not be made again, or has been often enough, or all other servers are full.
    Stop,
    /// Nothing: there is no other server.
    Nobody,
}

/// The server of a further try, and how long to wait before it.
pub type Following = (InFlight, Duration);

impl<'a> Tries<'a> {
    /// The tries of a request, the first of which has all the time that `patience` says.
    pub fn new(
        local: &'a Local,
        upstream: &'a Rc<LocalUpstream>,
        retry: &'a Retry,
        patience: Patience,
        hash: u64,
    ) -> Self {
        let deadline = patience.since + patience.connect;
        let until = patience.until;
        Self {
            local,
            upstream,
            retry,
            hash,
            deadline: until.map_or(deadline, |until| until.min(deadline)),
            patience,
            endpoints: Vec::new(),
            number: 0,
            reached: false,
            hedged: false,
        }
    }

    /// What the worker counts of the upstream.
    pub fn stats(&self) -> &UpstreamStats {
        self.upstream.shared.stats.shard(self.local.worker)
    }

    /// A server that is none of `others`.
    pub fn pick_besides(&self, others: &[Rc<LocalEndpoint>]) -> Picked {
        let since = self.patience.since;
        pick(self.local, self.upstream, since, self.hash, others)
    }

    /// How long the next try may wait for the answer's headers.
    pub fn patience(&self) -> Patience {
        let mut patience = self.patience;
        if self.number > 0 {
            patience.limit = patience.limit.min(self.deadline - clock::now());
        }
        patience
    }

    /// What follows an answer that says try again; `None` passes it on.
    pub fn after_answer(
        &mut self,
        endpoint: &Rc<LocalEndpoint>,
        exchange: &mut Exchange,
    ) -> Option<Following> {
        self.refused(Rc::clone(endpoint));
        match self.next(Some(RetryReason::Status), exchange) {
            Next::Try(following) => Some(following),
            Next::Stop | Next::Nobody => None,
        }
    }

    /// What follows a server that gave no answer. `reason` is why, if the request may be made again.
    ///
    /// # Errors
    /// Nothing: this is what it comes to.
    pub fn after_failure(
        &mut self,
        endpoint: Rc<LocalEndpoint>,
        failure: Failure,
        reason: Option<RetryReason>,
        exchange: &mut Exchange,
    ) -> Result<Following, ProxyError> {
        let server = endpoint.shared.id();
        tracing::debug!(server, request_id = ?exchange.id, %failure, "a server gave no answer");
        self.reached |= !failure.is_refusal();
        self.endpoints.push(endpoint);
        match self.next(reason, exchange) {
            Next::Try(following) => Ok(following),
            Next::Stop => Err(failure.into_error()),
            Next::Nobody => Err(self.conclude(Some(failure.into_error()))),
        }
    }

    /// Notes that a server gave an answer that is none.
    pub fn refused(&mut self, endpoint: Rc<LocalEndpoint>) {
        self.reached = true;
        self.endpoints.push(endpoint);
    }

    /// Notes in the record of the request who of two has answered.
    pub fn note_hedge(&self, exchange: &mut Exchange, endpoint: &Rc<LocalEndpoint>) {
        if self.hedged {
            exchange.hedged = true;
            exchange.tried = Some((Rc::clone(self.upstream), Rc::clone(endpoint)));
        }
    }

    /// What follows. `reason` is why the last try failed, if the request may be made again.
    fn next(&mut self, reason: Option<RetryReason>, exchange: &mut Exchange) -> Next {
        let Some(reason) = reason else {
            return Next::Stop;
        };
        let flight = match self.pick_besides(&self.endpoints) {
            Picked::Flight(flight) => flight,
            Picked::Full => return Next::Stop, // who was tried is not to wait as well
            Picked::Nobody => return Next::Nobody,
        };
        if self.number >= self.retry.rules.attempts || !self.retry.wants(reason) {
            return Next::Stop;
        }
        let wait = {
            let rng = &mut self.local.rng.borrow_mut();
            self.retry.backoff(self.number + 1, rng)
        };
        let now = clock::now();
        if now + wait >= self.deadline {
            return Next::Stop;
        }
        let stats = self.stats();
        if !self.upstream.retries.borrow_mut().withdraw(now) {
            stats.retries_denied.increment();
            return Next::Stop;
        }
        stats.retries[reason as usize].increment();
        self.number += 1;
        exchange.retries += 1;
        exchange.retried = reason.name();
        Next::Try((flight, wait))
    }

    /// What it comes to when no server is left to try, and the last one failed with `error`.
    pub fn conclude(&self, error: Option<ProxyError>) -> ProxyError {
        let settings = self.upstream.settings();
        let health = settings.health.as_ref();
        match error {
            // Probed servers that all refuse are as good as none: their probes have only not noticed yet.
            Some(error) if self.reached || health.is_none() => error,
            _ => {
                self.stats().nobody.increment();
                ProxyError::NoServer {
                    retry_after: health.map_or(RETRY_AFTER, |(_, settings)| settings.interval),
                }
            }
        }
    }
}

/// A server of an upstream that is none of `others`, for a request that came at `since`.
pub fn pick(
    local: &Local,
    upstream: &LocalUpstream,
    since: Instant,
    hash: u64,
    others: &[Rc<LocalEndpoint>],
) -> Picked {
    let mut pick = Pick {
        rng: &mut local.rng.borrow_mut(),
        now: since.into_std(),
        hash,
        retry: !others.is_empty(),
    };
    upstream.pick(&mut pick, others)
}
