//! Where a Redis is.

use super::Secret;

/// Where Redis is. A URL reads `redis[s]://[[user]:password@]host[:port][/database]`, or `redis+unix:///path`; all of one list
/// have the same scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// One server, which may be the entrance to others.
    One(Secret),
    /// Nodes of a cluster, from which the others are learned: at least one URL, without database, all with the same user
    /// and password.
    Cluster(Vec<Secret>),
    /// Sentinels, which say who the master is.
    Sentinel {
        /// The name under which the sentinels know it.
        master: String,
        /// The sentinels: at least one URL, without database; user and password are the sentinels' own.
        urls: Vec<Secret>,
        /// The user at the master, which has the sentinels' scheme.
        username: Option<String>,
        /// Of that user, or of the default one; always there with a `username`.
        password: Option<Secret>,
        /// At the master; default 0.
        database: u32,
    },
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
