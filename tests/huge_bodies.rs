//! Bodies that are longer than what all buffers hold: they pass in little memory, and the slower side sets the pace.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3Default;

use crate::support::DEADLINE;
use crate::support::backend::{Backend, RawBackend, report, reporting};
use crate::support::client::message;
use crate::support::proxy::{before, before_script};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The bodies that follow are longer than what all buffers of the kernel on their way hold.
const HUGE: usize = 64 << 20;

/// What a proxy may grow by, in KiB, whatever passes through it.
const GROWTH: u64 = 32 << 10;

/// The content of the test server's `/bytes`, in blocks.
fn blocks(length: usize) -> impl Iterator<Item = Vec<u8>> {
    let block: Vec<u8> = (0..=250).cycle().take(251 << 10).collect();
    let starts = (0..length).step_by(block.len());
    starts.map(move |start| block[..block.len().min(length - start)].to_vec())
}

fn hash_of_blocks(length: usize) -> u64 {
    let mut hash = Xxh3Default::new();
    blocks(length).for_each(|block| hash.update(&block));
    hash.digest()
}

#[test]
fn a_huge_download_passes_in_little_memory() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    assert_eq!(client.get("/health").expect("an answer").status, 200);
    let (before, mut peak, mut look) = (proxy.process().rss_kib(), 0, 0);
    client
        .send_raw(message("GET", "/bytes/64MiB", &[], b""))
        .expect("sent");
    let head = client.read_head().expect("an answer");
    let (mut count, mut hash) = (0, Xxh3Default::new());
    let each = |data: &[u8]| {
        hash.update(data);
        count += data.len();
        if count >= look {
            look += HUGE / 16;
            peak = peak.max(proxy.process().rss_kib());
        }
    };
    client.read_body(&head, each).expect("a whole body");
    assert_eq!((count, hash.digest()), (HUGE, hash_of_blocks(HUGE)));
    assert!(peak < before + GROWTH, "grew from {before} to {peak} KiB");
}

#[test]
fn a_huge_upload_passes_in_little_memory() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    assert_eq!(client.get("/health").expect("an answer").status, 200);
    let (before, mut peak) = (proxy.process().rss_kib(), 0);
    let fields = [("content-length", &*HUGE.to_string())];
    client
        .send_raw(message("POST", "/upload", &fields, b""))
        .expect("sent");
    for (number, block) in blocks(HUGE).enumerate() {
        client.send_raw(block).expect("the proxy reads");
        if number % 16 == 0 {
            peak = peak.max(proxy.process().rss_kib());
        }
    }
    let counted = client.read_response(false).expect("an answer").json();
    assert_eq!(counted["bytes"], HUGE);
    assert_eq!(counted["xxh3"], format!("{:016x}", hash_of_blocks(HUGE)));
    assert!(peak < before + GROWTH, "grew from {before} to {peak} KiB");
}

/// Waits until a count stays as it is.
fn settled(count: &AtomicU64) -> u64 {
    let end = Instant::now() + DEADLINE;
    loop {
        let before = count.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(200));
        if before > 0 && before == count.load(Ordering::Relaxed) {
            return before;
        }
        assert!(Instant::now() < end, "the sender is never held back");
    }
}

#[test]
fn a_slow_reader_holds_the_server_back() {
    let sent = Arc::new(AtomicU64::new(0));
    let backend = RawBackend::start({
        let sent = Arc::clone(&sent);
        move |connection| {
            connection.read_head()?;
            write!(
                connection.stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n"
            )?;
            for block in blocks(HUGE) {
                connection.stream.write_all(&block)?;
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let before = proxy.process().rss_kib();
    client
        .send_raw(message("GET", "/", &[], b""))
        .expect("sent");
    let head = client.read_head().expect("an answer");

    let held = settled(&sent);
    assert!(held < HUGE as u64, "all of it fits into buffers");
    let now = proxy.process().rss_kib();
    assert!(now < before + GROWTH / 2, "grew from {before} to {now} KiB");

    let (mut count, mut hash) = (0, Xxh3Default::new());
    let each = |data: &[u8]| {
        hash.update(data);
        count += data.len();
    };
    client.read_body(&head, each).expect("a whole body");
    assert_eq!((count, hash.digest()), (HUGE, hash_of_blocks(HUGE)));
}

#[test]
fn a_slow_server_holds_the_client_back() {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let (backend, hashes) = reporting(move |connection| {
        connection.read_head()?;
        let gone = gone.lock().expect("no holder panics");
        gone.recv_timeout(DEADLINE).map_err(io::Error::other)?;
        let mut hash = Xxh3Default::new();
        for mut block in blocks(HUGE) {
            connection.stream.read_exact(&mut block)?;
            hash.update(&block);
        }
        connection.stream.write_all(OK)?;
        Ok(hash.digest())
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let before = proxy.process().rss_kib();
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let fields = [("content-length", &*HUGE.to_string())];
            client
                .send_raw(message("POST", "/", &fields, b""))
                .expect("sent");
            for block in blocks(HUGE) {
                client.send_raw(&block).expect("the proxy reads in the end");
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
            }
        });
        let held = settled(&sent);
        assert!(held < HUGE as u64, "all of it fits into buffers");
        let now = proxy.process().rss_kib();
        assert!(now < before + GROWTH / 2, "grew from {before} to {now} KiB");
        go.send(()).expect("the script waits");
    });
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    assert_eq!(report(&hashes), hash_of_blocks(HUGE));
}
