//! What the connections to Redis are made of.

use std::sync::Arc;
use std::time::Duration;

use super::{RedisStats, StoreError};
use crate::config::types::RedisServers;
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
