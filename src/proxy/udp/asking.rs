//! Clients of whom a store elsewhere has to be asked whether they may come in: what they sent first waits for the answer.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::spawn_local;

use crate::net::udp::Path;
use crate::proxy::entrance::{Admission, Question};
use crate::proxy::local::Local;

/// Bytes of datagrams that wait at most, each with some for its client.
const MOST: usize = 1 << 20;

/// What a client costs besides.
const EACH: usize = 512;

/// A new client.
#[derive(Debug)]
pub struct Newcomer {
    /// Who it is.
    pub path: Path,
    /// What it has sent first.
    pub datagram: Box<[u8]>,
    /// One of the listener's `max_connections`.
    pub permit: OwnedSemaphorePermit,
}

/// Those who wait, and those of whom the answer is there.
#[derive(Debug, Default)]
pub struct Asking {
    waiting: RefCell<HashSet<Path, foldhash::fast::RandomState>>,
    bytes: Cell<usize>,
    answered: RefCell<Vec<(Newcomer, Admission)>>,
    changed: Notify,
}

impl Asking {
    /// Whether this client waits.
    pub fn has(&self, path: &Path) -> bool {
        self.waiting.borrow().contains(path)
    }

    /// Asks. False if so many wait that this one cannot.
    pub fn ask(self: &Rc<Self>, local: &Rc<Local>, question: Question, newcomer: Newcomer) -> bool {
        let bytes = self.bytes.get() + newcomer.cost();
        if bytes > MOST {
            return false;
        }
        self.bytes.set(bytes);
        self.waiting.borrow_mut().insert(newcomer.path);
        let (this, local) = (Rc::clone(self), Rc::clone(local));
        spawn_local(async move {
            let admission = question.answer(&local).await;
            this.bytes.set(this.bytes.get() - newcomer.cost());
            this.waiting.borrow_mut().remove(&newcomer.path);
            this.answered.borrow_mut().push((newcomer, admission));
            this.changed.notify_one();
        });
        true
    }

    /// Resolves when there are answers.
    pub async fn answered(&self) {
        while self.answered.borrow().is_empty() {
            self.changed.notified().await;
        }
    }

    /// The answers.
    pub fn take(&self) -> Vec<(Newcomer, Admission)> {
        self.answered.take()
    }
}

impl Newcomer {
    fn cost(&self) -> usize {
        self.datagram.len() + EACH
    }
}
