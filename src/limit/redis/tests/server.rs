//! A real Redis of one's own: on a Unix socket in a directory of its own, killed and removed on drop.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(in crate::limit) struct RedisServer {
    directory: PathBuf,
    process: Child,
}

impl RedisServer {
    pub(in crate::limit) fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("limit-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let process = spawn(&directory);
        Self { directory, process }
    }

    pub(in crate::limit) fn url(&self) -> String {
        format!("redis+unix://{}", socket(&self.directory).display())
    }

    /// Runs a command and returns its answer.
    pub(in crate::limit) fn command<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut words = command.split(' ');
        redis::cmd(words.next().unwrap())
            .arg(words.collect::<Vec<_>>())
            .query(&mut connection)
            .unwrap()
    }

    /// Has it keep a value for a while.
    pub(in crate::limit) fn set(&self, key: &str, value: &str, time: Duration) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut set = redis::cmd("SET");
        let time = u64::try_from(time.as_millis()).unwrap();
        set.arg(key).arg(value).arg("PX").arg(time);
        set.exec(&mut connection).unwrap();
    }

    /// Stops answering, without closing anything.
    pub(in crate::limit) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(in crate::limit) fn thaw(&self) {
        self.signal("CONT");
    }

    pub(in crate::limit) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        fs::remove_file(socket(&self.directory)).unwrap();
    }

    /// Starts again after a kill, empty.
    pub(in crate::limit) fn restart(&mut self) {
        self.process = spawn(&self.directory);
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.process.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Either may have gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn socket(directory: &std::path::Path) -> PathBuf {
    directory.join("redis.sock")
}

fn spawn(directory: &std::path::Path) -> Child {
    let socket = socket(directory);
    let process = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .arg("--unixsocket")
        .arg(&socket)
        .stdout(Stdio::null())
        .current_dir(directory)
        .spawn()
        .expect("redis-server is missing; install it: apt-get install redis-server");
    let deadline = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "redis-server does not start");
        thread::sleep(Duration::from_millis(5));
    }
    process
}
