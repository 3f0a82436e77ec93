//! What the connections to Redis are made of.

use std::sync::Arc;
use std::time::Duration;

use super::{RedisStats, StoreError};
use crate::config::types::Secret;
use crate::tls::ClientTls;

/// How long a check may take by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

/// Which servers keep the counts, and how they are spoken to.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where Redis is.
    pub servers: RedisServers,
    /// How long one check may take.
    pub timeout: Duration,
    /// TLS towards servers whose URL begins with `rediss://`; those need it.
    pub tls: Option<Arc<ClientTls>>,
    /// What all workers' connections come to.
    pub stats: Arc<RedisStats>,
}

/// Where Redis is. A URL reads `redis[s]://[user:password@]host[:port][/database]`, or `redis+unix:///path`.
#[derive(Debug, Clone)]
pub enum RedisServers {
    /// One server.
    One(Secret),
    /// A Redis Cluster, known by some of its nodes. The first URL's user and password are for all nodes, and so is its TLS.
    Cluster(Vec<Secret>),
    /// The server that sentinels call the master.
    Sentinel {
        /// The name under which the sentinels know it.
        master: String,
        /// The sentinels, with their own users and passwords. The master speaks TLS if the first does.
        urls: Vec<Secret>,
        /// The master's user.
        username: Option<String>,
        /// The master's password.
        password: Option<Secret>,
        /// The master's database.
        database: u32,
    },
}

impl RedisSettings {
    /// Whether a connection made for these is as good for `other`.
    pub fn is_like(&self, other: &Self) -> bool {
        let tls = |it: &Self| it.tls.as_ref().map(Arc::as_ptr);
        self.servers == other.servers && self.timeout == other.timeout && tls(self) == tls(other)
    }

    /// Whether connections can be made of these, as far as that can be told without trying.
    ///
    /// # Errors
    /// [`StoreError::Url`], which does not repeat the URL: there may be a password in it.
    pub fn check(&self) -> Result<(), StoreError> {
        super::RedisConnection::new(self).map(drop)
    }
}

impl RedisServers {
    /// All URLs.
    pub fn urls(&self) -> &[Secret] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Cluster(urls) | Self::Sentinel { urls, .. } => urls,
        }
    }
}

impl PartialEq for RedisServers {
    fn eq(&self, other: &Self) -> bool {
        self.texts() == other.texts()
    }
}

impl RedisServers {
    /// All that is told of them, secrets included; the number tells the kinds and databases apart.
    fn texts(&self) -> (i64, Vec<Option<&str>>) {
        let urls = self.urls().iter().map(|url| Some(url.expose()));
        match self {
            Self::One(_) => (-1, urls.collect()),
            Self::Cluster(_) => (-2, urls.collect()),
            Self::Sentinel {
                master,
                username,
                password,
                database,
                ..
            } => {
                let password = password.as_ref().map(Secret::expose);
                let own = [Some(master.as_str()), username.as_deref(), password];
                (i64::from(*database), own.into_iter().chain(urls).collect())
            }
        }
    }
}

/// What a server is to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The only one.
    Server,
    /// What sentinels call the master.
    Master,
    /// A node of a cluster that owns slots.
    Primary,
}

impl Role {
    /// What metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Master => "master",
            Self::Primary => "primary",
        }
    }
}
