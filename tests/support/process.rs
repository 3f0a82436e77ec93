//! A real process: its output line by line, signals, and what it costs.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use super::{DEADLINE, wait_until};

/// The proxy.
pub const LOADBALANCER: &str = env!("CARGO_BIN_EXE_loadbalancer");
/// A test server.
pub const BACKEND: &str = env!("CARGO_BIN_EXE_backends1");

/// A running child process, killed on drop. Its output is printed when the test that owns it panics.
pub struct Process {
    program: String,
    child: Child,
    output: Arc<Output>,
}

/// Sends a signal to a process that this test has started, or one of its children. Tells whether it was there.
pub fn kill(name: &str, pid: &str) -> bool {
    // The shell's own kill, because not every system has one as a program.
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, pid])
        .status();
    status.is_ok_and(|status| status.success())
}

/// Standard output and standard error, in the order of arrival.
#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    text: Vec<String>,
    open_streams: usize,
}

impl Process {
    /// Starts `program` with these arguments, in an environment without settings of the proxy's own.
    pub fn start(program: &str, args: &[&str]) -> Self {
        Self::start_with_env(program, args, &[])
    }

    /// The same with environment variables set.
    pub fn start_with_env(program: &str, args: &[&str], variables: &[(String, String)]) -> Self {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("LB_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("RUST_LOG", "info")
            .envs(variables.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));

        let output = Arc::new(Output::default());
        Output::read(&output, child.stdout.take().expect("stdout was asked for"));
        Output::read(&output, child.stderr.take().expect("stderr was asked for"));
        Self {
            program: program.to_owned(),
            child,
            output,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    pub fn output(&self) -> String {
        self.output.lock().text.join("\n")
    }

    /// Waits for a line that contains `pattern`, also among those that were read before.
    pub fn wait_for_line(&self, pattern: &str) -> String {
        self.wait_for(pattern, |line| {
            line.contains(pattern).then(|| line.to_owned())
        })
    }

    /// Waits for the first line that `find` makes something of. Panics at the end of the output or after [`DEADLINE`].
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut lines = self.output.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = lines.text[seen..].iter().find_map(|line| find(line)) {
                return found;
            }
            seen = lines.text.len();
            let left = end.saturating_duration_since(Instant::now());
            if lines.open_streams == 0 || left.is_zero() {
                drop(lines);
                panic!(
                    "no line with {what:?} from {}; its output:\n{}",
                    self.program,
                    self.output()
                );
            }
            (lines, _) = self
                .output
                .changed
                .wait_timeout(lines, left)
                .unwrap_or_else(|error| error.into_inner());
        }
    }

    /// Sends a signal, named without SIG: `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = kill(name, &self.pid().to_string());
        assert!(sent, "cannot send SIG{name} to {}", self.program);
    }

    /// Ends the process with SIGKILL and waits until it is gone.
    pub fn kill_9(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end of the process and of its output.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
                Ok(None) => panic!(
                    "{} still runs after {limit:?}; its output:\n{}",
                    self.program,
                    self.output()
                ),
                Err(error) => panic!("cannot wait for {}: {error}", self.program),
            }
        };
        wait_until("the end of the output", || {
            self.output.lock().open_streams == 0
        });
        status
    }

    /// Memory of the process that is in RAM, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a running process has memory");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("VmRSS is a number of kB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        self.kill_9();
        if thread::panicking() {
            let end = match ended {
                Some(status) if status.signal().is_some() || !status.success() => {
                    format!("ended before: {status}")
                }
                Some(_) => "ended before".to_owned(),
                None => "ran until now".to_owned(),
            };
            eprintln!(
                "---- {} ({end}) ----\n{}\n----",
                self.program,
                self.output()
            );
        }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // What a panicking test leaves here is still a list of lines.
        self.lines.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// Collects the lines of one stream in a thread, which ends with the stream.
    fn read(this: &Arc<Self>, stream: impl Read + Send + 'static) {
        this.lock().open_streams += 1;
        let output = Arc::clone(this);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                output
                    .lock()
                    .text
                    .push(String::from_utf8_lossy(&line).trim_end().to_owned());
                output.changed.notify_all();
                line.clear();
            }
            output.lock().open_streams -= 1;
            output.changed.notify_all();
        });
    }
}
