//! New configurations while traffic flows.
//!
//! ```text
//!   SIGHUP ──────────────┐
//!   POST /config/reload ─┼─▶ load ─▶ check ─▶ build ─▶ bind ─┬─▶ refused: nothing has changed
//!   the file has changed ┘                                   ▼
//!          new upstreams and servers are resolved and probed │
//!          all workers swap their view, and say so           │ nothing can fail any more
//!          servers and sockets that are gone are let go      ▼
//!                                           reload_guard ─▶ the former one is put back the same way
//! ```
//!
//! What is made new is there before anybody needs it, and what is gone is removed when nobody does: at no moment does a
//! request meet a route without its servers. It all runs on the control thread, one reload at a time.

mod file;
mod guard;
mod install;
mod refusal;
pub mod source;
mod tasks;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use self::file::Watched;
use self::guard::{Guard, History, Verdict};
use self::refusal::Refusal;
use self::source::{Edition, Fingerprint, Source};
use self::traffic::Traffic;
use crate::admin::{Applied, Outcome, Problem, Reloads, Request, Trigger, Try};
use crate::config::{self, Config, Errors};
use crate::tls::files::Stamp;
pub use install::Installation;

/// Time between two looks at the file and at the traffic.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Who puts new configurations into force.
#[derive(Debug)]
pub struct Reloader {
    source: Source,
    /// What the process was started with: some of it stays.
    started: Config,
    installation: Installation,
    reloads: Arc<Reloads>,
    file: Watched,
    /// The content of the file that is in force.
    in_force: Option<Fingerprint>,
    /// The content that was given up again.
    rejected: Option<Fingerprint>,
    traffic: Traffic,
    history: History,
    trial: Option<Trial>,
}

/// A new configuration on trial.
#[derive(Debug)]
struct Trial {
    guard: Guard,
    former: Config,
    former_content: Option<Fingerprint>,
}

impl Reloader {
    /// Goes on from the configuration that the process was started with.
    pub fn new(
        source: Source,
        edition: Edition,
        installation: Installation,
        reloads: Arc<Reloads>,
    ) -> Self {
        Self {
            source,
            started: installation.config().clone(),
            installation,
            reloads,
            file: Watched::new(edition.stamp),
            in_force: edition.fingerprint,
            rejected: None,
            traffic: Traffic::default(),
            history: History::default(),
            trial: None,
        }
    }

    /// Reloads when somebody or something asks for it, for ever.
    pub async fn run(mut self, mut hangup: Signal, mut requests: mpsc::Receiver<Request>) {
        self.installation.start_tasks();
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    _ = self.reload(Trigger::Signal).await;
                }
                Some(report) = requests.recv() => {
                    let outcome = self.reload(Trigger::Api).await;
                    _ = report.send(outcome); // or nobody waits any more
                }
                _ = looks.tick() => {
                    self.look_at_traffic().await;
                    self.look_at_file().await;
                }
            }
        }
    }

    async fn look_at_file(&mut self) {
        if !self.installation.config().watch_config {
            return;
        }
        let path = self.source.path().to_owned();
        let stamp = spawn_blocking(move || Stamp::of(&path)).await;
        if !self.file.look(stamp.unwrap_or_default()) {
            return;
        }
        let Some((content, config)) = self.load().await else {
            return;
        };
        if content == self.rejected {
            tracing::warn!(
                "the file is the one that reload_guard has given up: SIGHUP or POST /config/reload take it all the same"
            );
        } else if content != self.in_force || !self.reloads.status().last_succeeded() {
            // Also when the one that is in force is back in its place: what was wrong is right again.
            _ = self.take_over(Trigger::File, content, config).await;
        }
    }

    async fn reload(&mut self, by: Trigger) -> Result<Applied, Vec<Problem>> {
        match self.load().await {
            Some((content, config)) => self.take_over(by, content, config).await,
            None => Err(vec![Problem::from("it could not be read".to_owned())]),
        }
    }

    /// Reads the file. `None` only if that panics, which is logged then.
    async fn load(&mut self) -> Option<(Option<Fingerprint>, Result<Config, Errors>)> {
        let source = self.source.clone();
        let (edition, config) = spawn_blocking(move || source.load()).await.ok()?;
        self.file.was_read(edition.stamp);
        Some((edition.fingerprint, config))
    }

    /// Puts what was loaded into force, or says why not.
    async fn take_over(
        &mut self,
        by: Trigger,
        content: Option<Fingerprint>,
        config: Result<Config, Errors>,
    ) -> Result<Applied, Vec<Problem>> {
        tracing::info!(by = name(by), "reloading the configuration");
        self.reloads.set_running(true);
        let former = self.installation.config().clone();
        let former_content = self.in_force;
        let installed = match config {
            Ok(config) => self.install(config, by).await,
            Err(errors) => Err(errors.into()),
        };
        self.reloads.set_running(false);
        let (changes, restart_needed) = match installed {
            Ok(installed) => installed,
            Err(refusal) => return Err(self.refused(by, &refusal)),
        };
        self.in_force = content;
        self.rejected = None;
        if !changes.is_empty() {
            self.put_on_trial(former, former_content);
        }
        self.applied(by, &changes, &restart_needed);
        Ok(Applied {
            generation: self.reloads.status().generation,
            changes,
            restart_needed,
        })
    }

    /// Watches over what is in force from now on. What is given up meanwhile was the last that has proved itself.
    fn put_on_trial(&mut self, former: Config, former_content: Option<Fingerprint>) {
        let pending = self.trial.take();
        let Some(settings) = self.installation.config().reload_guard else {
            return;
        };
        self.trial = Some(match pending {
            Some(pending) => Trial {
                guard: pending.guard.again(settings),
                ..pending
            },
            None => Trial {
                guard: Guard::new(settings, &self.history),
                former,
                former_content,
            },
        });
    }

    /// Puts a configuration into force, but for what only a new process can change. Gives what has changed, and what has
    /// not.
    async fn install(
        &mut self,
        mut config: Config,
        by: Trigger,
    ) -> Result<(Vec<String>, Vec<String>), Refusal> {
        let restart_needed = config::restart_needed(&self.started, &config);
        let restart_needed = restart_needed.into_iter().map(str::to_owned).collect();
        config::keep_what_needs_a_restart(&self.started, &mut config);
        let changes = config::diff::changes(self.installation.config(), &config);
        let changes = changes.iter().map(ToString::to_string).collect();
        match by {
            Trigger::Guard => self.installation.put_back(config).await?,
            _ => {
                let installed = self.installation.install(config).await;
                installed.map_err(|refusal| self.placed(refusal))?;
            }
        }
        Ok((changes, restart_needed))
    }

    /// With lines of the file, which the configuration has just come from.
    fn placed(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::Files(faults) => self.source.place(faults).into(),
            other => other,
        }
    }

    fn refused(&self, by: Trigger, refusal: &Refusal) -> Vec<Problem> {
        for line in refusal.lines() {
            tracing::error!("the new configuration is not taken over: {line}");
        }
        let errors = refusal.problems();
        self.reloads.update(|status| {
            status.failures += 1;
            status.last = Some(Try::now(by, Outcome::Failure, &[], errors.clone()));
        });
        errors
    }

    fn applied(&self, by: Trigger, changes: &[String], restart_needed: &[String]) {
        let last = Try::now(by, Outcome::Success, changes, Vec::new());
        self.reloads.update(|status| {
            status.successes += 1;
            status.in_force(by, last.time);
            status.restart_needed = restart_needed.to_vec();
            status.last = Some(last);
        });
        for change in changes {
            tracing::info!("{change}");
        }
        if !restart_needed.is_empty() {
            let keys = restart_needed.join(", ");
            tracing::warn!("a restart is needed for the new values of {keys}");
        }
        let generation = self.reloads.status().generation;
        let changes = changes.len();
        tracing::info!(
            by = name(by),
            generation,
            changes,
            "the configuration is in force"
        );
    }

    /// Counts a second, and gives a configuration up under which requests fare worse.
    async fn look_at_traffic(&mut self) {
        if self.installation.config().reload_guard.is_none() {
            (self.traffic, self.history) = Default::default();
            return;
        }
        let second = self.traffic.look(self.installation.snapshot().outcomes());
        self.history.push(second);
        let Some(trial) = &mut self.trial else {
            return;
        };
        match trial.guard.second(second) {
            Verdict::Open => {}
            Verdict::Passed(can_tell) => {
                self.trial = None;
                if !can_tell {
                    tracing::info!(
                        "too few requests to compare the new configuration with the former one"
                    );
                }
            }
            Verdict::Worse(why) => self.roll_back(why).await,
        }
    }

    async fn roll_back(&mut self, why: String) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        tracing::error!("the new configuration is given up for the former one: {why}");
        self.reloads.set_running(true);
        let installed = self.install(trial.former, Trigger::Guard).await;
        self.reloads.set_running(false);
        let (changes, restart_needed) = match installed {
            Ok(installed) => installed,
            Err(refusal) => {
                self.refused(Trigger::Guard, &refusal);
                return;
            }
        };
        self.rejected = self.in_force;
        self.in_force = trial.former_content;
        self.applied(Trigger::Guard, &changes, &restart_needed);
        self.reloads.update(|status| {
            status.successes -= 1; // it is counted as what it is
            status.rollbacks += 1;
            let why = vec![Problem::from(why)];
            status.last = Some(Try::now(Trigger::Guard, Outcome::RolledBack, &changes, why));
        });
    }
}

fn name(by: Trigger) -> &'static str {
    match by {
        Trigger::Start => "the start",
        Trigger::File => "the file",
        Trigger::Signal => "SIGHUP",
        Trigger::Api => "the admin API",
        Trigger::Guard => "reload_guard",
    }
}
