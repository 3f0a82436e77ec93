//! A file of networks, and what was last read from it.
//!
//! A file that has changed is read once two looks have found it the same: whoever writes it in place is then done. What is
//! bad changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{fs, io};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use jiff::Timestamp;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use super::AccessList;
use super::text::{self, BadLines};
use crate::tls::files::Stamp;

/// Why a file cannot be used.
#[derive(Debug, Clone, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: Arc<io::Error>,
    },
    /// It holds something else than networks.
    #[error("{}", lines(path, bad).join("\n"))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Its lines that are wrong.
        bad: BadLines,
    },
}

fn lines(path: &Path, bad: &BadLines) -> Vec<String> {
    bad.of(&path.display().to_string()).collect()
}

impl FileError {
    /// Each thing that is wrong, on one line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Read { .. } => vec![self.to_string()],
            Self::Lines { path, bad } => lines(path, bad),
        }
    }
}

/// What a look at a file has come to.
#[derive(Debug)]
pub enum Look {
    /// It is what it was.
    Unchanged,
    /// It holds other networks now.
    Reloaded,
    /// What there is now cannot be used.
    Failed(FileError),
}

/// A file of networks.
#[derive(Debug)]
pub struct ListFile {
    path: PathBuf,
    content: ArcSwap<Content>,
    seen: Mutex<Seen>,
    /// Those that are made of it, of whatever configuration.
    lists: Mutex<Vec<Weak<AccessList>>>,
}

/// What was read.
#[derive(Debug)]
struct Content {
    networks: Vec<IpNet>,
    fingerprint: u128,
    since: Timestamp,
}

/// How the file was.
#[derive(Debug)]
struct Seen {
    /// When it was last read, or tried to be.
    read: Option<Stamp>,
    /// At the last look, if it was another one then.
    changing: Option<Option<Stamp>>,
    /// Why what was there could not be used.
    error: Option<FileError>,
}

impl ListFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn load(path: &Path) -> Result<Self, FileError> {
        let stamp = Stamp::of(path);
        Ok(Self {
            path: path.to_owned(),
            content: ArcSwap::from_pointee(read(path)?),
            seen: Mutex::new(Seen {
                read: stamp,
                changing: None,
                error: None,
            }),
            lists: Mutex::default(),
        })
    }

    /// Has a list be made again whenever other networks are read.
    pub(super) fn tell(&self, list: &Arc<AccessList>) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|it| it.strong_count() > 0);
        lists.push(Arc::downgrade(list));
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many networks it held when it was last read well.
    pub fn entries(&self) -> usize {
        self.content.load().networks.len()
    }

    /// Since when these have been in force.
    pub fn since(&self) -> Timestamp {
        self.content.load().since
    }

    /// Why what there is now is not used.
    pub fn error(&self) -> Option<FileError> {
        self.seen().error.clone()
    }

    /// What it held when it was last read well.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        self.content.load().networks.clone()
    }

    /// Looks whether it has changed, and reads it once it changes no more.
    pub(super) fn look(&self) -> Look {
        let mut seen = self.seen();
        let stamp = Stamp::of(&self.path);
        if stamp == seen.read {
            seen.changing = None;
            return Look::Unchanged;
        }
        if seen.changing.as_ref() != Some(&stamp) {
            seen.changing = Some(stamp);
            return Look::Unchanged;
        }
        self.read_again(&mut seen, stamp)
    }

    /// Reads it if it has changed, whether it changes still or not. Fails for as long as what there is cannot be used.
    pub(super) fn look_at_once(&self) -> Look {
        let mut seen = self.seen();
        let stamp = Stamp::of(&self.path);
        if stamp != seen.read {
            return self.read_again(&mut seen, stamp);
        }
        match &seen.error {
            Some(error) => Look::Failed(error.clone()),
            None => Look::Unchanged,
        }
    }

    fn read_again(&self, seen: &mut Seen, stamp: Option<Stamp>) -> Look {
        seen.read = stamp;
        seen.changing = None;
        match read(&self.path) {
            Ok(content) => {
                seen.error = None;
                if content.fingerprint == self.content.load().fingerprint {
                    return Look::Unchanged;
                }
                self.content.store(Arc::new(content));
                let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
                let lists = lists.iter().filter_map(Weak::upgrade);
                lists.for_each(|list| list.make_again());
                Look::Reloaded
            }
            Err(error) => {
                seen.error = Some(error.clone());
                Look::Failed(error)
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Content, FileError> {
    let text = fs::read(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    let networks = text::networks(&text).map_err(|bad| FileError::Lines {
        path: path.to_owned(),
        bad,
    })?;
    Ok(Content {
        networks,
        fingerprint: xxh3_128(&text),
        since: Timestamp::now(),
    })
}
