//! `GET /access`: the allow and deny lists as they are in force, and the files that they are made of; and their metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AdminState;
use super::metrics::Family;
use crate::access::{AccessList, ListFile, Lists};
use crate::metrics::text::Text;
use crate::proxy::snapshot::{ListenerEntry, Snapshot};

/// Who may come in where.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccessReport {
    /// Listeners and routes that do not serve everybody.
    lists: Vec<ListReport>,
    /// The files that lists are made of.
    files: Vec<FileReport>,
}

/// The lists of a listener, or of a route of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListReport {
    #[schema(example = "web")]
    listener: String,
    /// Null for the listener itself.
    route: Option<String>,
    /// Networks and addresses that are allowed.
    allow: usize,
    /// Networks and addresses that are denied.
    deny: usize,
    /// Connections closed, or requests answered 403.
    refused: u64,
}

/// A file of networks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileReport {
    #[schema(example = "lists/deny.txt")]
    path: String,
    /// Networks and addresses that are in force.
    entries: usize,
    /// When these were read.
    #[schema(example = "2026-01-01T12:00:00Z")]
    loaded: String,
    /// Why what the file holds now is not in force; null if it is.
    error: Option<String>,
}

/// The allow and deny lists of listeners and routes, and the files that they are made of.
#[utoipa::path(
    get,
    path = "/access",
    responses((status = 200, description = "Lists that are not empty, and their files", body = AccessReport)),
)]
pub(super) async fn show(State(state): State<Arc<AdminState>>) -> Json<AccessReport> {
    let snapshot = state.snapshot();
    Json(AccessReport {
        lists: lists(&snapshot),
        files: snapshot.access.files().iter().map(|it| file(it)).collect(),
    })
}

fn lists(snapshot: &Snapshot) -> Vec<ListReport> {
    let mut reports = Vec::new();
    for listener in snapshot.listeners.iter().filter(|it| !it.closed) {
        let mut push = |route: Option<&str>, list: &AccessList, refused| {
            let (allow, deny) = list.entries();
            reports.push(ListReport {
                listener: listener.name.clone(),
                route: route.map(str::to_owned),
                allow,
                deny,
                refused,
            });
        };
        if let Some(list) = &listener.access {
            push(None, list, listener.stats.sum(|it| it.denied.get()));
        }
        for route in &listener.entries {
            if let Some(access) = &route.access {
                let refused = access.denied.sum(|it| it.get());
                push(Some(&route.name), &access.list, refused);
            }
        }
    }
    reports
}

fn file(file: &ListFile) -> FileReport {
    FileReport {
        path: file.path().display().to_string(),
        entries: file.entries(),
        loaded: file.since().to_string(),
        error: file.error().map(|error| error.to_string()),
    }
}

/// The metrics of lists. Connections have the route "".
pub(super) fn write(text: &mut Text, listeners: &[&ListenerEntry], lists: &Lists) {
    const DENIED: &str = "lb_access_denied_total";
    text.counter(
        DENIED,
        "Connections closed, and requests of a route refused, because of their client's address.",
    );
    for listener in listeners {
        let mut sample = |route: &str, count| {
            text.sample(
                DENIED,
                &[("listener", &listener.name), ("route", route)],
                count,
            );
        };
        sample("", listener.stats.sum(|it| it.denied.get()));
        for route in &listener.entries {
            if let Some(access) = &route.access {
                sample(&route.name, access.denied.sum(|it| it.get()));
            }
        }
    }
    let files = lists.files();
    if files.is_empty() {
        return;
    }
    let figures: [Family<ListFile>; 2] = [
        (
            "lb_access_file_entries",
            "Networks and addresses of the file that are in force.",
            |it| it.entries() as u64,
        ),
        (
            "lb_access_file_ok",
            "0 while the file holds something that cannot be used, else 1.",
            |it| it.error().is_none().into(),
        ),
    ];
    for (name, help, figure) in figures {
        text.gauge(name, help);
        for file in &files {
            let path = file.path().display().to_string();
            text.sample(name, &[("file", &path)], figure(file));
        }
    }
}
