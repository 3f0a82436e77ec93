//! Who may come in, out of the configuration: lists, limits of new connections, options of sockets.

use std::sync::Arc;

use super::{limit, new_shards};
use crate::access::{Lists, Source, Sources};
use crate::config::model::{self, Access, CidrSource, Config, Route};
use crate::net::TcpOptions;
use crate::proxy::former::Former;
use crate::proxy::snapshot::{LimitEntry, RouteAccess, RouteEntry};

/// Where the networks of allow and deny lists come from.
pub fn sources(access: &Access) -> Sources {
    let sources = |sources: &[CidrSource]| {
        let sources = sources.iter().map(|source| match source {
            CidrSource::Net(net) => Source::Net(*net),
            CidrSource::File(path) => Source::File(path.clone()),
        });
        sources.collect()
    };
    Sources {
        allow: sources(&access.allow),
        deny: sources(&access.deny),
    }
}

/// What the kernel does about silent connections.
pub fn tcp_options(options: &model::SocketOptions) -> TcpOptions {
    TcpOptions {
        keep_alive: options.keep_alive,
        user_timeout: options.user_timeout,
    }
}

/// Who may take a route, and how many were refused so far, if `known` says so.
pub(super) fn of_route(
    config: &Config,
    route: &Route,
    access: &Lists,
    known: Option<&RouteEntry>,
) -> Option<RouteAccess> {
    let list = access.get(&sources(&route.access))?;
    let known = known.and_then(|it| it.access.as_ref());
    let workers = config.workers.get();
    let denied = known.map_or_else(new_shards(workers), |it| Arc::clone(&it.denied));
    Some(RouteAccess { list, denied })
}

/// Makes the limits of new connections, and tells for each listener which it is under.
pub(super) fn connection_rates(
    config: &Config,
    former: &Former<'_>,
    limits: &mut Vec<LimitEntry>,
) -> Vec<Option<usize>> {
    let of_listener = config.listeners.iter().map(|listener| {
        let rate = listener.connection_rate.as_ref()?;
        let name = format!("listener:{}", listener.name);
        limits.push(limit(&name, &as_limit(rate), config, former));
        Some(limits.len() - 1)
    });
    of_listener.collect()
}

/// A limit of new connections as one of requests: it counts in the same way.
pub(super) fn as_limit(rate: &model::ConnectionRate) -> model::RateLimit {
    model::RateLimit {
        algorithm: rate.algorithm,
        requests: rate.connections,
        window: rate.window,
        burst: rate.burst,
        key: model::LimitKey::ClientIp,
        store: rate.store,
        lease: rate.lease,
        on_store_failure: rate.on_store_failure,
        headers: model::LimitHeaders::Denied,
    }
}
