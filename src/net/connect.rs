//! TCP connections towards servers, with a deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Connects to the first of `addresses` that accepts, all within `limit`; TCP_NODELAY is set.
///
/// Each address may take its share of the time that is left, so that one that swallows packets leaves time for the next.
///
/// # Errors
/// The last address's error (one of this machine's own only if all are), `TimedOut` when it did not answer, `NotFound` when there is no address.
pub async fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = telling(last, attributed(*address, error)),
            Err(_) => {
                last = telling(
                    last,
                    io::Error::new(io::ErrorKind::TimedOut, "connect timeout"),
                );
            }
        }
    }
    Err(last)
}

/// Of the errors of two addresses, the one that tells more about the server: the later, unless it is of our own making.
pub fn telling(earlier: io::Error, later: io::Error) -> io::Error {
    if is_local(&later) && !is_local(&earlier) {
        earlier
    } else {
        later
    }
}

/// The error of connecting to `address`. A machine without IPv6 says of an IPv6 address what it says of IPv4 when it has
/// no port left; but it will never have one, so the address is at fault.
pub fn attributed(address: SocketAddr, error: io::Error) -> io::Error {
    if address.is_ipv6() && Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL) {
        io::Error::new(io::ErrorKind::NetworkUnreachable, "no IPv6 on this machine")
    } else {
        error
    }
}

/// Whether this machine, and not the server, is the reason: no file descriptors, ports or memory left.
pub fn is_local(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [
            Errno::MFILE,
            Errno::NFILE,
            Errno::ADDRNOTAVAIL,
            // What bind(2) says when there is no port left.
            Errno::ADDRINUSE,
            Errno::NOBUFS,
            Errno::NOMEM,
        ]
        .contains(&errno)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: Errno) -> io::Error {
        errno.into()
    }

    #[test]
    fn an_error_of_this_machine_does_not_hide_one_of_the_server() {
        let kept = telling(os(Errno::CONNREFUSED), os(Errno::MFILE));
        assert_eq!(kept.kind(), io::ErrorKind::ConnectionRefused);
        let kept = telling(os(Errno::MFILE), os(Errno::CONNREFUSED));
        assert_eq!(kept.kind(), io::ErrorKind::ConnectionRefused);
        assert!(is_local(&telling(os(Errno::NOMEM), os(Errno::MFILE))));
        let kept = telling(os(Errno::CONNREFUSED), os(Errno::ADDRINUSE));
        assert_eq!(kept.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_machine_without_ipv6_is_no_excuse_for_an_ipv6_server() {
        let v6: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let v4: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert!(!is_local(&attributed(v6, os(Errno::ADDRNOTAVAIL))));
        assert!(is_local(&attributed(v4, os(Errno::ADDRNOTAVAIL))));
    }
}
