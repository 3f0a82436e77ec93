//! Relays between sockets of this machine.

mod breaks;

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use socket2::SockRef;

use super::*;
use crate::metrics::Sharded;
use crate::net::bandwidth::{self, Bucket, Limit};
use crate::net::splice::MOST;
use crate::net::stream::ByteStats;
use crate::net::{Tcp, Throttle};

const LIMIT: Duration = Duration::from_secs(10);

/// More than sockets hold, and not a multiple of anything.
const MUCH: usize = 20_000_003;

type Bytes = Arc<Sharded<ByteStats>>;

/// How a relay went, and what its two ends came to.
struct Gone<C, S> {
    end: End,
    received: u64,
    sent: u64,
    client: C,
    server: S,
    /// As they are counted for the client's and for the server's connection.
    bytes: [Bytes; 2],
}

/// Our end of a connection, and the other one, which has deadlines.
fn pair() -> (Tcp, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    peer.set_write_timeout(Some(LIMIT)).unwrap();
    let (tcp, _) = listener.accept().unwrap();
    tcp.set_nonblocking(true).unwrap();
    (Tcp::accepted(tcp), peer)
}

/// Runs a relay, while a client and a server do this. What the client said before was `early`.
fn relay<C: Send, S: Send>(
    early: &[u8],
    client: impl FnOnce(TcpStream) -> C + Send,
    server: impl FnOnce(TcpStream) -> S + Send,
) -> Gone<C, S> {
    relay_under([None, None], early, client, server)
}

/// The same under limits.
fn relay_under<C: Send, S: Send>(
    throttles: [Option<Box<Throttle>>; 2],
    early: &[u8],
    client: impl FnOnce(TcpStream) -> C + Send,
    server: impl FnOnce(TcpStream) -> S + Send,
) -> Gone<C, S> {
    let ((to_client, client_end), (to_server, server_end)) = (pair(), pair());
    let bytes: [Bytes; 2] = [Arc::new(Sharded::new(1)), Arc::new(Sharded::new(1))];
    let [of_client, of_server] = bytes.each_ref().map(|it| Traffic::new(Arc::clone(it), 0));
    let client_side = (to_client.into(), of_client);
    let server_side = (to_server.into(), of_server);
    let relay = Relay::new(client_side, server_side, early.to_vec());
    let mut relay = relay.throttled(throttles);
    thread::scope(|scope| {
        let client = scope.spawn(move || client(client_end));
        let server = scope.spawn(move || server(server_end));
        let end = run(poll_fn(|cx| relay.poll(cx)));
        let (received, sent) = (relay.received(), relay.sent());
        drop(relay); // the ends may wait for that
        Gone {
            end,
            received,
            sent,
            client: client.join().unwrap(),
            server: server.join().unwrap(),
            bytes,
        }
    })
}

/// A relay whose bytes nobody counts.
fn between(client: Tcp, server: Tcp) -> Relay {
    let side = |tcp: Tcp| (tcp.into(), Traffic::new(Arc::new(Sharded::new(1)), 0));
    Relay::new(side(client), side(server), Vec::new())
}

/// Does this in a runtime, and in time.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(LIMIT, work).await });
    done.expect("it happens in time")
}

fn read_all(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all)
}

/// Bytes that tell where they are.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 31 / 7 + seed) as u8)
        .collect()
}

fn break_off(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

#[test]
fn each_direction_ends_by_itself() {
    let gone = relay(
        b"early ",
        |mut stream| {
            stream.write_all(b"question").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(&stream).unwrap()
        },
        |mut stream| {
            let question = read_all(&stream).unwrap();
            stream.write_all(b"an answer after the end").unwrap();
            question
        },
    );
    assert_eq!(gone.server, b"early question");
    assert_eq!(gone.client, b"an answer after the end");
    assert_eq!(gone.end, End::Closed(Side::Client));
    assert_eq!((gone.received, gone.sent), (14, 23));
    let counted = gone
        .bytes
        .map(|it| (it.shard(0).received.get(), it.shard(0).sent.get()));
    assert_eq!(counted, [(14, 23), (23, 14)]);
}

#[test]
fn what_was_read_before_waits_for_its_turn_like_anything() {
    const AHEAD: Duration = Duration::from_millis(500);
    let limit = Limit::new(100_000);
    let bucket = Bucket::new(&limit, &Arc::default(), bandwidth::Direction::Upload);
    let start = Instant::now();
    while bucket.reserve(u64::MAX, start).at < start + AHEAD {}
    let early = pattern(40_000, 1);
    let gone = relay_under(
        [Throttle::new(vec![bucket]), None],
        &early,
        |stream| stream.shutdown(Shutdown::Write).unwrap(),
        |stream| (read_all(&stream).unwrap(), start.elapsed()),
    );
    let (came, took) = gone.server;
    assert!(came == early);
    // 0.4 s are its own bytes.
    assert!(took > AHEAD + Duration::from_millis(350), "{took:?}");
}

#[test]
fn a_server_may_end_first() {
    let gone = relay(
        b"",
        |mut stream| {
            let greeting = read_all(&stream).unwrap();
            stream.write_all(b"still here").unwrap();
            greeting
        },
        |mut stream| {
            stream.write_all(b"220 hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(&stream).unwrap()
        },
    );
    assert_eq!(
        (&gone.client[..], &gone.server[..]),
        (&b"220 hello"[..], &b"still here"[..])
    );
    assert_eq!(gone.end, End::Closed(Side::Server));
}

#[test]
fn much_passes_both_ways_at_once_and_nothing_is_lost() {
    let both = |seed: usize, other: usize| {
        move |stream: TcpStream| {
            let writer = stream.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(move || {
                    (&writer).write_all(&pattern(MUCH, seed)).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                read_all(&stream).unwrap() == pattern(MUCH, other)
            })
        }
    };
    let gone = relay(b"", both(1, 2), both(2, 1));
    assert!(gone.client && gone.server);
    assert!(matches!(gone.end, End::Closed(_)));
    assert_eq!((gone.received, gone.sent), (MUCH as u64, MUCH as u64));
}

#[test]
fn an_answer_of_a_server_that_hears_no_more_arrives() {
    let gone = relay(
        b"",
        |mut stream| {
            // More than it takes, and less than the sockets on the way.
            stream.write_all(&[0; 100_000]).unwrap();
            let mut answer = [0; 9];
            stream.read_exact(&mut answer).unwrap();
            answer
        },
        |mut stream| {
            stream.read_exact(&mut [0; 10]).unwrap();
            stream.write_all(b"too large").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            // Dropped with something unread: a reset follows the end.
        },
    );
    assert_eq!(&gone.client, b"too large");
    assert_eq!(gone.end, End::Closed(Side::Server));
}

#[test]
fn nothing_is_read_that_cannot_be_written() {
    let (full, is_full) = mpsc::channel();
    let gone = relay(
        b"",
        move |mut stream| {
            stream.set_nonblocking(true).unwrap();
            let piece = [7; 64 * 1024];
            let (mut sent, mut pauses) = (0, 0);
            // Full for so long that what is on the way has arrived where it can.
            while pauses < 50 {
                match stream.write(&piece) {
                    Ok(length) => (sent, pauses) = (sent + length, 0),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        pauses += 1;
                        thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            break_off(stream);
            full.send(()).unwrap();
            sent
        },
        move |stream| {
            is_full.recv_timeout(LIMIT).unwrap();
            read_all(&stream).unwrap_err().kind()
        },
    );
    assert!(
        gone.received < gone.client as u64,
        "some is still the kernel's"
    );
    let held = gone.received - gone.bytes[1].shard(0).sent.get();
    assert!(held <= MOST as u64, "{held} bytes were held");
    assert_eq!(gone.server, ErrorKind::ConnectionReset);
}

#[test]
fn an_urgent_byte_stops_nothing_and_hides_nothing_behind_it() {
    let much = pattern(MUCH, 3);
    for (before, behind) in [(MUCH, 100), (MUCH, 0), (MUCH, MUCH), (10, 10)] {
        let gone = relay(
            b"",
            |mut stream| {
                stream.write_all(&much[..before]).unwrap();
                SockRef::from(&stream).send_out_of_band(b"!").unwrap();
                stream.write_all(&much[..behind]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                read_all(&stream).unwrap()
            },
            |stream| read_all(&stream).unwrap(),
        );
        assert!(gone.server == [&much[..before], &much[..behind]].concat());
        assert_eq!(gone.end, End::Closed(Side::Client));
    }
}
