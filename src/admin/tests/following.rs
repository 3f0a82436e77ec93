//! Changes that other load balancers of the fleet have made.

use super::*;
use crate::admin::follow;
use crate::admin::overlay::Difference;
use crate::admin::register::{Entry, Server, Stamp};
use crate::admin::sharing::News;
use crate::health;

/// Makes a change of a server of the upstream `app` that another node made at this time.
async fn make(admin: &Admin, server: &str, clock: u64, difference: Option<Difference>) {
    let entry = Entry {
        server: Server {
            upstream: "app".to_owned(),
            address: address(server),
        },
        stamp: Stamp {
            clock,
            node: "other".to_owned(),
        },
        difference,
    };
    let (news, others) = mpsc::channel(1);
    news.send(News(vec![entry])).await.unwrap();
    drop(news);
    follow(Arc::clone(&admin.state), others).await;
}

/// One that shares changes, whose servers are checked.
async fn start(dir: &TempDir) -> Admin {
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let of = |(name, servers): &(&str, &[(&str, u32)])| {
        let servers = servers
            .iter()
            .map(|(text, weight)| (address(text), *weight));
        ((*name).to_owned(), servers.collect())
    };
    admin
        .state
        .configured
        .store(Arc::new(ONE.iter().map(of).collect()));
    admin.state.state.begin().await.share_as(Some("one"));
    let upstream = &admin.state.snapshot().upstreams[0].shared;
    let checks = health::Settings {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        fall: std::num::NonZeroU32::MIN,
        rise: std::num::NonZeroU32::MIN,
    };
    let settings = Settings {
        health: Some((health::Probe::Tcp(health::TcpProbe), checks)),
        ..Settings::clone(&upstream.settings())
    };
    let specs = Overlay::default().apply("app", admin.state.configured.load()["app"].clone());
    upstream.reconfigure(settings, specs);
    admin
}

fn eligible(admin: &Admin) -> Vec<String> {
    let endpoints = admin.state.snapshot().upstreams[0].shared.endpoints();
    let eligible = endpoints.iter().filter(|it| it.eligible());
    eligible.map(|it| it.address().to_string()).collect()
}

#[tokio::test]
async fn a_configured_server_that_is_added_again_waits_for_its_first_probe() {
    let dir = TempDir::new();
    let admin = start(&dir).await;
    assert_eq!(eligible(&admin), ["127.0.0.1:3000", "127.0.0.1:3001"]);
    make(&admin, "127.0.0.1:3001", 5, Some(Difference::Removed)).await;
    assert_eq!(admin.servers().await.len(), 1);
    make(&admin, "127.0.0.1:3001", 6, None).await;
    assert_eq!(admin.servers().await.len(), 2);
    assert_eq!(eligible(&admin), ["127.0.0.1:3000"]);
    // Of what changes otherwise nothing is waited for.
    let heavier = Difference::Changed {
        weight: super::super::weight::Weight::new(9),
        draining: None,
    };
    make(&admin, "127.0.0.1:3000", 7, Some(heavier)).await;
    assert_eq!(eligible(&admin), ["127.0.0.1:3000"]);
}

/// Puts a configuration with these servers into force, as reloads do.
async fn reload(admin: &Admin, servers: &[&str]) {
    let mut transaction = admin.state.state.begin().await;
    let mut overlay = transaction.overlay().clone();
    transaction.recall(&mut overlay);
    let servers: Vec<_> = servers.iter().map(|it| (address(it), 1)).collect();
    let specs = overlay.apply("app", servers.clone());
    let upstream = &admin.state.snapshot().upstreams[0].shared;
    upstream.reconfigure(Settings::clone(&upstream.settings()), specs);
    transaction.reconfigured(overlay).await;
    let configured = [("app".to_owned(), servers)].into_iter().collect();
    admin.state.configured.store(Arc::new(configured));
}

async fn ids(admin: &Admin) -> Vec<String> {
    let servers = admin.servers().await.into_iter();
    servers.map(|(id, ..)| id).collect()
}

/// What a node that joins now is told of a server that was removed.
fn is_removed(admin: &Admin, server: &str) -> bool {
    let server = Server {
        upstream: "app".to_owned(),
        address: address(server),
    };
    let register = admin.state.state.shared().load_full().unwrap();
    register.difference(&server) == Some(&Difference::Removed)
}

/// Waits for so long, while changes are followed.
async fn follow_for(admin: &Admin, time: Duration) {
    let (_news, others) = mpsc::channel(1);
    let following = follow(Arc::clone(&admin.state), others);
    _ = tokio::time::timeout(time, following).await;
}

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test]
async fn a_removal_outlives_a_rollout_and_no_more() {
    let dir = TempDir::new();
    let admin = start(&dir).await;
    // The clock stands from here on, and goes on while nothing else is to be done.
    tokio::time::pause();
    let gone = "127.0.0.1:3001";
    make(&admin, gone, 5, Some(Difference::Removed)).await;
    reload(&admin, &["127.0.0.1:3000"]).await;
    follow_for(&admin, HOUR * 23).await;
    assert!(is_removed(&admin, gone), "others may still need it");
    reload(&admin, &["127.0.0.1:3000", gone]).await;
    assert_eq!(ids(&admin).await, ["app@127.0.0.1:3000"], "it is put back");
    follow_for(&admin, HOUR * 50).await;
    assert!(is_removed(&admin, gone), "it is configured, and removed");
    reload(&admin, &["127.0.0.1:3000"]).await;
    follow_for(&admin, HOUR * 25).await;
    assert!(!is_removed(&admin, gone));
    reload(&admin, &["127.0.0.1:3000", gone]).await;
    assert_eq!(ids(&admin).await.len(), 2, "it is another one by now");
}

#[tokio::test]
async fn a_change_made_before_the_configuration_names_the_server_applies_then() {
    let dir = TempDir::new();
    let admin = start(&dir).await;
    tokio::time::pause();
    let new = "127.0.0.1:3002";
    let drained = Difference::Changed {
        weight: None,
        draining: Some(true),
    };
    make(&admin, new, 5, Some(drained)).await;
    follow_for(&admin, HOUR * 50).await;
    reload(&admin, &["127.0.0.1:3000", new]).await;
    let servers = admin.servers().await;
    assert_eq!(servers[1], (format!("app@{new}"), 1, true));
}
