//! A Redis server: where it is, how one logs in, and a session with it over TCP, TLS or a Unix socket.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::script::Call;
use crate::net::{Tcp, Transport, connect, tls};
use crate::tls::ClientTls;

/// A session is made in the background, so that may take longer than a check; checks that wait for it do so within their
/// own timeout.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands under way in a session.
pub(super) const MAX_IN_FLIGHT: usize = 1024;

/// Where a server is, and how one logs in.
#[derive(Clone)]
pub(super) struct Server {
    place: Place,
    is_secure: bool,
    login: RedisConnectionInfo,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Server {
    /// The server of a URL.
    ///
    /// # Errors
    /// The URL cannot be read. The error does not repeat it.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        let (url, is_secure) = match url.strip_prefix("rediss://") {
            Some(rest) => (format!("redis://{rest}"), true),
            None => (url.to_owned(), false),
        };
        let info = url.into_connection_info()?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(io::Error::from(ErrorKind::Unsupported).into()),
        };
        // One command less that users need a permission for.
        let login = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self {
            place,
            is_secure,
            login,
        })
    }

    /// The server at `host` and `port`, with the login and the TLS of this one.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        Self {
            place: Place::Tcp(host.to_owned(), port),
            ..self.clone()
        }
    }

    /// The same server for somebody else.
    pub(super) fn with_login(
        mut self,
        username: Option<&str>,
        password: Option<&str>,
        database: u32,
    ) -> Self {
        let mut login = RedisConnectionInfo::default()
            .set_skip_set_lib_name()
            .set_db(database.into());
        if let Some(username) = username {
            login = login.set_username(username);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        self.login = login;
        self
    }

    /// Whether it speaks TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether it is where the other one is.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Its host; `None` at a Unix socket.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp(host, _) => Some(host),
            Place::Unix(_) => None,
        }
    }

    /// A new session, within [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// It cannot be reached, is not who it should be, or does not let us in.
    pub(super) async fn session(&self, tls: Option<&ClientTls>) -> RedisResult<Session> {
        match timeout(CONNECT_TIMEOUT, self.open(tls)).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::new(ErrorKind::TimedOut, "connect timeout").into()),
        }
    }

    async fn open(&self, tls: Option<&ClientTls>) -> RedisResult<Session> {
        let (host, port) = match &self.place {
            Place::Unix(path) => return self.log_in(UnixStream::connect(path).await?).await,
            Place::Tcp(host, port) => (host.as_str(), *port),
        };
        let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
        let tcp = Tcp::from(connect::connect(&addresses, CONNECT_TIMEOUT).await?);
        let transport = match tls.filter(|_| self.is_secure) {
            None => Transport::Plain(tcp),
            Some(tls) => Transport::Tls(handshake(tcp, tls, host).await?),
        };
        self.log_in(transport).await
    }

    async fn log_in<S>(&self, stream: S) -> RedisResult<Session>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(MAX_IN_FLIGHT);
        let connecting = MultiplexedConnection::new_with_config(&self.login, stream, config);
        let (connection, driver) = connecting.await?;
        let driver = tokio::task::spawn_local(driver).abort_handle();
        Ok(Session {
            connection,
            driver: Rc::new(Driver(driver)),
        })
    }
}

async fn handshake(tcp: Tcp, secure: &ClientTls, host: &str) -> io::Result<Box<tls::TlsStream>> {
    let name = secure
        .server_name(host)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    tls::connect(tcp, secure.current(), name).await
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp(host, port) => write!(f, "{host}:{port}"),
            Place::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connection on which one is logged in; clones share it.
#[derive(Clone)]
pub(super) struct Session {
    connection: MultiplexedConnection,
    driver: Rc<Driver>,
}

impl Session {
    /// Whether it is the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.driver, &other.driver)
    }

    /// Runs a script.
    pub(super) async fn run(&mut self, call: &Call<'_>, asking: bool) -> RedisResult<Value> {
        call.run(&mut self.connection, asking).await
    }

    /// Runs a command.
    pub(super) async fn command<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let value = self.connection.send_packed_command(command).await?;
        let value = value.extract_error()?;
        T::from_redis_value(value).map_err(RedisError::from)
    }
}

/// The task that moves a session's bytes, which ends with it.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
