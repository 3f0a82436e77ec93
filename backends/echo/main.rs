//! A server that sends back what it gets, over TCP and UDP on one address: flags, sockets and the end.
//!
//! [`tcp`], [`tls`] and [`udp`] have one way to do so each; [`counts`] is what it says when it ends. It knows no protocol,
//! and so stands for any.

#[path = "../both.rs"]
mod both;
mod counts;
mod tcp;
mod tls;
mod udp;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use counts::Counts;
use tcp::Ending;

/// How long connections may go on after SIGTERM or SIGINT.
const GRACE: Duration = Duration::from_secs(2);

/// How long to leave a socket alone after it failed, for example because file descriptors ran out.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends back what it gets, over TCP and UDP on one address.
///
/// A client that closes its sending side gets all that it has sent, and then the end. SIGTERM and SIGINT end it: no new
/// connections are taken, those that are quiet end, the others do after 2 s. It then says what it has counted.
#[derive(Parser)]
#[command(name = "echo", version)]
struct Flags {
    /// Where to listen, for TCP and UDP; port 0 takes a free port and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,

    /// Speaks TLS over TCP, with this certificate and its key, in PEM
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    tls: Option<Vec<PathBuf>>,

    /// Milliseconds that what has come waits before it is sent back
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
}

/// What all connections share.
struct Server {
    delay: Duration,
    tls: Option<Arc<ServerConfig>>,
    counts: Counts,
}

fn main() -> ExitCode {
    match serve(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(flags: Flags) -> io::Result<()> {
    // Before the first line is printed: who reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let server = Arc::new(Server {
        delay: Duration::from_millis(flags.delay),
        tls: match flags.tls.as_deref() {
            Some([cert, key]) => Some(tls::configuration(cert, key)?),
            _ => None,
        },
        counts: Counts::default(),
    });
    let (listener, socket) = both::bind(flags.listen)?;
    listener.set_nonblocking(true)?;
    socket.set_nonblocking(true)?;
    let (listener, socket) = (
        TcpListener::from_std(listener)?,
        UdpSocket::from_std(socket)?,
    );
    writeln!(io::stdout(), "echo listening on {}", listener.local_addr()?)?;

    let stop = watch::Sender::new(false);
    let open = tokio::select! {
        _ = terminate.recv() => end(listener, &stop).await,
        _ = interrupt.recv() => end(listener, &stop).await,
        never = accept(&listener, &server, &stop) => match never {},
        never = udp::echo(&socket, server.delay, &server.counts) => match never {},
    };
    writeln!(
        io::stdout(),
        "echo ended: {}, unfinished {open}",
        server.counts
    )
}

/// Has the connections end, and says how many had to be cut off.
async fn end(listener: TcpListener, stop: &watch::Sender<bool>) -> usize {
    drop(listener);
    stop.send_replace(true);
    // Every connection holds a receiver, so the channel closes with the last of them.
    let _ = timeout(GRACE, stop.closed()).await;
    stop.receiver_count()
}

async fn accept(
    listener: &TcpListener,
    server: &Arc<Server>,
    stop: &watch::Sender<bool>,
) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        server.counts.connections.add(1);
        let (server, ending) = (Arc::clone(server), Ending(stop.subscribe()));
        tokio::spawn(async move {
            // A failure here only costs latency.
            let _ = stream.set_nodelay(true);
            let echoed = match &server.tls {
                None => tcp::echo(stream, &server, ending).await,
                Some(config) => tls::echo(stream, Arc::clone(config), &server, ending).await,
            };
            if echoed.is_err() {
                server.counts.broken.add(1);
            }
        });
    }
}
