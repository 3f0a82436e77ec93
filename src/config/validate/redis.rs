//! `[redis]`

use std::time::Duration;

use super::{Validation, duration_or};
use crate::config::forms::List;
use crate::config::key_path::KeyPath;
use crate::config::model::{Redis, UpstreamTls};
use crate::config::schema;
use crate::config::types::{RedisServers, Secret, SecretSource, ServerAddress};

const TIMEOUT: Duration = Duration::from_millis(50);

const ONE: &str = "redis://[user:password@]host:port[/database]";
const NODE: &str = "redis://[user:password@]host:port";

/// A URL that is right, and what must fit others.
struct Parsed {
    url: Secret,
    is_tls: bool,
    credentials: Option<String>,
}

impl Validation<'_> {
    pub(super) fn redis(&mut self) -> Option<Redis> {
        let raw = self.root.redis.as_deref()?;
        let at = KeyPath::default().key("redis");
        let (servers, is_tls) = match (&raw.url, &raw.urls, raw.sentinel.as_deref()) {
            (Some(url), None, None) => self.one(url, at.key("url"))?,
            (None, Some(urls), None) => self.redis_cluster(urls, &at.key("urls"))?,
            (None, None, Some(raw)) => self.sentinel(raw, &at.key("sentinel"))?,
            (None, None, None) => {
                if !self.problems.concern(&at) {
                    self.problems.add(
                        at.key("url"),
                        "is missing; expected a URL such as \"redis://127.0.0.1:6379\", or \"urls\" for a cluster, or \"sentinel\"",
                    );
                }
                return None;
            }
            (first, _, last) => {
                let key = match last {
                    Some(_) => "sentinel",
                    None => "urls",
                };
                let other = match first {
                    Some(_) => "url",
                    None => "urls",
                };
                self.problems.add(
                    at.key(key),
                    format!("is given beside {other:?}; expected one of \"url\" (a server), \"urls\" (a cluster) and \"sentinel\""),
                );
                return None;
            }
        };
        Some(Redis {
            servers,
            tls: self.redis_tls(raw, is_tls, &at),
            timeout: duration_or(raw.timeout, TIMEOUT),
        })
    }

    /// One server, and whether it speaks TLS.
    fn one(&mut self, source: &SecretSource, at: KeyPath) -> Option<(RedisServers, bool)> {
        let url = self.redis_url(source, at, ONE)?;
        Some((RedisServers::One(url.url), url.is_tls))
    }

    fn redis_cluster(
        &mut self,
        list: &List<SecretSource>,
        at: &KeyPath,
    ) -> Option<(RedisServers, bool)> {
        let urls = self.redis_urls(list, at)?;
        let first = urls.first()?;
        // The nodes that are learned from the first have the same.
        for (index, url) in urls.iter().enumerate() {
            if url.credentials != first.credentials {
                self.problems.add(
                    at.index(index),
                    "has another user or password than the first; a cluster's nodes have the same",
                );
            }
        }
        let is_tls = first.is_tls;
        let urls = urls.into_iter().map(|it| it.url).collect();
        Some((RedisServers::Cluster(urls), is_tls))
    }

    fn sentinel(&mut self, raw: &schema::Sentinel, at: &KeyPath) -> Option<(RedisServers, bool)> {
        let expected = "the name by which the sentinels know the master, for example \"mymaster\"";
        let master = self
            .problems
            .required(&raw.master, at.key("master"), expected);
        if master.is_some_and(String::is_empty) {
            let message = format!("is empty; expected {expected}");
            self.problems.add(at.key("master"), message);
        }
        if raw.username.is_some() && raw.password.is_none() {
            let at = at.key("password");
            if !self.problems.contains(&at) {
                let message = "is missing; \"username\" is of no use without it";
                self.problems.add(at, message);
            }
        }
        let expected = "the sentinels, for example [\"redis://10.0.0.1:26379\"]";
        let list = self.problems.required(&raw.urls, at.key("urls"), expected);
        let password = raw.password.as_ref();
        let password = password.map(|source| self.secret(source, at.key("password")));
        let urls = self.redis_urls(list?, &at.key("urls"))?;
        let is_tls = urls.first()?.is_tls;
        let servers = RedisServers::Sentinel {
            master: master?.clone(),
            urls: urls.into_iter().map(|it| it.url).collect(),
            username: raw.username.clone(),
            password: password.flatten(),
            database: raw.database.unwrap_or(0),
        };
        Some((servers, is_tls))
    }

    /// The URLs of nodes, all over TLS or none.
    fn redis_urls(&mut self, list: &List<SecretSource>, at: &KeyPath) -> Option<Vec<Parsed>> {
        if list.is_empty() {
            self.problems.add(
                at.clone(),
                "is empty; expected at least one, for example [\"redis://10.0.0.1:6379\"]",
            );
        }
        let list = list.iter().enumerate();
        let urls: Vec<Option<Parsed>> = list
            .map(|(index, source)| self.redis_url(source.as_ref()?, at.index(index), NODE))
            .collect();
        let urls: Vec<Parsed> = urls.into_iter().collect::<Option<_>>()?;
        for (index, url) in urls.iter().enumerate() {
            if url.is_tls != urls[0].is_tls {
                self.problems.add(
                    at.index(index),
                    "and the first differ in \"redis://\" and \"rediss://\"; expected TLS for all of them, or for none",
                );
            }
        }
        Some(urls)
    }

    fn redis_url(
        &mut self,
        source: &SecretSource,
        at: KeyPath,
        expected: &'static str,
    ) -> Option<Parsed> {
        let url = self.secret(source, at.clone())?;
        let parsed = parse_url(url, expected);
        parsed
            .map_err(|why| {
                self.problems
                    .add(at, format!("{why}; expected {expected:?}"));
            })
            .ok()
    }

    fn secret(&mut self, source: &SecretSource, at: KeyPath) -> Option<Secret> {
        let read = source.read(self.env);
        read.map_err(|error| self.problems.add(at, error.to_string()))
            .ok()
    }

    fn redis_tls(
        &mut self,
        raw: &schema::Redis,
        is_tls: bool,
        at: &KeyPath,
    ) -> Option<UpstreamTls> {
        if is_tls {
            let tls = schema::UpstreamTls {
                ca: raw.ca.clone(),
                server_name: raw.server_name.clone(),
                cert: raw.cert.clone(),
                key: raw.key.clone(),
                insecure_skip_verify: raw.insecure_skip_verify,
            };
            return Some(self.upstream_tls(&tls, at));
        }
        for (key, is_given) in [
            ("ca", raw.ca.is_some()),
            ("server_name", raw.server_name.is_some()),
            ("cert", raw.cert.is_some()),
            ("key", raw.key.is_some()),
            (
                "insecure_skip_verify",
                raw.insecure_skip_verify == Some(true),
            ),
        ] {
            if is_given {
                self.problems.add(
                    at.key(key),
                    "is for TLS, and the URL begins with \"redis://\"; write \"rediss://\", or leave this out",
                );
            }
        }
        None
    }
}

/// Checks a URL. The error does not show it, as there may be a password in it.
fn parse_url(url: Secret, expected: &str) -> Result<Parsed, &'static str> {
    let text = url.expose();
    let (is_tls, rest) = match (
        text.strip_prefix("redis://"),
        text.strip_prefix("rediss://"),
    ) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("begins neither with \"redis://\" nor with \"rediss://\""),
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // A password may have an "@" in it, a host may not.
    let (credentials, server) = match authority.rsplit_once('@') {
        Some((credentials, server)) => (Some(credentials.to_owned()), server),
        None => (None, authority),
    };
    if server.parse::<ServerAddress>().is_err() {
        return Err("has no host and port");
    }
    if !database.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has a database that is not a number");
    }
    if !database.is_empty() && expected == NODE {
        return Err("has a database, which neither a cluster nor a sentinel has");
    }
    Ok(Parsed {
        is_tls,
        credentials,
        url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expected, error) in [
            ("redis://127.0.0.1:6379", ONE, None),
            ("redis://:hush@[::1]:6379/0", ONE, None),
            ("redis://me:hu@sh@redis.internal:6379/15", ONE, None),
            ("rediss://me:hush@a:1", NODE, None),
            (
                "redis://me:hush@redis.internal",
                ONE,
                Some("has no host and port"),
            ),
            ("redis://", ONE, Some("has no host and port")),
            (
                "redis://a:1/hush",
                ONE,
                Some("has a database that is not a number"),
            ),
            ("redis://hush@a:1/1", NODE, Some("has a database, which")),
            ("http://me:hush@a:1", ONE, Some("begins neither")),
        ] {
            match (parse_url(Secret::from(url.to_owned()), expected), error) {
                (Ok(parsed), None) => assert_eq!(parsed.is_tls, url.starts_with("rediss")),
                (Err(message), Some(part)) => {
                    assert!(message.contains(part), "{url}: {message}");
                    assert!(!message.contains("hush"), "{message}");
                }
                (Ok(_), Some(part)) => panic!("{url} is taken, though it {part}"),
                (Err(message), None) => panic!("{url}: {message}"),
            }
        }
    }
}
