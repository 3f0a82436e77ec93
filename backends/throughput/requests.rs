//! The client's side of requests, one after the other on each connection or socket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::fault::Fault;
use super::load::{Load, at_once, share};
use super::transfer::connect;
use super::wire::Work;

/// What requests took.
pub struct Answered {
    /// All of them together.
    pub elapsed: Duration,
    /// Each of them.
    pub latencies: Vec<Duration>,
}

/// Has the requests of `load` answered.
///
/// # Errors
/// When a connection fails, an answer does not come, or is not what was sent.
pub fn run(server: SocketAddr, load: &Load) -> Result<Answered, String> {
    let (latencies, elapsed) = if load.udp {
        let open = |_| open(server, load.patience);
        at_once(load.connections, open, |socket, number| {
            ask_all(load, number, |request, sent, answer| {
                send_datagram(&socket, request, sent, answer)
            })
        })
    } else {
        let connect = |_| {
            let stream = connect(server, load.patience)?;
            Work::Requests { size: load.size }.send(&stream)?;
            Ok(stream)
        };
        at_once(load.connections, connect, |stream, number| {
            ask_all(load, number, |_, sent, answer| ask(&stream, sent, answer))
        })
    }?;
    Ok(Answered {
        elapsed,
        latencies: latencies.into_iter().flatten().collect(),
    })
}

/// Has a connection's share of the requests answered, with `ask(number, request, answer)`; no two requests are alike.
fn ask_all(
    load: &Load,
    connection: u64,
    mut ask: impl FnMut(u64, &[u8], &mut [u8]) -> Result<(), Fault>,
) -> Result<Vec<Duration>, Fault> {
    let count = share(load.requests, load.connections, connection);
    let size = load.size;
    let mut message = vec![0; size as usize];
    Rng::with_seed(connection).fill(&mut message);
    // One byte more, so that too long a datagram shows.
    let mut answer = vec![0; message.len() + 1];
    let mut latencies = Vec::with_capacity(count as usize);
    for number in 0..count {
        let stamp = number.to_le_bytes();
        let length = stamp.len().min(message.len());
        message[..length].copy_from_slice(&stamp[..length]);
        let begun = Instant::now();
        ask(number, &message, &mut answer)?;
        latencies.push(begun.elapsed());
        if answer[..message.len()] != message {
            return Err(Fault::Wrong { number });
        }
    }
    Ok(latencies)
}

fn ask(mut stream: &TcpStream, message: &[u8], answer: &mut [u8]) -> Result<(), Fault> {
    stream.write_all(message)?;
    stream.read_exact(&mut answer[..message.len()])?;
    Ok(())
}

fn open(server: SocketAddr, patience: Duration) -> Result<UdpSocket, Fault> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

fn send_datagram(
    socket: &UdpSocket,
    number: u64,
    message: &[u8],
    answer: &mut [u8],
) -> Result<(), Fault> {
    socket.send(message)?;
    match socket.recv(answer) {
        Ok(length) if length == message.len() => Ok(()),
        Ok(_) => Err(Fault::Wrong { number }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Fault::NoAnswer { number }),
        Err(error) => Err(error.into()),
    }
}
