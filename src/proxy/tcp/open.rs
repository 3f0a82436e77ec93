//! What comes before the bytes that are passed on: a PROXY header, a ClientHello that tells where to, or a TLS handshake.

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::connect::{Accepted, Call};
use super::hello::{self, HelloError};
use super::reason::Reason;
use super::session::{Record, Session};
use crate::listener::Counted;
use crate::net::bandwidth::Direction;
use crate::net::{Relay, Tcp, Traffic, Transport, clock};
use crate::proxy::bandwidth;
use crate::proxy::local::Local;
use crate::proxy::preamble::{self, Introduction};
use crate::proxy::view::View;
use crate::upstream::Announced;

/// A fatal alert of TLS, in a record: `unrecognized_name` (RFC 6066, section 3; RFC 8446, sections 5.1 and 6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Who wants to be connected.
#[derive(Debug)]
pub struct Caller {
    /// The worker.
    pub local: Rc<Local>,
    /// Index into the snapshots' listeners.
    pub listener: usize,
    /// Its address, by the word of a PROXY header if there was one.
    pub client: SocketAddr,
    /// Where it thinks it is connected to, by the same word.
    pub destination: Option<SocketAddr>,
    /// Counts it for its address.
    pub counted: Option<Counted>,
    /// When it came.
    pub since: Instant,
}

/// What a ClientHello comes to.
#[derive(Debug)]
pub enum Sorted {
    /// It is for nobody in the tables: who has read these bytes of it has to answer.
    Ours(Caller, Tcp, Vec<u8>),
    /// A server has accepted it.
    Passed(Box<Session>),
    /// It is closed.
    Refused,
}

impl Caller {
    /// A client that has come just now.
    pub fn new(local: &Rc<Local>, listener: usize, client: SocketAddr) -> Self {
        Self {
            local: Rc::clone(local),
            listener,
            client,
            destination: None,
            counted: None,
            since: clock::now(),
        }
    }

    fn record(&self) -> Record {
        Record::open(&self.local, self.listener, self.client.ip(), self.since)
    }
}

/// Opens a connection to a listener of TCP, and connects it. `None` if it is closed.
pub async fn open(mut caller: Caller, mut tcp: Tcp) -> Option<Box<Session>> {
    let local = Rc::clone(&caller.local);
    let view = local.view_for(caller.listener);
    let entry = &view.snapshot.listeners[caller.listener];
    let deadline = caller.since + entry.timeouts.tls_handshake;
    if entry.proxy_protocol {
        let introduced =
            preamble::introduce(&mut tcp, caller.client, caller.listener, &local, deadline);
        let Introduction {
            client,
            destination,
            counted,
            ..
        } = introduced.await?;
        caller.client = client;
        caller.destination = destination;
        caller.counted = counted;
    }
    let mut early = Vec::new();
    if entry.names.is_some() {
        match Box::pin(sort(caller, &view, tcp, deadline)).await {
            Sorted::Ours(back, socket, bytes) => (caller, tcp, early) = (back, socket, bytes),
            Sorted::Passed(session) => return Some(session),
            Sorted::Refused => return None,
        }
    }
    let mut transport = match &entry.tls {
        None => tcp.into(),
        Some(tls) => {
            let stats = entry.stats.shard(local.worker);
            let early = mem::take(&mut early);
            match Box::pin(preamble::handshake(tcp, tls, early, deadline)).await {
                Ok(transport) => {
                    preamble::count_handshake(stats, &transport);
                    transport
                }
                Err((error, _)) => {
                    preamble::refused(entry, caller.client, &error, &stats.tls_failures);
                    return None;
                }
            }
        }
    };
    let mut record = caller.record();
    match entry.upstream {
        Some(upstream) => pass(caller, record, &view, upstream, transport, early).await,
        None => {
            record.named(hello::name_in(&early).as_deref());
            record.refuse(Reason::NoRoute);
            // A new socket has room for it; whoever has left need not hear it.
            _ = transport.write_all(&UNRECOGNIZED_NAME).await;
            None
        }
    }
}

/// Reads a ClientHello until `deadline`, and connects its client if it is for somebody in the listener's tables.
pub async fn sort(caller: Caller, view: &Rc<View>, mut tcp: Tcp, deadline: Instant) -> Sorted {
    let entry = &view.snapshot.listeners[caller.listener];
    let said = match hello::read(&mut tcp, deadline).await {
        Ok(said) => said,
        // Who would end TLS tells the client what is wrong.
        Err(HelloError::Invalid(_, bytes)) if entry.tls.is_some() => {
            return Sorted::Ours(caller, tcp, bytes);
        }
        Err(error) => {
            match entry.tls {
                _ if matches!(error, HelloError::Gone) => {}
                Some(_) => entry
                    .stats
                    .shard(caller.local.worker)
                    .tls_failures
                    .increment(),
                None => caller.record().refuse(Reason::BadHello),
            }
            let peer = caller.client;
            tracing::debug!(listener = %entry.name, %peer, %error, "a connection was not opened");
            return Sorted::Refused;
        }
    };
    let Some(upstream) = entry.names.as_ref().and_then(|it| it.find(&said.hello)) else {
        return Sorted::Ours(caller, tcp, said.bytes);
    };
    let mut record = caller.record();
    record.named(said.hello.name.as_deref());
    let passed = pass(caller, record, view, upstream, tcp.into(), said.bytes).await;
    passed.map_or(Sorted::Refused, Sorted::Passed)
}

/// Connects a client to a server of an upstream, which gets `early` first. A client that nobody accepts is reset.
async fn pass(
    caller: Caller,
    mut record: Record,
    view: &Rc<View>,
    upstream: usize,
    transport: Transport,
    early: Vec<u8>,
) -> Option<Box<Session>> {
    let local = &caller.local;
    let entry = &view.snapshot.listeners[caller.listener];
    let announces = view.upstreams[upstream].settings().announces.is_some();
    // Not asked for in vain: it is a system call.
    let announced = announces.then(|| {
        let socket = transport.tcp().socket();
        let own = || socket?.local_addr().ok()?.as_socket();
        Announced::new(caller.client, caller.destination.or_else(own))
    });
    let call = Call {
        local,
        view,
        upstream,
        client: caller.client.ip(),
        announced,
    };
    let (called, accepted) = call.connect().await;
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(reason) => {
            record.called(called, Duration::ZERO);
            record.refuse(reason);
            transport.tcp().reset_on_close();
            return None;
        }
    };
    let Accepted {
        transport: server,
        traffic,
        flight,
        took,
    } = accepted;
    record.called(called, took);
    let counts = Traffic::new(Arc::clone(&entry.bytes), local.worker);
    let to = (&view.upstreams[upstream].shared, &flight.endpoint().shared);
    let throttles = Direction::ALL.map(|direction| {
        let client = caller.client.ip();
        bandwidth::throttle(&entry.bandwidth, to.0, to.1, client, direction)
    });
    let relay = Relay::new((transport, counts), (server, traffic), early).throttled(throttles);
    let limits = (entry.timeouts.idle, entry.timeouts.half_closed);
    Some(Session::new(relay, limits, record, flight, caller.counted))
}
