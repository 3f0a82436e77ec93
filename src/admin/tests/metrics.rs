//! The text of `GET /metrics`, read as Prometheus reads it.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::admin::render;

/// Families by name, and samples by name and labels.
struct Scrape {
    kinds: HashMap<String, String>,
    samples: HashMap<String, f64>,
}

impl Scrape {
    /// Reads the text, and checks what the format demands: a family is announced once, its samples follow, and no
    /// series occurs twice.
    fn read(text: &str) -> Self {
        let mut scrape = Self {
            kinds: HashMap::new(),
            samples: HashMap::new(),
        };
        let mut helped = HashSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(helped.contains(name), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert_eq!(
                    scrape.kinds.insert(name.to_owned(), kind.to_owned()),
                    None,
                    "{line}"
                );
                name.clone_into(&mut family);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix = name
                    .strip_prefix(family.as_str())
                    .unwrap_or_else(|| panic!("{line} is not in {family}"));
                let suffixes: &[&str] = match scrape.kinds[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&suffix), "{line} is not in {family}");
                let twice = scrape
                    .samples
                    .insert(series.to_owned(), value.parse().unwrap());
                assert_eq!(twice, None, "{line}");
            }
        }
        scrape
    }

    fn value(&self, series: &str) -> f64 {
        *self
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("no {series}"))
    }
}

#[tokio::test]
async fn every_figure_is_in_its_family() {
    let dir = TempDir::new();
    let admin = Admin::start(TWO, &dir.path().join("state"));
    let listener = &admin.state.snapshot().listeners[0];
    listener.entries[1]
        .stats
        .shard(0)
        .record(200, Duration::from_millis(2));
    listener.entries[1]
        .stats
        .shard(1)
        .record(204, Duration::from_secs(20));
    listener.unrouted.shard(1).record(404, Duration::ZERO);
    listener.stats.shard(0).accepted.add(3);
    listener.stats.shard(0).open.add(2);
    listener.stats.shard(1).header_timeouts.add(4);
    listener.stats.shard(1).malformed.add(5);
    listener.stats.shard(1).accept_failures.add(6);
    listener.stats.shard(0).floods[0].add(18);
    listener.stats.shard(0).stalled_answers.add(19);
    listener.stats.shard(1).stalled_bodies.add(20);
    listener.bytes.shard(1).received.add(7);
    listener.bytes.shard(1).sent.add(8);
    let upstream = &admin.state.snapshot().upstreams[0].shared;
    upstream.stats.shard(0).retries[0].add(9);
    upstream.stats.shard(0).nobody.add(10);
    upstream
        .change(&address("[::1]:3001"), Some(0), None)
        .unwrap();
    let server = upstream.find(&address("127.0.0.1:3000")).unwrap();
    server
        .stats
        .shard(1)
        .outcomes
        .record(0, Duration::from_millis(1));
    server.stats.shard(1).connects.add(11);
    server.stats.shard(1).connect_failures.add(12);
    server.bytes.shard(0).received.add(13);
    server.bytes.shard(0).sent.add(14);
    let limit = &admin.state.snapshot().limits[1];
    limit.stats.shard(0).allowed.add(15);
    limit.stats.shard(0).denied.add(16);
    limit.stats.shard(1).store_failures.add(17);

    let scrape = Scrape::read(&render(&admin.state));
    let version = env!("CARGO_PKG_VERSION");
    for (series, value) in [
        (
            format!("lb_build_info{{version=\"{version}\"}}").as_str(),
            1.0,
        ),
        (
            r#"lb_requests_total{listener="web",route="two",class="2xx"}"#,
            2.0,
        ),
        (
            r#"lb_requests_total{listener="web",route="",class="4xx"}"#,
            1.0,
        ),
        (
            r#"lb_requests_total{listener="internal",route="two",class="2xx"}"#,
            0.0,
        ),
        (
            r#"lb_request_duration_seconds_bucket{listener="web",route="two",le="0.0025"}"#,
            1.0,
        ),
        (
            r#"lb_request_duration_seconds_sum{listener="web",route="two"}"#,
            20.002,
        ),
        (
            r#"lb_request_duration_seconds_count{listener="web",route="two"}"#,
            2.0,
        ),
        (r#"lb_connections_accepted_total{listener="web"}"#, 3.0),
        (r#"lb_connections_open{listener="web"}"#, 2.0),
        (r#"lb_header_timeouts_total{listener="web"}"#, 4.0),
        (r#"lb_malformed_requests_total{listener="web"}"#, 5.0),
        (r#"lb_accept_failures_total{listener="web"}"#, 6.0),
        (
            r#"lb_http2_floods_total{listener="web",flood="rst_stream"}"#,
            18.0,
        ),
        (r#"lb_http2_floods_total{listener="web",flood="ping"}"#, 0.0),
        (r#"lb_stalled_answers_total{listener="web"}"#, 19.0),
        (r#"lb_stalled_bodies_total{listener="web"}"#, 20.0),
        (r#"lb_bytes_received_total{listener="web"}"#, 7.0),
        (r#"lb_bytes_sent_total{listener="web"}"#, 8.0),
        (
            r#"lb_upstream_retries_total{upstream="app",reason="connect"}"#,
            9.0,
        ),
        (r#"lb_upstream_no_server_total{upstream="app"}"#, 10.0),
        (r#"lb_upstream_eligible_servers{upstream="app"}"#, 1.0),
        (
            r#"lb_server_requests_total{upstream="app",server="127.0.0.1:3000",class="none"}"#,
            1.0,
        ),
        (
            r#"lb_server_requests_total{upstream="other",server="127.0.0.1:3000",class="none"}"#,
            0.0,
        ),
        (
            r#"lb_server_duration_seconds_sum{upstream="app",server="127.0.0.1:3000"}"#,
            0.001,
        ),
        (
            r#"lb_server_connects_total{upstream="app",server="127.0.0.1:3000"}"#,
            11.0,
        ),
        (
            r#"lb_server_connect_failures_total{upstream="app",server="127.0.0.1:3000"}"#,
            12.0,
        ),
        (
            r#"lb_server_bytes_received_total{upstream="app",server="127.0.0.1:3000"}"#,
            13.0,
        ),
        (
            r#"lb_server_bytes_sent_total{upstream="app",server="127.0.0.1:3000"}"#,
            14.0,
        ),
        (
            r#"lb_server_in_flight{upstream="app",server="127.0.0.1:3000"}"#,
            0.0,
        ),
        (r#"lb_server_up{upstream="app",server="[::1]:3001"}"#, 1.0),
        (
            r#"lb_server_weight{upstream="app",server="[::1]:3001"}"#,
            0.0,
        ),
        (
            r#"lb_server_eligible{upstream="app",server="[::1]:3001"}"#,
            0.0,
        ),
        (
            r#"lb_server_eligible{upstream="app",server="127.0.0.1:3000"}"#,
            1.0,
        ),
        (r#"lb_limit_allowed_total{limit="route:one"}"#, 15.0),
        (r#"lb_limit_denied_total{limit="route:one"}"#, 16.0),
        (r#"lb_limit_store_failures_total{limit="route:one"}"#, 17.0),
        (r#"lb_limit_keys{limit="route:one"}"#, 0.0),
    ] {
        assert_eq!(scrape.value(series), value, "{series}");
    }
    for process in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(scrape.value(process) > 0.0);
    }
}

#[tokio::test]
async fn all_families_are_documented() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin.md")).unwrap();
    let dir = TempDir::new();
    let scrape = Scrape::read(&render(&Admin::start(ONE, &dir.path().join("state")).state));
    for family in scrape.kinds.keys() {
        assert!(
            manual.contains(&format!("`{family}")),
            "{family} is not in docs/admin.md"
        );
    }
}

#[tokio::test]
async fn the_answer_names_the_format() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let response = admin
        .router
        .oneshot(request(Method::GET, "/metrics", Body::empty()))
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Scrape::read(std::str::from_utf8(&body).unwrap());
}
