//! Changes to servers: each is made as a whole and kept over a restart, or not made.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use tokio::task::JoinSet;

use super::*;

#[tokio::test]
async fn servers_are_after_a_restart_as_they_were_changed() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let before = Admin::start(ONE, &path);
    before
        .post(
            "/servers",
            json!({"address": "127.0.0.1:3002", "weight": 3}),
        )
        .await;
    before
        .post("/servers", json!({"address": "127.0.0.1:3003"}))
        .await;
    before
        .patch("/servers/127.0.0.1:3002", json!({"drain": true}))
        .await;
    before
        .patch("/servers/127.0.0.1:3001", json!({"weight": 9}))
        .await;
    before.delete("/servers/127.0.0.1:3000").await;
    before.delete("/servers/127.0.0.1:3003").await;
    let expected = [
        ("app@127.0.0.1:3001", 9, false),
        ("app@127.0.0.1:3002", 3, true),
    ];
    let expected = expected.map(|(id, weight, draining)| (id.to_owned(), weight, draining));
    assert_eq!(before.servers().await, expected);
    drop(before); // and with it its right to change the state file

    let after = Admin::start(ONE, &path);
    assert_eq!(after.servers().await, expected);
    let origin = async |path| after.get(path).await.body["origin"].clone();
    assert_eq!(origin("/servers/127.0.0.1:3001").await, "config");
    assert_eq!(origin("/servers/127.0.0.1:3002").await, "admin");

    after
        .post(
            "/servers",
            json!({"address": "127.0.0.1:3000", "weight": 5}),
        )
        .await;
    let again = Admin::start(ONE, &path);
    assert_eq!(
        again.servers().await[0],
        ("app@127.0.0.1:3000".to_owned(), 5, false)
    );
}

#[tokio::test]
async fn nothing_changes_that_cannot_be_kept() {
    let dir = TempDir::new();
    let missing = dir.path().join("missing");
    let admin = Admin::start(ONE, &missing.join("state"));
    let before = admin.servers().await;
    let path = "/servers/127.0.0.1:3000";
    for answer in [
        admin
            .post("/servers", json!({"address": "127.0.0.1:3002"}))
            .await,
        admin.patch(path, json!({"weight": 9, "drain": true})).await,
        admin.delete(path).await,
    ] {
        assert_eq!(answer.error(), (500, "state_file"));
        assert!(
            answer
                .message()
                .contains("missing/state.lock\": No such file"),
            "{}",
            answer.message()
        );
    }
    assert_eq!(admin.servers().await, before);

    fs::create_dir(missing).unwrap();
    let added = admin
        .post("/servers", json!({"address": "127.0.0.1:3002"}))
        .await;
    assert_eq!(
        added.status,
        StatusCode::CREATED,
        "what failed before left no trace"
    );
}

#[tokio::test]
async fn one_of_many_that_add_the_same_server_wins() {
    let dir = TempDir::new();
    let admin = Arc::new(Admin::start(ONE, &dir.path().join("state")));
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let admin = Arc::clone(&admin);
        calls.spawn(async move {
            admin
                .post("/servers", json!({"address": "127.0.0.1:3002"}))
                .await
                .status
        });
    }
    let statuses = calls.join_all().await;
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(
        (count(StatusCode::CREATED), count(StatusCode::CONFLICT)),
        (1, 15)
    );
    assert_eq!(admin.servers().await.len(), 3);
}

#[tokio::test]
async fn a_change_goes_on_when_its_client_goes_away() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let admin = Admin::start(ONE, &path);
    let running = admin.state.state.begin().await;
    {
        let call = pin!(admin.post("/servers", json!({"address": "127.0.0.1:3002"})));
        assert!(
            call.poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    tokio::task::yield_now().await; // the change waits for the one that is running
    drop(running);

    let made = async {
        while admin.servers().await.len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), made)
        .await
        .unwrap();
    assert_eq!(Admin::start(ONE, &path).servers().await.len(), 3);
}

#[tokio::test]
async fn changes_are_refused_while_another_load_balancer_has_the_state_file() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let first = Admin::start(ONE, &path);
    let second = Admin::start(ONE, &path);
    let added = json!({"address": "127.0.0.1:3002"});
    let refused = second.post("/servers", added.clone()).await;
    assert_eq!(refused.error(), (500, "state_file"));
    assert_eq!(
        refused.message(),
        format!(
            "nothing was changed: another load balancer keeps its changes in {path:?}: changes are refused here; give \
             this one its own admin.state_file"
        )
    );
    assert_eq!(second.servers().await.len(), 2);

    drop(first);
    assert_eq!(
        second.post("/servers", added).await.status,
        StatusCode::CREATED
    );
}
