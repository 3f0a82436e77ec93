//! The in-memory store: one limit's counts, shared by all workers of the process.
//!
//! On the way of a request there is no lock: a concurrent map finds the key's cell, and one compare-and-swap updates
//! it (see `cell`). Memory is bounded: a key takes a cell only while there are fewer than `max_keys`, and what comes
//! beyond shares a fixed array of overflow cells, so a flood of addresses can neither grow the process nor go
//! unlimited. A control task calls [`MemoryStore::sweep`] to give cells back.
//!
//! # A sweep meets a request
//! A request may hold a cell that a sweep is about to remove, and what it counts there would be lost. So a sweep first
//! retires the cell: one compare-and-swap from a state that has run out to a mark that no request overwrites. Either
//! the request was first, then the sweep's exchange fails and the cell lives on; or the sweep was, then the request
//! sees the mark, removes the retired cell itself and starts over with a new one. Nothing is lost.

mod cell;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use foldhash::fast::RandomState;
use papaya::{HashMap, HashMapRef, LocalGuard};

use self::cell::{Cell, Ledger};
use super::bucket::TokenBucket;
use super::{LimitKey, Quota, Verdict};

/// Keys that a store holds by default. A key takes about 50 bytes.
pub const DEFAULT_MAX_KEYS: usize = 1_000_000;

/// Cells that keys share once the store is full. A request of such a key may be denied for another one's sake.
const OVERFLOW_CELLS: usize = 4096;
/// The map comes in this many parts, so that a sweep can do a few at a time and a resize moves only one of them.
const SHARDS: usize = 64;
/// A sweep ends after the shard in which it has seen this many keys. A key costs a cache miss or two, so that this is a
/// few milliseconds of the control thread; a full store of a million keys is seen once a minute, a smaller one sooner.
const SWEEP_KEYS: usize = 10_000;

type Shard = HashMap<LimitKey, Cell, RandomState>;
type PinnedShard<'a> = HashMapRef<'a, LimitKey, Cell, RandomState, LocalGuard<'a>>;

/// One limit's counts in this process.
pub struct MemoryStore {
    ledger: Ledger,
    start: Instant,
    max_keys: usize,
    /// Keys in all shards. Not exact while workers race: the bound may be passed by one key a worker.
    keys: AtomicUsize,
    shards: Box<[Shard]>,
    overflow: Box<[Cell]>,
    /// Chooses the shard and the overflow cell. Its seed is not the maps' own, in which a shard's keys would otherwise
    /// crowd; and it is random, so that no client can choose whom it shares a cell with.
    placement: RandomState,
    next_shard: AtomicUsize,
}

impl MemoryStore {
    /// A store for at most `max_keys` keys ([`DEFAULT_MAX_KEYS`]) whose clock begins at `start`.
    pub fn new(quota: &Quota, max_keys: usize, start: Instant) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::with_hasher(RandomState::default()));
        Self {
            ledger: Ledger::new(quota),
            start,
            max_keys,
            keys: AtomicUsize::new(0),
            shards: shards.collect(),
            overflow: (0..OVERFLOW_CELLS).map(|_| Cell::default()).collect(),
            placement: RandomState::default(),
            next_shard: AtomicUsize::new(0),
        }
    }

    /// Counts one request of `key` if its quota allows. Allocates only for a key that is not in the store.
    pub fn check(&self, key: &LimitKey, now: Instant) -> Verdict {
        let now = self.nanos(now);
        self.check_by(key, |word| self.ledger.check(word, now))
    }

    /// The same for a token bucket by the weight of a request: see [`TokenBucket::check_weighted`].
    pub(super) fn check_bucket(
        &self,
        key: &LimitKey,
        now: Instant,
        bucket: TokenBucket,
        weight: u32,
    ) -> Verdict {
        let now = self.nanos(now);
        self.check_by(key, |tat| bucket.check_weighted(tat, now, weight))
    }

    /// How many tokens of a key's bucket are missing.
    pub(super) fn taken(&self, key: &LimitKey, now: Instant, bucket: TokenBucket) -> f64 {
        let place = self.placement.hash_one(key) as usize;
        let shard = self.shards[place % SHARDS].pin();
        let tat = shard.get(key).and_then(Cell::state);
        bucket.taken(tat.unwrap_or_default(), self.nanos(now))
    }

    fn check_by(&self, key: &LimitKey, rule: impl Fn(u64) -> (u64, Verdict)) -> Verdict {
        let place = self.placement.hash_one(key) as usize;
        let shard = self.shards[place % SHARDS].pin();
        loop {
            let cell = shard.get(key);
            let cell = cell.or_else(|| self.insert(&shard, *key));
            let Some(cell) = cell else {
                return self.check_overflow(place / SHARDS, rule);
            };
            if let Some(verdict) = cell.check_by(&rule) {
                return verdict;
            }
            self.remove(&shard, key);
        }
    }

    /// Gives back the cells of keys whose state has run out, and returns how many those were. Meant to be called once
    /// a second; a call looks at a bounded number of keys, the next one goes on from there.
    pub fn sweep(&self, now: Instant) -> usize {
        let now = self.nanos(now);
        for cell in &self.overflow {
            cell.clear(&self.ledger, now);
        }
        let (mut seen, mut removed) = (0, 0);
        for _ in 0..SHARDS {
            let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let shard = self.shards[index].pin();
            for (key, cell) in &shard {
                seen += 1;
                if cell.retire(&self.ledger, now) && self.remove(&shard, key) {
                    removed += 1;
                }
            }
            if seen >= SWEEP_KEYS {
                break;
            }
        }
        removed
    }

    /// How many keys have a cell of their own.
    pub fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Whether no key has a cell of its own.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `None` when the store is full.
    #[cold]
    fn insert<'a>(&self, shard: &'a PinnedShard<'_>, key: LimitKey) -> Option<&'a Cell> {
        if self.len() >= self.max_keys {
            return None;
        }
        Some(match shard.try_insert_with(key, Cell::default) {
            Ok(cell) => {
                self.keys.fetch_add(1, Ordering::Relaxed);
                cell
            }
            Err(cell) => cell,
        })
    }

    /// Removes `key` if its cell has been retired; a new cell that has taken its place stays.
    #[cold]
    fn remove(&self, shard: &PinnedShard<'_>, key: &LimitKey) -> bool {
        let removed = matches!(
            shard.remove_if(key, |_, cell| cell.is_retired()),
            Ok(Some(_))
        );
        if removed {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn check_overflow(&self, place: usize, rule: impl Fn(u64) -> (u64, Verdict)) -> Verdict {
        self.overflow[place % OVERFLOW_CELLS]
            .check_by(rule)
            .expect("overflow cells are cleared, never retired")
    }

    fn nanos(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
