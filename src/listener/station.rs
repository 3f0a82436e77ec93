//! Whose connections a worker's socket accepts, which a new configuration may change.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

/// What the task of a socket is to know.
#[derive(Debug)]
pub struct Station {
    listener: Cell<usize>,
    permits: RefCell<Arc<Semaphore>>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Station {
    /// A socket of `listener`, by its index in the snapshot, whose connections take these permits.
    pub fn new(listener: usize, permits: Arc<Semaphore>) -> Self {
        Self {
            listener: Cell::new(listener),
            permits: RefCell::new(permits),
            closed: Cell::new(false),
            changed: Notify::new(),
        }
    }

    /// Belongs to this listener from now on.
    pub fn sit(&self, listener: usize, permits: Arc<Semaphore>) {
        let same_permits = Arc::ptr_eq(&self.permits.borrow(), &permits);
        if same_permits && self.listener.get() == listener {
            return;
        }
        self.listener.set(listener);
        self.permits.replace(permits);
        self.changed.notify_waiters();
    }

    /// Has the socket closed.
    pub fn close(&self) {
        self.closed.set(true);
        self.changed.notify_waiters();
    }

    /// Whether the socket is to be closed.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The listener's index in the snapshot.
    pub fn listener(&self) -> usize {
        self.listener.get()
    }

    /// The listener's `max_connections`, shared with all workers.
    pub fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits.borrow())
    }

    /// Resolves when any of it has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
