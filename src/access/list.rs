//! `AccessList`: a pair of allow and deny lists, and the table that is made of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::{ListFile, Source, Sources, Table};

/// Allow and deny lists as they are in force. What has the same sources is the same object.
#[derive(Debug)]
pub struct AccessList {
    sources: Sources,
    files: HashMap<PathBuf, Arc<ListFile>>,
    in_force: ArcSwap<InForce>,
    /// Held while a table is made, so that the last one is made of what the files held last.
    making: Mutex<()>,
}

#[derive(Debug)]
struct InForce {
    table: Table,
    allow: usize,
    deny: usize,
}

impl AccessList {
    /// The lists of these sources, whose files are in `files`.
    pub(super) fn new(sources: Sources, files: HashMap<PathBuf, Arc<ListFile>>) -> Arc<Self> {
        let list = Arc::new(Self {
            in_force: ArcSwap::from_pointee(make(&sources, &files)),
            sources,
            files,
            making: Mutex::new(()),
        });
        if !list.files.is_empty() {
            list.files.values().for_each(|file| file.tell(&list));
            // One may have changed before it knew whom to tell.
            list.make_again();
        }
        list
    }

    /// Whether this address may come in.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.in_force.load().table.allows(address)
    }

    /// How many networks are named as allowed, and how many as denied.
    pub fn entries(&self) -> (usize, usize) {
        let in_force = self.in_force.load();
        (in_force.allow, in_force.deny)
    }

    /// Makes a table of what the files hold now.
    pub(super) fn make_again(&self) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let made = make(&self.sources, &self.files);
        self.in_force.store(Arc::new(made));
    }
}

fn make(sources: &Sources, files: &HashMap<PathBuf, Arc<ListFile>>) -> InForce {
    let networks = |sources: &[Source]| -> Vec<IpNet> {
        let networks = sources.iter().flat_map(|source| match source {
            Source::Net(network) => vec![*network],
            Source::File(path) => files[path].networks(),
        });
        networks.collect()
    };
    let (allow, deny) = (networks(&sources.allow), networks(&sources.deny));
    InForce {
        allow: allow.len(),
        deny: deny.len(),
        // With an empty file of those that are allowed, nobody is.
        table: Table::new(allow, deny, sources.allow.is_empty()),
    }
}
