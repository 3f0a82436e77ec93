//! Lets so many requests be served at once, the others wait in line; the number can change meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The gate; its clones are the same one.
#[derive(Clone)]
pub struct Gate(Arc<Mutex<State>>);

struct State {
    limit: usize,
    inside: usize,
    waiting: VecDeque<oneshot::Sender<Pass>>,
}

/// The right to be served; leaving is dropping it.
pub struct Pass(Gate);

impl Gate {
    /// Open to all.
    pub fn open() -> Self {
        Self(Arc::new(Mutex::new(State {
            limit: usize::MAX,
            inside: 0,
            waiting: VecDeque::new(),
        })))
    }

    /// Changes how many may be inside. Nobody is thrown out: beyond the limit, those who leave have no successors.
    pub fn limit(&self, limit: usize) {
        self.lock().limit = limit;
        self.admit();
    }

    /// Waits for its turn. Whoever gives up is passed over.
    pub async fn enter(&self) -> Pass {
        let (sender, receiver) = oneshot::channel();
        self.lock().waiting.push_back(sender);
        self.admit();
        receiver
            .await
            .expect("the line is kept until everybody in it was let in")
    }

    fn admit(&self) {
        loop {
            let mut state = self.lock();
            if state.inside >= state.limit {
                return;
            }
            let Some(next) = state.waiting.pop_front() else {
                return;
            };
            state.inside += 1;
            // A pass that nobody takes any more is dropped, which needs the lock.
            drop(state);
            let _ = next.send(Pass(self.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.admit();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Entering = Pin<Box<dyn Future<Output = Pass>>>;

    fn enter(gate: &Gate) -> Entering {
        let gate = gate.clone();
        Box::pin(async move { gate.enter().await })
    }

    /// Polls without a runtime: a gate needs none.
    fn ready(entering: &mut Entering) -> Option<Pass> {
        let mut cx = Context::from_waker(Waker::noop());
        match entering.as_mut().poll(&mut cx) {
            Poll::Ready(pass) => Some(pass),
            Poll::Pending => None,
        }
    }

    fn start(mut entering: Entering) -> Entering {
        assert!(ready(&mut entering).is_none(), "there was room");
        entering
    }

    #[test]
    fn others_wait_in_line_and_who_gives_up_is_passed_over() {
        let gate = Gate::open();
        gate.limit(1);
        let first = ready(&mut enter(&gate)).unwrap();
        let mut second = start(enter(&gate));
        let third = start(enter(&gate));
        let mut fourth = start(enter(&gate));
        drop(third);
        drop(first);
        let second = ready(&mut second).unwrap();
        assert!(ready(&mut fourth).is_none());
        drop(second);
        assert!(ready(&mut fourth).is_some());
    }

    #[test]
    fn a_pass_that_was_given_and_not_taken_comes_back() {
        let gate = Gate::open();
        gate.limit(1);
        let first = ready(&mut enter(&gate)).unwrap();
        let second = start(enter(&gate));
        drop(first);
        drop(second);
        assert!(ready(&mut enter(&gate)).is_some());
    }

    #[test]
    fn the_limit_changes_while_it_is_in_use() {
        let gate = Gate::open();
        let mut inside: Vec<_> = (0..4).map(|_| ready(&mut enter(&gate)).unwrap()).collect();
        gate.limit(2);
        let mut waiting = start(enter(&gate));
        inside.truncate(2);
        assert!(ready(&mut waiting).is_none());
        gate.limit(3);
        assert!(ready(&mut waiting).is_some());
    }
}
