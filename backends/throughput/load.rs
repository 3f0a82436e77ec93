//! How much is sent, and over how many connections at once.

use std::fmt::Display;
use std::sync::RwLock;
use std::thread;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::serve::STACK;

/// The same for all parts of a run.
pub struct Load {
    /// Bytes each way in a transfer, over all connections.
    pub bytes: u64,
    /// Requests, over all connections.
    pub requests: u64,
    /// Bytes of a request, and of its answer.
    pub size: u32,
    /// Connections at once.
    pub connections: u64,
    /// How long nothing may move.
    pub patience: Duration,
    /// Requests in datagrams.
    pub udp: bool,
}

/// The part of `total` that is for number `number` of `parts`.
pub fn share(total: u64, parts: u64, number: u64) -> u64 {
    total / parts + u64::from(number < total % parts)
}

/// Connects all with `connect`, then has all of them `work` at once, each with its number. Gives what they came to, and the
/// time from when all were connected until the last was done.
///
/// # Errors
/// The first one, with the number of its connection.
pub fn at_once<C: Send, T: Send>(
    connections: u64,
    connect: impl Fn(u64) -> Result<C, Fault>,
    work: impl Fn(C, u64) -> Result<T, Fault> + Sync,
) -> Result<(Vec<T>, Duration), String> {
    let named = |number: u64, error: &dyn Display| format!("connection {number}: {error}");
    let mut connected = Vec::new();
    for number in 0..connections {
        connected.push(connect(number).map_err(|fault| named(number, &fault))?);
    }
    // Threads wait until it can be read.
    let gate = RwLock::new(());
    let (gate, work) = (&gate, &work);
    thread::scope(|scope| {
        let closed = gate.write();
        let mut threads = Vec::new();
        for (connection, number) in connected.into_iter().zip(0..) {
            let thread = thread::Builder::new().stack_size(STACK);
            let run = move || {
                drop(gate.read());
                work(connection, number)
            };
            let spawned = thread.spawn_scoped(scope, run);
            threads.push(spawned.map_err(|error| named(number, &error))?);
        }
        let begun = Instant::now();
        drop(closed);
        let results: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("connections do not panic"))
            .collect();
        let elapsed = begun.elapsed();
        let results = results.into_iter().zip(0..);
        let results = results.map(|(result, number)| result.map_err(|fault| named(number, &fault)));
        results.collect::<Result<_, _>>().map(|all| (all, elapsed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let shares: Vec<_> = (0..3).map(|number| share(11, 3, number)).collect();
        assert_eq!(shares, [4, 4, 3]);
    }

    #[test]
    fn an_error_names_its_connection() {
        let work = |(), number| match number {
            2 => Err(Fault::NoAnswer { number: 7 }),
            _ => Ok(number),
        };
        let error = at_once(4, |_| Ok(()), work).unwrap_err();
        assert_eq!(error, "connection 2: no answer to datagram 7");
        let (numbers, _) = at_once(2, |_| Ok(()), work).unwrap();
        assert_eq!(numbers, [0, 1]);
    }
}
