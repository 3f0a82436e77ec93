//! Rate limits: who is admitted, what clients are told, and what happens while Redis does not answer.

use std::time::{Duration, Instant};

use crate::support::backend::RawBackend;
use crate::support::client::{Response, message, request};
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis::Redis;
use crate::support::wait_until;

/// A proxy without servers under a limit for all requests.
fn limited(limit: &str) -> RunningProxy {
    limited_with("", limit)
}

fn limited_with(setting: &str, limit: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 2")
        .setting(setting)
        .extra(&format!(
            "[rate_limit]\n{limit}\n[[routes]]\nrespond = {{}}"
        ))
        .start()
}

/// GET with these fields.
fn ask(proxy: &RunningProxy, headers: &[(&str, &str)]) -> Response {
    request(proxy.addr(), message("GET", "/", headers, b""))
}

/// The statuses of requests one after another, each with these fields.
fn statuses<const N: usize>(proxy: &RunningProxy, headers: &[(&str, &str)]) -> [u16; N] {
    std::array::from_fn(|_| ask(proxy, headers).status)
}

/// How many of these were admitted and how many denied; there is nothing else.
fn admitted_and_denied(statuses: &[u16]) -> (usize, usize) {
    let count = |wanted: u16| statuses.iter().filter(|&&status| status == wanted).count();
    let (admitted, denied) = (count(200), count(429));
    assert_eq!(admitted + denied, statuses.len(), "{statuses:?}");
    (admitted, denied)
}

/// The value of a field that is a number.
fn number(answer: &Response, field: &str) -> u32 {
    let value = answer
        .headers
        .get(field)
        .unwrap_or_else(|| panic!("no {field}"));
    value.parse().unwrap_or_else(|_| panic!("{field}: {value}"))
}

#[test]
fn of_50_requests_at_once_exactly_the_limit_is_admitted() {
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        let server = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let limit =
            format!("[rate_limit]\nalgorithm = {algorithm:?}\nrequests = 5\nwindow = \"10m\"");
        let proxy = Proxy::new()
            .setting("workers = 2")
            .upstream_with("app", &[server.addr()], "health_check = { kind = \"off\" }")
            .extra(&limit)
            .start();
        let statuses = in_parallel(50, |_| proxy.get("/").status);
        assert_eq!(admitted_and_denied(&statuses), (5, 45), "{algorithm}");
        assert_eq!(server.heads().len(), 5, "the server sees no other request");
    }
}

#[test]
fn a_denied_client_is_told_the_limit_and_when_to_come_again() {
    let proxy = limited("requests = 5\nwindow = \"1m\"");
    let admitted = ask(&proxy, &[]);
    assert_eq!(admitted.status, 200);
    for field in [
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-limit",
        "retry-after",
    ] {
        assert_eq!(admitted.headers.get(field), None, "{field}");
    }
    assert_eq!(statuses(&proxy, &[]), [200; 4]);

    let denied = ask(&proxy, &[("accept", "application/json")]);
    assert_eq!(denied.status, 429);
    assert_eq!(denied.json()["error"], "rate_limited");
    let wait = number(&denied, "retry-after");
    assert!((1..=60).contains(&wait), "{wait}");
    let item = format!("\"global\";r=0;t={wait}");
    for (field, value) in [
        ("ratelimit-policy", "\"global\";q=5;w=60"),
        ("ratelimit", item.as_str()),
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", &wait.to_string()),
    ] {
        let values: Vec<_> = denied.headers.all(field).collect();
        assert_eq!(values, [value], "{field}");
    }
}

#[test]
fn with_headers_always_admitted_clients_are_told_what_is_left() {
    let proxy = limited("requests = 3\nwindow = \"1m\"\nheaders = \"always\"");
    for left in [2, 1, 0] {
        let answer = ask(&proxy, &[]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers.get("retry-after"), None);
        assert_eq!(number(&answer, "x-ratelimit-remaining"), left);
        let reset = number(&answer, "x-ratelimit-reset");
        assert!((1..=60).contains(&reset), "{reset}");
        let item = format!("\"global\";r={left};t={reset}");
        assert_eq!(answer.headers.get("ratelimit"), Some(item.as_str()));
        let policy = answer.headers.get("ratelimit-policy");
        assert_eq!(policy, Some("\"global\";q=3;w=60"));
    }
    assert_eq!(ask(&proxy, &[]).status, 429);
}

#[test]
fn a_servers_own_limit_fields_give_way_to_the_proxys() {
    let backend = RawBackend::answering(
        b"HTTP/1.1 200 OK\r\nRateLimit: 7\r\nX-RateLimit-Limit: 7\r\nx-other: 7\r\ncontent-length: 0\r\n\r\n",
    );
    let proxy = Proxy::new()
        .unprobed("app", &[backend.addr()])
        .extra("[rate_limit]\nrequests = 5\nwindow = \"1h\"\nheaders = \"always\"")
        .start();
    let answer = ask(&proxy, &[]);
    let limits: Vec<_> = answer.headers.all("x-ratelimit-limit").collect();
    assert_eq!(limits, ["5"]);
    assert_eq!(answer.headers.get("x-other"), Some("7"));
}

#[test]
fn a_fixed_window_opens_again_as_a_whole() {
    let proxy = limited("requests = 3\nwindow = \"2s\"");
    let start = Instant::now();
    assert_eq!(statuses(&proxy, &[]), [200, 200, 200, 429]);
    assert!((1..=2).contains(&number(&ask(&proxy, &[]), "retry-after")));
    wait_until("the window opens", || ask(&proxy, &[]).status == 200);
    // Windows are counted in whole milliseconds.
    let elapsed = start.elapsed() + Duration::from_millis(1);
    assert!(elapsed >= Duration::from_secs(2), "{elapsed:?}");
    assert_eq!(statuses(&proxy, &[]), [200, 200, 429]);
}

#[test]
fn a_sliding_window_opens_again_bit_by_bit() {
    let proxy = limited("algorithm = \"sliding_window\"\nrequests = 10\nwindow = \"2s\"");
    let admitted = in_parallel(12, |_| ask(&proxy, &[]).status);
    assert_eq!(admitted_and_denied(&admitted), (10, 2));
    wait_until("a request is admitted", || ask(&proxy, &[]).status == 200);
    let next = in_parallel(9, |_| ask(&proxy, &[]).status);
    assert!(next.contains(&429), "a fixed window would have 9 left");
}

#[test]
fn a_token_bucket_gives_its_burst_and_then_its_rate() {
    let proxy = limited("algorithm = \"token_bucket\"\nrequests = 60\nwindow = \"1m\"\nburst = 8");
    let mut admitted = 0;
    let denied = loop {
        match ask(&proxy, &[]) {
            answer if answer.status == 200 => admitted += 1,
            answer => break answer,
        }
    };
    // A token comes back each second; on a slow machine one does before the burst is spent.
    assert!((8..=16).contains(&admitted), "{admitted}");
    assert_eq!(number(&denied, "x-ratelimit-limit"), 8);
    assert_eq!(number(&denied, "retry-after"), 1);
    let start = Instant::now();
    wait_until("the next token", || ask(&proxy, &[]).status == 200);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "not the whole window"
    );
}

#[test]
fn each_value_of_a_header_has_a_count_of_its_own() {
    let proxy = limited("requests = 1\nwindow = \"10m\"\nkey = \"header:X-Api-Key\"");
    for key in ["a", "b", "A"] {
        assert_eq!(statuses(&proxy, &[("x-api-key", key)]), [200, 429], "{key}");
    }
    // Those without the header are counted together.
    assert_eq!(statuses(&proxy, &[]), [200, 429]);
    // And with those that leave it open which value counts.
    for other in ["c", "d"] {
        let several = [("x-api-key", other), ("x-api-key", "e")];
        assert_eq!(ask(&proxy, &several).status, 429, "{other}");
    }
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let limit = "requests = 1\nwindow = \"10m\"";
    let from = |proxy: &RunningProxy, client| ask(proxy, &[("x-forwarded-for", client)]).status;

    let proxy = limited_with("trusted_proxies = [\"127.0.0.1\"]", limit);
    for (client, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("192.0.2.2", 200),
        // What a client itself put in front does not count.
        ("198.51.100.7, 192.0.2.2", 429),
        // IPv6 counts by /64.
        ("2001:db8::1", 200),
        ("2001:db8::ffff:2", 429),
        ("2001:db8:0:1::1", 200),
    ] {
        assert_eq!(from(&proxy, client), status, "{client}");
    }
    assert_eq!(statuses(&proxy, &[]), [200, 429], "the proxy itself");

    let proxy = limited(limit);
    assert_eq!(from(&proxy, "192.0.2.1"), 200);
    assert_eq!(from(&proxy, "192.0.2.2"), 429, "nobody is trusted");
}

#[test]
fn a_route_has_its_own_limit_or_none_or_shares_that_of_all() {
    let proxy = Proxy::new()
        .setting("trusted_proxies = [\"127.0.0.1\"]")
        .extra(
            r#"
            [rate_limit]
            requests = 2
            window = "10m"
            [[routes]]
            paths = ["/a"]
            respond = {}
            [[routes]]
            paths = ["/b"]
            respond = {}
            [[routes]]
            paths = ["/free"]
            respond = {}
            rate_limit = "off"
            [[routes]]
            name = "own"
            paths = ["/own"]
            respond = {}
            rate_limit = { requests = 1, window = "20m", key = "route" }
            "#,
        )
        .start();
    let status = |path| proxy.get(path).status;
    assert_eq!(["/a", "/b", "/a", "/b"].map(status), [200, 200, 429, 429]);
    assert_eq!(["/free"; 5].map(status), [200; 5]);
    assert_eq!(status("/own"), 200);
    // All clients of the route count together.
    let other = message("GET", "/own", &[("x-forwarded-for", "192.0.2.1")], b"");
    let denied = request(proxy.addr(), other);
    assert_eq!(denied.status, 429);
    let policy = denied.headers.get("ratelimit-policy");
    assert_eq!(policy, Some("\"route:own\";q=1;w=1200"));
}

/// A proxy that counts in Redis, which has `timeout` for an answer.
fn limited_by(redis: &Redis, workers: u8, timeout: &str, limit: &str) -> RunningProxy {
    let url = redis.url();
    Proxy::new()
        .setting(&format!("workers = {workers}"))
        .extra(&format!(
            "[redis]\nurl = {url:?}\ntimeout = {timeout:?}\n\
             [rate_limit]\nstore = \"redis\"\n{limit}\n[[routes]]\nrespond = {{}}"
        ))
        .start()
}

#[test]
fn two_proxies_that_share_redis_share_one_limit() {
    let redis = Redis::start();
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        let limit = format!(
            "algorithm = {algorithm:?}\nrequests = 5\nwindow = \"10m\"\non_store_failure = \"deny\""
        );
        let proxies = [(); 2].map(|()| limited_by(&redis, 2, "5s", &limit));
        let statuses = in_parallel(50, |number| proxies[number % 2].get("/").status);
        assert_eq!(admitted_and_denied(&statuses), (5, 45), "{algorithm}");

        // For their start, the proxies write a key of their own that expires soon.
        let mut keys: Vec<String> = redis.command("KEYS lb:*127.0.0.1*");
        let key = keys.pop().expect("a count");
        assert_eq!(keys, [""; 0], "{algorithm}: one client has one key");
        let ttl: i64 = redis.command(&format!("PTTL {key}"));
        assert!((1..=1_200_001).contains(&ttl), "{key} lives {ttl} ms");
        let (): () = redis.command("FLUSHALL");
    }
}

#[test]
fn while_redis_hangs_the_policy_answers_within_the_timeout() {
    for (policy, expected) in [("local", (10, 20)), ("allow", (30, 0)), ("deny", (0, 30))] {
        let redis = Redis::start();
        let limit = format!("requests = 10\nwindow = \"10m\"\non_store_failure = {policy:?}");
        let proxy = limited_by(&redis, 1, "100ms", &limit);
        assert_eq!(ask(&proxy, &[]).status, 200);
        redis.pause();
        let answers = [(); 30].map(|()| {
            let start = Instant::now();
            (ask(&proxy, &[]), start.elapsed())
        });
        let slowest = answers.iter().map(|(_, time)| time).max();
        assert!(
            slowest < Some(&Duration::from_secs(1)),
            "{policy}: {slowest:?}"
        );
        let statuses = answers.each_ref().map(|(answer, _)| answer.status);
        assert_eq!(admitted_and_denied(&statuses), expected, "{policy}");
        for (answer, _) in answers.iter().filter(|(answer, _)| answer.status == 429) {
            assert!(number(answer, "retry-after") >= 1);
        }

        // Redis decides again by itself: first it admits, which "local" and "deny" do not now, then it denies, which
        // "allow" does not.
        redis.resume();
        let (): () = redis.command("FLUSHALL");
        for status in [200, 429] {
            wait_until(&format!("{policy}: Redis says {status}"), || {
                ask(&proxy, &[]).status == status
            });
        }
    }
}

#[test]
fn a_redis_that_is_killed_and_started_again_is_used_again() {
    let mut redis = Redis::start();
    let proxy = limited_by(
        &redis,
        2,
        "1s",
        "requests = 2\nwindow = \"10m\"\non_store_failure = \"allow\"",
    );
    assert_eq!(statuses(&proxy, &[]), [200, 200, 429]);
    redis.kill_9();
    assert_eq!(statuses(&proxy, &[]), [200; 20]);
    proxy.process().wait_for_line("Redis is down");

    redis.restart();
    wait_until("Redis counts again", || ask(&proxy, &[]).status == 429);
    proxy.process().wait_for_line("Redis is back");
    let mut keys: Vec<String> = redis.command("KEYS lb:*127.0.0.1*");
    assert!(keys.pop().is_some(), "the count is in the new Redis");
}

#[test]
fn without_redis_at_its_start_the_proxy_serves_by_the_policy() {
    let mut redis = Redis::start();
    redis.kill_9();
    let proxy = limited_by(&redis, 2, "1s", "requests = 2\nwindow = \"10m\"");
    assert_eq!(statuses(&proxy, &[]), [200, 200, 429]);
    redis.restart();
    wait_until("Redis counts, from 0", || ask(&proxy, &[]).status == 200);
}
