//! `[[routes]]` that forward: `upstream` or `split`, `mirror`, `retry`, `hedge`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;

use super::{Names, Validation, present};
use crate::config::choices::RetryOn;
use crate::config::key_path::KeyPath;
use crate::config::model::{Forward, Hedge, HedgeAfter, Mirror, Priority, Retry, SplitKey};
use crate::config::names::Name;
use crate::config::schema;
use crate::config::types::{AnyDuration, ByteSize, Percent, PositiveDuration};

/// Sums of as many weights as anyone writes stay far below what 32 bits hold.
const MAX_SPLIT_WEIGHT: u32 = 1_000_000;

const MIRROR_SHARE: Percent = Percent::new(100).expect("it is no more than 100");
const MIRROR_MAX_BODY: u64 = 64 << 10;

const RETRIES: u32 = 2;
const RETRY_STATUSES: [StatusCode; 3] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];
const RETRY_BUDGET: Percent = Percent::new(20).expect("it is no more than 100");
const RETRY_BACKOFF: Duration = Duration::from_millis(25);
const RETRY_MAX_BODY: u64 = 64 << 10;

const HEDGE_BUDGET: Percent = Percent::new(2).expect("it is no more than 100");

impl Validation<'_> {
    /// A route to the upstreams of `split`, which is not empty.
    pub(super) fn forward(
        &mut self,
        raw: &schema::Route,
        split: Vec<(usize, u32)>,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Forward {
        if let Some(prefix) = &raw.strip_prefix {
            self.strip_prefix(prefix, at.key("strip_prefix"));
        }
        Forward {
            split_by: self.split_by(raw, &split, at),
            mirror: self.mirror(raw, &split, upstreams, &at.key("mirror")),
            split,
            strip_prefix: raw.strip_prefix.clone(),
            preserve_host: raw.preserve_host.unwrap_or(true),
            timeout: raw.timeout.map(PositiveDuration::get),
            retry: self.retry(raw, &at.key("retry")),
            hedge: raw.hedge.as_deref().map(hedge),
            priority: raw.priority.clone().unwrap_or(Priority::Normal),
        }
    }

    /// The entries of `split`, if there is no error in them.
    pub(super) fn split(
        &mut self,
        raw: &BTreeMap<String, u32>,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Option<Vec<(usize, u32)>> {
        for (name, weight) in raw {
            if *weight > MAX_SPLIT_WEIGHT {
                self.problems.add(
                    at.key(name),
                    format!("{weight} is too large; expected 0 to {MAX_SPLIT_WEIGHT}"),
                );
            }
        }
        let entries: Vec<(usize, u32)> = raw
            .iter()
            .filter_map(|(name, weight)| {
                let upstream = self.resolve(&Name(name.clone()), upstreams, at.key(name))?;
                Some((upstream, *weight))
            })
            .collect();
        // A weight that is no number has been taken out.
        if self.problems.concern(at) {
            return None;
        }
        let expected = "expected upstreams and their weights, for example { app = 95, canary = 5 }";
        if entries.is_empty() {
            self.problems
                .add(at.clone(), format!("is empty; {expected}"));
            return None;
        }
        if entries.iter().all(|(_, weight)| *weight == 0) {
            self.problems.add(
                at.clone(),
                format!("has only weights of 0, so that no upstream gets requests; {expected}"),
            );
            return None;
        }
        // All of the requests, whatever the weight of a single one is.
        Some(match entries[..] {
            [(upstream, _)] => vec![(upstream, 1)],
            _ => entries,
        })
    }

    fn split_by(&mut self, raw: &schema::Route, split: &[(usize, u32)], at: &KeyPath) -> SplitKey {
        let split_by = raw.split_by.clone().unwrap_or(SplitKey::Random);
        // It would silently decide nothing. The default asks for nothing.
        if raw.split.is_none() && split_by != SplitKey::Random {
            self.problems.add(
                at.key("split_by"),
                "is for routes with a split; leave it out, or write for example split = { app = 95, canary = 5 }",
            );
        }
        match split {
            [_] => SplitKey::Random,
            _ => split_by,
        }
    }

    fn mirror(
        &mut self,
        raw: &schema::Route,
        split: &[(usize, u32)],
        upstreams: &Names,
        at: &KeyPath,
    ) -> Option<Mirror> {
        let raw = raw.mirror.as_deref()?;
        let expected = "the upstream that copies of requests are sent to";
        let at = at.key("upstream");
        let name = self
            .problems
            .required(&raw.upstream, at.clone(), expected)?;
        let upstream = self.resolve(name, upstreams, at.clone())?;
        if split.iter().any(|(index, _)| *index == upstream) {
            self.problems.add(
                at,
                format!(
                    "{:?} gets the requests of this route already; expected another upstream",
                    name.0
                ),
            );
        }
        Some(Mirror {
            upstream,
            share: raw.share.unwrap_or(MIRROR_SHARE),
            max_body: raw.max_body.map_or(MIRROR_MAX_BODY, ByteSize::bytes),
        })
    }

    fn retry(&mut self, route: &schema::Route, at: &KeyPath) -> Retry {
        let default = schema::Retry::default();
        let raw = route.retry.as_deref().unwrap_or(&default);
        let attempts = raw.attempts.unwrap_or(RETRIES);
        if raw.on.as_ref().is_some_and(Vec::is_empty) && attempts > 0 {
            self.problems.add(
                at.key("on"),
                "is empty, so that nothing is tried again; write attempts = 0 to say so, or for example [\"connect\", \"503\"]",
            );
        }
        let per_try_timeout = raw.per_try_timeout.map(PositiveDuration::get);
        if let (Some(each), Some(whole)) = (raw.per_try_timeout, route.timeout)
            && each.get() > whole.get()
        {
            self.problems.add(
                at.key("per_try_timeout"),
                format!("{each} is longer than the route's timeout, {whole}, which is for all tries together"),
            );
        }
        let mut on: Vec<RetryOn> = match &raw.on {
            Some(_) => present(&raw.on).map(|(_, on)| *on).collect(),
            None => default_on(per_try_timeout.is_some()),
        };
        on.sort_unstable();
        on.dedup();
        Retry {
            attempts,
            connect: on.contains(&RetryOn::Connect),
            reset: on.contains(&RetryOn::Reset),
            timeout: on.contains(&RetryOn::Timeout),
            statuses: on.iter().filter_map(status).collect(),
            per_try_timeout,
            budget: raw.budget.unwrap_or(RETRY_BUDGET),
            backoff: raw.backoff.map_or(RETRY_BACKOFF, AnyDuration::get),
            max_body: raw.max_body.map_or(RETRY_MAX_BODY, ByteSize::bytes),
        }
    }
}

/// What is tried again unless the file says so. Who gives tries a time wants another one when it is over.
fn default_on(has_per_try_timeout: bool) -> Vec<RetryOn> {
    let timeout = has_per_try_timeout.then_some(RetryOn::Timeout);
    [RetryOn::Connect, RetryOn::Reset]
        .into_iter()
        .chain(timeout)
        .chain(RETRY_STATUSES.map(RetryOn::Status))
        .collect()
}

fn status(on: &RetryOn) -> Option<StatusCode> {
    match on {
        RetryOn::Status(status) => Some(*status),
        RetryOn::Connect | RetryOn::Reset | RetryOn::Timeout => None,
    }
}

fn hedge(raw: &schema::Hedge) -> Hedge {
    Hedge {
        after: raw.after.unwrap_or(HedgeAfter::P95),
        budget: raw.budget.unwrap_or(HEDGE_BUDGET),
    }
}
