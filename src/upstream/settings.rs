//! An upstream's policy.

use std::sync::Arc;
use std::time::Duration;

use super::announce::Announces;
use super::protection::Protection;
use crate::balance::Kind;
use crate::health;
use crate::limit::Rates;
use crate::net::TcpOptions;
use crate::tls::ClientTls;

/// The version of HTTP that servers speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
    /// What they choose in the TLS handshake.
    Auto,
}

/// An upstream's policy.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How a server is chosen.
    pub strategy: Kind,
    /// What probes do and when; `None` takes every server to be healthy.
    pub health: Option<(health::Probe, health::Settings)>,
    /// The port that is probed in place of the server's own.
    pub health_port: Option<u16>,
    /// The version of HTTP that its servers speak.
    pub protocol: Protocol,
    /// How to speak TLS with them; `None` speaks none.
    pub tls: Option<Arc<ClientTls>>,
    /// The PROXY header that connections to its servers begin with, if any.
    pub announces: Option<Announces>,
    /// What connections to its servers have.
    pub tcp: TcpOptions,
    /// Bytes a second of each server, all its clients together.
    pub bandwidth: Rates,
    /// TCP connect, and then the TLS handshake.
    pub connect: Duration,
    /// From the request's end to the response's headers.
    pub response: Duration,
    /// Without progress of a body or tunnel.
    pub idle: Duration,
    /// How long a pooled connection may be unused.
    pub pool_idle: Duration,
    /// How requests and servers are kept from each other where that is better for both.
    pub protection: Protection,
}

impl Settings {
    /// How many connection failures in a row speak for a server that is down, if its health is checked at all.
    pub(super) fn fall(&self) -> Option<u32> {
        let health = self.health.as_ref();
        health.map(|(_, settings)| settings.fall.get())
    }

    /// Whether connections that were opened under `former` are as good as new ones.
    pub fn connects_like(&self, former: &Self) -> bool {
        let same_tls = match (&self.tls, &former.tls) {
            (Some(tls), Some(former)) => Arc::ptr_eq(tls, former),
            (None, None) => true,
            _ => false,
        };
        same_tls && self.protocol == former.protocol && self.announces == former.announces
    }
}
