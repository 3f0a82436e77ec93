//! The sessions of a socket, by number and by client.

use std::collections::HashMap;

use crate::net::udp::Path;

/// So many places are kept in any case.
const FEW: usize = 1024;

/// Sessions. Each has a number for as long as it is there, which is another one's afterwards.
#[derive(Debug)]
pub struct Sessions<T> {
    /// Boxed, so that a crowd that has left leaves no more than a pointer each.
    all: Vec<Option<Box<T>>>,
    free: Vec<u32>,
    by_path: HashMap<Path, u32, foldhash::fast::RandomState>,
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            by_path: HashMap::default(),
        }
    }
}

impl<T: AsRef<Path>> Sessions<T> {
    /// Adds one, and gives it a number.
    pub fn insert(&mut self, session: Box<T>) -> u32 {
        let path = *(*session).as_ref();
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
    pub fn get(&self, number: u32) -> Option<&T> {
        self.all.get(number as usize)?.as_deref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.all.get_mut(number as usize)?.as_deref_mut()
    }

    /// Takes one out.
    pub fn remove(&mut self, number: u32) -> Option<Box<T>> {
        let session = self.all.get_mut(number as usize)?.take()?;
        let path = (*session).as_ref();
        // Else another one has come in its place.
        if self.by_path.get(path) == Some(&number) {
            self.by_path.remove(path);
        }
        self.free.push(number);
        Some(session)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    struct OfPort(Path);

    impl AsRef<Path> for OfPort {
        fn as_ref(&self) -> &Path {
            &self.0
        }
    }

    fn path(port: u16) -> Path {
        Path {
            peer: ([192, 0, 2, 1], port).into(),
            local: None,
        }
    }

    fn add(sessions: &mut Sessions<OfPort>, port: u16) -> u32 {
        sessions.insert(Box::new(OfPort(path(port))))
    }

    #[test]
    fn sessions_are_found_by_client_and_by_number() {
        let mut sessions = Sessions::default();
        let [first, second] = [1, 2].map(|port| add(&mut sessions, port));
        assert_eq!(sessions.find(&path(2)), Some(second));
        assert_eq!(sessions.get(first).unwrap().0, path(1));
        assert!(sessions.remove(first).is_some());
        assert!(sessions.remove(first).is_none());
        assert_eq!((sessions.find(&path(1)), sessions.len()), (None, 1));
        assert_eq!(add(&mut sessions, 3), first, "it was free");
    }

    #[test]
    fn the_end_of_a_session_leaves_another_of_its_client_alone() {
        let mut sessions = Sessions::default();
        let [first, second] = [1, 1].map(|port| add(&mut sessions, port));
        assert_eq!((sessions.find(&path(1)), sessions.len()), (Some(second), 2));
        sessions.remove(first);
        assert_eq!((sessions.find(&path(1)), sessions.len()), (Some(second), 1));
        sessions.remove(second);
        assert!(sessions.is_empty() && sessions.find(&path(1)).is_none());
    }

    #[test]
    fn a_crowd_that_has_left_is_forgotten() {
        let mut sessions = Sessions::default();
        let numbers: Vec<u32> = (0..20_000).map(|port| add(&mut sessions, port)).collect();
        let kept = numbers[5000];
        for number in numbers.into_iter().filter(|it| *it != kept) {
            sessions.remove(number);
        }
        sessions.trim();
        assert_eq!(sessions.end(), 5001);
        assert!(sessions.all.capacity() < 10_000 && sessions.by_path.capacity() < 10_000);
        assert_eq!(sessions.get(kept).unwrap().0, path(5000));
        let again = [1, 2].map(|port| add(&mut sessions, port));
        assert_eq!(again, [0, 1], "the lowest first");
        sessions.remove(kept);
        sessions.trim();
        assert_eq!((sessions.end(), sessions.len()), (2, 2));
        again.iter().for_each(|it| drop(sessions.remove(*it)));
        sessions.trim();
        assert!(sessions.is_empty() && sessions.end() == 0);
        assert_eq!(add(&mut sessions, 7), 0);
    }
}
