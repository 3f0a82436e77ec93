//! The allow and deny lists of listeners and routes: made of the configuration, and kept up to date with their files.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::access::{FileError, Lists, Refreshed};
use crate::config::model::Config;
use crate::proxy::build::sources;

/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is wrong with the files of allow and deny lists, one a line.
#[derive(Debug, Error)]
pub struct ListErrors(Vec<FileError>);

impl ListErrors {
    /// Each on one line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(FileError::lines)
    }
}

impl fmt::Display for ListErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

/// Reads the files of all lists. What there is in `former` is taken over.
///
/// # Errors
/// All that are in the files.
pub fn load(config: &Config, former: &Lists) -> Result<Lists, ListErrors> {
    let of_listeners = config.listeners.iter().map(|it| sources(&it.access));
    let of_routes = config.routes.iter().map(|it| sources(&it.access));
    let wanted: Vec<_> = of_listeners.chain(of_routes).collect();
    Lists::load(wanted.iter(), former).map_err(ListErrors)
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
