//! Where the configuration comes from: a file and the environment, which stays as it was when the process started.

use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use crate::config::{self, Config, Errors, Faults};
use crate::tls::files::Stamp;

/// A configuration's file and environment.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    variables: Vec<(String, String)>,
}

/// What tells one content of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u128);

/// Which file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// The file before it was read; `None` if it is not there.
    pub stamp: Option<Stamp>,
    /// Its content shortly before it was read.
    pub fingerprint: Option<Fingerprint>,
}

impl Source {
    /// The file at `path`, with overrides and secrets from `variables`.
    pub fn new(path: PathBuf, variables: impl Iterator<Item = (String, String)>) -> Self {
        Self {
            path,
            variables: variables.collect(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the configuration. Blocks.
    ///
    /// # Errors
    /// All that are in it.
    pub fn load(&self) -> (Edition, Result<Config, Errors>) {
        // In this order a change while it is read is seen as one that comes after.
        let edition = Edition {
            stamp: Stamp::of(&self.path),
            fingerprint: self.fingerprint(),
        };
        let config = config::load(&self.path, self.variables.iter().cloned());
        (edition, config)
    }

    /// Where the keys of `faults` are.
    pub fn place(&self, faults: Faults) -> Errors {
        config::place(&self.path, self.variables.iter().cloned(), faults)
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        let content = fs::read(&self.path).ok()?;
        Some(Fingerprint(xxh3_128(&content)))
    }
}
