//! How a request gets a server: the strategy picks one with room, or the request waits for one.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::local::{LocalEndpoint, LocalUpstream};
use super::queue::{Refusal, Waiter, Word};
use crate::balance::{Pick, Strategy};
use crate::net::clock;

/// A request on its way to a server: counts as load until it is dropped.
#[derive(Debug)]
pub struct InFlight(Rc<LocalEndpoint>);

impl InFlight {
    /// A request that has been counted.
    pub(super) fn begun(endpoint: Rc<LocalEndpoint>) -> Self {
        Self(endpoint)
    }

    /// The server.
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.shared.load().end();
    }
}

/// What a pick comes to.
#[derive(Debug)]
pub enum Picked {
    /// A server, with the request counted as its load.
    Flight(InFlight),
    /// All have as many requests as they may, or others wait already.
    Full,
    /// No server is eligible, or none but those that were tried.
    Nobody,
}

/// Lost races for the last slot of a server after which it counts as full.
const RACES: usize = 8;

impl LocalUpstream {
    /// Chooses a server that is not in `tried` and counts the request as its load. Requests that were tried before may
    /// pass those that wait; no request that was tried is to wait.
    pub fn pick(&self, pick: &mut Pick<'_>, tried: &[Rc<LocalEndpoint>]) -> Picked {
        self.refresh();
        match tried.is_empty() && self.shared.queue().is_used() {
            true => Picked::Full,
            false => self.take(pick, tried),
        }
    }

    /// Chooses the server of this [identity](super::Endpoint::identity), if it is eligible and has room. Who has a server
    /// of its own may pass those who wait for any.
    pub fn pick_identity(&self, identity: u64) -> Option<InFlight> {
        self.refresh();
        let view = self.view.borrow();
        let endpoint = &view.endpoints[view.members.find(identity)?];
        let begun = endpoint.shared.load().begin();
        begun.then(|| InFlight(Rc::clone(endpoint)))
    }

    fn take(&self, pick: &mut Pick<'_>, tried: &[Rc<LocalEndpoint>]) -> Picked {
        let view = self.view.borrow();
        tried
            .iter()
            .for_each(|endpoint| endpoint.excluded.set(true));
        let mut picked = None;
        for _ in 0..RACES {
            let Some(choice) = view.members.balancer.pick(&view.endpoints, pick) else {
                break;
            };
            let endpoint = &view.endpoints[choice];
            if endpoint.shared.load().begin() {
                picked = Some(InFlight(Rc::clone(endpoint)));
                break;
            }
        }
        let picked = match picked {
            Some(flight) => Picked::Flight(flight),
            None if view.endpoints.iter().any(|it| !it.excluded.get()) => Picked::Full,
            // A server that fails some requests is better than none. That the others are gone is perhaps not known yet.
            None => {
                let (before, after) = view
                    .spare
                    .split_at(pick.rng.usize(..view.spare.len().max(1)));
                let mut spare = after.iter().chain(before).filter(|it| !it.excluded.get());
                let taken = spare.find(|it| it.shared.load().begin());
                taken.map_or(Picked::Nobody, |it| Picked::Flight(InFlight(Rc::clone(it))))
            }
        };
        tried
            .iter()
            .for_each(|endpoint| endpoint.excluded.set(false));
        picked
    }

    /// Waits for a server in the upstream's queue, after [`pick`](Self::pick) has found all to be full.
    ///
    /// # Errors
    /// There is none in time, or no room to wait.
    pub async fn wait(
        &self,
        rng: &RefCell<fastrand::Rng>,
        hash: u64,
        waiter: Waiter,
    ) -> Result<InFlight, Refusal> {
        let settings = self.shared.settings().protection.queue;
        let since = clock::now();
        let result = self
            .wait_until(since + settings.timeout, rng, hash, waiter)
            .await;
        let stats = self.shared.stats.shard(self.worker);
        stats.queued.observe(clock::now() - since);
        match result {
            Err(Refusal::Shed) => stats.shed[waiter.priority as usize].increment(),
            Err(Refusal::Overdue) => stats.overdue[waiter.priority as usize].increment(),
            Ok(_) | Err(Refusal::Nobody) => {}
        }
        result
    }

    async fn wait_until(
        &self,
        deadline: Instant,
        rng: &RefCell<fastrand::Rng>,
        hash: u64,
        waiter: Waiter,
    ) -> Result<InFlight, Refusal> {
        let queue = self.shared.queue();
        let size = self.shared.settings().protection.queue.size;
        let mut ticket = queue.enter(waiter, size).ok_or(Refusal::Shed)?;
        loop {
            // There may have been room since the pick: for whoever is next, which need not be this one.
            self.shared.call_waiting();
            match timeout_at(deadline, ticket.called()).await {
                Err(_) => return Err(Refusal::Overdue),
                Ok(Word::Leave) => return Err(Refusal::Shed),
                Ok(Word::Come) => {}
            }
            self.refresh();
            let mut pick = Pick {
                rng: &mut rng.borrow_mut(),
                now: clock::now().into_std(),
                hash,
                retry: false,
            };
            match self.take(&mut pick, &[]) {
                Picked::Flight(flight) => {
                    ticket.served();
                    self.shared.call_waiting();
                    return Ok(flight);
                }
                Picked::Full => ticket.again(),
                Picked::Nobody => return Err(Refusal::Nobody),
            }
        }
    }
}
