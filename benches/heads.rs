//! What HTTP/1.1 costs apart from sockets: reading and writing heads, and reading a body in chunks. Run with
//! `cargo bench --bench heads`.
//!
//! What is read is dropped within the measurement: each request pays for both, and memory is used again as soon as in
//! the proxy. Inputs are as they come from the socket, each in a buffer of its own. The allocator is the program's.

use std::hint::black_box;
use std::net::SocketAddr;

use bytes::BytesMut;
use divan::Bencher;
use http::header::{HOST, HeaderName, HeaderValue};
use loadbalancer::message::forwarded::{Hop, TrustedProxies};
use loadbalancer::message::h1::body::Part;
use loadbalancer::message::h1::write_answer::{self, Afterwards, Ending};
use loadbalancer::message::h1::{
    Answer, Body, Framing, RequestHead, Scan, read_answer, read_request,
};
use loadbalancer::message::{Field, Head, headers};

#[global_allocator]
static ALLOCATOR: loadbalancer::server::Allocator = loadbalancer::server::Allocator;

const REQUESTS: [&str; 2] = ["curl", "browser"];
const ANSWERS: [&str; 2] = ["small", "page"];

const CURL: &str = "GET /bytes/128 HTTP/1.1\r\n\
    Host: 127.0.0.1:8080\r\n\
    User-Agent: curl/8.5.0\r\n\
    Accept: */*\r\n\
    \r\n";

const BROWSER: &str = "GET /products/4711?sort=price&page=2 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://www.example.com/products\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0f8b2d1e6c7a4b5d9e3f1a2b3c4d5e6f; theme=dark; _ga=GA1.2.1234567890.1700000000\r\n\
    \r\n";

const SMALL: &str = "HTTP/1.1 200 OK\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 128\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    \r\n";

const PAGE: &str = "HTTP/1.1 200 OK\r\n\
    Server: nginx/1.26.2\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 18432\r\n\
    Connection: keep-alive\r\n\
    Keep-Alive: timeout=5\r\n\
    Vary: Accept-Encoding\r\n\
    Cache-Control: private, max-age=0, must-revalidate\r\n\
    ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\
    Content-Encoding: br\r\n\
    Set-Cookie: session=0f8b2d1e6c7a4b5d9e3f1a2b3c4d5e6f; Path=/; HttpOnly; Secure; SameSite=Lax\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Content-Security-Policy: default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'\r\n\
    \r\n";

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderValue = HeaderValue::from_static("0f8b2d1e6c7a4b5d9e3f1a2b3c4d5e6f");
const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// What the proxy has of a body at once when it comes fast.
const CONTENT: usize = 64 * 1024;

fn main() {
    divan::main();
}

#[divan::bench(args = REQUESTS, sample_size = 100)]
fn read_a_request(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    request(name); // it is a complete one
    bencher
        .with_inputs(|| BytesMut::from(text))
        .bench_local_refs(|input| {
            let read = read_request::read(&mut Scan::default(), black_box(input));
            drop(black_box(read));
        });
}

#[divan::bench(args = ANSWERS, sample_size = 100)]
fn read_an_answer(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    answer(name); // it is a complete one
    bencher
        .with_inputs(|| BytesMut::from(text))
        .bench_local_refs(|input| {
            let read = read_answer::read(&mut Scan::default(), black_box(input), false);
            drop(black_box(read));
        });
}

/// The proxy's own request for a client's, as `proxy::http::rewrite` puts it together.
#[divan::bench(args = REQUESTS, sample_size = 100)]
fn write_a_request_head(bencher: Bencher<'_, '_>, name: &str) {
    let client = request(name);
    let hop = hop();
    let mut out = Vec::with_capacity(4096); // the worker's, which is used again and again
    bencher.bench_local(|| {
        out.clear();
        write_request(&mut out, black_box(&client), black_box(&hop));
        black_box(&mut out);
    });
}

/// The part of it that tells the server where the request came from.
#[divan::bench(args = REQUESTS, sample_size = 100)]
fn write_the_forwarding_fields(bencher: Bencher<'_, '_>, name: &str) {
    let client = request(name);
    let hop = hop();
    let target = ["", "/"];
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        let mut head = RequestHead::begin(&mut out, &client.method, target);
        let fields = black_box(&client.headers);
        black_box(&hop).write(&mut head, fields, fields.get(HOST), |_| false);
        head.end();
        black_box(&mut out);
    });
}

#[divan::bench(args = ANSWERS, sample_size = 100)]
fn write_an_answer_head(bencher: Bencher<'_, '_>, name: &str) {
    let answer = answer(name);
    let length = answer.length.expect("both have Content-Length");
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        let Answer { status, fields, .. } = black_box(&answer);
        let (ending, afterwards) = (Ending::Length(length), Afterwards::AsUsual);
        write_answer::write(&mut out, *status, fields, ending, afterwards, |out| {
            out.extend_from_slice(DATE);
        });
        black_box(&mut out);
    });
}

/// 64 KiB of content, all there already, in chunks of so many bytes. Content is not copied: it is chunks that cost.
#[divan::bench(args = [64, 1024, 8192], sample_size = 10)]
fn read_a_chunked_body(bencher: Bencher<'_, '_>, chunk: usize) {
    let text = chunked(chunk);
    let mut input = BytesMut::from(&text[..]);
    assert_eq!(read_body(&mut input), CONTENT);
    assert!(input.is_empty());
    bencher
        .with_inputs(|| BytesMut::from(&text[..]))
        .bench_local_refs(|input| read_body(black_box(input)));
}

fn text(name: &str) -> &'static str {
    match name {
        "curl" => CURL,
        "browser" => BROWSER,
        "small" => SMALL,
        "page" => PAGE,
        _ => unreachable!("{name} is none of the above"),
    }
}

fn request(name: &str) -> Head {
    let mut input = BytesMut::from(text(name));
    let request = read_request::read(&mut Scan::default(), &mut input);
    request.expect("it is valid").expect("it is complete").head
}

fn answer(name: &str) -> Answer {
    let mut input = BytesMut::from(text(name));
    let answer = read_answer::read(&mut Scan::default(), &mut input, false);
    let mut answer = answer.expect("it is valid").expect("it is complete");
    // As the proxy adds to each.
    let (name, id) = (X_REQUEST_ID, REQUEST_ID);
    answer.fields.add(name.as_str(), id.as_bytes());
    answer
}

/// A client that nobody has to trust.
fn hop() -> Hop {
    let peer = SocketAddr::from(([192, 0, 2, 1], 49152));
    Hop::new(peer, &TrustedProxies::default(), false)
}

/// Does what the proxy does for a request without body.
fn write_request(out: &mut Vec<u8>, client: &Head, hop: &Hop) {
    let fields = &client.headers;
    let target = client.uri.path_and_query().map_or("/", |t| t.as_str());
    let mut head = RequestHead::begin(out, &client.method, ["", target]);
    let host = fields.get(HOST);
    if let Some(host) = host {
        head.field(&HOST, host);
    }
    let nominated = client.nominated();
    for (name, value) in fields {
        if passes(name) && !hop.replaces(name) && !nominated.contains(name) {
            head.field(name, value);
        }
    }
    hop.write(&mut head, fields, host, |_| false);
    let via = client.lines(Field::Via);
    head.list("via", via, &[headers::own_via(client.version).as_bytes()]);
    head.field(&X_REQUEST_ID, &REQUEST_ID);
    head.end();
}

/// Whether a client's field passes as it is.
fn passes(name: &HeaderName) -> bool {
    let written = matches!(
        name.as_str(),
        "content-length" | "expect" | "host" | "via" | "x-request-id"
    );
    !written && !headers::is_hop_by_hop(name)
}

/// How long the content of a body in chunks is.
fn read_body(input: &mut BytesMut) -> usize {
    let mut body = Body::new(Framing::Chunked);
    let mut length = 0;
    while let Ok(Some(Part::Data(data))) = body.take(input) {
        length += black_box(data).len();
    }
    length
}

fn chunked(chunk: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..CONTENT / chunk {
        text.extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
        text.resize(text.len() + chunk, b'x');
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    text
}
