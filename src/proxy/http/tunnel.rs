//! What a connection becomes after a switch of protocols (RFC 9110, section 7.8): bytes both ways, WebSocket mostly.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;

use super::attempt::Attempt;
use super::exchange::Exchange;
use crate::net::throttled::Throttled;
use crate::net::{Stream, Throttle};

/// A server's connection that has switched protocols.
#[derive(Debug)]
pub struct ServerSide {
    /// The connection.
    pub stream: Stream,
    /// What the server sent right after its answer.
    pub early: Bytes,
    /// Counts as the server's load as long as the tunnel lasts.
    pub attempt: Attempt,
    /// The upstream's limit for waits without progress.
    pub idle: Duration,
    /// What has bytes from and to the client wait for their turn.
    pub throttles: [Option<Box<Throttle>>; 2],
}

/// A server's side, waiting for the client's to have switched too.
#[derive(Debug)]
pub struct Tunnel {
    /// Where the client's bytes go.
    pub server: Box<ServerSide>,
    /// Ends with the tunnel.
    pub exchange: Box<Exchange>,
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one fails, or nothing has moved for the shorter idle timeout (noticed
    /// after at most twice that time).
    pub async fn run(
        self,
        client: impl AsyncRead + AsyncWrite + Unpin,
        early: Bytes,
        idle: Duration,
    ) {
        let Self {
            server: side,
            mut exchange,
        } = self;
        let idle = idle.min(side.idle);
        let mut server = side.stream.switched();
        let moved = server.moved();
        let [upload, download] = side.throttles;
        let mut client = Throttled::new(client, upload);
        let mut server = Throttled::new(server, download);
        let waiting = [client.waiting(), server.waiting()];
        let carry = async {
            server.write_all(&early).await?;
            client.write_all(&side.early).await?;
            server.flush().await?;
            client.flush().await?;
            copy_bidirectional(&mut client, &mut server).await
        };
        let mut carry = std::pin::pin!(carry);
        let mut seen = moved.get();
        loop {
            match timeout(idle, carry.as_mut()).await {
                Ok(result) => {
                    exchange.complete = result.is_ok();
                    return;
                }
                // A turn that takes so long is nobody's fault.
                Err(_) if waiting.iter().any(|it| it.get()) => {}
                Err(_) if moved.get() == seen => return,
                Err(_) => seen = moved.get(),
            }
        }
    }
}
