//! A client's bytes on their way to the h2 crate, and what is seen in them.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::http2::PREFACE;
use crate::message::h2::{Fault, LAST_WORDS_LENGTH, Limits, Meter};
use crate::net::{Stream, clock};

/// What was seen, for whoever drives the connection.
#[derive(Debug)]
pub struct Seen {
    /// What the connection should be closed for. From then on nothing is read.
    pub fault: Cell<Option<Fault>>,
    /// Since when a header block has not been complete.
    pub unfinished: Cell<Option<Instant>>,
    /// When the last byte came.
    pub heard: Cell<Instant>,
    is_dry: Cell<bool>,
    /// The last bytes that were written, at the end of this.
    pub last_words: Cell<[u8; LAST_WORDS_LENGTH]>,
}

impl Seen {
    /// A turn begins. Within one the socket is not looked at again once it had nothing: the h2 crate would do so for every
    /// stream that it hands out.
    pub fn begin_turn(&self) {
        self.is_dry.set(false);
    }

    fn wrote(&self, bytes: &[u8]) {
        let mut last = [0; LAST_WORDS_LENGTH];
        let length = bytes.len().min(LAST_WORDS_LENGTH);
        last[LAST_WORDS_LENGTH - length..].copy_from_slice(&bytes[bytes.len() - length..]);
        self.last_words.set(last);
    }
}

/// A client's stream, with what was read of it already, and an eye on the frames that it sends.
#[derive(Debug)]
pub struct Metered {
    stream: Rc<RefCell<Stream>>,
    read: BytesMut,
    meter: Meter,
    /// So many bytes of the preface are still to come.
    preface: usize,
    seen: Rc<Seen>,
}

impl Metered {
    /// A stream that will say what it sees. `read` is what was read of it already.
    pub fn new(stream: Rc<RefCell<Stream>>, read: BytesMut) -> (Self, Rc<Seen>) {
        let seen = Rc::new(Seen {
            fault: Cell::new(None),
            unfinished: Cell::new(None),
            heard: Cell::new(clock::now()),
            is_dry: Cell::new(false),
            last_words: Cell::default(),
        });
        let metered = Self {
            stream,
            read,
            meter: Meter::new(Limits::default()),
            preface: PREFACE.len(),
            seen: Rc::clone(&seen),
        };
        (metered, seen)
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.read.is_empty() {
            if this.seen.is_dry.get() {
                return Poll::Pending;
            }
            let polled = Pin::new(&mut *this.stream.borrow_mut()).poll_read(cx, buf);
            this.seen.is_dry.set(polled.is_pending());
            ready!(polled)?;
        } else {
            let length = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read[..length]);
            this.read.advance(length);
        }
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let now = clock::now();
        this.seen.heard.set(now);
        let of_preface = this.preface.min(new.len());
        this.preface -= of_preface;
        let observed = this.meter.observe(&new[of_preface..], now);
        this.seen.unfinished.set(this.meter.unfinished_since());
        if let Err(fault) = observed {
            buf.set_filled(before);
            this.seen.fault.set(Some(fault));
            return Poll::Pending; // whoever polls asks for the fault next
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = polled {
            self.seen.wrote(&buf[..length]);
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_write_vectored(cx, bufs);
        if let (Poll::Ready(Ok(_)), Some(last)) = (&polled, bufs.last()) {
            self.seen.wrote(last);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
