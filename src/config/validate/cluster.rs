//! `[cluster]`

use std::time::Duration;

use super::{Validation, duration_or, present};
use crate::config::key_path::KeyPath;
use crate::config::model::Cluster;
use crate::config::schema;
use crate::config::types::{MAX_TOLD_NAME, PositiveDuration, Secret, SecretSource};

const INTERVAL: Duration = Duration::from_millis(500);
const DEAD_AFTER: Duration = Duration::from_secs(4);

/// Shorter ones are guessed.
const SHORTEST_KEY: usize = 16;

impl Validation<'_> {
    pub(super) fn cluster(&mut self) -> Option<Cluster> {
        let raw = self.root.cluster.as_deref()?;
        let at = KeyPath::default().key("cluster");
        let expected = "a UDP address for the other load balancers, for example \"0.0.0.0:7946\"";
        let listen = self
            .problems
            .required(&raw.listen, at.key("listen"), expected);
        let expected =
            "some of the other load balancers, for example [\"lb2.internal:7946\"], or []";
        let seeds = self
            .problems
            .required(&raw.seeds, at.key("seeds"), expected);
        let expected = "a secret of the whole fleet, for example \"file:/etc/lb/cluster.key\"";
        let key = self.problems.required(&raw.key, at.key("key"), expected);
        let key = key.map(|source| self.cluster_key(source, at.key("key")));
        let advertise = raw.advertise.map(|address| address.0);
        if let Some(address) = advertise
            && (address.port() == 0 || address.ip().is_unspecified())
        {
            self.problems.add(
                at.key("advertise"),
                format!("{address} is no address that others can send to; expected for example \"10.0.0.1:7946\""),
            );
        }
        self.told_names(raw, &at);
        let (interval, dead_after) = self.liveness(raw, &at);
        let listen = listen?.0;
        seeds?;
        Some(Cluster {
            listen,
            advertise,
            seeds: present(&raw.seeds).map(|(_, it)| it.clone()).collect(),
            key: key??,
            name: match &raw.name {
                Some(name) => name.0.clone(),
                None => format!("{}-{}", host_name(), listen.port()),
            },
            interval,
            dead_after,
            share_servers: raw.share_servers.unwrap_or(false),
        })
    }

    /// The names that the others are told.
    fn told_names(&mut self, raw: &schema::Cluster, at: &KeyPath) {
        let problem = |name: &str| {
            let length = name.len();
            let is_long = length > MAX_TOLD_NAME;
            is_long.then(|| {
                format!("has {length} bytes; a name that load balancers tell each other has at most {MAX_TOLD_NAME}")
            })
        };
        if let Some(problem) = raw.name.as_ref().and_then(|name| problem(&name.0)) {
            self.problems.add(at.key("name"), problem);
        }
        if raw.share_servers != Some(true) {
            return;
        }
        let list = KeyPath::default().key("upstreams");
        for (position, upstream) in present(&self.root.upstreams) {
            if let Some(problem) = upstream.name.as_ref().and_then(|name| problem(&name.0)) {
                self.problems.add(list.index(position).key("name"), problem);
            }
        }
    }

    /// How often others are told that this one lives, and how long their silence may last.
    fn liveness(&mut self, raw: &schema::Cluster, at: &KeyPath) -> (Duration, Duration) {
        let interval = duration_or(raw.interval, INTERVAL);
        let dead_after = duration_or(raw.dead_after, DEAD_AFTER);
        if dead_after < interval * 2 {
            // At the key that was written.
            let key = match raw.dead_after {
                Some(_) => "dead_after",
                None => "interval",
            };
            let (dead_after, interval) = (
                PositiveDuration::from(dead_after),
                PositiveDuration::from(interval),
            );
            self.problems.add(
                at.key(key),
                format!("one lost datagram would make a load balancer dead: \"dead_after\" is {dead_after} and \"interval\" {interval}; expected at least twice as much"),
            );
        }
        (interval, dead_after)
    }

    fn cluster_key(&mut self, source: &SecretSource, at: KeyPath) -> Option<Secret> {
        match source.read(self.env) {
            Ok(key) if key.expose().len() >= SHORTEST_KEY => Some(key),
            Ok(_) => {
                let message = format!(
                    "is shorter than {SHORTEST_KEY} bytes; expected for example what \"openssl rand -base64 32\" prints"
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

/// The host's name, of the characters that names have.
fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match name.is_empty() {
        true => "loadbalancer".to_owned(),
        false => name.replace(|c| !is_allowed(c), "-"),
    }
}
