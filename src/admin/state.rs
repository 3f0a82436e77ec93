//! The state file: an [`Overlay`] as JSON, replaced as a whole, so that it is the old or the new one after any crash.
//!
//! ```json
//! {"version": 1, "upstreams": {"app": {
//!     "added": [{"address": "127.0.0.1:3002", "weight": 1, "draining": false}],
//!     "removed": ["127.0.0.1:3000"],
//!     "changed": [{"address": "127.0.0.1:3001", "weight": 2}]}}}
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

use super::overlay::Overlay;

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
    overlay: Mutex<Overlay>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// First, so that a file of another version is refused for that reason.
    version: Version,
    upstreams: Overlay,
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
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overlay::default()),
            Err(source) => {
                return Err(StateError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let document: Document =
            serde_json::from_slice(&text).map_err(|source| StateError::Invalid {
                path: path.to_owned(),
                source,
            })?;
        Ok(document.upstreams)
    }

    /// Keeps changes at `path`. `overlay` is what was loaded from there and has been applied.
    pub fn new(path: PathBuf, overlay: Overlay) -> Self {
        Self {
            path,
            overlay: Mutex::new(overlay),
        }
    }

    /// Begins a change. The next one begins when this one has been dropped.
    pub(super) async fn begin(&self) -> Transaction<'_> {
        Transaction {
            path: &self.path,
            overlay: self.overlay.lock().await,
        }
    }
}

/// The right to change servers, which one change at a time has.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    path: &'a Path,
    overlay: MutexGuard<'a, Overlay>,
}

impl Transaction<'_> {
    /// Edits what is kept. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written. What is kept has not changed.
    pub(super) async fn record(
        &mut self,
        edit: impl FnOnce(&mut Overlay),
    ) -> Result<(), StateError> {
        let mut edited = self.overlay.clone();
        edit(&mut edited);
        if let Err(error) = write(self.path, &edited).await {
            // The new file may be in its place without being known to be durable: the old one should be there.
            _ = write(self.path, &self.overlay).await;
            return Err(error);
        }
        *self.overlay = edited;
        Ok(())
    }
}

async fn write(path: &Path, overlay: &Overlay) -> Result<(), StateError> {
    let failed = |source| StateError::Write {
        path: path.to_owned(),
        source,
    };
    let document = Document {
        version: Version,
        upstreams: overlay.clone(),
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
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The new name is durable only when its directory is.
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::tests::TempDir;
    use super::*;

    fn load(text: &str) -> Result<Overlay, String> {
        let dir = TempDir::new();
        let path = dir.path().join("state");
        fs::write(&path, text).unwrap();
        StateFile::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_file_holds_nothing() {
        let dir = TempDir::new();
        let overlay = StateFile::load(&dir.path().join("state")).unwrap();
        assert_eq!(overlay, Overlay::default());
    }

    #[test]
    fn a_damaged_file_is_refused_by_name_and_with_a_way_out() {
        for (text, why) in [
            ("", "EOF"),
            ("{\"version\": 1, \"upstreams\"", "EOF"),
            (
                r#"{"version": 2, "servers": []}"#,
                "version 2 is unknown, expected 1",
            ),
            (
                r#"{"version": 1, "upstreams": {"a": {"add": []}}}"#,
                "unknown field `add`",
            ),
            (
                r#"{"version": 1, "upstreams": {"a": {"removed": ["x"]}}}"#,
                "has no port",
            ),
            (
                r#"{"version": 1, "upstreams": {"a": {"added": [{"address": "x:1", "weight": 999}]}}}"#,
                "expected an integer from 0 to 256",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("/state\" is not valid"), "{error}");
            assert!(error.contains("move it away"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = TempDir::new();
        let error = StateFile::load(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::Read { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_was_recorded_is_loaded() {
        let dir = TempDir::new();
        let path = dir.path().join("state");
        fs::write(dir.path().join("state.tmp"), "left behind by a crash").unwrap();
        let file = StateFile::new(path.clone(), Overlay::default());
        let mut transaction = file.begin().await;
        for address in ["a:1", "b:1"] {
            let address = address.parse().unwrap();
            transaction
                .record(|overlay| overlay.remove("app", &address))
                .await
                .unwrap();
        }
        assert_eq!(StateFile::load(&path).unwrap(), *transaction.overlay);
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(names, ["state"], "no temporary file stays");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_kept() {
        let dir = TempDir::new();
        let file = StateFile::new(dir.path().join("missing/state"), Overlay::default());
        let mut transaction = file.begin().await;
        let address = "a:1".parse().unwrap();
        let error = transaction
            .record(|overlay| overlay.remove("app", &address))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("missing/state\": No such file"),
            "{error}"
        );
        assert_eq!(*transaction.overlay, Overlay::default());
    }
}
