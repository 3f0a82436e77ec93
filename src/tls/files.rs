//! Which files have been replaced since they were read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells a file from the one that was at its path before: renames change the inode, symbolic links the resolved
/// path, writes the size or time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    resolved: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The file that is at `path` now; `None` when there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let resolved = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&resolved).ok()?;
        Some(Self {
            resolved,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Files, and how they were when last looked at.
#[derive(Debug)]
pub(super) struct Watched(Vec<(PathBuf, Option<Stamp>)>);

impl Watched {
    /// Looks at `paths`. To be called before they are read: what changes while they are is then seen by the next look.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let paths = paths.into_iter();
        Self(
            paths
                .map(|path| (path.to_owned(), Stamp::of(path)))
                .collect(),
        )
    }

    /// Whether a file is another than at the last look. To be called before they are read.
    pub(super) fn look(&mut self) -> bool {
        let mut is_changed = false;
        for (path, seen) in &mut self.0 {
            let now = Stamp::of(path);
            is_changed |= now != *seen;
            *seen = now;
        }
        is_changed
    }
}
