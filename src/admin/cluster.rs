//! The fleet as a resource: who is there, since when nothing was heard of whom, and where nodes disagree.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AdminState;
use crate::gossip::{MemberStatus, Refusal, Standing, Status};
use crate::metrics::text::Text;
use crate::proxy::snapshot::Snapshot;

/// The fleet as this load balancer sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClusterView {
    /// Whether there is a `[cluster]`.
    enabled: bool,
    /// This load balancer's name.
    #[schema(example = "lb1-7946")]
    name: String,
    /// Its version.
    version: &'static str,
    /// Counts up with each start.
    generation: u64,
    /// How many take part, this one included.
    nodes: usize,
    /// The others, the dead ones included.
    members: Vec<MemberView>,
    /// Seeds that nobody answers at.
    missing_seeds: Vec<String>,
    /// Whether another one has the same name.
    name_taken: bool,
    /// Datagrams that were not taken, by the reason.
    refused: BTreeMap<&'static str, u64>,
    /// Limits that are shared.
    limits: Vec<LimitView>,
}

/// Another load balancer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberView {
    /// Its name.
    #[schema(example = "lb2-7946")]
    name: String,
    /// Where it is reached.
    #[schema(example = "10.0.0.2:7946")]
    address: String,
    /// `alive`, `dead` (it is silent), or `left` (it has said goodbye).
    #[schema(example = "alive")]
    state: &'static str,
    /// Its version.
    version: String,
    /// Counts up with each start.
    generation: u64,
    /// Milliseconds since something was heard of it.
    last_heard_ms: u64,
    /// Milliseconds to it and back, smoothed; null until that is known.
    round_trip_ms: Option<f64>,
    /// Shared limits that give something else there.
    differing_limits: Vec<String>,
}

/// A limit that is shared.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitView {
    /// `global` or `route:NAME`.
    #[schema(example = "global")]
    name: String,
    /// Keys that are near enough to their limit to be told of.
    hot_keys: usize,
}

/// The other load balancers of the cluster.
#[utoipa::path(
    get,
    path = "/cluster",
    responses((status = 200, description = "The fleet as this load balancer sees it", body = ClusterView)),
)]
pub(super) async fn show(State(state): State<Arc<AdminState>>) -> Json<ClusterView> {
    let snapshot = state.snapshot();
    let status = state.cluster.as_ref().map(|it| Arc::clone(&it.load()));
    let limits = snapshot.limits.iter().filter_map(|it| {
        let store = it.shared.cluster()?;
        Some(LimitView {
            name: it.shared.name().to_owned(),
            hot_keys: store.hot(),
        })
    });
    let limits = limits.collect();
    let enabled = status.is_some();
    let status = status.unwrap_or_default();
    let members = status.members.iter();
    let refused = Refusal::ALL.iter().zip(status.refused);
    Json(ClusterView {
        enabled,
        version: env!("CARGO_PKG_VERSION"),
        generation: status.generation,
        nodes: status.live(),
        members: members.map(|it| member(it, &snapshot)).collect(),
        missing_seeds: status
            .missing_seeds
            .iter()
            .map(ToString::to_string)
            .collect(),
        name_taken: status.name_taken,
        refused: refused.map(|(why, count)| (why.name(), count)).collect(),
        limits,
        name: status.name.clone(),
    })
}

fn member(member: &MemberStatus, snapshot: &Snapshot) -> MemberView {
    let silent = Instant::now()
        .into_std()
        .saturating_duration_since(member.heard);
    MemberView {
        name: member.name.clone(),
        address: member.address.to_string(),
        state: member.standing.name(),
        version: member.version.clone(),
        generation: member.generation,
        last_heard_ms: silent.as_millis() as u64,
        round_trip_ms: member.round_trip.map(|it| it.as_micros() as f64 / 1000.0),
        differing_limits: differing(member, snapshot),
    }
}

/// The limits that give something else there.
fn differing(member: &MemberStatus, snapshot: &Snapshot) -> Vec<String> {
    let limits = snapshot.limits.iter().map(|it| &it.shared);
    let differs = limits.filter(|limit| {
        let store = limit.cluster();
        store.is_some_and(|store| store.differing().contains(&member.peer))
    });
    differs.map(|limit| limit.name().to_owned()).collect()
}

/// Writes the families of the fleet, if there is one.
pub(super) fn write(text: &mut Text, state: &AdminState, snapshot: &Snapshot) {
    let Some(shared) = &state.cluster else {
        return;
    };
    let status = Arc::clone(&shared.load());
    text.gauge(
        "lb_cluster_nodes",
        "Load balancers of the cluster, by whether they take part.",
    );
    for standing in [Standing::Alive, Standing::Dead, Standing::Left] {
        let members = status.members.iter();
        let others = members.filter(|it| it.standing == standing).count();
        let count = others + usize::from(standing == Standing::Alive);
        text.sample("lb_cluster_nodes", &[("state", standing.name())], count);
    }
    let alive: Vec<_> = status
        .members
        .iter()
        .filter(|it| it.standing == Standing::Alive)
        .collect();
    let version = |it: &&&MemberStatus| it.version != env!("CARGO_PKG_VERSION");
    let limits = |it: &&&MemberStatus| !differing(it, snapshot).is_empty();
    text.gauge(
        "lb_cluster_differing_nodes",
        "Load balancers that take part and have another version, or other limits.",
    );
    for (what, count) in [
        ("version", alive.iter().filter(version).count()),
        ("limits", alive.iter().filter(limits).count()),
    ] {
        text.sample("lb_cluster_differing_nodes", &[("what", what)], count);
    }
    text.gauge(
        "lb_cluster_round_trip_seconds",
        "Time to a load balancer and back, smoothed.",
    );
    for it in &alive {
        if let Some(round_trip) = it.round_trip {
            let labels = [("node", it.name.as_str())];
            text.sample(
                "lb_cluster_round_trip_seconds",
                &labels,
                round_trip.as_secs_f64(),
            );
        }
    }
    for (name, help, count) in [
        (
            "lb_cluster_datagrams_received_total",
            "Datagrams of others that were taken.",
            status.received,
        ),
        (
            "lb_cluster_datagrams_sent_total",
            "Datagrams that were sent.",
            status.sent,
        ),
        (
            "lb_cluster_datagrams_unsent_total",
            "Datagrams that the system did not take.",
            status.unsent,
        ),
    ] {
        text.counter(name, help);
        text.sample(name, &[], count);
    }
    refused(text, &status);
    text.gauge("lb_cluster_missing_seeds", "Seeds at which nobody answers.");
    text.sample("lb_cluster_missing_seeds", &[], status.missing_seeds.len());
    text.gauge(
        "lb_cluster_name_taken",
        "1 while another load balancer has the same name, else 0.",
    );
    text.sample("lb_cluster_name_taken", &[], u64::from(status.name_taken));
    text.gauge(
        "lb_limit_hot_keys",
        "Keys that are near enough to their limit to be told of.",
    );
    for limit in &snapshot.limits {
        if let Some(store) = limit.shared.cluster() {
            text.sample(
                "lb_limit_hot_keys",
                &[("limit", limit.shared.name())],
                store.hot(),
            );
        }
    }
}

fn refused(text: &mut Text, status: &Status) {
    let name = "lb_cluster_datagrams_refused_total";
    text.counter(name, "Datagrams that were not taken, by why.");
    for (why, count) in Refusal::ALL.iter().zip(status.refused) {
        text.sample(name, &[("reason", why.name())], count);
    }
}
