//! Who is let in, and what is answered to those who are not or who ask for what is not there.

use super::*;
use crate::admin::api::MAX_BODY;

#[tokio::test]
async fn health_and_readiness_need_no_token() {
    let dir = TempDir::new();
    let mut admin = Admin::start(TWO, &dir.path().join("state"));
    admin.router = router(
        Arc::clone(&admin.state),
        Access::Token("hush".to_owned().into()),
    );
    let health = admin.get("/healthz").await;
    assert_eq!(
        (health.status, health.body),
        (StatusCode::OK, json!({"status": "ok"}))
    );

    let upstreams =
        json!({"app": {"eligible": 2, "total": 2}, "other": {"eligible": 1, "total": 1}});
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(
        ready.body,
        json!({"status": "ready", "upstreams": upstreams})
    );

    let app = &admin.state.snapshot().upstreams[0].shared;
    app.change(&address("127.0.0.1:3000"), None, Some(true))
        .unwrap();
    admin.state.draining.store(true, Relaxed);
    let draining = admin.get("/readyz").await;
    assert_eq!(draining.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(draining.body["status"], "draining");
    assert_eq!(
        draining.body["upstreams"]["app"],
        json!({"eligible": 1, "total": 2})
    );
}

#[tokio::test]
async fn everything_else_needs_the_token() {
    let dir = TempDir::new();
    let mut admin = Admin::start(ONE, &dir.path().join("state"));
    admin.router = router(
        Arc::clone(&admin.state),
        Access::Token("hush".to_owned().into()),
    );
    for path in [
        "/",
        "/servers",
        "/config",
        "/metrics",
        "/openapi.json",
        "/nothing",
    ] {
        let refused = admin.get(path).await;
        assert_eq!(refused.error(), (401, "unauthorized"), "{path}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    let add = |token: &str| {
        let mut request = request(
            Method::POST,
            "/servers",
            Body::from(r#"{"address":"127.0.0.1:3002"}"#),
        );
        request
            .headers_mut()
            .insert("authorization", token.parse().unwrap());
        request
    };
    assert_eq!(
        admin.send(add("Bearer hush!")).await.error(),
        (401, "unauthorized")
    );
    assert_eq!(
        admin.state.snapshot().upstreams[0].shared.endpoints().len(),
        2
    );
    assert_eq!(
        admin.send(add("Bearer hush")).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn without_a_token_web_pages_are_refused() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let with = |method, name: &'static str, value: &str| {
        let mut request = request(
            method,
            "/servers",
            Body::from(r#"{"address":"127.0.0.1:3002"}"#),
        );
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    assert_eq!(
        admin
            .send(with(Method::GET, "host", "evil.example"))
            .await
            .error(),
        (403, "forbidden")
    );
    assert_eq!(
        admin
            .send(with(Method::POST, "origin", "http://evil.example"))
            .await
            .error(),
        (403, "forbidden")
    );
    assert_eq!(admin.servers().await.len(), 2);
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_json() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    for path in ["/nothing", "/servers/", "/servers/a/b", "//"] {
        assert_eq!(admin.get(path).await.error(), (404, "not_found"), "{path}");
    }
    for (method, path, allow) in [
        (Method::PUT, "/servers", "GET,HEAD,POST"),
        (
            Method::POST,
            "/servers/127.0.0.1:3000",
            "GET,HEAD,PATCH,DELETE",
        ),
        (Method::GET, "/remove-server", "POST"),
        (Method::OPTIONS, "/config", "GET,HEAD"),
    ] {
        let answer = admin
            .send(request(method.clone(), path, Body::empty()))
            .await;
        assert_eq!(
            answer.error(),
            (405, "method_not_allowed"),
            "{method} {path}"
        );
        assert_eq!(answer.headers["allow"], allow);
    }
}

#[tokio::test]
async fn a_body_may_have_64_kib() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let padded = |length: usize| {
        let body = r#"{"address":"127.0.0.1:3002"}"#;
        request(
            Method::POST,
            "/servers",
            Body::from(format!("{body}{}", " ".repeat(length - body.len()))),
        )
    };
    assert_eq!(
        admin.send(padded(MAX_BODY + 1)).await.error(),
        (413, "too_large")
    );
    assert_eq!(
        admin.send(padded(MAX_BODY)).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_has_10_seconds() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let _running = admin.state.state.begin().await;
    let start = tokio::time::Instant::now();
    let answer = admin.delete("/servers/127.0.0.1:3000").await;
    assert_eq!(answer.error(), (503, "timeout"));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let panicking = Router::new().route(
        "/panic",
        axum::routing::get(async || -> StatusCode { panic!("in a test") }),
    );
    let router = crate::admin::api::layered(panicking, Access::Loopback);
    let dir = TempDir::new();
    let admin = Admin {
        router,
        ..Admin::start(ONE, &dir.path().join("state"))
    };
    assert_eq!(admin.get("/panic").await.error(), (500, "internal"));
}
