//! A configuration as a worker sees it: the snapshot that all share, and the worker's own side of what is in it.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::snapshot::{LimitEntry, Snapshot, UpstreamEntry};
use crate::limit::{Limiter, RedisConnection, RedisSettings};
use crate::upstream::{LocalUpstream, Upstream};

/// A configuration, to be held by whoever began under it.
#[derive(Debug)]
pub struct View {
    /// What all workers share of it.
    pub snapshot: Arc<Snapshot>,
    /// The worker's side of each upstream of the snapshot, by the same index.
    pub upstreams: Vec<Rc<LocalUpstream>>,
    /// The worker's side of each limit of the snapshot, by the same index.
    pub limiters: Vec<Limiter>,
    /// The worker's connection to Redis, if limits count there.
    redis: Option<Rc<RedisConnection>>,
}

impl View {
    /// Worker number `worker`'s view of a snapshot, with the connections of the view before, as far as they are for the
    /// same servers, and what its limits have leased. To be called in the worker's runtime.
    pub fn new(snapshot: Arc<Snapshot>, worker: usize, former: Option<&Self>) -> Self {
        let known: HashMap<*const Upstream, &Rc<LocalUpstream>> = former
            .iter()
            .flat_map(|it| &it.upstreams)
            .map(|it| (Arc::as_ptr(&it.shared), it))
            .collect();
        let of_upstream = |entry: &UpstreamEntry| match known.get(&Arc::as_ptr(&entry.shared)) {
            Some(kept) => Rc::clone(kept),
            None => Rc::new(LocalUpstream::new(Arc::clone(&entry.shared), worker)),
        };
        let redis = snapshot.redis.as_ref().map(|settings| {
            let kept = former.and_then(|former| former.redis_like(settings));
            kept.unwrap_or_else(|| {
                RedisConnection::new(settings).expect("the settings were checked before")
            })
        });
        let kept = former.filter(|former| match (&former.redis, &redis) {
            (Some(before), Some(redis)) => Rc::ptr_eq(before, redis),
            (before, redis) => before.is_none() && redis.is_none(),
        });
        let of_limit = |entry: &LimitEntry| {
            let mut kept = kept.iter().flat_map(|former| &former.limiters);
            let same = kept.find(|it| Arc::ptr_eq(it.shared(), &entry.shared));
            let new = || Limiter::new(Arc::clone(&entry.shared), redis.as_ref());
            same.cloned().unwrap_or_else(new)
        };
        Self {
            upstreams: snapshot.upstreams.iter().map(of_upstream).collect(),
            limiters: snapshot.limits.iter().map(of_limit).collect(),
            redis,
            snapshot,
        }
    }

    fn redis_like(&self, settings: &RedisSettings) -> Option<Rc<RedisConnection>> {
        let own = self.snapshot.redis.as_ref();
        let same = own.is_some_and(|own| own.is_like(settings));
        self.redis.clone().filter(|_| same)
    }

    /// Connects to what the first requests would otherwise wait for.
    pub async fn warm_up(&self) {
        if let Some(redis) = &self.redis {
            redis.warm_up().await;
        }
    }
}
