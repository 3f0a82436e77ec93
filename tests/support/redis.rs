//! A real Redis, empty and of a test's own.

use std::net::TcpListener;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::Process;
use super::temp_dir::TempDir;

/// What a load balancer needs of Redis, as docs/configuration.md says it, for the user `lb` with the password `secret`.
pub const ACL: &str = "user lb on >secret ~lb:* +eval +evalsha +get +set +incrby +decrby +pttl +pexpire +time +ping \
                       +select +asking +cluster|slots";

/// A `redis-server` on a port of its own, killed on drop.
pub struct Redis {
    directory: TempDir,
    port: u16,
    more: Vec<String>,
    process: Process,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more settings, such as `--requirepass`.
    pub fn start_with(more: &[&str]) -> Self {
        let version = Command::new("redis-server").arg("--version").output();
        version.expect("redis-server is missing; install it: apt-get install redis-server");
        let directory = TempDir::new();
        let port = free_port();
        let more: Vec<String> = more.iter().map(|it| (*it).to_owned()).collect();
        let process = launch(&directory, port, &more);
        Self {
            directory,
            port,
            more,
            process,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The value of `redis.url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The same for the user of [`ACL`].
    pub fn url_of_lb(&self) -> String {
        format!("redis://lb:secret@{}", self.address())
    }

    /// Runs a command, such as `KEYS *`, and returns its answer.
    pub fn command<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut call = redis::cmd(words.next().unwrap_or_default());
        call.arg(words.collect::<Vec<_>>());
        self.query(&call)
    }

    fn query<T: redis::FromRedisValue>(&self, call: &redis::Cmd) -> T {
        let ask = |url: String| {
            redis::Client::open(url)
                .and_then(|client| client.get_connection())
                .and_then(|mut connection| call.query(&mut connection))
        };
        ask(self.url())
            .or_else(|_| ask(format!("redis://:test@{}", self.address())))
            .unwrap_or_else(|error| panic!("{:?}: {error}", call.get_packed_command()))
    }

    /// How often a command has been run since the start.
    pub fn calls(&self, command: &str) -> u64 {
        let statistics: String = self.command("INFO commandstats");
        let prefix = format!("cmdstat_{command}:calls=");
        let line = statistics.lines().find_map(|it| it.strip_prefix(&prefix));
        line.and_then(|it| it.split(',').next()?.parse().ok())
            .unwrap_or(0)
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
        self.process = launch(&self.directory, self.port, &self.more);
    }
}

fn launch(directory: &TempDir, port: u16, more: &[String]) -> Process {
    let directory = directory.path().to_str();
    let directory = directory.expect("the temporary directory's name is UTF-8");
    let port = port.to_string();
    let address = ["--bind", "127.0.0.1", "--port", &port, "--dir", directory];
    let nothing_kept = ["--save", "", "--appendonly", "no"];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let arguments = [&address[..], &nothing_kept, &more].concat();
    let process = Process::start("redis-server", &arguments);
    process.wait_for_line("Ready to accept connections");
    process
}

/// Redis cannot choose a port by itself. This one is below those that the kernel gives to whoever asks for port 0, so
/// that nobody takes it meanwhile.
pub fn free_port() -> u16 {
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
