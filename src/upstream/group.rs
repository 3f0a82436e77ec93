//! The upstream itself: who belongs to it, and who of them is used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::endpoint::{Endpoint, Spec};
use super::members::Members;
use super::queue::Queue;
use super::settings::Settings;
use super::slow_start;
use super::stats::UpstreamStats;
use crate::balance::{Balancer, Kind, Member};
use crate::config::types::ServerAddress;
use crate::health;
use crate::limit::bandwidth::Limits;
use crate::metrics::Sharded;

/// A named group of servers and its policy.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    workers: usize,
    /// Only the control thread locks it.
    roster: Mutex<Roster>,
    members: ArcSwap<Members>,
    /// Counts the publications of `members`, so that a worker sees with one load whether its view is current.
    generation: AtomicU64,
    roster_changed: Notify,
    eligibility_changed: Notify,
    /// Requests that wait for one of its servers.
    queue: Arc<Queue>,
    /// Tells that a server has failed often enough in a row.
    failing: Arc<Notify>,
    /// Whether ejected servers are used for want of others.
    panics: AtomicBool,
    /// Bytes a second of each server.
    pub bandwidth: Limits,
    /// By worker.
    pub stats: Sharded<UpstreamStats>,
}

/// What the members are made of.
#[derive(Debug)]
pub(super) struct Roster {
    pub(super) settings: Arc<Settings>,
    /// All servers.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
}

/// Why the servers of an upstream could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RosterError {
    /// The address is already there.
    #[error("the upstream has a server with this address already")]
    Duplicate,
    /// No such server.
    #[error("the upstream has no such server")]
    Unknown,
}

impl Upstream {
    /// An upstream with these servers, their addresses distinct.
    pub fn new(name: String, settings: Settings, servers: Vec<Spec>, workers: usize) -> Arc<Self> {
        let settings = Arc::new(settings);
        let upstream = Self {
            members: ArcSwap::from_pointee(Members::new(
                Arc::clone(&settings),
                Vec::new(),
                Vec::new(),
                Balancer::build(settings.strategy, &[], None),
            )),
            name,
            workers,
            roster: Mutex::new(Roster {
                settings: Arc::clone(&settings),
                endpoints: Vec::new(),
            }),
            generation: AtomicU64::new(0),
            roster_changed: Notify::new(),
            eligibility_changed: Notify::new(),
            queue: Arc::default(),
            failing: Arc::default(),
            panics: AtomicBool::new(false),
            bandwidth: Limits::new(settings.bandwidth),
            stats: Sharded::new(workers),
        };
        let endpoints = servers
            .into_iter()
            .map(|spec| Arc::new(upstream.endpoint(spec, &settings)))
            .collect();
        upstream.roster().endpoints = endpoints;
        upstream.publish();
        Arc::new(upstream)
    }

    fn endpoint(&self, spec: Spec, settings: &Settings) -> Endpoint {
        let (queue, failing) = (Arc::clone(&self.queue), Arc::clone(&self.failing));
        let fall = settings.fall();
        let endpoint = Endpoint::new(&self.name, spec, fall, self.workers, queue, failing);
        let protection = &settings.protection;
        let most = protection.most_in_flight(settings.protocol);
        let initial = protection.adaptive.map(|it| it.initial);
        let limit = [most, initial].into_iter().flatten().min();
        endpoint.load().set_limit(limit);
        endpoint.sockets().set_limit(protection.max_connections);
        let told = protection.ejection.as_ref();
        let told = told.map(|it| it.consecutive_failures.get());
        endpoint.conduct().tell_of(told);
        endpoint
    }

    /// A server that comes after its upstream.
    pub(super) fn newcomer(&self, spec: Spec, settings: &Settings) -> Arc<Endpoint> {
        let endpoint = self.endpoint(spec, settings);
        endpoint.standing().comes_late();
        if endpoint.is_fit() {
            endpoint.standing().start_slowly(Instant::now());
        }
        Arc::new(endpoint)
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its policy as it is now. On a request's way it is the worker's own view of the upstream that has it.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.members.load().settings)
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        // Every change to the roster is a single step: a panic cannot leave it half changed.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All servers, eligible or not.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.roster().endpoints.clone()
    }

    /// The server at this address.
    pub fn find(&self, address: &ServerAddress) -> Option<Arc<Endpoint>> {
        let roster = self.roster();
        let found = roster.endpoints.iter().find(|it| it.address() == address);
        found.cloned()
    }

    /// Adds a server. Workers know it when this returns; it gets requests after its first good probe.
    ///
    /// # Errors
    /// The address is there already.
    pub fn add(&self, spec: Spec) -> Result<Arc<Endpoint>, RosterError> {
        let endpoint = {
            let mut roster = self.roster();
            let is_same = |it: &Arc<Endpoint>| *it.address() == spec.address;
            if roster.endpoints.iter().any(is_same) {
                return Err(RosterError::Duplicate);
            }
            let endpoint = self.newcomer(spec, &roster.settings);
            roster.endpoints.push(Arc::clone(&endpoint));
            endpoint
        };
        self.publish_roster();
        Ok(endpoint)
    }

    /// Removes a server. It gets no new request when this returns; those in flight go on to their end.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, address: &ServerAddress) -> Result<Arc<Endpoint>, RosterError> {
        let endpoint = {
            let mut roster = self.roster();
            let mut endpoints = roster.endpoints.iter();
            let position = endpoints.position(|endpoint| endpoint.address() == address);
            let position = position.ok_or(RosterError::Unknown)?;
            roster.endpoints.remove(position)
        };
        endpoint.leave();
        self.publish_roster();
        Ok(endpoint)
    }

    /// Changes a server's weight or makes it drain; `None` leaves as it is. In force when this returns.
    ///
    /// # Errors
    /// It is not there.
    pub fn change(
        &self,
        address: &ServerAddress,
        weight: Option<u32>,
        draining: Option<bool>,
    ) -> Result<Arc<Endpoint>, RosterError> {
        let endpoint = self.find(address).ok_or(RosterError::Unknown)?;
        if let Some(weight) = weight {
            endpoint.set_weight(weight);
        }
        if let Some(draining) = draining {
            endpoint.set_draining(draining);
        }
        self.publish();
        Ok(endpoint)
    }

    /// A probe changed a server's state. Publication follows soon, together with other changes of the moment.
    pub(super) fn set_health(&self, endpoint: &Endpoint, state: health::State) {
        let (was, was_fit) = (endpoint.health(), endpoint.is_fit());
        endpoint.set_health(state);
        if endpoint.is_fit() != was_fit {
            let standing = endpoint.standing();
            if !was_fit && (was == health::State::Down || standing.is_late()) {
                standing.start_slowly(Instant::now());
            }
            self.eligibility_changed.notify_one();
        }
    }

    /// Makes the workers, and whoever supervises the servers, see who is there now.
    pub(super) fn publish_roster(&self) {
        self.publish();
        self.roster_changed.notify_one();
    }

    /// Makes the workers see who is eligible now, and with which shares.
    pub(super) fn publish(&self) {
        let roster = self.roster();
        self.leave_ejected_out(&roster);
        let fit = roster.endpoints.iter().filter(|endpoint| endpoint.is_fit());
        let (endpoints, spare): (Vec<_>, Vec<_>) =
            fit.cloned().partition(|endpoint| endpoint.eligible());
        let weights = weights(&endpoints, &roster.settings);
        let members: Vec<_> = endpoints
            .iter()
            .zip(weights)
            .map(|(endpoint, weight)| Member {
                identity: endpoint.identity(),
                weight: weight.max(1),
            })
            .collect();
        let balancer = Balancer::build(
            roster.settings.strategy,
            &members,
            Some(&self.members.load().balancer),
        );
        let settings = Arc::clone(&roster.settings);
        let members = Members::new(settings, endpoints, spare, balancer);
        self.members.store(Arc::new(members));
        self.generation.fetch_add(1, Ordering::Release);
        drop(roster);
        self.call_waiting();
    }

    /// Says of each ejected server that it is left out, unless too few would be left.
    fn leave_ejected_out(
        &self,
        Roster {
            settings,
            endpoints,
        }: &Roster,
    ) {
        let is_ejected = |it: &Endpoint| it.standing().ejected().is_some();
        let wanted = endpoints.iter().filter(|it| it.is_wanted()).count();
        let usable = endpoints
            .iter()
            .filter(|it| it.is_fit() && !is_ejected(it))
            .count();
        let any = endpoints.iter().any(|it| it.is_fit() && is_ejected(it));
        let ejection = settings.protection.ejection.as_ref();
        let panics = any && ejection.is_none_or(|it| it.panics(wanted, usable));
        if self.panics.swap(panics, Ordering::Relaxed) != panics {
            let upstream = self.name();
            match panics {
                true => tracing::warn!(
                    upstream,
                    usable,
                    "too few servers are left: ejected ones are used too"
                ),
                false => tracing::info!(upstream, usable, "ejected servers are left out again"),
            }
        }
        for endpoint in endpoints {
            endpoint
                .standing()
                .leave_out(!panics && is_ejected(endpoint));
        }
    }

    /// Whether ejected servers are used for want of others.
    pub fn panics(&self) -> bool {
        self.panics.load(Ordering::Relaxed)
    }

    /// Requests that wait for one of its servers.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Has as many of those who wait come as there is room for. If nobody is eligible all come, to be told so.
    pub(super) fn call_waiting(&self) {
        if self.queue.is_used() {
            let members = self.members();
            self.queue.call_as_many_as(|most| members.room(most));
        }
    }

    /// Has new limits and the like set at once.
    pub(super) fn regulate_soon(&self) {
        self.failing.notify_one();
    }

    /// Resolves when a server has failed often enough in a row, or there are new limits.
    pub(super) async fn failing(&self) {
        self.failing.notified().await;
    }

    pub(super) async fn eligibility_changed(&self) {
        self.eligibility_changed.notified().await;
    }

    pub(super) async fn roster_changed(&self) {
        self.roster_changed.notified().await;
    }

    /// How often the members were published.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Who is eligible now.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }
}

/// The shares of servers, slow starts included. A consistent hash has none: keys would move with each step.
fn weights(endpoints: &[Arc<Endpoint>], settings: &Settings) -> Vec<u32> {
    let now = Instant::now();
    let length = match settings.strategy {
        Kind::ConsistentHash => Duration::ZERO,
        _ => settings.protection.slow_start,
    };
    let shares = endpoints.iter().map(|it| {
        let share = it.standing().start_share(now, length);
        (it.weight(), share)
    });
    slow_start::weights(&shares.collect::<Vec<_>>())
}
