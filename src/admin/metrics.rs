//! `GET /metrics`: adds the workers' shards up and writes them as Prometheus text.
//!
//! The families are tables: a name, what it says, and where the figure is. docs/admin.md lists them for users.

mod limits;
mod listeners;
mod udp;
mod upstreams;

use super::reload::ConfigStatus;
use super::{AdminState, access, bandwidth, cluster, process};
use crate::metrics::text::Text;
use crate::metrics::{CLASSES, Outcomes, Sharded};
use crate::proxy::snapshot::ListenerEntry;

/// A family with one figure for each `T`.
pub(super) type Family<T> = (&'static str, &'static str, fn(&T) -> u64);

/// All metrics, in the Prometheus text format.
pub fn render(state: &AdminState) -> String {
    let mut text = Text::default();
    text.gauge("lb_build_info", "The version that runs.");
    text.sample(
        "lb_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    process::write(&mut text);
    config(&mut text, &state.reloads.status());
    let snapshot = state.snapshot();
    // A listener that is gone is told of as long as it has connections.
    let is_there = |it: &&ListenerEntry| !it.closed || it.stats.sum(|s| s.open.get()) > 0;
    let there: Vec<&ListenerEntry> = snapshot.listeners.iter().filter(is_there).collect();
    listeners::requests(&mut text, &there);
    listeners::write(&mut text, &there);
    access::write(&mut text, &there, &snapshot.access);
    upstreams::write(&mut text, &snapshot);
    upstreams::servers(&mut text, &snapshot);
    limits::write(&mut text, &snapshot);
    bandwidth::write(&mut text, &snapshot);
    cluster::write(&mut text, state, &snapshot);
    if let Some(log) = &state.access_log {
        text.counter(
            "lb_access_log_dropped_total",
            "Lines dropped because the log could not be written fast enough.",
        );
        text.sample("lb_access_log_dropped_total", &[], log.dropped());
    }
    text.finish()
}

fn config(text: &mut Text, status: &ConfigStatus) {
    text.gauge(
        "lb_config_generation",
        "Counts the configurations that were in force, from 1 at the start.",
    );
    text.sample("lb_config_generation", &[], status.generation);
    text.gauge(
        "lb_config_last_reload_successful",
        "0 if the last new configuration had errors or was given up again, else 1.",
    );
    let successful = u64::from(status.last_succeeded());
    text.sample("lb_config_last_reload_successful", &[], successful);
    text.gauge(
        "lb_config_last_reload_success_timestamp_seconds",
        "When the configuration came into force, in Unix time.",
    );
    let since = u64::try_from(status.since.as_second()).unwrap_or_default();
    text.sample(
        "lb_config_last_reload_success_timestamp_seconds",
        &[],
        since,
    );
    text.counter(
        "lb_config_reloads_total",
        "New configurations, by what came of them.",
    );
    for (result, count) in [
        ("success", status.successes),
        ("failure", status.failures),
        ("rolled_back", status.rollbacks),
    ] {
        text.sample("lb_config_reloads_total", &[("result", result)], count);
    }
}

/// Writes some families of the same kind for the same things, each of which has labels of its own.
fn families<T, const N: usize>(
    text: &mut Text,
    open: fn(&mut Text, &str, &str),
    families: &[Family<T>],
    things: &[([(&str, &str); N], &T)],
) {
    for (name, help, figure) in families {
        open(text, name, help);
        for (labels, thing) in things {
            text.sample(name, labels, figure(thing));
        }
    }
}

fn by_class<T>(
    text: &mut Text,
    name: &str,
    [first, second]: &[(&str, &str); 2],
    shards: &Sharded<T>,
    outcomes: impl Fn(&T) -> &Outcomes,
) {
    for (index, class) in CLASSES.iter().enumerate() {
        let count = shards.sum(|shard| outcomes(shard).by_class[index].get());
        text.sample(name, &[*first, *second, ("class", class)], count);
    }
}
