//! `[rate_limit]` and `routes.rate_limit`, and what limits of connections have of them too.

use std::num::NonZeroU32;

use super::uses::mode_of;
use super::{Validation, present};
use crate::config::key_path::KeyPath;
use crate::config::model::{
    Algorithm, LimitHeaders, LimitKey, Mode, OnStoreFailure, RateLimit, Store,
};
use crate::config::schema;

/// The default lease is this part of the whole, and no more than so many.
const LEASE_PART: u32 = 100;
const LONGEST_LEASE: u32 = 1000;

impl Validation<'_> {
    pub(super) fn global_rate_limit(&mut self) -> Option<RateLimit> {
        let raw = self.root.rate_limit.as_deref()?;
        let at = KeyPath::default().key("rate_limit");
        if !self.may_speak_http() {
            self.problems.add(
                at.clone(),
                "is for requests of HTTP, and no listener speaks HTTP; leave it out, or limit connections by \"connection_rate\" of a listener",
            );
        }
        self.rate_limit(raw, &at)
    }

    /// Whether a listener speaks HTTP, as far as is known: errors in listeners leave it open.
    fn may_speak_http(&self) -> bool {
        let is_unknown = self.problems.concern(&KeyPath::default().key("listeners"));
        let mut modes = present(&self.root.listeners).map(|(_, raw)| mode_of(raw));
        is_unknown
            || modes.next().is_none_or(|first| first == Mode::Http)
            || modes.any(|it| it == Mode::Http)
    }

    pub(super) fn rate_limit(
        &mut self,
        raw: &schema::RateLimit,
        at: &KeyPath,
    ) -> Option<RateLimit> {
        let algorithm = raw.algorithm.unwrap_or(Algorithm::FixedWindow);
        let store = raw.store.unwrap_or(Store::Memory);
        self.store(store, at.key("store"));
        let requests = self.problems.required(
            &raw.requests,
            at.key("requests"),
            "the number of requests for each window",
        );
        let window = self.problems.required(
            &raw.window,
            at.key("window"),
            "the time that the requests are for, for example \"10s\"",
        );
        let (requests, window) = (*requests?, *window?);
        Some(RateLimit {
            algorithm,
            requests,
            window: window.get(),
            burst: self.burst(raw.burst, algorithm, requests, at.key("burst")),
            key: raw.key.clone().unwrap_or(LimitKey::ClientIp),
            store,
            lease: self.lease(raw.lease, store, requests, at.key("lease")),
            on_store_failure: raw.on_store_failure.unwrap_or(OnStoreFailure::Local),
            headers: raw.headers.unwrap_or(LimitHeaders::Denied),
        })
    }

    /// What a store needs must be there.
    pub(super) fn store(&mut self, store: Store, at: KeyPath) {
        let needs = |table: &str, is_there: bool| {
            let at = KeyPath::default().key(table);
            !is_there && !self.problems.contains(&at)
        };
        let message = match store {
            Store::Redis | Store::RedisLeased if needs("redis", self.root.redis.is_some()) => {
                format!(
                    "{:?} needs a [redis] table with the server's url, for example url = \"redis://127.0.0.1:6379\"",
                    match store {
                        Store::Redis => "redis",
                        _ => "redis_leased",
                    }
                )
            }
            Store::Cluster if needs("cluster", self.root.cluster.is_some()) => {
                "\"cluster\" needs a [cluster] table, for example listen = \"0.0.0.0:7946\", seeds = [\"lb2.internal:7946\"], key = \"file:PATH\"".to_owned()
            }
            _ => return,
        };
        self.problems.add(at, message);
    }

    /// The size of a token bucket; other algorithms have none.
    pub(super) fn burst(
        &mut self,
        given: Option<NonZeroU32>,
        algorithm: Algorithm,
        count: NonZeroU32,
        at: KeyPath,
    ) -> NonZeroU32 {
        let burst = given.unwrap_or(count);
        if algorithm != Algorithm::TokenBucket && burst != count {
            self.problems
                .add(at, "is for algorithm = \"token_bucket\"; leave it out");
        }
        burst
    }

    /// How many a worker takes at a time.
    pub(super) fn lease(
        &mut self,
        given: Option<NonZeroU32>,
        store: Store,
        count: NonZeroU32,
        at: KeyPath,
    ) -> NonZeroU32 {
        let Some(lease) = given else {
            let lease = (count.get() / LEASE_PART).clamp(1, LONGEST_LEASE);
            return NonZeroU32::new(lease).expect("it is at least 1");
        };
        let is_known = at
            .split_last()
            .is_some_and(|(limit, _)| !self.problems.contains(&limit.key("store")));
        if store != Store::RedisLeased && is_known {
            self.problems
                .add(at, "is for store = \"redis_leased\"; leave it out");
        } else if lease > count {
            self.problems.add(
                at,
                format!("{lease} is more than the whole limit, which is {count}"),
            );
        }
        lease
    }
}
