//! The map: what a new one says of the one before.

use super::*;
use crate::limit::redis::tests::{on_worker, terms};

/// A node that is not there, as an answer to CLUSTER SLOTS has it.
fn owner(first: i64, last: i64, port: i64) -> Value {
    let host = Value::BulkString(b"127.0.0.1".to_vec());
    let node = Value::Array(vec![host, Value::Int(port), Value::BulkString(vec![])]);
    Value::Array(vec![Value::Int(first), Value::Int(last), node])
}

fn server(port: u16) -> Server {
    Server::new(&format!("redis://127.0.0.1:{port}")).unwrap()
}

#[test]
fn another_server_with_a_nodes_slots_is_counted_once_however_it_was_noticed() {
    on_worker(async {
        let cluster = Cluster::new(terms(), vec![server(1)]);
        let failovers = || cluster.terms.stats.failovers.get();
        let install = |owners| assert!(cluster.install(&Value::Array(owners), &server(1)));
        install(vec![owner(0, 99, 1), owner(100, 16383, 2)]);
        // One slot of several that stay.
        install(vec![owner(0, 9, 2), owner(10, 99, 1), owner(100, 16383, 2)]);
        assert_eq!(failovers(), 0);
        install(vec![owner(0, 9, 2), owner(10, 99, 3), owner(100, 16383, 2)]);
        assert_eq!(failovers(), 1);
        // A check was sent to the new owner of the only slot.
        install(vec![owner(0, 0, 3), owner(1, 16383, 2)]);
        assert!(cluster.assign(0, &server(4)).is_ok());
        install(vec![owner(0, 0, 4), owner(1, 16383, 2)]);
        assert_eq!(failovers(), 2);
    });
}
