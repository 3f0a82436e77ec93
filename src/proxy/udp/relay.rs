//! A worker's socket of a listener, with all its sessions: passes datagrams on as they come, in batches.
//!
//! Nothing waits here: what cannot be sent at once is dropped and counted, as it would be anywhere else on its way.

use std::io;
use std::net::UdpSocket;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::Settings;
use super::ids::Learned;
use super::session::{Admitted, Session};
use super::sessions::Sessions;
use super::stats::{Dropped, End, Stats, is_refused};
use crate::balance::Pick;
use crate::listener::Station;
use crate::net::clock;
use crate::net::stream::ByteStats;
use crate::net::udp::{BATCH, Batch, Path, Ready, socket, with_batch};
use crate::proxy::http::choice::hash_of_address;
use crate::proxy::local::Local;
use crate::proxy::roster::Roster;
use crate::proxy::snapshot::ListenerEntry;
use crate::proxy::view::View;
use crate::upstream::{Endpoint, Link, LocalUpstream, NoLink};

/// Sessions that a sweep ends at a time: closing a socket takes a few microseconds.
const ENDS: usize = 256;

/// Once the load balancer ends, a session ends after so much silence.
const DRAIN_IDLE: Duration = Duration::from_secs(5);

/// Batches that are read at most of what waits when the load balancer ends.
const LAST_BATCHES: usize = 64;

/// A session's socket is read if so many slots are free; else they are emptied first.
const ENOUGH: usize = 8;

/// Of so many failures for want of resources, the first is told of.
const TOLD: u64 = 1000;

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
        draining: false,
        swept: 0,
        numbers: Vec::new(),
        paths: Vec::new(),
        answered: Vec::new(),
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
    /// Whether there are no new sessions any more.
    draining: bool,
    /// The session that the present sweep comes to next.
    swept: u32,
    /// Kept for their space: sessions with answers, where those go, and sessions that end with them.
    numbers: Vec<u32>,
    paths: Vec<Path>,
    answered: Vec<u32>,
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
        let front = socket::watch(socket)?;
        let back = self.ready.watch()?;
        let local = Rc::clone(&self.local);
        let mut sweep = pin!(sleep(Duration::ZERO));
        let mut handed_over = false;
        while !self.station.is_closed() && !(self.draining && self.sessions.is_empty()) {
            let station = Rc::clone(&self.station);
            let more = tokio::select! {
                ready = front.readable(), if !handed_over => {
                    let mut ready = ready?;
                    let more = clock::turn(|| self.from_clients());
                    // What comes after this look makes it ready again.
                    if !more {
                        ready.clear_ready();
                    }
                    more
                }
                ready = back.readable() => {
                    let mut ready = ready?;
                    let more = clock::turn(|| self.from_servers());
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
                () = station.changed() => false,
                () = local.drain.begun(), if !self.draining => {
                    handed_over = local.drain.handed_over();
                    self.drain(handed_over);
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

    /// Takes in no new clients from now on. Those are the last who have sent something, unless another process reads that.
    fn drain(&mut self, handed_over: bool) {
        if !handed_over {
            let more = |_: &usize| clock::turn(|| self.from_clients());
            _ = (0..LAST_BATCHES).take_while(more).count();
        }
        self.draining = true;
    }

    /// Passes on what clients have sent. Whether there is more.
    fn from_clients(&mut self) -> bool {
        let view = self.local.view();
        let scene = Scene::of(&view, self.station.listener(), self.local.worker);
        with_batch(|batch| {
            let (Some(scene), Ok(count)) = (scene, batch.receive_from(&*self.front, 0..BATCH))
            else {
                return false;
            };
            scene.stats.received.add(count as u64);
            scene.bytes.received.add(batch.bytes(0..count));
            let mut slot = 0;
            while slot < count {
                let path = batch.path(slot);
                // Those of one client are sent at once.
                let same = (slot + 1..count).take_while(|it| batch.path(*it) == path);
                let slots = slot..slot + 1 + same.count();
                slot = slots.end;
                if let Some(path) = path {
                    self.pass_on(&scene, batch, path, slots);
                }
            }
            count == BATCH
        })
    }

    /// Passes datagrams of one client on to its server.
    fn pass_on(&mut self, scene: &Scene<'_>, batch: &Batch, path: Path, slots: Range<usize>) {
        let number = match self.sessions.find(&path) {
            Some(number) => Ok(number),
            None => self.admit(scene, path, batch.datagram(slots.start)),
        };
        match number {
            Ok(number) => self.send(scene, batch, number, slots),
            Err(reason) => scene.stats.drop(reason, slots.len()),
        }
    }

    /// Begins a session for a client, if it may have one.
    fn admit(&mut self, scene: &Scene<'_>, path: Path, datagram: &[u8]) -> Result<u32, Dropped> {
        if self.draining {
            return Err(Dropped::Draining);
        }
        let permits = self.station.permits();
        let permit = permits.try_acquire_owned().map_err(|_| Dropped::Sessions)?;
        let mut counted = None;
        if let Some(table) = &scene.entry.per_address {
            counted = table.admit(path.peer.ip());
            if counted.is_none() {
                let stats = scene.entry.stats.shard(self.local.worker);
                stats.over_address_limit.increment();
                return Err(Dropped::Refused);
            }
        }
        self.open(scene, path, datagram, Admitted::new(permit, counted))
    }

    fn open(
        &mut self,
        scene: &Scene<'_>,
        path: Path,
        datagram: &[u8],
        admitted: Admitted,
    ) -> Result<u32, Dropped> {
        let ids = scene.settings.ids.as_ref();
        let known = ids.and_then(|ids| ids.find(datagram));
        let (upstream, link) = self.link(scene, path, known.as_ref().map(|(_, it)| it), None)?;
        let server = Arc::clone(&link.endpoint().shared);
        let listener = self.station.listener();
        let way = (upstream, link);
        let mut session = Session::begin(&self.local, listener, path, way, admitted);
        session.ids = ids.map(|ids| {
            let mut learned = Learned::new(ids);
            match known {
                Some((id, known)) if Arc::ptr_eq(&known, &server) => learned.adopt(id),
                _ => learned.called(datagram, &server),
            }
            Box::new(learned)
        });
        let number = self.sessions.insert(Box::new(session));
        self.listen_to(scene, number)?;
        Ok(number)
    }

    /// A way to a server for this client.
    fn link(
        &self,
        scene: &Scene<'_>,
        path: Path,
        preferred: Option<&Arc<Endpoint>>,
        avoided: Option<&Link>,
    ) -> Result<(Rc<LocalUpstream>, Link), Dropped> {
        let index = scene.entry.upstream.ok_or(Dropped::NoServer)?;
        let upstream = Rc::clone(&scene.view.upstreams[index]);
        let hashes = scene.view.snapshot.upstreams[index].hash.is_some();
        let mut pick = Pick {
            rng: &mut self.local.rng.borrow_mut(),
            now: clock::now().into_std(),
            hash: if hashes {
                hash_of_address(path.peer.ip())
            } else {
                0
            },
            retry: avoided.is_some(),
        };
        match upstream.link(&mut pick, preferred, avoided) {
            Ok(link) => Ok((upstream, link)),
            Err(NoLink::Nobody) => Err(Dropped::NoServer),
            Err(NoLink::Full) => Err(Dropped::ServersFull),
            Err(NoLink::Local(error)) => Err(exhausted(scene, &error)),
        }
    }

    /// Hears what the server of a session says from now on. A session that cannot ends.
    fn listen_to(&mut self, scene: &Scene<'_>, number: u32) -> Result<(), Dropped> {
        let session = self.sessions.get(number);
        let added = session.map_or(Ok(()), |it| self.ready.add(it.link(), number));
        added.map_err(|error| {
            self.end(number, End::Closed);
            exhausted(scene, &error)
        })
    }

    /// Sends datagrams to the server of a session, or to another if that one is lost.
    fn send(&mut self, scene: &Scene<'_>, batch: &Batch, number: u32, mut slots: Range<usize>) {
        let mut may_move = true;
        while !slots.is_empty() {
            let Some(session) = self.sessions.get_mut(number) else {
                return scene.stats.drop(Dropped::Resources, slots.len());
            };
            if may_move && session.link().is_lost() {
                may_move = false;
                self.relocate(scene, number);
                continue;
            }
            match batch.send(session.link(), slots.clone()) {
                Ok(sent) => {
                    let bytes = batch.bytes(slots.start..slots.start + sent);
                    session.asked(sent, bytes);
                    slots.start += sent;
                }
                // Nothing of it was sent: what ICMP has said is about something earlier.
                Err(error) if may_move && is_refused(&error) => session.link().refused(),
                Err(error) => {
                    scene.stats.drop(Dropped::of(&error), 1);
                    slots.start += 1;
                }
            }
        }
    }

    /// Moves a session to another server, if there is one.
    fn relocate(&mut self, scene: &Scene<'_>, number: u32) {
        let Some(session) = self.sessions.get(number) else {
            return;
        };
        let Ok((upstream, link)) = self.link(scene, session.path(), None, Some(session.link()))
        else {
            return;
        };
        scene.stats.moved.increment();
        if let Some(session) = self.sessions.get_mut(number) {
            session.move_to(upstream, link);
            let learned = scene.settings.ids.as_ref().map(Learned::new);
            session.ids = learned.map(Box::new);
        }
        // If that fails the session has ended, which the caller sees.
        _ = self.listen_to(scene, number);
    }

    /// Passes on what servers have sent. Whether there is more.
    fn from_servers(&mut self) -> bool {
        let view = self.local.view();
        let Some(scene) = Scene::of(&view, self.station.listener(), self.local.worker) else {
            return false;
        };
        self.numbers.clear();
        let mut more = self.ready.look(&mut self.numbers);
        with_batch(|batch| {
            for at in 0..self.numbers.len() {
                if self.paths.len() > BATCH - ENOUGH {
                    self.deliver(&scene, batch);
                }
                more |= self.receive(&scene, batch, self.numbers[at]);
            }
            self.deliver(&scene, batch);
        });
        while let Some(number) = self.answered.pop() {
            self.end(number, End::Answered);
        }
        more
    }

    /// Receives what the server of a session has sent into free slots. Whether there may be more.
    fn receive(&mut self, scene: &Scene<'_>, batch: &mut Batch, number: u32) -> bool {
        let Some(session) = self.sessions.get_mut(number) else {
            return false;
        };
        let first = self.paths.len();
        let count = match batch.receive(session.link(), first..BATCH) {
            Ok(count) => count,
            Err(error) => {
                if is_refused(&error) {
                    session.link().refused();
                }
                return false;
            }
        };
        let slots = first..first + count;
        if let Some(mut ids) = session.ids.take() {
            let server = &session.link().endpoint().shared;
            let datagrams = slots.clone().map(|slot| batch.datagram(slot));
            datagrams.for_each(|it| ids.answered(it, server));
            session.ids = Some(ids);
        }
        let path = session.path();
        if session.answered(count, batch.bytes(slots), scene.settings.responses) {
            self.answered.push(number);
        }
        self.paths.extend(std::iter::repeat_n(path, count));
        self.paths.len() == BATCH
    }

    /// Sends what has been received to the clients, and empties the slots.
    fn deliver(&mut self, scene: &Scene<'_>, batch: &Batch) {
        let mut slots = 0..self.paths.len();
        while !slots.is_empty() {
            match batch.send_to(&*self.front, slots.clone(), |slot| self.paths[slot]) {
                Ok(sent) => {
                    let bytes = batch.bytes(slots.start..slots.start + sent);
                    scene.stats.sent.add(sent as u64);
                    scene.bytes.sent.add(bytes);
                    slots.start += sent;
                }
                Err(error) => {
                    let reason = Dropped::of(&error);
                    let lost = match reason {
                        Dropped::BufferFull => slots.len(),
                        _ => 1,
                    };
                    scene.stats.drop(reason, lost);
                    slots.start += lost;
                }
            }
        }
        self.paths.clear();
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

/// Takes note of what cannot be done for want of something here.
fn exhausted(scene: &Scene<'_>, error: &io::Error) -> Dropped {
    let reason = Dropped::Resources;
    if scene.stats.dropped[reason as usize].get() % TOLD == 0 {
        let listener = &scene.entry.name;
        tracing::error!(%listener, %error, "a session cannot begin for want of resources here; of those to come one in 1,000 is told of");
    }
    reason
}
