//! The new process' side.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::channel::Channel;
use super::{PROTOCOL, Reply, Request};
use crate::server::inherit::Inherited;
use crate::upstream::sticky::Key;

/// How long the serving process may take for an answer. It may have a change of its servers to finish.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A process that takes over from the one that serves.
#[derive(Debug)]
pub struct Succession {
    channel: Channel,
    predecessor: u32,
    path: PathBuf,
}

impl Succession {
    /// Asks the process that serves for its sockets.
    ///
    /// # Errors
    /// There is none at this path, it refuses, or it speaks another version of this.
    pub fn begin(path: &Path) -> io::Result<(Self, Inherited)> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                io::Error::new(error.kind(), "nobody serves there; start without --upgrade")
            }
            _ => error,
        })?;
        let mut channel = Channel::new(stream, ANSWER_LIMIT)?;
        channel.send(&Request::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        })?;
        let (predecessor, places) = match channel.receive()? {
            Reply::Offer {
                pid,
                sockets,
                sticky_key,
            } => {
                Key::adopt(sticky_key);
                (pid, sockets)
            }
            Reply::Refused { reason } => return Err(io::Error::other(reason)),
            Reply::Go => return Err(ErrorKind::InvalidData.into()),
        };
        let mut inherited = Inherited::default();
        let sockets = channel.receive_descriptors(places.len())?;
        for (place, socket) in places.into_iter().zip(sockets) {
            inherited.add(Some(place), socket)?;
        }
        let succession = Self {
            channel,
            predecessor,
            path: path.to_owned(),
        };
        Ok((succession, inherited))
    }

    /// Tells the serving process that this one serves too, and waits until it accepts no more connections and changes.
    ///
    /// # Errors
    /// It has given this one up, and serves on. If it has ended meanwhile, this one serves on so much the more.
    pub fn finish(mut self) -> io::Result<()> {
        let predecessor = self.predecessor;
        let told = self.channel.send(&Request::Ready);
        match told.and_then(|()| self.channel.receive()) {
            Ok(Reply::Go) => {
                tracing::info!(predecessor, "took over");
                Ok(())
            }
            Ok(Reply::Offer { .. } | Reply::Refused { .. }) => Err(ErrorKind::InvalidData.into()),
            Err(error) if UnixStream::connect(&self.path).is_ok() => Err(error),
            Err(error) => {
                tracing::warn!(predecessor, %error, "the process before this one has ended; serving");
                Ok(())
            }
        }
    }
}
