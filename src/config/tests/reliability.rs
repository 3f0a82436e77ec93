//! Splits, mirrors, retries, hedges, priorities; queues, limits, cookies, ejection; reloads and upgrades.

use super::shipped::reads_back;
use super::types::Percent;
use super::*;

const FULL: &str = r#"
watch_config = false
upgrade_socket = "run/lb.upgrade"

[reload_guard]
window = "1m"
error_increase = "2.5%"
latency_factor = 3

[[listeners]]
listen = "127.0.0.1:8080"

[[routes]]
split = { app = 95, canary = 5 }
split_by = "cookie:id"
mirror = { upstream = "shadow", share = "10%", max_body = "1KiB" }
timeout = "2s"
retry = { attempts = 3, on = ["503", "timeout", "connect", "429", "503"], per_try_timeout = "500ms", budget = "10%", backoff = "0s", max_body = "1MiB" }
hedge = { after = "50ms", budget = "5%" }
priority = "header:X-Priority"

[[upstreams]]
name = "app"
max_connections = 100
max_in_flight = 50
queue = { size = 10, timeout = "500ms" }
adaptive_concurrency = { min = 1, initial = 20, max = 30 }
slow_start = "0s"
sticky = { cookie = "id", ttl = "1d", secret = "env:KEY" }

[upstreams.ejection]
consecutive_failures = 3
error_ratio = "100%"
latency_factor = 5.0
interval = "2s"
base = "10s"
max = "1m"
max_share = "10%"
panic = "0%"

[[upstreams]]
name = "canary"
adaptive_concurrency = "off"
ejection = "off"

[[upstreams]]
name = "shadow"
"#;

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn forward(config: &Config) -> &Forward {
    match &config.routes[0].action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

fn full() -> Config {
    toml_with(FULL, &[("KEY", "0123456789abcdef")]).unwrap()
}

#[test]
fn every_key_of_a_route_has_its_meaning() {
    let config = full();
    let forward = forward(&config);
    assert_eq!(forward.split, [(0, 95), (1, 5)]);
    assert_eq!(forward.split_by, SplitKey::Cookie("id".into()));
    assert_eq!(
        forward.mirror,
        Some(Mirror {
            upstream: 2,
            share: percent("10%"),
            max_body: 1024
        })
    );
    assert_eq!(forward.upstreams().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(
        forward.retry,
        Retry {
            attempts: 3,
            connect: true,
            reset: false,
            timeout: true,
            statuses: vec![
                http::StatusCode::TOO_MANY_REQUESTS,
                http::StatusCode::SERVICE_UNAVAILABLE
            ],
            per_try_timeout: Some(Duration::from_millis(500)),
            budget: percent("10%"),
            backoff: Duration::ZERO,
            max_body: 1 << 20,
        }
    );
    assert_eq!(
        forward.hedge,
        Some(Hedge {
            after: HedgeAfter::Fixed(Duration::from_millis(50)),
            budget: percent("5%"),
        })
    );
    let priority = http::HeaderName::from_static("x-priority");
    assert_eq!(forward.priority, Priority::Header(priority));
}

#[test]
fn every_key_of_an_upstream_and_of_the_whole_has_its_meaning() {
    let config = full();
    assert!(!config.watch_config);
    assert_eq!(config.upgrade_socket, Some("run/lb.upgrade".into()));
    assert_eq!(
        config.reload_guard,
        Some(ReloadGuard {
            window: Duration::from_secs(60),
            error_increase: percent("2.5%"),
            latency_factor: 3.0,
        })
    );
    let [app, canary, _] = &config.upstreams[..] else {
        panic!("{:?}", config.upstreams);
    };
    assert_eq!(app.max_connections, Some(number(100)));
    assert_eq!(app.max_in_flight, Some(number(50)));
    assert_eq!(
        app.queue,
        Queue {
            size: 10,
            timeout: Duration::from_millis(500)
        }
    );
    assert_eq!(
        app.adaptive_concurrency,
        Some(AdaptiveConcurrency {
            min: number(1),
            initial: number(20),
            max: number(30)
        })
    );
    assert_eq!(app.slow_start, Duration::ZERO);
    let sticky = app.sticky.as_ref().unwrap();
    assert_eq!(
        (sticky.cookie.as_str(), sticky.ttl),
        ("id", Duration::from_secs(86_400))
    );
    assert_eq!(sticky.secret.as_ref().unwrap().expose(), "0123456789abcdef");
    assert_eq!(
        app.ejection,
        Some(Ejection {
            consecutive_failures: number(3),
            error_ratio: percent("100%"),
            latency_factor: Some(5.0),
            interval: Duration::from_secs(2),
            base: Duration::from_secs(10),
            max: Duration::from_secs(60),
            max_share: percent("10%"),
            panic: percent("0%"),
        })
    );
    assert!(canary.adaptive_concurrency.is_none() && canary.ejection.is_none());
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = toml(&format!(
        "[reload_guard]\n{SMALLEST}sticky = {{}}\n[[upstreams]]\nname = \"b\"\n[[routes]]\nupstream = \"app\"\nhedge = {{}}\nmirror = {{ upstream = \"b\" }}\n"
    ))
    .unwrap();
    assert!(config.watch_config);
    assert_eq!(config.upgrade_socket, Some("loadbalancer.upgrade".into()));
    assert_eq!(
        config.reload_guard,
        Some(ReloadGuard {
            window: Duration::from_secs(30),
            error_increase: percent("5%"),
            latency_factor: 2.0,
        })
    );
    let upstream = &config.upstreams[0];
    assert!(upstream.max_connections.is_none() && upstream.max_in_flight.is_none());
    assert_eq!(
        upstream.queue,
        Queue {
            size: 1024,
            timeout: Duration::from_secs(1)
        }
    );
    assert_eq!(
        upstream.adaptive_concurrency,
        Some(AdaptiveConcurrency {
            min: number(8),
            initial: number(512),
            max: number(65_536)
        })
    );
    assert_eq!(upstream.slow_start, Duration::from_secs(30));
    let sticky = upstream.sticky.as_ref().unwrap();
    assert_eq!(
        (sticky.cookie.as_str(), sticky.ttl),
        ("lb", Duration::from_secs(3600))
    );
    assert!(sticky.secret.is_none());
    assert_eq!(
        upstream.ejection,
        Some(Ejection {
            consecutive_failures: number(5),
            error_ratio: percent("30%"),
            latency_factor: None,
            interval: Duration::from_secs(1),
            base: Duration::from_secs(30),
            max: Duration::from_secs(300),
            max_share: percent("50%"),
            panic: percent("50%"),
        })
    );
    let forward = forward(&config);
    assert_eq!(
        forward.retry,
        Retry {
            attempts: 2,
            connect: true,
            reset: true,
            timeout: false,
            statuses: [502, 503, 504]
                .map(|status| http::StatusCode::from_u16(status).unwrap())
                .to_vec(),
            per_try_timeout: None,
            budget: percent("20%"),
            backoff: Duration::from_millis(25),
            max_body: 64 << 10,
        }
    );
    assert_eq!(
        forward.hedge,
        Some(Hedge {
            after: HedgeAfter::P95,
            budget: percent("2%"),
        })
    );
    let mirror = forward.mirror.unwrap();
    assert_eq!((mirror.share, mirror.max_body), (percent("100%"), 64 << 10));
    assert!(toml(SMALLEST).unwrap().reload_guard.is_none());
}

#[test]
fn what_is_shown_reads_back() {
    let text = FULL.replace(", secret = \"env:KEY\"", "");
    reads_back(&toml(&text).unwrap());
    for upstream in [
        "adaptive_concurrency = \"off\"\nqueue = { size = 0 }\n",
        "adaptive_concurrency = \"off\"\nmax_connections = 1\n",
        "adaptive_concurrency = { max = 4 }\n",
        "adaptive_concurrency = { min = 1000 }\n",
        "ejection = {}\nsticky = { ttl = \"90s\" }\n",
    ] {
        reads_back(&toml(&format!("{SMALLEST}{upstream}")).unwrap());
    }
    for route in [
        "split = { app = 7 }\nsplit_by = \"client_ip\"\n",
        "upstream = \"app\"\nretry = { attempts = 0, on = [] }\n",
        "upstream = \"app\"\npriority = \"low\"\n",
    ] {
        reads_back(&toml(&format!("{SMALLEST}[[routes]]\n{route}")).unwrap());
    }
    let mut shown = effective(&full());
    assert_eq!(shown["upstreams"][0]["sticky"]["secret"].take(), "***");
    assert_eq!(
        shown["routes"][0]["split"],
        json!({ "app": 95, "canary": 5 })
    );
    assert_eq!(
        shown["routes"][0]["retry"]["on"],
        json!(["connect", "timeout", "429", "503"])
    );
    assert_eq!(shown["reload_guard"]["latency_factor"], json!(3.0));

    let off = toml(&format!("upgrade_socket = \"off\"\n{SMALLEST}")).unwrap();
    assert!(off.upgrade_socket.is_none());
    reads_back(&off);
}

#[test]
fn a_split_of_one_is_that_one() {
    let config = toml(&format!(
        "{SMALLEST}[[routes]]\nsplit = {{ app = 7 }}\nsplit_by = \"client_ip\"\n"
    ));
    let config = config.unwrap();
    assert_eq!(forward(&config).split, [(0, 1)]);
    assert_eq!(forward(&config).split_by, SplitKey::Random);
}

#[test]
fn what_is_not_given_follows_what_is() {
    for (keys, expected) in [
        ("max = 4", (4, 4, 4)),
        ("max = 100", (8, 100, 100)),
        ("min = 1000", (1000, 1000, 65_536)),
        ("initial = 8", (8, 8, 65_536)),
    ] {
        let config = toml(&format!("{SMALLEST}adaptive_concurrency = {{ {keys} }}"));
        let found = config.unwrap().upstreams[0].adaptive_concurrency.unwrap();
        let (min, initial, max) = expected;
        assert_eq!(
            (found.min, found.initial, found.max),
            (number(min), number(initial), number(max))
        );
    }
    let retry = |keys: &str| {
        let config = toml(&format!(
            "{SMALLEST}[[routes]]\nupstream = \"app\"\nretry = {keys}"
        ));
        forward(&config.unwrap()).retry.clone()
    };
    let by_timeout = retry("{ per_try_timeout = \"1s\" }");
    assert!(by_timeout.timeout && by_timeout.connect && by_timeout.statuses.len() == 3);
    let by_word = retry("{ per_try_timeout = \"1s\", on = [\"connect\"] }");
    assert!(!by_word.timeout && !by_word.reset && by_word.statuses.is_empty());
}
