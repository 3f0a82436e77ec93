//! `[redis]`

use std::time::Duration;

use super::{Validation, duration_or};
use crate::config::key_path::KeyPath;
use crate::config::model::Redis;
use crate::config::types::{Invalid, Secret, ServerAddress};

const TIMEOUT: Duration = Duration::from_millis(50);

impl Validation<'_> {
    pub(super) fn redis(&mut self) -> Option<Redis> {
        let raw = self.root.redis.as_deref()?;
        let at = KeyPath::default().key("redis").key("url");
        let expected = "a URL such as \"redis://127.0.0.1:6379\"";
        let source = self.problems.required(&raw.url, at.clone(), expected)?;
        let url = source
            .read(self.env)
            .and_then(|url| check_url(&url).map(|()| url).map_err(Invalid::new));
        match url {
            Ok(url) => Some(Redis {
                url,
                timeout: duration_or(raw.timeout, TIMEOUT),
            }),
            Err(error) => {
                self.problems.add(at, error.to_string());
                None
            }
        }
    }
}

/// Checks `redis://[[user]:password@]host:port[/database]`. The error does not show the URL, which has a password.
fn check_url(url: &Secret) -> Result<(), String> {
    let expected = "expected \"redis://[user:password@]host:port[/database]\"";
    let url = url.expose();
    if url.starts_with("rediss://") {
        return Err(format!(
            "Redis over TLS (rediss://) is not supported by this version; {expected}"
        ));
    }
    let rest = url
        .strip_prefix("redis://")
        .ok_or_else(|| format!("does not start with \"redis://\"; {expected}"))?;
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // A password may have an "@" in it, a host may not.
    let server = authority.rsplit('@').next().unwrap_or(authority);
    if server.parse::<ServerAddress>().is_err() {
        return Err(format!("has no host and port; {expected}"));
    }
    if !database.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("has a database that is not a number; {expected}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, error) in [
            ("redis://127.0.0.1:6379", None),
            ("redis://:hush@[::1]:6379/0", None),
            ("redis://me:hu@sh@redis.internal:6379/15", None),
            (
                "redis://me:hush@redis.internal",
                Some("has no host and port"),
            ),
            ("redis://", Some("has no host and port")),
            (
                "redis://a:1/hush",
                Some("has a database that is not a number"),
            ),
            ("rediss://me:hush@a:1", Some("is not supported")),
            ("http://me:hush@a:1", Some("does not start with")),
        ] {
            match (check_url(&Secret::from(url.to_owned())), error) {
                (Ok(()), None) => {}
                (Err(message), Some(part)) => {
                    assert!(message.contains(part), "{url}: {message}");
                    assert!(!message.contains("hush"), "{message}");
                }
                (result, _) => panic!("{url}: {result:?}"),
            }
        }
    }
}
