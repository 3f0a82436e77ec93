//! The servers of all upstreams as a resource: list, add, change, remove.
//!
//! A change is first recorded in the state file and then made, under a lock that all changes share: the file equals what
//! the workers use, and what could not be recorded was never made.

mod messages;

use std::future::Future;
use std::sync::Arc;

use self::messages::{FromBody, NewServer, ServerChange, ServerList, ServerName, ServerView};
use super::AdminState;
use super::error::{ApiError, ErrorBody};
use super::weight::Weight;
use crate::config::types::ServerAddress;
use crate::proxy::snapshot::Snapshot;
use crate::upstream::endpoint::Spec;
use crate::upstream::{Endpoint, Origin, Upstream};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;

/// A JSON body. It need not say that it is one: `curl -d` does not.
pub(super) struct Body<T>(T);

impl<T: FromBody, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await?;
        T::from_body(&bytes).map(Self)
    }
}

/// The `{id}` of a path; one that is not UTF-8 once decoded is no server's.
type Id = Result<Path<String>, PathRejection>;

fn id_of(id: Id) -> Result<String, ApiError> {
    match id {
        Ok(Path(id)) => Ok(id),
        Err(_) => Err(ApiError::UnknownServer("\u{fffd}".to_owned())),
    }
}

/// All servers, or those of one upstream.
#[utoipa::path(
    get,
    path = "/servers",
    params(("upstream" = Option<String>, Query, description = "Only the servers of this upstream")),
    responses(
        (status = 200, description = "The servers, those of one upstream after the other", body = ServerList),
        (status = 400, description = "The query is not valid", body = ErrorBody),
        (status = 404, description = "No such upstream", body = ErrorBody),
    ),
)]
pub(super) async fn list(
    State(state): State<Arc<AdminState>>,
    RawQuery(query): RawQuery,
) -> Result<Json<ServerList>, ApiError> {
    let wanted = upstream_of_query(query.as_deref())?;
    let snapshot = state.snapshot();
    if let Some(name) = wanted {
        upstream_named(&snapshot, name)?;
    }
    let mut servers = Vec::new();
    for upstream in upstreams(&snapshot) {
        if wanted.is_none_or(|name| name == upstream.name()) {
            let endpoints = upstream.endpoints();
            servers.extend(
                endpoints
                    .iter()
                    .map(|endpoint| ServerView::of(upstream, endpoint)),
            );
        }
    }
    Ok(Json(ServerList { servers }))
}

/// Adds a server. It gets requests after its first good health check.
#[utoipa::path(
    post,
    path = "/servers",
    request_body = NewServer,
    responses(
        (
            status = 201,
            description = "The server as it was added",
            body = ServerView,
            headers(("Location", description = "The server's path")),
        ),
        (status = 400, description = "Not JSON, or a field is not valid", body = ErrorBody),
        (status = 404, description = "No such upstream", body = ErrorBody),
        (status = 409, description = "The upstream has this server already", body = ErrorBody),
    ),
)]
pub(super) async fn add(
    State(state): State<Arc<AdminState>>,
    Body(new): Body<NewServer>,
) -> Result<impl IntoResponse, ApiError> {
    let view = to_the_end(async move {
        let mut transaction = state.state.begin().await;
        let snapshot = state.snapshot();
        let upstream = upstream_for(&snapshot, new.upstream.as_deref())?;
        let duplicate = |endpoint: &Endpoint| ApiError::Duplicate(endpoint.id().to_owned());
        if let Some(endpoint) = upstream.find(&new.address) {
            return Err(duplicate(&endpoint));
        }
        transaction
            .change(upstream.name(), &new.address, |overlay| {
                overlay.add(upstream.name(), new.address.clone(), new.weight);
            })
            .await?;
        let spec = Spec {
            address: new.address,
            weight: new.weight.get(),
            origin: Origin::Admin,
            draining: false,
        };
        let endpoint = upstream.add(spec).map_err(|_| ApiError::Internal)?;
        tracing::info!(
            server = endpoint.id(),
            weight = endpoint.weight(),
            "server added"
        );
        Ok(ServerView::of(upstream, &endpoint))
    })
    .await?;
    // Brackets are not for paths (RFC 3986, 3.3).
    let location = format!(
        "/servers/{}",
        view.id.replace('[', "%5B").replace(']', "%5D")
    );
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(view)))
}

/// One server.
#[utoipa::path(
    get,
    path = "/servers/{id}",
    params(("id" = String, Path, description = "Its id, or its address if no other upstream has it")),
    responses(
        (status = 200, description = "The server", body = ServerView),
        (status = 404, description = "No such server", body = ErrorBody),
        (status = 409, description = "Several upstreams have this address", body = ErrorBody),
    ),
)]
pub(super) async fn show(
    State(state): State<Arc<AdminState>>,
    id: Id,
) -> Result<Json<ServerView>, ApiError> {
    let snapshot = state.snapshot();
    let (upstream, endpoint) = locate(&snapshot, &id_of(id)?)?;
    Ok(Json(ServerView::of(upstream, &endpoint)))
}

/// Changes a server's weight, or has it drain.
#[utoipa::path(
    patch,
    path = "/servers/{id}",
    params(("id" = String, Path, description = "Its id, or its address if no other upstream has it")),
    request_body = ServerChange,
    responses(
        (status = 200, description = "The server as it was changed", body = ServerView),
        (status = 400, description = "Not JSON, or a field is not valid", body = ErrorBody),
        (status = 404, description = "No such server", body = ErrorBody),
        (status = 409, description = "Several upstreams have this address", body = ErrorBody),
    ),
)]
pub(super) async fn change(
    State(state): State<Arc<AdminState>>,
    id: Id,
    Body(ServerChange { weight, drain }): Body<ServerChange>,
) -> Result<Json<ServerView>, ApiError> {
    let id = id_of(id)?;
    if weight.is_none() && drain.is_none() {
        return Err(ApiError::Invalid(
            "expected \"weight\" or \"drain\" or both".to_owned(),
        ));
    }
    to_the_end(async move {
        let mut transaction = state.state.begin().await;
        let snapshot = state.snapshot();
        let (upstream, endpoint) = locate(&snapshot, &id)?;
        let address = endpoint.address();
        transaction
            .change(upstream.name(), address, |overlay| {
                overlay.change(upstream.name(), address, weight, drain);
            })
            .await?;
        let endpoint = upstream
            .change(address, weight.map(Weight::get), drain)
            .map_err(|_| ApiError::Internal)?;
        let (weight, draining) = (endpoint.weight(), endpoint.draining());
        tracing::info!(server = endpoint.id(), weight, draining, "server changed");
        Ok(Json(ServerView::of(upstream, &endpoint)))
    })
    .await
}

/// Removes a server. It gets no new requests; those in flight go on to their end.
#[utoipa::path(
    delete,
    path = "/servers/{id}",
    params(("id" = String, Path, description = "Its id, or its address if no other upstream has it")),
    responses(
        (status = 200, description = "The server, with its requests in flight", body = ServerView),
        (status = 404, description = "No such server", body = ErrorBody),
        (status = 409, description = "Several upstreams have this address", body = ErrorBody),
    ),
)]
pub(super) async fn remove(
    State(state): State<Arc<AdminState>>,
    id: Id,
) -> Result<Json<ServerView>, ApiError> {
    remove_by_id(state, id_of(id)?).await
}

/// Removes a server that the body names; the same as `DELETE /servers/{id}`.
#[utoipa::path(
    post,
    path = "/remove-server",
    request_body = ServerName,
    responses(
        (status = 200, description = "The server, with its requests in flight", body = ServerView),
        (status = 400, description = "Not JSON, or a field is not valid", body = ErrorBody),
        (status = 404, description = "No such server", body = ErrorBody),
        (status = 409, description = "Several upstreams have this address", body = ErrorBody),
    ),
)]
pub(super) async fn remove_named(
    State(state): State<Arc<AdminState>>,
    Body(name): Body<ServerName>,
) -> Result<Json<ServerView>, ApiError> {
    remove_by_id(state, name.into_id()?).await
}

async fn remove_by_id(state: Arc<AdminState>, id: String) -> Result<Json<ServerView>, ApiError> {
    to_the_end(async move {
        let mut transaction = state.state.begin().await;
        let snapshot = state.snapshot();
        let (upstream, endpoint) = locate(&snapshot, &id)?;
        let address = endpoint.address();
        transaction
            .change(upstream.name(), address, |overlay| {
                overlay.remove(upstream.name(), address);
            })
            .await?;
        let endpoint = upstream.remove(address).map_err(|_| ApiError::Internal)?;
        tracing::info!(
            server = endpoint.id(),
            in_flight = endpoint.in_flight(),
            "server removed"
        );
        Ok(Json(ServerView::of(upstream, &endpoint)))
    })
    .await
}

/// Runs a change to its end, even when the client that asked for it goes away: what is recorded is also made.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(change)
        .await
        .unwrap_or(Err(ApiError::Internal))
}

fn upstreams(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Upstream>> {
    snapshot.upstreams.iter().map(|entry| &entry.shared)
}

fn upstream_named<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Upstream>, ApiError> {
    let unknown = || ApiError::UnknownUpstream(name.to_owned());
    upstreams(snapshot)
        .find(|upstream| upstream.name() == name)
        .ok_or_else(unknown)
}

/// The upstream of this name; without a name the only one.
fn upstream_for<'a>(
    snapshot: &'a Snapshot,
    name: Option<&str>,
) -> Result<&'a Arc<Upstream>, ApiError> {
    match (name, snapshot.upstreams.as_slice()) {
        (Some(name), _) => upstream_named(snapshot, name),
        (None, [only]) => Ok(&only.shared),
        (None, _) => {
            let names: Vec<&str> = upstreams(snapshot)
                .map(|upstream| upstream.name())
                .collect();
            Err(ApiError::Invalid(format!(
                "upstream: missing; expected one of {}",
                names.join(", ")
            )))
        }
    }
}

/// The server with this id, or the only one with this address.
fn locate<'a>(
    snapshot: &'a Snapshot,
    id: &str,
) -> Result<(&'a Arc<Upstream>, Arc<Endpoint>), ApiError> {
    let unknown = || ApiError::UnknownServer(id.to_owned());
    let (upstream, address) = match id.rsplit_once('@') {
        Some((upstream, address)) => (Some(upstream), address),
        None => (None, id),
    };
    let address: ServerAddress = address.parse().map_err(|_| unknown())?;
    let candidates = upstreams(snapshot).filter(|it| upstream.is_none_or(|name| name == it.name()));
    let mut found: Vec<_> = candidates
        .filter_map(|it| Some((it, it.find(&address)?)))
        .collect();
    if found.len() > 1 {
        let ids = found
            .iter()
            .map(|(_, endpoint)| endpoint.id().to_owned())
            .collect();
        return Err(ApiError::Ambiguous { address, ids });
    }
    found.pop().ok_or_else(unknown)
}

/// The value of `upstream=`. Upstreams have names that need no percent-encoding, so nothing is decoded.
fn upstream_of_query(query: Option<&str>) -> Result<Option<&str>, ApiError> {
    match query {
        None | Some("") => Ok(None),
        Some(query) => match query.split_once('=') {
            Some(("upstream", name)) if !name.contains('&') => Ok(Some(name)),
            _ => Err(ApiError::Invalid(
                "the query may only be \"upstream=NAME\"".to_owned(),
            )),
        },
    }
}
