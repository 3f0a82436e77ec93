//! What nodes tell each other of a limit: a list of hot keys with their counts.
//!
//! ```text
//! limit (8 bytes) │ quota (4) │ window's number │ entries …
//! entry: key (16 bytes) │ asked │ current │ total │ of a sliding window: previous │ total of the previous
//!                                                        │ of a bucket: since when it is counted
//! ```

use xxhash_rust::xxh3::xxh3_64;

use super::super::{Algorithm, LimitKey, Quota};
use super::account::Counts;
use crate::net::wire::{Reader, put_number};

/// Bytes of a list, so that it fits a datagram with whatever else is in it.
pub const MAX_PART: usize = 800;
/// What a count comes to at most, so that sums of counts do not overflow.
const MAX_COUNT: u64 = (1 << 48) - 1;
/// Bytes of an entry at most.
const MAX_ENTRY: usize = 16 + 5 + 4 * 10;

/// What a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The limit, as far as counts of it can be added: its name, its algorithm and its window.
    pub limit: u64,
    /// The rest of its quota, which nodes should have in common too.
    pub quota: u32,
}

/// A hot key of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: LimitKey,
    /// Requests in a round, admitted or not.
    pub(super) asked: u32,
    pub(super) counts: Counts,
}

impl Head {
    /// The head of a limit's lists.
    pub(super) fn of(name: &str, quota: &Quota) -> Self {
        let algorithm = match quota.algorithm {
            Algorithm::FixedWindow => 1,
            Algorithm::SlidingWindow => 2,
            Algorithm::TokenBucket => 3,
        };
        let mut same = vec![algorithm];
        same.extend(quota.window_millis().to_be_bytes());
        same.extend(name.as_bytes());
        let rest = [
            quota.requests.get().to_be_bytes(),
            quota.capacity().to_be_bytes(),
        ];
        Self {
            limit: xxh3_64(&same),
            quota: xxh3_64(rest.as_flattened()) as u32,
        }
    }

    /// Reads the head of a list.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        read_head(&mut Reader::new(bytes))
    }
}

fn read_head(reader: &mut Reader<'_>) -> Option<Head> {
    Some(Head {
        limit: u64::from_be_bytes(reader.array()?),
        quota: u32::from_be_bytes(reader.array()?),
    })
}

/// Writes lists, at least one. The entries' counts are of one window.
pub(super) fn write(
    head: Head,
    algorithm: Algorithm,
    index: u64,
    entries: &[Entry],
) -> Vec<Vec<u8>> {
    let begin = || {
        let mut part = Vec::with_capacity(MAX_PART);
        part.extend(head.limit.to_be_bytes());
        part.extend(head.quota.to_be_bytes());
        put_number(&mut part, index);
        part
    };
    let (mut parts, mut part) = (Vec::new(), begin());
    for entry in entries {
        if part.len() + MAX_ENTRY > MAX_PART {
            parts.push(std::mem::replace(&mut part, begin()));
        }
        entry.write(algorithm, &mut part);
    }
    parts.push(part);
    parts
}

/// Reads a list; `None` if it is none.
pub(super) fn read(algorithm: Algorithm, bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut reader = Reader::new(bytes);
    read_head(&mut reader)?;
    let index = reader.number()?;
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(Entry::read(algorithm, index, &mut reader)?);
    }
    Some(entries)
}

impl Entry {
    fn write(&self, algorithm: Algorithm, to: &mut Vec<u8>) {
        to.extend(self.key.to_bytes());
        put_number(to, self.asked.into());
        // A node that lies must not make lists of others unreadable.
        let mut count = |count: u64| put_number(to, count.min(MAX_COUNT));
        count(self.counts.current);
        count(self.counts.total);
        match algorithm {
            Algorithm::FixedWindow => {}
            Algorithm::SlidingWindow => {
                count(self.counts.previous);
                count(self.counts.total_previous);
            }
            Algorithm::TokenBucket => count(self.counts.opened),
        }
    }

    fn read(algorithm: Algorithm, index: u64, reader: &mut Reader<'_>) -> Option<Self> {
        let key = LimitKey::from_bytes(reader.array()?);
        let asked = u32::try_from(reader.number()?).ok()?;
        let mut count = || reader.number().filter(|count| *count <= MAX_COUNT);
        let (current, total) = (count()?, count()?);
        let (mut previous, mut total_previous, mut opened) = (0, 0, 0);
        match algorithm {
            Algorithm::FixedWindow => {}
            Algorithm::SlidingWindow => (previous, total_previous) = (count()?, count()?),
            Algorithm::TokenBucket => opened = count()?,
        }
        Some(Self {
            key,
            asked,
            counts: Counts {
                index,
                current,
                previous,
                total,
                total_previous,
                opened,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            key: LimitKey::bytes(&number.to_be_bytes()),
            asked: number as u32,
            counts: Counts {
                index: 1_763_000_000,
                current: number,
                previous: 3,
                total: 1 << 40,
                total_previous: 4,
                opened: 0,
            },
        }
    }

    const HEAD: Head = Head { limit: 7, quota: 9 };

    #[test]
    fn entries_survive_in_parts_that_fit() {
        let entries: Vec<_> = (0..100).map(entry).collect();
        let parts = write(HEAD, Algorithm::SlidingWindow, 1_763_000_000, &entries);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= MAX_PART));
        let read = |part: &Vec<u8>| {
            assert_eq!(Head::read(part), Some(HEAD));
            read(Algorithm::SlidingWindow, part).unwrap()
        };
        assert_eq!(parts.iter().flat_map(read).collect::<Vec<_>>(), entries);
    }

    #[test]
    fn counts_beyond_all_reason_are_cut_and_not_refused() {
        let mut huge = entry(1);
        huge.counts.total = u64::MAX;
        huge.counts.total_previous = MAX_COUNT + 1;
        let parts = write(HEAD, Algorithm::SlidingWindow, 7, &[huge]);
        let read = read(Algorithm::SlidingWindow, &parts[0]).unwrap();
        let counts = read[0].counts;
        assert_eq!(
            (counts.total, counts.total_previous),
            (MAX_COUNT, MAX_COUNT)
        );
    }

    #[test]
    fn a_limit_without_hot_keys_is_told_of_too() {
        let parts = write(HEAD, Algorithm::TokenBucket, 0, &[]);
        assert_eq!(parts.len(), 1);
        assert_eq!(read(Algorithm::TokenBucket, &parts[0]), Some(Vec::new()));
    }

    #[test]
    fn what_can_be_added_is_the_same_limit() {
        let quota = |requests, window| Quota {
            algorithm: Algorithm::FixedWindow,
            requests: NonZeroU32::new(requests).unwrap(),
            window: Duration::from_secs(window),
            burst: NonZeroU32::new(1).unwrap(),
        };
        let (one, more) = (Head::of("a", &quota(5, 1)), Head::of("a", &quota(6, 1)));
        assert_eq!(one.limit, more.limit);
        assert_ne!(one.quota, more.quota);
        assert_ne!(one.limit, Head::of("b", &quota(5, 1)).limit);
        assert_ne!(one.limit, Head::of("a", &quota(5, 2)).limit);
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(bytes: Vec<u8>, cut in 0usize..60, change: u8) {
            for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
                _ = read(algorithm, &bytes);
                let mut part = write(HEAD, algorithm, 1, &[entry(1), entry(300)]).remove(0);
                let at = cut % part.len();
                part[at] ^= change;
                _ = read(algorithm, &part);
                part.truncate(cut);
                _ = read(algorithm, &part);
            }
        }
    }
}
