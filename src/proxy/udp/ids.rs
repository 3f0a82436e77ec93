//! Which server a QUIC connection is at, by its ids, whatever address its client has: shared by all workers, as a client that
//! moves may come to another one.
//!
//! What is learned: the ids of the packets that set a connection up, which both sides send in the clear. Ids that a server
//! gives its client later are encrypted, and nothing is known of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use papaya::Operation;

use crate::message::quic::{self, Header, Id, MAX_ID, MIN_ID};

/// Ids of a session that are known at most, the latest ones: what a client begins with, what a server that has it come again
/// calls it, how that goes on, and the same of the client's next connection.
const MOST: usize = 4;

/// The ids of all sessions of a listener, and the servers that they are at.
#[derive(Debug)]
pub struct Ids<S> {
    known: papaya::HashMap<Id, Known<S>, foldhash::fast::RandomState>,
    /// The lengths that there were, a bit each: short headers do not say theirs.
    lengths: AtomicU32,
}

#[derive(Debug, Clone)]
struct Known<S> {
    server: S,
    /// How many have it: the one that has learned it, and those that have come upon it since. Of the two sessions of a client
    /// that has moved, nobody knows which one goes on.
    sessions: u32,
}

/// The ids of a session. They are forgotten when it ends, unless others have them too.
#[derive(Debug)]
pub struct Learned<S: Clone> {
    all: Arc<Ids<S>>,
    own: Vec<Id>,
}

impl<S> Default for Ids<S> {
    fn default() -> Self {
        Self {
            known: papaya::HashMap::default(),
            lengths: AtomicU32::new(0),
        }
    }
}

impl<S: Clone> Ids<S> {
    /// The server of the connection that a datagram is of, if that is known, and by which id.
    pub fn find(&self, datagram: &[u8]) -> Option<(Id, S)> {
        let known = self.known.pin();
        let look_up = |id: Id| Some((id, known.get(&id)?.server.clone()));
        match quic::header(datagram)? {
            Header::Long { destination, .. } => look_up(destination?),
            Header::Short(rest) => {
                let lengths = self.lengths.load(Relaxed);
                let mut lengths = (MIN_ID..=MAX_ID).filter(|it| lengths & (1 << it) != 0);
                lengths.find_map(|length| look_up(Id::new(rest.get(..length)?)?))
            }
        }
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

impl<S: Clone> Learned<S> {
    /// A session that no id is known of.
    pub fn new(all: &Arc<Ids<S>>) -> Self {
        Self {
            all: Arc::clone(all),
            own: Vec::new(),
        }
    }

    /// Has an id in common with the session that its client has left by moving, if it has.
    pub fn adopt(&mut self, id: Id) {
        let adopt = |known: &Known<S>| Known {
            server: known.server.clone(),
            sessions: known.sessions + 1,
        };
        if self.all.known.pin().update(id, adopt).is_some() {
            self.own.push(id);
        }
    }

    /// Takes note of the id that the client has made up for the server, if that is what this datagram is.
    pub fn called(&mut self, datagram: &[u8], server: &S) {
        if let Some(Header::Long { destination, .. }) = quic::header(datagram) {
            self.learn(destination, server);
        }
    }

    /// Takes note of the id that the server has chosen, if that is what this datagram of it says.
    pub fn answered(&mut self, datagram: &[u8], server: &S) {
        if let Some(Header::Long { source, .. }) = quic::header(datagram) {
            self.learn(source, server);
        }
    }

    fn learn(&mut self, id: Option<Id>, server: &S) {
        let Some(id) = id.filter(|id| !self.own.contains(id)) else {
            return;
        };
        let known = Known {
            server: server.clone(),
            sessions: 1,
        };
        // Nobody can take another's.
        if self.all.known.pin().try_insert(id, known).is_ok() {
            if self.own.len() == MOST {
                let oldest = self.own.remove(0);
                self.forget(&oldest);
            }
            self.own.push(id);
            let length = id.as_bytes().len();
            self.all.lengths.fetch_or(1 << length, Relaxed);
        }
    }

    fn forget(&self, id: &Id) {
        let known = self.all.known.pin();
        known.compute(*id, |entry| match entry {
            Some((_, known)) if known.sessions > 1 => Operation::Insert(Known {
                server: known.server.clone(),
                sessions: known.sessions - 1,
            }),
            Some(_) => Operation::Remove,
            None => Operation::Abort(()),
        });
    }
}

impl<S: Clone> Drop for Learned<S> {
    fn drop(&mut self) {
        self.own.iter().for_each(|id| self.forget(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(destination: &[u8], source: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc0, 0, 0, 0, 1];
        for id in [destination, source] {
            packet.push(id.len() as u8);
            packet.extend(id);
        }
        packet
    }

    fn short(id: &[u8]) -> Vec<u8> {
        [b"\x40", id, b"encrypted"].concat()
    }

    fn found(ids: &Ids<&'static str>, datagram: &[u8]) -> Option<&'static str> {
        ids.find(datagram).map(|(_, server)| server)
    }

    #[test]
    fn a_connection_is_known_by_the_ids_of_both_sides() {
        let ids = Arc::new(Ids::default());
        let mut session = Learned::new(&ids);
        session.called(&long(b"made up!", b"client"), &"b");
        session.answered(&long(b"client", b"server's"), &"b");
        session.answered(&short(b"client"), &"b");
        assert_eq!(found(&ids, &long(b"made up!", b"client")), Some("b"));
        assert_eq!(found(&ids, &short(b"server's")), Some("b"));
        assert_eq!(found(&ids, &short(b"client's")), None);
        assert_eq!(found(&ids, &short(b"serv")), None);
        drop(session);
        assert_eq!((found(&ids, &short(b"server's")), ids.count()), (None, 0));
    }

    #[test]
    fn a_session_that_a_client_has_moved_to_keeps_its_id() {
        let ids = Arc::new(Ids::default());
        let mut first = Learned::new(&ids);
        first.answered(&long(b"", b"server's"), &"a");
        let mut second = Learned::new(&ids);
        let (id, server) = ids.find(&short(b"server's")).unwrap();
        second.adopt(id);
        drop(first);
        assert_eq!((server, found(&ids, &short(b"server's"))), ("a", Some("a")));
        drop(second);
        assert_eq!(ids.count(), 0);
    }

    #[test]
    fn a_session_that_comes_upon_an_id_does_not_take_it_from_the_one_that_has_it() {
        let ids = Arc::new(Ids::default());
        let mut first = Learned::new(&ids);
        first.answered(&long(b"", b"server's"), &"a");
        for _ in 0..3 {
            let mut second = Learned::new(&ids);
            let (id, _) = ids.find(&short(b"server's")).unwrap();
            second.adopt(id);
            second.answered(&long(b"", b"server's"), &"a");
        }
        assert_eq!(found(&ids, &short(b"server's")), Some("a"));
        drop(first);
        assert_eq!(ids.count(), 0);
    }

    #[test]
    fn nobody_takes_an_id_from_another_and_nobody_has_many() {
        let ids = Arc::new(Ids::default());
        let mut first = Learned::new(&ids);
        first.answered(&long(b"", b"server's"), &"a");
        let mut thief = Learned::new(&ids);
        thief.called(&long(b"server's", b""), &"b");
        assert_eq!(found(&ids, &short(b"server's")), Some("a"));
        for number in 0..100 {
            thief.answered(&long(b"", &[7, number, 0, 0, 0]), &"b");
            thief.called(&long(&[8, number, 0, 0, 0], b""), &"b");
        }
        assert_eq!(ids.count(), 1 + MOST);
        assert_eq!(
            found(&ids, &short(&[7, 99, 0, 0, 0])),
            Some("b"),
            "the latest"
        );
    }
}
