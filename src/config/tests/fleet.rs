//! Redis as a server, a cluster and behind sentinels; leases; the cluster of load balancers.

use super::shipped::reads_back;
use super::types::{RedisServers, Secret};
use super::*;

const CLUSTER: &str = r#"
[cluster]
listen = "127.0.0.1:7946"
seeds = []
key = "0123456789abcdef"
"#;

fn redis(keys: &str) -> Redis {
    let config = toml(&format!("[redis]\n{keys}\n{SMALLEST}")).unwrap();
    reads_back(&config);
    config.redis.unwrap()
}

fn texts(urls: &[Secret]) -> Vec<&str> {
    urls.iter().map(Secret::expose).collect()
}

#[test]
fn redis_is_one_server_or_a_cluster_or_behind_sentinels() {
    let RedisServers::Cluster(urls) =
        redis("urls = [\"redis://me:hush@a:1\", \"redis://me:hush@b:2\"]").servers
    else {
        panic!("it is a cluster");
    };
    assert_eq!(texts(&urls), ["redis://me:hush@a:1", "redis://me:hush@b:2"]);

    let sentinels = "master = \"lb\", urls = [\"redis://:s@a:26379\"]";
    let RedisServers::Sentinel {
        master,
        urls,
        username,
        password,
        database,
    } = redis(&format!(
        "sentinel = {{ {sentinels}, username = \"me\", password = \"hush\", database = 3 }}"
    ))
    .servers
    else {
        panic!("there are sentinels");
    };
    assert_eq!(
        (master.as_str(), texts(&urls)),
        ("lb", vec!["redis://:s@a:26379"])
    );
    assert_eq!(username.as_deref(), Some("me"));
    assert_eq!(password.unwrap().expose(), "hush");
    assert_eq!(database, 3);

    let RedisServers::Sentinel {
        username,
        password,
        database,
        ..
    } = redis(&format!("sentinel = {{ {sentinels} }}")).servers
    else {
        panic!("there are sentinels");
    };
    assert!(username.is_none() && password.is_none() && database == 0);
}

#[test]
fn redis_speaks_tls_where_its_url_says_so() {
    assert!(
        redis("url = \"redis://a:1\"\ninsecure_skip_verify = false")
            .tls
            .is_none()
    );
    let plain = redis("url = \"rediss://a:1\"").tls.unwrap();
    assert_eq!(
        plain,
        UpstreamTls {
            ca: None,
            server_name: None,
            client: None,
            insecure_skip_verify: false,
        }
    );
    for place in [
        "url = \"rediss://a:1\"",
        "urls = [\"rediss://a:1\", \"rediss://b:1\"]",
        "sentinel = { master = \"lb\", urls = [\"rediss://a:1\"] }",
    ] {
        let tls = redis(&format!(
            "{place}\nca = \"ca.crt\"\nserver_name = \"r.internal\"\ncert = \"c.crt\"\nkey = \"c.key\""
        ));
        assert_eq!(
            tls.tls,
            Some(UpstreamTls {
                ca: Some("ca.crt".into()),
                server_name: Some("r.internal".into()),
                client: Some(("c.crt".into(), "c.key".into())),
                insecure_skip_verify: false,
            })
        );
    }
}

#[test]
fn a_lease_is_a_part_of_the_limit() {
    for (requests, keys, expected) in [
        (5, "", 1),
        (100, "", 1),
        (250, "", 2),
        (4_000_000, "", 1000),
        (50, "lease = 50", 50),
    ] {
        let config = toml(&format!(
            "[redis]\nurl = \"redis://127.0.0.1:6379\"\n[rate_limit]\nrequests = {requests}\nwindow = \"1s\"\nstore = \"redis_leased\"\n{keys}\n{SMALLEST}"
        ))
        .unwrap();
        let limit = config.rate_limit.as_ref().unwrap();
        assert_eq!(limit.store, Store::RedisLeased);
        assert_eq!(limit.lease.get(), expected, "{requests} {keys}");
        reads_back(&config);
        assert_eq!(effective(&config)["rate_limit"]["lease"], expected);
    }
    let rate = "connection_rate = { connections = 500, window = \"1s\", store = \"redis_leased\" }";
    let text = SMALLEST.replace("8080\"", &format!("8080\"\n{rate}"));
    let config = toml(&format!(
        "[redis]\nurl = \"redis://127.0.0.1:6379\"\n{text}"
    ))
    .unwrap();
    let limit = config.listeners[0].connection_rate.as_ref().unwrap();
    assert_eq!(limit.lease.get(), 5);
    reads_back(&config);
}

#[test]
fn a_cluster_has_the_documented_defaults() {
    let limit = "[rate_limit]\nrequests = 1\nwindow = \"1s\"\nstore = \"cluster\"\n";
    let config = toml(&format!("{CLUSTER}{limit}{SMALLEST}")).unwrap();
    reads_back(&config);
    assert_eq!(config.rate_limit.unwrap().store, Store::Cluster);
    let cluster = config.cluster.unwrap();
    assert_eq!(cluster.listen, "127.0.0.1:7946".parse().unwrap());
    assert!(cluster.advertise.is_none() && cluster.seeds.is_empty());
    assert_eq!(cluster.key.expose(), "0123456789abcdef");
    assert!(
        cluster.name.len() > "-7946".len() && cluster.name.ends_with("-7946"),
        "{}",
        cluster.name
    );
    assert_eq!(cluster.interval, Duration::from_millis(500));
    assert_eq!(cluster.dead_after, Duration::from_secs(4));
    assert!(!cluster.share_servers);
}

#[test]
fn every_key_of_a_cluster_has_its_meaning() {
    let config = toml(&format!(
        r#"
[cluster]
listen = "0.0.0.0:7946"
advertise = "10.0.0.1:7000"
seeds = ["lb2.internal:7946", "10.0.0.3:7946"]
key = "0123456789abcdef"
name = "lb1"
interval = "100ms"
dead_after = "1s"
share_servers = true
{SMALLEST}"#
    ))
    .unwrap();
    reads_back(&config);
    assert!(!effective(&config).to_string().contains("0123456789abcdef"));
    let cluster = config.cluster.unwrap();
    assert_eq!(cluster.advertise, Some("10.0.0.1:7000".parse().unwrap()));
    let seeds: Vec<String> = cluster.seeds.iter().map(ToString::to_string).collect();
    assert_eq!(seeds, ["lb2.internal:7946", "10.0.0.3:7946"]);
    assert_eq!(cluster.name, "lb1");
    assert_eq!(cluster.interval, Duration::from_millis(100));
    assert_eq!(cluster.dead_after, Duration::from_secs(1));
    assert!(cluster.share_servers);
}

/// The one error of the smallest file with `tables` before it.
#[track_caller]
fn refused(tables: &str, error: &str) {
    let lines = lines(toml(&format!("{tables}\n{SMALLEST}")));
    assert_eq!(lines.len(), 1, "{tables}: {lines:#?}");
    assert!(lines[0].contains(error), "{}", lines[0]);
    assert!(!lines[0].contains("hush"), "{}", lines[0]);
}

#[test]
fn what_redis_refuses() {
    for (keys, error) in [
        (
            "timeout = \"1s\"",
            "lb.toml:1: redis.url: is missing; expected a URL such as",
        ),
        (
            "url = \"redis://a:1\"\nurls = [\"redis://a:1\"]",
            "lb.toml:3: redis.urls: is given beside \"url\"; expected one of",
        ),
        (
            "url = \"redis://a:1\"\nsentinel = {}",
            "redis.sentinel: is given beside \"url\"",
        ),
        (
            "urls = [\"redis://a:1\"]\nsentinel = {}",
            "redis.sentinel: is given beside \"urls\"",
        ),
        (
            "url = \"http://me:hush@a:1\"",
            "redis.url: begins neither with \"redis://\" nor with \"rediss://\"; expected \"redis://[user:password@]host:port[/database]\"",
        ),
        ("urls = []", "redis.urls: is empty; expected at least one"),
        (
            "urls = \"redis://a:1\"",
            "is a string; expected a list, for example [\"redis://10.0.0.1:6379\"]",
        ),
        (
            "urls = [\"redis://a:1\", \"redis://b:1/2\"]",
            "redis.urls[1]: has a database, which neither a cluster nor a sentinel has; expected \"redis://[user:password@]host:port\"",
        ),
        (
            "urls = [\"redis://a:1\", \"rediss://b:1\"]",
            "redis.urls[1]: and the first differ in \"redis://\" and \"rediss://\"",
        ),
        (
            "urls = [\"redis://me:hush@a:1\", \"redis://me:hush2@b:1\"]",
            "redis.urls[1]: has another user or password than the first",
        ),
        (
            "urls = [\"redis://a:1\", \"env:NOT_SET\"]",
            "redis.urls[1]: the environment variable \"NOT_SET\" is not set",
        ),
        (
            "sentinel = { urls = [\"redis://a:1\"] }",
            "redis.sentinel.master: is missing; expected the name",
        ),
        (
            "sentinel = { master = \"\", urls = [\"redis://a:1\"] }",
            "redis.sentinel.master: is empty; expected the name",
        ),
        (
            "sentinel = { master = \"m\" }",
            "redis.sentinel.urls: is missing; expected the sentinels",
        ),
        (
            "sentinel = { master = \"m\", urls = [\"redis://a:1\"], username = \"me\" }",
            "redis.sentinel.password: is missing; \"username\" is of no use without it",
        ),
        (
            "sentinel = { master = \"m\", urls = [\"redis://a:1\"], sentinels = 1 }",
            "redis.sentinel.sentinels: is not a key of the configuration",
        ),
    ] {
        refused(&format!("[redis]\n{keys}"), error);
    }
    for key in [
        "ca = \"ca.crt\"",
        "server_name = \"a\"",
        "cert = \"c.crt\"",
        "key = \"c.key\"",
        "insecure_skip_verify = true",
    ] {
        let name = key.split(' ').next().unwrap();
        refused(
            &format!("[redis]\nurl = \"redis://a:1\"\n{key}"),
            &format!(
                "lb.toml:3: redis.{name}: is for TLS, and the URL begins with \"redis://\"; write \"rediss://\""
            ),
        );
    }
    refused(
        "[redis]\nurl = \"rediss://a:1\"\ncert = \"c.crt\"",
        "redis.key: is missing; \"cert\" is of no use without it",
    );
    refused(
        "[redis]\nurl = \"rediss://a:1\"\nca = \"c.crt\"\ninsecure_skip_verify = true",
        "redis.ca: verifies nothing",
    );
}

#[test]
fn what_limits_refuse() {
    let limit = "[rate_limit]\nrequests = 10\nwindow = \"1s\"\n";
    let redis = "[redis]\nurl = \"redis://a:1\"\n";
    refused(
        &format!("{limit}store = \"redis_leased\""),
        "lb.toml:4: rate_limit.store: \"redis_leased\" needs a [redis] table",
    );
    refused(
        &format!("{limit}store = \"cluster\""),
        "rate_limit.store: \"cluster\" needs a [cluster] table, for example listen =",
    );
    for store in ["", "store = \"memory\"", "store = \"redis\""] {
        refused(
            &format!("{redis}{limit}{store}\nlease = 1"),
            "rate_limit.lease: is for store = \"redis_leased\"; leave it out",
        );
    }
    refused(
        &format!("{redis}{limit}store = \"redis_leased\"\nlease = 11"),
        "rate_limit.lease: 11 is more than the whole limit, which is 10",
    );
    // The store that was meant is not known.
    refused(
        &format!("{redis}{limit}store = \"redis_lease\"\nlease = 2"),
        "rate_limit.store: \"redis_lease\" is not one of",
    );
}

#[test]
fn what_a_cluster_refuses() {
    for (from, to, error) in [
        (
            "listen = \"127.0.0.1:7946\"",
            "",
            "lb.toml:2: cluster.listen: is missing; expected a UDP address",
        ),
        (
            "seeds = []",
            "",
            "cluster.seeds: is missing; expected some of the other load balancers",
        ),
        (
            "seeds = []",
            "seeds = [\"lb2\"]",
            "cluster.seeds[0]: \"lb2\" has no port",
        ),
        (
            "seeds = []",
            "seeds = \"lb2:1\"",
            "is a string; expected a list, for example [\"lb2.internal:7946\"]",
        ),
        (
            "key = \"0123456789abcdef\"",
            "",
            "cluster.key: is missing; expected a secret of the whole fleet",
        ),
        (
            "0123456789abcdef",
            "hush",
            "lb.toml:5: cluster.key: is shorter than 16 bytes; expected for example",
        ),
        (
            "0123456789abcdef",
            "env:NOT_SET",
            "cluster.key: the environment variable \"NOT_SET\" is not set",
        ),
        (
            "seeds = []",
            "seeds = []\nname = \"a b\"",
            "cluster.name: \"a b\" is not a name",
        ),
        (
            "seeds = []",
            "seeds = []\nadvertise = \"0.0.0.0:7946\"",
            "cluster.advertise: 0.0.0.0:7946 is no address that others can send to",
        ),
        (
            "seeds = []",
            "seeds = []\nadvertise = \"10.0.0.1:0\"",
            "cluster.advertise: 10.0.0.1:0 is no address",
        ),
        (
            "seeds = []",
            "seeds = []\ndead_after = \"900ms\"",
            "cluster.dead_after: one lost datagram",
        ),
        (
            "seeds = []",
            "seeds = []\ninterval = \"3s\"",
            "cluster.interval: one lost datagram",
        ),
        ("7946", "8080", ""),
    ] {
        assert!(CLUSTER.contains(from), "{from}");
        let text = CLUSTER.replace(from, to);
        match error {
            // A TCP listener's address is another one.
            "" => assert!(toml(&format!("{text}{SMALLEST}")).is_ok()),
            _ => refused(&text, error),
        }
    }
    let name = |length: usize| format!("seeds = []\nname = \"{}\"", "a".repeat(length));
    let text = |length| format!("{}{SMALLEST}", CLUSTER.replace("seeds = []", &name(length)));
    assert!(toml(&text(128)).is_ok());
    assert_eq!(
        lines(toml(&text(129))),
        [
            "lb.toml:5: cluster.name: has 129 bytes; a name that load balancers tell each other has at most 128"
        ]
    );
    let upstream = SMALLEST.replace("\"app\"", &format!("{:?}", "b".repeat(129)));
    assert!(toml(&format!("{CLUSTER}{upstream}")).is_ok());
    let lines_of = lines(toml(&format!("{CLUSTER}share_servers = true\n{upstream}")));
    assert_eq!(
        lines_of,
        [
            "lb.toml:12: upstreams[0].name: has 129 bytes; a name that load balancers tell each other has at most 128"
        ]
    );
    let udp = "[[listeners]]\nlisten = \"127.0.0.1:7946\"\nmode = \"udp\"\nupstream = \"app\"\n";
    let lines = lines(toml(&format!("{CLUSTER}{SMALLEST}{udp}")));
    assert_eq!(
        lines,
        ["lb.toml:14: listeners[1].listen[0]: 127.0.0.1:7946 is taken by cluster.listen already"]
    );
}
