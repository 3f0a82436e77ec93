//! A worker's socket of a listener, with all its sessions: passes datagrams on as they come, in batches.
//!
//! Nothing waits here: what cannot be sent at once is dropped and counted, as it would be anywhere else on its way.

mod clients;
mod servers;

use std::future::pending;
use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::Settings;
use super::asking::Asking;
use super::session::Session;
use super::sessions::Sessions;
use super::stats::{End, Stats};
use crate::listener::Station;
use crate::net::clock;
use crate::net::stream::ByteStats;
use crate::net::udp::{Path, Ready, socket};
use crate::proxy::local::Local;
use crate::proxy::roster::Roster;
use crate::proxy::seldom::Seldom;
use crate::proxy::snapshot::ListenerEntry;
use crate::proxy::view::View;

/// Sessions that a sweep ends at a time: closing a socket takes a few microseconds.
const ENDS: usize = 256;

/// Once the load balancer ends, a session ends after so much silence.
const DRAIN_IDLE: Duration = Duration::from_secs(5);

/// Batches that are read at most of what waits when the load balancer ends.
const LAST_BATCHES: usize = 64;

/// Passes on the datagrams of a socket's clients until it is to be closed, or the worker drains and all sessions have
/// ended.
pub async fn serve(socket: Arc<UdpSocket>, station: Rc<Station>, local: Rc<Local>) {
    local.drain.enter();
    if let Err(error) = relay(socket, &station, &local).await {
        let listener = local.listener(station.listener());
        let stats = listener.stats.shard(local.worker);
        stats.accept_failures.increment();
        tracing::error!(listener = %listener.name, %error, "datagrams cannot be received");
    }
    local.drain.leave();
}

async fn relay(socket: Arc<UdpSocket>, station: &Rc<Station>, local: &Rc<Local>) -> io::Result<()> {
    let relay = Relay {
        front: Arc::clone(&socket),
        ready: Ready::new()?,
        sessions: Sessions::default(),
        asking: Rc::default(),
        draining: false,
        swept: 0,
        numbers: Vec::new(),
        letters: Vec::new(),
        filled: 0,
        answered: Vec::new(),
        told: Seldom::default(),
        station: Rc::clone(station),
        local: Rc::clone(local),
    };
    relay.run(socket).await
}

struct Relay {
    local: Rc<Local>,
    station: Rc<Station>,
    /// Where clients send to.
    front: Arc<UdpSocket>,
    /// Which servers have answered.
    ready: Ready,
    sessions: Sessions<Session>,
    asking: Rc<Asking>,
    /// Whether there are no new sessions any more.
    draining: bool,
    /// The session that the present sweep comes to next.
    swept: u32,
    /// Kept for their space: sessions with answers, and sessions that end with them.
    numbers: Vec<u32>,
    answered: Vec<u32>,
    /// Answers in the slots of a batch, of which so many are filled, and where they go.
    letters: Vec<(usize, Path)>,
    filled: usize,
    /// Of a want of resources.
    told: Seldom,
}

/// The configuration of the moment.
struct Scene<'a> {
    view: &'a View,
    entry: &'a ListenerEntry,
    settings: &'a Settings,
    stats: &'a Stats,
    bytes: &'a ByteStats,
}

impl<'a> Scene<'a> {
    /// Of a listener, if it is still one of UDP.
    fn of(view: &'a View, listener: usize, worker: usize) -> Option<Self> {
        let entry = &view.snapshot.listeners[listener];
        Some(Self {
            view,
            entry,
            settings: entry.udp.as_ref()?,
            stats: &entry.stats.shard(worker).udp,
            bytes: entry.bytes.shard(worker),
        })
    }
}

impl Relay {
    async fn run(mut self, socket: Arc<UdpSocket>) -> io::Result<()> {
        let mut front = Some(socket::watch(socket)?);
        let back = self.ready.watch()?;
        let local = Rc::clone(&self.local);
        let mut sweep = pin!(sleep(Duration::ZERO));
        while !(self.station.is_closed() || self.draining && self.is_done()) {
            let (station, asking) = (Rc::clone(&self.station), Rc::clone(&self.asking));
            let more = tokio::select! {
                ready = readable(front.as_ref()) => {
                    let mut ready = ready?;
                    let more = clock::turn(|| self.hear_clients());
                    // What comes after this look makes it ready again.
                    if !more {
                        ready.clear_ready();
                    }
                    more
                }
                ready = back.readable() => {
                    let mut ready = ready?;
                    let more = clock::turn(|| self.hear_servers());
                    if !more {
                        ready.clear_ready();
                    }
                    more
                }
                () = &mut sweep, if !self.sessions.is_empty() => {
                    let more = clock::turn(|| self.sweep());
                    let pause = if more { Duration::ZERO } else { Roster::interval(self.idle()) };
                    sweep.as_mut().reset(Instant::now() + pause);
                    more
                }
                () = asking.answered() => {
                    clock::turn(|| self.let_in());
                    false
                }
                () = station.changed() => false,
                () = local.drain.begun(), if !self.draining => {
                    // Another process reads what comes from now on.
                    match local.drain.handed_over() {
                        true => front = None,
                        false => self.hear_the_last(),
                    }
                    self.draining = true;
                    false
                }
            };
            // Others have their turn: connections of the same worker, other sockets.
            if more {
                yield_now().await;
            }
        }
        self.close();
        Ok(())
    }

    /// Whether nobody has a session, and nobody will because he has asked for one.
    fn is_done(&self) -> bool {
        self.sessions.is_empty() && self.asking.is_empty()
    }

    /// Passes on what clients have sent by now: of those who are new, these are the last.
    fn hear_the_last(&mut self) {
        let more = |_: &usize| clock::turn(|| self.hear_clients());
        _ = (0..LAST_BATCHES).take_while(more).count();
    }

    /// How long a session may be silent.
    fn idle(&self) -> Duration {
        let idle = self.local.listener(self.station.listener()).timeouts.idle;
        match self.draining {
            true => idle.min(DRAIN_IDLE),
            false => idle,
        }
    }

    /// Ends sessions that have been silent for too long. Whether there may be more of them.
    fn sweep(&mut self) -> bool {
        let (idle, now) = (self.idle(), clock::now());
        let mut left = ENDS;
        while self.swept < self.sessions.end() {
            let session = self.sessions.get(self.swept);
            if session.is_some_and(|it| now.saturating_duration_since(it.last()) >= idle) {
                if left == 0 {
                    return true;
                }
                left -= 1;
                self.end(self.swept, End::Idle);
            }
            self.swept += 1;
        }
        self.swept = 0;
        self.sessions.trim();
        false
    }

    fn end(&mut self, number: u32, end: End) {
        if let Some(session) = self.sessions.remove(number) {
            session.end(end);
        }
    }

    /// Ends all sessions.
    fn close(&mut self) {
        for number in 0..self.sessions.end() {
            self.end(number, End::Closed);
        }
    }
}

/// Waits for something to read from a socket; for ever, if there is none.
async fn readable(
    socket: Option<&AsyncFd<Arc<UdpSocket>>>,
) -> io::Result<AsyncFdReadyGuard<'_, Arc<UdpSocket>>> {
    match socket {
        Some(socket) => socket.readable().await,
        None => pending().await,
    }
}
