//! Requests that wait because every server has as many as it may: bounded, fair, and the most important first.
//!
//! ```text
//!              no room             its turn              has got a server
//!  a request ──────────▶ waiting ───────────▶ called ───────────────────────▶ served
//!                          │  ▲                  │ somebody was faster, so no room
//!                 overdue, │  └──────────────────┘
//!              shed, gone  ▼
//! ```
//! All workers of an upstream share one queue behind a lock, which only those who wait take, and those who end a request
//! while somebody waits. When nobody does, the queue costs one load where a request begins and one where it ends.
//!
//! **No call is lost.** Who waits first enters (the count of those who wait goes up), and then looks at all servers once
//! more. Who ends a request first lowers the server's count, and then looks at the count of those who wait. All four are
//! sequentially consistent: either the one sees the free slot, or the other sees that somebody waits, and calls whose
//! turn it is. A call goes on to the next if the one who was called leaves without taking the slot; and whoever has taken
//! one looks once more whether there is room for others. Calls that find no room put their request back where it was.
//! Newcomers do not pass those who wait: while the count is not 0 they join them.

mod lines;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use self::lines::{Client, Lines, Place};

pub use self::lines::Priority;

/// How many may wait, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Requests over all workers; 0 has none wait.
    pub size: usize,
    /// How long a request waits at most.
    pub timeout: Duration,
}

impl Default for Settings {
    /// 1024 for a second.
    fn default() -> Self {
        Self {
            size: 1024,
            timeout: Duration::from_secs(1),
        }
    }
}

/// A request that may have to wait.
#[derive(Debug, Clone, Copy)]
pub struct Waiter {
    /// Its client; clients take turns.
    pub client: IpAddr,
    /// How much it matters.
    pub priority: Priority,
}

/// Why a request that waited got no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There was no room to wait, or somebody came who needed it more.
    Shed,
    /// It waited for as long as it may.
    Overdue,
    /// No server is eligible any more.
    Nobody,
}

/// What is said to one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// There may be room: take it.
    Come,
    /// Leave.
    Leave,
}

/// The requests that wait for an upstream's servers.
#[derive(Debug, Default)]
pub struct Queue {
    /// How many are in the queue or called: the only thing that others than those who wait look at.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Lines<oneshot::Sender<Word>>,
    /// How many have been called, and have neither taken a slot nor left.
    called: usize,
    arrived: u64,
}

impl State {
    /// Calls whose turn it is; false if nobody waits.
    fn call(&mut self) -> bool {
        while let Some((_, sender)) = self.lines.pop() {
            // Without its receiver it has gone. That cannot be seen here: it takes itself out before.
            if sender.send(Word::Come).is_ok() {
                self.called += 1;
                return true;
            }
        }
        false
    }
}

impl Queue {
    /// Whether anybody waits.
    pub fn is_used(&self) -> bool {
        self.waiting.load(SeqCst) != 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        !self.is_used()
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // A panic would have to come from the collections: every change is whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        self.waiting.store(state.lines.len() + state.called, SeqCst);
        result
    }

    /// Joins those who wait, of whom there may be `size`; `None` if there is no room. To be followed by
    /// [`call_as_many_as`](Self::call_as_many_as).
    pub(super) fn enter(self: &Arc<Self>, waiter: Waiter, size: usize) -> Option<Ticket> {
        let client = Client::new(waiter.client);
        let (sender, word) = oneshot::channel();
        let place = self.change(|state| {
            if size == 0 {
                return None;
            }
            if state.lines.len() >= size {
                let shed = state.lines.make_room(waiter.priority, client)?;
                _ = shed.send(Word::Leave);
            }
            state.arrived += 1;
            let place = Place {
                priority: waiter.priority,
                client,
                number: state.arrived,
            };
            state.lines.push(place, sender);
            Some(place)
        })?;
        Some(Ticket {
            queue: Arc::clone(self),
            place,
            word,
            standing: Standing::Waiting,
        })
    }

    /// A slot has become free.
    pub(super) fn call_one(&self) {
        self.change(State::call);
    }

    /// Calls as many as find room, less those who are called already. `room` counts the free slots, up to as many as it
    /// is given.
    pub(super) fn call_as_many_as(&self, room: impl FnOnce(usize) -> usize) {
        self.change(|state| {
            let room = room(state.called + state.lines.len());
            while state.called < room && state.call() {}
        });
    }
}

/// A request's place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Arc<Queue>,
    place: Place,
    word: oneshot::Receiver<Word>,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Called,
    Out,
}

impl Ticket {
    /// Waits for a word. After [`Word::Come`] one of [`served`](Self::served), [`again`](Self::again) and dropping has
    /// to follow.
    pub(super) async fn called(&mut self) -> Word {
        // Who lets go of the sender without a word is the queue itself when it ends.
        let word = (&mut self.word).await.unwrap_or(Word::Leave);
        self.standing = match word {
            Word::Come => Standing::Called,
            Word::Leave => Standing::Out,
        };
        word
    }

    /// It has taken a slot.
    pub(super) fn served(mut self) {
        self.standing = Standing::Out;
        self.queue.change(|state| state.called -= 1);
    }

    /// Somebody else was faster: it goes back to where it was.
    pub(super) fn again(&mut self) {
        let (sender, word) = oneshot::channel();
        self.word = word;
        self.standing = Standing::Waiting;
        self.queue.change(|state| {
            state.called -= 1;
            state.lines.push_front(self.place, sender);
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.standing == Standing::Out {
            return;
        }
        self.queue.change(|state| {
            if self.standing == Standing::Waiting {
                if state.lines.remove(&self.place).is_some() {
                    return;
                }
                // It is not in the lines: somebody has said a word that it has not heard.
                if self.word.try_recv() != Ok(Word::Come) {
                    return;
                }
            }
            state.called -= 1;
            state.call();
        });
    }
}

#[cfg(test)]
mod tests;
