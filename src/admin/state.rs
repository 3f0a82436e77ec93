//! The state file: an [`Overlay`] as JSON, replaced as a whole, so that it is the old or the new one after any crash.
//!
//! ```json
//! {"version": 1, "upstreams": {"app": {
//!     "added": [{"address": "127.0.0.1:3002", "weight": 1, "draining": false}],
//!     "removed": ["127.0.0.1:3000"],
//!     "changed": [{"address": "127.0.0.1:3001", "weight": 2}]}}}
//! ```
//!
//! Where changes are the fleet's there is also `"fleet"`: who has made the last change of each server, and when.
//!
//! One load balancer at a time may replace it, the one that holds an advisory lock on a file beside it: the state file
//! itself is another one after each change. The system releases the lock when the process ends, however it ends. The
//! others serve traffic, refuse changes, and try for the lock at each.

mod transaction;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::overlay::{Overlay, Source};
use super::register::{Register, Server};
pub use transaction::{HeldState, Transaction};

/// How long the fleet keeps a change that no longer applies to a configuration: by then all nodes should have that one.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why changes could not be read or kept.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file is there and cannot be read.
    #[error("cannot read the state file {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The file does not hold what this program wrote.
    #[error(
        "the state file {path:?} is not valid: {source}; restore it, or move it away to start with the servers of the \
         configuration alone"
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// Another process has the lock.
    #[error(
        "another load balancer keeps its changes in {path:?}: changes are refused here; give this one its own \
         admin.state_file"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another process had the lock, and made changes that this one does not have.
    #[error(
        "the state file {path:?} has changed since this load balancer started: changes are refused here; restart it to \
         begin with what the file holds now"
    )]
    Outdated {
        /// The file.
        path: PathBuf,
    },
    /// The file system does not let this process have the lock.
    #[error("changes are refused here, the state file cannot be locked with {path:?}: {source}")]
    Lock {
        /// The file beside the state file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the state file {path:?}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
}

/// The file, and what it holds.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    kept: Mutex<Kept>,
    /// The register, as it is on the disk; none while changes are this node's alone.
    shared: Arc<ArcSwapOption<Register>>,
}

/// What the file holds, and the right to replace it.
#[derive(Debug)]
struct Kept {
    contents: Contents,
    /// This node's name, if changes are the fleet's.
    node: Option<String>,
    /// What the file held when the overlay was loaded; empty if it was missing.
    loaded: Vec<u8>,
    /// The locked file; none while another process has the lock.
    lock: Option<File>,
    /// Since when changes do not apply that did before.
    dropped: BTreeMap<Server, Instant>,
    /// Whether another process has taken over, and this one is not to lock the file again.
    given_up: bool,
}

/// What was done to servers.
#[derive(Debug, Clone, Default)]
struct Contents {
    overlay: Overlay,
    register: Register,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// First, so that a file of another version is refused for that reason.
    version: Version,
    upstreams: Overlay,
    #[serde(default, skip_serializing_if = "Register::is_empty")]
    fleet: Register,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
struct Version;

impl From<Version> for u32 {
    fn from(_: Version) -> Self {
        1
    }
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        match version {
            1 => Ok(Self),
            other => Err(format!("version {other} is unknown, expected 1")),
        }
    }
}

impl StateFile {
    /// What was kept at `path`; nothing if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a state file.
    pub fn load(path: &Path) -> Result<Overlay, StateError> {
        let Some(content) = read(path)? else {
            return Ok(Overlay::default());
        };
        let document: Document =
            serde_json::from_slice(&content).map_err(|source| StateError::Invalid {
                path: path.to_owned(),
                source,
            })?;
        let mut overlay = document.upstreams;
        overlay.source = Some(Source {
            path: path.to_owned(),
            content,
            register: document.fleet,
            changed: overlay.servers(),
        });
        Ok(overlay)
    }

    /// Keeps changes at `path`. `overlay` is what was loaded from there and has been applied.
    ///
    /// Logs a warning if changes would be refused by now: it is no reason not to serve traffic.
    pub fn new(path: PathBuf, overlay: Overlay) -> Self {
        let mut state = Self::waiting(path, overlay);
        let kept = state.kept.get_mut();
        let lock = lock(&state.path, &kept.loaded);
        kept.lock = lock.inspect_err(|error| tracing::warn!("{error}")).ok();
        state
    }

    /// The same for a process that takes over: another one keeps changes there until [`claim`](Self::claim).
    pub fn waiting(path: PathBuf, mut overlay: Overlay) -> Self {
        let source = overlay.source.take();
        let (loaded, register, changed) = source
            .map(|it| (it.content, it.register, it.changed))
            .unwrap_or_default();
        let applied = overlay.servers();
        let dropped = changed.difference(&applied).cloned();
        let dropped = dropped.map(|it| (it, Instant::now())).collect();
        let kept = Kept {
            contents: Contents { overlay, register },
            node: None,
            loaded,
            lock: None,
            dropped,
            given_up: false,
        };
        Self {
            path,
            kept: Mutex::new(kept),
            shared: Arc::default(),
        }
    }

    /// The same, whose changes are the fleet's: see [`Transaction::share_as`].
    pub fn sharing_as(mut self, node: Option<&str>) -> Self {
        share_as(self.kept.get_mut(), &self.shared, node);
        self
    }

    /// What is to be told to the fleet.
    pub fn shared(&self) -> Arc<ArcSwapOption<Register>> {
        Arc::clone(&self.shared)
    }

    /// Keeps changes there from now on, since the other process does so no more. Logs a warning if that is not so.
    pub async fn claim(&self) {
        if let Err(error) = self.begin().await.lock().await {
            tracing::warn!("{error}");
        }
    }

    /// Has changes wait until the answer is dropped.
    pub async fn hold(&self) -> HeldState<'_> {
        HeldState(self.begin().await)
    }

    /// Begins a change. The next one begins when this one has been dropped.
    pub async fn begin(&self) -> Transaction<'_> {
        Transaction {
            path: &self.path,
            shared: &self.shared,
            kept: self.kept.lock().await,
        }
    }
}

fn share_as(kept: &mut Kept, shared: &ArcSwapOption<Register>, node: Option<&str>) {
    kept.node = node.map(str::to_owned);
    let Some(node) = node else {
        shared.store(None);
        return;
    };
    let Contents { overlay, register } = &mut kept.contents;
    for (upstream, address, difference) in overlay.differences() {
        let (upstream, address) = (upstream.to_owned(), address.clone());
        register.put_first(Server { upstream, address }, difference, node);
    }
    shared.store(Some(Arc::new(register.clone())));
}

/// Locks the state file, which should hold what was loaded, until the answer is dropped.
fn lock(path: &Path, loaded: &[u8]) -> Result<File, StateError> {
    let lock_path = lock_path(path);
    let mut options = File::options();
    let opened = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path);
    let locked = opened
        .map_err(TryLockError::Error)
        .and_then(|file| file.try_lock().map(|()| file));
    let file = locked.map_err(|error| match error {
        TryLockError::WouldBlock => StateError::InUse {
            path: path.to_owned(),
        },
        TryLockError::Error(source) => StateError::Lock {
            path: lock_path,
            source,
        },
    })?;
    // Only now is it certain that nobody else replaces it.
    if read(path)?.unwrap_or_default() == loaded {
        Ok(file)
    } else {
        Err(StateError::Outdated {
            path: path.to_owned(),
        })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// The file of this name with `suffix` at its end.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file's content; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

async fn write(path: &Path, contents: &Contents) -> Result<(), StateError> {
    let failed = |source| StateError::Write {
        path: path.to_owned(),
        source,
    };
    let document = Document {
        version: Version,
        upstreams: contents.overlay.clone(),
        fleet: contents.register.clone(),
    };
    let mut text = serde_json::to_vec_pretty(&document).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let target = path.to_owned();
    let written = spawn_blocking(move || replace(&target, &text)).await;
    written
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(failed)
}

/// Puts a file with this content in the place of the one at `path`, if any.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The new name is durable only when its directory is.
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
