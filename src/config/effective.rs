//! The configuration as it is in force, written as a file would say it: `GET /config`.

use serde_json::Value;

use super::forms::{List, OneOrMany, Shorthand, Table, Workers};
use super::model::{
    AccessLog, Action, Admin, CertificateFiles, ClientAuth, Config, HealthCheck, HealthCheckKind,
    Hsts, Listener, ListenerTls, ProxyVersion, RateLimit, RedirectTarget, Redis, Route, RouteLimit,
    Server, Upstream, UpstreamTls,
};
use super::names::{AdminListenOrOff, ListenAddress, MethodName, Name, Network};
use super::schema;
use super::types::{ByteRate, ByteSize, SecretSource};

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
        upgrade_socket: config.upgrade_socket.clone(),
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

fn route(route: &Route, config: &Config) -> schema::Route {
    let conditions = schema::Route {
        name: Some(Name(route.name.clone())),
        listeners: Some(list(&route.listeners, |index| {
            Name(config.listeners[*index].name.clone())
        })),
        hosts: Some(route.hosts.iter().cloned().map(Some).collect()),
        paths: Some(route.paths.iter().cloned().map(Some).collect()),
        methods: Some(list(&route.methods, |method| MethodName(method.clone()))),
        headers: Some(route.headers.iter().map(header).collect()),
        max_body: route.max_body.map(ByteSize::from),
        hsts: route.hsts.as_ref().map(|it| Shorthand(hsts(it))),
        rate_limit: match &route.rate_limit {
            RouteLimit::Inherit => None,
            RouteLimit::Off => Some(Shorthand(schema::RouteLimit::Off)),
            RouteLimit::Own(limit) => Some(Shorthand(schema::RouteLimit::Own(rate_limit(limit)))),
        },
        ..schema::Route::default()
    };
    match &route.action {
        Action::Forward(forward) => schema::Route {
            upstream: Some(Name(config.upstreams[forward.upstream].name.clone())),
            strip_prefix: forward.strip_prefix.clone(),
            preserve_host: Some(forward.preserve_host),
            timeout: forward.timeout.map(Into::into),
            retry: Some(Table(schema::Retry {
                attempts: Some(forward.retries),
            })),
            ..conditions
        },
        Action::Redirect { status, to } => schema::Route {
            redirect: Some(Table(schema::Redirect {
                status: Some(status.as_u16()),
                ..redirect(to)
            })),
            ..conditions
        },
        Action::Respond { status, body } => schema::Route {
            respond: Some(Table(schema::Respond {
                status: Some(status.as_u16()),
                body: Some(body.clone()),
            })),
            ..conditions
        },
    }
}

fn hsts(hsts: &Hsts) -> schema::Hsts {
    schema::Hsts {
        max_age: Some(hsts.max_age.into()),
        include_subdomains: Some(hsts.include_subdomains),
        preload: Some(hsts.preload),
    }
}

fn header((name, value): &(http::HeaderName, http::HeaderValue)) -> (String, String) {
    let value = value.to_str().expect("it was made of a string");
    (name.to_string(), value.to_owned())
}

fn redirect(to: &RedirectTarget) -> schema::Redirect {
    match to {
        RedirectTarget::Location(uri) => schema::Redirect {
            to: Some(uri.to_string()),
            ..schema::Redirect::default()
        },
        RedirectTarget::Parts { scheme, host, port } => schema::Redirect {
            scheme: scheme.clone(),
            host: host.clone(),
            port: port.and_then(|port| port.try_into().ok()),
            ..schema::Redirect::default()
        },
    }
}

fn upstream(upstream: &Upstream) -> schema::Upstream {
    schema::Upstream {
        name: Some(Name(upstream.name.clone())),
        strategy: Some(upstream.strategy),
        hash: Some(upstream.hash.clone()),
        servers: Some(list(&upstream.servers, |it| Shorthand(server(it)))),
        health_check: Some(Table(health_check(upstream.health_check.as_ref()))),
        timeouts: Some(Table(schema::UpstreamTimeouts {
            connect: Some(upstream.timeouts.connect.into()),
            response: Some(upstream.timeouts.response.into()),
            idle: Some(upstream.timeouts.idle.into()),
            pool_idle: Some(upstream.timeouts.pool_idle.into()),
        })),
        protocol: Some(upstream.protocol),
        tls: upstream.tls.as_ref().map(|it| Table(upstream_tls(it))),
        proxy_protocol: Some(match upstream.proxy_protocol {
            None => schema::SendProxy::Off,
            Some(ProxyVersion::V1) => schema::SendProxy::V1,
            Some(ProxyVersion::V2) => schema::SendProxy::V2,
        }),
        set_headers: Some(
            upstream
                .set_headers
                .iter()
                .map(|(name, value)| (name.to_string(), SecretSource::Literal(value.clone())))
                .collect(),
        ),
    }
}

fn upstream_tls(tls: &UpstreamTls) -> schema::UpstreamTls {
    let (cert, key) = tls.client.clone().unzip();
    schema::UpstreamTls {
        ca: tls.ca.clone(),
        server_name: tls.server_name.clone(),
        cert,
        key,
        insecure_skip_verify: Some(tls.insecure_skip_verify),
    }
}

fn server(server: &Server) -> schema::Server {
    schema::Server {
        address: Some(server.address.clone()),
        weight: Some(server.weight),
    }
}

fn health_check(check: Option<&HealthCheck>) -> schema::HealthCheck {
    let Some(check) = check else {
        return schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Off),
            ..schema::HealthCheck::default()
        };
    };
    let timing = schema::HealthCheck {
        interval: Some(check.interval.into()),
        timeout: Some(check.timeout.into()),
        fall: Some(check.fall),
        rise: Some(check.rise),
        port: check.port.and_then(|port| port.try_into().ok()),
        ..schema::HealthCheck::default()
    };
    match &check.kind {
        HealthCheckKind::Tcp => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Tcp),
            ..timing
        },
        HealthCheckKind::Grpc { service } => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Grpc),
            service: Some(service.clone()),
            ..timing
        },
        HealthCheckKind::Http { path, host, expect } => schema::HealthCheck {
            kind: Some(schema::HealthCheckKind::Http),
            path: Some(path.clone()),
            host: host
                .as_ref()
                .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()),
            expect: Some(expect.ranges().iter().cloned().map(Some).collect()),
            ..timing
        },
    }
}
