//! The configuration as it is in force, written as a file would say it: `GET /config`.

mod limit;
mod listener;
mod route;
mod upstream;

use serde_json::Value;

use super::forms::{List, Table, Workers};
use super::model::{AccessLog, Admin, Config, ReloadGuard};
use super::names::{AdminListenOrOff, PathOrOff};
use super::networks::Network;
use super::schema;
use super::types::{Factor, SecretSource};
use limit::{cluster, rate_limit, redis};
use listener::listener;
use route::route;
use upstream::upstream;

/// The whole of `config` under the keys of the file, with all defaults. Secrets are `"***"`.
pub fn effective(config: &Config) -> Value {
    let value = serde_json::to_value(root(config))
        .expect("the schema has string keys only, and nothing in it fails to serialize");
    without_nulls(value)
}

/// Keys that are not given are nulls in the serialized schema.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(table) => table
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn root(config: &Config) -> schema::Root {
    schema::Root {
        workers: Some(Workers::Count(config.workers)),
        drain_timeout: Some(config.drain_timeout.into()),
        watch_config: Some(config.watch_config),
        reload_guard: config.reload_guard.as_ref().map(|it| Table(guard(it))),
        upgrade_socket: Some(PathOrOff(config.upgrade_socket.clone())),
        admin: Some(Table(admin(config.admin.as_ref()))),
        trusted_proxies: Some(list(&config.trusted_proxies, |network| Network(*network))),
        redis: config.redis.as_ref().map(|it| Table(redis(it))),
        cluster: config.cluster.as_ref().map(|it| Table(cluster(it))),
        rate_limit: config.rate_limit.as_ref().map(|it| Table(rate_limit(it))),
        access_log: config.access_log.as_ref().map(|it| Table(access_log(it))),
        listeners: Some(list(&config.listeners, |it| Table(listener(it, config)))),
        routes: Some(list(&config.routes, |it| Table(route(it, config)))),
        upstreams: Some(
            (0..config.upstreams.len())
                .map(|index| Some(Table(upstream(index, config))))
                .collect(),
        ),
    }
}

fn list<T, U>(items: &[T], form: impl Fn(&T) -> U) -> List<U> {
    items.iter().map(|item| Some(form(item))).collect()
}

fn guard(guard: &ReloadGuard) -> schema::ReloadGuard {
    schema::ReloadGuard {
        window: Some(guard.window.into()),
        error_increase: Some(guard.error_increase),
        latency_factor: Factor::new(guard.latency_factor),
    }
}

fn admin(admin: Option<&Admin>) -> schema::Admin {
    schema::Admin {
        listen: Some(AdminListenOrOff(admin.map(|it| it.listen.clone()))),
        token: admin
            .and_then(|it| it.token.clone())
            .map(SecretSource::Literal),
        state_file: admin.map(|it| it.state_file.clone()),
    }
}

fn access_log(log: &AccessLog) -> schema::AccessLog {
    schema::AccessLog {
        format: Some(log.format),
        path: log.path.clone(),
    }
}
