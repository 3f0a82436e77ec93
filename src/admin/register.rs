//! What load balancers of a fleet know of each other's changes to servers: of each server the last change, who made it
//! and when. The later one wins, everywhere the same, in whatever order they come.
//!
//! "Later" is by a hybrid logical clock (Kulkarni et al., 2014): the time of day, but always later than every change that
//! the node has seen. So a change that somebody made after having seen another one wins over it, whatever the clocks
//! say.
//!
//! There is room for so many servers, and all nodes keep the same ones: first go those that are as configured, then those
//! that were changed longest ago.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::overlay::Difference;
use crate::config::types::ServerAddress;

/// Servers of which a change is known.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// How long it is remembered that a server is as the configuration says again. A node that was away for longer may bring
/// an older change back.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// When a change was made, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamp {
    /// Milliseconds of Unix time, or more.
    pub(super) clock: u64,
    /// The node's name.
    pub(super) node: String,
}

/// A server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) upstream: String,
    pub(super) address: ServerAddress,
}

/// The last change of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) server: Server,
    pub(super) stamp: Stamp,
    /// None if it is as the configuration says, or is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) difference: Option<Difference>,
}

/// The last changes of all servers that have been changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Register {
    entries: BTreeMap<Server, (Stamp, Option<Difference>)>,
}

impl From<Vec<Entry>> for Register {
    fn from(entries: Vec<Entry>) -> Self {
        let entries = entries.into_iter();
        let entries = entries.map(|it| (it.server, (it.stamp, it.difference)));
        let mut register = Self {
            entries: entries.collect(),
        };
        register.make_room();
        register
    }
}

impl From<Register> for Vec<Entry> {
    fn from(register: Register) -> Self {
        register.entries().collect()
    }
}

impl Register {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in an order that all nodes have in common.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let entries = self.entries.iter();
        entries.map(|(server, (stamp, difference))| Entry {
            server: server.clone(),
            stamp: stamp.clone(),
            difference: difference.clone(),
        })
    }

    /// The same without those that need not be known any more.
    pub(super) fn told(&self, now: u64) -> impl Iterator<Item = Entry> + '_ {
        self.entries()
            .filter(move |it| !is_forgotten(&it.stamp, &it.difference, now))
    }

    /// Whether this is what is known of the server.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        let known = self.entries.get(&entry.server);
        known.is_some_and(|(stamp, difference)| {
            (stamp, difference) == (&entry.stamp, &entry.difference)
        })
    }

    /// What was done to a server that is not as the configuration says.
    pub(super) fn difference(&self, server: &Server) -> Option<&Difference> {
        self.entries.get(server)?.1.as_ref()
    }

    /// Notes a change that `node` has just made.
    pub(super) fn put(
        &mut self,
        server: Server,
        difference: Option<Difference>,
        node: &str,
        now: u64,
    ) {
        let last = self.entries.values().map(|(stamp, _)| stamp.clock).max();
        let clock = last.map_or(now, |last| now.max(last + 1));
        let node = node.to_owned();
        self.entries
            .insert(server, (Stamp { clock, node }, difference));
        self.forget(now);
        self.make_room();
    }

    /// Notes a change that was made before changes were shared: any other one wins over it.
    pub(super) fn put_first(&mut self, server: Server, difference: Difference, node: &str) {
        let stamp = Stamp {
            clock: 0,
            node: node.to_owned(),
        };
        self.entries
            .entry(server)
            .or_insert((stamp, Some(difference)));
        self.make_room();
    }

    /// Forgets what is known of a server.
    pub(super) fn remove(&mut self, server: &Server) {
        self.entries.remove(server);
    }

    /// Whether this is later than what is known of the server, and would be kept. Of two changes of one node at one time,
    /// which a node that was copied can make, one is taken for the later by what it is.
    pub(super) fn is_news(&self, entry: &Entry, now: u64) -> bool {
        let Entry {
            server,
            stamp,
            difference,
        } = entry;
        match self.entries.get(server) {
            Some((known, its)) => (known, its) < (stamp, difference),
            None if is_forgotten(stamp, difference, now) => false,
            None if self.entries.len() < MAX_ENTRIES => true,
            None => {
                let rank = rank(server, stamp, difference);
                self.lowest().is_some_and(|lowest| lowest < rank)
            }
        }
    }

    /// Takes a change over; false if it is not the later one.
    pub(super) fn merge(&mut self, entry: Entry, now: u64) -> bool {
        let is_news = self.is_news(&entry, now);
        if is_news {
            let Entry {
                server,
                stamp,
                difference,
            } = entry;
            self.entries.insert(server, (stamp, difference));
            self.make_room();
        }
        is_news
    }

    /// Forgets what need not be known any more.
    pub(super) fn forget(&mut self, now: u64) {
        self.entries
            .retain(|_, (stamp, difference)| !is_forgotten(stamp, difference, now));
    }

    /// Drops what is too much: the lowest, so that all nodes are left with the same.
    fn make_room(&mut self) {
        static TOLD: Once = Once::new();
        while self.entries.len() > MAX_ENTRIES {
            let Some((_, _, server)) = self.lowest() else {
                return;
            };
            let server = server.clone();
            let dropped = self.entries.remove(&server);
            if dropped.is_some_and(|(_, difference)| difference.is_some()) {
                TOLD.call_once(|| {
                    let server = format!("{}@{}", server.upstream, server.address);
                    tracing::warn!(
                        server,
                        "the admin API has changed more servers than the fleet keeps: nodes that join will not learn of the \
                         oldest changes, of which this is the first; others are dropped without a word"
                    );
                });
            }
        }
    }

    fn lowest(&self) -> Option<Rank<'_>> {
        let entries = self.entries.iter();
        let ranks = entries.map(|(server, (stamp, difference))| rank(server, stamp, difference));
        ranks.min()
    }
}

/// What is kept rather than what is lower.
type Rank<'a> = (bool, &'a Stamp, &'a Server);

fn rank<'a>(server: &'a Server, stamp: &'a Stamp, difference: &Option<Difference>) -> Rank<'a> {
    (difference.is_some(), stamp, server)
}

fn is_forgotten(stamp: &Stamp, difference: &Option<Difference>, now: u64) -> bool {
    let age = now.saturating_sub(stamp.clock);
    difference.is_none() && age > REMEMBERED.as_millis() as u64
}

/// Milliseconds of Unix time.
pub(super) fn unix_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(number: usize) -> Server {
        Server {
            upstream: "app".to_owned(),
            address: format!("10.0.0.{number}:80").parse().unwrap(),
        }
    }

    fn entry(number: usize, clock: u64, node: &str, removed: bool) -> Entry {
        Entry {
            server: server(number),
            stamp: Stamp {
                clock,
                node: node.to_owned(),
            },
            difference: removed.then_some(Difference::Removed),
        }
    }

    #[test]
    fn a_change_is_later_than_all_that_its_node_has_seen() {
        let mut register = Register::default();
        register.merge(entry(1, 5000, "a", true), 100);
        register.put(server(1), None, "b", 100);
        assert_eq!(register.entries[&server(1)].0.clock, 5001);
        register.put(server(2), None, "b", 9000);
        assert_eq!(register.entries[&server(2)].0.clock, 9000);
    }

    #[test]
    fn what_was_there_before_sharing_loses_against_all() {
        let mut register = Register::default();
        register.put_first(server(1), Difference::Removed, "z");
        assert!(register.merge(entry(1, 1, "a", false), 1));
        register.put_first(server(1), Difference::Removed, "z");
        assert_eq!(register.entries[&server(1)].0.clock, 1);
    }

    #[test]
    fn that_a_server_is_as_configured_is_forgotten_after_a_month() {
        let month = REMEMBERED.as_millis() as u64;
        let mut register = Register::default();
        register.merge(entry(1, 1000, "a", false), 1000);
        register.merge(entry(2, 1000, "a", true), 1000);
        register.forget(1000 + month);
        assert_eq!(register.entries().count(), 2);
        register.forget(1001 + month);
        assert_eq!(
            register.entries().collect::<Vec<_>>(),
            [entry(2, 1000, "a", true)]
        );
        assert!(
            !register.merge(entry(1, 1000, "a", false), 1001 + month),
            "nor learned again"
        );
    }

    /// A server with a name of this number.
    fn numbered(number: usize) -> Server {
        Server {
            upstream: format!("app{number}"),
            ..server(1)
        }
    }

    /// One that has no room for more: half of its servers are as configured.
    fn full() -> Register {
        let entries = (0..MAX_ENTRIES).map(|number| Entry {
            server: numbered(number),
            ..entry(1, 1000 + number as u64, "a", number % 2 == 0)
        });
        entries.collect::<Vec<_>>().into()
    }

    #[test]
    fn there_is_room_for_so_many_however_they_come() {
        let now = 100_000;
        let mut register = full();
        register.put(numbered(MAX_ENTRIES), Some(Difference::Removed), "b", now);
        assert_eq!(register.entries().count(), MAX_ENTRIES);
        assert!(!register.entries.contains_key(&numbered(1)), "the oldest");
        let late = Entry {
            server: numbered(MAX_ENTRIES + 1),
            ..entry(1, 500, "a", true)
        };
        assert!(register.merge(late, now), "it is changed, others are not");
        assert!(!register.entries.contains_key(&numbered(3)));
        let gone = Entry {
            server: numbered(MAX_ENTRIES + 2),
            ..entry(1, 1001, "a", false)
        };
        assert!(!register.merge(gone.clone(), now), "it is older than all");
        let mut entries: Vec<Entry> = register.clone().into();
        entries.push(gone);
        assert_eq!(Register::from(entries), register, "nor is it loaded");
        register.put_first(numbered(MAX_ENTRIES + 3), Difference::Removed, "a");
        assert_eq!(register.entries().count(), MAX_ENTRIES);
    }

    #[test]
    fn registers_that_are_full_come_to_be_the_same() {
        let now = 100_000;
        let with = |numbers: std::ops::Range<usize>, node: &str| {
            let mut register = full();
            for number in numbers {
                register.put(numbered(number), Some(Difference::Removed), node, now);
            }
            register
        };
        let mut one = with(MAX_ENTRIES..MAX_ENTRIES + 20, "a");
        let mut other = with(MAX_ENTRIES + 20..MAX_ENTRIES + 35, "b");
        assert_ne!(one, other);
        for entry in one.clone().entries() {
            other.merge(entry, now);
        }
        for entry in other.clone().entries() {
            one.merge(entry, now);
        }
        assert_eq!(one, other);
        assert_eq!(one.entries().count(), MAX_ENTRIES);
        for number in MAX_ENTRIES..MAX_ENTRIES + 35 {
            assert!(one.difference(&numbered(number)).is_some(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter(
            entries in prop::collection::vec((1usize..4, 1u64..5, "[ab]", any::<bool>()), 0..12),
            seed: u64,
        ) {
            let entries = entries.iter().map(|(server, clock, node, removed)| {
                entry(*server, *clock, node, *removed)
            });
            let mut entries: Vec<_> = entries.collect();
            let register = |entries: &[Entry]| {
                let mut register = Register::default();
                for entry in entries {
                    register.merge(entry.clone(), 10);
                }
                register
            };
            let one = register(&entries);
            fastrand::Rng::with_seed(seed).shuffle(&mut entries);
            prop_assert_eq!(one, register(&entries));
        }
    }
}
