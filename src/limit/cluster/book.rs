//! The control thread's side of a limit: which keys are hot, what is told of them, and how far each may go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::account::{Account, Fleet, Own, Rule};
use super::entry::{Entry, Head};
use super::slot::Slot;
use super::{ClusterStore, LimitKey, Moment, Quota};

/// Keys that can be hot. What comes beyond stays cold: each node then has its part, and no more.
const MAX_HOT: usize = 8192;
/// Keys that are told of in a round. Those that are nearest to their limit come first.
const MAX_TOLD: usize = 256;
/// Keys that are told of in a turn, because nobody knows of them yet.
const MAX_NEWS: usize = 64;
/// Rounds after which a node that is there and has not told of a limit does not have it.
const SILENT_ROUNDS: u64 = 3;
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
    peers: HashMap<u64, Peer>,
    /// Those of them that have the limit.
    partners: Vec<u64>,
    expected: usize,
    rounds: u64,
    clock: u64,
    random: fastrand::Rng,
    retired: bool,
}

/// Another node.
#[derive(Debug, Clone, Copy)]
struct Peer {
    /// The round in which it was met, or has last told of the limit.
    round: u64,
    /// Its quota, once it has told.
    quota: Option<u32>,
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
    /// When it was first told.
    first_told: Option<u64>,
    /// The last round in which it was used, here or elsewhere.
    active: u64,
    /// In how many rounds it is still to be told of.
    last_told: u8,
}

impl Book {
    pub(super) fn new(quota: &Quota, waiting: Receiver<LimitKey>, random: fastrand::Rng) -> Self {
        Self {
            rule: Rule::of(quota),
            keys: HashMap::new(),
            waiting,
            peers: HashMap::new(),
            partners: Vec::new(),
            expected: 0,
            rounds: 0,
            clock: 0,
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

    /// How many nodes divide a cold key.
    pub(super) fn nodes(&self) -> u32 {
        (1 + self.partners.len() + self.expected) as u32
    }

    /// The number of the window that entries are about.
    pub(super) fn index(&self) -> u64 {
        self.rule.index(self.clock)
    }

    /// The nodes whose quota is not this one.
    pub(super) fn differing(&self, quota: u32) -> Vec<u64> {
        let peers = self.peers.iter();
        let differing = peers.filter(|(_, it)| it.quota.is_some_and(|its| its != quota));
        differing.map(|(peer, _)| *peer).collect()
    }

    /// Settles and grants. Gives the keys that are used here and that no other node knows of.
    pub(super) fn turn(&mut self, store: &ClusterStore, moment: &Moment<'_>) -> Vec<Entry> {
        self.look_around(moment);
        self.warm_up(store, moment);
        let fleet = Fleet::of(self.clock, moment.interval, &self.partners, self.expected);
        let mut news = Vec::new();
        for (key, hot) in &mut self.keys {
            hot.settle(fleet, self.rounds, self.random.f64());
            if hot.first_told.is_none() && hot.asked > 0 && news.len() < MAX_NEWS {
                hot.first_told = Some(fleet.clock);
                hot.told = hot.asked;
                news.push(hot.entry(*key, hot.asked));
            }
        }
        news
    }

    /// What is told in a round; a new one begins.
    pub(super) fn round(&mut self, moment: &Moment<'_>) -> Vec<Entry> {
        self.look_around(moment);
        self.rounds += 1;
        let fleet = Fleet::of(self.clock, moment.interval, &self.partners, self.expected);
        let clock = self.clock;
        let mut telling: Vec<_> = self
            .keys
            .iter_mut()
            .filter(|(_, hot)| hot.is_to_be_told())
            .collect();
        if telling.len() > MAX_TOLD {
            let fraction = |hot: &Hot| hot.account.fraction(clock);
            telling.sort_by(|(_, a), (_, b)| fraction(b).total_cmp(&fraction(a)));
            telling.truncate(MAX_TOLD);
        }
        let random = &mut self.random;
        let tell = |(key, hot): (&LimitKey, &mut Hot)| {
            hot.account.advance(0, fleet, random.f64());
            hot.account.begin_round(fleet, random.f64());
            hot.tell(*key, clock)
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
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        *known = Peer {
            round: self.rounds,
            quota: Some(head.quota),
        };
        for entry in entries {
            let is_known = self.keys.contains_key(&entry.key);
            if !self.heat(entry.key, store, moment) {
                continue;
            }
            let Some(hot) = self.keys.get_mut(&entry.key) else {
                continue;
            };
            let fleet = Fleet::of(self.clock, moment.interval, &self.partners, self.expected);
            hot.account.hear(peer, entry.asked, entry.counts, fleet);
            hot.active = self.rounds;
            if !is_known {
                // What it was granted before that is no longer so.
                hot.settle(fleet, self.rounds, self.random.f64());
            }
        }
    }

    /// Notes the time, and who is there.
    fn look_around(&mut self, moment: &Moment<'_>) {
        self.clock = self.clock.max(moment.clock);
        self.expected = moment.expected;
        self.peers.retain(|peer, _| moment.peers.contains(peer));
        for peer in moment.peers {
            let new = Peer {
                round: self.rounds,
                quota: None,
            };
            self.peers.entry(*peer).or_insert(new);
        }
        let rounds = self.rounds;
        let has_it = |it: &Peer| rounds - it.round <= SILENT_ROUNDS || it.quota.is_some();
        self.partners.clear();
        let partners = self.peers.iter().filter(|(_, it)| has_it(it));
        self.partners.extend(partners.map(|(peer, _)| *peer));
    }

    /// Makes hot what has become so, and cold what is no longer used.
    fn warm_up(&mut self, store: &ClusterStore, moment: &Moment<'_>) {
        while let Ok(key) = self.waiting.try_recv() {
            self.heat(key, store, moment);
        }
        let (rounds, clock, crowded) = (self.rounds, self.clock, self.keys.len() > MAX_HOT / 4 * 3);
        let cools = |hot: &Hot| {
            let idle = rounds - hot.active.min(rounds) > IDLE_ROUNDS;
            idle && (hot.account.is_over() || crowded && hot.account.fraction(clock) < 0.5)
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
        let mut hot = Hot {
            slot: Arc::clone(&slot),
            account: Account::new(self.rule, used, self.clock, self.random.f64()),
            seen: 0,
            asked: u32::try_from(used).unwrap_or(u32::MAX),
            told: 0,
            known: 0,
            first_told: None,
            active: self.rounds,
            last_told: 0,
        };
        let fleet = Fleet::of(self.clock, moment.interval, &self.partners, self.expected);
        hot.settle(fleet, self.rounds, self.random.f64());
        store.hot.pin().insert(key, slot);
        // What workers have admitted until they saw the slot.
        let late = store.used_cold(&key, moment.now).saturating_sub(used);
        if late > 0 {
            hot.account.advance(late, fleet, self.random.f64());
            hot.settle(fleet, self.rounds, self.random.f64());
        }
        self.keys.insert(key, hot);
        true
    }
}

impl Hot {
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
            settled: self.first_told.is_some_and(settled),
        };
        self.slot.grant(used, self.account.grant(own, fleet));
    }

    fn is_to_be_told(&self) -> bool {
        self.asked > 0 || self.last_told > 0
    }

    fn tell(&mut self, key: LimitKey, clock: u64) -> Entry {
        self.first_told.get_or_insert(clock);
        self.last_told = match self.asked {
            0 => self.last_told - 1,
            _ => LAST_TOLD,
        };
        self.known = self.told;
        self.told = std::mem::take(&mut self.asked);
        self.entry(key, self.told)
    }

    fn entry(&self, key: LimitKey, asked: u32) -> Entry {
        Entry {
            key,
            asked,
            counts: self.account.counts(),
        }
    }
}
