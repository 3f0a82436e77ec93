//! The server side.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::both;
use super::wire::{self, Receipt, Work};

/// How many connections are served at once; others are closed.
const MOST_CONNECTIONS: usize = 4096;

/// How long a connection may be without a byte.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to leave a socket alone after it failed, for example because file descriptors ran out.
const PAUSE: Duration = Duration::from_millis(10);

/// Nothing of size is on a stack.
pub const STACK: usize = 128 * 1024;

#[derive(Args)]
pub struct Flags {
    /// Where to listen, for TCP and UDP; port 0 takes a free port and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7001")]
    listen: SocketAddr,
}

/// Serves until SIGTERM or SIGINT. What is under way then is cut off.
#[tokio::main(flavor = "current_thread")]
pub async fn run(flags: &Flags) -> io::Result<()> {
    // Before the first line is printed: who reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (listener, socket) = both::bind(flags.listen)?;
    let address = listener.local_addr()?;
    thread::spawn(move || accept(&listener));
    thread::spawn(move || answer_datagrams(&socket));
    writeln!(io::stdout(), "throughput listening on {address}")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn accept(listener: &TcpListener) {
    // As many as hold it are served.
    let served = Arc::new(());
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if Arc::strong_count(&served) > MOST_CONNECTIONS {
            continue;
        }
        let served = Arc::clone(&served);
        let thread = thread::Builder::new().stack_size(STACK);
        // Without a thread, or after an error, the connection is closed, which the client notices.
        let _ = thread.spawn(move || {
            let _ = serve(&stream);
            drop(served);
        });
    }
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match Work::receive(stream)? {
        Work::Transfer { up, down, seed } => transfer(stream, up, down, seed),
        Work::Requests { size } => answer(stream, size),
    }
}

fn transfer(stream: &TcpStream, up: u64, down: u64, seed: u64) -> io::Result<()> {
    let (received, sent) = thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK);
        // One more than was agreed shows that there are too many.
        let receiving =
            thread.spawn_scoped(scope, || wire::receive(stream, up.saturating_add(1)))?;
        let sent = wire::send(stream, down, seed);
        if sent.is_err() {
            // The client has gone.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let received = receiving.join().expect("reading does not panic");
        io::Result::Ok((received?, sent?))
    })?;
    let receipt = Receipt {
        arrived: received.0,
        up: received.1,
        down: sent,
    };
    receipt.send(stream)
}

fn answer(mut stream: &TcpStream, size: u32) -> io::Result<()> {
    let mut message = vec![0; size as usize];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut datagram = vec![0; 65_535];
    loop {
        let answered = socket
            .recv_from(&mut datagram)
            .and_then(|(length, client)| socket.send_to(&datagram[..length], client));
        if answered.is_err() {
            thread::sleep(PAUSE);
        }
    }
}
