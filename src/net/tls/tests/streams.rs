//! Streams on sockets, with a peer that is rustls' own buffered stream.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{AlertDescription, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Longer than anything takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// The peer: rustls' own stream on a blocking socket.
struct Peer {
    tls: Connection,
    tcp: TcpStream,
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

impl Peer {
    /// What is written and read in plaintext.
    fn stream(&mut self) -> Box<dyn ReadWrite + '_> {
        match &mut self.tls {
            Connection::Client(tls) => Box::new(rustls::Stream::new(tls, &mut self.tcp)),
            Connection::Server(tls) => Box::new(rustls::Stream::new(tls, &mut self.tcp)),
        }
    }
}

/// A peer that does its `part` on a thread of its own.
fn with_peer<T: Send + 'static>(
    tls: Connection,
    part: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Tcp, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    tcp.set_write_timeout(Some(DEADLINE)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    let peer = thread::spawn(move || part(Peer { tls, tcp }));
    (Tcp::accepted(ours), peer)
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

fn end<T>(peer: JoinHandle<T>) -> T {
    peer.join().unwrap()
}

#[tokio::test]
async fn both_sides_agree_and_resume() {
    let configs = Configs::new();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (tcp, peer) = with_peer(configs.client(), |mut peer| {
            let mut stream = peer.stream();
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            drop(stream);
            peer.tls.handshake_kind()
        });
        let mut ours = in_time(accept(tcp, Arc::clone(&configs.0))).await.unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap();
        ours.write_all(b"pong").await.unwrap();
        assert_eq!(ours.agreed().handshake_kind(), Some(kind));
        assert_eq!(ours.agreed().alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(end(peer), Some(kind));
    }
    let configs = Configs::new();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (tcp, peer) = with_peer(configs.server(), |mut peer| {
            let mut stream = peer.stream();
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(b"pong").unwrap();
        });
        let mut ours = in_time(connect(tcp, Arc::clone(&configs.1), name()))
            .await
            .unwrap();
        ours.write_all(b"ping").await.unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap(); // tickets have come with it
        assert_eq!(ours.agreed().handshake_kind(), Some(kind));
        assert_eq!(ours.agreed().peer_certificates().unwrap().len(), 1);
        end(peer);
    }
}

#[tokio::test]
async fn what_is_idle_owns_no_buffers() {
    let configs = Configs::new();
    let (tcp, peer) = with_peer(configs.client(), |mut peer| {
        let mut stream = peer.stream();
        stream.write_all(&[1; 40_000]).unwrap();
        let mut answer = vec![0; 40_000];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    let mut ours = in_time(accept(tcp, configs.0)).await.unwrap();
    let mut request = Vec::new();
    while request.len() < 40_000 {
        let mut space = [0; 700];
        let read = ours.read(&mut space).await.unwrap();
        request.extend_from_slice(&space[..read]);
        assert!(ours.unread.bytes.capacity() <= 2 * PLAINTEXT_MAX);
    }
    assert!(!ours.has_decrypted());
    ours.write_all(&request).await.unwrap();
    ours.flush().await.unwrap();
    assert!(ours.is_flushed());
    for buffer in [&ours.held, &ours.unread.bytes, &ours.unsent.bytes] {
        assert_eq!(buffer.capacity(), 0);
    }
    assert_eq!(end(peer), request);
}

#[tokio::test]
async fn much_passes_both_ways_at_once_through_small_sockets() {
    const MUCH: usize = 3_000_000;
    let configs = Configs::new();
    let (tcp, peer) = with_peer(configs.client(), |mut peer| {
        let body: Vec<u8> = (0..MUCH).map(|i| (i >> 4) as u8).collect();
        let (mut sent, mut echo) = (0, Vec::new());
        while echo.len() < MUCH {
            if sent < MUCH {
                // Records of all lengths.
                let length = (1 + sent * 7 % 30_000).min(MUCH - sent);
                peer.stream().write_all(&body[sent..sent + length]).unwrap();
                sent += length;
            }
            while echo.len() + 1_000_000 < sent || (sent == MUCH && echo.len() < MUCH) {
                let mut space = [0; 9_000];
                let read = peer.stream().read(&mut space).unwrap();
                echo.extend_from_slice(&space[..read]);
            }
        }
        echo == body
    });
    let socket = tcp.socket().unwrap();
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let ours = in_time(accept(tcp, configs.0)).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(*ours);
    let (passing, mut passed) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let read = async move {
        let (mut total, mut space) = (0, vec![0; 100_000]);
        while total < MUCH {
            let read = reader.read(&mut space).await.unwrap();
            total += read;
            passing.send(space[..read].to_vec()).unwrap();
        }
    };
    let write = async move {
        while let Some(bytes) = passed.recv().await {
            writer.write_all(&bytes).await.unwrap();
        }
        writer.flush().await.unwrap();
    };
    in_time(async { tokio::join!(read, write) }).await;
    assert!(end(peer));
}

#[tokio::test]
async fn who_does_not_read_is_not_written_to() {
    let configs = Configs::new();
    let (go, wait) = std::sync::mpsc::channel();
    let (tcp, peer) = with_peer(configs.client(), move |mut peer| {
        peer.tls.complete_io(&mut peer.tcp).unwrap();
        wait.recv().unwrap();
        let mut all = Vec::new();
        peer.stream().read_to_end(&mut all).unwrap();
        all.len()
    });
    tcp.socket().unwrap().set_send_buffer_size(4096).unwrap();
    let mut ours = in_time(accept(tcp, configs.0)).await.unwrap();
    let (mut taken, body) = (0, vec![0; 1_000_000]);
    in_time(poll_fn(|cx| {
        while let Poll::Ready(written) = Pin::new(&mut *ours).poll_write(cx, &body) {
            taken += written.unwrap();
        }
        Poll::Ready(())
    }))
    .await;
    assert!(!ours.is_flushed());
    assert!(ours.unsent.bytes.capacity() <= (RECORDS + 1) * RECORD_MAX);
    go.send(()).unwrap();
    in_time(ours.shutdown()).await.unwrap();
    assert!(ours.is_flushed());
    assert_eq!(end(peer), taken);
}

#[tokio::test]
async fn an_end_is_told_from_a_cut() {
    for closes in [true, false] {
        let configs = Configs::new();
        let (tcp, peer) = with_peer(configs.client(), move |mut peer| {
            peer.stream().write_all(b"last").unwrap();
            if closes {
                peer.tls.send_close_notify();
                peer.tls.write_tls(&mut peer.tcp).unwrap();
            }
            peer.tcp.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            peer.stream().read_to_end(&mut rest).unwrap();
            rest
        });
        let mut ours = in_time(accept(tcp, configs.0)).await.unwrap();
        let mut all = Vec::new();
        let end_of_reading = in_time(ours.read_to_end(&mut all)).await;
        assert_eq!(all, b"last");
        assert_eq!(ours.has_decrypted(), closes);
        match closes {
            true => assert_eq!(end_of_reading.unwrap(), 4),
            false => assert_eq!(end_of_reading.unwrap_err().kind(), ErrorKind::UnexpectedEof),
        }
        // The other direction is open still.
        ours.write_all(b"bye").await.unwrap();
        ours.shutdown().await.unwrap();
        let error = ours.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(end(peer), b"bye");
    }
}

#[tokio::test]
async fn keys_are_updated() {
    let configs = Configs::of(&[&TLS13]);
    let (tcp, peer) = with_peer(configs.client(), |mut peer| {
        for _ in 0..5 {
            peer.stream().write_all(b"before").unwrap();
            peer.tls.refresh_traffic_keys().unwrap();
            peer.stream().write_all(b"behind").unwrap();
            let mut answer = [0; 12];
            peer.stream().read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"beforebehind");
        }
    });
    let mut ours = in_time(accept(tcp, configs.0)).await.unwrap();
    for _ in 0..5 {
        let mut request = [0; 12];
        in_time(ours.read_exact(&mut request)).await.unwrap();
        in_time(ours.write_all(&request)).await.unwrap();
    }
    end(peer);
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_and_not_heard_again() {
    let configs = Configs::new();
    let (tcp, peer) = with_peer(configs.client(), |mut peer| {
        peer.stream().write_all(b"good").unwrap();
        let forged = [0x17, 3, 3, 0, 32];
        peer.tcp.write_all(&forged).unwrap();
        peer.tcp.write_all(&[0; 32]).unwrap();
        peer.stream().read(&mut [0]).unwrap_err()
    });
    let mut ours = in_time(accept(tcp, configs.0)).await.unwrap();
    let mut good = [0; 4];
    in_time(ours.read_exact(&mut good)).await.unwrap();
    for _ in 0..2 {
        let error = in_time(ours.read(&mut good)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let error = ours.write(b"answer").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
    assert!(ours.has_decrypted());
    ours.shutdown().await.unwrap();
    let told = end(peer).into_inner().unwrap();
    let alert = Error::AlertReceived(AlertDescription::BadRecordMac);
    assert_eq!(*told.downcast::<Error>().unwrap(), alert);
}

#[tokio::test]
async fn handshakes_that_fail_say_why() {
    let (configs, stranger) = (Configs::new(), Configs::new());
    let (tcp, peer) = with_peer(stranger.client(), |mut peer| {
        peer.stream().write_all(b"never").unwrap_err()
    });
    let error = in_time(accept(tcp, Arc::clone(&configs.0)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    end(peer);

    let (tcp, peer) = with_peer(stranger.server(), |mut peer| {
        peer.stream().read(&mut [0]).unwrap_err()
    });
    let error = in_time(connect(tcp, Arc::clone(&configs.1), name()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(
        end(peer).to_string().contains("alert"),
        "the server is told"
    );

    let (tcp, peer) = with_peer(stranger.client(), drop);
    let error = in_time(accept(tcp, configs.0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    end(peer);
}

#[tokio::test]
async fn a_handshake_message_in_crumbs_has_an_end() {
    let configs = Configs::new();
    let (tcp, peer) = with_peer(configs.client(), |mut peer| {
        // A ClientHello of 60,000 bytes, a byte a record.
        let header = [1, 0, 0xea, 0x60];
        let crumbs = header.into_iter().chain(std::iter::repeat(0));
        let crumbs: Vec<u8> = crumbs
            .take(30_000)
            .flat_map(|byte| [0x16, 3, 1, 0, 1, byte])
            .collect();
        _ = peer.tcp.write_all(&crumbs); // which may be refused half-way
    });
    let error = in_time(accept(tcp, configs.0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    end(peer);
}

#[tokio::test]
async fn silence_is_told_from_what_concerns_nobody() {
    let configs = Configs::of(&[&TLS13]);
    let (go, wait) = std::sync::mpsc::channel();
    let (tcp, peer) = with_peer(configs.server(), move |mut peer| {
        peer.tls.complete_io(&mut peer.tcp).unwrap();
        while peer.tls.wants_write() {
            peer.tls.write_tls(&mut peer.tcp).unwrap(); // tickets
        }
        wait.recv().unwrap();
        peer.stream().write_all(b"unasked").unwrap();
        peer
    });
    let ours = in_time(connect(tcp, configs.1, name())).await.unwrap();
    let mut ours = crate::net::Transport::Tls(ours);
    let silent = ours.poll_silent(&mut Context::from_waker(Waker::noop()));
    assert!(silent, "tickets concern TLS alone");
    go.send(()).unwrap();
    in_time(poll_fn(|cx| match ours.poll_silent(cx) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    }))
    .await;
    assert!(ours.has_more() && ours.has_bytes());
    let mut unasked = [0; 7];
    in_time(ours.read_exact(&mut unasked)).await.unwrap();
    assert_eq!(&unasked, b"unasked");
    drop(end(peer));
}

#[tokio::test]
async fn a_client_whose_hello_was_read_before_is_told_what_is_wrong_with_it() {
    const ALERT: u8 = 21;
    let (old, new) = (Configs::of(&[&TLS12]), Configs::of(&[&TLS13]));
    let mut hello = Vec::new();
    let mut client = old.client();
    client.write_tls(&mut hello).unwrap();
    let (tcp, peer) = with_peer(client, |mut peer| {
        let mut all = Vec::new();
        peer.tcp.read_to_end(&mut all).unwrap();
        all
    });
    let accepted = in_time(accept_after(tcp, Arc::clone(&new.0), hello)).await;
    let error = accepted.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert_eq!(end(peer).first(), Some(&ALERT));
}
