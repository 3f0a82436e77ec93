//! A worker's connections to Redis, shared by all of the worker's limits: to one server, a master or a cluster.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::time::Instant;

use super::FIXED_WINDOW;
use super::cluster::Cluster;
use super::link::{Link, Target, Terms};
use super::script::{Call, Script};
use super::sentinel::Sentinels;
use super::server::{MAX_IN_FLIGHT, Server};
use super::settings::RedisSettings;
use crate::config::types::RedisServers;
use crate::config::types::Secret;

/// Why there is no verdict from Redis.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used; an error of [`RedisConnection::new`], and of it alone.
    #[error("not a usable Redis URL")]
    Url(#[source] RedisError),
    /// There is no URL; like [`Url`](Self::Url).
    #[error("no Redis URL")]
    NoUrl,
    /// A URL wants TLS and the settings have none; like [`Url`](Self::Url).
    #[error("a Redis URL wants TLS, which is not set up")]
    NoTls,
    /// Redis is known to be down; nothing was sent.
    #[error("Redis is down")]
    Unavailable,
    /// Too many checks are waiting for an answer; nothing was sent.
    #[error("{MAX_IN_FLIGHT} checks are waiting for Redis already")]
    Busy,
    /// Redis did not answer in time. It may have counted the request.
    #[error("no answer from Redis within {0:?}")]
    Timeout(Duration),
    /// The sentinels know no master of this name.
    #[error("the sentinels know no master {0:?}")]
    NoMaster(String),
    /// Redis could not be reached, or answered with an error.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
}

impl StoreError {
    /// Whether a question was sent before it failed, or may have been.
    pub(in crate::limit) fn was_sent(&self) -> bool {
        !matches!(self, Self::Unavailable | Self::Busy)
    }

    /// Whether Redis may have counted what it was asked for, since it did not say otherwise.
    pub(in crate::limit) fn may_have_counted(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Redis(error) => matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse),
            _ => false,
        }
    }

    /// Whether a node of a cluster has answered, though not for itself.
    pub(super) fn is_redirection(&self) -> bool {
        matches!(self, Self::Redis(error) if error.redirect_node().is_some())
    }

    /// Whether a node of a cluster says that the cluster is at fault.
    pub(super) fn is_of_cluster(&self) -> bool {
        let kinds = [
            ServerErrorKind::ClusterDown,
            ServerErrorKind::MasterDown,
            ServerErrorKind::ReadOnly,
        ];
        matches!(self, Self::Redis(error)
            if matches!(error.kind(), ErrorKind::Server(kind) if kinds.contains(&kind)))
    }
}

/// A worker's connections to Redis. They are made when they are first needed, or [ahead](Self::warm_up) of that.
///
/// Tasks are spawned with `spawn_local`, so checks must run inside a `LocalSet`; they end when the connection is dropped.
pub struct RedisConnection {
    terms: Rc<Terms>,
    topology: Topology,
}

enum Topology {
    Link(Rc<Link>),
    Cluster(Rc<Cluster>),
}

impl RedisConnection {
    /// The connections of these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// A URL cannot be used, or there is none. The error does not repeat it: there may be a password in it.
    pub fn new(settings: &RedisSettings) -> Result<Rc<Self>, StoreError> {
        let terms = Rc::new(Terms {
            timeout: settings.timeout,
            tls: settings.tls.clone(),
            stats: settings.stats.clone(),
            probe: Script::new(FIXED_WINDOW),
        });
        let urls = settings.servers.urls().iter();
        let servers: Vec<Server> = urls
            .map(|url| Server::new(url.expose()))
            .collect::<Result<_, _>>()
            .map_err(StoreError::Url)?;
        if settings.tls.is_none() && servers.iter().any(Server::is_secure) {
            return Err(StoreError::NoTls);
        }
        let first = servers.first().cloned().ok_or(StoreError::NoUrl)?;
        let link = |target| Topology::Link(Link::new(Rc::clone(&terms), target));
        let topology = match &settings.servers {
            RedisServers::One(_) => link(Target::Server(first)),
            RedisServers::Cluster(_) => Topology::Cluster(Cluster::new(Rc::clone(&terms), servers)),
            RedisServers::Sentinel {
                master,
                username,
                password,
                database,
                ..
            } => {
                let password = password.as_ref().map(Secret::expose);
                let login = first.with_login(username.as_deref(), password, *database);
                let sentinels = servers;
                link(Target::Master(Sentinels::new(
                    sentinels,
                    master.clone(),
                    login,
                )))
            }
        };
        Ok(Rc::new(Self { terms, topology }))
    }

    /// Connects ahead of the first check, which would otherwise spend its timeout on that. Returns when the connections
    /// are there, or Redis is known to be down.
    pub async fn warm_up(&self) {
        match &self.topology {
            Topology::Link(link) => link.warm_up().await,
            Topology::Cluster(cluster) => cluster.warm_up().await,
        }
    }

    /// How long a check may take.
    pub(in crate::limit) fn timeout(&self) -> Duration {
        self.terms.timeout
    }

    /// Whether the server that counts the key is known to be down. Looks for the one that has its place, if so.
    pub(super) fn is_down(&self, key: impl FnOnce() -> String) -> bool {
        match &self.topology {
            Topology::Link(link) => link.is_down(),
            Topology::Cluster(cluster) => cluster.is_down(&key()),
        }
    }

    /// Runs a script on a key within the timeout.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        key: &str,
        call: &Call<'_>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.terms.timeout;
        let answer = match &self.topology {
            Topology::Link(link) => link.call(call, deadline, false).await?,
            Topology::Cluster(cluster) => cluster.call(key, call, deadline).await?,
        };
        T::from_redis_value(answer).map_err(|error| RedisError::from(error).into())
    }

    /// A new session with the server, in which a check has been answered.
    #[cfg(test)]
    pub(super) async fn dial(&self) -> Result<(), StoreError> {
        match &self.topology {
            Topology::Link(link) => link.dial().await.map(drop),
            Topology::Cluster(_) => Err(StoreError::Unavailable),
        }
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = match &self.topology {
            Topology::Link(link) => vec![link.server().to_string()],
            Topology::Cluster(cluster) => cluster.servers(),
        };
        f.debug_struct("RedisConnection")
            .field("servers", &servers)
            .finish_non_exhaustive()
    }
}
