//! How many connections one client address may have at a time, over all workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limit::LimitKey;

/// Locks that share the work. Each is held for one look-up, and taken twice a connection.
const SHARDS: usize = 16;

type Counts = HashMap<LimitKey, u32, foldhash::fast::RandomState>;

/// The open connections by client address, IPv6 by /64. Holds only addresses that have some.
#[derive(Debug)]
pub struct PerAddress {
    max: u32,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open {
    shards: [Mutex<Counts>; SHARDS],
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Counted {
    open: Arc<Open>,
    key: LimitKey,
}

impl PerAddress {
    /// Allows `max` connections of an address.
    pub fn new(max: NonZeroU32) -> Self {
        Self {
            max: max.get(),
            open: Arc::default(),
        }
    }

    /// The same connections, of which `max` of an address are allowed from now on. Those that there are stay.
    pub fn with_max(&self, max: NonZeroU32) -> Self {
        Self {
            max: max.get(),
            open: Arc::clone(&self.open),
        }
    }

    /// Counts a connection, unless its address has as many as it may.
    pub fn admit(&self, address: IpAddr) -> Option<Counted> {
        let key = LimitKey::address(address);
        let counts = &mut *self.open.shard(&key);
        let count = counts.entry(key).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Counted {
            open: Arc::clone(&self.open),
            key,
        })
    }
}

impl Open {
    fn shard(&self, key: &LimitKey) -> MutexGuard<'_, Counts> {
        let shard = &self.shards[key.spread() % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counts = &mut *self.open.shard(&self.key);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_number_of_connections_and_no_more() {
        let table = PerAddress::new(NonZeroU32::new(2).unwrap());
        let admit = |address: &str| table.admit(address.parse().unwrap());
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none());
        assert!(admit("::ffff:192.0.2.1").is_none(), "the same address");
        assert!(admit("192.0.2.2").is_some());
        drop(first);
        let _third = admit("192.0.2.1").unwrap();
        let _net = (admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap());
        assert!(admit("2001:db8::ffff:3").is_none(), "one /64");
        assert!(admit("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn those_who_are_there_count_under_a_new_number_too() {
        let table = PerAddress::new(NonZeroU32::MIN);
        let address = IpAddr::from([192, 0, 2, 1]);
        let first = table.admit(address).unwrap();
        let table = table.with_max(NonZeroU32::new(2).unwrap());
        let _second = table.admit(address).unwrap();
        assert!(table.admit(address).is_none());
        drop(first);
        assert!(table.with_max(NonZeroU32::MIN).admit(address).is_none());
        assert!(table.admit(address).is_some());
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_gone() {
        let table = PerAddress::new(NonZeroU32::MIN);
        for last in 0..=255 {
            drop(table.admit(IpAddr::from([192, 0, 2, last])).unwrap());
        }
        let left = table
            .open
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len());
        assert_eq!(left.sum::<usize>(), 0);
    }
}
