//! Limits whose workers have Redis count ahead of time: how exact they are, and what they spare Redis.

use std::time::{Duration, Instant};

use crate::support::client::{Response, message};
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis::Redis;
use crate::support::wait_until;

fn settings(redis: &Redis, timeout: &str, limit: &str) -> Proxy {
    let url = redis.url();
    Proxy::new().setting("workers = 2").extra(&format!(
        "[redis]\nurl = {url:?}\ntimeout = {timeout:?}\n\
         [rate_limit]\nstore = \"redis_leased\"\n{limit}\n[[routes]]\nrespond = {{}}"
    ))
}

fn admitted(answers: &[u16]) -> usize {
    let count = |status| answers.iter().filter(|&&it| it == status).count();
    assert_eq!(count(200) + count(429), answers.len(), "{answers:?}");
    count(200)
}

/// The statuses of so many requests on one connection.
fn ask(proxy: &RunningProxy, requests: usize) -> Vec<u16> {
    let mut client = proxy.connect();
    let one = |_| {
        let answer: Response = client
            .request(message("GET", "/", &[], b""))
            .expect("an answer");
        answer.status
    };
    (0..requests).map(one).collect()
}

#[test]
fn a_limit_of_five_is_five_for_all_workers_of_two_proxies() {
    let redis = Redis::start();
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        let limit = format!(
            "algorithm = {algorithm:?}\nrequests = 5\nwindow = \"10m\"\non_store_failure = \"deny\""
        );
        let proxies = [(); 2].map(|()| settings(&redis, "5s", &limit).start());
        let statuses = in_parallel(50, |number| proxies[number % 2].get("/").status);
        assert_eq!(admitted(&statuses), 5, "{algorithm}");
        let (): () = redis.command("FLUSHALL");
    }
}

#[test]
fn many_requests_cost_redis_few_questions_and_denied_ones_none() {
    let redis = Redis::start();
    let limit = "requests = 4000\nwindow = \"10m\"\non_store_failure = \"deny\"";
    let proxies = [(); 2].map(|()| settings(&redis, "5s", limit).start());
    let before = redis.calls("evalsha");
    let statuses = in_parallel(8, |number| ask(&proxies[number % 2], 400)).concat();
    assert_eq!(admitted(&statuses), 3200);
    let asked = redis.calls("evalsha") - before;
    assert!(asked < 500, "{asked} questions for 3200 requests");

    let statuses = in_parallel(8, |number| ask(&proxies[number % 2], 400)).concat();
    let more = admitted(&statuses);
    // What four workers may hold and not use.
    assert!((800 - 4 * 40..=800).contains(&more), "{more}");
    let before = redis.calls("evalsha");
    let denied = ask(&proxies[0], 400);
    assert!(admitted(&denied) <= 80, "what the workers still hold");
    let asked = redis.calls("evalsha") - before;
    assert!(asked < 20, "{asked} questions for denied requests");
    let figure = |name| proxies.iter().map(|it| it.metric(name)).sum::<u64>();
    assert!(figure("lb_limit_leases_total") < 1000);
    assert_eq!(figure("lb_limit_leased_requests_total"), 4000);
    assert_eq!(figure("lb_limit_store_failures_total"), 0);
}

#[test]
fn what_nobody_uses_is_given_back() {
    let redis = Redis::start();
    let limit = "requests = 1000\nwindow = \"20s\"\nlease = 100\non_store_failure = \"deny\"";
    let proxy = settings(&redis, "5s", limit).start();
    assert_eq!(admitted(&ask(&proxy, 60)), 60);
    let leased = proxy.metric("lb_limit_leased_requests_total");
    assert!(leased > 60);
    wait_until("Redis counts what was made", || {
        redis.command::<Option<u64>>("GET lb:{global:127.0.0.1}:fw20000") == Some(60)
    });
    wait_until("the metrics say so", || {
        proxy.metric("lb_limit_returned_requests_total") == leased - 60
    });
    assert_eq!(proxy.metric("lb_limit_lapsed_requests_total"), 0);
}

#[test]
fn a_reload_keeps_what_is_leased() {
    let redis = Redis::start();
    let limit = "requests = 1000\nwindow = \"10m\"\nlease = 100\non_store_failure = \"deny\"";
    let proxy = settings(&redis, "5s", limit)
        .setting("drain_timeout = \"9s\"")
        .start();
    assert_eq!(admitted(&ask(&proxy, 150)), 150);
    let leases = proxy.metric("lb_limit_leases_total");
    proxy.change_to(&settings(&redis, "5s", limit).setting("drain_timeout = \"8s\""));
    assert_eq!(admitted(&ask(&proxy, 1)), 1);
    // One for a worker that had none, or for one that was running low.
    assert!(proxy.metric("lb_limit_leases_total") <= leases + 1);
}

#[test]
fn while_redis_hangs_leases_last_and_then_the_policy_answers() {
    for (policy, expected) in [("allow", 200), ("deny", 429)] {
        let redis = Redis::start();
        let limit =
            format!("requests = 1000\nwindow = \"10m\"\nlease = 50\non_store_failure = {policy:?}");
        let proxy = settings(&redis, "100ms", &limit).start();
        assert_eq!(admitted(&ask(&proxy, 100)), 100);
        redis.pause();
        wait_until("Redis is missed", || {
            let start = Instant::now();
            let answers = ask(&proxy, 10);
            assert!(
                start.elapsed() < Duration::from_secs(3),
                "{:?}",
                start.elapsed()
            );
            answers.contains(&expected) && proxy.metric("lb_limit_store_failures_total") > 0
        });
        proxy.process().wait_for_line("Redis is down");
        let (): () = {
            redis.resume();
            redis.command("SET other 1")
        };
        let failures = || proxy.metric("lb_limit_store_failures_total");
        wait_until("Redis decides again", || {
            let before = failures();
            ask(&proxy, 5);
            failures() == before
        });
    }
}
