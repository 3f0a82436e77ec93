//! `[rate_limit]` and `routes.rate_limit`

use super::Validation;
use crate::config::key_path::KeyPath;
use crate::config::model::{Algorithm, LimitHeaders, LimitKey, OnStoreFailure, RateLimit, Store};
use crate::config::schema;

impl Validation<'_> {
    pub(super) fn global_rate_limit(&mut self) -> Option<RateLimit> {
        let raw = self.root.rate_limit.as_deref()?;
        self.rate_limit(raw, &KeyPath::default().key("rate_limit"))
    }

    pub(super) fn rate_limit(
        &mut self,
        raw: &schema::RateLimit,
        at: &KeyPath,
    ) -> Option<RateLimit> {
        let algorithm = raw.algorithm.unwrap_or(Algorithm::FixedWindow);
        let store = raw.store.unwrap_or(Store::Memory);
        if store == Store::Redis && self.root.redis.is_none() {
            self.problems.add(
                at.key("store"),
                "\"redis\" needs a [redis] table with the server's url, for example url = \"redis://127.0.0.1:6379\"",
            );
        }
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
        let burst = raw.burst.unwrap_or(requests);
        if algorithm != Algorithm::TokenBucket && burst != requests {
            self.problems.add(
                at.key("burst"),
                "is for algorithm = \"token_bucket\"; leave it out",
            );
        }
        Some(RateLimit {
            algorithm,
            requests,
            window: window.get(),
            burst,
            key: raw.key.clone().unwrap_or(LimitKey::ClientIp),
            store,
            on_store_failure: raw.on_store_failure.unwrap_or(OnStoreFailure::Local),
            headers: raw.headers.unwrap_or(LimitHeaders::Denied),
        })
    }
}
