//! A socket with what has been read of it and what is to be written.
//!
//! It holds no buffer while it waits for bytes: a connection that is idle, or waits for a slow server, costs little more
//! than its socket.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::head::Scan;
use super::write_request::write_chunk_size;
use crate::net::Stream;

/// Size of the first read of a message, in bytes, and of the largest. A read that fills its buffer makes the next one
/// four times as large: what comes in drops gets no large buffers.
const FIRST_READ: usize = 8 * 1024;
const LARGEST_READ: usize = 128 * 1024;

thread_local! {
    static FIRST: RefCell<Box<[u8]>> = RefCell::new(vec![0; FIRST_READ].into());
}

/// Up to this size, in bytes, parts of a message are copied together rather than written one by one.
const COALESCED: usize = 16 * 1024;

/// A socket and its buffers.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: Stream,
    /// What has been read and not been used.
    pub input: BytesMut,
    /// How much of that was looked at for a head.
    pub scan: Scan,
    /// What is to be written.
    pub output: Output,
    next_read: usize,
}

impl Wire {
    /// A wire of which nothing has been read.
    pub fn new(stream: Stream) -> Self {
        Self::with_input(stream, BytesMut::new())
    }

    /// A wire of which this has been read.
    pub fn with_input(mut stream: Stream, input: BytesMut) -> Self {
        stream.add_received(input.len());
        Self {
            stream,
            input,
            scan: Scan::default(),
            output: Output::default(),
            next_read: FIRST_READ,
        }
    }

    /// Reads some bytes into the input; 0 at the connection's end.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.next_read == FIRST_READ {
            return self.poll_first_read(cx);
        }
        if self.stream.transport().poll_readable(cx)?.is_pending() {
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            return Poll::Pending;
        }
        if self.input.capacity() - self.input.len() < self.next_read / 2 {
            self.input.reserve(self.next_read);
        }
        let room = self.input.capacity() - self.input.len();
        let read = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
        if read == room {
            self.next_read = (self.next_read * 4).min(LARGEST_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// Reads into the thread's own buffer: most messages are small, and should hold no more than their size.
    fn poll_first_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (stream, input) = (&mut self.stream, &mut self.input);
        let read = ready!(poll_first_read(stream, cx, |read| {
            input.extend_from_slice(read)
        }))?;
        if read == FIRST_READ {
            self.next_read *= 4;
        }
        Poll::Ready(Ok(read))
    }

    /// Writes all of the output.
    ///
    /// # Errors
    /// The socket's; `TimedOut` if the peer does not read.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, output, .. } = self;
        while !output.is_empty() {
            let stream = Pin::new(&mut *stream);
            let head = &output.head[output.written..];
            let written = if output.data.is_empty() && output.tail.is_empty() {
                ready!(stream.poll_write(cx, head))?
            } else {
                let slices = [head, &output.data, output.tail].map(IoSlice::new);
                ready!(stream.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            output.advance(written);
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Whether all of the output has been taken by the kernel.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty() && self.stream.is_flushed()
    }

    /// Whether nothing is under way: nothing read, nothing to be written, and the peer has sent nothing and keeps the
    /// connection open. Has the task woken when that changes.
    pub fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        self.input.is_empty() && self.is_flushed() && self.stream.transport().poll_silent(cx)
    }

    /// Prepares it for the next message, which may be long in coming.
    pub fn rest(&mut self) {
        self.next_read = FIRST_READ;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = Output::default();
        }
    }
}

/// Reads what may be the beginning of a message, without a buffer of one's own; gives its length.
///
/// # Errors
/// The socket's.
pub fn poll_first_read(
    socket: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    FIRST.with_borrow_mut(|first| {
        let mut buffer = ReadBuf::new(first);
        ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
        take(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

/// What is to be written: `head` from `written` on, then `data`, then `tail`.
#[derive(Debug, Default)]
pub struct Output {
    /// Heads and small parts.
    pub head: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Output {
    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether it should be written before more is added.
    pub fn is_full(&self) -> bool {
        !self.data.is_empty() || !self.tail.is_empty() || self.head.len() >= COALESCED
    }

    /// Adds a part of a body, as a chunk or as it is. It must not be full, lest parts pass each other.
    pub fn add(&mut self, data: Bytes, chunked: bool) {
        if data.is_empty() {
            return; // an empty chunk would be the last
        }
        let tail: &[u8] = if chunked {
            write_chunk_size(&mut self.head, data.len());
            b"\r\n"
        } else {
            b""
        };
        if data.len() <= COALESCED {
            self.head.extend_from_slice(&data);
            self.head.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// Ends a body.
    pub fn end(&mut self, chunked: bool) {
        match (chunked, self.tail) {
            (false, _) => {}
            (true, b"") => self.head.extend_from_slice(b"0\r\n\r\n"),
            // What is left of the last chunk's line break comes first.
            (true, b"\n") => self.tail = b"\n0\r\n\r\n",
            (true, _) => self.tail = b"\r\n0\r\n\r\n",
        }
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len() - self.written);
        self.written += of_head;
        let of_data = (written - of_head).min(self.data.len());
        // Not `advance`: what is empty should not hold on to a buffer.
        self.data = if of_data == self.data.len() {
            Bytes::new()
        } else {
            self.data.slice(of_data..)
        };
        self.tail = &self.tail[written - of_head - of_data..];
        if self.written == self.head.len() {
            self.head.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written when each write takes at most `step` bytes.
    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let parts = [&output.head[output.written..], &output.data, output.tail].concat();
            let taken = step.min(parts.len());
            all.extend_from_slice(&parts[..taken]);
            output.advance(taken);
        }
        all
    }

    #[test]
    fn nothing_overtakes_what_a_write_has_left_wherever_it_stopped() {
        let large = Bytes::from(vec![b'x'; COALESCED + 1]);
        let chunk = [b"4001\r\n", &*large, b"\r\n"].concat();
        for stop in 0..=chunk.len() {
            let mut output = Output::default();
            output.add(large.clone(), true);
            output.advance(stop);
            assert_eq!(output.is_full(), stop < chunk.len(), "{stop}");
            output.end(true);
            let rest = [&chunk[stop..], b"0\r\n\r\n"].concat();
            assert_eq!(written(&mut output, usize::MAX), rest, "{stop}");
        }
    }

    #[test]
    fn all_is_written_in_order_however_little_a_write_takes() {
        let large = Bytes::from(vec![b'x'; COALESCED + 1]);
        for step in [1, 2, 3, 7, 1000, usize::MAX] {
            let mut output = Output::default();
            output.head.extend_from_slice(b"head");
            output.add(Bytes::from_static(b"ab"), true);
            output.add(Bytes::new(), true);
            assert!(!output.is_full());
            output.add(large.clone(), true);
            assert!(output.is_full());
            output.end(true);
            let expected = [b"head2\r\nab\r\n4001\r\n", &*large, b"\r\n0\r\n\r\n"].concat();
            assert_eq!(written(&mut output, step), expected, "by {step}");

            output.add(large.clone(), false);
            output.end(false);
            assert_eq!(written(&mut output, step), large, "by {step}");
            output.end(true);
            assert_eq!(written(&mut output, step), b"0\r\n\r\n");
        }
    }
}
