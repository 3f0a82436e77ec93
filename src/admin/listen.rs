//! The admin listener: binding it, and serving its connections.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::AdminState;
use super::api::router;
use super::auth::Access;
use crate::config::model::AdminListen;
use crate::net::unix::{self, SocketFile};

/// Connections that are served at once; more wait to be accepted.
pub(super) const MAX_CONNECTIONS: usize = 128;

/// How long a connection may take to send a request's headers, counted from the end of the request before.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A bound admin listener.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixSocket),
}

/// A bound Unix socket. Its file is removed on drop.
#[derive(Debug)]
pub struct UnixSocket {
    // Dropped first: as long as somebody listens, nobody takes the path for a stale one and puts a file of its own there.
    file: Arc<SocketFile>,
    listener: UnixListener,
}

/// A second descriptor of the admin listener, for a process that takes over.
#[derive(Debug)]
pub struct SharedSocket {
    descriptor: OwnedFd,
    file: Weak<SocketFile>,
}

impl Socket {
    /// Lets the socket be handed to another process while this one serves it.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn share(&self) -> io::Result<SharedSocket> {
        Ok(match self {
            Self::Tcp(listener) => SharedSocket {
                descriptor: listener.try_clone()?.into(),
                file: Weak::new(),
            },
            Self::Unix(UnixSocket { file, listener }) => SharedSocket {
                descriptor: listener.try_clone()?.into(),
                file: Arc::downgrade(file),
            },
        })
    }

    /// The listener of another process, which was bound as `listen` says.
    ///
    /// # Errors
    /// It cannot be made one that does not block.
    pub fn inherit(listen: &AdminListen, descriptor: OwnedFd) -> io::Result<Self> {
        match listen {
            AdminListen::Tcp(_) => {
                let listener = TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            AdminListen::Unix(path) => {
                let listener = UnixListener::from(descriptor);
                listener.set_nonblocking(true)?;
                let file = Arc::new(SocketFile::new(path));
                Ok(Self::Unix(UnixSocket { file, listener }))
            }
        }
    }
}

impl SharedSocket {
    /// The descriptor that the other process gets.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The other process has it, and looks after its file.
    pub fn handed_over(&self) {
        if let Some(file) = self.file.upgrade() {
            file.keep();
        }
    }
}

/// Binds the admin listener.
///
/// A Unix socket gets mode 0600. A socket file that nobody listens on, such as a killed process leaves, is replaced.
///
/// # Errors
/// The address cannot be bound: `AddrInUse` if another process listens there, or if the path is not a socket's.
pub fn bind(listen: &AdminListen) -> io::Result<Socket> {
    match listen {
        AdminListen::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Tcp(listener))
        }
        AdminListen::Unix(path) => {
            if unix::is_stale(path) {
                fs::remove_file(path)?;
            }
            let (file, listener) = unix::bind(path)?;
            let file = Arc::new(file);
            Ok(Socket::Unix(UnixSocket { file, listener }))
        }
    }
}

/// Serves the admin API. When `closing` resolves it accepts no more connections, and serves those that it has. Dropping
/// the future closes the socket and its connections, and removes a Unix socket's file; a change of servers that has begun
/// goes on to its end.
///
/// # Errors
/// The runtime cannot watch the socket.
pub async fn serve(
    socket: Socket,
    state: Arc<AdminState>,
    closing: impl Future<Output = ()>,
) -> io::Result<()> {
    match socket {
        Socket::Tcp(socket) => {
            let access = state.token.clone().map_or(Access::Loopback, Access::Token);
            let mut listener = tokio::net::TcpListener::from_std(socket)?;
            serve_connections(&mut listener, router(state, access), closing).await;
        }
        Socket::Unix(UnixSocket { file, listener }) => {
            let access = state.token.clone().map_or(Access::Socket, Access::Token);
            let mut listener = tokio::net::UnixListener::from_std(listener)?;
            let _removed_before_it_closes = file;
            serve_connections(&mut listener, router(state, access), closing).await;
        }
    }
    Ok(())
}

/// In place of `axum::serve`, which bounds neither the number of connections nor the time they may idle.
async fn serve_connections(
    listener: &mut impl Listener,
    router: Router,
    closing: impl Future<Output = ()>,
) {
    let mut closing = pin!(closing);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let stream = tokio::select! {
            (stream, _) = listener.accept() => stream,
            () = &mut closing => break,
        };
        while connections.try_join_next().is_some() {}
        let router = router.clone();
        let service = service_fn(move |request| router.clone().oneshot(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(async {
            // Its errors are the client's: it went away, was too slow, or did not speak HTTP.
            _ = connection.await;
        });
    }
    while connections.join_next().await.is_some() {}
}
