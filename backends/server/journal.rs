//! A file that says which requests were executed, line by line, so that nothing is forgotten when the server is killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process;

use hyper::header::HeaderName;
use hyper::{HeaderMap, Method};

/// What a request that is to be written down is called by its client.
const CHAOS_ID: HeaderName = HeaderName::from_static("x-chaos-id");

/// The file. A line is `ID METHOD PID begin` when a request's execution begins, and `ID METHOD PID end` when its answer is
/// ready. Several servers may share a file: a line is one write, to wherever the end is.
pub struct Journal(File);

/// A request of which the beginning has been written.
pub struct Entry<'a> {
    journal: &'a Journal,
    id: String,
    method: Method,
}

impl Journal {
    /// Lines are added at the file's end.
    ///
    /// # Errors
    /// When it cannot be opened or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    /// Writes that a request begins to be executed, unless it has no `x-chaos-id`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, method: &Method, headers: &HeaderMap) -> io::Result<Option<Entry<'_>>> {
        let id = headers.get(CHAOS_ID).and_then(|id| id.to_str().ok());
        let Some(id) = id.filter(|id| !id.contains(' ')) else {
            return Ok(None);
        };
        let entry = Entry {
            journal: self,
            id: id.to_owned(),
            method: method.clone(),
        };
        entry.write("begin")?;
        Ok(Some(entry))
    }
}

impl Entry<'_> {
    /// Writes that the request's answer is ready.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self) -> io::Result<()> {
        self.write("end")
    }

    fn write(&self, phase: &str) -> io::Result<()> {
        let Self { id, method, .. } = self;
        let line = format!("{id} {method} {} {phase}\n", process::id());
        (&self.journal.0).write_all(line.as_bytes())
    }
}
