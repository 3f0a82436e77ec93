//! A real Redis, empty and of a test's own.

use std::net::TcpListener;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::Process;
use super::temp_dir::TempDir;

/// A `redis-server` on a port of its own, killed on drop.
pub struct Redis {
    directory: TempDir,
    port: u16,
    process: Process,
}

impl Redis {
    pub fn start() -> Self {
        let version = Command::new("redis-server").arg("--version").output();
        version.expect("redis-server is missing; install it: apt-get install redis-server");
        let directory = TempDir::new();
        let port = free_port();
        let process = launch(&directory, port);
        Self {
            directory,
            port,
            process,
        }
    }

    /// The value of `redis.url`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command, such as `KEYS *`, and returns its answer.
    pub fn command<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut call = redis::cmd(words.next().unwrap_or_default());
        call.arg(words.collect::<Vec<_>>());
        redis::Client::open(self.url())
            .and_then(|client| client.get_connection())
            .and_then(|mut connection| call.query(&mut connection))
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Keeps all connections and accepts new ones, since the kernel does, and says nothing.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Starts again after a kill, on the same port and empty.
    pub fn restart(&mut self) {
        self.process = launch(&self.directory, self.port);
    }
}

fn launch(directory: &TempDir, port: u16) -> Process {
    let directory = directory.path().to_str();
    let directory = directory.expect("the temporary directory's name is UTF-8");
    let port = port.to_string();
    let address = ["--bind", "127.0.0.1", "--port", &port, "--dir", directory];
    let nothing_kept = ["--save", "", "--appendonly", "no"];
    let process = Process::start("redis-server", &[&address[..], &nothing_kept].concat());
    process.wait_for_line("Ready to accept connections");
    process
}

/// Redis cannot choose a port by itself. This one is below those that the kernel gives to whoever asks for port 0, so
/// that nobody takes it meanwhile.
fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 20_000..30_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    loop {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
