//! Secrets of two configurations: whether they differ, and nothing else of them.

use serde_json::Value;

use crate::config::key_path::KeyPath;
use crate::config::model::{Config, Upstream};
use crate::config::types::RedisServers;
use crate::config::types::Secret;

/// Where a secret is, what it was and what it is.
type Pair = (KeyPath, Option<Secret>, Option<Secret>);

/// What stands for a hidden secret that is another one than before.
pub(super) const ANOTHER: &str = "*** (another)";

/// Puts `ANOTHER` into `shown`, the effective form of `new`, where a secret looks as it does in `old` and is another.
pub(super) fn mark(old: &Config, new: &Config, shown: &mut Value) {
    for at in differing(old, new) {
        if let Some(value) = at.find_mut(shown) {
            *value = Value::from(ANOTHER);
        }
    }
}

fn differing(old: &Config, new: &Config) -> Vec<KeyPath> {
    let root = KeyPath::default();
    let token = |config: &Config| config.admin.as_ref().and_then(|it| it.token.clone());
    let key = |config: &Config| config.cluster.as_ref().map(|it| it.key.clone());
    let mut pairs = vec![
        (root.key("admin").key("token"), token(old), token(new)),
        (root.key("cluster").key("key"), key(old), key(new)),
    ];
    if let Some((old, new)) = old.redis.as_ref().zip(new.redis.as_ref()) {
        of_redis(&old.servers, &new.servers, &root.key("redis"), &mut pairs);
    }
    for (position, upstream) in new.upstreams.iter().enumerate() {
        let before = old.upstreams.iter().find(|it| it.name == upstream.name);
        if let Some(before) = before {
            of_upstream(
                before,
                upstream,
                &root.key("upstreams").index(position),
                &mut pairs,
            );
        }
    }
    let differing = pairs.into_iter().filter(|(_, old, new)| match (old, new) {
        (Some(old), Some(new)) => {
            old.to_string() == new.to_string() && old.expose() != new.expose()
        }
        _ => false,
    });
    differing.map(|(at, ..)| at).collect()
}

/// A list of URLs is one secret here: which of them is another one is no news to those who changed it.
fn of_redis(old: &RedisServers, new: &RedisServers, at: &KeyPath, pairs: &mut Vec<Pair>) {
    let all = |urls: &[Secret]| {
        let urls: Vec<&str> = urls.iter().map(Secret::expose).collect();
        Some(Secret::from(urls.join(" ")))
    };
    match (old, new) {
        (RedisServers::One(old), RedisServers::One(new)) => {
            pairs.push((at.key("url"), Some(old.clone()), Some(new.clone())));
        }
        (RedisServers::Cluster(old), RedisServers::Cluster(new)) => {
            pairs.push((at.key("urls"), all(old), all(new)));
        }
        (
            RedisServers::Sentinel {
                urls: old_urls,
                password: old,
                ..
            },
            RedisServers::Sentinel { urls, password, .. },
        ) => {
            let at = at.key("sentinel");
            pairs.push((at.key("urls"), all(old_urls), all(urls)));
            pairs.push((at.key("password"), old.clone(), password.clone()));
        }
        _ => {}
    }
}

fn of_upstream(old: &Upstream, new: &Upstream, at: &KeyPath, pairs: &mut Vec<Pair>) {
    for (name, value) in &new.set_headers {
        let before = old.set_headers.iter().find(|(other, _)| other == name);
        pairs.push((
            at.key("set_headers").key(name.as_str()),
            before.map(|(_, value)| value.clone()),
            Some(value.clone()),
        ));
    }
    let sticky = |upstream: &Upstream| upstream.sticky.as_ref().and_then(|it| it.secret.clone());
    pairs.push((at.key("sticky").key("secret"), sticky(old), sticky(new)));
}
