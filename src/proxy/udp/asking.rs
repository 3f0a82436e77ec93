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
    /// Those of whom the answer has not been taken yet.
    waiting: RefCell<HashSet<Path, foldhash::fast::RandomState>>,
    bytes: Cell<usize>,
    answered: RefCell<Vec<(Newcomer, Admission)>>,
    changed: Notify,
}

impl Asking {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Whether this client waits.
    pub fn has(&self, path: &Path) -> bool {
        self.waiting.borrow().contains(path)
    }

    /// Asks. False if so many wait that this one cannot.
    pub fn ask(self: &Rc<Self>, local: &Rc<Local>, question: Question, newcomer: Newcomer) -> bool {
        if !self.keep(&newcomer) {
            return false;
        }
        let (this, local) = (Rc::clone(self), Rc::clone(local));
        spawn_local(async move {
            let admission = question.answer(&local).await;
            this.answer(newcomer, admission);
        });
        true
    }

    /// Has somebody wait, if there is room.
    fn keep(&self, newcomer: &Newcomer) -> bool {
        let bytes = self.bytes.get() + newcomer.cost();
        if bytes > MOST {
            return false;
        }
        self.bytes.set(bytes);
        self.waiting.borrow_mut().insert(newcomer.path);
        true
    }

    fn answer(&self, newcomer: Newcomer, admission: Admission) {
        self.answered.borrow_mut().push((newcomer, admission));
        self.changed.notify_one();
    }

    /// Resolves when there are answers.
    pub async fn answered(&self) {
        while self.answered.borrow().is_empty() {
            self.changed.notified().await;
        }
    }

    /// The answers. Whom they are about waits no more, so that he has to get his session at once: he would be asked about
    /// again with his next datagram.
    pub fn take(&self) -> Vec<(Newcomer, Admission)> {
        let answered = self.answered.take();
        let mut waiting = self.waiting.borrow_mut();
        for (newcomer, _) in &answered {
            self.bytes.set(self.bytes.get() - newcomer.cost());
            waiting.remove(&newcomer.path);
        }
        answered
    }
}

impl Newcomer {
    fn cost(&self) -> usize {
        self.datagram.len() + EACH
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn newcomer(port: u16, length: usize) -> Newcomer {
        Newcomer {
            path: Path {
                peer: ([192, 0, 2, 1], port).into(),
                local: None,
            },
            datagram: vec![0; length].into(),
            permit: std::sync::Arc::new(Semaphore::new(1))
                .try_acquire_owned()
                .unwrap(),
        }
    }

    #[test]
    fn a_client_waits_until_its_answer_is_taken() {
        let asking = Asking::default();
        let path = newcomer(1, 100).path;
        assert!(asking.keep(&newcomer(1, 100)));
        assert!(asking.has(&path) && !asking.is_empty());
        asking.answer(newcomer(1, 100), Ok(None));
        assert!(asking.has(&path), "it has no session yet");
        assert_eq!(asking.take().len(), 1);
        assert!(!asking.has(&path) && asking.is_empty());
        assert_eq!(asking.bytes.get(), 0);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let asking = Asking::default();
        let fits = |port: &u16| asking.keep(&newcomer(*port, 60_000));
        assert_eq!((1..100).take_while(fits).count(), MOST / (60_000 + EACH));
        asking.answer(newcomer(1, 60_000), Ok(None));
        assert!(!asking.keep(&newcomer(100, 60_000)), "its bytes are there");
        asking.take();
        assert!(asking.keep(&newcomer(100, 60_000)));
    }
}
