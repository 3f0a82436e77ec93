//! The allow and deny lists of listeners and routes: made of the configuration, and kept up to date with their files.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::faults;
use crate::access::{Lists, Refreshed};
use crate::config::model::Config;
use crate::config::{Faults, KeyPath};
use crate::proxy::build::sources;

/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the files of all lists. What there is in `former` is taken over.
///
/// # Errors
/// All that are in the files.
pub fn load(config: &Config, former: &Lists) -> Result<Lists, Faults> {
    let of_listeners = config.listeners.iter().map(|it| sources(&it.access));
    let of_routes = config.routes.iter().map(|it| sources(&it.access));
    let of_listeners = places("listeners").zip(of_listeners);
    let wanted: Vec<_> = of_listeners
        .chain(places("routes").zip(of_routes))
        .collect();
    Lists::load(wanted.iter().map(|(_, it)| it), former).map_err(|errors| {
        let faults = errors.iter().map(|it| faults::of_networks(it, &wanted));
        Faults(faults.flatten().collect())
    })
}

/// Where the tables of a list are.
fn places(list: &str) -> impl Iterator<Item = KeyPath> {
    let list = KeyPath::default().key(list);
    (0..).map(move |position| list.index(position))
}

/// Looks at the files every second, and says what has changed or why it has not.
pub async fn watch(lists: Lists) {
    if lists.files().is_empty() {
        return;
    }
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let lists = lists.clone();
        // A file system may be slow, or a network's.
        match spawn_blocking(move || lists.refresh()).await {
            Ok(refreshed) => refreshed.iter().for_each(report),
            Err(error) => tracing::error!(%error, "a look at the files of lists has failed"),
        }
    }
}

fn report(refreshed: &Refreshed) {
    match refreshed {
        Refreshed::Reloaded(file) => {
            let (path, entries) = (file.path().display(), file.entries());
            tracing::info!(%path, entries, "a list of networks has changed and is in force");
        }
        Refreshed::Failed(error) => {
            for line in error.lines() {
                tracing::error!("{line}; what was in force stays in force");
            }
        }
    }
}
