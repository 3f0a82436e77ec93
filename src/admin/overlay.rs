//! What the admin API has changed, as a difference to the configuration file, and how the two are merged.
//!
//! For each upstream there are servers that were added, and servers of the configuration that were removed or changed:
//!
//! * What was done at run time wins over the configuration: a removed server stays removed, a changed weight stays
//!   changed. What was not changed follows the configuration: a server that only drains takes its weight from there.
//! * Adding a removed server of the configuration again takes the removal back; its weight is what was asked for then.
//! * An added server that the configuration names too, by now, is the configuration's, with the configuration's weight.
//! * Removals and changes of servers that the configuration no longer names are dropped. They do not come back to
//!   life with a server that is given the same address later.
//! * An upstream that the configuration does not name keeps its entry until it is named again.
//!
//! What the fleet has done is dropped in the same way, but the [`Register`] has it for a while longer. As long as it does, a
//! configuration that it applies to again, or for the first time, brings it back ([`Overlay::recall`]): configurations
//! do not change everywhere at once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::{self, Display};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::register::{Register, Server};
use super::weight::Weight;
use crate::config::types::ServerAddress;
use crate::upstream::Origin;
use crate::upstream::endpoint::Spec;

/// The difference to the configuration, by upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay {
    upstreams: BTreeMap<String, Changes>,
    /// Where it was read, before entries that no longer apply were dropped.
    #[serde(skip)]
    pub(super) source: Option<Source>,
}

/// The file that an overlay was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) content: Vec<u8>,
    /// What the fleet has done to servers.
    pub(super) register: Register,
    /// Servers that it changes.
    pub(super) changed: BTreeSet<Server>,
}

/// The changes of one upstream. No address occurs in two of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Changes {
    /// Not in the configuration.
    added: Vec<Added>,
    /// In the configuration.
    removed: BTreeSet<ServerAddress>,
    /// In the configuration.
    changed: Vec<Changed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    address: ServerAddress,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    draining: bool,
}

/// What is `None` is as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    address: ServerAddress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<Weight>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draining: Option<bool>,
}

/// What was done to one server, as a difference to the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Difference {
    /// It is not in the configuration.
    Added {
        /// Its weight.
        weight: Weight,
        /// Whether it drains.
        draining: bool,
    },
    /// It is in the configuration, and not used.
    Removed,
    /// It is in the configuration, which says what is `None` here.
    Changed {
        /// Its weight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<Weight>,
        /// Whether it drains.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        draining: Option<bool>,
    },
}

impl Overlay {
    /// The servers of an upstream: those of the configuration, with their weights, as they were changed. Entries that
    /// no longer apply to this configuration are dropped. Logs what a file has changed.
    pub fn apply(&mut self, upstream: &str, configured: Vec<(ServerAddress, u32)>) -> Vec<Spec> {
        let specs = match self.upstreams.get_mut(upstream) {
            Some(changes) => changes.apply(configured),
            None => Changes::default().apply(configured),
        };
        if let Some(in_force) = self.in_force(upstream) {
            tracing::info!("{in_force}");
        }
        specs
    }

    /// What a file has changed of an upstream, for operators who wonder why it is not as the configuration says.
    fn in_force(&self, upstream: &str) -> Option<String> {
        let path = &self.source.as_ref()?.path;
        let changes = self.upstreams.get(upstream)?;
        let in_force = format!("the state file {path:?} is in force: {upstream}: {changes}");
        (*changes != Changes::default()).then_some(in_force)
    }

    /// A server that is not there was added.
    pub(super) fn add(&mut self, upstream: &str, address: ServerAddress, weight: Weight) {
        self.of(upstream).add(address, weight);
    }

    /// A server that is there was removed.
    pub(super) fn remove(&mut self, upstream: &str, address: &ServerAddress) {
        self.of(upstream).remove(address);
    }

    /// A server that is there was changed; `None` left as it was.
    pub(super) fn change(
        &mut self,
        upstream: &str,
        address: &ServerAddress,
        weight: Option<Weight>,
        draining: Option<bool>,
    ) {
        self.of(upstream).change(address, weight, draining);
    }

    /// What was done to a server; nothing if it is as the configuration says.
    pub(super) fn difference(&self, upstream: &str, address: &ServerAddress) -> Option<Difference> {
        self.upstreams.get(upstream)?.difference(address)
    }

    /// All that was done to servers.
    pub(super) fn differences(&self) -> impl Iterator<Item = (&str, &ServerAddress, Difference)> {
        self.upstreams.iter().flat_map(|(upstream, changes)| {
            let addresses = changes.addresses();
            addresses.filter_map(move |address| {
                let difference = changes.difference(address)?;
                Some((upstream.as_str(), address, difference))
            })
        })
    }

    /// Takes what a file says that the fleet has done, as far as it was dropped: it may apply again.
    pub fn recall(&mut self) {
        if let Some(source) = self.source.take() {
            self.recall_from(&source.register);
            self.source = Some(source);
        }
    }

    /// The same for what the fleet has done by now.
    pub(super) fn recall_from(&mut self, register: &Register) {
        for entry in register.entries() {
            let Server { upstream, address } = &entry.server;
            if entry.difference.is_some() && self.difference(upstream, address).is_none() {
                self.set(upstream, address, entry.difference);
            }
        }
    }

    /// All servers to which something was done.
    pub(super) fn servers(&self) -> BTreeSet<Server> {
        let differences = self.differences();
        let servers = differences.map(|(upstream, address, _)| Server {
            upstream: upstream.to_owned(),
            address: address.clone(),
        });
        servers.collect()
    }

    /// Puts another difference in the place of the one that there is.
    pub(super) fn set(
        &mut self,
        upstream: &str,
        address: &ServerAddress,
        difference: Option<Difference>,
    ) {
        self.of(upstream).set(address, difference);
    }

    fn of(&mut self, upstream: &str) -> &mut Changes {
        self.upstreams.entry(upstream.to_owned()).or_default()
    }
}

impl Changes {
    fn apply(&mut self, configured: Vec<(ServerAddress, u32)>) -> Vec<Spec> {
        self.drop_stale(&configured);
        let mut specs = Vec::new();
        for (address, weight) in configured {
            if self.removed.contains(&address) {
                continue;
            }
            let changed = self.changed.iter().find(|it| it.address == address);
            specs.push(Spec {
                weight: changed.and_then(|it| it.weight).map_or(weight, Weight::get),
                draining: changed.and_then(|it| it.draining).unwrap_or(false),
                origin: Origin::Config,
                address,
            });
        }
        specs.extend(self.added.iter().map(|added| Spec {
            address: added.address.clone(),
            weight: added.weight.get(),
            draining: added.draining,
            origin: Origin::Admin,
        }));
        specs
    }

    fn addresses(&self) -> impl Iterator<Item = &ServerAddress> {
        let added = self.added.iter().map(|it| &it.address);
        let changed = self.changed.iter().map(|it| &it.address);
        added.chain(&self.removed).chain(changed)
    }

    fn difference(&self, address: &ServerAddress) -> Option<Difference> {
        if self.removed.contains(address) {
            return Some(Difference::Removed);
        }
        let added = self.added.iter().find(|it| it.address == *address);
        if let Some(Added {
            weight, draining, ..
        }) = added
        {
            return Some(Difference::Added {
                weight: *weight,
                draining: *draining,
            });
        }
        let changed = self.changed.iter().find(|it| it.address == *address)?;
        Some(Difference::Changed {
            weight: changed.weight,
            draining: changed.draining,
        })
    }

    fn set(&mut self, address: &ServerAddress, difference: Option<Difference>) {
        self.added.retain(|it| it.address != *address);
        self.removed.remove(address);
        self.changed.retain(|it| it.address != *address);
        let address = address.clone();
        match difference {
            None => {}
            Some(Difference::Removed) => _ = self.removed.insert(address),
            Some(Difference::Added { weight, draining }) => self.added.push(Added {
                address,
                weight,
                draining,
            }),
            Some(Difference::Changed { weight, draining }) => self.changed.push(Changed {
                address,
                weight,
                draining,
            }),
        }
    }

    fn drop_stale(&mut self, configured: &[(ServerAddress, u32)]) {
        let configured: HashSet<&ServerAddress> =
            configured.iter().map(|(address, _)| address).collect();
        self.removed.retain(|address| configured.contains(address));
        self.changed.retain(|it| configured.contains(&it.address));
        // A file that was edited by hand may name a server twice.
        let mut seen = HashSet::new();
        self.added
            .retain(|it| !configured.contains(&it.address) && seen.insert(it.address.clone()));
    }

    fn add(&mut self, address: ServerAddress, weight: Weight) {
        if self.removed.remove(&address) {
            self.changed.push(Changed {
                address,
                weight: Some(weight),
                draining: None,
            });
        } else {
            self.added.push(Added {
                address,
                weight,
                draining: false,
            });
        }
    }

    fn remove(&mut self, address: &ServerAddress) {
        let before = self.added.len();
        self.added.retain(|it| it.address != *address);
        if self.added.len() == before {
            self.changed.retain(|it| it.address != *address);
            self.removed.insert(address.clone());
        }
    }

    fn change(&mut self, address: &ServerAddress, weight: Option<Weight>, draining: Option<bool>) {
        if let Some(added) = self.added.iter_mut().find(|it| it.address == *address) {
            added.weight = weight.unwrap_or(added.weight);
            added.draining = draining.unwrap_or(added.draining);
            return;
        }
        match self.changed.iter_mut().find(|it| it.address == *address) {
            Some(changed) => {
                changed.weight = weight.or(changed.weight);
                changed.draining = draining.or(changed.draining);
            }
            None => self.changed.push(Changed {
                address: address.clone(),
                weight,
                draining,
            }),
        }
    }
}

/// As in `added a:1, b:1; removed c:1; changed d:1 (weight 2, draining)`.
impl Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added: Vec<_> = self.added.iter().map(|it| it.address.to_string()).collect();
        let removed: Vec<_> = self.removed.iter().map(ToString::to_string).collect();
        let changed: Vec<_> = self.changed.iter().map(ToString::to_string).collect();
        let mut separator = "";
        for (what, servers) in [("added", added), ("removed", removed), ("changed", changed)] {
            if !servers.is_empty() {
                write!(f, "{separator}{what} {}", servers.join(", "))?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

impl Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = self.weight.map(|it| format!("weight {}", it.get()));
        let draining = self.draining.map(|draining| match draining {
            true => "draining".to_owned(),
            false => "not draining".to_owned(),
        });
        let details: Vec<_> = [weight, draining].into_iter().flatten().collect();
        write!(f, "{} ({})", self.address, details.join(", "))
    }
}

#[cfg(test)]
mod tests;
