//! Descriptors that systemd has opened for this process.
#![expect(unsafe_code, reason = "descriptors are known by their numbers only")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether they have been given out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The sockets of socket activation (sd_listen_fds(3)); none the second time.
///
/// # Errors
/// The environment says something else than systemd does, or speaks of descriptors that are not open.
pub fn of_systemd() -> io::Result<Vec<OwnedFd>> {
    if TAKEN.swap(true, Relaxed) {
        return Ok(Vec::new());
    }
    let sockets = sd_notify::listen_fds()?;
    // SAFETY: the descriptors are open, or setting their flags would have failed; they were opened for this process by the
    // one that started it, so that nothing in here owns them; and they are given out once.
    Ok(sockets
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect())
}
