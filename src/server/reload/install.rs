//! Putting a configuration into force, by steps of which the later ones cannot fail.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;

use super::refusal::Refusal;
use super::tasks::{Tasks, make_ready};
use crate::access::Lists;
use crate::admin::{self, AdminState, Overlay};
use crate::config::{self, Config};
use crate::proxy::build::Built;
use crate::proxy::snapshot::Snapshot;
use crate::server::bind::Sockets;
use crate::server::certificates::{self, Certificates};
use crate::server::fleet::{self, Handle};
use crate::server::inherit::Inherited;
use crate::server::lists;
use crate::server::worker::Orders;
use crate::server::{StartError, build_snapshot, check_redis};

/// The configuration in force, and whatever was made for it outside the workers.
#[derive(Debug)]
pub struct Installation {
    config: Config,
    certificates: Certificates,
    snapshot: Arc<ArcSwap<Snapshot>>,
    sockets: Sockets,
    orders: Orders,
    admin: Option<Arc<AdminState>>,
    fleet: Option<Handle>,
    tasks: Tasks,
    /// What the last installation made of the changes by the admin API: those before, and those of them that still apply.
    applied: Option<(Overlay, Overlay)>,
}

impl Installation {
    /// What the process was started with.
    pub fn new(
        config: Config,
        certificates: Certificates,
        snapshot: Arc<ArcSwap<Snapshot>>,
        sockets: Sockets,
        orders: Orders,
        admin: Option<Arc<AdminState>>,
        fleet: Option<Handle>,
    ) -> Self {
        Self {
            config,
            certificates,
            snapshot,
            sockets,
            orders,
            admin,
            fleet,
            tasks: Tasks::default(),
            applied: None,
        }
    }

    /// Begins the tasks that belong to it. To be called in the control thread's runtime.
    pub fn start_tasks(&mut self) {
        self.tasks.supervise(&self.snapshot.load());
        let lists = &self.snapshot.load().access;
        self.tasks.watch(&self.certificates, lists);
    }

    /// What is in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the workers use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a configuration into force in place of the one that is. All workers use it when this returns.
    ///
    /// # Errors
    /// It cannot be; nothing has changed.
    pub async fn install(&mut self, config: Config) -> Result<(), Refusal> {
        self.replace(config, None).await
    }

    /// The same for the configuration that was in force before this one: changes by the admin API that did not apply to this
    /// one apply again, unless others were made since.
    ///
    /// # Errors
    /// It cannot be; nothing has changed.
    pub async fn put_back(&mut self, config: Config) -> Result<(), Refusal> {
        let applied = self.applied.clone();
        self.replace(config, applied).await
    }

    async fn replace(
        &mut self,
        config: Config,
        applied: Option<(Overlay, Overlay)>,
    ) -> Result<(), Refusal> {
        let certificates = self.load_certificates(&config).await?;
        let lists = self.load_lists(&config).await?;
        // Nobody changes servers meanwhile: what the admin API has changed is part of what is built.
        let admin = self.admin.clone();
        let mut transaction = match &admin {
            Some(admin) => Some(admin.state.begin().await),
            None => None,
        };
        let kept = transaction.as_ref().map(|it| it.overlay().clone());
        let kept = kept.unwrap_or_default();
        let before = match applied {
            Some((before, after)) if after == kept => before,
            _ => kept,
        };
        let mut overlay = before.clone();
        if let Some(transaction) = &transaction {
            transaction.recall(&mut overlay);
        }
        let Built {
            snapshot,
            places,
            kept,
        } = build_snapshot(
            &config,
            &certificates.material,
            &lists,
            Some(&self.snapshot.load()),
            &mut overlay,
        )?;
        check_redis(&snapshot)?;
        let plan = self
            .sockets
            .plan(&config, &places, &mut Inherited::default())?;

        // From here on nothing can fail.
        let snapshot = Arc::new(snapshot);
        let new = self.tasks.supervise(&snapshot);
        make_ready(&new, &kept).await;
        let assignments = self.sockets.commit(plan, config.workers.get());
        snapshot.enforce();
        for it in &kept {
            it.upstream.bandwidth.set(it.settings.bandwidth);
        }
        self.orders.give(&snapshot, assignments).await;
        snapshot.lift_former(&self.snapshot.load());
        for it in kept {
            it.upstream.reconfigure(it.settings, it.servers);
        }
        self.tasks.retire(&snapshot);
        self.tasks.watch(&certificates, &lists);
        self.snapshot.store(snapshot);
        if let Some(transaction) = &mut transaction {
            transaction.reconfigured(overlay.clone()).await;
            transaction.share_as(fleet::shares_as(&config));
        }
        self.applied = Some((before, overlay));
        if let Some((handle, cluster)) = self.fleet.as_ref().zip(config.cluster.as_ref()) {
            handle.reconfigure(cluster);
        }
        if let Some(admin) = &admin {
            admin.configured.store(Arc::new(admin::configured(&config)));
            admin.config.store(Arc::new(config::effective(&config)));
        }
        self.config = config;
        self.certificates = certificates;
        Ok(())
    }

    async fn load_lists(&self, config: &Config) -> Result<Lists, Refusal> {
        let (former, config) = (self.snapshot.load().access.clone(), config.clone());
        match spawn_blocking(move || lists::load(&config, &former)).await {
            Ok(loaded) => Ok(loaded?),
            Err(error) => Err(StartError::Thread(io::Error::other(error)).into()),
        }
    }

    async fn load_certificates(&self, config: &Config) -> Result<Certificates, Refusal> {
        let (former, config) = (self.certificates.clone(), config.clone());
        let loaded = spawn_blocking(move || certificates::load_after(&former, &config)).await;
        match loaded {
            Ok(loaded) => Ok(loaded?),
            Err(error) => Err(StartError::Thread(io::Error::other(error)).into()),
        }
    }
}
