//! Servers: what is listed, what changes, what stays over a restart, and what does not happen.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use tokio::task::JoinSet;

use super::*;

#[tokio::test]
async fn are_listed_with_all_that_is_known() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let endpoint = admin.state.snapshot().upstreams[0]
        .shared
        .endpoints()
        .remove(0);
    endpoint.stats.shard(0).outcomes.record(200, Duration::ZERO);
    endpoint.stats.shard(1).outcomes.record(0, Duration::ZERO);

    let list = admin.get("/servers").await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.body["servers"].as_array().unwrap().len(), 2);
    assert_eq!(
        list.body["servers"][0],
        json!({
            "id": "app@127.0.0.1:3000", "upstream": "app", "address": "127.0.0.1:3000", "weight": 1, "draining": false,
            "health": "unknown", "eligible": true, "ejected": null, "start_share": 1.0, "in_flight": 0,
            "in_flight_limit": null, "origin": "config", "requests": 2, "resolved": ["127.0.0.1:3000"],
        })
    );
    assert_eq!(
        admin.get("/servers/app@127.0.0.1:3000").await.body,
        list.body["servers"][0]
    );
}

#[tokio::test]
async fn are_listed_by_upstream() {
    let dir = TempDir::new();
    let admin = Admin::start(TWO, &dir.path().join("state"));
    let count = async |path| {
        admin.get(path).await.body["servers"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("/servers").await, 3);
    assert_eq!(count("/servers?").await, 3);
    assert_eq!(count("/servers?upstream=app").await, 2);
    assert_eq!(count("/servers?upstream=other").await, 1);
    assert_eq!(
        admin.get("/servers?upstream=no").await.error(),
        (404, "unknown_upstream")
    );
    for path in [
        "/servers?upstraem=app",
        "/servers?upstream",
        "/servers?upstream=app&x=y",
    ] {
        assert_eq!(admin.get(path).await.error(), (400, "invalid"), "{path}");
    }
}

#[tokio::test]
async fn an_added_server_is_there_when_the_call_returns() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let admin = Admin::start(ONE, &path);
    let added = admin
        .post(
            "/servers",
            json!({"address": "127.0.0.1:3002", "weight": 3}),
        )
        .await;
    assert_eq!(added.status, StatusCode::CREATED);
    assert_eq!(added.headers["location"], "/servers/app@127.0.0.1:3002");
    assert_eq!(
        (&added.body["origin"], &added.body["weight"]),
        (&json!("admin"), &json!(3))
    );
    let members = admin.state.snapshot().upstreams[0].shared.members();
    assert!(
        members
            .endpoints
            .iter()
            .any(|it| it.id() == "app@127.0.0.1:3002")
    );
    let kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        kept["upstreams"]["app"]["added"][0]["address"],
        "127.0.0.1:3002"
    );
}

#[tokio::test]
async fn the_location_of_an_added_server_leads_to_it() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    for address in ["[::1]:3002", "app.internal:80"] {
        let added = admin.post("/servers", json!({"address": address})).await;
        let location = added.headers["location"].to_str().unwrap();
        assert!(!location.contains('['), "{location}");
        assert_eq!(admin.get(location).await.body["address"], address);
    }
}

#[tokio::test]
async fn are_refused_with_the_reason() {
    let dir = TempDir::new();
    let admin = Admin::start(TWO, &dir.path().join("state"));
    for (body, status, error, message) in [
        (
            json!({"address": "127.0.0.1:3000", "upstream": "app"}),
            409,
            "duplicate",
            "app@127.0.0.1:3000",
        ),
        (
            json!({"address": "127.0.0.1:1", "upstream": "no"}),
            404,
            "unknown_upstream",
            "\"no\"",
        ),
        (
            json!({"address": "127.0.0.1:1"}),
            400,
            "invalid",
            "upstream: missing; expected one of app, other",
        ),
        (
            json!({"upstream": "app"}),
            400,
            "invalid",
            "missing field `address`",
        ),
        (
            json!({"address": "127.0.0.1", "upstream": "app"}),
            400,
            "invalid",
            "address: \"127.0.0.1\" has no port",
        ),
        (
            json!({"address": 1}),
            400,
            "invalid",
            "address: invalid type: integer `1`, expected an address",
        ),
        (
            json!({"address": "a:1", "weight": 257}),
            400,
            "invalid",
            "weight: invalid value: integer `257`, expected an integer from 0 to 256",
        ),
        (
            json!({"address": "a:1", "weight": -1}),
            400,
            "invalid",
            "expected an integer from 0 to 256",
        ),
        (
            json!({"address": "a:1", "wieght": 1}),
            400,
            "invalid",
            "unknown field `wieght`",
        ),
        (
            json!(["a:1"]),
            400,
            "invalid",
            "expected an object with \"address\"",
        ),
    ] {
        let answer = admin.post("/servers", body.clone()).await;
        assert_eq!(answer.error(), (status, error), "{body}");
        assert!(
            answer.message().contains(message),
            "{body}: {}",
            answer.message()
        );
    }
    assert_eq!(admin.servers().await.len(), 3);
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_refused_with_the_reason() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let refused = async |method, path, body: &'static str| {
        let answer = admin.send(request(method, path, Body::from(body))).await;
        assert_eq!(answer.error(), (400, "invalid"), "{body}");
        answer.message().to_owned()
    };
    for (body, message) in [
        (
            "{\"address\":",
            "the body is not JSON: address: EOF while parsing a value",
        ),
        ("address=a:1", "the body is not JSON: expected value"),
        (
            "{\"address\": \"a:1\"}\n}",
            "the body is not JSON: trailing characters",
        ),
        ("{}", "missing field `address`"),
        (
            "{\"address\": \"a:1\",\n\"weight\": 257}",
            "weight: invalid value: integer `257`, expected an integer from 0 to 256",
        ),
    ] {
        assert_eq!(refused(Method::POST, "/servers", body).await, message);
    }
    let empty = |example| format!("the body is empty; expected a JSON object such as {example}");
    let address = empty(r#"{"address": "127.0.0.1:3002"}"#);
    for body in ["", " \r\n"] {
        assert_eq!(refused(Method::POST, "/servers", body).await, address);
    }
    assert_eq!(refused(Method::POST, "/remove-server", "").await, address);
    assert_eq!(
        refused(Method::PATCH, "/servers/127.0.0.1:3000", "").await,
        empty(r#"{"weight": 2}"#)
    );
    assert_eq!(admin.servers().await.len(), 2);
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

#[tokio::test]
async fn are_found_by_id_or_by_an_address_that_only_one_has() {
    let dir = TempDir::new();
    let admin = Admin::start(TWO, &dir.path().join("state"));
    for (path, id) in [
        ("/servers/app@127.0.0.1:3000", "app@127.0.0.1:3000"),
        ("/servers/other%40127.0.0.1%3A3000", "other@127.0.0.1:3000"),
        ("/servers/%5B::1%5D:3001", "app@[::1]:3001"),
        ("/servers/[0:0::1]:3001", "app@[::1]:3001"),
    ] {
        assert_eq!(admin.get(path).await.body["id"], id, "{path}");
    }
    let ambiguous = admin.get("/servers/127.0.0.1:3000").await;
    assert_eq!(ambiguous.error(), (409, "ambiguous"));
    assert!(
        ambiguous
            .message()
            .contains("app@127.0.0.1:3000, other@127.0.0.1:3000")
    );
    for path in [
        "/servers/no@127.0.0.1:3000",
        "/servers/127.0.0.1:9",
        "/servers/x",
        "/servers/@",
        "/servers/%ff",
    ] {
        assert_eq!(
            admin.get(path).await.error(),
            (404, "unknown_server"),
            "{path}"
        );
        assert_eq!(
            admin.delete(path).await.error(),
            (404, "unknown_server"),
            "{path}"
        );
        assert_eq!(
            admin.patch(path, json!({"weight": 1})).await.error(),
            (404, "unknown_server"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn change_weight_and_drain() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let path = "/servers/127.0.0.1:3000";
    let changed = admin.patch(path, json!({"weight": 7})).await;
    assert_eq!(
        (changed.status, &changed.body["weight"]),
        (StatusCode::OK, &json!(7))
    );
    let drained = admin.patch(path, json!({"drain": true})).await.body;
    assert_eq!(
        (
            &drained["weight"],
            &drained["draining"],
            &drained["eligible"]
        ),
        (&json!(7), &json!(true), &json!(false))
    );
    assert_eq!(
        admin.state.snapshot().upstreams[0]
            .shared
            .members()
            .endpoints
            .len(),
        1
    );
    assert_eq!(
        admin.patch(path, json!({"drain": false})).await.body["eligible"],
        true
    );
    for body in [
        json!({}),
        json!({"weight": null}),
        json!({"draining": true}),
        json!({"drain": 1}),
        json!({"weight": 1.5}),
    ] {
        assert_eq!(
            admin.patch(path, body.clone()).await.error(),
            (400, "invalid"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_removed_server_gets_nothing_new() {
    let dir = TempDir::new();
    let admin = Admin::start(TWO, &dir.path().join("state"));
    let removed = admin.delete("/servers/app@127.0.0.1:3000").await;
    assert_eq!(removed.status, StatusCode::OK);
    assert_eq!(
        (&removed.body["id"], &removed.body["in_flight"]),
        (&json!("app@127.0.0.1:3000"), &json!(0))
    );
    assert_eq!(removed.body["draining"], true);
    assert_eq!(
        admin.delete("/servers/app@127.0.0.1:3000").await.error(),
        (404, "unknown_server")
    );
    let members = admin.state.snapshot().upstreams[0].shared.members();
    assert!(
        members
            .endpoints
            .iter()
            .all(|it| it.id() == "app@[::1]:3001")
    );
}

#[tokio::test]
async fn remove_server_is_the_same_as_delete() {
    let dir = TempDir::new();
    let admin = Admin::start(TWO, &dir.path().join("state"));
    let remove = async |body| admin.post("/remove-server", body).await;
    assert_eq!(
        remove(json!({"address": "127.0.0.1:3000"})).await.error(),
        (409, "ambiguous")
    );
    let by_upstream = remove(json!({"address": "127.0.0.1:3000", "upstream": "other"})).await;
    assert_eq!(
        (by_upstream.status, &by_upstream.body["id"]),
        (StatusCode::OK, &json!("other@127.0.0.1:3000"))
    );
    assert_eq!(
        remove(json!({"id": "app@[::1]:3001"})).await.status,
        StatusCode::OK
    );
    assert_eq!(
        remove(json!({"address": "127.0.0.1:3000"})).await.status,
        StatusCode::OK
    );
    assert_eq!(
        remove(json!({"address": "127.0.0.1:3000"})).await.error(),
        (404, "unknown_server")
    );
    for body in [
        json!({}),
        json!({"upstream": "app"}),
        json!({"id": "a@b:1", "address": "b:1"}),
        json!({"address": "b"}),
    ] {
        assert_eq!(
            remove(body.clone()).await.error(),
            (400, "invalid"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn are_after_a_restart_as_they_were_changed() {
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
