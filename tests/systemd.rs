//! What systemd is told, and the sockets that it gives.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::{fs, thread};

use crate::support::DEADLINE;
use crate::support::backend::Backend;
use crate::support::client;
use crate::support::process::LOADBALANCER;
use crate::support::proxy::Proxy;
use crate::support::temp_dir::TempDir;
use crate::support::wait_until;

/// Reads what is said until it has `pattern` in it.
fn hear(socket: &UnixDatagram, pattern: &str) -> String {
    let mut message = [0; 1024];
    loop {
        let length = socket
            .recv(&mut message)
            .unwrap_or_else(|error| panic!("nothing with {pattern:?}: {error}"));
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        if text.contains(pattern) {
            return text;
        }
    }
}

#[test]
fn systemd_hears_of_the_start_the_successor_and_the_end() {
    let directory = TempDir::new();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    let backend = Backend::start();
    let mut proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .env("NOTIFY_SOCKET", path.to_str().expect("it is UTF-8"))
        .env("WATCHDOG_USEC", "100000")
        .start();
    let ready = hear(&socket, "READY=1");
    let main = format!("MAINPID={}\n", proxy.process().pid());
    assert!(ready.contains(&main), "{ready}");
    hear(&socket, "WATCHDOG=1");

    let mut successor = proxy.successor();
    let ready = hear(&socket, "READY=1");
    assert!(
        ready.contains(&format!("MAINPID={}\n", successor.pid())),
        "{ready}"
    );
    // The one that ends is not the service.
    assert!(proxy.wait_exit(DEADLINE).success());
    socket.set_nonblocking(true).expect("set");
    loop {
        let mut message = [0; 1024];
        match socket.recv(&mut message) {
            Ok(length) => assert!(!message[..length].starts_with(b"STOPPING")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    socket.set_nonblocking(false).expect("set");
    successor.signal("TERM");
    hear(&socket, "STOPPING=1");
    assert!(successor.wait_exit(DEADLINE).success());
}

#[test]
fn sockets_of_systemd_are_used_by_all_workers() {
    let directory = TempDir::new();
    let backend = Backend::start();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = socket.local_addr().expect("bound");
    let config = directory.path().join("config.toml");
    let gate = directory.path().join("upgrade");
    let text = format!(
        "workers = 2\nupgrade_socket = {gate:?}\nadmin = {{ listen = \"off\" }}\n\
         [[listeners]]\nlisten = \"{addr}\"\n\
         [[upstreams]]\nname = \"app\"\nservers = [\"{}\"]\n",
        backend.addr()
    );
    fs::write(&config, text).expect("written");
    // A connection that comes before anybody serves.
    let early = thread::spawn(move || client::get(addr, "/").status);
    // The first descriptor that systemd gives is number 3.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script, LOADBALANCER, "--config"])
        .arg(&config)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let answered = early.join();
    wait_until("both workers answer", || {
        client::get(addr, "/").status == 200
    });
    _ = child.kill();
    _ = child.wait();
    assert_eq!(answered.expect("an answer"), 200);
}
