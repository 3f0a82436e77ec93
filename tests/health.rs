//! Health checks: what is probed and how, what follows for traffic, and what the log says.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{Response, message, request};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{DEADLINE, wait_until};

/// A server whose `/health` has the status that the test says; all else is 200.
struct Moody {
    backend: RawBackend,
    health: Arc<AtomicU16>,
}

impl Moody {
    fn start(health: u16) -> Self {
        let health = Arc::new(AtomicU16::new(health));
        let said = Arc::clone(&health);
        let backend = RawBackend::start(move |connection| {
            loop {
                let head = connection.read_head()?;
                let is_probe = head.starts_with("GET /health ");
                let status = if is_probe {
                    said.load(Ordering::Relaxed)
                } else {
                    200
                };
                let answer = format!(
                    "HTTP/1.1 {status} Whatever\r\nx-backend: moody\r\ncontent-length: 0\r\n\r\n"
                );
                connection.stream.write_all(answer.as_bytes())?;
            }
        });
        Self { backend, health }
    }

    fn turn(&self, health: u16) {
        self.health.store(health, Ordering::Relaxed);
    }

    fn probes(&self) -> usize {
        let heads = self.backend.heads();
        heads
            .iter()
            .filter(|head| head.starts_with("GET /health "))
            .count()
    }
}

/// The server that an answer came from.
fn server(answer: &Response) -> &str {
    assert_eq!(answer.status, 200);
    answer.headers.get("x-backend").expect("a server's answer")
}

/// Waits for the line that says that a server changed its state, and returns the line.
fn wait_for_change(proxy: &RunningProxy, addr: SocketAddr, change: &str) -> String {
    let what = format!("{change} ... {addr}");
    proxy.process().wait_for(&what, |line| {
        let found = line.contains(change) && line.contains(&format!("\"{addr}\""));
        found.then(|| line.to_owned())
    })
}

/// Waits until the workers know that `name` is the only server that is used. (They learn it just after the log does.)
fn wait_until_all_go_to(proxy: &RunningProxy, name: &str) {
    wait_until(&format!("all requests go to {name}"), || {
        (0..6).all(|_| server(&proxy.get("/")) == name)
    });
}

/// Waits until a request goes to `name`.
fn wait_until_one_goes_to(proxy: &RunningProxy, name: &str) {
    wait_until(&format!("a request goes to {name}"), || {
        server(&proxy.get("/")) == name
    });
}

/// How often the log says so.
fn occurrences(proxy: &RunningProxy, change: &str) -> usize {
    proxy.process().output().matches(change).count()
}

#[test]
fn a_server_gets_traffic_while_its_health_is_good_and_only_then() {
    let (moody, good) = (Moody::start(500), Backend::start());
    let proxy = Proxy::new()
        .upstream("app", &[moody.backend.addr(), good.addr()])
        .start();
    let line = wait_for_change(&proxy, moody.backend.addr(), "server is down");
    assert!(line.contains("upstream=\"app\""), "{line}");
    assert!(
        line.contains("reason=\"first probe failed: status 500\""),
        "{line}"
    );
    wait_until_all_go_to(&proxy, good.name());
    assert!((0..20).all(|_| server(&proxy.get("/")) == good.name()));

    moody.turn(200);
    let line = wait_for_change(&proxy, moody.backend.addr(), "server is up");
    assert!(
        line.contains("reason=\"1 consecutive probes succeeded\""),
        "{line}"
    );
    wait_until_one_goes_to(&proxy, "moody");

    moody.turn(503);
    proxy
        .process()
        .wait_for_line("2 consecutive probes failed, the last: status 503");
    wait_until_all_go_to(&proxy, good.name());
}

#[test]
fn a_change_of_state_is_logged_once() {
    let moody = Moody::start(500);
    let proxy = Proxy::new()
        .upstream("app", &[moody.backend.addr()])
        .start();
    for (health, change) in [(500, "server is down"), (200, "server is up")] {
        moody.turn(health);
        wait_for_change(&proxy, moody.backend.addr(), change);
        let probes = moody.probes();
        wait_until("more probes with the same result", || {
            moody.probes() >= probes + 3
        });
        assert_eq!(
            occurrences(&proxy, change),
            1,
            "{}",
            proxy.process().output()
        );
    }
}

#[test]
fn a_server_that_dies_is_noticed_and_comes_back_after_its_restart() {
    let (mut mortal, other) = (Backend::start(), Backend::start());
    let proxy = Proxy::new()
        .upstream("app", &[mortal.addr(), other.addr()])
        .start();
    wait_for_change(&proxy, mortal.addr(), "server is up");
    mortal.kill_9();
    let line = wait_for_change(&proxy, mortal.addr(), "server is down");
    assert!(
        line.contains("2 consecutive probes failed, the last: connect to"),
        "{line}"
    );
    wait_until_all_go_to(&proxy, other.name());

    mortal.restart_on_same_port();
    wait_until_one_goes_to(&proxy, mortal.name());
    assert_eq!(occurrences(&proxy, "consecutive probes succeeded"), 1);
}

#[test]
fn live_traffic_that_cannot_connect_takes_a_server_down_before_the_next_probe() {
    let (mut mortal, other) = (Backend::start(), Backend::start());
    let proxy = Proxy::new()
        .upstream_with(
            "app",
            &[mortal.addr(), other.addr()],
            "health_check = { interval = \"1h\", fall = 3 }",
        )
        .start();
    wait_for_change(&proxy, mortal.addr(), "server is up");
    mortal.kill_9();
    wait_until("the dead server is down", || {
        // Not one of these requests fails.
        assert_eq!(server(&proxy.get("/")), other.name());
        occurrences(&proxy, "server is down") == 1
    });
    let line = wait_for_change(&proxy, mortal.addr(), "server is down");
    assert!(
        line.contains("3 consecutive connection failures on live traffic"),
        "{line}"
    );
}

#[test]
fn a_probe_that_hangs_slows_nobody() {
    let good = Backend::start();
    let hanging = RawBackend::start(|connection| {
        loop {
            if connection.read_head()?.starts_with("GET /health ") {
                thread::sleep(2 * DEADLINE);
                return Ok(());
            }
            let answer = b"HTTP/1.1 200 OK\r\nx-backend: hanging\r\ncontent-length: 0\r\n\r\n";
            connection.stream.write_all(answer)?;
        }
    });
    let proxy = Proxy::new()
        .upstream_with(
            "app",
            &[hanging.addr(), good.addr()],
            "health_check = { interval = \"100ms\", timeout = \"8s\" }",
        )
        .start();
    let probed = || {
        hanging
            .heads()
            .iter()
            .any(|head| head.starts_with("GET /health "))
    };
    wait_until("the probe that hangs", probed);
    let start = Instant::now();
    let slowest = (0..50).map(|_| {
        let start = Instant::now();
        server(&proxy.get("/"));
        start.elapsed()
    });
    let slowest = slowest.max().expect("50 requests");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "all of them while the probe hung"
    );
}

#[test]
fn a_server_whose_health_does_not_answer_is_down_after_the_timeout() {
    let good = Backend::start();
    let hanging = Backend::start_with(&["--health-delay", "60000"]);
    let proxy = Proxy::new()
        .upstream("app", &[hanging.addr(), good.addr()])
        .start();
    let line = wait_for_change(&proxy, hanging.addr(), "server is down");
    assert!(
        line.contains("first probe failed: timeout after 500ms"),
        "{line}"
    );
    wait_until_all_go_to(&proxy, good.name());
}

#[test]
fn a_tcp_check_asks_for_no_more_than_a_connection() {
    let mut sick = Backend::start_with(&["--health-status", "500"]);
    let proxy = Proxy::new()
        .upstream_with(
            "app",
            &[sick.addr()],
            r#"health_check = { kind = "tcp", interval = "100ms", fall = 2, rise = 1 }"#,
        )
        .start();
    wait_for_change(&proxy, sick.addr(), "server is up");
    assert_eq!(server(&proxy.get("/")), sick.name());

    sick.kill_9();
    let line = wait_for_change(&proxy, sick.addr(), "server is down");
    assert!(line.contains("the last: connect to"), "{line}");
}

#[test]
fn the_probe_is_what_the_configuration_says() {
    let server = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let health = RawBackend::answering(b"HTTP/1.1 418 Fine\r\ncontent-length: 0\r\n\r\n");
    let port = health.addr().port();
    let check = format!(
        "health_check = {{ path = \"/ready?full=1\", host = \"app.internal\", port = {port}, \
         expect = [\"204\", \"410-420\"], interval = \"100ms\" }}"
    );
    let proxy = Proxy::new()
        .upstream_with("app", &[server.addr()], &check)
        .start();
    proxy.process().wait_for_line("first probe succeeded");
    let probe = health.heads().swap_remove(0);
    assert!(
        probe.starts_with("GET /ready?full=1 HTTP/1.1\r\n"),
        "{probe}"
    );
    let hosts: Vec<_> = probe
        .lines()
        .filter(|line| line.starts_with("host:"))
        .collect();
    assert_eq!(hosts, ["host: app.internal"]);
    assert_eq!(server.connections(), 0, "only its own port is probed");
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_probe_goes_to_the_servers_own_address_and_expects_2xx_or_3xx_by_default() {
    let moved = RawBackend::answering(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n");
    let missing = RawBackend::answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let proxy = Proxy::new()
        .upstream("app", &[moved.addr(), missing.addr()])
        .start();
    wait_for_change(&proxy, moved.addr(), "server is up");
    let line = wait_for_change(&proxy, missing.addr(), "server is down");
    assert!(line.contains("status 404"), "{line}");
    for backend in [&moved, &missing] {
        let probe = backend.heads().swap_remove(0);
        assert!(probe.starts_with("GET /health HTTP/1.1\r\n"), "{probe}");
        let host = format!("\r\nhost: {}\r\n", backend.addr());
        assert!(probe.contains(&host), "{probe}");
    }
}

#[test]
fn without_checks_nothing_is_probed() {
    let server = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let probed = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = Proxy::new()
        .upstream_with("app", &[server.addr()], "health_check = { kind = \"off\" }")
        .upstream("other", &[probed.addr()])
        .extra("[[routes]]\nupstream = \"app\"\n[[routes]]\npaths = [\"/other\"]\nupstream = \"other\"")
        .start();
    wait_until("others are probed", || probed.connections() >= 3);
    assert_eq!(server.connections(), 0);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(server.connections(), 1);
}

#[test]
fn with_all_servers_down_the_answer_is_a_503_at_once() {
    let mut backends = [Backend::start(), Backend::start()];
    let addrs = backends.each_ref().map(Backend::addr);
    let proxy = Proxy::new().upstream("app", &addrs).start();
    backends.iter_mut().for_each(Backend::kill_9);
    wait_until("nobody is left", || proxy.get("/").status == 503);

    let start = Instant::now();
    let asking = message("GET", "/", &[("accept", "application/json")], b"");
    let answer = request(proxy.addr(), asking);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers.get("retry-after"), Some("1"));
    let said = answer.json();
    assert_eq!(said["error"], "no_server");
    assert_eq!(
        said["request_id"].as_str(),
        answer.headers.get("x-request-id")
    );
    let text = proxy.get("/").text().to_owned();
    assert!(!text.contains("127.0.0.1"), "no internal address: {text}");

    backends[0].restart_on_same_port();
    wait_until("one is back", || proxy.get("/").status == 200);
}
