//! The client's side of transfers.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::fault::Fault;
use super::load::{Load, at_once, share};
use super::serve::STACK;
use super::wire::{self, Receipt, Work};

/// Which way bytes go.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    pub up: bool,
    pub down: bool,
}

/// Moves the bytes of `load` to a server, or from it, or both at once. Gives the time that it took.
///
/// # Errors
/// When a connection fails, or a byte is lost or changed.
pub fn run(server: SocketAddr, ways: Ways, load: &Load) -> Result<Duration, String> {
    let connect = |_| connect(server, load.patience);
    let work = |stream, number| {
        let bytes = share(load.bytes, load.connections, number);
        let up = if ways.up { bytes } else { 0 };
        let down = if ways.down { bytes } else { 0 };
        transfer(&stream, up, down, number)
    };
    at_once(load.connections, connect, work).map(|(_, elapsed)| elapsed)
}

/// Connects, with nothing that could take longer than `patience`.
pub fn connect(server: SocketAddr, patience: Duration) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

fn transfer(stream: &TcpStream, up: u64, down: u64, seed: u64) -> Result<(), Fault> {
    Work::Transfer { up, down, seed }.send(stream)?;
    let (sent, received) = thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK);
        let sending = thread.spawn_scoped(scope, || {
            let digest = wire::send(stream, up, !seed)?;
            stream.shutdown(Shutdown::Write)?;
            Ok::<_, Fault>(digest)
        })?;
        let received = receive(stream, down);
        if received.is_err() {
            // Nobody reads what is still being sent.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sending.join().expect("sending does not panic");
        Ok::<_, Fault>((sent, received))
    })?;
    // What was wrong with the answer says more than that sending it failed.
    let ((digest, receipt), sent) = (received?, sent?);
    if receipt.arrived != up {
        let arrived = receipt.arrived;
        return Err(Fault::Lost { arrived, sent: up });
    }
    for (direction, is_same) in [
        ("to the server", receipt.up == sent),
        ("from the server", receipt.down == digest),
    ] {
        if !is_same {
            return Err(Fault::Changed { direction });
        }
    }
    Ok(())
}

/// What the server sends: the digest of its bytes, and the receipt that follows them.
fn receive(stream: &TcpStream, down: u64) -> Result<(u64, Receipt), Fault> {
    let (got, digest) = wire::receive(stream, down)?;
    if got < down {
        return Err(Fault::Short { got, of: down });
    }
    let receipt = Receipt::receive(stream).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::NoReceipt,
        _ => error.into(),
    })?;
    wire::expect_end(stream, down)?;
    Ok((digest, receipt))
}
