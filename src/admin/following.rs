//! Making the changes to servers that other load balancers of the fleet have made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::interval;

use super::overlay::Difference;
use super::register::{Entry, Server};
use super::sharing::News;
use super::{AdminState, StateError};
use crate::upstream::Settings;

/// Time between two looks at changes that may be forgotten.
const LOOK_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Makes them while others are told, and has the fleet forget those that no longer apply. What cannot be recorded is not
/// made; it comes again.
pub async fn follow(state: Arc<AdminState>, mut news: mpsc::Receiver<News>) {
    let mut failure = None;
    let mut looks = interval(LOOK_PAUSE);
    loop {
        let done = tokio::select! {
            received = news.recv() => {
                let Some(News(mut entries)) = received else {
                    return;
                };
                while let Ok(News(more)) = news.try_recv() {
                    entries.extend(more);
                }
                make(&state, entries).await
            }
            _ = looks.tick() => forget(&state).await,
        };
        let failed = done.err().map(|it| it.to_string());
        if let Some(error) = failed.as_ref().filter(|_| failed != failure) {
            tracing::warn!("changes of servers by the cluster are not made: {error}");
        }
        failure = failed;
    }
}

async fn forget(state: &AdminState) -> Result<(), StateError> {
    for Server { upstream, address } in state.state.begin().await.forget_dropped().await? {
        let server = format!("{upstream}@{address}");
        tracing::info!(
            server,
            "the cluster forgets a change that no configuration needs any more"
        );
    }
    Ok(())
}

async fn make(state: &AdminState, entries: Vec<Entry>) -> Result<(), StateError> {
    let mut transaction = state.state.begin().await;
    let merged = transaction.merge(entries).await?;
    if merged.is_empty() {
        return Ok(());
    }
    let snapshot = state.snapshot();
    let configured = state.configured.load();
    let mut overlay = transaction.overlay().clone();
    let changed: BTreeSet<&str> = merged
        .iter()
        .map(|it| it.server.upstream.as_str())
        .collect();
    for entry in &snapshot.upstreams {
        let upstream = &entry.shared;
        if !changed.contains(upstream.name()) {
            continue;
        }
        let servers = configured.get(upstream.name()).cloned();
        let servers = overlay.apply(upstream.name(), servers.unwrap_or_default());
        let settings = Settings::clone(&upstream.settings());
        // Who is new there gets its first request after its first good probe, as at the node that it was added at.
        upstream.add_ahead(&settings, &servers);
        upstream.reconfigure(settings, servers);
    }
    merged.iter().for_each(tell);
    transaction.keep(overlay).await;
    Ok(())
}

fn tell(entry: &Entry) {
    let server = format!("{}@{}", entry.server.upstream, entry.server.address);
    let by = &entry.stamp.node;
    match &entry.difference {
        None => tracing::info!(server, by, "server as configured again, or gone"),
        Some(Difference::Removed) => tracing::info!(server, by, "server removed"),
        Some(Difference::Added { weight, draining }) => {
            tracing::info!(server, by, weight = weight.get(), draining, "server added");
        }
        Some(Difference::Changed { weight, draining }) => {
            let weight = weight.map(|it| it.get());
            tracing::info!(server, by, weight, draining, "server changed");
        }
    }
}
