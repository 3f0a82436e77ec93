//! A change of what is kept: recorded first, made afterwards, one at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::MutexGuard;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Contents, GRACE, Kept, StateError, lock, lock_path, share_as, write};
use crate::admin::overlay::{Difference, Overlay};
use crate::admin::register::{Entry, Register, Server, unix_millis};
use crate::config::types::ServerAddress;

/// The right to change servers, which one change at a time has.
#[derive(Debug)]
pub struct Transaction<'a> {
    pub(super) path: &'a Path,
    pub(super) shared: &'a ArcSwapOption<Register>,
    pub(super) kept: MutexGuard<'a, Kept>,
}

/// Changes that wait.
#[derive(Debug)]
pub struct HeldState<'a>(pub(super) Transaction<'a>);

impl HeldState<'_> {
    /// Leaves the state file to another process. Changes are refused here from now on.
    pub fn release(&mut self) {
        self.0.kept.lock = None;
        self.0.kept.given_up = true;
    }
}

impl Transaction<'_> {
    /// What is kept.
    pub fn overlay(&self) -> &Overlay {
        &self.kept.contents.overlay
    }

    /// Has changes be the fleet's from now on, as those of `node`, or no longer. Those that were made before are told to the
    /// others, and lose against theirs.
    pub fn share_as(&mut self, node: Option<&str>) {
        share_as(&mut self.kept, self.shared, node);
    }

    /// Adds to a copy of what is kept what the fleet has done and did not apply to the configuration so far.
    pub fn recall(&self, overlay: &mut Overlay) {
        if self.kept.node.is_some() {
            overlay.recall_from(&self.kept.contents.register);
        }
    }

    /// Keeps what became of it under a new configuration, as [`keep`](Self::keep) does. What does not apply any more is on its
    /// way to be forgotten.
    pub async fn reconfigured(&mut self, overlay: Overlay) {
        let before = self.kept.contents.overlay.servers();
        for gone in before.difference(&overlay.servers()) {
            let now = Instant::now();
            self.kept.dropped.entry(gone.clone()).or_insert(now);
        }
        self.keep(overlay).await;
    }

    /// Has the fleet forget changes that have not applied for long enough. Gives the servers.
    ///
    /// # Errors
    /// As for [`record`](Self::record).
    pub(in crate::admin) async fn forget_dropped(&mut self) -> Result<Vec<Server>, StateError> {
        let Kept {
            contents: Contents { overlay, register },
            dropped,
            ..
        } = &mut *self.kept;
        dropped.retain(|server, _| {
            let applies = overlay
                .difference(&server.upstream, &server.address)
                .is_some();
            !applies && register.difference(server).is_some()
        });
        let due = dropped.iter().filter(|(_, since)| since.elapsed() >= GRACE);
        let due: Vec<_> = due.map(|(server, _)| server.clone()).collect();
        let Some(node) = self.kept.node.clone().filter(|_| !due.is_empty()) else {
            return Ok(Vec::new());
        };
        let record = |kept: &mut Contents| {
            for server in &due {
                kept.register
                    .put(server.clone(), None, &node, unix_millis());
            }
        };
        self.record(record).await?;
        Ok(due)
    }

    /// Keeps what became of it. If it cannot be written, the file is behind until the next change
    /// that can.
    pub async fn keep(&mut self, overlay: Overlay) {
        if self.kept.contents.overlay == overlay {
            return;
        }
        let recorded = self.record(|kept| kept.overlay.clone_from(&overlay)).await;
        if let Err(error) = recorded {
            tracing::warn!("{error}");
            self.kept.contents.overlay = overlay;
        }
    }

    /// Changes what is kept of a server. It is on the disk when this returns, and about to be told to the fleet.
    ///
    /// # Errors
    /// As for [`record`](Self::record).
    pub(in crate::admin) async fn change(
        &mut self,
        upstream: &str,
        address: &ServerAddress,
        edit: impl FnOnce(&mut Overlay),
    ) -> Result<(), StateError> {
        let node = self.kept.node.clone();
        let record = |kept: &mut Contents| {
            edit(&mut kept.overlay);
            let difference = kept.overlay.difference(upstream, address);
            let (upstream, address) = (upstream.to_owned(), address.clone());
            let server = Server { upstream, address };
            match node {
                Some(node) => {
                    kept.register.put(server, difference, &node, unix_millis());
                }
                // What the fleet knows of it is no longer so here.
                None => kept.register.remove(&server),
            }
        };
        self.record(record).await
    }

    /// Takes over changes of other nodes, as far as they are later than what is kept. Gives those.
    ///
    /// # Errors
    /// As for [`record`](Self::record).
    pub(in crate::admin) async fn merge(
        &mut self,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, StateError> {
        if self.kept.node.is_none() {
            return Ok(Vec::new());
        }
        let now = unix_millis();
        let register = &self.kept.contents.register;
        let mut entries = entries;
        entries.retain(|it| register.is_news(it, now));
        if entries.is_empty() {
            return Ok(entries);
        }
        let mut merged = Vec::new();
        let record = |kept: &mut Contents| {
            kept.register.forget(now);
            for entry in entries {
                if kept.register.merge(entry.clone(), now) {
                    let Server { upstream, address } = &entry.server;
                    let difference: Option<Difference> = entry.difference.clone();
                    kept.overlay.set(upstream, address, difference);
                    merged.push(entry);
                }
            }
        };
        self.record(record).await?;
        Ok(merged)
    }

    /// Edits what is kept. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written, or another process may. What is kept has not changed.
    async fn record(&mut self, edit: impl FnOnce(&mut Contents)) -> Result<(), StateError> {
        self.lock().await?;
        let mut edited = self.kept.contents.clone();
        edit(&mut edited);
        if let Err(error) = write(self.path, &edited).await {
            // The new file may be in its place without being known to be durable: the old one should be there.
            _ = write(self.path, &self.kept.contents).await;
            return Err(error);
        }
        if self.kept.node.is_some() {
            self.shared.store(Some(Arc::new(edited.register.clone())));
        }
        self.kept.contents = edited;
        Ok(())
    }

    /// Tries again for the lock, unless it is held.
    pub(super) async fn lock(&mut self) -> Result<(), StateError> {
        if self.kept.given_up {
            let path = self.path.to_owned();
            return Err(StateError::InUse { path });
        }
        if self.kept.lock.is_none() {
            let (path, loaded) = (self.path.to_owned(), self.kept.loaded.clone());
            let locked = spawn_blocking(move || lock(&path, &loaded)).await;
            let failed = |error| StateError::Lock {
                path: lock_path(self.path),
                source: io::Error::other(error),
            };
            self.kept.lock = Some(locked.map_err(failed)??);
        }
        Ok(())
    }
}
