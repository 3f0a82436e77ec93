//! From servers to clients.

use super::{Relay, Scene};
use crate::net::bandwidth::Direction;
use crate::net::udp::{BATCH, Batch, with_batch};
use crate::proxy::udp::stats::{Dropped, End, is_refused};

/// A session's socket is read if so many slots are free; else they are emptied first.
const ENOUGH: usize = 8;

impl Relay {
    /// Passes on what servers have sent. Whether there is more.
    pub(super) fn hear_servers(&mut self) -> bool {
        let view = self.local.view();
        let Some(scene) = Scene::of(&view, self.station.listener(), self.local.worker) else {
            return false;
        };
        self.numbers.clear();
        let mut more = self.ready.look(&mut self.numbers);
        with_batch(|batch| {
            for at in 0..self.numbers.len() {
                if self.filled > BATCH - ENOUGH {
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
        let first = self.filled;
        let count = match batch.receive(session.link(), first..BATCH) {
            Ok(count) => count,
            Err(error) => {
                let refused = is_refused(&error);
                if refused {
                    session.link().refused();
                }
                // What ICMP says is told first, and there may be answers behind it.
                return refused;
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
        let may_pass =
            |slot: &usize| session.may_pass(Direction::Download, batch.datagram(*slot).len());
        let within = slots.clone().filter(may_pass);
        let before = self.letters.len();
        self.letters.extend(within.map(|slot| (slot, path)));
        self.filled += count;
        let refused = count - (self.letters.len() - before);
        scene.stats.drop(Dropped::Bandwidth, refused);
        if session.answered(count, batch.bytes(slots), scene.settings.responses) {
            self.answered.push(number);
        }
        self.filled == BATCH
    }

    /// Sends what has been received to the clients, and empties the slots.
    fn deliver(&mut self, scene: &Scene<'_>, batch: &Batch) {
        let mut letters = &self.letters[..];
        while !letters.is_empty() {
            match batch.send_to(&*self.front, letters) {
                Ok(sent) => {
                    let (gone, rest) = letters.split_at(sent);
                    let bytes = gone.iter().map(|(slot, _)| batch.datagram(*slot).len());
                    scene.stats.sent.add(sent as u64);
                    scene.bytes.sent.add(bytes.sum::<usize>() as u64);
                    letters = rest;
                }
                Err(error) => {
                    let reason = Dropped::of(&error);
                    let lost = match reason {
                        Dropped::BufferFull => letters.len(),
                        _ => 1,
                    };
                    scene.stats.drop(reason, lost);
                    letters = &letters[lost..];
                }
            }
        }
        self.letters.clear();
        self.filled = 0;
    }
}
