//! The Redis of limits, as the configuration describes it.

use std::sync::Arc;

use super::TlsMaterial;
use crate::config::model::{Config, RouteLimit, Store};
use crate::limit::{RedisSettings, RedisStats};

/// `None` if no limit uses it: nothing connects to such a Redis.
pub(super) fn settings(
    config: &Config,
    tls: &TlsMaterial,
    stats: Arc<RedisStats>,
) -> Option<RedisSettings> {
    let redis = config.redis.as_ref().filter(|_| is_used(config))?;
    Some(RedisSettings {
        servers: redis.servers.clone(),
        timeout: redis.timeout,
        tls: tls.redis.clone(),
        stats,
    })
}

fn is_used(config: &Config) -> bool {
    let of_routes = config.routes.iter().map(|it| match &it.rate_limit {
        RouteLimit::Own(limit) => Some(limit.store),
        RouteLimit::Inherit | RouteLimit::Off => None,
    });
    let of_listeners = config.listeners.iter();
    let of_listeners = of_listeners.map(|it| it.connection_rate.as_ref().map(|rate| rate.store));
    let global = config.rate_limit.as_ref().map(|limit| limit.store);
    of_routes
        .chain(of_listeners)
        .chain([global])
        .flatten()
        .any(|store| matches!(store, Store::Redis | Store::RedisLeased))
}
