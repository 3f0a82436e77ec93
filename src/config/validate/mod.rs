//! From the schema to the model: defaults, references, and what concerns several keys at once.

mod access;
mod actions;
mod admin;
mod ambiguity;
mod cluster;
mod ejection;
mod forward;
mod health_check;
mod listeners;
mod modes;
mod overload;
mod passthrough;
mod rate_limit;
mod redis;
mod routes;
mod set_headers;
mod sticky;
mod tls;
mod upstreams;
mod uses;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problems;
use super::forms::{List, Workers};
use super::key_path::KeyPath;
use super::model::{AccessLog, AccessLogFormat, Config, ReloadGuard};
use super::names::{Name, PathOrOff};
use super::schema;
use super::suggest;
use super::types::{AnyDuration, Factor, Percent, PositiveDuration};
use uses::Uses;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
const UPGRADE_SOCKET: &str = "loadbalancer.upgrade";

/// Longer names of Unix sockets do not fit `sockaddr_un`, which has room for 107 bytes: the socket is made under a name that
/// ends with the process' number.
const LONGEST_SOCKET: usize = 107 - ".4194304".len();

const GUARD_WINDOW: Duration = Duration::from_secs(30);
const ERROR_INCREASE: Percent = Percent::new(5).expect("it is no more than 100");
const LATENCY_FACTOR: f64 = 2.0;

/// The configuration under check, and what has been found so far.
struct Validation<'a> {
    root: &'a schema::Root,
    /// The environment, for secrets.
    env: &'a BTreeMap<String, String>,
    problems: &'a mut Problems,
    /// Who sends to each upstream, by their names.
    uses: HashMap<&'a str, Uses>,
}

/// Resolves `root`. The result means something only if `problems` is empty afterwards.
pub(super) fn validate(
    root: &schema::Root,
    env: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Config {
    let uses = uses::of(root, problems);
    let mut validation = Validation {
        root,
        env,
        problems,
        uses,
    };
    let listener_names = validation.listener_names();
    let upstream_names = validation.upstream_names();
    validation.no_address_twice();
    Config {
        workers: root.workers.unwrap_or(Workers::Auto).count(),
        drain_timeout: root.drain_timeout.map_or(DRAIN_TIMEOUT, AnyDuration::get),
        watch_config: root.watch_config.unwrap_or(true),
        reload_guard: root.reload_guard.as_deref().map(reload_guard),
        upgrade_socket: validation.upgrade_socket(),
        admin: validation.admin(),
        trusted_proxies: present(&root.trusted_proxies)
            .map(|(_, network)| network.0)
            .collect(),
        redis: validation.redis(),
        cluster: validation.cluster(),
        rate_limit: validation.global_rate_limit(),
        access_log: root.access_log.as_deref().map(access_log),
        listeners: validation.listeners(&upstream_names),
        routes: validation.routes(&listener_names, &upstream_names),
        upstreams: validation.upstreams(),
    }
}

fn access_log(raw: &schema::AccessLog) -> AccessLog {
    AccessLog {
        format: raw.format.unwrap_or(AccessLogFormat::Json),
        path: raw.path.clone(),
    }
}

fn reload_guard(raw: &schema::ReloadGuard) -> ReloadGuard {
    ReloadGuard {
        window: duration_or(raw.window, GUARD_WINDOW),
        error_increase: raw.error_increase.unwrap_or(ERROR_INCREASE),
        latency_factor: raw.latency_factor.map_or(LATENCY_FACTOR, Factor::get),
    }
}

/// The names of the tables in a list, and where they are.
struct Names {
    /// What they are names of.
    kind: &'static str,
    positions: HashMap<String, usize>,
}

impl Validation<'_> {
    /// Collects the names of the tables in `list`; one that occurs twice is a problem.
    fn names(
        &mut self,
        kind: &'static str,
        list: &str,
        names: impl Iterator<Item = (usize, String)>,
    ) -> Names {
        let list = KeyPath::default().key(list);
        let mut positions = HashMap::new();
        for (position, name) in names {
            if let Some(first) = positions.get(&name) {
                self.problems.add(
                    list.index(position).key("name"),
                    format!("{name:?} is the name of {} too", list.index(*first)),
                );
            } else {
                positions.insert(name, position);
            }
        }
        Names { kind, positions }
    }

    /// The position of what is called `name`; that there is no such thing is a problem.
    fn resolve(&mut self, name: &Name, names: &Names, at: KeyPath) -> Option<usize> {
        let position = names.positions.get(&name.0).copied();
        if position.is_none() {
            let mut known: Vec<&str> = names.positions.keys().map(String::as_str).collect();
            known.sort_unstable();
            self.problems.add(
                at,
                format!(
                    "no {} is named {:?}{}",
                    names.kind,
                    name.0,
                    suggest::hint(&name.0, known)
                ),
            );
        }
        position
    }

    fn upgrade_socket(&mut self) -> Option<PathBuf> {
        let path = match &self.root.upgrade_socket {
            Some(PathOrOff(path)) => path.clone()?,
            None => UPGRADE_SOCKET.into(),
        };
        let length = path.as_os_str().len();
        if length > LONGEST_SOCKET {
            self.problems.add(
                KeyPath::default().key("upgrade_socket"),
                format!("has {length} bytes; a socket's path has at most {LONGEST_SOCKET}"),
            );
        }
        Some(path)
    }

    /// A path of requests, as health checks and `strip_prefix` have one.
    fn request_path(&mut self, path: &str, at: KeyPath) {
        let is_path =
            path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !is_path {
            self.problems.add(
                at,
                format!("{path:?} is not a path; expected one that starts with \"/\", with other than ASCII characters escaped"),
            );
        }
    }
}

/// The elements of a list that have no error in them, and their positions.
fn present<T>(list: &Option<List<T>>) -> impl Iterator<Item = (usize, &T)> {
    list.iter()
        .flatten()
        .enumerate()
        .filter_map(|(position, item)| Some((position, item.as_ref()?)))
}

/// The element at `position`, if it has no error in it.
fn nth<T>(list: &Option<List<T>>, position: usize) -> Option<&T> {
    list.as_ref()?.get(position)?.as_ref()
}

/// A name, or the default one: `route3`.
fn name_or_position(name: &Option<Name>, kind: &str, position: usize) -> String {
    match name {
        Some(name) => name.0.clone(),
        None => format!("{kind}{position}"),
    }
}

fn duration_or(given: Option<PositiveDuration>, default: Duration) -> Duration {
    given.map_or(default, PositiveDuration::get)
}
