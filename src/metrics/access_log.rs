//! The access log: one line for each request, or connection that was passed on, written by a thread of its own.
//!
//! Lines wait in a bounded queue. When the disk or the reader of standard output cannot keep up, lines are dropped and
//! counted; a request never waits for its line.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Lines that may wait for the writer.
const QUEUE: usize = 8192;

/// How long the last lines may take.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// A line's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Apache's combined log format.
    Combined,
}

/// What a line says.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// When the request arrived.
    pub time: Timestamp,
    /// The client's address, from forwarding headers when the peer is trusted.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a str,
    /// The request's Host.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub protocol: &'a str,
    /// The answer's status; 0 if the client went away before there was one.
    pub status: u16,
    /// Body bytes received from the client.
    pub received: u64,
    /// Body bytes sent to the client.
    pub sent: u64,
    /// From the request's headers to the end of the answer, in seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// The Referer header, or empty.
    pub referer: &'a str,
    /// The User-Agent header, or empty.
    pub user_agent: &'a str,
    /// X-Request-Id.
    pub request_id: &'a str,
    /// The route's name, or empty when none matched.
    pub route: &'a str,
    /// The upstream's name, or empty when the request was not forwarded.
    pub upstream: &'a str,
    /// The last server that was tried, or empty.
    pub server: &'a str,
    /// Tries after the first.
    pub retries: u32,
    /// Why the last of them was made, or empty.
    pub retried: &'a str,
    /// Whether two servers were asked at a time.
    pub hedged: bool,
    /// Whether the answer reached its end.
    pub complete: bool,
    /// A word for why the load balancer answered itself or the answer broke off, or empty.
    pub error: &'a str,
}

/// What a line says of a connection that was passed on as it is.
#[derive(Debug, Serialize)]
pub struct ConnectionRecord<'a> {
    /// When it was accepted.
    pub time: Timestamp,
    /// The client's address, by the word of a PROXY header if there was one.
    pub client: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: &'a str,
    /// The listener's name.
    pub listener: &'a str,
    /// The name that a ClientHello has asked for, or empty.
    pub name: &'a str,
    /// The upstream's name, or empty when there was none for it.
    pub upstream: &'a str,
    /// The last server that was tried, or empty.
    pub server: &'a str,
    /// Tries after the first.
    pub retries: u32,
    /// How long connecting to the server took, in seconds; 0 without success.
    #[serde(serialize_with = "seconds")]
    pub connect: Duration,
    /// How long the connection was open, in seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// Bytes received from the client.
    pub received: u64,
    /// Bytes sent to the client.
    pub sent: u64,
    /// A word for why it has ended.
    pub reason: &'a str,
}

impl ConnectionRecord<'_> {
    fn line(&self, format: Format) -> String {
        match format {
            Format::Json => json(self),
            // Apache has no such thing. It is a line that its readers take: a method, where to, and no status.
            Format::Combined => {
                let mut line = start(self.client, self.time);
                line.push_str(&self.protocol.to_ascii_uppercase());
                line.push(' ');
                escape(
                    &mut line,
                    if self.name.is_empty() {
                        self.listener
                    } else {
                        self.name
                    },
                );
                _ = writeln!(line, " -\" 0 {} \"-\" \"-\"", self.sent);
                line
            }
        }
    }
}

/// One JSON object.
fn json(record: &impl Serialize) -> String {
    let mut line = serde_json::to_string(record).unwrap_or_default();
    line.push('\n');
    line
}

/// The beginning of a line of the combined format, up to the request.
fn start(client: IpAddr, time: Timestamp) -> String {
    format!(
        "{client} - - [{}] \"",
        time.strftime("%d/%b/%Y:%H:%M:%S +0000")
    )
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Record<'_> {
    fn line(&self, format: Format) -> String {
        match format {
            Format::Json => json(self),
            Format::Combined => {
                let mut line = start(self.client, self.time);
                escape(&mut line, self.method);
                line.push(' ');
                escape(&mut line, self.target);
                _ = write!(
                    line,
                    " {}\" {} {} \"",
                    self.protocol, self.status, self.sent
                );
                escape(
                    &mut line,
                    if self.referer.is_empty() {
                        "-"
                    } else {
                        self.referer
                    },
                );
                line.push_str("\" \"");
                escape(
                    &mut line,
                    if self.user_agent.is_empty() {
                        "-"
                    } else {
                        self.user_agent
                    },
                );
                line.push_str("\"\n");
                line
            }
        }
    }
}

/// Keeps a client from ending a quoted field or a line.
fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            c if c.is_control() => _ = write!(line, "\\x{:02x}", u32::from(c)),
            c => line.push(c),
        }
    }
}

/// What the writer is told.
#[derive(Debug)]
enum Order {
    Line(String),
    /// There is something else to do.
    Wake,
}

/// Where the lines go.
#[derive(Debug)]
enum Output {
    Standard(Stdout),
    File(PathBuf, File),
}

impl Output {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(match path {
            Some(path) => Self::File(path.to_owned(), open_file(path)?),
            None => Self::Standard(io::stdout()),
        })
    }

    /// Opens the path anew, which may by now be another file; the old one stays in use when that fails.
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(path, file) = self {
            *file = open_file(path)?;
        }
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(output) => output.write(bytes),
            Self::File(_, file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(output) => output.flush(),
            Self::File(_, file) => file.flush(),
        }
    }
}

/// The handle that workers write through.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    queue: SyncSender<Order>,
    reopen: Arc<AtomicBool>,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Opens the log and starts its writer, which ends after the handle is dropped and the queue is written.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread cannot be started.
    pub fn open(format: Format, path: Option<&Path>) -> io::Result<(Self, LogWriter)> {
        let output = Output::open(path)?;
        let (queue, lines) = sync_channel(QUEUE);
        let (ended, end) = channel();
        let reopen = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&reopen);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_lines(&lines, &asked, BufWriter::with_capacity(64 * 1024, output));
                drop(ended);
            })?;
        let log = Self {
            format,
            queue,
            reopen,
            dropped: AtomicU64::new(0),
        };
        Ok((log, LogWriter { end }))
    }

    /// Queues a line, or drops and counts it.
    pub fn write(&self, record: &Record<'_>) {
        self.queue(record.line(self.format));
    }

    /// The same for a connection.
    pub fn write_connection(&self, record: &ConnectionRecord<'_>) {
        self.queue(record.line(self.format));
    }

    fn queue(&self, line: String) {
        if self.queue.try_send(Order::Line(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Has the file opened anew, after it was renamed by a log rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // A writer that sleeps has an empty queue, and one with a full queue is awake.
        _ = self.queue.try_send(Order::Wake);
    }

    /// Lines dropped because the writer could not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// The thread that writes the lines.
#[derive(Debug)]
pub struct LogWriter {
    /// Closes when the thread ends.
    end: Receiver<()>,
}

impl LogWriter {
    /// Waits until the queue is written, for a moment at most: standard output may be a pipe that nobody reads. To be
    /// called when all handles to the log have been dropped.
    pub fn finish(self) {
        _ = self.end.recv_timeout(FINISH_LIMIT);
    }
}

fn write_lines(orders: &Receiver<Order>, reopen: &AtomicBool, mut output: BufWriter<Output>) {
    let mut failed = false;
    loop {
        if reopen.swap(false, Relaxed) {
            // What the old file does not take goes into the new one.
            let flushed = output.flush();
            report(output.get_mut().reopen().and(flushed), &mut failed);
        }
        let order = match orders.try_recv() {
            Ok(order) => order,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                report(output.flush(), &mut failed);
                match orders.recv() {
                    Ok(order) => order,
                    Err(_) => break,
                }
            }
        };
        if let Order::Line(line) = order {
            report(output.write_all(line.as_bytes()), &mut failed);
        }
    }
    report(output.flush(), &mut failed);
}

/// Says once that the log cannot be written, and once that it can be again.
fn report(result: io::Result<()>, failed: &mut bool) {
    match result {
        Ok(()) => *failed = false,
        Err(error) if !*failed => {
            *failed = true;
            tracing::error!(%error, "the access log cannot be written");
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            time: Timestamp::from_second(1_700_000_000).unwrap(),
            client: IpAddr::from([192, 0, 2, 1]),
            method: "GET",
            host: "example.com",
            target: "/a?b=\"c\"",
            protocol: "HTTP/1.1",
            status: 200,
            received: 0,
            sent: 12,
            duration: Duration::from_millis(1500),
            referer: "",
            user_agent: "a\"b\n",
            request_id: "id",
            route: "r",
            upstream: "u",
            server: "127.0.0.1:3000",
            retries: 1,
            retried: "reset",
            hedged: false,
            complete: true,
            error: "",
        }
    }

    #[test]
    fn combined_lines_cannot_be_broken_by_a_client() {
        assert_eq!(
            record().line(Format::Combined),
            "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a?b=\\\"c\\\" HTTP/1.1\" 200 12 \"-\" \"a\\\"b\\x0a\"\n"
        );
    }

    #[test]
    fn json_lines_are_json() {
        let line = record().line(Format::Json);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20Z");
        assert_eq!(value["duration"], 1.5);
        assert_eq!(value["user_agent"], "a\"b\n");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, orders) = sync_channel(1);
        let log = AccessLog {
            format: Format::Json,
            queue,
            reopen: Arc::default(),
            dropped: AtomicU64::new(0),
        };
        for _ in 0..3 {
            log.write(&record());
        }
        assert_eq!(log.dropped(), 2);
        drop(log);
        assert_eq!(orders.iter().count(), 1);
    }
}
