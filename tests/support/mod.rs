//! Fixtures whose use reads as sentences: real processes, scripted backends, and a client that shows the bytes.
//!
//! Everything ends with the value that stands for it. What does not come true in time panics and says what it was.

pub mod backend;
pub mod client;
pub mod frames;
pub mod grpc;
pub mod http2;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod redis_fleet;
pub mod temp_dir;
pub mod tls;
pub mod udp;

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen soon; ample for a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for a condition, for [`DEADLINE`] at most.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `task` in threads that begin together, each with its number from 0, and returns what each came to.
pub fn in_parallel<T: Send>(threads: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let begin = Barrier::new(threads);
    let run = |number| {
        begin.wait();
        task(number)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}
