//! Bodies on their way: as they come, and never taken for whole when they are not. `huge_bodies` has those that are longer
//! than all buffers.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_64;

use crate::support::backend::{Backend, RawBackend, report, reporting};
use crate::support::client::{message, request, try_get};
use crate::support::proxy::{Proxy, RunningProxy, before, before_script};
use crate::support::{DEADLINE, wait_until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

/// A body in chunks of `size` bytes.
fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let chunk = |data: &[u8]| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
    let mut bytes: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// A server that reads all that comes on a connection after the first head, if there is one, until its end or an error.
fn swallowing() -> (RawBackend, Receiver<Vec<u8>>) {
    reporting(|connection| {
        let mut bytes = Vec::new();
        if connection.read_head().is_err() {
            return Ok(bytes); // what is bad from the start need not be begun
        }
        let _ = connection.stream.read_to_end(&mut bytes);
        Ok(bytes)
    })
}

#[test]
fn a_chunked_upload_arrives_piece_by_piece() {
    let (seen, arrived) = mpsc::channel();
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        for end in [&b"one\r\n"[..], b"0\r\n\r\n"] {
            let _ = seen.send(connection.read_until(end)?);
        }
        connection.stream.write_all(OK)
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let first = message("POST", "/", &[CHUNKED], b"3\r\none\r\n");
    client.send_raw(first).expect("sent");
    assert_eq!(report(&arrived), b"3\r\none\r\n");
    client.send_raw("3\r\ntwo\r\n0\r\n\r\n").expect("sent");
    assert_eq!(report(&arrived), b"3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");

    let backend = Backend::start();
    let body: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    let bytes = message("POST", "/upload", &[CHUNKED], &chunks(&body, 1000));
    let counted = request(before(&backend).addr(), bytes).json();
    assert_eq!(counted["bytes"], 300_000);
    assert_eq!(counted["xxh3"], format!("{:016x}", xxh3_64(&body)));
}

#[test]
fn a_chunked_download_arrives_piece_by_piece() {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
        connection.stream.write_all(head)?;
        let gone = gone.lock().expect("no holder panics");
        gone.recv_timeout(DEADLINE).map_err(io::Error::other)?;
        connection.stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n")
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    client
        .send_raw(message("GET", "/", &[], b""))
        .expect("sent");
    let head = client.read_head().expect("an answer");
    assert_eq!(head.headers.get("transfer-encoding"), Some("chunked"));
    assert_eq!(client.read_exact(8).expect("a chunk"), b"3\r\none\r\n");
    go.send(()).expect("the script waits");
    assert_eq!(
        client.read_exact(13).expect("the rest"),
        b"3\r\ntwo\r\n0\r\n\r\n"
    );
}

#[test]
fn trailers_of_an_answer_reach_a_client_that_takes_them() {
    let backend = RawBackend::answering(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n\
        4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n",
    );
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let taking = client.request(message("GET", "/", &[("te", "trailers")], b""));
    let taking = taking.expect("an answer");
    assert_eq!(taking.text(), "body");
    assert_eq!(taking.trailers.get("x-checksum"), Some("abc"));
    assert!(backend.heads()[0].contains("te: trailers\r\n"));

    let other = client.get("/").expect("an answer");
    assert_eq!(other.text(), "body");
    assert!(other.trailers.0.is_empty(), "{:?}", other.trailers);
}

#[test]
fn trailers_of_a_request_reach_the_server() {
    let (backend, bodies) = reporting(|connection| {
        connection.read_head()?;
        let body = connection.read_until(b"\r\n\r\n")?;
        connection.stream.write_all(OK)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    });
    let proxy = before_script(&backend);
    let fields = [CHUNKED, ("trailer", "x-checksum")];
    let body = b"4\r\nbody\r\n0\r\nX-Checksum: abc\r\n\r\n";
    let answer = request(proxy.addr(), message("POST", "/", &fields, body));
    assert_eq!(answer.text(), "ok");
    let seen = report(&bodies).to_ascii_lowercase();
    assert_eq!(seen, "4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n");
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let (backend, bodies) = reporting(|connection| {
        connection.read_head()?;
        let mut body = [0; 5];
        connection.stream.read_exact(&mut body)?;
        connection.stream.write_all(OK)?;
        Ok(body)
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let fields = [("expect", "100-continue"), ("content-length", "5")];
    client
        .send_raw(message("PUT", "/", &fields, b""))
        .expect("sent");
    let interim = client.read_response(false).expect("an interim answer");
    assert_eq!(interim.status, 100);
    client.send_raw("hello").expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    assert_eq!(&report(&bodies), b"hello");
    assert!(
        !backend.heads()[0].contains("expect"),
        "answered here, so not passed on"
    );
}

/// A server behind a limit for bodies of 64 KiB.
fn before_limited(backend: &RawBackend) -> RunningProxy {
    Proxy::new()
        .unprobed("app", &[backend.addr()])
        .extra("[[routes]]\npaths = [\"/limited\"]\nupstream = \"app\"\nmax_body = \"64KiB\"")
        .start()
}

#[test]
fn a_client_that_waits_in_vain_gets_the_final_answer_only() {
    let backend = RawBackend::answering(OK);
    let proxy = before_limited(&backend);
    for (path, status) in [("/limited", 413), ("/nowhere", 404)] {
        let mut client = proxy.connect();
        let fields = [("expect", "100-continue"), ("content-length", "65537")];
        client
            .send_raw(message("POST", path, &fields, b""))
            .expect("sent");
        let answer = client.read_response(false).expect("an answer");
        assert_eq!(answer.status, status);
        // What it would send next cannot be told from a body.
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
    }
    assert_eq!(backend.connections(), 0);
}

/// Sends a request until its answer comes, and the rest afterwards: a proxy that closed at the answer would reset the
/// connection here, and with it a client that writes before it reads.
fn refused_on_the_way(proxy: &RunningProxy, bytes: &[u8]) {
    let mut client = proxy.connect();
    let (begin, rest) = bytes.split_at(100_000);
    client.send_raw(begin).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").status, 413);
    for piece in rest.chunks(10_000) {
        client.send_raw(piece).expect("the proxy takes it");
    }
    assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_is_read() {
    let backend = RawBackend::answering(OK);
    let proxy = before_limited(&backend);
    refused_on_the_way(&proxy, &message("POST", "/limited", &[], &[0; 512 << 10]));
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_body_that_turns_out_too_large_is_refused_on_the_way() {
    let (backend, bodies) = swallowing();
    let proxy = before_limited(&backend);
    let body = chunks(&[0; 512 << 10], 10_000);
    refused_on_the_way(&proxy, &message("POST", "/limited", &[CHUNKED], &body));
    let seen = report(&bodies);
    assert!(seen.len() < 80_000, "{} bytes passed the limit", seen.len());
    assert!(
        !seen.ends_with(b"0\r\n\r\n"),
        "it looks whole to the server"
    );
}

#[test]
fn a_body_of_the_largest_size_passes() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra("[[routes]]\nupstream = \"app\"\nmax_body = \"64KiB\"")
        .start();
    let body = [7; 64 << 10];
    let sized = message("POST", "/upload", &[], &body);
    let chunked = message("POST", "/upload", &[CHUNKED], &chunks(&body, 999));
    for bytes in [sized, chunked] {
        assert_eq!(request(proxy.addr(), bytes).json()["bytes"], 64 << 10);
    }
}

#[test]
fn a_broken_upload_never_looks_whole_to_the_server() {
    let (backend, bodies) = swallowing();
    let proxy = before_script(&backend);
    for malformed in [
        "2\r\nhi\r\nzz\r\n",
        "2\r\nhi!\r\n0\r\n\r\n",
        "2\r\nhi\r\nfffffffffffffffff\r\n",
    ] {
        let bytes = message("POST", "/", &[CHUNKED], malformed.as_bytes());
        assert_eq!(request(proxy.addr(), bytes).status, 400, "{malformed:?}");
        let seen = report(&bodies);
        assert!(
            !seen.ends_with(b"0\r\n\r\n"),
            "{malformed:?} became {seen:?}"
        );
    }
    // Or the client leaves.
    for (field, sent) in [
        (("content-length", "1000"), "half"),
        (CHUNKED, "4\r\nhalf\r\n"),
    ] {
        let mut client = proxy.connect();
        let bytes = message("POST", "/", &[field], sent.as_bytes());
        client.send_raw(bytes).expect("sent");
        drop(client);
        let seen = report(&bodies);
        assert!(seen.is_empty() || seen == sent.as_bytes(), "{seen:?}");
    }
}

#[test]
fn a_broken_answer_never_looks_whole_to_the_client() {
    let answers: [&'static [u8]; 4] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n4\r\nh",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ];
    for answer in answers {
        let backend = RawBackend::start(|connection| {
            connection.read_head()?;
            connection.stream.write_all(answer)
        });
        let proxy = before_script(&backend);
        let error = try_get(proxy.addr(), "/").expect_err("half a body");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
        assert_eq!(
            backend.heads().len(),
            1,
            "an answer had begun: no second try"
        );
    }

    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    client
        .send_raw(message("GET", "/cut/1000000", &[], b""))
        .expect("sent");
    let head = client.read_head().expect("an answer");
    let mut count = 0;
    let error = client.read_body(&head, |data| count += data.len());
    assert_eq!(
        error.expect_err("half a body").kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(count, 500_000);
}

#[test]
fn a_client_that_leaves_is_no_work_for_the_server_any_more() {
    let (backend, ends) = reporting(|connection| {
        let head = connection.read_head()?;
        if head.starts_with("GET /download") {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            while connection.stream.write_all(&[0; 10_000]).is_ok() {}
        } else {
            // No answer at all.
            let mut rest = Vec::new();
            let _ = connection.stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        Ok(Instant::now())
    });
    let proxy = before_script(&backend);
    for (count, path) in ["/download", "/wait"].iter().enumerate() {
        let mut client = proxy.connect();
        client
            .send_raw(message("GET", path, &[], b""))
            .expect("sent");
        wait_until("the request at the server", || {
            backend.heads().len() == count + 1
        });
        let left = Instant::now();
        drop(client);
        // Not because a deadline of the script has passed.
        assert!(report(&ends) - left < DEADLINE / 2, "{path}");
    }
}
