//! Limits in a Redis over TLS, with a certificate of ours and a user who may do no more than is needed.

use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis::{ACL, Redis, free_port};
use crate::support::tls::{Authority, Files};
use crate::support::wait_until;

/// A Redis that wants certificates of `authority`, and its URL.
fn secured(authority: &Authority) -> (Redis, String) {
    let Files { cert, key } = authority.issue(&["redis.test"]);
    let path = |it: &std::path::Path| it.to_str().expect("UTF-8").to_owned();
    let (cert, key, ca) = (path(&cert), path(&key), path(&authority.ca()));
    let port = free_port().to_string();
    let files = [
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let acl: Vec<&str> = ACL.split_ascii_whitespace().skip(1).collect();
    let redis =
        Redis::start_with(&[&["--tls-port", &port][..], &files, &["--user"], &acl].concat());
    (redis, format!("rediss://lb:secret@127.0.0.1:{port}/1"))
}

fn limited_by(url: &str, more: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 2")
        .extra(&format!(
            "[redis]\nurl = {url:?}\ntimeout = \"1s\"\n{more}\n\
             [rate_limit]\nstore = \"redis\"\nrequests = 2\nwindow = \"10m\"\non_store_failure = \"deny\"\n\
             [[routes]]\nrespond = {{}}"
        ))
        .start()
}

#[test]
fn both_sides_prove_who_they_are() {
    let authority = Authority::new();
    let (_redis, url) = secured(&authority);
    let own = authority.issue(&["loadbalancer.test"]);
    let keys = format!(
        "ca = {:?}\nserver_name = \"redis.test\"\ncert = {:?}\nkey = {:?}",
        authority.ca(),
        own.cert,
        own.key
    );
    let proxy = limited_by(&url, &keys);
    assert_eq!([(); 3].map(|()| proxy.get("/").status), [200, 200, 429]);
    assert_eq!(proxy.metric("lb_limit_store_failures_total"), 0);
}

#[test]
fn a_redis_that_is_somebody_else_is_down() {
    let authority = Authority::new();
    let (_redis, url) = secured(&authority);
    let own = authority.issue(&["loadbalancer.test"]);
    let certificate = format!("cert = {:?}\nkey = {:?}", own.cert, own.key);
    let other = Authority::new();
    for wrong in [
        // Another authority's, another one's name, and no certificate of ours.
        format!(
            "ca = {:?}\nserver_name = \"redis.test\"\n{certificate}",
            other.ca()
        ),
        format!(
            "ca = {:?}\nserver_name = \"else.test\"\n{certificate}",
            authority.ca()
        ),
        format!("ca = {:?}\nserver_name = \"redis.test\"", authority.ca()),
    ] {
        let proxy = limited_by(&url, &wrong);
        assert_eq!(proxy.get("/").status, 429, "{wrong}");
        proxy.process().wait_for_line("Redis is down");
    }
}

#[test]
fn a_new_client_certificate_is_used_for_the_next_connection() {
    let authority = Authority::new();
    let (mut redis, url) = secured(&authority);
    let stranger = Authority::new();
    let own = stranger.issue(&["loadbalancer.test"]);
    let keys = format!(
        "ca = {:?}\nserver_name = \"redis.test\"\ncert = {:?}\nkey = {:?}",
        authority.ca(),
        own.cert,
        own.key
    );
    let proxy = limited_by(&url, &keys);
    assert_eq!(proxy.get("/").status, 429);
    let better = authority.issue(&["loadbalancer.test"]);
    std::fs::rename(&better.key, &own.key).expect("renamed");
    std::fs::rename(&better.cert, &own.cert).expect("renamed");
    wait_until("Redis lets us in", || proxy.get("/").status == 200);
    redis.kill_9();
    redis.restart();
    wait_until("Redis counts again, from 0", || {
        proxy.get("/").status == 200
    });
}
