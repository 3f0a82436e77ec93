//! More requests than servers can take: limits that hold, and who waits, who goes first and who is refused.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::RawBackend;
use crate::support::client::{Response, message, request};
use crate::support::http2::Http2Backend;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{DEADLINE, in_parallel, wait_until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that says how many requests it had at a time, at most.
struct Busy {
    backend: RawBackend,
    most: Arc<AtomicUsize>,
}

impl Busy {
    fn start() -> Self {
        let most = Arc::new(AtomicUsize::new(0));
        let (seen, now) = (Arc::clone(&most), AtomicUsize::new(0));
        let backend = RawBackend::start(move |connection| {
            loop {
                connection.read_head()?;
                seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(2)); // its work
                now.fetch_sub(1, Ordering::SeqCst);
                connection.stream.write_all(OK)?;
            }
        });
        Self { backend, most }
    }
}

/// A server that answers when the test says so, one request a permission.
struct Gated {
    backend: RawBackend,
    gate: Arc<(Mutex<usize>, Condvar)>,
}

impl Gated {
    fn start() -> Self {
        let gate = Arc::new((Mutex::new(0), Condvar::new()));
        let its = Arc::clone(&gate);
        let backend = RawBackend::start(move |connection| {
            loop {
                connection.read_head()?;
                let (permissions, given) = &*its;
                let guard = permissions.lock().expect("no holder panics");
                let waited = given.wait_timeout_while(guard, DEADLINE, |it| *it == 0);
                *waited.expect("no holder panics").0 -= 1;
                connection.stream.write_all(OK)?;
            }
        });
        Self { backend, gate }
    }

    fn permit(&self, requests: usize) {
        *self.gate.0.lock().expect("no holder panics") += requests;
        self.gate.1.notify_all();
    }

    /// The paths of the requests that it has got, in their order.
    fn paths(&self) -> Vec<String> {
        let heads = self.backend.heads();
        let path = |head: &String| head.split(' ').nth(1).map(str::to_owned);
        heads.iter().filter_map(path).collect()
    }
}

/// Two workers before a server that may have one request at a time; priorities by `x-priority`, clients by
/// `x-forwarded-for`.
fn before(server: &Gated, queue: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 2\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .unprobed_with(
            "app",
            &[server.backend.addr()],
            &format!("max_in_flight = 1\nqueue = {queue}"),
        )
        .extra("[[routes]]\nupstream = \"app\"\npriority = \"header:x-priority\"")
        .start()
}

fn ask(proxy: &RunningProxy, path: &str, client: &str, priority: &str) -> Response {
    let headers = [
        ("x-forwarded-for", client),
        ("x-priority", priority),
        ("accept", "application/json"),
        ("connection", "close"),
    ];
    request(proxy.addr(), message("GET", path, &headers, b""))
}

/// Sends requests of these paths, clients and priorities, the first to the server, the others into the queue in this
/// order; then does `then`, and gives the answers.
fn queued<T>(
    proxy: &RunningProxy,
    server: &Gated,
    requests: &[(&str, &str, &str)],
    then: impl FnOnce() -> T,
) -> (Vec<Response>, T) {
    thread::scope(|scope| {
        let mut asking = Vec::new();
        for (index, (path, client, priority)) in requests.iter().enumerate() {
            asking.push(scope.spawn(move || ask(proxy, path, client, priority)));
            wait_until("the request is where it belongs", || match index {
                0 => server.paths().len() == 1,
                _ => proxy.metric("lb_upstream_queue_length") == index as u64,
            });
        }
        let done = then();
        let answers = asking.into_iter().map(|it| it.join().expect("an answer"));
        (answers.collect(), done)
    })
}

#[test]
fn a_server_never_has_more_requests_than_it_may() {
    let servers = [Busy::start(), Busy::start()];
    let addresses = servers.each_ref().map(|it| it.backend.addr());
    let keys = "max_in_flight = 3\nqueue = { timeout = \"10s\" }";
    let proxy = Proxy::new()
        .setting("workers = 2")
        .unprobed_with("app", &addresses, keys)
        .start();
    in_parallel(16, |_| {
        let mut client = proxy.connect();
        for _ in 0..40 {
            assert_eq!(client.get("/").expect("an answer").status, 200);
        }
    });
    for server in &servers {
        assert_eq!(server.most.load(Ordering::SeqCst), 3);
    }
    assert!(proxy.metric("lb_upstream_queue_seconds_count") > 0);
    assert_eq!(proxy.metric("lb_upstream_queue_length"), 0);
    assert_eq!(proxy.metric("lb_server_in_flight"), 0);
}

#[test]
fn a_server_never_has_more_connections_than_it_may_whichever_worker_needs_one() {
    let server = Busy::start();
    let proxy = Proxy::new()
        .setting("workers = 3")
        .unprobed_with(
            "app",
            &[server.backend.addr()],
            "max_connections = 2\nqueue = { timeout = \"10s\" }",
        )
        .start();
    in_parallel(12, |_| {
        let mut client = proxy.connect();
        for _ in 0..20 {
            assert_eq!(client.get("/").expect("an answer").status, 200);
            assert!(proxy.metric("lb_server_connections") <= 2);
        }
    });
    assert_eq!(server.most.load(Ordering::SeqCst), 2);
    // One after the other, a new client each: a worker that has no connection gets one soon.
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn those_who_wait_go_by_priority_then_client_then_time() {
    let server = Gated::start();
    let proxy = before(&server, "{ timeout = \"10s\" }");
    let (a, b) = ("192.0.2.1", "192.0.2.2");
    let requests = [
        ("/first", a, "normal"),
        ("/a1", a, "normal"),
        ("/a2", a, "normal"),
        ("/a3", a, "nonsense"),
        ("/low", b, "low"),
        ("/b1", b, "normal"),
        ("/high", a, "high"),
    ];
    let (answers, ()) = queued(&proxy, &server, &requests, || server.permit(requests.len()));
    assert!(answers.iter().all(|it| it.status == 200));
    let order = ["/first", "/high", "/a1", "/b1", "/a2", "/a3", "/low"];
    assert_eq!(server.paths(), order);
}

#[test]
fn a_full_queue_gives_up_what_matters_least() {
    let server = Gated::start();
    let proxy = before(&server, "{ size = 2, timeout = \"10s\" }");
    let (a, b) = ("192.0.2.1", "192.0.2.2");
    let requests = [
        ("/first", a, "low"),
        ("/low1", a, "low"),
        ("/low2", b, "low"),
    ];
    let (answers, more) = queued(&proxy, &server, &requests, || {
        let shed = ask(&proxy, "/low3", "192.0.2.3", "low");
        thread::scope(|scope| {
            let high = scope.spawn(|| ask(&proxy, "/high", a, "high"));
            wait_until("another one is shed", || {
                proxy.metric("lb_upstream_shed_total") == 2
            });
            server.permit(3);
            (shed, high.join().expect("an answer"))
        })
    });
    let statuses: Vec<_> = answers.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 200, 503], "the newest of the lowest class");
    assert_eq!(server.paths(), ["/first", "/high", "/low1"]);
    assert_eq!((more.0.status, more.1.status), (503, 200));
    for shed in [&more.0, &answers[2]] {
        assert_eq!(shed.json()["error"], "overloaded");
        assert_eq!(shed.headers.get("retry-after"), Some("1"));
    }
    let sample = "lb_upstream_shed_total{upstream=\"app\",reason=\"full\",priority=\"low\"} 2";
    assert!(proxy.metrics().contains(sample), "{}", proxy.metrics());
}

#[test]
fn nobody_waits_for_longer_than_the_queue_says() {
    let server = Gated::start();
    let proxy = before(&server, "{ timeout = \"300ms\" }");
    let requests = [("/first", "192.0.2.1", ""), ("/late", "192.0.2.1", "")];
    let (answers, ()) = queued(&proxy, &server, &requests, || {
        wait_until("the time is over", || {
            proxy.metric("lb_upstream_shed_total") == 1
        });
        server.permit(1);
    });
    assert_eq!((answers[0].status, answers[1].status), (200, 503));
    assert_eq!(answers[1].json()["error"], "queue_timeout");
    assert_eq!(answers[1].headers.get("retry-after"), Some("1"));
    assert_eq!(proxy.metric("lb_upstream_queue_length"), 0);
    server.permit(1);
    assert_eq!(proxy.get("/").status, 200, "there is room again");
}

#[test]
fn without_a_queue_a_full_server_is_503_at_once() {
    let server = Gated::start();
    let proxy = before(&server, "{ size = 0 }");
    let requests = [("/first", "192.0.2.1", "")];
    queued(&proxy, &server, &requests, || {
        let answer = ask(&proxy, "/second", "192.0.2.2", "high");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["error"], "overloaded");
        server.permit(1);
    });
}

#[test]
fn a_client_that_leaves_gives_up_its_place() {
    let server = Gated::start();
    let proxy = before(&server, "{ size = 1, timeout = \"10s\" }");
    let requests = [("/first", "192.0.2.1", "")];
    let (answers, ()) = queued(&proxy, &server, &requests, || {
        let mut leaving = proxy.connect();
        let asking = message("GET", "/left", &[], b"");
        leaving.send_raw(asking).expect("the proxy listens");
        let length = |expected| {
            wait_until("the queue has its length", || {
                proxy.metric("lb_upstream_queue_length") == expected
            });
        };
        length(1);
        drop(leaving);
        length(0);
        server.permit(1);
    });
    assert_eq!(answers[0].status, 200);
    assert_eq!(server.paths(), ["/first"]);
}

#[test]
fn a_retry_does_not_wait_for_a_full_server() {
    let gated = Gated::start();
    let dropping = RawBackend::start(|connection| connection.read_head().map(drop));
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed_with(
            "app",
            &[gated.backend.addr(), dropping.addr()],
            "max_in_flight = 1\nqueue = { timeout = \"10s\" }",
        )
        .start();
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            // The server that drops passes this one on.
            proxy.get("/held")
        });
        wait_until("one server is full", || gated.paths().len() == 1);
        assert_eq!(proxy.get("/").status, 502);
        gated.permit(1);
        assert_eq!(held.join().expect("an answer").status, 200);
    });
}

#[test]
fn over_http_2_requests_wait_for_a_stream_where_connections_are_limited() {
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(4);
    let backend = Http2Backend::start_with(settings, |mut asked| async move {
        tokio::time::sleep(Duration::from_millis(5)).await; // its work
        asked.answer("ok");
    });
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed_with(
            "app",
            &[backend.addr()],
            "protocol = \"http2\"\nmax_connections = 1",
        )
        .start();
    // The first one learns what the server lets.
    assert_eq!(proxy.get("/").text(), "ok");
    in_parallel(16, |_| {
        let mut client = proxy.connect();
        for _ in 0..10 {
            assert_eq!(client.get("/").expect("an answer").text(), "ok");
        }
    });
    assert_eq!(backend.connections(), 1);
}
