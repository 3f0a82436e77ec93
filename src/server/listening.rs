//! A listener's socket, of TCP or of UDP.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

/// What carries bytes: each of them has ports of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A socket that clients send to.
#[derive(Debug, Clone)]
pub enum Listening {
    /// It accepts connections.
    Tcp(Arc<TcpListener>),
    /// It receives datagrams.
    Udp(Arc<UdpSocket>),
}

/// The same, as long as somebody else has it.
#[derive(Debug, Clone)]
pub enum WeakListening {
    /// It accepts connections.
    Tcp(Weak<TcpListener>),
    /// It receives datagrams.
    Udp(Weak<UdpSocket>),
}

impl Listening {
    /// Where it is bound.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
    }

    /// Knows it, and does not keep it open.
    pub fn downgrade(&self) -> WeakListening {
        match self {
            Self::Tcp(socket) => WeakListening::Tcp(Arc::downgrade(socket)),
            Self::Udp(socket) => WeakListening::Udp(Arc::downgrade(socket)),
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

impl WeakListening {
    /// Keeps it open, if it is.
    pub fn upgrade(&self) -> Option<Listening> {
        match self {
            Self::Tcp(socket) => socket.upgrade().map(Listening::Tcp),
            Self::Udp(socket) => socket.upgrade().map(Listening::Udp),
        }
    }
}
