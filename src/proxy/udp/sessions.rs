//! The sessions of a socket, by number and by client.

use std::collections::HashMap;

use super::session::Session;
use crate::net::udp::Path;

/// So many places are kept in any case.
const FEW: usize = 1024;

/// Sessions. Each has a number for as long as it is there, which is another one's afterwards.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Boxed, so that a crowd that has left leaves no more than a pointer each.
    all: Vec<Option<Box<Session>>>,
    free: Vec<u32>,
    by_path: HashMap<Path, u32, foldhash::fast::RandomState>,
}

impl Sessions {
    /// Adds one, and gives it a number.
    pub fn insert(&mut self, path: Path, session: Box<Session>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            u32::try_from(self.all.len() - 1).expect("there are fewer file descriptors")
        });
        self.all[number as usize] = Some(session);
        self.by_path.insert(path, number);
        number
    }

    /// The number of a client's session.
    pub fn find(&self, path: &Path) -> Option<u32> {
        self.by_path.get(path).copied()
    }

    /// The session of this number.
    pub fn get(&self, number: u32) -> Option<&Session> {
        self.all.get(number as usize)?.as_deref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Session> {
        self.all.get_mut(number as usize)?.as_deref_mut()
    }

    /// Takes one out.
    pub fn remove(&mut self, number: u32) -> Option<Box<Session>> {
        let session = self.all.get_mut(number as usize)?.take()?;
        self.by_path.remove(&session.path());
        self.free.push(number);
        Some(session)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// One more than the highest number that was ever given, since the last [`trim`](Self::trim).
    pub fn end(&self) -> u32 {
        self.all.len() as u32
    }

    /// Gives the space of a crowd back that has left.
    pub fn trim(&mut self) {
        if self.len() >= self.all.len().max(FEW) / 4 {
            return;
        }
        let used = self.all.iter().rposition(Option::is_some);
        self.all.truncate(used.map_or(0, |it| it + 1));
        let end = self.all.len() as u32;
        self.free.retain(|number| *number < end);
        // The lowest are taken first, so that the high ones become unused.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        self.all.shrink_to(FEW);
        self.free.shrink_to(FEW);
        self.by_path.shrink_to(FEW);
    }
}
