//! Who may come in: what a listener asks of a client's address before anything of its connection is read or kept.
//!
//! It is asked when a connection is accepted, or, behind a proxy that says whose it is, once the PROXY header is read.
//! Whoever may not come in is counted here, and told of in the log now and then; what becomes of the connection is the
//! caller's: a reset, so that nothing of it remains on this side.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use super::local::Local;
use super::seldom::Seldom;
use super::snapshot::{LimitEntry, ListenerEntry, ListenerStats};
use super::view::View;
use crate::limit::{Decision, LimitKey};
use crate::listener::Counted;
use crate::net::clock;

/// A client may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Whether a client may come in; it counts for its address, if that matters, as long as what it gets is kept.
pub type Admission = Result<Option<Counted>, Refused>;

/// What comes of asking.
#[derive(Debug)]
pub enum Asked {
    /// The answer.
    Answered(Admission),
    /// The store of the limit has to be asked, which takes a while.
    Undecided(Question),
}

/// Something that the store of a limit has to be asked.
#[derive(Debug)]
pub struct Question {
    view: Rc<View>,
    listener: usize,
    limit: usize,
    address: IpAddr,
    counted: Option<Counted>,
}

/// Asks whether a client of this address may come in at a listener, by its index in the snapshot.
pub fn ask(local: &Local, listener: usize, address: IpAddr) -> Asked {
    let view = local.view();
    let entry = &view.snapshot.listeners[listener];
    let stats = entry.stats.shard(local.worker);
    if entry.access.as_ref().is_some_and(|it| !it.allows(address)) {
        stats.denied.increment();
        tell(entry, address, &local.told_of_denied, "access");
        return Asked::Answered(Err(Refused));
    }
    let mut counted = None;
    if let Some(table) = &entry.per_address {
        counted = table.admit(address);
        if counted.is_none() {
            stats.over_address_limit.increment();
            return Asked::Answered(Err(Refused));
        }
    }
    let Some(limit) = entry.connection_rate else {
        return Asked::Answered(Ok(counted));
    };
    let key = LimitKey::address(address);
    let now = clock::now().into_std();
    match view.limiters[limit].check_local(&key, now) {
        Some(decision) => {
            Asked::Answered(decided(local, &view, listener, address, decision, counted))
        }
        None => Asked::Undecided(Question {
            view,
            listener,
            limit,
            address,
            counted,
        }),
    }
}

impl Asked {
    /// The answer, when it is there.
    pub async fn answer(self, local: &Local) -> Admission {
        match self {
            Self::Answered(admission) => admission,
            Self::Undecided(question) => question.answer(local).await,
        }
    }
}

impl Question {
    /// The answer, after as long as the store may take at most.
    pub async fn answer(self, local: &Local) -> Admission {
        let Self {
            view,
            listener,
            limit,
            address,
            counted,
        } = self;
        let key = LimitKey::address(address);
        let decision = view.limiters[limit].check(&key, Instant::now()).await;
        decided(local, &view, listener, address, decision, counted)
    }
}

/// Takes note of what a limit has decided.
fn decided(
    local: &Local,
    view: &View,
    listener: usize,
    address: IpAddr,
    decision: Decision,
    counted: Option<Counted>,
) -> Admission {
    let entry = &view.snapshot.listeners[listener];
    let limit = entry.connection_rate.map(|it| &view.snapshot.limits[it]);
    if let Some(limit) = limit {
        LimitEntry::count(limit, local.worker, &decision);
    }
    if decision.verdict.is_allowed() {
        return Ok(counted);
    }
    let stats: &ListenerStats = entry.stats.shard(local.worker);
    stats.over_rate.increment();
    tell(entry, address, &local.told_of_over_rate, "connection_rate");
    Err(Refused)
}

/// Tells of a refusal for this reason.
fn tell(entry: &ListenerEntry, client: IpAddr, told: &Seldom, reason: &'static str) {
    if told.is_due() {
        let listener = &entry.name;
        tracing::info!(%listener, %client, reason, "a connection was refused; others are told of once a second at most");
    }
}
