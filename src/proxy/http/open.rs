//! What comes before HTTP on a client's connection: a PROXY header, a TLS handshake, and the choice of HTTP's version.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::time::Instant;

use super::client::Client;
use super::connection;
use super::http2;
use super::task::{Facts, Idle};
use crate::net::Transport;
use crate::proxy::local::Local;
use crate::proxy::preamble::{self, Introduction};
use crate::proxy::roster::Place;
use crate::proxy::tcp;
use crate::proxy::tcp::open::Sorted;
use crate::proxy::tcp::session::Session;

/// A client's connection.
#[derive(Debug)]
pub struct Opened {
    /// The socket, with what TLS knows of it.
    pub transport: Transport,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// The worker that serves it.
    pub local: Rc<Local>,
    /// Its task's place in the roster.
    pub place: Place,
    /// Whether nothing has been said on it yet.
    pub is_new: bool,
    /// What else is known of it.
    pub facts: Option<Box<Facts>>,
}

/// What follows when a connection is served no more.
#[derive(Debug)]
pub enum After {
    /// It is closed.
    Closed,
    /// It waits for its next request.
    Idle(Idle),
    /// It is not ours to decrypt: a server has accepted it.
    Passed(Box<Session>),
}

impl From<Option<Idle>> for After {
    fn from(idle: Option<Idle>) -> Self {
        idle.map_or(Self::Closed, Self::Idle)
    }
}

/// Opens a connection until `deadline`, and serves it like [`connection::serve`].
pub async fn open(mut opened: Opened, deadline: Instant) -> After {
    let Transport::Plain(mut tcp) = opened.transport else {
        return After::Closed; // it has been opened
    };
    let local = Rc::clone(&opened.local);
    let view = local.view_for(opened.listener);
    let entry = &view.snapshot.listeners[opened.listener];

    if entry.proxy_protocol {
        let introduced =
            preamble::introduce(&mut tcp, opened.peer, opened.listener, &local, deadline);
        let Some(introduction) = introduced.await else {
            return After::Closed;
        };
        let Introduction {
            client,
            is_unknown,
            destination,
            counted,
        } = introduction;
        opened.peer = client;
        opened.facts = Some(Box::new(Facts {
            counted,
            is_unknown,
            destination,
            presence: None,
        }));
    }
    opened.transport = match &entry.tls {
        None => tcp.into(),
        Some(tls) => {
            let mut early = Vec::new();
            if entry.names.is_some() {
                let mut caller = tcp::open::Caller::new(&local, opened.listener, opened.peer);
                if let Some(facts) = &mut opened.facts {
                    caller.destination = facts.destination;
                    caller.counted = facts.counted.take();
                }
                // Boxed: most listeners have nothing to pass on.
                match Box::pin(tcp::open::sort(caller, &view, tcp, deadline)).await {
                    Sorted::Ours(caller, back, bytes) => {
                        if let Some(facts) = &mut opened.facts {
                            facts.counted = caller.counted;
                        }
                        (tcp, early) = (back, bytes);
                    }
                    Sorted::Passed(session) => return After::Passed(session),
                    Sorted::Refused => return After::Closed,
                }
            }
            match preamble::handshake(tcp, tls, early, deadline).await {
                Ok(transport) => {
                    preamble::count_handshake(entry.stats.shard(local.worker), &transport);
                    transport
                }
                Err((error, tcp)) => {
                    let failures = &entry.stats.shard(local.worker).tls_failures;
                    preamble::refused(entry, opened.peer, &error, failures);
                    if let Some(tcp) = tcp {
                        opened.transport = tcp.into();
                        connection::refuse_plain(opened).await;
                    }
                    return After::Closed;
                }
            }
        }
    };
    if opened.transport.alpn() != Some(http2::ALPN) {
        return Box::pin(connection::serve(opened, BytesMut::new()))
            .await
            .into();
    }
    let place = opened.place;
    let (client, stream) = Client::new(opened);
    let serve = http2::serve(stream, BytesMut::new(), Rc::new(client), place);
    Box::pin(serve).await;
    After::Closed
}
