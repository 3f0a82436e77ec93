//! The datagrams: those that have come and wait to be sent back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};

use super::PAUSE;
use super::counts::Counts;

/// The longest datagram.
const LONGEST: usize = 65_535;

/// How many datagrams may wait; those that come then are lost, as datagrams may be.
const MOST_WAITING: usize = 4096;

struct Waiting {
    due: Instant,
    client: SocketAddr,
    datagram: Box<[u8]>,
}

/// Sends back every datagram, `delay` after it has come.
pub async fn echo(socket: &UdpSocket, delay: Duration, counts: &Counts) -> Infallible {
    let mut piece = vec![0; LONGEST];
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    loop {
        let due = waiting.front().map(|first| first.due);
        let received = tokio::select! {
            // What is due is due, however much comes.
            biased;
            () = until(due) => None,
            received = socket.recv_from(&mut piece) => Some(received),
        };
        match received {
            None => {
                if let Some(first) = waiting.pop_front() {
                    answer(socket, &first.datagram, first.client, counts).await;
                }
            }
            Some(Ok((length, client))) if delay.is_zero() => {
                answer(socket, &piece[..length], client, counts).await;
            }
            Some(Ok((length, client))) if waiting.len() < MOST_WAITING => {
                waiting.push_back(Waiting {
                    due: Instant::now() + delay,
                    client,
                    datagram: piece[..length].into(),
                });
            }
            Some(Ok(_)) => counts.dropped.add(1),
            Some(Err(_)) => sleep(PAUSE).await,
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn answer(socket: &UdpSocket, datagram: &[u8], client: SocketAddr, counts: &Counts) {
    if socket.send_to(datagram, client).await.is_ok() {
        counts.datagrams.add(1);
        counts.datagram_bytes.add(datagram.len());
    } else {
        counts.dropped.add(1);
    }
}
