//! Servers: what is listed, what changes, and what is refused.

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
