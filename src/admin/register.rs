//! What load balancers of a fleet know of each other's changes to servers: of each server the last change, who made it
//! and when. The later one wins, everywhere the same, in whatever order they come.
//!
//! "Later" is by a hybrid logical clock (Kulkarni et al., 2014): the time of day, but always later than every change that
//! the node has seen. So a change that somebody made after having seen another one wins over it, whatever the clocks
//! say.

use std::collections::BTreeMap;
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
        Self {
            entries: entries.collect(),
        }
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

    /// The stamp of a server's last change.
    pub(super) fn stamp(&self, server: &Server) -> Option<&Stamp> {
        self.entries.get(server).map(|(stamp, _)| stamp)
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
    }

    /// Forgets what is known of a server.
    pub(super) fn remove(&mut self, server: &Server) {
        self.entries.remove(server);
    }

    /// Whether this is later than what is known of the server, and there is room for it.
    pub(super) fn is_news(&self, entry: &Entry, now: u64) -> bool {
        match self.stamp(&entry.server) {
            Some(known) => *known < entry.stamp,
            None => self.entries.len() < MAX_ENTRIES && !is_forgotten(entry, now),
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
        }
        is_news
    }

    /// Forgets what need not be known any more.
    pub(super) fn forget(&mut self, now: u64) {
        let gone: Vec<_> = self.entries().filter(|it| is_forgotten(it, now)).collect();
        for entry in gone {
            self.entries.remove(&entry.server);
        }
    }
}

fn is_forgotten(entry: &Entry, now: u64) -> bool {
    let age = now.saturating_sub(entry.stamp.clock);
    entry.difference.is_none() && age > REMEMBERED.as_millis() as u64
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
        assert_eq!(register.stamp(&server(1)).unwrap().clock, 5001);
        register.put(server(2), None, "b", 9000);
        assert_eq!(register.stamp(&server(2)).unwrap().clock, 9000);
    }

    #[test]
    fn what_was_there_before_sharing_loses_against_all() {
        let mut register = Register::default();
        register.put_first(server(1), Difference::Removed, "z");
        assert!(register.merge(entry(1, 1, "a", false), 1));
        register.put_first(server(1), Difference::Removed, "z");
        assert_eq!(register.stamp(&server(1)).unwrap().clock, 1);
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

    #[test]
    fn there_is_room_for_so_many() {
        let mut register = Register::default();
        for number in 0..MAX_ENTRIES + 10 {
            let mut entry = entry(1, 1, "a", true);
            entry.server.upstream = format!("app{number}");
            register.merge(entry, 1);
        }
        assert_eq!(register.entries().count(), MAX_ENTRIES);
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter(
            entries in prop::collection::vec((1usize..4, 1u64..5, "[ab]", any::<bool>()), 0..12),
            seed: u64,
        ) {
            // Two changes of one node at one time do not differ.
            let entries = entries.iter().map(|(server, clock, node, _)| {
                entry(*server, *clock, node, (clock + *server as u64).is_multiple_of(2))
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
