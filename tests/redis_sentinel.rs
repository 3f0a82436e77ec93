//! Limits in the Redis that sentinels name: a failover is followed, and the counts go on.

use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis_fleet::Guarded;
use crate::support::wait_until;

/// A proxy whose limit nobody but Redis decides.
fn limited_by(guarded: &Guarded, requests: u32) -> RunningProxy {
    let sentinels = guarded.sentinels();
    Proxy::new()
        .setting("workers = 2")
        .extra(&format!(
            "[redis]\nsentinel = {sentinels}\ntimeout = \"500ms\"\n\
             [rate_limit]\nstore = \"redis\"\nrequests = {requests}\nwindow = \"10m\"\non_store_failure = \"deny\"\n\
             [[routes]]\nrespond = {{}}"
        ))
        .start()
}

/// Whether the metrics have this line.
fn says(proxy: &RunningProxy, line: &str) -> bool {
    proxy.metrics().lines().any(|it| it == line)
}

#[test]
fn a_master_that_is_killed_is_replaced_and_its_counts_go_on() {
    let mut guarded = Guarded::start();
    let proxy = limited_by(&guarded, 3);
    let status = || proxy.get("/").status;
    assert_eq!([status(), status()], [200, 200]);
    let master = guarded.servers[0].address();
    let connected = format!("lb_redis_connections{{server=\"{master}\",role=\"master\"}} 2");
    assert!(says(&proxy, &connected), "{}", proxy.metrics());
    wait_until("the replica has the counts", || {
        !guarded.servers[1]
            .command::<Vec<String>>("KEYS lb:{global*")
            .is_empty()
            && guarded.servers[0].command::<u32>("WAIT 1 100") == 1
    });

    guarded.servers[0].kill_9();
    wait_until("the replica admits the third", || status() == 200);
    for _ in 0..10 {
        assert_eq!(status(), 429);
    }
    let replica = guarded.servers[1].address();
    let connected = format!("lb_redis_connections{{server=\"{replica}\",role=\"master\"}} 2");
    wait_until("both workers are there", || says(&proxy, &connected));
    assert!(
        says(&proxy, "lb_redis_failovers_total 1"),
        "{}",
        proxy.metrics()
    );
    proxy.process().wait_for_line("Redis has failed over");
}

#[test]
fn a_master_that_steps_down_is_left_for_the_new_one() {
    let guarded = Guarded::start();
    let proxy = limited_by(&guarded, 1000);
    assert_eq!(proxy.get("/").status, 200);
    guarded.fail_over();
    guarded.sentinel.wait_for_line("+switch-master");
    wait_until("the failover is noticed", || {
        proxy.get("/");
        says(&proxy, "lb_redis_failovers_total 1")
    });
    wait_until("the new master decides", || proxy.get("/").status == 200);
    let admitted = (0..20).filter(|_| proxy.get("/").status == 200).count();
    assert_eq!(admitted, 20);
}
