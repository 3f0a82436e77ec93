//! One connection without TLS.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Server;

/// What is read at once.
pub const PIECE: usize = 64 * 1024;

/// How long a connection has been quiet when it is ended with the server.
const QUIET: Duration = Duration::from_millis(100);

/// Tells a connection that the server ends; the server waits for those who hold one.
pub struct Ending(pub watch::Receiver<bool>);

impl Ending {
    /// Reads what comes next; nothing at the end of what the client sends, or when the server ends and the client is quiet.
    pub async fn read(&mut self, stream: &mut TcpStream, piece: &mut [u8]) -> io::Result<usize> {
        tokio::select! {
            biased;
            read = stream.read(piece) => read,
            () = self.quiet() => Ok(0),
        }
    }

    async fn quiet(&mut self) {
        // An error says that the server has ended altogether.
        let _ = self.0.wait_for(|&ending| ending).await;
        sleep(QUIET).await;
    }
}

/// Sends back what comes, until the client has sent all.
pub async fn echo(mut stream: TcpStream, server: &Server, mut ending: Ending) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = ending.read(&mut stream, &mut piece).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        if !server.delay.is_zero() {
            sleep(server.delay).await;
        }
        stream.write_all(&piece[..length]).await?;
        server.counts.bytes.add(length);
    }
}
