//! What the kernel does for a TCP connection on which nothing moves, or whose peer has gone without a word.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Time between probes of a peer that has not answered the first.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Probes without an answer that end a connection: with the interval, a minute after the first.
const PROBES: u32 = 6;

/// The longest time before the first probe that the kernel takes.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(32_767);

/// The longest user timeout that it takes.
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Options of TCP connections. By default there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// How long nothing may come before the peer is probed (RFC 9293, section 3.8.4), in whole seconds, rounded up.
    pub keep_alive: Option<Duration>,
    /// How long what was sent, a probe too, may stay without acknowledgement before the connection ends (RFC 5482).
    pub user_timeout: Option<Duration>,
}

impl TcpOptions {
    /// Sets them on a socket that has none yet. What a listening socket has, the connections that it accepts have from
    /// the start, without a system call for each.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self, socket: SockRef<'_>) -> io::Result<()> {
        if let Some(idle) = self.keep_alive {
            let seconds = idle
                .as_secs()
                .saturating_add(u64::from(idle.subsec_nanos() > 0));
            let idle = Duration::from_secs(seconds).clamp(Duration::from_secs(1), MAX_KEEP_ALIVE);
            let options = TcpKeepalive::new()
                .with_time(idle)
                .with_interval(PROBE_INTERVAL.min(idle))
                .with_retries(PROBES);
            socket.set_tcp_keepalive(&options)?;
        }
        if let Some(limit) = self.user_timeout {
            socket.set_tcp_user_timeout(Some(limit.min(MAX_USER_TIMEOUT)))?;
        }
        Ok(())
    }

    /// The same for a socket that may have others.
    ///
    /// # Errors
    /// The kernel's.
    pub fn replace(&self, socket: SockRef<'_>) -> io::Result<()> {
        socket.set_keepalive(false)?;
        socket.set_tcp_user_timeout(None)?;
        self.set(socket)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn options(keep_alive: Option<u64>, user_timeout: Option<u64>) -> TcpOptions {
        TcpOptions {
            keep_alive: keep_alive.map(Duration::from_millis),
            user_timeout: user_timeout.map(Duration::from_millis),
        }
    }

    /// What a connection has that this socket accepts.
    fn of_accepted(listener: &TcpListener) -> TcpOptions {
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp, _) = listener.accept().unwrap();
        let socket = SockRef::from(&tcp);
        let keep_alive = socket.keepalive().unwrap();
        TcpOptions {
            keep_alive: keep_alive.then(|| socket.tcp_keepalive_time().unwrap()),
            user_timeout: socket.tcp_user_timeout().unwrap(),
        }
    }

    #[test]
    fn accepted_connections_have_what_their_listening_socket_has() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = || SockRef::from(&listener);
        options(Some(60_000), Some(30_000)).set(socket()).unwrap();
        let accepted = of_accepted(&listener);
        assert_eq!(accepted, options(Some(60_000), Some(30_000)));
        assert_eq!(socket().tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
        assert_eq!(socket().tcp_keepalive_retries().unwrap(), PROBES);
        options(Some(1_500), None).replace(socket()).unwrap();
        assert_eq!(of_accepted(&listener), options(Some(2_000), None));
        options(None, Some(10)).replace(socket()).unwrap();
        assert_eq!(of_accepted(&listener), options(None, Some(10)));
    }

    #[test]
    fn the_kernel_takes_any_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for time in [Duration::from_nanos(1), Duration::MAX] {
            let options = TcpOptions {
                keep_alive: Some(time),
                user_timeout: Some(time),
            };
            options.set(SockRef::from(&listener)).unwrap();
        }
    }
}
