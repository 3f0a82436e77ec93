//! A client's way to a server over UDP: which server, a socket of its own, and what its fate says of the server.
//!
//! There is no connection that could be refused: a server is thought to be well until ICMP says that nobody listens, or its
//! probes do.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::local::{LocalEndpoint, LocalUpstream};
use super::picking::{InFlight, Picked};
use super::sockets::OpenSocket;
use crate::balance::Pick;
use crate::health;
use crate::net::connect::{attributed, is_local, telling};
use crate::net::stream::ByteStats;
use crate::net::{clock, udp};

/// Servers that are tried at most for want of a way to the first.
const TRIES: usize = 3;

/// A socket that is connected to a server, which counts as load as long as this is there.
#[derive(Debug)]
pub struct Link {
    socket: UdpSocket,
    flight: InFlight,
    _open: OpenSocket,
    worker: usize,
    since: Instant,
    answered: Cell<bool>,
    refused: Cell<bool>,
}

/// Why there is no way to any server.
#[derive(Debug)]
pub enum NoLink {
    /// None is eligible, or none can be reached.
    Nobody,
    /// All have as many clients as they may.
    Full,
    /// There is no descriptor, port or memory left here.
    Local(io::Error),
}

impl LocalUpstream {
    /// Opens a way to a server: to `preferred`, if it is well; else to the one that the strategy picks, but for `avoided`.
    ///
    /// # Errors
    /// There is none.
    pub fn link(
        &self,
        pick: &mut Pick<'_>,
        preferred: Option<&Arc<Endpoint>>,
        avoided: Option<&Link>,
    ) -> Result<Link, NoLink> {
        let mut tried: Vec<_> = avoided.iter().map(|it| Rc::clone(it.endpoint())).collect();
        let mut preferred = preferred.and_then(|it| self.join(it));
        let (mut failed, mut full) = (0, false);
        while failed < TRIES {
            let flight = match preferred.take() {
                Some(flight) => flight,
                None => match self.pick(pick, &tried) {
                    // One that is ejected is for when others fail, and not for when they have much to do.
                    Picked::Flight(flight) if full && !self.is_eligible(flight.endpoint()) => break,
                    Picked::Flight(flight) => flight,
                    Picked::Full => return Err(NoLink::Full),
                    Picked::Nobody => break,
                },
            };
            let endpoint = Rc::clone(flight.endpoint());
            let Some(open) = OpenSocket::open(&endpoint.shared) else {
                full = true;
                self.exclude_full(&mut tried);
                tried.push(endpoint);
                pick.retry = true;
                continue;
            };
            let stats = endpoint.shared.stats.shard(self.worker);
            match connect(&endpoint.shared) {
                Ok(socket) => {
                    stats.connects.increment();
                    return Ok(Link {
                        socket,
                        flight,
                        _open: open,
                        worker: self.worker,
                        since: clock::now(),
                        answered: Cell::new(false),
                        refused: Cell::new(false),
                    });
                }
                Err(error) if is_of_here(&error) => return Err(NoLink::Local(error)),
                Err(error) => {
                    tracing::debug!(server = endpoint.shared.id(), %error, "there is no way to it");
                    fail(&endpoint.shared, self.worker);
                    failed += 1;
                    tried.push(endpoint);
                    pick.retry = true;
                }
            }
        }
        if full && failed < TRIES {
            return Err(NoLink::Full);
        }
        // Who has a server goes on with that.
        if avoided.is_none() {
            self.shared.stats.shard(self.worker).nobody.increment();
        }
        Err(NoLink::Nobody)
    }

    /// Has those not be picked that have as many sockets as they may, at once: there may be many of them.
    fn exclude_full(&self, tried: &mut Vec<Rc<LocalEndpoint>>) {
        let view = self.view.borrow();
        let full = view
            .endpoints
            .iter()
            .filter(|it| it.shared.sockets().are_all_open());
        tried.extend(full.map(Rc::clone));
    }

    fn is_eligible(&self, endpoint: &Rc<LocalEndpoint>) -> bool {
        let view = self.view.borrow();
        view.endpoints.iter().any(|it| Rc::ptr_eq(it, endpoint))
    }

    /// Has a server get one client more, be it that it gets no others.
    fn join(&self, endpoint: &Arc<Endpoint>) -> Option<InFlight> {
        if is_out(endpoint) || !endpoint.load().begin() {
            return None;
        }
        self.refresh();
        let known = self.find(endpoint);
        let local = known.unwrap_or_else(|| {
            let settings = self.settings();
            Rc::new(LocalEndpoint::new(Arc::clone(endpoint), &settings))
        });
        Some(InFlight::begun(local))
    }
}

impl Link {
    /// The server.
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        self.flight.endpoint()
    }

    /// Whether another server is to be looked for: this one is gone, down, or nobody listens there.
    pub fn is_lost(&self) -> bool {
        self.refused.get() || is_out(&self.endpoint().shared)
    }

    /// Nobody listens there, or there is no way.
    pub fn refused(&self) {
        self.refused.set(true);
        fail(&self.endpoint().shared, self.worker);
    }

    /// A datagram of the server has come.
    pub fn heard(&self) {
        self.refused.set(false);
        if !self.answered.replace(true) {
            let now = clock::now();
            let server = &self.endpoint().shared;
            server.answered(self.worker, 200, now - self.since, now.into_std());
        }
    }

    /// Where its bytes are counted.
    pub fn bytes(&self) -> &ByteStats {
        self.endpoint().shared.bytes.shard(self.worker)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether a server is not to be used for anything.
fn is_out(endpoint: &Endpoint) -> bool {
    endpoint.is_gone() || endpoint.health() == health::State::Down
}

/// A socket to the first of the server's addresses that there is a way to.
fn connect(endpoint: &Endpoint) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in endpoint.resolved().iter() {
        match udp::socket::connect(*address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = telling(last, attributed(*address, error)),
        }
    }
    Err(last)
}

/// Whether the reason is on this side. Where there are no ports left, the kernel says so like this.
fn is_of_here(error: &io::Error) -> bool {
    is_local(error) || error.kind() == ErrorKind::WouldBlock
}

fn fail(endpoint: &Endpoint, worker: usize) {
    endpoint.stats.shard(worker).connect_failures.increment();
    endpoint.connect_failed();
    endpoint.failed(worker);
}
