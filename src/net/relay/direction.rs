//! One direction of a relay: bytes from one side to the other, and then the end.
//!
//! ```text
//!           read: a copy, or into a pipe          all of it written
//!   empty ───────────────────────────▶ holding ─────────────────────▶ empty
//!     │ the end has been read            (nothing is read meanwhile: the reader sets the pace)
//!     ▼
//!   ENDED ──shutdown──▶ CLOSED            what it leads to is gone: LOST, nothing more is read
//! ```
//! Little is copied through the thread's scratch. A read that fills that is a sign of much: from then on the bytes stay in
//! the kernel (`splice`), until a read brings little again. With TLS on either side all is copied.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::scratch::{Scratch, Space};
use crate::net::splice::{self, Pipe};
use crate::net::{Throttle, Traffic, Transport};

/// What is copied at a time where there is no TLS. A read that fills it is followed by splices, and one that brings less by
/// copies: both are two system calls, of which a copy's are cheaper up to about this many bytes.
const FLAT: usize = 32 * 1024;

/// Four records of TLS, which is what one read of a TLS stream takes.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static SPACE: Space = const { Space::new(Vec::new()) };
}

/// After so many bytes it is somebody else's turn.
const TURN: usize = 1024 * 1024;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Direction {
    phase: Phase,
    /// Whether the last read has brought much.
    bulk: bool,
    /// What has been read and not been written yet.
    held: Held,
    /// What it begins with that has not had its turn yet.
    owed: usize,
    /// What it has to wait for before it reads, if it is under limits of bytes a second.
    pub(super) throttle: Option<Box<Throttle>>,
    /// Bytes that have moved, in and out.
    pub(super) read: u64,
    pub(super) written: u64,
}

/// How far a direction is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Open,
    /// Its end has been read; with TLS, whether that was said or the connection just ended.
    Ended { said: bool },
    /// Its end has been passed on.
    Closed,
    /// Nobody takes what it brings: the connection that it leads to is gone. `cut` says that it has broken; otherwise the
    /// peer had closed it before, and does not want to hear more.
    Lost { cut: bool },
}

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes {
        bytes: Box<[u8]>,
        written: usize,
    },
    Pipe(Pipe),
}

/// The two sides of a direction, with where their bytes are counted.
pub(super) struct Ends<'a> {
    pub(super) from: (&'a mut Transport, &'a mut Traffic),
    pub(super) to: (&'a mut Transport, &'a mut Traffic),
}

impl Direction {
    /// One that begins with bytes that were read before.
    pub(super) fn beginning_with(bytes: Vec<u8>) -> Self {
        let mut direction = Self {
            read: bytes.len() as u64,
            owed: bytes.len(),
            ..Self::default()
        };
        direction.hold(&bytes);
        direction
    }

    /// Whether it would read, and may not yet.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.throttle.as_ref().is_some_and(|it| it.is_waiting())
    }

    /// Whether something has been read and not been written yet.
    pub(super) fn holds(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Moves what there is to move. Ready when there will be nothing more: the end has been passed on, or cannot be. `other`
    /// is how far the other direction is.
    ///
    /// # Errors
    /// The connection that it reads from has broken.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
        other: Phase,
    ) -> Poll<io::Result<()>> {
        let turn_ends = self.read + TURN as u64;
        loop {
            match self.phase {
                Phase::Closed | Phase::Lost { .. } => return Poll::Ready(Ok(())),
                // The connection that it reads from has broken: its end is none.
                Phase::Ended { .. } if other == (Phase::Lost { cut: true }) => {
                    return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                }
                Phase::Open | Phase::Ended { .. } => {}
            }
            ready!(self.poll_turn(cx));
            if let Err(error) = ready!(self.poll_write(cx, ends)) {
                self.lose(&error);
                continue;
            }
            if let Phase::Ended { said } = self.phase {
                // What is closed next need not be ended before. That it is closed already is for a read to tell.
                if other != Phase::Closed || ends.to.0.is_encrypted() {
                    _ = ready!(ends.to.0.poll_end(cx, said));
                }
                self.phase = Phase::Closed;
                continue;
            }
            if self.read >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_read(cx, ends))? == 0 {
                continue;
            }
        }
    }

    /// Waits until what was read before may go on.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(throttle) = &mut self.throttle {
            while self.owed > 0 {
                self.owed -= ready!(throttle.poll_take(cx, self.owed));
            }
        }
        Poll::Ready(())
    }

    /// Writes all that is held.
    fn poll_write(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<io::Result<()>> {
        let (to, traffic) = &mut ends.to;
        loop {
            let written = match &mut self.held {
                Held::Nothing if to.is_flushed() => return Poll::Ready(Ok(())),
                Held::Nothing => return Pin::new(&mut **to).poll_flush(cx),
                Held::Bytes { bytes, written } => {
                    let rest = &bytes[*written..];
                    let taken = ready!(Pin::new(&mut **to).poll_write(cx, rest))?;
                    *written += taken;
                    if *written == bytes.len() {
                        self.held = Held::Nothing;
                    }
                    taken
                }
                Held::Pipe(pipe) => {
                    let moved = ready!(to.poll_drain(cx, pipe))?;
                    if pipe.held() == 0
                        && let Held::Pipe(pipe) = std::mem::take(&mut self.held)
                    {
                        pipe.give_back();
                    }
                    moved
                }
            };
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            traffic.add_sent(written as u64);
            self.written += written as u64;
        }
    }

    /// Reads once, and writes as much of that as there is room for if it is a copy. Nothing is held before, and maybe after.
    fn poll_read(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<io::Result<usize>> {
        let Some(throttle) = &mut self.throttle else {
            return self.poll_read_at_most(cx, ends, usize::MAX);
        };
        // Who has nothing to read should not stand in line.
        ready!(ends.from.0.poll_readable(cx))?;
        let granted = ready!(throttle.poll_some(cx));
        let polled = self.poll_read_at_most(cx, ends, granted);
        let moved = match polled {
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        if let Some(throttle) = &mut self.throttle {
            throttle.moved(granted, moved);
        }
        polled
    }

    fn poll_read_at_most(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let flat = FLAT.min(most);
        let is_plain = !ends.from.0.is_encrypted() && !ends.to.0.is_encrypted();
        let read = match is_plain && self.bulk {
            true => match Pipe::take() {
                Ok(pipe) => ready!(self.poll_splice(cx, ends, pipe, most))?,
                // For want of descriptors: a copy needs none.
                Err(_) => ready!(self.poll_copy(cx, ends, flat))?,
            },
            false if is_plain => ready!(self.poll_copy(cx, ends, flat))?,
            false => ready!(self.poll_copy(cx, ends, most))?,
        };
        self.bulk = read >= FLAT;
        self.read += read as u64;
        ends.from.1.add_received(read as u64);
        Poll::Ready(Ok(read))
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
        mut pipe: Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = ends.from.0.poll_fill(cx, &mut pipe, most.min(splice::MOST));
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.held = Held::Pipe(pipe);
            return polled;
        }
        pipe.give_back();
        match polled {
            // The end, or an urgent byte, which looks the same when the end is not far behind it.
            Poll::Ready(Ok(_)) => self.poll_copy(cx, ends, FLAT.min(most)),
            Poll::Pending | Poll::Ready(Err(_)) => polled,
        }
    }

    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = Scratch::take(&SPACE, SCRATCH);
        let room = scratch.len().min(most);
        let mut space = ReadBuf::new(&mut scratch[..room]);
        let said = match ready!(Pin::new(&mut *ends.from.0).poll_read(cx, &mut space)) {
            Ok(()) => true,
            // TLS that ends without saying so: what has come is passed on, and an end that says nothing either.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let bytes = space.filled();
        if bytes.is_empty() {
            self.phase = Phase::Ended { said };
            return Poll::Ready(Ok(0));
        }
        let (to, traffic) = &mut ends.to;
        let written = match Pin::new(&mut **to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            // What is wrong is said once: the next write would only fail.
            Poll::Ready(Err(error)) => {
                self.lose(&error);
                return Poll::Ready(Ok(bytes.len()));
            }
            Poll::Pending => 0,
        };
        traffic.add_sent(written as u64);
        self.written += written as u64;
        self.hold(&bytes[written..]);
        Poll::Ready(Ok(bytes.len()))
    }

    /// The connection that it leads to is gone, as a write has said.
    fn lose(&mut self, error: &io::Error) {
        // The kernel has an error of its own for a reset that follows the peer's end.
        let cut = error.kind() != ErrorKind::BrokenPipe;
        self.phase = Phase::Lost { cut };
        self.held = Held::Nothing;
    }

    fn hold(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.held = Held::Bytes {
                bytes: bytes.into(),
                written: 0,
            };
        }
    }
}
