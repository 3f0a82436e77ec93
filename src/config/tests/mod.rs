//! Tests of the whole way from text to `Config`.

mod access_errors;
mod errors;
mod fleet;
mod layer4;
mod layer4_errors;
mod reliability;
mod reliability_errors;
mod robustness;
mod routes;
mod shipped;
mod tls;
mod uses_errors;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde_json::json;

use super::model::*;
use super::types::{HostPattern, PathPattern, RedisServers, ServerAddress};
use super::*;

const SMALLEST: &str = r#"
[[listeners]]
listen = "127.0.0.1:8080"

[[upstreams]]
name = "app"
servers = ["127.0.0.1:3000", "app.internal:3001"]
"#;

fn toml_with(text: &str, env: &[(&str, &str)]) -> Result<Config, Errors> {
    let env = env
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    parse(text, Format::Toml, "lb.toml", env)
}

fn toml(text: &str) -> Result<Config, Errors> {
    toml_with(text, &[])
}

fn lines(result: Result<Config, Errors>) -> Vec<String> {
    let errors = result.expect_err("it has errors");
    assert_eq!(
        errors.to_string().lines().count(),
        errors.iter().count(),
        "each error is one line: {errors}"
    );
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = toml(SMALLEST).unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    assert_eq!(config.workers, cores);
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    let admin = config.admin.unwrap();
    assert_eq!(
        admin.listen,
        AdminListen::Tcp("127.0.0.1:9901".parse().unwrap())
    );
    assert!(admin.token.is_none());
    assert_eq!(admin.state_file, Path::new("loadbalancer.state"));
    assert!(config.redis.is_none() && config.rate_limit.is_none() && config.access_log.is_none());
    assert!(config.trusted_proxies.is_empty());

    let listener = &config.listeners[0];
    assert_eq!(listener.name, "listener0");
    assert_eq!(listener.max_connections.get(), 100_000);
    assert_eq!(listener.timeouts.headers, Duration::from_secs(10));
    assert_eq!(listener.timeouts.keep_alive, Duration::from_secs(75));
    assert_eq!(listener.timeouts.idle, Duration::from_secs(60));
    assert_eq!(listener.timeouts.tls_handshake, Duration::from_secs(10));
    assert!(listener.http2 && listener.tls.is_none());
    assert!(!listener.proxy_protocol && !listener.normalize_path);
    assert!(listener.max_connections_per_ip.is_none() && listener.min_body_rate.is_none());

    let upstream = &config.upstreams[0];
    assert_eq!(upstream.strategy, StrategyKind::RoundRobin);
    assert_eq!(
        upstream.servers[1],
        Server {
            address: ServerAddress::Name {
                host: "app.internal".into(),
                port: 3001
            },
            weight: 1
        }
    );
    let check = upstream.health_check.as_ref().unwrap();
    assert_eq!(check.interval, Duration::from_secs(5));
    assert_eq!(check.timeout, Duration::from_secs(2));
    assert_eq!((check.fall.get(), check.rise.get()), (3, 2));
    let HealthCheckKind::Http { path, host, expect } = &check.kind else {
        panic!("{:?}", check.kind);
    };
    assert_eq!((path.as_str(), host), ("/health", &None));
    assert!(expect.contains(http::StatusCode::FOUND));
    assert!(!expect.contains(http::StatusCode::NOT_FOUND));
    assert_eq!(upstream.timeouts.connect, Duration::from_secs(3));
    assert_eq!(upstream.timeouts.response, Duration::from_secs(60));
    assert_eq!(upstream.timeouts.idle, Duration::from_secs(60));
    assert_eq!(upstream.timeouts.pool_idle, Duration::from_secs(30));

    assert_eq!(upstream.protocol, Protocol::Http1);
    assert!(upstream.tls.is_none() && upstream.proxy_protocol.is_none());
    assert!(upstream.set_headers.is_empty());

    let route = &config.routes[0];
    assert!(route.hsts.is_none());
    assert_eq!(
        (route.name.as_str(), &route.listeners[..]),
        ("route0", &[0][..])
    );
    assert!(route.hosts.is_empty() && route.paths.is_empty());
    let Action::Forward(forward) = &route.action else {
        panic!("{:?}", route.action);
    };
    assert_eq!(
        (&forward.split[..], &forward.split_by),
        (&[(0, 1)][..], &SplitKey::Random)
    );
    assert!(forward.preserve_host && forward.mirror.is_none() && forward.hedge.is_none());
    assert_eq!(forward.retry.attempts, 2);
    assert_eq!(forward.priority, Priority::Normal);
}

#[test]
fn a_route_says_what_it_matches_and_does() {
    let config = toml(&format!(
        r#"{SMALLEST}
[rate_limit]
requests = 10
window = "1s"
algorithm = "token_bucket"
burst = 20
key = "header:X-Api-Key"

[[routes]]
listeners = ["listener0"]
hosts = ["API.example.com", "*.api.example.com"]
paths = ["/v1/*", "/users/{{id}}", "/x"]
methods = ["GET"]
headers = {{ "X-Version" = "2", "a" = "b" }}
upstream = "app"
strip_prefix = "/v1"
preserve_host = false
max_body = "10MiB"
timeout = "30s"
rate_limit = {{ requests = 5, window = "1m" }}
retry = {{ attempts = 0 }}

[[routes]]
redirect = {{ scheme = "https", port = 8443 }}
rate_limit = "off"
"#
    ))
    .unwrap();
    let limit = config.rate_limit.unwrap();
    assert_eq!(limit.burst.get(), 20);
    assert_eq!(
        limit.key,
        LimitKey::Header(http::HeaderName::from_static("x-api-key"))
    );

    let [api, other] = &config.routes[..] else {
        panic!("{:?}", config.routes);
    };
    assert_eq!(
        api.hosts,
        [
            HostPattern::Exact("api.example.com".into()),
            HostPattern::Wildcard("api.example.com".into())
        ]
    );
    assert_eq!(
        api.paths,
        [
            PathPattern::Prefix("/v1".into()),
            PathPattern::Template("/users/{id}".into()),
            PathPattern::Exact("/x".into())
        ]
    );
    let names: Vec<&str> = api.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "x-version"]);
    assert_eq!(api.max_body, Some(10 << 20));
    // Nothing is inherited from the global table.
    assert_eq!(
        api.rate_limit,
        RouteLimit::Own(RateLimit {
            algorithm: Algorithm::FixedWindow,
            requests: NonZeroU32::new(5).unwrap(),
            window: Duration::from_secs(60),
            burst: NonZeroU32::new(5).unwrap(),
            key: LimitKey::ClientIp,
            store: Store::Memory,
            lease: NonZeroU32::MIN,
            on_store_failure: OnStoreFailure::Local,
            headers: LimitHeaders::Denied,
        })
    );
    let Action::Forward(forward) = &api.action else {
        panic!("{:?}", api.action);
    };
    assert_eq!(forward.split, [(0, 1)]);
    assert_eq!(forward.strip_prefix.as_deref(), Some("/v1"));
    assert!(!forward.preserve_host);
    assert_eq!(forward.timeout, Some(Duration::from_secs(30)));
    assert_eq!(forward.retry.attempts, 0);
    assert_eq!(other.rate_limit, RouteLimit::Off);
    let Action::Redirect { status, to } = &other.action else {
        panic!("{:?}", other.action);
    };
    assert_eq!(status.as_u16(), 308);
    assert_eq!(
        to,
        &RedirectTarget::Parts {
            scheme: Some("https".into()),
            host: None,
            port: Some(8443)
        }
    );
}

#[test]
fn the_three_formats_mean_the_same() {
    let yaml = "listeners:\n- listen: 127.0.0.1:8080\nupstreams:\n- name: app\n  servers: ['127.0.0.1:3000', 'app.internal:3001']\n";
    let json = json!({
        "listeners": [{ "listen": "127.0.0.1:8080" }],
        "upstreams": [{ "name": "app", "servers": ["127.0.0.1:3000", "app.internal:3001"] }],
    })
    .to_string();
    let expected = format!("{:?}", toml(SMALLEST).unwrap());
    for (text, format) in [
        (yaml, Format::Yaml),
        (&json, Format::Json),
        (&format!("\u{feff}{json}"), Format::Json),
    ] {
        let config = parse(text, format, "lb", std::iter::empty()).unwrap();
        assert_eq!(format!("{config:?}"), expected);
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let config = toml_with(
        SMALLEST,
        &[
            ("LB__WORKERS", "3"),
            ("LB__LISTENERS__0__LISTEN", "127.0.0.1:0"),
            (
                "LB__UPSTREAMS__0__SERVERS__2",
                "{ address = \"c:1\", weight = 5 }",
            ),
            ("LB__ADMIN__TOKEN", "123456"),
            ("LB__REDIS__URL", "env:REDIS"),
            ("REDIS", "redis://:hush@127.0.0.1:6379"),
            ("LB_UNRELATED", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.workers, NonZeroUsize::new(3).unwrap());
    assert_eq!(
        config.listeners[0].addresses,
        ["127.0.0.1:0".parse().unwrap()]
    );
    assert_eq!(config.upstreams[0].servers[2].weight, 5);
    assert_eq!(config.admin.unwrap().token.unwrap().expose(), "123456");
    let Some(Redis {
        servers: RedisServers::One(url),
        ..
    }) = config.redis
    else {
        panic!("{:?}", config.redis);
    };
    assert_eq!(url.expose(), "redis://:hush@127.0.0.1:6379");
}
