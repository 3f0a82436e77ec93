//! A connection that is passed on, from when its server has accepted it, and the record of it.

use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Reason;
use super::connect::Called;
use crate::listener::Counted;
use crate::metrics::access_log::ConnectionRecord;
use crate::net::{Relay, clock};
use crate::proxy::local::Local;
use crate::proxy::roster::Place;
use crate::upstream::InFlight;

/// At the end of the process a connection has to have been quiet for as long as that was put off, and for this long at least,
/// to count as one whose end cuts nothing short.
const QUIET: Duration = Duration::from_secs(1);

/// How often a client is looked at of which nothing can be read, as its server takes nothing.
const LOOK: Duration = Duration::from_secs(2);

/// A client's and a server's connection.
#[derive(Debug)]
pub struct Session {
    relay: Relay,
    idle: Duration,
    half_closed: Duration,
    record: Record,
    _flight: InFlight,
    _counted: Option<Counted>,
}

/// What is told of a connection once it has ended. It is, when this is dropped.
#[derive(Debug)]
pub struct Record {
    local: Rc<Local>,
    listener: u32,
    client: IpAddr,
    began: Instant,
    reason: Reason,
    received: u64,
    sent: u64,
    line: Option<Box<Line>>,
}

/// What only the access log needs.
#[derive(Debug)]
struct Line {
    time: Timestamp,
    name: String,
    called: Option<Called>,
    connect: Duration,
}

impl Session {
    /// Passes bytes on between the two ends of `relay`.
    pub fn new(
        relay: Relay,
        (idle, half_closed): (Duration, Duration),
        record: Record,
        flight: InFlight,
        counted: Option<Counted>,
    ) -> Box<Self> {
        Box::new(Self {
            relay,
            idle,
            half_closed,
            record,
            _flight: flight,
            _counted: counted,
        })
    }

    /// Goes on; ready when it is over. `place` is its task's in the roster.
    pub fn poll(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<()> {
        let polled = self.relay.poll(cx);
        self.record.received = self.relay.received();
        self.record.sent = self.relay.sent();
        let reason = match polled {
            Poll::Ready(end) => end.into(),
            Poll::Pending => {
                let mut deadline = self.relay.deadline(self.idle, self.half_closed);
                if self.relay.is_stopped() {
                    deadline = deadline.min(clock::now() + LOOK);
                }
                match self.record.local.roster.wait(place, cx, deadline) {
                    true => Reason::Idle,
                    false => return Poll::Pending,
                }
            }
        };
        self.record.reason = reason;
        Poll::Ready(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let drain_timeout = || self.record.local.view().snapshot.drain_timeout;
        match self.record.reason {
            Reason::Idle => self.relay.give_up(Duration::ZERO),
            Reason::Shutdown => self.relay.give_up(drain_timeout().max(QUIET)),
            _ => {} // both sides have heard of it
        }
    }
}

impl Record {
    /// The record of a connection of `client` to a listener, that came at `since`.
    pub fn open(local: &Rc<Local>, listener: usize, client: IpAddr, since: Instant) -> Self {
        let line = || {
            Box::new(Line {
                time: Timestamp::now(),
                name: String::new(),
                called: None,
                connect: Duration::ZERO,
            })
        };
        Self {
            local: Rc::clone(local),
            listener: u32::try_from(listener).expect("listeners are few"),
            client,
            began: since,
            reason: Reason::Shutdown,
            received: 0,
            sent: 0,
            line: local.access_log.is_some().then(line),
        }
    }

    /// Which name the client has asked for.
    pub fn named(&mut self, name: Option<&str>) {
        if let (Some(line), Some(name)) = (&mut self.line, name) {
            name.clone_into(&mut line.name);
        }
    }

    /// Who was called, and how long that took if it was successful.
    pub fn called(&mut self, called: Called, connect: Duration) {
        if let Some(line) = &mut self.line {
            line.called = Some(called);
            line.connect = connect;
        }
    }

    /// Nothing comes of it.
    pub fn refuse(mut self, reason: Reason) {
        self.reason = reason;
    }

    fn log(&self, line: &Line) {
        let Some(log) = &self.local.access_log else {
            return;
        };
        let called = line.called.as_ref();
        let endpoint = called.and_then(|it| it.endpoint.as_ref());
        let server = endpoint.map(|it| it.shared.address().to_string());
        log.write_connection(&ConnectionRecord {
            time: line.time,
            client: self.client,
            protocol: "tcp",
            listener: &self.local.listener(self.listener as usize).name,
            name: &line.name,
            upstream: called.map_or("", |it| it.upstream.shared.name()),
            server: server.as_deref().unwrap_or_default(),
            retries: called.map_or(0, |it| it.retries),
            connect: line.connect,
            duration: clock::now() - self.began,
            received: self.received,
            sent: self.sent,
            reason: self.reason.name(),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let listener = self.local.listener(self.listener as usize);
        let stats = listener.stats.shard(self.local.worker);
        stats.ends[self.reason as usize].increment();
        if let Some(line) = &self.line {
            self.log(line);
        }
    }
}
