//! A TCP listener and a UDP socket with one address: what the servers of any protocol listen on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// How many free ports of TCP are tried until one is free for UDP, too.
const TRIES: usize = 32;

/// Binds both; with port 0, to a port that is free for both.
///
/// # Errors
/// When the address cannot be listened on; the error names it.
pub fn bind(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        tries += 1;
        match bind_once(address) {
            Ok(bound) => return Ok(bound),
            Err(_) if address.port() == 0 && tries < TRIES => {}
            Err(error) => {
                let text = format!("cannot listen on {address}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
}

fn bind_once(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let listener = TcpListener::bind(address)?;
    let socket = UdpSocket::bind(listener.local_addr()?)?;
    Ok((listener, socket))
}
