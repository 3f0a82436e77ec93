//! Servers and clients of UDP.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::DEADLINE;

/// How soon a server notices that it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Room for the longest datagram.
const LONGEST: usize = 1 << 16;

/// A server that answers datagrams until it is dropped. Nobody listens at its address then.
pub struct UdpServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    received: AtomicUsize,
    peers: Mutex<HashSet<SocketAddr>>,
}

impl UdpServer {
    /// Answers each datagram with what `answer` makes of it.
    pub fn start(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answer)
    }

    /// The same at this address.
    pub fn start_at(
        addr: impl std::net::ToSocketAddrs,
        answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        Self::start_with(addr, move |datagram, _| answer(datagram))
    }

    fn start_with(
        addr: impl std::net::ToSocketAddrs,
        answer: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(addr).expect("a free port");
        socket.set_read_timeout(Some(LOOK)).expect("a socket");
        let addr = socket.local_addr().expect("a bound socket");
        let shared = Arc::<Shared>::default();
        let its = Arc::clone(&shared);
        let thread = thread::spawn(move || its.serve(&socket, answer));
        Self {
            addr,
            shared,
            thread: Some(thread),
        }
    }

    /// Gives back what it gets.
    pub fn echo() -> Self {
        Self::start(|datagram| vec![datagram.to_vec()])
    }

    /// Gives back what it gets, but for `which?`: that it answers with the port that this came from.
    pub fn telling_ports() -> Self {
        Self::start_with("127.0.0.1:0", |datagram, peer| match datagram {
            b"which?" => vec![peer.port().to_string().into()],
            _ => vec![datagram.to_vec()],
        })
    }

    /// Answers everything with its name.
    pub fn named(name: &'static str) -> Self {
        Self::start(|_| vec![name.into()])
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many datagrams it got.
    pub fn received(&self) -> usize {
        self.shared.received.load(Relaxed)
    }

    /// From how many addresses and ports.
    pub fn peers(&self) -> usize {
        self.shared.peers.lock().expect("no panic").len()
    }
}

impl Shared {
    fn serve(&self, socket: &UdpSocket, answer: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>>) {
        let mut space = vec![0; LONGEST];
        while !self.ends.load(Relaxed) {
            match socket.recv_from(&mut space) {
                Ok((length, peer)) => {
                    self.peers.lock().expect("no panic").insert(peer);
                    self.received.fetch_add(1, Relaxed);
                    for answer in answer(&space[..length], peer) {
                        // The proxy may have ended.
                        _ = socket.send_to(&answer, peer);
                    }
                }
                Err(error) => assert!(is_timeout(&error), "{error}"),
            }
        }
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// A client with an address and port of its own.
pub struct UdpClient(UdpSocket);

impl UdpClient {
    /// A client of the proxy at `addr`.
    pub fn of(addr: SocketAddr) -> Self {
        Self::from([127, 0, 0, 1], addr)
    }

    /// The same from this address.
    pub fn from(ip: impl Into<IpAddr>, addr: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip.into(), 0)).expect("a free port");
        socket.connect(addr).expect("a way to the proxy");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        Self(socket)
    }

    pub fn send(&self, datagram: impl AsRef<[u8]>) {
        self.0.send(datagram.as_ref()).expect("sent");
    }

    /// The next answer.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        self.try_receive().expect("an answer")
    }

    /// The next answer, if it comes in time.
    pub fn try_receive(&self) -> io::Result<Vec<u8>> {
        let mut space = vec![0; LONGEST];
        let length = self.0.recv(&mut space)?;
        space.truncate(length);
        Ok(space)
    }

    /// Whether there is an answer already, or soon. Of no use but where each client has been decided upon.
    pub fn has_answer(&self) -> bool {
        self.0.set_read_timeout(Some(10 * LOOK)).expect("a socket");
        let answer = self.try_receive();
        self.0.set_read_timeout(Some(DEADLINE)).expect("a socket");
        answer.is_ok()
    }

    /// The answer to a datagram.
    #[track_caller]
    pub fn ask(&self, datagram: impl AsRef<[u8]>) -> String {
        self.send(datagram);
        String::from_utf8(self.receive()).expect("text")
    }

    /// The answer to a datagram, which is sent again until there is one. What was sent before may be answered too.
    #[track_caller]
    pub fn insist(&self, datagram: impl AsRef<[u8]>) -> String {
        let often = Duration::from_millis(50);
        self.0.set_read_timeout(Some(often)).expect("a socket");
        let end = std::time::Instant::now() + DEADLINE;
        let answer = loop {
            self.send(datagram.as_ref());
            match self.try_receive() {
                Ok(answer) => break answer,
                Err(error) => assert!(is_timeout(&error), "{error}"),
            }
            assert!(std::time::Instant::now() < end, "no answer");
        };
        self.0.set_read_timeout(Some(DEADLINE)).expect("a socket");
        String::from_utf8(answer).expect("text")
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
