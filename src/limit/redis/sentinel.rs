//! Sentinels: whom they name as the master, and when that has changed.

use std::cell::RefCell;

use tokio::time::timeout;

use super::StoreError;
use super::link::Terms;
use super::server::Server;

/// How many times a check's timeout one sentinel may take for its answer, in the background.
const PATIENCE: u32 = 4;

/// The sentinels of one master.
pub(super) struct Sentinels {
    /// Who answered last comes first.
    sentinels: RefCell<Vec<Server>>,
    name: String,
    /// The master as it was last seen at work, or a sentinel before that, with the master's login.
    last: RefCell<Server>,
    /// Whether `last` has been at work.
    is_settled: RefCell<bool>,
}

impl Sentinels {
    /// The sentinels that know a master as `name`, whose login `master` has. There is at least one.
    pub(super) fn new(sentinels: Vec<Server>, name: String, master: Server) -> Self {
        Self {
            sentinels: RefCell::new(sentinels),
            name,
            last: RefCell::new(master),
            is_settled: RefCell::new(false),
        }
    }

    /// The master as it was last seen.
    pub(super) fn last(&self) -> Server {
        self.last.borrow().clone()
    }

    /// The master by the first sentinel that answers. That one is asked last the next time, unless its master turns out
    /// to be one: a sentinel that was cut off from the others may name one that is none any more.
    ///
    /// # Errors
    /// No sentinel answers and knows it; the last one's error.
    pub(super) async fn master(&self, terms: &Terms) -> Result<Server, StoreError> {
        let mut last = StoreError::NoMaster(self.name.clone());
        let count = self.sentinels.borrow().len();
        for _ in 0..count {
            let sentinel = {
                let mut sentinels = self.sentinels.borrow_mut();
                sentinels.rotate_left(1);
                sentinels[count - 1].clone()
            };
            let asking = self.ask(&sentinel, terms);
            match timeout(terms.timeout * PATIENCE, asking).await {
                Ok(Ok((host, port))) => return Ok(self.last.borrow().at(&host, port)),
                Ok(Err(error)) => last = error,
                Err(_) => last = StoreError::Timeout(terms.timeout * PATIENCE),
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &Server, terms: &Terms) -> Result<(String, u16), StoreError> {
        let mut session = sentinel.session(terms.tls.as_deref()).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let answer: Option<(String, u16)> = session.command(&question).await?;
        answer.ok_or_else(|| StoreError::NoMaster(self.name.clone()))
    }

    /// Notes that `master` is at work, and that the sentinel that named it is right.
    pub(super) fn settle(&self, master: Server, terms: &Terms) {
        self.sentinels.borrow_mut().rotate_right(1);
        let before = self.last.replace(master.clone());
        let was_settled = self.is_settled.replace(true);
        if was_settled && !before.is_at(&master) {
            terms.stats.failover(&before, &master);
        }
    }
}
