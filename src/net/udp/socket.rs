//! UDP sockets: those that clients send to, one a worker and address, and those towards servers.
#![expect(
    unsafe_code,
    reason = "there is no safe way to ask for IP_PKTINFO, and the runtime cannot know what it is given"
)]

use std::io;
use std::mem::size_of_val;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes that the kernel holds for a listener's socket until they are read, if `net.core.rmem_max` allows as many.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Binds `workers` sockets to one address with SO_REUSEPORT: the kernel gives all datagrams of a client to the same one, as
/// long as there are as many sockets.
///
/// The first socket is bound without SO_REUSEPORT for a moment: this is what makes a port that another process of the
/// same user already has an error and not a silent share. Port 0 is resolved once and is the same for all.
///
/// # Errors
/// What the kernel says: the address is in use, not on this machine, or needs a privilege.
pub fn listen(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    drop(bind(address, false)?);
    share(address, workers)
}

/// The same beside sockets of this process that have the port already, for another address or for all.
///
/// # Errors
/// What the kernel says. That another process of the same user has it is none.
pub fn share(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = vec![bind(address, true)?];
    add(&mut sockets, workers)?;
    Ok(sockets)
}

/// Makes as many sockets as there are workers of those that another process has bound to one address. It may have more. One
/// without SO_REUSEPORT, such as systemd makes, stays alone: if workers shared it, a client's datagrams would come to any of
/// them.
///
/// # Errors
/// What the kernel says.
pub fn inherit(mut sockets: Vec<UdpSocket>, workers: usize) -> io::Result<Vec<UdpSocket>> {
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        prepare(SockRef::from(socket), socket.local_addr()?)?;
    }
    if SockRef::from(&sockets[0]).reuse_port()? {
        add(&mut sockets, workers)?;
    }
    Ok(sockets)
}

/// Opens a socket that hears from this server only.
///
/// # Errors
/// What the kernel says: there is no way to the server, or no descriptor or port left.
pub fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(server);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// Has the runtime watch a descriptor for something to read.
///
/// # Errors
/// There is no memory for it.
pub fn watch<T: AsRawFd + Into<OwnedFd>>(owner: Arc<T>) -> io::Result<AsyncFd<Arc<T>>> {
    // SAFETY: what can become an `OwnedFd` owns its descriptor, which stays open and the same until it is dropped, and it is
    // not before the `Arc`.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }.map_err(io::Error::from)
}

/// Binds more to the same address, until there are `count`.
fn add(sockets: &mut Vec<UdpSocket>, count: usize) -> io::Result<()> {
    let bound = sockets[0].local_addr()?;
    while sockets.len() < count {
        sockets.push(bind(bound, true)?);
    }
    Ok(())
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    prepare(SockRef::from(&socket), address)?;
    Ok(socket.into())
}

/// Has the kernel say where datagrams were sent to, if that may differ, and hold as many as it may.
fn prepare(socket: SockRef<'_>, address: SocketAddr) -> io::Result<()> {
    if socket.recv_buffer_size()? < RECEIVE_BUFFER {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    if !address.ip().is_unspecified() {
        return Ok(());
    }
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the kernel reads an integer, which is there until the call returns, of the length that is passed.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            length,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_client_has_one_of_the_sockets_to_itself() {
        let sockets = listen(any_port(), 4).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|it| it.local_addr().unwrap() == address));
        for _ in 0..10 {
            let client = UdpSocket::bind(any_port()).unwrap();
            for _ in 0..5 {
                client.send_to(b"?", address).unwrap();
            }
            let received = |socket: &UdpSocket| {
                let all = std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok());
                all.count()
            };
            let mut counts: Vec<usize> = sockets.iter().map(received).collect();
            counts.sort_unstable();
            assert_eq!(counts, [0, 0, 0, 5]);
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_although_both_sides_use_reuseport() {
        let sockets = listen(any_port(), 1).unwrap();
        let error = listen(sockets[0].local_addr().unwrap(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn sockets_of_another_process_serve_any_number_of_workers() {
        let of_two = listen(any_port(), 2).unwrap();
        let of_three = inherit(of_two, 3).unwrap();
        let of_one = inherit(of_three, 1).unwrap();
        assert_eq!(
            of_one.len(),
            3,
            "none may be closed, datagrams wait in each"
        );
        let single = UdpSocket::bind(any_port()).unwrap();
        assert_eq!(inherit(vec![single], 2).unwrap().len(), 1);
    }
}
