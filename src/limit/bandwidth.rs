//! `Bandwidth`: a limit of bytes a second as it is configured, and those who share it: a client's connections, or all.
//!
//! The arithmetic is in [`net::bandwidth`](crate::net::bandwidth), below whatever moves bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::LimitKey;
use crate::net::bandwidth::{Bucket, Direction, Limit, Lines};

/// Locks that share the clients. Each is held for one look-up, once a request or connection.
const SHARDS: usize = 16;

/// Clients that have lines of their own. A client takes about 100 bytes, while it has something open or is in debt.
const MAX_CLIENTS: usize = 1 << 18;

/// What further ones share.
const OVERFLOW: usize = 256;

/// So many clients are not worth a sweep.
const FEW: usize = 64;

/// A full shard is swept no more often than this.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes a second, both ways; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// From clients.
    pub upload: u64,
    /// To clients.
    pub download: u64,
}

/// The limits of both directions.
#[derive(Debug)]
pub struct Limits([Arc<Limit>; 2]);

impl Limits {
    /// Limits at these rates.
    pub fn new(rates: Rates) -> Self {
        Self([rates.upload, rates.download].map(Limit::new))
    }

    /// Has them be these from now on, also for what is open.
    pub fn set(&self, rates: Rates) {
        self.of(Direction::Upload).set_rate(rates.upload);
        self.of(Direction::Download).set_rate(rates.download);
    }

    /// The limit of a direction.
    pub fn of(&self, direction: Direction) -> &Arc<Limit> {
        &self.0[direction as usize]
    }

    /// A place under it for those who share `lines`; none without a limit.
    pub fn bucket(&self, lines: &Arc<Lines>, direction: Direction) -> Option<Bucket> {
        let limit = self.of(direction);
        (limit.rate() > 0).then(|| Bucket::new(limit, lines, direction))
    }
}

/// A limit of bytes a second of a listener or route.
#[derive(Debug)]
pub struct Bandwidth {
    name: String,
    limits: Limits,
    sharing: Sharing,
}

/// Who shares it.
#[derive(Debug)]
enum Sharing {
    Total(Arc<Lines>),
    Clients(Box<Clients>),
}

#[derive(Debug)]
struct Clients {
    shards: [Mutex<Shard>; SHARDS],
    overflow: Box<[Arc<Lines>]>,
}

#[derive(Debug)]
struct Shard {
    lines: HashMap<LimitKey, Arc<Lines>, foldhash::fast::RandomState>,
    /// It is looked through for clients that are gone when it has so many.
    sweep_at: usize,
    swept: Instant,
}

impl Bandwidth {
    /// The configuration's word for a limit of each client.
    pub const OF_CLIENTS: &str = "client_ip";
    /// And for one of all together.
    pub const TOTAL: &str = "total";

    /// The limit `name`, without rates yet, of all together.
    pub fn total(name: &str) -> Self {
        Self::new(name, Sharing::Total(Arc::default()))
    }

    /// The same for each client by itself, IPv6 by /64.
    pub fn of_clients(name: &str) -> Self {
        let shard = || {
            Mutex::new(Shard {
                lines: HashMap::default(),
                sweep_at: FEW,
                swept: Instant::now(),
            })
        };
        let clients = Clients {
            shards: std::array::from_fn(|_| shard()),
            overflow: (0..OVERFLOW).map(|_| Arc::default()).collect(),
        };
        Self::new(name, Sharing::Clients(Box::new(clients)))
    }

    fn new(name: &str, sharing: Sharing) -> Self {
        Self {
            name: name.to_owned(),
            limits: Limits::new(Rates::default()),
            sharing,
        }
    }

    /// Whose it is: `listener:web` or `route:api`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configuration's word for who shares it.
    pub fn key(&self) -> &'static str {
        match self.sharing {
            Sharing::Total(_) => Self::TOTAL,
            Sharing::Clients(_) => Self::OF_CLIENTS,
        }
    }

    /// Its rates.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many clients it knows; none if it is one for all.
    pub fn clients(&self) -> Option<usize> {
        let Sharing::Clients(clients) = &self.sharing else {
            return None;
        };
        let shards = clients.shards.iter();
        Some(shards.map(|it| lock(it).lines.len()).sum())
    }

    /// The place of a client in a direction; none without a limit.
    pub fn bucket(&self, client: IpAddr, direction: Direction) -> Option<Bucket> {
        if self.limits.of(direction).rate() == 0 {
            return None;
        }
        match &self.sharing {
            Sharing::Total(lines) => self.limits.bucket(lines, direction),
            Sharing::Clients(clients) => {
                let lines = clients.lines(LimitKey::address(client), &self.limits);
                self.limits.bucket(&lines, direction)
            }
        }
    }
}

impl Clients {
    fn lines(&self, key: LimitKey, limits: &Limits) -> Arc<Lines> {
        let place = key.spread();
        let shard = &mut *lock(&self.shards[place % SHARDS]);
        if let Some(lines) = shard.lines.get(&key) {
            return Arc::clone(lines);
        }
        if !shard.has_room(limits) {
            return Arc::clone(&self.overflow[place / SHARDS % OVERFLOW]);
        }
        Arc::clone(shard.lines.entry(key).or_default())
    }
}

impl Shard {
    const MOST: usize = MAX_CLIENTS / SHARDS;

    /// Whether there is room for one more, if need be by forgetting those who have nothing open and are in no debt.
    fn has_room(&mut self, limits: &Limits) -> bool {
        if self.lines.len() < self.sweep_at {
            return true;
        }
        let now = Instant::now();
        if self.sweep_at == Self::MOST && now - self.swept < SWEEP_INTERVAL {
            return false;
        }
        self.swept = now;
        let of = [Direction::Upload, Direction::Download].map(|it| &**limits.of(it));
        let is_there = |lines: &Arc<Lines>| Arc::strong_count(lines) > 1 || lines.are_busy(of, now);
        self.lines.retain(|_, lines| is_there(lines));
        self.sweep_at = (self.lines.len() * 2).clamp(FEW, Self::MOST);
        self.lines.len() < self.sweep_at
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates {
        upload: 0,
        download: 1000,
    };

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(number))
    }

    /// How many bytes there are at once.
    fn there_are(bandwidth: &Bandwidth, client: IpAddr) -> u64 {
        let now = Instant::now();
        let bucket = bandwidth.bucket(client, Direction::Download).unwrap();
        let mut sum = 0;
        loop {
            let grant = bucket.reserve(1, now);
            if grant.at > now {
                bucket.give_back(1);
                return sum;
            }
            sum += grant.bytes;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clients_connections_share_and_others_have_their_own() {
        let bandwidth = Bandwidth::of_clients("listener:web");
        assert!(bandwidth.bucket(client(1), Direction::Download).is_none());
        bandwidth.limits().set(RATES);
        assert!(bandwidth.bucket(client(1), Direction::Upload).is_none());
        assert_eq!(there_are(&bandwidth, client(1)), 16 * 1024);
        assert_eq!(there_are(&bandwidth, client(1)), 0);
        assert_eq!(there_are(&bandwidth, client(2)), 16 * 1024);
        assert_eq!(bandwidth.clients(), Some(2));
        let total = Bandwidth::total("listener:web");
        total.limits().set(RATES);
        assert_eq!(there_are(&total, client(1)), 16 * 1024);
        assert_eq!(there_are(&total, client(2)), 0);
        assert_eq!(total.clients(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_are_gone_are_forgotten_and_those_in_debt_are_not() {
        let bandwidth = Bandwidth::of_clients("listener:web");
        bandwidth.limits().set(RATES);
        let held = bandwidth.bucket(client(0), Direction::Download);
        there_are(&bandwidth, client(1));
        for number in 2..100_000 {
            bandwidth.bucket(client(number), Direction::Download);
        }
        assert!(bandwidth.clients().unwrap() <= 2 * SHARDS * FEW);
        assert_eq!(there_are(&bandwidth, client(1)), 0, "it has not paid yet");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(there_are(&bandwidth, client(1)), 16 * 1024);
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_how_many_are_known() {
        let bandwidth = Bandwidth::of_clients("listener:web");
        bandwidth.limits().set(RATES);
        let count = 2 * MAX_CLIENTS as u32;
        let held: Vec<_> = (0..count)
            .map(|it| bandwidth.bucket(client(it), Direction::Download))
            .collect();
        assert!(bandwidth.clients().unwrap() <= MAX_CLIENTS);
        assert!(held.iter().all(Option::is_some));
        drop(held);
        tokio::time::advance(SWEEP_INTERVAL).await;
        for number in count..count + 1000 {
            bandwidth.bucket(client(number), Direction::Download);
        }
        assert!(bandwidth.clients().unwrap() < MAX_CLIENTS / 2);
    }
}
