//! Listening sockets: one a worker and address, all bound to the same port with SO_REUSEPORT.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::TcpOptions;

/// Connections that the kernel holds until they are accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds `workers` sockets to one address, so that the kernel spreads connections over the workers.
///
/// The first socket is bound without SO_REUSEPORT for a moment: this is what makes a port that another process of the
/// same user already listens on an error and not a silent share. Port 0 is resolved once and is the same for all.
///
/// # Errors
/// What the kernel says: the address is in use, not on this machine, or needs a privilege.
pub fn listen(
    address: SocketAddr,
    workers: usize,
    options: &TcpOptions,
) -> io::Result<Vec<TcpListener>> {
    drop(bind(address, false, options)?);
    share(address, workers, options)
}

/// The same beside sockets of this process that have the port already, for another address or for all.
///
/// # Errors
/// What the kernel says. That another process of the same user listens there is none.
pub fn share(
    address: SocketAddr,
    workers: usize,
    options: &TcpOptions,
) -> io::Result<Vec<TcpListener>> {
    let mut sockets = vec![bind(address, true, options)?];
    add(&mut sockets, workers, options)?;
    Ok(sockets)
}

/// Makes as many sockets as there are workers of those that another process has bound to one address. It may have more.
///
/// # Errors
/// What the kernel says.
pub fn inherit(
    mut sockets: Vec<TcpListener>,
    workers: usize,
    options: &TcpOptions,
) -> io::Result<Vec<TcpListener>> {
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        SockRef::from(socket).set_tcp_nodelay(true)?;
        options.replace(SockRef::from(socket))?;
    }
    match SockRef::from(&sockets[0]).reuse_port()? {
        true => add(&mut sockets, workers, options)?,
        // The workers share it. The kernel wakes all of them for a connection, and one gets it.
        false => {
            while sockets.len() < workers {
                sockets.push(sockets[0].try_clone()?);
            }
        }
    }
    Ok(sockets)
}

/// Binds more to the same address, until there are `count`.
fn add(sockets: &mut Vec<TcpListener>, count: usize, options: &TcpOptions) -> io::Result<()> {
    let bound = sockets[0].local_addr()?;
    while sockets.len() < count {
        sockets.push(bind(bound, true, options)?);
    }
    Ok(())
}

fn bind(address: SocketAddr, reuse_port: bool, options: &TcpOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier run in TIME_WAIT must not keep a restart from binding.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    // Accepted sockets inherit these, which saves system calls for each of them.
    socket.set_tcp_nodelay(true)?;
    options.set(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    if reuse_port {
        socket.listen(BACKLOG)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: TcpOptions = TcpOptions {
        keep_alive: None,
        user_timeout: None,
    };

    fn listen_on(address: &str, workers: usize) -> io::Result<Vec<TcpListener>> {
        listen(address.parse().unwrap(), workers, &NONE)
    }

    #[test]
    fn all_sockets_share_the_port_that_the_kernel_chose() {
        let sockets = listen_on("127.0.0.1:0", 3).unwrap();
        let ports: Vec<u16> = sockets
            .iter()
            .map(|s| s.local_addr().unwrap().port())
            .collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|p| *p == ports[0]));
    }

    #[test]
    fn sockets_of_another_process_serve_any_number_of_workers() {
        let of_two = listen_on("127.0.0.1:0", 2).unwrap();
        let address = of_two[0].local_addr().unwrap();
        let of_three = inherit(of_two, 3, &NONE).unwrap();
        assert_eq!(of_three.len(), 3);
        let of_one = inherit(of_three, 1, &NONE).unwrap();
        assert_eq!(
            of_one.len(),
            3,
            "none may be closed, connections wait in each"
        );
        assert!(of_one.iter().all(|it| it.local_addr().unwrap() == address));

        let single = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = inherit(vec![single], 2, &NONE).unwrap();
        assert_eq!(shared.len(), 2);
        assert_eq!(
            shared[0].local_addr().unwrap(),
            shared[1].local_addr().unwrap()
        );
    }

    #[test]
    fn accepted_connections_send_without_delay() {
        let sockets = listen_on("127.0.0.1:0", 1).unwrap();
        sockets[0].set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(sockets[0].local_addr().unwrap()).unwrap();
        let (accepted, _) = sockets[0].accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn a_port_in_use_is_an_error_although_both_sides_use_reuseport() {
        let sockets = listen_on("127.0.0.1:0", 1).unwrap();
        let error = listen(sockets[0].local_addr().unwrap(), 1, &NONE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
