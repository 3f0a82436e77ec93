//! Sockets that are bound before this process begins: those of the process that it takes over from, or of systemd.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use socket2::{Socket, Type};

use super::listening::Carrier;
use super::upgrade::Place;
use crate::config::model::AdminListen;
use crate::net::inherited;

/// Sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Handed>);

#[derive(Debug)]
struct Handed {
    /// What it was for; unknown of systemd's.
    was: Option<Place>,
    /// Where it listens.
    address: Address,
    socket: OwnedFd,
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

impl Inherited {
    /// The sockets that systemd has bound (sd_listen_fds(3)).
    ///
    /// # Errors
    /// The environment is not as systemd makes it, or one of them is not a socket that clients can send to.
    pub fn from_systemd() -> io::Result<Self> {
        let mut inherited = Self::default();
        for socket in inherited::of_systemd()? {
            inherited.add(None, socket)?;
        }
        Ok(inherited)
    }

    /// Adds a socket, and what it was for.
    ///
    /// # Errors
    /// It is neither a stream socket that listens nor one of UDP.
    pub(super) fn add(&mut self, was: Option<Place>, socket: OwnedFd) -> io::Result<()> {
        let socket = Socket::from(socket);
        let address = address(&socket)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected TCP and Unix sockets that listen, or UDP sockets",
            )
        })?;
        self.0.push(Handed {
            was,
            address,
            socket: socket.into(),
        });
        Ok(())
    }

    /// The sockets of the listener of this name that its configuration bound to this address, or that are bound to it.
    pub fn take(&mut self, listener: &str, address: SocketAddr, carrier: Carrier) -> Vec<OwnedFd> {
        let at = match carrier {
            Carrier::Tcp => Address::Tcp,
            Carrier::Udp => Address::Udp,
        };
        self.take_all(|handed| match (&handed.was, &handed.address) {
            // Of port 0 there may be many.
            (
                Some(Place::Listener { name, address: was }),
                Address::Tcp(bound) | Address::Udp(bound),
            ) if *was == address => {
                handed.address == at(*bound) && (address.port() != 0 || name == listener)
            }
            _ => handed.address == at(address),
        })
    }

    /// The socket of the admin API; `shown` is what its configuration says of it.
    pub fn take_admin(&mut self, listen: &AdminListen, shown: &str) -> Option<OwnedFd> {
        let address = match listen {
            AdminListen::Tcp(address) => Address::Tcp(*address),
            AdminListen::Unix(path) => Address::Unix(path.clone()),
        };
        self.take_all(|handed| match &handed.was {
            Some(Place::Admin { listen }) => listen == shown,
            Some(Place::Listener { .. }) => false,
            None => handed.address == address,
        })
        .pop()
    }

    /// How many are listeners' of another load balancer.
    pub fn of_listeners(&self) -> usize {
        let is_listener = |it: &&Handed| matches!(it.was, Some(Place::Listener { .. }));
        self.0.iter().filter(is_listener).count()
    }

    /// Where those listen that nobody has taken.
    pub fn rest(&self) -> Vec<String> {
        let shown = self.0.iter().map(|handed| match &handed.address {
            Address::Tcp(address) | Address::Udp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        });
        let mut rest: Vec<_> = shown.collect();
        rest.dedup();
        rest
    }

    fn take_all(&mut self, is_wanted: impl Fn(&Handed) -> bool) -> Vec<OwnedFd> {
        let taken = self.0.extract_if(.., |handed| is_wanted(handed));
        taken.map(|handed| handed.socket).collect()
    }
}

/// Where clients reach a socket; nothing if they do not, or if that is neither an IP address nor a path.
fn address(socket: &Socket) -> io::Result<Option<Address>> {
    let address = socket.local_addr()?;
    if socket.r#type()? == Type::DGRAM {
        return Ok(address.as_socket().map(Address::Udp));
    }
    if !socket.is_listener()? {
        return Ok(None);
    }
    let path = || address.as_pathname().map(Path::to_owned);
    let tcp = address.as_socket().map(Address::Tcp);
    Ok(tcp.or_else(|| path().map(Address::Unix)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn bound() -> (TcpListener, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn of(name: &str, address: SocketAddr) -> Option<Place> {
        let name = name.to_owned();
        Some(Place::Listener { name, address })
    }

    #[test]
    fn sockets_go_to_whom_they_belong() {
        let mut inherited = Inherited::default();
        let ((web, web_at), (api, api_at), (plain, plain_at)) = (bound(), bound(), bound());
        inherited.add(of("web", any_port()), web.into()).unwrap();
        inherited.add(of("api", any_port()), api.into()).unwrap();
        inherited.add(None, plain.into()).unwrap();
        let mut take = |name: &str, address| {
            let taken = inherited.take(name, address, Carrier::Tcp).into_iter();
            let addresses = taken.map(|it| TcpListener::from(it).local_addr().unwrap());
            addresses.collect::<Vec<_>>()
        };
        assert_eq!(take("other", any_port()), []);
        assert_eq!(take("api", any_port()), [api_at]);
        assert_eq!(take("api", any_port()), []);
        assert_eq!(take("renamed", web_at), [web_at]);
        assert_eq!(take("plain", plain_at), [plain_at]);
        assert!(inherited.rest().is_empty());
    }

    #[test]
    fn ports_of_udp_are_others_than_those_of_tcp() {
        let mut inherited = Inherited::default();
        let (tcp, at) = bound();
        let udp = UdpSocket::bind(at).unwrap();
        let any = UdpSocket::bind(any_port()).unwrap();
        inherited.add(of("dns", at), tcp.into()).unwrap();
        inherited.add(of("dns", at), udp.into()).unwrap();
        inherited.add(of("dns", any_port()), any.into()).unwrap();
        let mut take = |address, carrier| inherited.take("dns", address, carrier).len();
        assert_eq!(take(any_port(), Carrier::Tcp), 0);
        assert_eq!(take(any_port(), Carrier::Udp), 1);
        assert_eq!((take(at, Carrier::Udp), take(at, Carrier::Udp)), (1, 0));
        assert_eq!(take(at, Carrier::Tcp), 1);
    }

    #[test]
    fn the_admin_api_takes_its_own_and_no_listener_s() {
        let mut inherited = Inherited::default();
        let ((web, web_at), (admin, _), (other, other_at)) = (bound(), bound(), bound());
        let was = Place::Admin {
            listen: "127.0.0.1:0".to_owned(),
        };
        inherited.add(of("web", web_at), web.into()).unwrap();
        inherited.add(Some(was), admin.into()).unwrap();
        inherited.add(None, other.into()).unwrap();
        let mut takes = |address: SocketAddr| {
            let listen = AdminListen::Tcp(address);
            inherited
                .take_admin(&listen, &address.to_string())
                .is_some()
        };
        assert!(!takes(web_at));
        assert!(takes(any_port()));
        assert!(!takes(any_port()));
        assert!(takes(other_at));
    }

    #[test]
    fn only_sockets_that_clients_send_to_are_taken() {
        let mut inherited = Inherited::default();
        let (listening, at) = bound();
        let client = std::net::TcpStream::connect(at).unwrap();
        assert!(inherited.add(None, client.into()).is_err());
        drop(listening);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(inherited.add(None, file.into()).is_err());
        assert!(inherited.rest().is_empty());
    }
}
