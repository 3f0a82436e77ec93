//! From clients to servers: whose session it is, whether a new one may begin, and where it goes.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::{Relay, Scene};
use crate::balance::Pick;
use crate::net::bandwidth::Direction;
use crate::net::clock;
use crate::net::udp::{BATCH, Batch, Path, with_batch};
use crate::proxy::bandwidth;
use crate::proxy::entrance::{self, Asked, Refused};
use crate::proxy::http::choice::hash_of_address;
use crate::proxy::udp::asking::Newcomer;
use crate::proxy::udp::ids::Learned;
use crate::proxy::udp::session::{Admitted, Session};
use crate::proxy::udp::stats::{Dropped, End, is_refused};
use crate::upstream::{Endpoint, Link, LocalUpstream, NoLink};

/// What becomes of a new client's datagrams for which there is no session yet.
enum Asks {
    /// The first waits while somebody is asked.
    Now,
    /// They are dropped.
    Not(Dropped),
}

impl From<Dropped> for Asks {
    fn from(reason: Dropped) -> Self {
        Self::Not(reason)
    }
}

impl Relay {
    /// Passes on what clients have sent. Whether there is more.
    pub(super) fn hear_clients(&mut self) -> bool {
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
        if let Some(number) = self.sessions.find(&path) {
            return self.send(scene, batch, number, slots);
        }
        match self.admit(scene, path, batch.datagram(slots.start)) {
            Ok(number) => self.send_first(scene, batch, number, slots),
            // The first is kept.
            Err(Asks::Now) => scene.stats.drop(Dropped::Asking, slots.len() - 1),
            Err(Asks::Not(reason)) => scene.stats.drop(reason, slots.len()),
        }
    }

    /// Begins a session for a client, if it may have one and that is known.
    fn admit(&mut self, scene: &Scene<'_>, path: Path, datagram: &[u8]) -> Result<u32, Asks> {
        if self.draining {
            return Err(Dropped::Draining.into());
        }
        if self.asking.has(&path) {
            return Err(Dropped::Asking.into());
        }
        let permits = self.station.permits();
        let permit = permits.try_acquire_owned().map_err(|_| Dropped::Sessions)?;
        match entrance::ask(&self.local, self.station.listener(), path.peer.ip()) {
            Asked::Answered(Ok(counted)) => {
                let admitted = Admitted::new(permit, counted);
                Ok(self.open(scene, path, datagram, admitted)?)
            }
            Asked::Answered(Err(Refused)) => Err(Dropped::Refused.into()),
            Asked::Undecided(question) => {
                let newcomer = Newcomer {
                    path,
                    datagram: datagram.into(),
                    permit,
                };
                match self.asking.ask(&self.local, question, newcomer) {
                    true => Err(Asks::Now),
                    false => Err(Dropped::Asking.into()),
                }
            }
        }
    }

    /// Begins sessions for those who may come in, as it has turned out.
    pub(super) fn let_in(&mut self) {
        let view = self.local.view();
        let answered = self.asking.take();
        let Some(scene) = Scene::of(&view, self.station.listener(), self.local.worker) else {
            return;
        };
        for (newcomer, admission) in answered {
            let Newcomer {
                path,
                datagram,
                permit,
            } = newcomer;
            let opened = match admission {
                // While the load balancer ends, too: whoever came later was not asked about.
                Ok(counted) => {
                    let admitted = Admitted::new(permit, counted);
                    self.open(&scene, path, &datagram, admitted)
                }
                Err(Refused) => Err(Dropped::Refused),
            };
            match opened {
                Ok(number) => with_batch(|batch| {
                    batch.put(0, &datagram);
                    self.send_first(&scene, batch, number, 0..1);
                }),
                Err(reason) => scene.stats.drop(reason, 1),
            }
        }
    }

    fn open(
        &mut self,
        scene: &Scene<'_>,
        path: Path,
        datagram: &[u8],
        admitted: Admitted,
    ) -> Result<u32, Dropped> {
        // A socket would be much for what is dropped.
        let (limits, client) = (&scene.entry.bandwidth, path.peer.ip());
        if bandwidth::is_over(limits, client, Direction::Upload, datagram.len()) {
            return Err(Dropped::Bandwidth);
        }
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
            Err(NoLink::Local(error)) => Err(self.exhausted(scene, &error)),
        }
    }

    /// Hears what the server of a session says from now on. A session that cannot ends.
    fn listen_to(&mut self, scene: &Scene<'_>, number: u32) -> Result<(), Dropped> {
        let session = self.sessions.get(number);
        let added = session.map_or(Ok(()), |it| self.ready.add(it.link(), number));
        added.map_err(|error| {
            self.end(number, End::Closed);
            self.exhausted(scene, &error)
        })
    }

    /// Sends the first datagrams of a session, which ends at once if none of them can be sent: it would be there for nothing,
    /// and others for whom there is no room then would not.
    fn send_first(&mut self, scene: &Scene<'_>, batch: &Batch, number: u32, slots: Range<usize>) {
        self.send(scene, batch, number, slots);
        if self.sessions.get(number).is_some_and(Session::is_unused) {
            self.end(number, End::Unsent);
        }
    }

    /// Sends datagrams to the server of a session, as far as its bandwidth allows.
    fn send(&mut self, scene: &Scene<'_>, batch: &Batch, number: u32, mut slots: Range<usize>) {
        while !slots.is_empty() {
            let Some(session) = self.sessions.get(number) else {
                return scene.stats.drop(Dropped::Resources, slots.len());
            };
            let may_pass =
                |slot: &usize| session.may_pass(Direction::Upload, batch.datagram(*slot).len());
            let within = slots.clone().take_while(may_pass).count();
            let refused = slots.start + within;
            self.transmit(scene, batch, number, slots.start..refused);
            if refused < slots.end {
                scene.stats.drop(Dropped::Bandwidth, 1);
            }
            slots.start = slots.end.min(refused + 1);
        }
    }

    /// Sends datagrams to the server of a session, or to another if that one is lost.
    fn transmit(&mut self, scene: &Scene<'_>, batch: &Batch, number: u32, mut slots: Range<usize>) {
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

    /// Takes note of what cannot be done for want of something here.
    fn exhausted(&self, scene: &Scene<'_>, error: &io::Error) -> Dropped {
        if self.told.is_due() {
            let listener = &scene.entry.name;
            tracing::error!(%listener, %error, "there is no way to a server for want of resources here; this is told of once a second at most");
        }
        Dropped::Resources
    }
}
