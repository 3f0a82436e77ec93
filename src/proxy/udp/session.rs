//! A client's session: its way to a server, and the record of it.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::ids::Learned;
use super::stats::End;
use crate::listener::Counted;
use crate::metrics::access_log::ConnectionRecord;
use crate::net::bandwidth::Direction;
use crate::net::udp::Path;
use crate::net::{Policer, clock};
use crate::proxy::bandwidth;
use crate::proxy::local::Local;
use crate::upstream::{Endpoint, Link, LocalUpstream};

/// What a client is allowed, kept as long as its session.
#[derive(Debug)]
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

impl Admitted {
    /// One of the listener's `max_connections`, and one of the address' own, if it has a limit.
    pub fn new(permit: OwnedSemaphorePermit, counted: Option<Counted>) -> Self {
        Self {
            _permit: permit,
            _counted: counted,
        }
    }
}

/// A client's datagrams to a server, and the answers.
#[derive(Debug)]
pub struct Session {
    path: Path,
    link: Link,
    /// When a datagram went either way last.
    last: Instant,
    /// Datagrams to the server and from it, since it is this one.
    asked: u64,
    answered: u64,
    /// What the client, and its server, may send; boxed, as mostly there is no limit.
    policers: Option<Box<[Option<Policer>; 2]>>,
    /// QUIC's ids, where they are looked at.
    pub ids: Option<Box<Learned<Arc<Endpoint>>>>,
    record: Record,
    _admitted: Admitted,
}

/// What is told of a session once it has ended. It is, when this is dropped.
#[derive(Debug)]
struct Record {
    local: Rc<Local>,
    listener: usize,
    upstream: Rc<LocalUpstream>,
    began: Instant,
    /// Only the access log needs it.
    time: Option<Timestamp>,
    received: u64,
    sent: u64,
    moves: u32,
    end: End,
}

impl Session {
    /// Begins one at a listener, by its index in the snapshot.
    pub fn begin(
        local: &Rc<Local>,
        listener: usize,
        path: Path,
        (upstream, link): (Rc<LocalUpstream>, Link),
        admitted: Admitted,
    ) -> Self {
        let stats = &local.listener(listener).stats;
        stats.shard(local.worker).accepted.increment();
        stats.shard(local.worker).open.increment();
        local.drain.enter();
        let now = clock::now();
        let policers = policers(local, listener, &path, &upstream, &link);
        Self {
            path,
            policers,
            link,
            last: now,
            asked: 0,
            answered: 0,
            ids: None,
            record: Record {
                local: Rc::clone(local),
                listener,
                upstream,
                began: now,
                time: local.access_log.is_some().then(Timestamp::now),
                received: 0,
                sent: 0,
                moves: 0,
                end: End::Shutdown,
            },
            _admitted: admitted,
        }
    }

    /// Whose it is.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The way to its server.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Goes on with another server.
    pub fn move_to(&mut self, upstream: Rc<LocalUpstream>, link: Link) {
        let local = &self.record.local;
        self.policers = policers(local, self.record.listener, &self.path, &upstream, &link);
        self.link = link;
        (self.asked, self.answered) = (0, 0);
        self.ids = None;
        self.record.upstream = upstream;
        self.record.moves += 1;
    }

    /// Whether a datagram of so many bytes may go this way. It is counted then.
    pub fn may_pass(&self, direction: Direction, bytes: usize) -> bool {
        let policer = self.policers.as_ref();
        let policer = policer.and_then(|it| it[direction as usize].as_ref());
        policer.is_none_or(|it| it.admits(bytes))
    }

    /// So many datagrams have been sent to the server.
    pub fn asked(&mut self, datagrams: usize, bytes: u64) {
        self.last = clock::now();
        self.asked += datagrams as u64;
        self.record.received += bytes;
        self.link.bytes().sent.add(bytes);
    }

    /// Whether its client has sent nothing that could be sent.
    pub fn is_unused(&self) -> bool {
        self.asked == 0
    }

    /// So many have come from the server. Whether these are all that are expected, if there are to be `responses` to each.
    pub fn answered(
        &mut self,
        datagrams: usize,
        bytes: u64,
        responses: Option<NonZeroU32>,
    ) -> bool {
        self.last = clock::now();
        self.answered += datagrams as u64;
        self.record.sent += bytes;
        self.link.bytes().received.add(bytes);
        self.link.heard();
        responses.is_some_and(|it| self.answered >= self.asked * u64::from(it.get()))
    }

    /// When a datagram went either way last.
    pub fn last(&self) -> Instant {
        self.last
    }

    /// Ends it for this reason.
    pub fn end(mut self: Box<Self>, end: End) {
        self.record.end = end;
    }
}

/// The limits of bytes a second that a session is under with this server.
fn policers(
    local: &Local,
    listener: usize,
    path: &Path,
    upstream: &LocalUpstream,
    link: &Link,
) -> Option<Box<[Option<Policer>; 2]>> {
    let limits = &local.listener(listener).bandwidth;
    let (upstream, endpoint) = (&upstream.shared, &link.endpoint().shared);
    let policers = Direction::ALL
        .map(|direction| bandwidth::policer(limits, upstream, endpoint, path.peer.ip(), direction));
    policers
        .iter()
        .any(Option::is_some)
        .then(|| Box::new(policers))
}

impl AsRef<Path> for Session {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.record.write(&self.path, &self.link);
    }
}

impl Record {
    fn write(&self, path: &Path, link: &Link) {
        let local = &self.local;
        let listener = local.listener(self.listener);
        let stats = listener.stats.shard(local.worker);
        stats.open.decrement();
        stats.udp.ended[self.end as usize].increment();
        local.drain.leave();
        let (Some(log), Some(time)) = (&local.access_log, self.time) else {
            return;
        };
        // There may be as many of these as datagrams.
        if self.end == End::Unsent {
            return;
        }
        log.write_connection(&ConnectionRecord {
            time,
            client: path.peer.ip(),
            protocol: "udp",
            listener: &listener.name,
            name: "",
            upstream: self.upstream.shared.name(),
            server: &link.endpoint().shared.address().to_string(),
            retries: self.moves,
            connect: std::time::Duration::ZERO,
            duration: clock::now() - self.began,
            received: self.received,
            sent: self.sent,
            reason: self.end.name(),
        });
    }
}
