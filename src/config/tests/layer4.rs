//! Listeners of TCP and UDP, TLS that is passed through, who may come and how fast; upstreams of such listeners.

use super::shipped::reads_back;
use super::types::HostPattern;
use super::*;

const FULL: &str = r#"
trusted_proxies = ["10.0.0.0/8"]

[[listeners]]
name = "web"
listen = "127.0.0.1:443"
tls = { certificates = [{ cert = "a.crt", key = "a.key" }] }
sni = { "*.B.example" = "other", "a.example." = "db" }
alpn = { "acme-tls/1" = "other" }
timeouts = { half_closed = "30s" }

[[listeners]]
name = "db"
listen = "127.0.0.1:53"
mode = "tcp"
upstream = "db"
proxy_protocol = "required"
allow = ["10.0.0.0/8", "192.0.2.7", "file:allow.txt"]
deny = ["10.1.2.3/16"]
connection_rate = { connections = 100, window = "10s", burst = 20, on_store_failure = "deny" }
bandwidth = [{ upload = "1MB/s", download = "10MB/s" }, { download = "100MB/s", key = "total" }]
timeouts = { idle = "8h", half_closed = "1m" }
tcp = { keep_alive = "30s", user_timeout = "1m" }

[[listeners]]
name = "dns"
listen = "127.0.0.1:53"
mode = "udp"
upstream = "dns"
responses = 1
quic = true
connection_rate = { connections = 5, window = "1s", algorithm = "sliding_window" }
bandwidth = { upload = 1000 }

[[upstreams]]
name = "app"

[[upstreams]]
name = "db"
servers = ["10.0.0.1:5432"]
bandwidth = { download = "1MiB/s" }
tcp = { keep_alive = "off", user_timeout = "500ms" }

[[upstreams]]
name = "dns"
servers = ["10.0.0.2:53"]

[[upstreams]]
name = "other"
max_connections = 10
queue = { size = 5 }

[[routes]]
upstream = "app"
deny = ["0.0.0.0/0", "file:deny.txt"]
bandwidth = { download = "1KB/s", key = "total" }
"#;

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn net(text: &str) -> CidrSource {
    CidrSource::Net(text.parse().unwrap())
}

#[test]
fn a_tcp_listener_says_where_to_for_whom_and_how_fast() {
    let config = toml(FULL).unwrap();
    let db = &config.listeners[1];
    assert_eq!((db.mode, db.upstream), (Mode::Tcp, Some(1)));
    assert!(db.proxy_protocol && db.sni.is_empty() && db.alpn.is_empty());
    assert_eq!(
        db.access,
        Access {
            allow: vec![
                net("10.0.0.0/8"),
                net("192.0.2.7/32"),
                CidrSource::File("allow.txt".into())
            ],
            deny: vec![net("10.1.0.0/16")],
        }
    );
    assert_eq!(
        db.connection_rate,
        Some(ConnectionRate {
            algorithm: Algorithm::TokenBucket,
            connections: number(100),
            window: Duration::from_secs(10),
            burst: number(20),
            store: Store::Memory,
            lease: number(1),
            on_store_failure: OnStoreFailure::Deny,
        })
    );
    assert_eq!(
        db.bandwidth,
        [
            Bandwidth {
                upload: Some(1_000_000),
                download: Some(10_000_000),
                key: BandwidthKey::ClientIp,
            },
            Bandwidth {
                upload: None,
                download: Some(100_000_000),
                key: BandwidthKey::Total,
            },
        ]
    );
    assert_eq!(db.timeouts.idle, Duration::from_secs(8 * 3600));
    assert_eq!(db.timeouts.half_closed, Duration::from_secs(60));
    assert_eq!(
        db.tcp,
        SocketOptions {
            keep_alive: Some(Duration::from_secs(30)),
            user_timeout: Some(Duration::from_secs(60)),
        }
    );
}

#[test]
fn a_udp_listener_has_sessions() {
    let config = toml(FULL).unwrap();
    let dns = &config.listeners[2];
    assert_eq!((dns.mode, dns.upstream), (Mode::Udp, Some(2)));
    // The same as that of a TCP listener, which is no clash.
    assert_eq!(dns.addresses, config.listeners[1].addresses);
    assert_eq!((dns.responses, dns.quic), (Some(number(1)), true));
    assert_eq!(dns.timeouts.idle, Duration::from_secs(60));
    let rate = dns.connection_rate.as_ref().unwrap();
    assert_eq!(
        (rate.algorithm, rate.burst),
        (Algorithm::SlidingWindow, number(5))
    );
    assert_eq!(dns.bandwidth[0].upload, Some(1000));
}

#[test]
fn tls_is_passed_through_by_name_and_protocol() {
    let config = toml(FULL).unwrap();
    let web = &config.listeners[0];
    assert_eq!((web.mode, web.upstream), (Mode::Http, None));
    assert_eq!(
        web.sni,
        [
            (HostPattern::Wildcard("b.example".into()), 3),
            (HostPattern::Exact("a.example".into()), 1),
        ]
    );
    assert_eq!(web.alpn, [("acme-tls/1".to_owned(), 3)]);
    assert_eq!(web.timeouts.half_closed, Duration::from_secs(30));

    for names in [
        "sni = { \"a.example\" = \"app\" }",
        "alpn = { h2 = \"app\" }",
    ] {
        let text = SMALLEST.replace("8080\"", &format!("8080\"\nmode = \"tcp\"\n{names}"));
        let listener = &toml(&text).unwrap().listeners[0];
        assert_eq!(listener.upstream, None);
        assert_eq!(listener.sni.len() + listener.alpn.len(), 1);
    }
}

#[test]
fn routes_are_for_listeners_that_speak_http() {
    let config = toml(FULL).unwrap();
    let route = &config.routes[0];
    assert_eq!(route.listeners, [0]);
    assert_eq!(
        route.access.deny,
        [net("0.0.0.0/0"), CidrSource::File("deny.txt".into())]
    );
    assert!(route.access.allow.is_empty() && !route.access.is_open());
    assert_eq!(route.bandwidth[0].key, BandwidthKey::Total);

    let tcp = SMALLEST.replace("8080\"", "8080\"\nmode = \"tcp\"\nupstream = \"app\"");
    let config = toml(&tcp).unwrap();
    assert!(config.routes.is_empty());
    let two = format!("{tcp}[[upstreams]]\nname = \"unused\"\n");
    assert!(toml(&two).unwrap().routes.is_empty());
    // One upstream serves both.
    let both = format!("{tcp}[[listeners]]\nlisten = \"127.0.0.1:80\"\n");
    assert_eq!(toml(&both).unwrap().routes[0].listeners, [1]);
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = toml(SMALLEST).unwrap();
    let listener = &config.listeners[0];
    assert_eq!((listener.mode, listener.upstream), (Mode::Http, None));
    assert!(listener.access.is_open() && listener.bandwidth.is_empty());
    assert!(listener.sni.is_empty() && listener.alpn.is_empty());
    assert!(listener.connection_rate.is_none() && listener.responses.is_none());
    assert!(!listener.quic);
    assert_eq!(listener.timeouts.half_closed, Duration::from_secs(300));
    let tcp = SocketOptions {
        keep_alive: Some(Duration::from_secs(60)),
        user_timeout: None,
    };
    assert_eq!((listener.tcp, config.upstreams[0].tcp), (tcp, tcp));
    assert!(config.upstreams[0].bandwidth.is_none());
    assert!(config.routes[0].access.is_open() && config.routes[0].bandwidth.is_empty());
    assert!(config.cluster.is_none());

    let of_tcp = SMALLEST.replace("8080\"", "8080\"\nmode = \"tcp\"\nupstream = \"app\"");
    let listener = &toml(&of_tcp).unwrap().listeners[0];
    assert_eq!(listener.timeouts.idle, Duration::from_secs(3600));
}

#[test]
fn an_upstream_is_probed_as_those_who_send_to_it_speak() {
    let config = toml(FULL).unwrap();
    let [app, db, dns, other] = &config.upstreams[..] else {
        panic!("{:?}", config.upstreams);
    };
    let kind = |upstream: &Upstream| upstream.health_check.as_ref().map(|it| it.kind.clone());
    assert!(matches!(kind(app), Some(HealthCheckKind::Http { .. })));
    assert_eq!(kind(db), Some(HealthCheckKind::Tcp));
    assert_eq!(kind(dns), None);
    assert_eq!(kind(other), Some(HealthCheckKind::Tcp));
    // Requests are what the limit that finds itself goes by.
    assert!(app.adaptive_concurrency.is_some());
    assert!(db.adaptive_concurrency.is_none() && other.adaptive_concurrency.is_none());
    assert_eq!(
        (other.queue.size, other.max_connections),
        (5, Some(number(10)))
    );
    assert_eq!(
        db.bandwidth,
        Some(ServerBandwidth {
            upload: None,
            download: Some(1 << 20),
        })
    );
    assert_eq!(
        db.tcp,
        SocketOptions {
            keep_alive: None,
            user_timeout: Some(Duration::from_millis(500)),
        }
    );

    let probe = |modes: &[&str]| {
        let listener = |(port, mode): (usize, &&str)| match *mode {
            "http" => format!("[[listeners]]\nlisten = \"127.0.0.1:{}\"\n", port + 1),
            mode => format!(
                "[[listeners]]\nlisten = \"127.0.0.1:{}\"\nmode = \"{mode}\"\nupstream = \"a\"\n",
                port + 1
            ),
        };
        let listeners: String = modes.iter().enumerate().map(listener).collect();
        let config = toml(&format!("{listeners}[[upstreams]]\nname = \"a\"\n")).unwrap();
        kind(&config.upstreams[0])
    };
    assert_eq!(probe(&["tcp", "udp"]), Some(HealthCheckKind::Tcp));
    assert_eq!(probe(&["udp"]), None);
    for modes in [&["http", "tcp", "udp"][..], &["http", "udp"]] {
        let found = probe(modes);
        assert!(
            matches!(found, Some(HealthCheckKind::Http { .. })),
            "{found:?}"
        );
    }
}

#[test]
fn probes_over_udp() {
    let with = |check: &str| {
        let config = toml(&format!("{SMALLEST}health_check = {check}\n")).unwrap();
        reads_back(&config);
        config.upstreams[0].health_check.clone().unwrap().kind
    };
    let dns = |name: &str| HealthCheckKind::Dns { name: name.into() };
    assert_eq!(with("{ kind = \"dns\" }"), dns("."));
    assert_eq!(
        with("{ kind = \"dns\", name = \"Example.com.\", port = 5353 }"),
        dns("example.com")
    );
    assert_eq!(
        with("{ kind = \"udp\" }"),
        HealthCheckKind::Udp {
            send: String::new(),
            expect: None,
        }
    );
    assert_eq!(
        with("{ kind = \"udp\", send = \"ping\\n\", expect = \"pong\" }"),
        HealthCheckKind::Udp {
            send: "ping\n".into(),
            expect: Some("pong".into()),
        }
    );
}

#[test]
fn what_is_shown_reads_back() {
    let config = toml(FULL).unwrap();
    reads_back(&config);
    let shown = effective(&config);
    assert_eq!(
        shown["listeners"][0]["sni"],
        json!({ "*.b.example": "other", "a.example": "db" })
    );
    assert_eq!(
        shown["listeners"][1]["timeouts"],
        json!({ "idle": "8h", "half_closed": "1m", "tls_handshake": "10s" })
    );
    assert_eq!(
        shown["listeners"][1]["tcp"],
        json!({ "keep_alive": "30s", "user_timeout": "1m" })
    );
    assert_eq!(shown["listeners"][2]["timeouts"], json!({ "idle": "1m" }));
    assert_eq!(
        shown["listeners"][2]["bandwidth"],
        json!([{ "upload": "1kB/s", "key": "client_ip" }])
    );
    assert_eq!(shown["listeners"][1]["http2"], Value::Null);
    assert_eq!(
        shown["upstreams"][1]["timeouts"],
        json!({ "connect": "3s" })
    );
    assert_eq!(shown["upstreams"][2]["timeouts"], json!({}));
    assert_eq!(shown["upstreams"][2]["tcp"], Value::Null);
}
