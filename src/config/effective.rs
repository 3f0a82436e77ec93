//! The configuration as it is in force, written as a file would say it: `GET /config`.

mod route;
mod upstream;

use serde_json::Value;

use super::forms::{List, OneOrMany, Table, Workers};
use super::model::{
    AccessLog, Admin, CertificateFiles, ClientAuth, Config, Listener, ListenerTls, RateLimit,
    Redis, ReloadGuard,
};
use super::names::{AdminListenOrOff, ListenAddress, Name, Network, PathOrOff};
use super::schema;
use super::types::{ByteRate, Factor, SecretSource};
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
        rate_limit: config.rate_limit.as_ref().map(|it| Table(rate_limit(it))),
        access_log: config.access_log.as_ref().map(|it| Table(access_log(it))),
        listeners: Some(list(&config.listeners, |it| Table(listener(it)))),
        routes: Some(list(&config.routes, |it| Table(route(it, config)))),
        upstreams: Some(list(&config.upstreams, |it| Table(upstream(it)))),
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

fn redis(redis: &Redis) -> schema::Redis {
    schema::Redis {
        url: Some(SecretSource::Literal(redis.url.clone())),
        timeout: Some(redis.timeout.into()),
    }
}

fn rate_limit(limit: &RateLimit) -> schema::RateLimit {
    schema::RateLimit {
        algorithm: Some(limit.algorithm),
        requests: Some(limit.requests),
        window: Some(limit.window.into()),
        burst: Some(limit.burst),
        key: Some(limit.key.clone()),
        store: Some(limit.store),
        on_store_failure: Some(limit.on_store_failure),
        headers: Some(limit.headers),
    }
}

fn access_log(log: &AccessLog) -> schema::AccessLog {
    schema::AccessLog {
        format: Some(log.format),
        path: log.path.clone(),
    }
}

fn listener(listener: &Listener) -> schema::Listener {
    schema::Listener {
        name: Some(Name(listener.name.clone())),
        listen: Some(OneOrMany(list(&listener.addresses, |it| {
            ListenAddress(*it)
        }))),
        max_connections: Some(listener.max_connections),
        max_connections_per_ip: listener.max_connections_per_ip,
        tls: listener.tls.as_ref().map(|it| Table(listener_tls(it))),
        http2: Some(listener.http2),
        proxy_protocol: Some(match listener.proxy_protocol {
            true => schema::AcceptProxy::Required,
            false => schema::AcceptProxy::Off,
        }),
        min_body_rate: listener.min_body_rate.and_then(ByteRate::new),
        normalize_path: Some(listener.normalize_path),
        timeouts: Some(Table(schema::ListenerTimeouts {
            headers: Some(listener.timeouts.headers.into()),
            keep_alive: Some(listener.timeouts.keep_alive.into()),
            idle: Some(listener.timeouts.idle.into()),
            tls_handshake: Some(listener.timeouts.tls_handshake.into()),
        })),
    }
}

fn listener_tls(tls: &ListenerTls) -> schema::ListenerTls {
    let (client_auth, client_ca) = match &tls.client_auth {
        ClientAuth::None => (schema::ClientAuth::None, None),
        ClientAuth::Optional(ca) => (schema::ClientAuth::Optional, Some(ca.clone())),
        ClientAuth::Required(ca) => (schema::ClientAuth::Required, Some(ca.clone())),
    };
    schema::ListenerTls {
        certificates: Some(list(&tls.certificates, |it| Table(certificate(it)))),
        min_version: Some(tls.min_version),
        session_tickets: Some(tls.session_tickets),
        client_auth: Some(client_auth),
        client_ca,
    }
}

fn certificate(files: &CertificateFiles) -> schema::CertificateFiles {
    schema::CertificateFiles {
        cert: Some(files.cert.clone()),
        key: Some(files.key.clone()),
        ocsp: files.ocsp.clone(),
    }
}
