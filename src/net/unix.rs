//! Unix sockets that have a file: bound for this user alone, and removed with their file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a bound Unix socket, removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
    kept: AtomicBool,
}

impl SocketFile {
    /// The file at `path`, which is this process' to remove.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            inode: inode(path),
            kept: AtomicBool::new(false),
        }
    }

    /// Leaves the file where it is: another process uses the socket.
    pub fn keep(&self) {
        self.kept.store(true, Relaxed);
    }

    /// Gives the socket this name in place of the one it has. What has the name is replaced.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rename(&mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        to.clone_into(&mut self.path);
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever removed the file by hand may have put another one there.
        let is_ours = self.inode.is_some() && inode(&self.path) == self.inode;
        if is_ours && !self.kept.load(Relaxed) {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// What tells a file from others: its device and number.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a socket file is there on which nobody listens, such as a killed process leaves.
pub fn is_stale(path: &Path) -> bool {
    // Connecting to a file that is no socket is refused as well.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    is_socket
        && UnixStream::connect(path).is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused)
}

/// Binds a socket at `path`, with mode 0600. It does not block.
///
/// # Errors
/// What the kernel says: `AddrInUse` if something has that name.
pub fn bind(path: &Path) -> io::Result<(SocketFile, UnixListener)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path);
    // Nobody can connect before `listen`: there is no moment at which others could slip in.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    socket.listen(128)?;
    Ok((file, OwnedFd::from(socket).into()))
}
