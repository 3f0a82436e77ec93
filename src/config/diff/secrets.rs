//! Secrets of two configurations: whether they differ, and nothing else of them.

use serde_json::Value;

use crate::config::key_path::KeyPath;
use crate::config::model::{Config, Upstream};
use crate::config::types::Secret;

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
    let url = |config: &Config| config.redis.as_ref().map(|it| it.url.clone());
    let mut pairs = vec![
        (root.key("admin").key("token"), token(old), token(new)),
        (root.key("redis").key("url"), url(old), url(new)),
    ];
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

fn of_upstream(
    old: &Upstream,
    new: &Upstream,
    at: &KeyPath,
    pairs: &mut Vec<(KeyPath, Option<Secret>, Option<Secret>)>,
) {
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
