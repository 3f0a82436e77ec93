//! A client's HTTP/2 connection (RFC 9113): its streams, its end, and what it must not do.
//!
//! The h2 crate has frames, HPACK and flow control; `stream.rs` has what becomes of a stream.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::connection::linger;
use super::metered::{Metered, Seen};
use super::stream;
use crate::message::h2::{Fault, Flood, Liveness, Step};
use crate::metrics::Counter;
use crate::net::{Stream, clock};
use crate::proxy::roster::Place;
use crate::proxy::snapshot::ListenerStats;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Its name in TLS.
pub const ALPN: &[u8] = b"h2";

const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What small frames that wait for their server may cost, as the library counts: 256 each, less their length. With its
/// default, some thousand short messages of a gRPC call would end the connection.
const SMALL_FRAMES: usize = 4 * 1024 * 1024;
/// Bytes of an answer that may wait for the client to take them.
const SEND_BUFFER: usize = 64 * 1024;
/// Decoded size of a request's fields, as the RFC counts it; the same as in HTTP/1.1.
const MAX_FIELDS_SIZE: u32 = 32 * 1024;
/// How long a connection that is told to end may take for what is under way no more.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves a connection to its end. `read` is what was read of it already.
pub async fn serve(stream: Stream, read: BytesMut, client: Rc<Client>, place: Place) {
    let stream = Rc::new(RefCell::new(stream));
    let (io, seen) = Metered::new(Rc::clone(&stream), read);
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_FIELDS_SIZE)
        .data_frame_budget(SMALL_FRAMES)
        .enable_connect_protocol()
        .handshake(io);
    let limit = client.listener().timeouts.headers;
    let mut handshake = pin!(handshake);
    let turn = poll_fn(|cx| {
        seen.begin_turn();
        handshake.as_mut().poll(cx)
    });
    let Ok(Ok(mut connection)) = timeout(limit, turn).await else {
        return;
    };
    let mut session = Session {
        written: (0, clock::now()),
        stream: Rc::clone(&stream),
        pings: connection.ping_pong(),
        connection,
        client,
        place,
        seen,
        liveness: Liveness::of_client(),
        streams: Rc::new(Streams {
            open: Cell::new(0),
            idle_since: Cell::new(clock::now()),
        }),
        is_new: true,
        ending: None,
    };
    poll_fn(|cx| session.poll(cx)).await;
    drop(session);
    if let Some(stream) = Rc::into_inner(stream) {
        // Or the close destroys what the client was told last, if it is still sending.
        _ = timeout(GOODBYE, linger(&mut stream.into_inner())).await;
    }
}

struct Session {
    connection: Connection<Metered, Bytes>,
    client: Rc<Client>,
    place: Place,
    seen: Rc<Seen>,
    pings: Option<PingPong>,
    liveness: Liveness,
    streams: Rc<Streams>,
    /// Whether no request has come yet.
    is_new: bool,
    stream: Rc<RefCell<Stream>>,
    /// The bytes that were written, and since when they are so many.
    written: (u64, Instant),
    /// Since when the client has been told that no more streams are taken.
    ending: Option<Instant>,
}

/// What it is time for.
enum Due {
    /// To say that no more streams are taken.
    Goodbye,
    /// To find out whether the client is still there.
    Ping,
    /// To close a connection whose client takes too long for a header block.
    SlowHead,
    /// To close one whose client takes no more of the answers that it has asked for.
    Stalled,
    /// To close one that nobody needs any more, or whose client has gone without a word.
    Close,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.seen.begin_turn();
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failed(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if let Some(fault) = self.seen.fault.take() {
                self.refuse(fault);
                continue;
            }
            match ready!(self.poll_due(cx)) {
                Due::Goodbye => {
                    self.connection.graceful_shutdown();
                    self.ending = Some(clock::now());
                }
                Due::Ping => self.ping(cx),
                Due::SlowHead => self.refuse_slow_head(),
                Due::Stalled => {
                    self.count(|stats| &stats.stalled_answers);
                    return Poll::Ready(());
                }
                Due::Close => return Poll::Ready(()),
            }
        }
    }

    /// Waits until it is time for something.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        let local = &self.client.local;
        if self.ending.is_none() && self.client.is_ending() {
            return Poll::Ready(Due::Goodbye);
        }
        let timeouts = self.client.listener().timeouts;
        let now = clock::now();
        if self.streams.open.get() == 0 && self.connection.has_streams() {
            // The last of an answer waits for the client to take it.
            self.streams.idle_since.set(now);
            let written = self.stream.borrow().sent();
            if written != self.written.0 {
                self.written = (written, now);
            }
            let since = self.written.1;
            return match local.roster.wait(self.place, cx, since + timeouts.idle) {
                true => Poll::Ready(Due::Stalled),
                false => Poll::Pending,
            };
        }
        let idle_since = self.streams.idle_since.get();
        let (mut deadline, mut due) = match (self.streams.open.get(), self.ending) {
            (0, Some(since)) => (idle_since.max(since) + GOODBYE, Due::Close),
            (0, None) => (idle_since + timeouts.keep_alive, Due::Goodbye),
            _ => match self.liveness.step(now, self.seen.heard.get()) {
                Step::Wait(until) => (until, Due::Ping),
                Step::Ask => return Poll::Ready(Due::Ping),
                Step::Close => return Poll::Ready(Due::Close),
            },
        };
        if let Some(since) = self.seen.unfinished.get()
            && since + timeouts.headers < deadline
        {
            (deadline, due) = (since + timeouts.headers, Due::SlowHead);
        }
        if local.roster.wait(self.place, cx, deadline) {
            return Poll::Ready(due);
        }
        Poll::Pending
    }

    fn ping(&mut self, cx: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings {
            _ = pings.poll_pong(cx); // of the last one
            _ = pings.send_ping(Ping::opaque()); // unless that is still awaited
        }
    }

    fn count(&self, counter: impl FnOnce(&ListenerStats) -> &Counter) {
        let listener = self.client.listener();
        counter(listener.stats.shard(self.client.local.worker)).increment();
    }

    /// Takes note of why the h2 crate, or the socket, has ended the connection.
    fn failed(&self, error: &h2::Error) {
        if let Some(flood) = Flood::found_by_library(error, &self.seen.last_words.get()) {
            return self.note_flood(flood);
        }
        let stalled = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if error.get_io().is_some_and(stalled) {
            self.count(|stats| &stats.stalled_answers);
        }
        let listener = self.client.listener();
        tracing::debug!(listener = %listener.name, peer = %self.client.peer, %error, "an HTTP/2 connection has failed");
    }

    fn note_flood(&self, flood: Flood) {
        self.count(|stats| &stats.floods[flood.index()]);
        tracing::warn!(
            listener = %self.client.listener().name, peer = %self.client.peer, flood = flood.name(),
            "a client floods its HTTP/2 connection, which is closed"
        );
    }

    fn refuse(&mut self, fault: Fault) {
        match fault {
            Fault::Flood(flood) => self.note_flood(flood),
            Fault::Preface | Fault::Size => {
                self.count(|stats| &stats.malformed);
                let listener = self.client.listener();
                tracing::debug!(listener = %listener.name, peer = %self.client.peer, %fault, "a client sent what is no HTTP/2");
            }
        }
        self.close(fault.reason());
    }

    fn refuse_slow_head(&mut self) {
        self.count(|stats| &stats.header_timeouts);
        tracing::info!(
            listener = %self.client.listener().name, peer = %self.client.peer,
            "a client takes too long for a request's headers"
        );
        self.seen.unfinished.set(None);
        self.close(Reason::ENHANCE_YOUR_CALM);
    }

    /// Closes the connection once the client has been told why.
    fn close(&mut self, reason: Reason) {
        self.connection.abrupt_shutdown(reason);
        self.ending = Some(clock::now());
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let is_first = std::mem::take(&mut self.is_new);
        let answer = stream::answer(Rc::clone(&self.client), request, respond, is_first);
        let Some(answer) = answer else {
            return;
        };
        // Boxed, as what is spawned is moved several times, and all of it.
        let mut answer = Box::pin(answer);
        let open = Open::new(&self.streams);
        spawn_local(async move {
            poll_fn(|cx| clock::turn(|| answer.as_mut().poll(cx))).await;
            drop(open);
        });
    }
}

/// The streams of a connection.
struct Streams {
    /// So many have a task.
    open: Cell<usize>,
    /// Since when there have been none, if there are none.
    idle_since: Cell<Instant>,
}

/// A stream that has a task.
struct Open(Rc<Streams>);

impl Open {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(Rc::clone(streams))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Streams { open, idle_since } = &*self.0;
        open.set(open.get() - 1);
        if open.get() == 0 {
            idle_since.set(clock::now());
        }
    }
}
