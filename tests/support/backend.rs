//! What stands behind the proxy: a real test server, or a script of raw bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::client::{message, request};
use super::process::{BACKEND, Process};

/// A test server in a process of its own; `loadbalancer`'s `backends1` with a name that no other has.
pub struct Backend {
    name: String,
    addr: SocketAddr,
    flags: Vec<String>,
    process: Process,
}

impl Backend {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With flags of the test server, such as `["--health-status", "503"]`.
    pub fn start_with(flags: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("backend-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let flags = flags
            .iter()
            .map(|&flag| flag.to_owned())
            .collect::<Vec<_>>();
        let (process, addr) = Self::launch(&name, "127.0.0.1:0", &flags);
        Self {
            name,
            addr,
            flags,
            process,
        }
    }

    fn launch(name: &str, listen: &str, flags: &[String]) -> (Process, SocketAddr) {
        let mut args = vec!["--name", name, "--listen", listen];
        args.extend(flags.iter().map(String::as_str));
        let process = Process::start(BACKEND, &args);
        let addr = process.wait_for("listening on", |line| {
            line.split_once(" listening on ")?.1.parse().ok()
        });
        (process, addr)
    }

    /// The value of `x-backend` in its answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Waits for the end of a server that was told to end.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait_exit(limit)
    }

    /// A server that accepts connections, since the kernel does, and says nothing.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// From now on this goes wrong, and nothing else: what `--faults` takes.
    pub fn faults(&self, json: &str) {
        let answer = request(self.addr, message("POST", "/faults", &[], json.as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The same server again, with its name, port and flags; kills it first if it runs.
    pub fn restart_on_same_port(&mut self) {
        self.process.kill_9();
        (self.process, self.addr) = Self::launch(&self.name, &self.addr.to_string(), &self.flags);
    }
}

/// A server in a thread of the test that runs a script for each connection, in a thread of its own.
pub struct RawBackend {
    addr: SocketAddr,
    log: Arc<Log>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    connections: AtomicUsize,
    heads: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// One accepted connection in the hands of a script; closed when the script ends.
pub struct RawConnection {
    /// Counted from 0, so that a script can treat the first one differently.
    pub number: usize,
    /// For what the methods do not do; it has timeouts.
    pub stream: TcpStream,
    log: Arc<Log>,
}

impl RawBackend {
    /// Errors of a script end its connection and nothing else: the other side may always go away.
    pub fn start(
        script: impl Fn(&mut RawConnection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("the listener is bound");
        let log = Arc::new(Log::default());
        let acceptor = thread::spawn({
            let (log, script) = (Arc::clone(&log), Arc::new(script));
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    if log.stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    let number = log.connections.fetch_add(1, Ordering::Relaxed);
                    let mut connection = RawConnection {
                        number,
                        stream,
                        log: Arc::clone(&log),
                    };
                    let script = Arc::clone(&script);
                    thread::spawn(move || {
                        connection
                            .set_timeouts()
                            .and_then(|()| script(&mut connection))
                    });
                }
            }
        });
        Self {
            addr,
            log,
            acceptor: Some(acceptor),
        }
    }

    /// Sends the same bytes after each request head, for as long as the connection lives.
    pub fn answering(answer: &'static [u8]) -> Self {
        Self::start(move |connection| {
            loop {
                connection.read_head()?;
                connection.stream.write_all(answer)?;
            }
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::Relaxed)
    }

    /// All that `read_head` has read so far, byte for byte.
    pub fn heads(&self) -> Vec<String> {
        self.log.heads.lock().expect("no holder panics").clone()
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.log.stopped.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl RawConnection {
    /// Reads up to and including the empty line after a request's headers.
    pub fn read_head(&mut self) -> io::Result<String> {
        let head = String::from_utf8_lossy(&self.read_until(b"\r\n\r\n")?).into_owned();
        self.log
            .heads
            .lock()
            .expect("no holder panics")
            .push(head.clone());
        Ok(head)
    }

    /// Reads up to and including `end`.
    pub fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(end) {
            // Byte by byte: what follows belongs to the script.
            self.stream.read_exact(&mut byte)?;
            bytes.extend(byte);
        }
        Ok(bytes)
    }

    fn set_timeouts(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(DEADLINE))?;
        self.stream.set_write_timeout(Some(DEADLINE))
    }
}

/// A port that refuses connections, and that nobody else gets meanwhile.
pub struct RefusingPort(Socket);

impl RefusingPort {
    pub fn new() -> Self {
        Self(bound_socket())
    }

    pub fn addr(&self) -> SocketAddr {
        addr_of(&self.0)
    }
}

/// A port where connecting takes for ever: it listens, its queue is full, and nobody accepts.
pub struct FullPort {
    socket: Socket,
    _queued: Vec<TcpStream>,
}

impl FullPort {
    pub fn new() -> Self {
        let socket = bound_socket();
        socket.listen(0).expect("it is bound");
        let addr = addr_of(&socket);
        // One connection more than fits is how to know that no other does.
        let connect = |_| TcpStream::connect_timeout(&addr, Duration::from_millis(100)).ok();
        let queued: Vec<_> = (0..64).map_while(connect).collect();
        assert!(queued.len() < 64, "the queue has no end");
        Self {
            socket,
            _queued: queued,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        addr_of(&self.socket)
    }
}

/// A socket on a free port that does not listen yet.
fn bound_socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any_port.into()).expect("a free port");
    socket
}

fn addr_of(socket: &Socket) -> SocketAddr {
    let addr = socket.local_addr().expect("the socket is bound");
    addr.as_socket().expect("it is an IP socket")
}

/// A server that hands over what its scripts see, and a script's way to do so.
pub fn reporting<T: Send + 'static>(
    script: impl Fn(&mut RawConnection) -> io::Result<T> + Send + Sync + 'static,
) -> (RawBackend, Receiver<T>) {
    let (report, reports) = mpsc::channel();
    let backend = RawBackend::start(move |connection| {
        let seen = script(connection)?;
        // A test that does not look any more has ended.
        let _ = report.send(seen);
        Ok(())
    });
    (backend, reports)
}

/// What a script of [`reporting`] has seen.
pub fn report<T>(reports: &Receiver<T>) -> T {
    reports.recv_timeout(DEADLINE).expect("the server's report")
}
