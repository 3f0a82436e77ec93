//! The leased Redis store: a worker has Redis count requests ahead of time, and admits them without asking it.
//!
//! ```text
//!   request ──▶ lease of its key ──▶ admitted, or denied as Redis said
//!                  │      │ is running low: asks for the next one in the background
//!                  │ nothing left, and nothing said: the request waits for the answer, within the timeout
//!                  ▼
//!               RedisStore::take ──▶ lease, or a denial that is remembered
//! ```
//! What nobody has used after a while goes back ([`lease`]), in the background too. What a lease is, and what bounds follow,
//! is in docs/configuration.md. The number of leases is bounded; the requests of further keys ask Redis one by one.

mod lease;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::time::{self, sleep, timeout_at};

use self::lease::{Lease, Terms, Unused};
use super::redis::{Count, Grant, look_again};
use super::{LimitKey, Quota, RedisStore, StoreError, Verdict};

/// Keys that a worker has leases of. A key takes about 150 bytes.
const MAX_KEYS: usize = 50_000;
/// Leases that one look settles.
const SWEEP_KEYS: usize = 10_000;
/// Between two looks for leases that are due; a half of their hold where that is shorter.
const MAX_TICK: Duration = Duration::from_millis(500);
/// What waits to be given back; what comes beyond lapses with its window.
const MAX_UNUSED: usize = 10_000;
/// How many keys are given back at the same time. Checks go first: a connection has room for many more.
const MAX_GIVERS: usize = 64;

/// What the leases of a limit came to, on all workers.
#[derive(Debug, Default)]
pub struct LeaseStats {
    /// Questions that were sent to Redis.
    pub taken: Count,
    /// Requests that it has counted for these.
    pub requests: Count,
    /// Requests of them that were given back to it.
    pub returned: Count,
    /// Requests of them that were neither made nor given back; and those of questions without an answer, which Redis may
    /// have counted.
    pub lapsed: Count,
}

/// One limit's counts in Redis, leased by one worker.
pub struct LeasedStore {
    redis: RedisStore,
    terms: Terms,
    stats: Arc<LeaseStats>,
    leases: RefCell<HashMap<LimitKey, Lease, RandomState>>,
    /// The questions that are on their way.
    questions: RefCell<HashMap<LimitKey, Rc<Question>, RandomState>>,
    /// All keys of `leases`, those to be looked at first in front.
    keys: RefCell<VecDeque<LimitKey>>,
    unused: RefCell<VecDeque<(LimitKey, Unused)>>,
    /// Tasks that give back what is in `unused`.
    givers: Cell<usize>,
    is_sweeping: Cell<bool>,
}

/// A question to Redis for one key.
#[derive(Default)]
struct Question {
    /// Requests that wait for the answer.
    needed: Cell<u32>,
    answered: Notify,
    has_failed: Cell<bool>,
    /// What those are told for whom nothing is left.
    denied: Cell<Option<Duration>>,
}

impl LeasedStore {
    /// The counts of `redis`, of which no lease holds more than `max` requests, but for those that wait for it.
    pub fn new(redis: RedisStore, quota: &Quota, max: u32, stats: Arc<LeaseStats>) -> Rc<Self> {
        Rc::new(Self {
            redis,
            terms: Terms::new(quota, max),
            stats,
            leases: RefCell::default(),
            questions: RefCell::default(),
            keys: RefCell::default(),
            unused: RefCell::default(),
            givers: Cell::new(0),
            is_sweeping: Cell::new(false),
        })
    }

    /// The verdict if it can be had without waiting: from the key's lease, or because Redis has said that nothing is left.
    /// `None` has counted nothing: go on to [`check`](Self::check).
    pub fn check_local(self: &Rc<Self>, key: &LimitKey, now: Instant) -> Option<Verdict> {
        let mut leases = self.leases.borrow_mut();
        let lease = leases.get_mut(key)?;
        self.settle(key, lease, now);
        let verdict = lease.take(now)?;
        if let Some(wanted) = lease.runs_out(now, &self.terms) {
            lease.is_asking = true;
            self.ask(*key, wanted);
        }
        Some(verdict)
    }

    /// Counts one request of `key` if its quota allows. Does not take much longer than the Redis connection's timeout.
    ///
    /// # Errors
    /// When Redis gives no verdict; at once when it is known to be down.
    pub async fn check(
        self: &Rc<Self>,
        key: &LimitKey,
        now: Instant,
    ) -> Result<Verdict, StoreError> {
        let limit = self.redis.timeout();
        let deadline = time::Instant::now() + limit;
        let mut now = now;
        loop {
            if let Some(verdict) = self.check_local(key, now) {
                return Ok(verdict);
            }
            if time::Instant::now() >= deadline {
                return Err(StoreError::Timeout(limit));
            }
            let Some(question) = self.question(key, now) else {
                return self.redis.check(key).await;
            };
            question.needed.set(question.needed.get().saturating_add(1));
            let mut answered = pin!(question.answered.notified());
            if timeout_at(deadline, answered.as_mut()).await.is_err()
                && look_again(answered).await.is_none()
            {
                return Err(StoreError::Timeout(limit));
            }
            if question.has_failed.get() {
                return Err(StoreError::Unavailable);
            }
            now = time::Instant::now().into_std();
            // Redis may have something again by now, but who comes first is not who waits longest.
            if let Some(retry_after) = question.denied.get() {
                let verdict = self.check_local(key, now);
                return Ok(verdict.unwrap_or(Verdict::Deny { retry_after }));
            }
        }
    }

    /// Whether the Redis that counts `key` is known to be down.
    pub fn is_down(&self, key: &LimitKey) -> bool {
        self.redis.is_down(key)
    }

    /// The question for the key, which may be on its way already; `None` if there are too many keys.
    fn question(self: &Rc<Self>, key: &LimitKey, now: Instant) -> Option<Rc<Question>> {
        if let Some(question) = self.questions.borrow().get(key) {
            return Some(Rc::clone(question));
        }
        let mut leases = self.leases.borrow_mut();
        if !leases.contains_key(key) {
            if leases.len() >= MAX_KEYS {
                return None;
            }
            self.keys.borrow_mut().push_back(*key);
            self.start_sweeping();
        }
        let lease = leases.entry(*key).or_insert_with(|| Lease::new(now));
        lease.is_asking = true;
        Some(self.ask(*key, 1))
    }

    /// Asks Redis in the background.
    fn ask(self: &Rc<Self>, key: LimitKey, wanted: u32) -> Rc<Question> {
        let question = Rc::new(Question::default());
        self.questions
            .borrow_mut()
            .insert(key, Rc::clone(&question));
        tokio::task::spawn_local(answer(Rc::clone(self), key, wanted, Rc::clone(&question)));
        question
    }

    fn settle(&self, key: &LimitKey, lease: &mut Lease, now: Instant) {
        let (unused, lapsed) = lease.settle(now, &self.terms);
        self.lapse(lapsed);
        let Some(unused) = unused else { return };
        let mut waiting = self.unused.borrow_mut();
        if waiting.len() < MAX_UNUSED {
            waiting.push_back((*key, unused));
        } else {
            self.lapse(unused.count);
        }
    }

    fn lapse(&self, count: u32) {
        if count > 0 {
            self.stats.lapsed.add(u64::from(count));
        }
    }

    fn start_sweeping(self: &Rc<Self>) {
        if !self.is_sweeping.replace(true) {
            let tick = MAX_TICK.min(self.terms.hold / 2);
            tokio::task::spawn_local(sweep(Rc::downgrade(self), tick));
        }
    }

    /// Settles the leases that are due, and forgets those that say nothing.
    fn sweep(&self, now: Instant) {
        let mut leases = self.leases.borrow_mut();
        let mut keys = self.keys.borrow_mut();
        for _ in 0..keys.len().min(SWEEP_KEYS) {
            let Some(key) = keys.pop_front() else { break };
            let Some(lease) = leases.get_mut(&key) else {
                continue;
            };
            self.settle(&key, lease, now);
            if lease.is_blank(now) {
                leases.remove(&key);
            } else {
                keys.push_back(key);
            }
        }
    }

    /// Has given back what is not used, in the background.
    fn give_back(self: &Rc<Self>) {
        let wanted = MAX_GIVERS.min(self.unused.borrow().len());
        for _ in self.givers.get()..wanted {
            self.givers.set(self.givers.get() + 1);
            tokio::task::spawn_local(give_back(Rc::clone(self)));
        }
    }
}

impl Drop for LeasedStore {
    /// What it still holds lapses: a limit that was changed, or has another Redis, begins with leases of its own.
    fn drop(&mut self) {
        let unused = self.unused.get_mut().iter().map(|(_, it)| it.count);
        let held = self.leases.get_mut().values().map(Lease::held);
        let lapsed = unused.chain(held).map(u64::from).sum();
        self.stats.lapsed.add(lapsed);
    }
}

/// Has Redis count what waits for the answer, and what is wanted beyond that.
async fn answer(store: Rc<LeasedStore>, key: LimitKey, wanted: u32, question: Rc<Question>) {
    let needed = question.needed.get();
    let wanted = match store.leases.borrow().get(&key) {
        Some(lease) if needed > 0 => lease.wants(needed, &store.terms),
        _ => wanted,
    };
    let asked = time::Instant::now().into_std();
    let granted = store.redis.take(&key, needed, wanted).await;
    let now = time::Instant::now().into_std();
    let error = granted.as_ref().err();
    if error.is_none_or(StoreError::was_sent) {
        store.stats.taken.increment();
    }
    if error.is_some_and(StoreError::may_have_counted) {
        store.lapse(wanted);
    }
    store.questions.borrow_mut().remove(&key);
    question.has_failed.set(granted.is_err());
    if let Some(lease) = store.leases.borrow_mut().get_mut(&key) {
        lease.is_asking = false;
        match &granted {
            Ok(grant) => {
                store.stats.requests.add(u64::from(grant.admitted));
                store.lapse(lease.add(grant, asked, now, &store.terms));
            }
            Err(_) => lease.begin_again(),
        }
    }
    if let Ok(Grant {
        verdict: Verdict::Deny { retry_after },
        ..
    }) = granted
    {
        question.denied.set(Some(retry_after));
    }
    question.answered.notify_waiters();
}

/// Gives back what is not used until nothing waits any more. What Redis does not take lapses.
async fn give_back(store: Rc<LeasedStore>) {
    loop {
        let next = store.unused.borrow_mut().pop_front();
        let Some((key, unused)) = next else { break };
        let now = time::Instant::now().into_std();
        let taken = match unused.window(now) {
            Some(window) => store.redis.give_back(&key, unused.count, window).await,
            None => Ok(0),
        };
        let taken = taken.unwrap_or(0);
        store.stats.returned.add(u64::from(taken));
        store.lapse(unused.count.saturating_sub(taken));
    }
    store.givers.set(store.givers.get() - 1);
}

/// Looks for leases that are due for as long as there are any.
async fn sweep(store: Weak<LeasedStore>, tick: Duration) {
    loop {
        sleep(tick).await;
        let Some(store) = store.upgrade() else { return };
        store.sweep(time::Instant::now().into_std());
        store.give_back();
        if store.leases.borrow().is_empty() {
            store.is_sweeping.set(false);
            return;
        }
    }
}

#[cfg(test)]
mod tests;
