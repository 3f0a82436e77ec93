//! A file of networks, and what was last read from it.
//!
//! A file that has changed is read once two looks have found it the same: whoever writes it in place is then done. What is
//! bad changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{fs, io};

use arc_swap::{ArcSwap, ArcSwapOption};
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
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. } | Self::Lines { path, .. } => path,
        }
    }

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
    /// Held while the file is read, which may take for ever: whoever only asks does without.
    seen: Mutex<Seen>,
    /// Why what was there could not be used.
    error: ArcSwapOption<FileError>,
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
    /// When it was last read, if it could be: that nothing has changed since is then no reason to leave it.
    read: Option<Stamp>,
    /// At the last look, if it was another one then.
    changing: Option<Option<Stamp>>,
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
            }),
            error: ArcSwapOption::empty(),
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
    pub fn error(&self) -> Option<Arc<FileError>> {
        self.error.load_full()
    }

    /// What it held when it was last read well.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        self.content.load().networks.clone()
    }

    /// Looks whether it has changed, and reads it once it changes no more. One that cannot be read is tried each time, and
    /// told of once.
    pub(super) fn look(&self) -> Look {
        self.look_by(&read)
    }

    fn look_by(&self, read: &Read) -> Look {
        let mut seen = self.seen();
        let stamp = Stamp::of(&self.path);
        if stamp.is_some() && stamp == seen.read {
            seen.changing = None;
            return Look::Unchanged;
        }
        if seen.changing.as_ref() != Some(&stamp) {
            seen.changing = Some(stamp);
            return Look::Unchanged;
        }
        let told = self.error().map(|it| it.lines());
        match self.read_again(&mut seen, stamp, read) {
            Look::Failed(error) if told == Some(error.lines()) => Look::Unchanged,
            look => look,
        }
    }

    /// Reads it if it has changed, whether it changes still or not. Fails for as long as what there is cannot be used.
    pub(super) fn look_at_once(&self) -> Look {
        self.look_at_once_by(&read)
    }

    fn look_at_once_by(&self, read: &Read) -> Look {
        let mut seen = self.seen();
        let stamp = Stamp::of(&self.path);
        if stamp.is_none() || stamp != seen.read {
            return self.read_again(&mut seen, stamp, read);
        }
        match self.error() {
            Some(error) => Look::Failed(FileError::clone(&error)),
            None => Look::Unchanged,
        }
    }

    fn read_again(&self, seen: &mut Seen, stamp: Option<Stamp>, read: &Read) -> Look {
        let content = read(&self.path);
        let was_read = !matches!(content, Err(FileError::Read { .. }));
        seen.changing = (!was_read).then(|| stamp.clone());
        seen.read = stamp.filter(|_| was_read);
        match content {
            Ok(content) => {
                self.error.store(None);
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
                self.error.store(Some(Arc::new(error.clone())));
                Look::Failed(error)
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file is read by.
type Read = dyn Fn(&Path) -> Result<Content, FileError>;

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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;
    use std::{env, process, thread};

    use super::*;

    /// A file with one network in it, removed at the end.
    struct Written(PathBuf);

    impl Written {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("lb-list-{name}-{}", process::id()));
            fs::write(&path, "10.0.0.0/8\n").unwrap();
            Self(path)
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            _ = fs::remove_file(&self.0);
        }
    }

    fn unreadable(path: &Path) -> Result<Content, FileError> {
        Err(FileError::Read {
            path: path.to_owned(),
            source: Arc::new(io::ErrorKind::PermissionDenied.into()),
        })
    }

    #[test]
    fn what_could_not_be_read_is_tried_again_though_it_has_not_changed() {
        let written = Written::new("again");
        let file = ListFile::load(&written.0).unwrap();
        fs::write(&written.0, "10.0.0.0/8\n192.0.2.0/24\n").unwrap();
        assert!(matches!(file.look_by(&unreadable), Look::Unchanged));
        assert!(matches!(file.look_by(&unreadable), Look::Failed(_)));
        for _ in 0..3 {
            assert!(
                matches!(file.look_by(&unreadable), Look::Unchanged),
                "told once"
            );
            assert!(matches!(file.look_at_once_by(&unreadable), Look::Failed(_)));
        }
        assert!(file.error().is_some());
        assert!(matches!(file.look(), Look::Reloaded), "it can be read now");
        assert!(file.error().is_none());
        assert_eq!(file.entries(), 2);

        fs::write(&written.0, "10.0.0.0/8\n").unwrap();
        assert!(matches!(file.look_at_once_by(&unreadable), Look::Failed(_)));
        assert!(matches!(file.look_at_once(), Look::Reloaded));
    }

    #[test]
    fn who_asks_for_the_state_of_a_file_does_not_wait_until_it_has_been_read() {
        let written = Written::new("hangs");
        let file = Arc::new(ListFile::load(&written.0).unwrap());
        fs::write(&written.0, "10.0.0.0/8\n192.0.2.0/24\n").unwrap();
        let asked = Arc::clone(&file);
        let look = file.look_at_once_by(&move |path| {
            let (tell, told) = mpsc::channel();
            let asked = Arc::clone(&asked);
            thread::spawn(move || tell.send((asked.error().is_some(), asked.entries())));
            let told = told.recv_timeout(Duration::from_secs(10));
            assert_eq!(told, Ok((false, 1)));
            read(path)
        });
        assert!(matches!(look, Look::Reloaded));
    }
}
