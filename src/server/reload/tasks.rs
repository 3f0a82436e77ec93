//! The control thread's tasks that belong to a configuration: supervision of upstreams, a watch over certificates and lists.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::access::Lists;
use crate::proxy::build::Kept;
use crate::proxy::snapshot::Snapshot;
use crate::server::certificates::Certificates;
use crate::server::lists;
use crate::upstream::supervisor::{resolve_names, supervise};
use crate::upstream::{Endpoint, Upstream, proven};

/// How long the names of new servers are waited for.
const NAMES_LIMIT: Duration = Duration::from_secs(2);

/// How long the first probes of new servers are waited for.
const PROBES_LIMIT: Duration = Duration::from_secs(3);

/// The tasks. To be used in a runtime; they end when it does.
#[derive(Debug, Default)]
pub struct Tasks {
    /// By the upstreams' addresses, which are theirs as long as they are held here.
    supervisors: HashMap<usize, (Arc<Upstream>, JoinHandle<()>)>,
    /// Over certificates and over lists.
    watches: Vec<JoinHandle<()>>,
}

impl Tasks {
    /// Supervises what is not supervised yet. Gives those upstreams.
    pub fn supervise(&mut self, snapshot: &Snapshot) -> Vec<Arc<Upstream>> {
        let mut new = Vec::new();
        for entry in &snapshot.upstreams {
            let upstream = &entry.shared;
            self.supervisors.entry(key(upstream)).or_insert_with(|| {
                new.push(Arc::clone(upstream));
                let task = tokio::spawn(supervise(Arc::clone(upstream)));
                (Arc::clone(upstream), task)
            });
        }
        new
    }

    /// Supervises no more what is not in this snapshot. Requests that are under way go on.
    pub fn retire(&mut self, snapshot: &Snapshot) {
        let mut gone = std::mem::take(&mut self.supervisors);
        for entry in &snapshot.upstreams {
            let key = key(&entry.shared);
            if let Some(kept) = gone.remove(&key) {
                self.supervisors.insert(key, kept);
            }
        }
        gone.values().for_each(|(_, task)| task.abort());
    }

    /// Looks after these certificates and lists, and no others.
    pub fn watch(&mut self, certificates: &Certificates, lists: &Lists) {
        self.watches.drain(..).for_each(|former| former.abort());
        self.watches.push(tokio::spawn(certificates.watch()));
        self.watches.push(tokio::spawn(lists::watch(lists.clone())));
    }
}

fn key(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream) as usize
}

/// Makes ready what a new configuration adds, so that its first requests find servers that are known to be well.
pub async fn make_ready(new: &[Arc<Upstream>], kept: &[Kept]) {
    let mut added: Vec<Arc<Endpoint>> = new.iter().flat_map(|it| it.endpoints()).collect();
    for Kept {
        upstream,
        settings,
        servers,
    } in kept
    {
        added.extend(upstream.add_ahead(settings, servers));
    }
    resolve_names(&added, NAMES_LIMIT).await;
    proven(&added, PROBES_LIMIT).await;
}
