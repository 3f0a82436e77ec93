//! How a route forwards, and how clients stay with a server: from the configuration's types to those of requests.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::normal;
use crate::config::model::{self, Config, HedgeAfter};
use crate::config::types::Percent;
use crate::proxy::policy::{Forward, Hedge, Mirror, Retry, Split, Target};
use crate::proxy::protection;
use crate::upstream::{Sticky, budget, sticky};

pub(super) fn forward(config: &Config, forward: &model::Forward) -> Forward {
    let to = |index| target(config, index, forward);
    let weights = forward.split.iter().map(|(_, weight)| *weight);
    Forward {
        targets: forward.split.iter().map(|(index, _)| to(*index)).collect(),
        split: (forward.split.len() > 1).then(|| Split::new(weights, forward.split_by.clone())),
        priority: protection::priority(&forward.priority),
        retry: Retry {
            share: thousandths(forward.retry.budget, budget::TRY),
            rules: forward.retry.clone(),
        },
        hedge: forward.hedge.map(|hedge| Hedge {
            after: match hedge.after {
                HedgeAfter::P95 => None,
                HedgeAfter::Fixed(after) => Some(after),
            },
            share: thousandths(hedge.budget, budget::TRY),
        }),
        mirror: forward.mirror.map(|mirror| {
            Arc::new(Mirror {
                target: to(mirror.upstream),
                share: thousandths(mirror.share, 1000),
                max_body: mirror.max_body,
            })
        }),
    }
}

fn target(config: &Config, index: usize, forward: &model::Forward) -> Target {
    let upstream = &config.upstreams[index];
    Target {
        upstream: index,
        strip_prefix: forward.strip_prefix.as_deref().map(normal),
        preserve_host: forward.preserve_host,
        timeout: forward.timeout.unwrap_or(upstream.timeouts.response),
        set_headers: set_headers(upstream),
    }
}

/// A share of `whole`, which it has no more than.
fn thousandths(share: Percent, whole: u32) -> u32 {
    u32::try_from(share.of(whole.into())).unwrap_or(whole)
}

fn set_headers(upstream: &model::Upstream) -> Vec<(HeaderName, HeaderValue)> {
    let fields = upstream.set_headers.iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value.expose());
        let value = value.expect("the value was checked by the configuration");
        (name.clone(), value)
    });
    fields.collect()
}

pub(super) fn sticky(upstream: &model::Upstream) -> Option<Sticky> {
    let settings = upstream.sticky.as_ref()?;
    let key = match &settings.secret {
        Some(secret) => sticky::Key::of_secret(secret.expose().as_bytes()),
        None => sticky::Key::of_process(),
    };
    let (name, cookie) = (upstream.name.clone(), settings.cookie.clone());
    Some(Sticky::new(name, cookie, settings.ttl, key))
}
