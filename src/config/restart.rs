//! Which settings a reload leaves as they are.

use super::model::{Admin, Cluster, Config};
use super::types::Secret;

/// The keys that differ between the two and take effect only in a process that starts: by a restart or an upgrade.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let is_switched = old.admin.is_some() != new.admin.is_some();
    let in_admin = |differ: fn(&Admin, &Admin) -> bool| {
        let both = old.admin.as_ref().zip(new.admin.as_ref());
        both.is_some_and(|(old, new)| differ(old, new))
    };
    let in_cluster = |differ: fn(&Cluster, &Cluster) -> bool| {
        let both = old.cluster.as_ref().zip(new.cluster.as_ref());
        both.is_some_and(|(old, new)| differ(old, new))
    };
    let keys = [
        ("workers", old.workers != new.workers),
        (
            "admin.listen",
            is_switched || in_admin(|old, new| old.listen != new.listen),
        ),
        (
            "admin.token",
            in_admin(|old, new| text(&old.token) != text(&new.token)),
        ),
        (
            "admin.state_file",
            in_admin(|old, new| old.state_file != new.state_file),
        ),
        ("access_log", old.access_log != new.access_log),
        ("upgrade_socket", old.upgrade_socket != new.upgrade_socket),
        ("cluster", old.cluster.is_some() != new.cluster.is_some()),
        (
            "cluster.listen",
            in_cluster(|old, new| old.listen != new.listen),
        ),
        ("cluster.name", in_cluster(|old, new| old.name != new.name)),
        (
            "cluster.key",
            in_cluster(|old, new| old.key.expose() != new.key.expose()),
        ),
    ];
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key).collect()
}

/// Has `config` go on with what a process that has `started` does not change.
pub fn keep_what_needs_a_restart(started: &Config, config: &mut Config) {
    config.workers = started.workers;
    config.admin = started.admin.clone();
    config.access_log = started.access_log.clone();
    config.upgrade_socket = started.upgrade_socket.clone();
    config.cluster = match (&started.cluster, config.cluster.take()) {
        (Some(started), Some(new)) => Some(Cluster {
            listen: started.listen,
            name: started.name.clone(),
            key: started.key.clone(),
            ..new
        }),
        (started, _) => started.clone(),
    };
}

fn text(secret: &Option<Secret>) -> Option<&str> {
    secret.as_ref().map(Secret::expose)
}
