//! The OpenAPI document, made of what the handlers say of themselves.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{access, api, cluster, reload, servers};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "loadbalancer admin API",
        description = "Any request may also be answered 401 or 403 (access), 405 (method), 413 (body over 64 KiB), \
                       500 (changes cannot be kept in the state file) or 503 (took over 10 s). Every error is an \
                       `ErrorBody`.",
    ),
    paths(
        api::index,
        api::healthz,
        api::readyz,
        servers::list,
        servers::add,
        servers::show,
        servers::change,
        servers::remove,
        servers::remove_named,
        access::show,
        cluster::show,
        api::config,
        reload::reload,
        reload::status,
        api::prometheus,
        api::document,
    ),
    // Without a token in the configuration none is needed.
    security((), ("token" = [])),
    modifiers(&Token),
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
    }
}

/// The document.
pub(super) fn document() -> Value {
    serde_json::to_value(Document::openapi()).expect("the document has only strings for keys")
}

/// Each operation, as `GET /path`, with what it does.
pub(super) fn summaries() -> BTreeMap<String, String> {
    let document = document();
    let mut summaries = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let summary = operation["summary"].as_str().unwrap_or_default();
            summaries.insert(
                format!("{} {path}", method.to_uppercase()),
                summary.to_owned(),
            );
        }
    }
    summaries
}
