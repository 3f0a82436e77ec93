//! The listener: what can be bound, and how connections are served.

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::admin::{Socket, bind, serve};
use crate::config::model::AdminListen;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

fn tcp() -> AdminListen {
    AdminListen::Tcp(([127, 0, 0, 1], 0).into())
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Serves for as long as the test runs.
fn start(socket: Socket, dir: &TempDir) -> JoinHandle<io::Result<()>> {
    let admin = Admin::start(ONE, &dir.path().join("state"));
    tokio::spawn(serve(socket, admin.state, std::future::pending()))
}

#[tokio::test]
async fn serves_a_tcp_address() {
    let dir = TempDir::new();
    let socket = bind(&tcp()).unwrap();
    let Socket::Tcp(listener) = &socket else {
        panic!("not TCP")
    };
    let address = listener.local_addr().unwrap();
    let taken = bind(&AdminListen::Tcp(address)).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    start(socket, &dir);
    let answer = exchange(TcpStream::connect(address).await.unwrap(), HEALTH).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"status\":\"ok\"}"),
        "{answer}"
    );
    let rebound = HEALTH.replace("localhost", "evil.example");
    let answer = exchange(TcpStream::connect(address).await.unwrap(), &rebound).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn serves_a_unix_socket_of_its_owners() {
    let dir = TempDir::new();
    let path = dir.path().join("admin.sock");
    let listen = AdminListen::Unix(path.clone());
    let socket = bind(&listen).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        bind(&listen).unwrap_err().kind(),
        ErrorKind::AddrInUse,
        "a live one stays"
    );
    let serving = start(socket, &dir);
    let any_host = HEALTH.replace("localhost", "lb");
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), &any_host).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert!(!path.exists(), "no file stays");
}

#[test]
fn the_socket_file_of_another_stays() {
    let dir = TempDir::new();
    let path = dir.path().join("admin.sock");
    let listen = AdminListen::Unix(path.clone());
    let socket = bind(&listen).unwrap();
    fs::remove_file(&path).unwrap();
    let other = bind(&listen).unwrap();
    drop(socket);
    assert!(path.exists());
    drop(other);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_file_is_replaced_and_nothing_else() {
    let dir = TempDir::new();
    let path = dir.path().join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(bind(&AdminListen::Unix(path)).is_ok());

    let file = dir.path().join("precious");
    fs::write(&file, "content").unwrap();
    let error = bind(&AdminListen::Unix(file.clone())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(fs::read_to_string(file).unwrap(), "content");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected() {
    let dir = TempDir::new();
    let socket = bind(&tcp()).unwrap();
    let Socket::Tcp(listener) = &socket else {
        panic!("not TCP")
    };
    let address = listener.local_addr().unwrap();
    start(socket, &dir);
    let start = tokio::time::Instant::now();
    exchange(TcpStream::connect(address).await.unwrap(), "GET /hea").await;
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn silent_clients_keep_nobody_out_for_good() {
    let dir = TempDir::new();
    let socket = bind(&tcp()).unwrap();
    let Socket::Tcp(listener) = &socket else {
        panic!("not TCP")
    };
    let address = listener.local_addr().unwrap();
    start(socket, &dir);
    let mut silent = Vec::new();
    for _ in 0..crate::admin::listen::MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let start = tokio::time::Instant::now();
    let answer = exchange(TcpStream::connect(address).await.unwrap(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        start.elapsed().as_secs() >= 30,
        "it waited for one of the others to be disconnected"
    );
}
