//! A client's connection among those of its worker: what counts it for as long as it is open.

use std::rc::Rc;

use tokio::sync::OwnedSemaphorePermit;

use super::local::{Listener, Local};
use super::roster::Place;

/// What a connection has from when it is accepted, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    /// Where it waits for its time to be up.
    pub place: Place,
    /// Its worker's own.
    pub local: Rc<Local>,
    // 32 bits, because there may be a hundred thousand of these.
    listener: u32,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    /// A seat for one that `listener`, by its index in the snapshot, has accepted.
    pub fn new(local: Rc<Local>, listener: usize, permit: OwnedSemaphorePermit) -> Self {
        let stats = &local.listener(listener).stats;
        stats.shard(local.worker).open.increment();
        local.drain.enter();
        Self {
            place: local.roster.join(),
            listener: u32::try_from(listener).expect("listeners are few"),
            local,
            _permit: permit,
        }
    }

    /// The listener's index.
    pub fn index(&self) -> usize {
        self.listener as usize
    }

    /// The listener as it is now.
    pub fn listener(&self) -> Listener {
        self.local.listener(self.index())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let stats = &self.listener().stats;
        stats.shard(self.local.worker).open.decrement();
        self.local.roster.leave(self.place);
        self.local.drain.leave();
    }
}
