//! The paths of the admin API, and what holds for all of them: who is let in, how large a request may be and how long it
//! may take, and that every answer is JSON, errors included.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::ToSchema;

use super::auth::{self, Access};
use super::error::ApiError;
use super::{AdminState, access, cluster, metrics, openapi, reload, servers};
use crate::metrics::text;

/// Bytes that a request's body may have.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// How long a request may take, its body included.
const DEADLINE: Duration = Duration::from_secs(10);

/// All paths. The OpenAPI document is compared with this list.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<AdminState>>)> {
    vec![
        ("/", get(index)),
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/servers", get(servers::list).post(servers::add)),
        (
            "/servers/{id}",
            get(servers::show)
                .patch(servers::change)
                .delete(servers::remove),
        ),
        ("/remove-server", post(servers::remove_named)),
        ("/access", get(access::show)),
        ("/cluster", get(cluster::show)),
        ("/config", get(config)),
        ("/config/reload", post(reload::reload)),
        ("/config/status", get(reload::status)),
        ("/metrics", get(prometheus)),
        ("/openapi.json", get(document)),
    ]
}

/// The whole API.
pub(super) fn router(state: Arc<AdminState>, access: Access) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods)
    });
    layered(router, access).with_state(state)
}

pub(super) fn layered<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    access: Access,
) -> Router<S> {
    router
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async |method: Method| ApiError::Method(method))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(
            Arc::new(access),
            auth::guard,
        ))
        .layer(middleware::from_fn(within_deadline))
        .layer(CatchPanicLayer::custom(panicked))
}

async fn within_deadline(request: Request, next: Next) -> Result<Response, ApiError> {
    tokio::time::timeout(DEADLINE, next.run(request))
        .await
        .map_err(|_| ApiError::Timeout)
}

/// The panic's own message has been logged by the panic hook.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::Internal.into_response()
}

/// What this API has.
#[utoipa::path(get, path = "/", responses((status = 200, description = "Version and list of requests", body = Object)))]
pub(super) async fn index() -> Json<Value> {
    Json(json!({
        "name": "loadbalancer",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": openapi::summaries(),
    }))
}

/// Whether the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Answers as long as the process does. Needs no token.
#[utoipa::path(
    get,
    path = "/healthz",
    security(()),
    responses((status = 200, description = "The process answers", body = Health)),
)]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether new connections are welcome, and what there is to serve them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready`, or `draining` once the load balancer is ending.
    #[schema(example = "ready")]
    status: &'static str,
    /// By name.
    upstreams: BTreeMap<String, Eligible>,
}

/// How many of an upstream's servers get new requests.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Eligible {
    /// Healthy, not draining, weight above 0.
    eligible: usize,
    /// All.
    total: usize,
}

/// Whether new connections are welcome. Needs no token.
#[utoipa::path(
    get,
    path = "/readyz",
    security(()),
    responses(
        (status = 200, description = "New connections are welcome, even if no server is eligible", body = Readiness),
        (status = 503, description = "The load balancer is ending", body = Readiness),
    ),
)]
pub(super) async fn readyz(State(state): State<Arc<AdminState>>) -> (StatusCode, Json<Readiness>) {
    let (code, status) = if state.draining.load(Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ready")
    };
    let mut upstreams = BTreeMap::new();
    for entry in &state.snapshot().upstreams {
        let endpoints = entry.shared.endpoints();
        let eligible = endpoints
            .iter()
            .filter(|endpoint| endpoint.eligible())
            .count();
        upstreams.insert(
            entry.shared.name().to_owned(),
            Eligible {
                eligible,
                total: endpoints.len(),
            },
        );
    }
    (code, Json(Readiness { status, upstreams }))
}

/// The effective configuration: file, environment and defaults. Secrets are hidden.
#[utoipa::path(
    get,
    path = "/config",
    responses((status = 200, description = "The configuration, with the keys of its file", body = Object)),
)]
pub(super) async fn config(State(state): State<Arc<AdminState>>) -> Json<Value> {
    Json(Value::clone(&state.config.load()))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((
        status = 200,
        description = "All metrics",
        body = String,
        content_type = "text/plain; version=0.0.4; charset=utf-8",
    )),
)]
pub(super) async fn prometheus(
    State(state): State<Arc<AdminState>>,
) -> Result<impl IntoResponse, ApiError> {
    // Thousands of servers take long enough that health checks, which share the thread, would be late.
    let text = spawn_blocking(move || metrics::render(&state)).await;
    let text = text.map_err(|_| ApiError::Internal)?;
    Ok(([(CONTENT_TYPE, text::CONTENT_TYPE)], text))
}

/// This API as an OpenAPI document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Object)),
)]
pub(super) async fn document() -> Json<Value> {
    Json(openapi::document())
}
