//! The access log: one line for each request, or connection that was passed on, written by a thread of its own.
//!
//! Lines wait in a bounded queue. When the disk or the reader of standard output cannot keep up, lines are dropped and
//! counted; a request never waits for its line.

mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::Duration;

pub use self::record::{ConnectionRecord, Format, Record};

/// Lines that may wait for the writer.
const QUEUE: usize = 8192;

/// How long the last lines may take.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

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
    use super::record::tests::record;
    use super::*;

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
