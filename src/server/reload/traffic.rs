//! What all requests come to, second by second, out of the counters that workers write anyway.

use std::collections::HashMap;
use std::sync::Arc;

use super::guard::Sum;
use crate::metrics::{BOUNDS, CLASSES, Outcomes, Sharded};

/// The place of 5xx among the classes.
const ERRORS: usize = 4;
const _: () = assert!(CLASSES[ERRORS].as_bytes()[0] == b'5');

/// Counters, and how they stood at the last look.
#[derive(Debug, Default)]
pub struct Traffic {
    /// By the counters' addresses, which are theirs as long as they are held here.
    seen: HashMap<usize, (Arc<Sharded<Outcomes>>, Totals)>,
}

impl Traffic {
    /// What requests came to since the last look; nothing at the first.
    pub fn look<'a>(&mut self, all: impl Iterator<Item = &'a Arc<Sharded<Outcomes>>>) -> Sum {
        let is_first = self.seen.is_empty();
        let before = std::mem::take(&mut self.seen);
        let mut sum = Sum::default();
        for outcomes in all {
            let key = Arc::as_ptr(outcomes) as usize;
            let totals = Totals::of(outcomes);
            let before = before.get(&key).map_or(Totals::default(), |(_, it)| *it);
            if !is_first {
                sum.add(totals.since(before));
            }
            self.seen.insert(key, (Arc::clone(outcomes), totals));
        }
        sum
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    requests: u64,
    errors: u64,
    /// Those that took longer than the histogram's last bound: downloads and tunnels, mostly.
    long: u64,
    micros: u64,
}

impl Totals {
    fn of(outcomes: &Sharded<Outcomes>) -> Self {
        let mut totals = Self::default();
        for class in 0..CLASSES.len() {
            totals.requests += outcomes.sum(|it| it.by_class[class].get());
        }
        totals.errors = outcomes.sum(|it| it.by_class[ERRORS].get());
        totals.long = outcomes.sum(|it| it.durations.buckets[BOUNDS.len()].get());
        totals.micros = outcomes.sum(|it| it.durations.sum_micros.get());
        totals
    }

    fn since(self, before: Self) -> Sum {
        let requests = self.requests.wrapping_sub(before.requests);
        // One tunnel that ends would be the mean of thousands of requests.
        let is_timed = self.long == before.long;
        Sum {
            requests,
            errors: self.errors.wrapping_sub(before.errors),
            timed: if is_timed { requests } else { 0 },
            micros: if is_timed {
                self.micros.wrapping_sub(before.micros)
            } else {
                0
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_look_tells_what_came_since_the_one_before() {
        let routes = [(); 2].map(|()| Arc::new(Sharded::<Outcomes>::new(2)));
        routes[0].shard(0).record(200, MS);
        let mut traffic = Traffic::default();
        assert_eq!(traffic.look(routes[..1].iter()), Sum::default());
        routes[0].shard(0).record(200, MS);
        routes[0].shard(1).record(503, 3 * MS);
        // Of a route that is new all counts.
        routes[1].shard(0).record(404, MS);
        let sum = Sum {
            requests: 3,
            errors: 1,
            timed: 3,
            micros: 5000,
        };
        assert_eq!(traffic.look(routes.iter()), sum);
        assert_eq!(traffic.look(routes.iter()), Sum::default());
    }

    #[test]
    fn a_tunnel_that_ends_hides_the_times_of_its_route_only() {
        let routes = [(); 2].map(|()| Arc::new(Sharded::<Outcomes>::new(1)));
        let mut traffic = Traffic::default();
        traffic.look(routes.iter());
        routes[0].shard(0).record(101, Duration::from_secs(3600));
        routes[0].shard(0).record(200, MS);
        routes[1].shard(0).record(200, MS);
        let sum = Sum {
            requests: 3,
            errors: 0,
            timed: 1,
            micros: 1000,
        };
        assert_eq!(traffic.look(routes.iter()), sum);
    }
}
