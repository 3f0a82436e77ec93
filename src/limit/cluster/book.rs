//! The control thread's side of a limit: which keys are hot, what is told of them, and how far each may go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::account::{Account, Fleet, Own, Rule};
use super::around::Around;
use super::entry::{Entry, Head};
use super::slot::Slot;
use super::{ClusterStore, LimitKey, Quota};
use crate::net::Moment;

/// Keys that can be hot. What comes beyond stays cold: each node then has its part, and no more.
const MAX_HOT: usize = 8192;
/// Keys that are told of in a round. Those that are nearest to their limit come first.
const MAX_TOLD: usize = 256;
/// Keys that are told of in a turn, because somebody does not know of them yet.
const MAX_NEWS: usize = 64;
/// Rounds in which a key is told of that is no longer used, in case datagrams are lost.
const LAST_TOLD: u8 = 2;
/// Rounds without use after which a hot key may cool down.
const IDLE_ROUNDS: u64 = 4;

/// What a node knows of a limit.
#[derive(Debug)]
pub(super) struct Book {
    rule: Rule,
    keys: HashMap<LimitKey, Hot>,
    waiting: Receiver<LimitKey>,
    around: Around,
    /// The round in which keys were last looked through for what cools down.
    looked_through: u64,
    /// How many nodes there were when all keys were last settled, and whether they had told what they knew.
    settled_for: (usize, bool),
    random: fastrand::Rng,
    retired: bool,
}

/// A hot key.
#[derive(Debug)]
struct Hot {
    slot: Arc<Slot>,
    account: Account,
    /// What of the slot is in the account.
    seen: u64,
    /// Requests of this round so far, admitted or not.
    asked: u32,
    /// Those of the last round, as they were told.
    told: u32,
    /// Those of the round before that, which all should know by now.
    known: u32,
    /// When it was first told that it is used here.
    first_told: Option<u64>,
    /// The last round in which it was used, here or elsewhere.
    active: u64,
    /// In how many rounds it is still to be told of.
    last_told: u8,
    /// Whether it is to be told of in a turn: somebody seems not to know what was used.
    owed: bool,
    /// When it is to be settled though nobody uses it.
    due: u64,
}

impl Book {
    pub(super) fn new(quota: &Quota, waiting: Receiver<LimitKey>, random: fastrand::Rng) -> Self {
        Self {
            rule: Rule::of(quota),
            keys: HashMap::new(),
            waiting,
            around: Around::default(),
            looked_through: 0,
            settled_for: (0, false),
            random,
            retired: false,
        }
    }

    /// Closes the book: no key is hot any more, nor becomes so.
    pub(super) fn retire(&mut self, store: &ClusterStore) {
        self.retired = true;
        self.keys = HashMap::new();
        store.hot.pin().clear();
    }

    /// Whether it is closed.
    pub(super) fn is_retired(&self) -> bool {
        self.retired
    }

    /// The other nodes.
    pub(super) fn around(&self) -> &Around {
        &self.around
    }

    /// The number of the window that entries are about.
    pub(super) fn index(&self) -> u64 {
        self.rule.index(self.around.clock)
    }

    /// Settles and grants. Gives the keys that some other node does not know of.
    pub(super) fn turn(&mut self, store: &ClusterStore, moment: &Moment<'_>) -> Vec<Entry> {
        self.look_around(moment);
        self.warm_up(store, moment);
        let fleet = self.around.fleet();
        let now = (fleet.size(), fleet.knows_little);
        let all = std::mem::replace(&mut self.settled_for, now) != now;
        let mut news = Vec::new();
        for (key, hot) in &mut self.keys {
            if all || hot.is_to_be_settled(fleet.clock) {
                hot.settle(fleet, self.around.rounds, self.random.f64());
            }
            if news.len() < MAX_NEWS {
                news.extend(hot.news(*key, fleet.clock));
            }
        }
        news
    }

    /// What is told in a round; a new one begins.
    pub(super) fn round(&mut self, moment: &Moment<'_>) -> Vec<Entry> {
        self.look_around(moment);
        self.around.rounds += 1;
        let fleet = self.around.fleet();
        let telling = self.keys.iter_mut().filter(|(_, hot)| hot.is_to_be_told());
        let telling = nearest(telling.collect(), fleet.clock);
        let random = &mut self.random;
        let tell = |(key, hot): (&LimitKey, &mut Hot)| {
            hot.account.advance(0, fleet, random.f64());
            hot.account.begin_round(fleet, random.f64());
            hot.tell(*key, fleet.clock)
        };
        telling.into_iter().map(tell).collect()
    }

    /// Notes what another node has told.
    pub(super) fn hear(
        &mut self,
        store: &ClusterStore,
        peer: u64,
        head: Head,
        entries: &[Entry],
        moment: &Moment<'_>,
    ) {
        self.look_around(moment);
        if !self.around.hear(peer, head.quota) {
            return;
        }
        for entry in entries {
            let is_known = self.keys.contains_key(&entry.key);
            if !self.heat(entry.key, store, moment) {
                continue;
            }
            let Some(hot) = self.keys.get_mut(&entry.key) else {
                continue;
            };
            let fleet = self.around.fleet();
            hot.account.hear(peer, entry.asked, entry.counts, fleet);
            hot.active = self.around.rounds;
            hot.due = 0;
            if !hot.is_to_be_told() && hot.account.knows_more(&entry.counts, fleet) {
                // That node has started anew, or datagrams were lost.
                (hot.owed, hot.last_told) = (true, 1);
            }
            if !is_known {
                // What it was granted before that is no longer so.
                hot.settle(fleet, self.around.rounds, self.random.f64());
            }
        }
    }

    /// Notes the time, and who is there. Who has come is to be told of all that was used, at once of what matters most.
    fn look_around(&mut self, moment: &Moment<'_>) {
        if !self.around.look(moment) {
            return;
        }
        let used = self.keys.iter_mut().filter(|it| !it.1.account.is_over());
        let mut used: Vec<_> = used.collect();
        for (_, hot) in &mut used {
            hot.last_told = LAST_TOLD;
        }
        for (_, hot) in nearest(used, self.around.clock) {
            hot.owed = true;
        }
    }

    /// Makes hot what has become so, and cold what is no longer used.
    fn warm_up(&mut self, store: &ClusterStore, moment: &Moment<'_>) {
        while let Ok(key) = self.waiting.try_recv() {
            self.heat(key, store, moment);
        }
        let (rounds, clock) = (self.around.rounds, self.around.clock);
        if std::mem::replace(&mut self.looked_through, rounds) == rounds {
            return;
        }
        // What a cold key might have used without anybody's knowing may be forgotten for others' sake, and no more.
        let crowded = self.keys.len() > MAX_HOT / 4 * 3;
        let little = if crowded {
            0.5 / f64::from(self.around.nodes())
        } else {
            0.0
        };
        let cools = |hot: &Hot| {
            let idle = hot.asked == 0 && rounds - hot.active.min(rounds) > IDLE_ROUNDS;
            idle && (hot.account.is_over() || hot.account.fraction(clock) < little)
        };
        self.keys.retain(|key, hot| {
            let cools = cools(hot);
            if cools {
                store.hot.pin().remove(key);
            }
            !cools
        });
    }

    /// Makes a key hot; false if there is no room for it.
    fn heat(&mut self, key: LimitKey, store: &ClusterStore, moment: &Moment<'_>) -> bool {
        if self.keys.contains_key(&key) {
            return true;
        }
        if self.keys.len() >= MAX_HOT {
            return false;
        }
        let used = store.used_cold(&key, moment.now);
        let slot = Arc::new(Slot::new(store.quota.requests.get()));
        let rounds = self.around.rounds;
        let fleet = self.around.fleet();
        let mut hot = Hot {
            slot: Arc::clone(&slot),
            account: Account::new(self.rule, used, fleet.clock, self.random.f64()),
            seen: 0,
            asked: u32::try_from(used).unwrap_or(u32::MAX),
            told: 0,
            known: 0,
            first_told: None,
            active: rounds,
            last_told: 0,
            owed: false,
            due: 0,
        };
        hot.settle(fleet, rounds, self.random.f64());
        store.hot.pin().insert(key, slot);
        // What workers have admitted until they saw the slot.
        let late = store.used_cold(&key, moment.now).saturating_sub(used);
        if late > 0 {
            hot.account.advance(late, fleet, self.random.f64());
            hot.settle(fleet, rounds, self.random.f64());
        }
        self.keys.insert(key, hot);
        true
    }
}

/// As many as are told of in a round, of those that are nearest to their limit.
fn nearest<'a>(
    mut keys: Vec<(&'a LimitKey, &'a mut Hot)>,
    clock: u64,
) -> Vec<(&'a LimitKey, &'a mut Hot)> {
    if keys.len() > MAX_TOLD {
        let fraction = |hot: &Hot| hot.account.fraction(clock);
        keys.sort_by(|(_, a), (_, b)| fraction(b).total_cmp(&fraction(a)));
        keys.truncate(MAX_TOLD);
    }
    keys
}

impl Hot {
    /// Whether its grant may have to be another one.
    fn is_to_be_settled(&self, clock: u64) -> bool {
        clock >= self.due || self.slot.is_used(self.seen)
    }

    /// Books what workers have admitted, and grants anew.
    fn settle(&mut self, fleet: Fleet<'_>, round: u64, draw: f64) {
        let used = self.slot.used();
        let new = used - self.seen;
        self.seen = used;
        self.account.advance(new, fleet, draw);
        self.account.forget(fleet);
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        let asked = new.saturating_add(self.slot.take_denied());
        self.asked = self.asked.saturating_add(asked);
        if self.asked > 0 {
            self.active = round;
        }
        // Half a round is enough for the others to have heard of the key, and to have told that they use it too.
        let settled = |told: u64| fleet.clock >= told + fleet.interval / 2;
        let own = Own {
            asked: self.known.min(self.told),
            settled: self.first_told.is_some_and(settled) && !fleet.knows_little,
        };
        let grant = self.account.grant(own, fleet);
        self.slot.grant(used, grant);
        let lasts = match grant.allowance {
            0 => grant.retry.min(fleet.interval),
            _ => fleet.interval,
        };
        self.due = self.account.until(fleet.clock + lasts);
        if let Some(told) = self.first_told.filter(|it| !settled(*it)) {
            self.due = self.due.min(told + fleet.interval / 2);
        }
    }

    fn is_to_be_told(&self) -> bool {
        self.asked > 0 || self.last_told > 0
    }

    fn tell(&mut self, key: LimitKey, clock: u64) -> Entry {
        if self.asked > 0 {
            self.first_told.get_or_insert(clock);
            self.last_told = LAST_TOLD;
        } else {
            self.last_told -= 1;
        }
        self.due = 0;
        self.known = self.told;
        self.told = std::mem::take(&mut self.asked);
        self.entry(key, self.told)
    }

    /// What is told between two rounds, if anything.
    fn news(&mut self, key: LimitKey, clock: u64) -> Option<Entry> {
        if self.first_told.is_none() && self.asked > 0 {
            self.first_told = Some(clock);
            self.told = self.asked;
        } else if !self.owed {
            return None;
        }
        Some(self.entry(key, self.told))
    }

    fn entry(&mut self, key: LimitKey, asked: u32) -> Entry {
        self.owed = false;
        Entry {
            key,
            asked,
            counts: self.account.tell(),
        }
    }
}
