//! The admin listener: binding it, and serving its connections.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Type};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::AdminState;
use super::api::router;
use super::auth::Access;
use crate::config::model::AdminListen;

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
    file: SocketFile,
    listener: UnixListener,
}

/// The file of a Unix socket, removed on drop.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            inode: inode(path),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever removed the file by hand may have put another one there.
        if self.inode.is_some() && inode(&self.path) == self.inode {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// What tells a file from others: its device and number.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
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
            if is_stale(path) {
                fs::remove_file(path)?;
            }
            bind_unix(path).map(Socket::Unix)
        }
    }
}

/// Whether a socket file is there on which nobody listens.
fn is_stale(path: &Path) -> bool {
    // Connecting to a file that is no socket is refused as well.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    is_socket
        && UnixStream::connect(path).is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused)
}

fn bind_unix(path: &Path) -> io::Result<UnixSocket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path);
    // Nobody can connect before `listen`: there is no moment at which others could slip in.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    socket.listen(128)?;
    let listener = OwnedFd::from(socket).into();
    Ok(UnixSocket { file, listener })
}

/// Serves the admin API for ever. Dropping the future closes the socket and its connections, and removes a Unix
/// socket's file; a change of servers that has begun goes on to its end.
///
/// # Errors
/// The runtime cannot watch the socket.
pub async fn serve(socket: Socket, state: Arc<AdminState>) -> io::Result<()> {
    match socket {
        Socket::Tcp(socket) => {
            let access = state.token.clone().map_or(Access::Loopback, Access::Token);
            let mut listener = tokio::net::TcpListener::from_std(socket)?;
            serve_connections(&mut listener, router(state, access)).await;
        }
        Socket::Unix(UnixSocket { file, listener }) => {
            let access = state.token.clone().map_or(Access::Socket, Access::Token);
            let mut listener = tokio::net::UnixListener::from_std(listener)?;
            let _removed_before_it_closes = file;
            serve_connections(&mut listener, router(state, access)).await;
        }
    }
    Ok(())
}

/// In place of `axum::serve`, which bounds neither the number of connections nor the time they may idle.
async fn serve_connections(listener: &mut impl Listener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let (stream, _) = listener.accept().await;
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
}
