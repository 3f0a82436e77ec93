//! A limit that a fleet agrees on without a server: each node counts for itself, and tells the others of keys that matter.
//!
//! ```text
//!  a request ─▶ hot? ── no ─▶ a part of the quota, one of as many as there are nodes ── half of it used ─╮
//!                │ yes                                                                                  │ candidate
//!                ▼                                    every turn: settle, grant        ╭────────────────▼──────────╮
//!              Slot: used < ceiling  ◀──────────────────────────────────────────────── │ Book, on the control thread │
//!                                                     counts and demand of hot keys ◀──▶ other nodes' books
//! ```
//!
//! On a request's way there is one look-up more than for a limit in memory, no lock and no clock. Whatever needs
//! thought happens on the control thread, [`ClusterStore::turn`] by turn and round by round; this module sends nothing
//! and receives nothing, but makes and takes the parts of messages.
//!
//! A key is cold until a node has used half of its own part. Only hot ones are told of and divided by demand: a key
//! that no node uses much cannot be near its limit.

mod account;
mod around;
mod book;
mod entry;
mod share;
mod slot;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use papaya::HashMap;

use self::book::Book;
pub use self::entry::{Head, MAX_PART};
use self::slot::Slot;
use super::bucket::TokenBucket;
use super::{Algorithm, LimitKey, MemoryStore, Quota, Verdict};
use crate::net::Moment;

/// Keys that wait to become hot. What comes beyond asks again with its next request.
const MAX_CANDIDATES: usize = 1024;

/// One limit's counts, shared with other nodes.
pub struct ClusterStore {
    head: Head,
    quota: Quota,
    /// All keys' parts are token buckets, whatever the algorithm: nothing is known of other nodes' windows there.
    bucket: TokenBucket,
    cold: MemoryStore,
    hot: HashMap<LimitKey, Arc<Slot>, RandomState>,
    /// How many nodes divide a cold key.
    nodes: AtomicU32,
    candidates: SyncSender<LimitKey>,
    book: Mutex<Book>,
}

impl ClusterStore {
    /// The counts of the limit `name`, with room for `max_keys` keys and a clock that begins at `start`. Until the first
    /// turn it counts for itself alone, or for one [`among`](Self::among) others.
    pub fn new(name: &str, quota: Quota, max_keys: usize, start: Instant) -> Self {
        Self::with_random(name, quota, max_keys, start, fastrand::Rng::new())
    }

    fn with_random(
        name: &str,
        quota: Quota,
        max_keys: usize,
        start: Instant,
        random: fastrand::Rng,
    ) -> Self {
        let as_bucket = Quota {
            algorithm: Algorithm::TokenBucket,
            burst: quota.capacity().try_into().unwrap_or(quota.requests),
            ..quota
        };
        let (candidates, waiting) = sync_channel(MAX_CANDIDATES);
        Self {
            head: Head::of(name, &quota),
            quota,
            bucket: TokenBucket::new(&as_bucket),
            cold: MemoryStore::new(&as_bucket, max_keys, start),
            hot: HashMap::with_hasher(RandomState::default()),
            nodes: AtomicU32::new(1),
            candidates,
            book: Mutex::new(Book::new(&quota, waiting, random)),
        }
    }

    /// Gives no more than one part of so many until the first turn tells how many nodes there are.
    #[must_use]
    pub fn among(self, nodes: u32) -> Self {
        self.nodes.store(nodes.max(1), Relaxed);
        self
    }

    /// How many nodes divide a cold key.
    pub fn nodes(&self) -> u32 {
        self.nodes.load(Relaxed)
    }

    /// Counts one request of `key` if this node may admit it. Called by workers.
    pub fn check(&self, key: &LimitKey, now: Instant) -> Verdict {
        if let Some(slot) = self.hot.pin().get(key) {
            return slot.take();
        }
        let nodes = self.nodes.load(Relaxed);
        let verdict = self.cold.check_bucket(key, now, self.bucket, nodes);
        let half = self.quota.capacity() / 2;
        let is_candidate = match verdict {
            Verdict::Allow { remaining, .. } => {
                // Only the one request that takes the middle: a key need not be told of twice.
                remaining <= half && remaining.saturating_add(nodes) > half
            }
            Verdict::Deny { .. } => true,
        };
        if is_candidate {
            _ = self.candidates.try_send(*key); // or when one is denied
        }
        verdict
    }

    /// What its lists begin with.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The cold keys.
    pub fn cold(&self) -> &MemoryStore {
        &self.cold
    }

    /// How many keys are hot.
    pub fn hot(&self) -> usize {
        self.hot.len()
    }

    /// Goes on without the fleet, for a process that another one has replaced: it can neither tell nor be told any longer
    /// what is used. All keys are cold from now on, each with one part of the quota, of as many as there are nodes
    /// now. Turns, rounds and what others tell have no effect any more.
    pub fn retire(&self) {
        self.book().retire(self);
    }

    /// Settles what the workers have admitted and grants anew. Gives what other nodes should know at once. To be called
    /// each [`TURN`](crate::net::moment::TURN).
    pub fn turn(&self, moment: &Moment<'_>) -> Vec<Vec<u8>> {
        let mut book = self.book();
        if book.is_retired() {
            return Vec::new();
        }
        let entries = book.turn(self, moment);
        self.nodes.store(book.around().nodes(), Relaxed);
        match entries.is_empty() {
            true => Vec::new(),
            false => self.write(&book, &entries),
        }
    }

    /// Gives what other nodes are told in a round.
    pub fn round(&self, moment: &Moment<'_>) -> Vec<Vec<u8>> {
        let mut book = self.book();
        if book.is_retired() {
            return Vec::new();
        }
        let entries = book.round(moment);
        self.write(&book, &entries)
    }

    /// Takes a list of another node. False if it is none.
    pub fn hear(&self, peer: u64, part: &[u8], moment: &Moment<'_>) -> bool {
        let entries = entry::read(self.quota.algorithm, part);
        let Some((head, entries)) = Head::read(part).zip(entries) else {
            return false;
        };
        let mut book = self.book();
        if !book.is_retired() {
            book.hear(self, peer, head, &entries, moment);
        }
        true
    }

    /// The nodes whose quota is another one.
    pub fn differing(&self) -> Vec<u64> {
        self.book().around().differing(self.head.quota)
    }

    /// What this node has used of a key's cold part: what was taken of it is that, times the number of nodes.
    fn used_cold(&self, key: &LimitKey, now: Instant) -> u64 {
        let taken = self.cold.taken(key, now, self.bucket);
        (taken / f64::from(self.nodes.load(Relaxed))).round() as u64
    }

    fn write(&self, book: &Book, entries: &[entry::Entry]) -> Vec<Vec<u8>> {
        entry::write(self.head, self.quota.algorithm, book.index(), entries)
    }

    /// No worker ever takes this lock.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut this = f.debug_struct("ClusterStore");
        this.field("head", &self.head).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
