//! When the configuration's file is worth reading again.
//!
//! It is looked at every second, as a look is a few system calls and sees renames, symbolic links that were swapped, and
//! networks' file systems. A file that was another one at the last look may still be being written: it waits one more.

use crate::tls::files::Stamp;

/// The file, as far as it was seen.
#[derive(Debug)]
pub struct Watched<S = Stamp> {
    /// At the last look.
    last: Option<S>,
    /// When it was last read.
    read: Option<S>,
}

impl<S: PartialEq + Clone> Watched<S> {
    /// A file that was like this when it was read.
    pub fn new(read: Option<S>) -> Self {
        Self {
            last: read.clone(),
            read,
        }
    }

    /// It was like this when it was read again.
    pub fn was_read(&mut self, stamp: Option<S>) {
        self.read = stamp;
    }

    /// It is like this now. Whether it has changed since it was read, and not since the last look.
    pub fn look(&mut self, now: Option<S>) -> bool {
        let settled = now == self.last;
        self.last.clone_from(&now);
        settled && now.is_some() && now != self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_it_has_settled() {
        let mut file = Watched::new(Some(1));
        assert!(!file.look(Some(1)));
        assert!(!file.look(Some(2)), "it may still be being written");
        assert!(!file.look(Some(3)));
        assert!(file.look(Some(3)));
        file.was_read(Some(3));
        assert!(!file.look(Some(3)));
    }

    #[test]
    fn a_file_that_is_missing_is_waited_for() {
        let mut file = Watched::new(Some(1));
        assert!(!file.look(None));
        assert!(!file.look(None));
        assert!(!file.look(Some(2)));
        assert!(file.look(Some(2)));
    }

    #[test]
    fn what_is_back_as_it_was_is_no_change() {
        let mut file = Watched::new(Some(1));
        assert!(!file.look(Some(2)));
        assert!(!file.look(Some(1)));
        assert!(!file.look(Some(1)));
    }
}
