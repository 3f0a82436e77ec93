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
