//! Telling the fleet of changes to servers, so that all nodes come to know all of them: a change at once, and whatever
//! somebody has missed by comparing sums.
//!
//! ```text
//! every round, to all       the sum of all entries
//! it differs: to that node  the sums of 64 parts of the register
//! they differ: to that node the entries of those parts, some each round
//! ```
//!
//! Nothing here waits for an answer: what is lost is noticed in the next round. Who changes the register is not here
//! either: news go to whoever holds the state file.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use super::overlay::Difference;
use super::register::{Entry, Register, Server, Stamp, unix_millis};
use super::weight::Weight;
use crate::config::types::MAX_TOLD_NAME;
use crate::net::wire::{Reader, put_bytes, put_number};

/// Bytes of a message, so that it fits a datagram with whatever else is in it.
pub const MAX_MESSAGE: usize = 800;

/// Parts of the register that are compared with each other.
const PARTS: usize = 64;
/// How long sums are good for, in milliseconds: entries are forgotten by time.
const SUMS_GOOD: u64 = 60_000;
/// Messages with entries that are sent in a round.
const MAX_MESSAGES: usize = 16;
const MAX_ADDRESS: usize = 270;

const SUM: u8 = 0;
const SUMS: u8 = 1;
const ENTRIES: u8 = 2;

/// A sum for each part.
type Sums = [u64; PARTS];

/// A message, and the one node that it is for, if it is not for all.
pub type Told = (Option<u64>, Vec<u8>);

/// Changes of other nodes that are news here.
#[derive(Debug)]
pub struct News(pub(super) Vec<Entry>);

/// A node's side of it.
#[derive(Debug)]
pub struct Sharing {
    /// What the state file has; nothing while changes are not shared.
    register: Arc<ArcSwapOption<Register>>,
    /// The sums of a register at a time, since there are many questions for them.
    sums: Option<(Arc<Register>, u64, Sums)>,
    /// What was told when it was new.
    told: Option<Arc<Register>>,
    /// Nodes whose sum is another one.
    differing: BTreeSet<u64>,
    /// Messages that may still be sent in this round.
    left: usize,
    news: mpsc::Sender<News>,
    random: fastrand::Rng,
}

impl Sharing {
    /// Shares what is in `register`, and gives `news` what others have changed.
    pub fn new(
        register: Arc<ArcSwapOption<Register>>,
        news: mpsc::Sender<News>,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            told: register.load_full(),
            register,
            sums: None,
            differing: BTreeSet::new(),
            left: MAX_MESSAGES,
            news,
            random,
        }
    }

    /// What has been changed since the last turn.
    pub fn turn(&mut self) -> Vec<Told> {
        let register = self.register.load_full();
        let is_same = match (&register, &self.told) {
            (Some(register), Some(told)) => Arc::ptr_eq(register, told),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.told, register.clone());
        let Some((register, before)) = register.zip(before) else {
            return Vec::new(); // the sums will differ
        };
        let is_new = |it: &Entry| !before.has(it);
        let messages = write_entries(register.entries().filter(is_new));
        let messages = messages.into_iter().take(MAX_MESSAGES);
        messages.map(|it| (None, it)).collect()
    }

    /// What is told in a round.
    pub fn round(&mut self) -> Vec<Told> {
        self.left = MAX_MESSAGES;
        let differing = std::mem::take(&mut self.differing);
        let Some(register) = self.register.load_full() else {
            return Vec::new();
        };
        let sums = self.sums(&register);
        let mut sum = vec![SUM];
        sum.extend(sums.iter().fold(0, |all, sum| all ^ sum).to_be_bytes());
        let mut told = vec![(None, sum)];
        // One at a time: what that one knows may be all that is missing.
        if let Some(peer) = self.random.choice(differing) {
            let mut message = vec![SUMS];
            message.extend(sums.iter().flat_map(|sum| sum.to_be_bytes()));
            told.push((Some(peer), message));
        }
        told
    }

    /// Takes what another node tells, and gives what that one does not know. `None` if it is not understood.
    pub fn hear(&mut self, peer: u64, message: &[u8]) -> Option<Vec<Told>> {
        let Some(register) = self.register.load_full() else {
            return Some(Vec::new());
        };
        let mut reader = Reader::new(message);
        match reader.byte()? {
            SUM => {
                let theirs = u64::from_be_bytes(reader.array()?);
                let ours = self.sums(&register).iter().fold(0, |all, sum| all ^ sum);
                if theirs != ours {
                    self.differing.insert(peer);
                }
                Some(Vec::new())
            }
            SUMS => {
                let ours = self.sums(&register);
                let mut differs = [false; PARTS];
                for (differs, ours) in differs.iter_mut().zip(ours) {
                    *differs = u64::from_be_bytes(reader.array()?) != ours;
                }
                Some(self.entries_of(&register, differs, peer))
            }
            ENTRIES => {
                self.take(&register, &mut reader)?;
                Some(Vec::new())
            }
            _ => None,
        }
    }

    fn sums(&mut self, register: &Arc<Register>) -> Sums {
        let now = unix_millis();
        match &self.sums {
            Some((known, at, sums))
                if Arc::ptr_eq(known, register) && now.abs_diff(*at) < SUMS_GOOD =>
            {
                *sums
            }
            _ => {
                let sums = sums(register, now);
                self.sums = Some((Arc::clone(register), now, sums));
                sums
            }
        }
    }

    /// The entries of some parts, beginning anywhere: if they are too many, others come in the next round.
    fn entries_of(&mut self, register: &Register, parts: [bool; PARTS], peer: u64) -> Vec<Told> {
        let mut entries: Vec<_> = register
            .told(unix_millis())
            .filter(|it| parts[part(&it.server)])
            .collect();
        if !entries.is_empty() {
            let first = self.random.usize(0..entries.len());
            entries.rotate_left(first);
        }
        let mut messages = write_entries(entries.into_iter());
        messages.truncate(self.left);
        self.left -= messages.len();
        messages.into_iter().map(|it| (Some(peer), it)).collect()
    }

    fn take(&self, register: &Register, reader: &mut Reader<'_>) -> Option<()> {
        let now = unix_millis();
        let mut news = Vec::new();
        let mut understood = Some(());
        while understood.is_some() && !reader.is_empty() {
            let entry = read_entry(reader);
            understood = entry.as_ref().map(|_| ());
            news.extend(entry.filter(|it| register.is_news(it, now)));
        }
        // What came before something that a newer version may have written is as good as ever.
        if !news.is_empty() {
            _ = self.news.try_send(News(news)); // or once more, since the sums differ
        }
        understood
    }
}

/// Which part of the register a server is in.
fn part(server: &Server) -> usize {
    let name = format!("{}@{}", server.upstream, server.address);
    xxh3_64(name.as_bytes()) as usize % PARTS
}

/// A sum for each part, the same for the same entries in any order.
fn sums(register: &Register, now: u64) -> Sums {
    let mut sums = [0; PARTS];
    for entry in register.told(now) {
        let mut bytes = Vec::new();
        write_entry(&entry, &mut bytes);
        sums[part(&entry.server)] ^= xxh3_64(&bytes);
    }
    sums
}

fn write_entries(entries: impl Iterator<Item = Entry>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut message = vec![ENTRIES];
    for entry in entries {
        let mut bytes = Vec::new();
        write_entry(&entry, &mut bytes);
        if message.len() + bytes.len() > MAX_MESSAGE {
            messages.push(std::mem::replace(&mut message, vec![ENTRIES]));
        }
        message.extend(bytes);
    }
    if message.len() > 1 {
        messages.push(message);
    }
    messages
}

fn write_entry(entry: &Entry, to: &mut Vec<u8>) {
    put_bytes(to, entry.server.upstream.as_bytes());
    put_bytes(to, entry.server.address.to_string().as_bytes());
    put_number(to, entry.stamp.clock);
    put_bytes(to, entry.stamp.node.as_bytes());
    // Numbers of what may be missing are one too large.
    let number = |it: Option<u64>| it.map_or(0, |it| it + 1);
    match &entry.difference {
        None => to.push(0),
        Some(Difference::Removed) => to.push(1),
        Some(Difference::Added { weight, draining }) => {
            to.push(2);
            put_number(to, weight.get().into());
            to.push((*draining).into());
        }
        Some(Difference::Changed { weight, draining }) => {
            to.push(3);
            put_number(to, number(weight.map(|it| it.get().into())));
            put_number(to, number(draining.map(u64::from)));
        }
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let upstream = reader.text(MAX_TOLD_NAME)?.to_owned();
    let address = reader.text(MAX_ADDRESS)?.parse().ok()?;
    let clock = reader.number().filter(|clock| *clock < u64::MAX >> 1)?;
    let node = reader.text(MAX_TOLD_NAME)?.to_owned();
    let weight = |number: u64| u32::try_from(number).ok().and_then(Weight::new);
    let difference = match reader.byte()? {
        0 => None,
        1 => Some(Difference::Removed),
        2 => Some(Difference::Added {
            weight: weight(reader.number()?)?,
            draining: reader.byte()? != 0,
        }),
        3 => Some(Difference::Changed {
            weight: match reader.number()? {
                0 => None,
                number => Some(weight(number - 1)?),
            },
            draining: match reader.number()? {
                0 => None,
                number => Some(number > 1),
            },
        }),
        _ => return None,
    };
    Some(Entry {
        server: Server { upstream, address },
        stamp: Stamp { clock, node },
        difference,
    })
}

#[cfg(test)]
mod tests;
