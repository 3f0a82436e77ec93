//! The OpenAPI document against the router, and the answers that show the load balancer itself.

use std::collections::BTreeSet;

use super::*;
use crate::admin::api::routes;
use crate::admin::openapi;

/// Methods and paths, as `GET /path`.
type Operations = BTreeSet<String>;

/// What the router has, in its own words: an unknown method is answered with those that are allowed.
async fn operations_of_router(admin: &Admin) -> Operations {
    let mut operations = Operations::new();
    for (path, _) in routes() {
        let unknown = Method::from_bytes(b"UNKNOWN").unwrap();
        let answer = admin
            .send(request(
                unknown,
                &path.replace("{id}", "127.0.0.1:3000"),
                Body::empty(),
            ))
            .await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allowed = answer.headers["allow"].to_str().unwrap().split(',');
        // HEAD comes with GET.
        operations.extend(
            allowed
                .filter(|it| *it != "HEAD")
                .map(|method| format!("{method} {path}")),
        );
    }
    operations
}

#[tokio::test]
async fn the_document_has_what_the_router_has() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let served = admin.get("/openapi.json").await.body;
    assert_eq!(served, openapi::document());
    let documented: Operations = openapi::summaries().into_keys().collect();
    assert_eq!(documented, operations_of_router(&admin).await);
}

#[tokio::test]
async fn the_document_says_what_is_answered() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let document = openapi::document();
    for (operation, body) in [
        ("GET /", None),
        ("GET /healthz", None),
        ("GET /readyz", None),
        ("GET /config", None),
        ("GET /openapi.json", None),
        ("GET /servers", None),
        ("GET /servers/127.0.0.1:3000", None),
        ("GET /servers/unknown", None),
        ("GET /servers?upstream=no", None),
        ("GET /servers?no=app", None),
        ("POST /servers", Some(json!({"address": "127.0.0.1:3002"}))),
        ("POST /servers", Some(json!({"address": "127.0.0.1:3002"}))),
        ("POST /servers", Some(json!({}))),
        ("PATCH /servers/127.0.0.1:3000", Some(json!({"weight": 2}))),
        ("DELETE /servers/127.0.0.1:3000", None),
        (
            "POST /remove-server",
            Some(json!({"address": "127.0.0.1:3001"})),
        ),
    ] {
        let (method, path) = operation.split_once(' ').unwrap();
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let answer = admin
            .send(request(method.parse().unwrap(), path, body))
            .await;
        let path = path.split('?').next().unwrap();
        let path = if path.starts_with("/servers/") {
            "/servers/{id}"
        } else {
            path
        };
        let operation = &document["paths"][path][method.to_lowercase()];
        let response = &operation["responses"][answer.status.as_str()];
        let schema = &response["content"]["application/json"]["schema"];
        assert!(
            schema.is_object(),
            "{method} {path}: {} is not documented",
            answer.status
        );
        if let Some(name) = schema["$ref"].as_str() {
            let schema = document.pointer(name.trim_start_matches('#')).unwrap();
            let documented: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
            let given: Vec<_> = answer.body.as_object().unwrap().keys().collect();
            assert_eq!(documented, given, "{method} {path}");
        }
    }
}

#[test]
fn every_response_is_described() {
    let document = openapi::document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut count = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let description = response["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{method} {path}: {status}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_token_is_optional_and_health_needs_none() {
    let document = openapi::document();
    assert_eq!(document["security"], json!([{}, {"token": []}]));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(document["paths"][path]["get"]["security"], json!([{}]));
    }
}

#[tokio::test]
async fn references_lead_somewhere_and_operations_say_what_they_do() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, value)| match value.as_str() {
                    Some(target) if name == "$ref" => found.push(target.to_owned()),
                    _ => references(value, found),
                }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for target in found {
        assert!(
            document.pointer(target.trim_start_matches('#')).is_some(),
            "{target}"
        );
    }
    for (operation, summary) in openapi::summaries() {
        assert!(!summary.is_empty(), "{operation}");
    }
    assert_eq!(
        document["components"]["securitySchemes"]["token"]["scheme"],
        "bearer"
    );
}

#[tokio::test]
async fn the_index_lists_all_and_config_is_shown() {
    let dir = TempDir::new();
    let admin = Admin::start(ONE, &dir.path().join("state"));
    let index = admin.get("/").await.body;
    assert_eq!(
        index["endpoints"].as_object().unwrap().len(),
        openapi::summaries().len()
    );
    assert!(
        index["endpoints"]["POST /servers"]
            .as_str()
            .unwrap()
            .starts_with("Adds a server.")
    );
    assert_eq!(admin.get("/config").await.body, json!({"workers": 2}));
}
