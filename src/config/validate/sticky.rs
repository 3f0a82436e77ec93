//! `upstreams.sticky`

use std::time::Duration;

use super::{Validation, duration_or};
use crate::config::key_path::KeyPath;
use crate::config::model::{Sticky, StrategyKind};
use crate::config::schema;
use crate::config::types::{Secret, SecretSource};

const COOKIE: &str = "lb";
const TTL: Duration = Duration::from_secs(3600);

/// Shorter ones are guessed.
const SHORTEST_SECRET: usize = 16;

impl Validation<'_> {
    pub(super) fn sticky(&mut self, upstream: &schema::Upstream, at: &KeyPath) -> Option<Sticky> {
        let raw = upstream.sticky.as_deref()?;
        if upstream.strategy == Some(StrategyKind::ConsistentHash) {
            self.problems.add(
                at.clone(),
                "keeps a client on a server, and so does strategy = \"consistent_hash\"; choose one",
            );
        }
        let ttl = duration_or(raw.ttl, TTL);
        if ttl.subsec_nanos() > 0 {
            self.problems.add(at.key("ttl"), "is not in whole seconds");
        }
        let secret = raw.secret.as_ref();
        Some(Sticky {
            cookie: raw
                .cookie
                .as_ref()
                .map_or_else(|| COOKIE.to_owned(), |cookie| cookie.0.clone()),
            ttl,
            secret: secret.and_then(|source| self.sticky_secret(source, at.key("secret"))),
        })
    }

    fn sticky_secret(&mut self, source: &SecretSource, at: KeyPath) -> Option<Secret> {
        match source.read(self.env) {
            Ok(secret) if secret.expose().len() >= SHORTEST_SECRET => Some(secret),
            Ok(_) => {
                let message = format!(
                    "is shorter than {SHORTEST_SECRET} bytes; expected for example what \"openssl rand -base64 24\" prints"
                );
                self.problems.add(at, message);
                None
            }
            Err(error) => {
                self.problems.add(at, error.to_string());
                None
            }
        }
    }
}
