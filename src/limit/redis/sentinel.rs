//! Sentinels: whom they name as the master, and when that has changed.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::timeout;

use super::StoreError;
use super::link::Terms;
use super::server::{CONNECT_TIMEOUT, Server, Session};
use super::settings::Role;

/// How many times a check's timeout one sentinel may take, in the background, from the connection to its answer.
const PATIENCE: u32 = 4;
/// What it may take at least: a connection with TLS and a login is several round trips, however short the timeout is.
const MIN_PATIENCE: Duration = Duration::from_millis(200);

/// The sentinels of one master.
pub(super) struct Sentinels {
    /// Who is asked first comes first.
    sentinels: RefCell<Vec<Server>>,
    /// With the first of them, once it has answered.
    session: RefCell<Option<Session>>,
    name: String,
    /// The master as it was last seen at work, or a sentinel before that, with the master's login.
    last: RefCell<Server>,
    /// Whether `last` has been at work.
    is_settled: Cell<bool>,
}

impl Sentinels {
    /// The sentinels that know a master as `name`, whose login `master` has. There is at least one.
    pub(super) fn new(sentinels: Vec<Server>, name: String, master: Server) -> Self {
        Self {
            sentinels: RefCell::new(sentinels),
            session: RefCell::new(None),
            name,
            last: RefCell::new(master),
            is_settled: Cell::new(false),
        }
    }

    /// The master as it was last seen.
    pub(super) fn last(&self) -> Server {
        self.last.borrow().clone()
    }

    /// The master by the first sentinel that answers.
    ///
    /// # Errors
    /// No sentinel answers and knows it; the last one's error.
    pub(super) async fn master(&self, terms: &Terms) -> Result<Server, StoreError> {
        let mut last = StoreError::NoMaster(self.name.clone());
        let count = self.sentinels.borrow().len();
        // A session that is kept may have ended meanwhile.
        let limit = patience(terms.timeout);
        for _ in 0..=count {
            match timeout(limit, self.ask(terms)).await {
                Ok(Ok((host, port))) => return Ok(self.last.borrow().at(&host, port)),
                Ok(Err(error)) => last = error,
                Err(_) => last = StoreError::Timeout(limit),
            }
        }
        Err(last)
    }

    /// Asks the first sentinel, which is not the first any more unless it answers.
    async fn ask(&self, terms: &Terms) -> Result<(String, u16), StoreError> {
        let kept = self.session.take();
        let is_kept = kept.is_some();
        let mut session = match kept {
            Some(session) => session,
            None => {
                let sentinel = self.next();
                sentinel.session(terms.tls.as_deref()).await?
            }
        };
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let answer: Option<(String, u16)> = session.command(&question).await?;
        let answer = answer.ok_or_else(|| StoreError::NoMaster(self.name.clone()))?;
        self.session.replace(Some(session));
        if !is_kept {
            self.sentinels.borrow_mut().rotate_right(1);
        }
        Ok(answer)
    }

    /// The first sentinel, which is the last one from now on.
    fn next(&self) -> Server {
        let mut sentinels = self.sentinels.borrow_mut();
        sentinels.rotate_left(1);
        sentinels[sentinels.len() - 1].clone()
    }

    /// Notes that the master that was named is none: a sentinel that was cut off from the others may not know. Another
    /// one is asked next.
    pub(super) fn doubt(&self) {
        self.session.take();
        self.sentinels.borrow_mut().rotate_left(1);
    }

    /// Notes that `master` is at work.
    pub(super) fn settle(&self, master: Server, terms: &Terms) {
        let before = self.last.replace(master.clone());
        let was_settled = self.is_settled.replace(true);
        if was_settled && !before.is_at(&master) {
            terms.stats.failover(Role::Master, &before, &master);
        }
    }
}

/// How long one sentinel is waited for where a check may take `timeout`.
fn patience(timeout: Duration) -> Duration {
    let limit = timeout.saturating_mul(PATIENCE);
    limit.clamp(MIN_PATIENCE, CONNECT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_has_time_for_a_connection_and_no_more() {
        for (timeout, expected) in [(1, 200), (100, 400), (5000, 1000), (u64::MAX, 1000)] {
            let [timeout, expected] = [timeout, expected].map(Duration::from_millis);
            assert_eq!(patience(timeout), expected, "{timeout:?}");
        }
    }
}
