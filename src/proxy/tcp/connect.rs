//! Finds a server that accepts a client's connection: picks one, connects, and tries others while none has heard anything.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Reason;
use crate::balance::Pick;
use crate::net::connect::is_local;
use crate::net::{Traffic, Transport, clock};
use crate::proxy::http::choice::hash_of_address;
use crate::proxy::local::Local;
use crate::proxy::view::View;
use crate::upstream::budget::TRY;
use crate::upstream::{
    Announced, InFlight, LocalEndpoint, LocalUpstream, Picked, Priority, Refusal, RetryReason,
    Waiter, is_too_many,
};

/// Servers that are tried at most.
const TRIES: usize = 3;

/// What each connection pays into the upstream's budget for further tries: as a request does by default, a fifth.
const SHARE: u32 = TRY / 5;

/// A client that wants to be connected.
#[derive(Debug)]
pub struct Call<'a> {
    /// The worker.
    pub local: &'a Local,
    /// The configuration.
    pub view: &'a View,
    /// Index into its upstreams.
    pub upstream: usize,
    /// Who it is, by the word of a PROXY header if there was one.
    pub client: IpAddr,
    /// The same for servers that want to know.
    pub announced: Option<Announced>,
}

/// The server that was called.
#[derive(Debug)]
pub struct Called {
    /// The upstream.
    pub upstream: Rc<LocalUpstream>,
    /// The server that was tried last.
    pub endpoint: Option<Rc<LocalEndpoint>>,
    /// Tries after the first.
    pub retries: u32,
}

/// A server that has accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub transport: Transport,
    /// Where its bytes are counted.
    pub traffic: Traffic,
    /// Counts as the server's load.
    pub flight: InFlight,
    /// How long connecting took.
    pub took: Duration,
}

impl Call<'_> {
    /// Connects to a server of the upstream.
    pub async fn connect(&self) -> (Called, Result<Accepted, Reason>) {
        let mut called = Called {
            upstream: Rc::clone(&self.view.upstreams[self.upstream]),
            endpoint: None,
            retries: 0,
        };
        let result = self.connect_to(&mut called).await;
        (called, result)
    }

    async fn connect_to(&self, called: &mut Called) -> Result<Accepted, Reason> {
        let upstream = Rc::clone(&called.upstream);
        let stats = upstream.shared.stats.shard(self.local.worker);
        upstream.retries.borrow_mut().deposit(SHARE, clock::now());
        let mut tried = Vec::new();
        let mut next = match self.first(&upstream).await {
            Ok(flight) => Some(flight),
            Err(refusal) => {
                if refusal == Refusal::Nobody {
                    stats.nobody.increment();
                }
                return Err(Reason::NoServer);
            }
        };
        while let Some(flight) = next {
            let endpoint = Rc::clone(flight.endpoint());
            called.endpoint = Some(Rc::clone(&endpoint));
            if !tried.is_empty() {
                called.retries += 1;
                stats.retries[RetryReason::Connect as usize].increment();
            }
            if let Some(accepted) = self.try_on(&upstream, flight).await {
                return Ok(accepted);
            }
            tried.push(endpoint);
            next = match tried.len() < TRIES {
                true => self.further(&upstream, &tried),
                false => None,
            };
        }
        Err(Reason::ConnectFailure)
    }

    /// Another server, if there is one and the upstream's budget allows for a further try.
    fn further(&self, upstream: &LocalUpstream, tried: &[Rc<LocalEndpoint>]) -> Option<InFlight> {
        let Picked::Flight(flight) = self.pick(upstream, tried) else {
            return None;
        };
        if !upstream.retries.borrow_mut().withdraw(clock::now()) {
            let stats = upstream.shared.stats.shard(self.local.worker);
            stats.retries_denied.increment();
            return None;
        }
        Some(flight)
    }

    /// The server to try first, waited for if all are full.
    async fn first(&self, upstream: &LocalUpstream) -> Result<InFlight, Refusal> {
        match self.pick(upstream, &[]) {
            Picked::Flight(flight) => Ok(flight),
            Picked::Nobody => Err(Refusal::Nobody),
            Picked::Full => {
                let waiter = Waiter {
                    client: self.client,
                    priority: Priority::Normal,
                };
                let waited = upstream.wait(&self.local.rng, self.hash(), waiter);
                waited.await // the queue counts why not
            }
        }
    }

    fn pick(&self, upstream: &LocalUpstream, tried: &[Rc<LocalEndpoint>]) -> Picked {
        let mut pick = Pick {
            rng: &mut self.local.rng.borrow_mut(),
            now: clock::now().into_std(),
            hash: self.hash(),
            retry: !tried.is_empty(),
        };
        upstream.pick(&mut pick, tried)
    }

    fn hash(&self) -> u64 {
        match self.view.snapshot.upstreams[self.upstream].hash {
            Some(_) => hash_of_address(self.client),
            None => 0,
        }
    }

    /// Connects to a server. All that is known of its conduct is whether that works, and how long it takes.
    async fn try_on(&self, upstream: &LocalUpstream, flight: InFlight) -> Option<Accepted> {
        let began = clock::now();
        let endpoint = flight.endpoint();
        let (server, worker) = (&endpoint.shared, self.local.worker);
        match upstream.connect_bare(endpoint, self.announced).await {
            Ok((transport, traffic)) => {
                let now = clock::now();
                let took = now - began;
                server.answered(worker, 200, took, now.into_std());
                Some(Accepted {
                    transport,
                    traffic,
                    flight,
                    took,
                })
            }
            Err(error) => {
                if !is_local(&error) && !is_too_many(&error) {
                    server.failed(worker);
                }
                tracing::debug!(server = server.id(), %error, "cannot connect");
                None
            }
        }
    }
}
