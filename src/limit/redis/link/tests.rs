//! A link's sessions, with a real redis-server.

use super::*;
use crate::limit::redis::tests::server::RedisServer;
use crate::limit::redis::tests::{on_worker, terms};

#[test]
fn a_late_answer_of_an_old_session_does_not_end_the_new_one() {
    let server = RedisServer::start();
    on_worker(async {
        let target = Target::Server(Server::new(&server.url()).unwrap());
        let link = Link::new(terms(), target);
        let old = link.dial().await.unwrap();
        let new = link.dial().await.unwrap();
        link.go_up(new.clone());
        link.disconnect(&old);
        assert!(matches!(*link.state.borrow(), State::Ready(_)));
        link.disconnect(&new);
        assert!(matches!(*link.state.borrow(), State::Idle));
    });
}
