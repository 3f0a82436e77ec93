//! Clients that come back to the server that they had.

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{Response, message, request};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::{Authority, connect};

const STICKY: &str = "sticky = { cookie = \"lb\", ttl = \"1h\" }";
const SECRET: &str =
    "sticky = { cookie = \"lb\", ttl = \"1h\", secret = \"0123456789abcdef0123456789abcdef\" }";

fn before(backends: &[Backend], sticky: &str) -> RunningProxy {
    let servers: Vec<_> = backends.iter().map(Backend::addr).collect();
    Proxy::new().unprobed_with("app", &servers, sticky).start()
}

fn four() -> [Backend; 4] {
    [(); 4].map(|()| Backend::start())
}

/// The cookie that an answer sets, without its attributes.
fn cookie(answer: &Response) -> Option<String> {
    let set = answer.headers.get("set-cookie")?;
    Some(set.split(';').next()?.to_owned())
}

fn get_with(proxy: &RunningProxy, cookie: &str) -> Response {
    let fields = [("cookie", cookie)];
    request(proxy.addr(), message("GET", "/", &fields, b""))
}

fn server(answer: &Response) -> String {
    let name = answer.headers.get("x-backend");
    name.expect("a server's answer").to_owned()
}

#[test]
fn a_client_with_the_cookie_comes_back_to_its_server() {
    let backends = four();
    let proxy = before(&backends, STICKY);
    for _ in 0..4 {
        let first = proxy.get("/");
        let cookie = cookie(&first).expect("a cookie");
        for _ in 0..8 {
            let again = get_with(&proxy, &format!("a=1; {cookie}; b=2"));
            assert_eq!(server(&again), server(&first));
            assert_eq!(again.headers.get("set-cookie"), None);
        }
    }
}

#[test]
fn the_cookie_says_nothing_to_others() {
    let backends = [Backend::start()];
    let proxy = before(&backends, STICKY);
    let first = proxy.get("/");
    let set = first.headers.get("set-cookie").expect("a cookie");
    let (_, attributes) = set.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    let own = cookie(&first).expect("a cookie");
    for (sent, passed) in [
        (format!("a=1; {own}; b=2"), Some("a=1; b=2")),
        (own.clone(), None),
        ("a=1".to_owned(), Some("a=1")),
    ] {
        let fields = [("cookie", &*sent)];
        let seen = request(proxy.addr(), message("GET", "/headers", &fields, b"")).json();
        assert_eq!(seen["headers"]["cookie"][0].as_str(), passed, "{sent}");
    }
}

#[test]
fn over_tls_it_is_for_tls_alone() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["a.example"]);
    let proxy = Proxy::new()
        .listener(&format!("tls = {{ certificates = [{}] }}", files.entry()))
        .unprobed_with("app", &[backend.addr()], STICKY)
        .start();
    let mut client =
        connect(proxy.addr(), "a.example", &authority.anonymous()).expect("a handshake");
    let head = client.ask("/", "").expect("an answer");
    let set = head.lines().find(|line| line.starts_with("set-cookie: "));
    assert!(set.expect("a cookie").ends_with("; Secure"), "{head}");
}

#[test]
fn what_servers_set_stays() {
    let server = RawBackend::answering(
        b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n",
    );
    let proxy = Proxy::new()
        .unprobed_with("app", &[server.addr()], STICKY)
        .start();
    let answer = proxy.get("/");
    let set: Vec<_> = answer.headers.all("set-cookie").collect();
    assert_eq!(set[..2], ["a=1", "b=2"]);
    assert!(set[2].starts_with("lb="), "{set:?}");
}

#[test]
fn a_client_whose_server_is_gone_gets_another_one() {
    let mut backends = four();
    let proxy = before(&backends, STICKY);
    let first = proxy.get("/");
    let name = server(&first);
    let its = backends.iter_mut().find(|backend| backend.name() == name);
    its.expect("one of them").kill_9();
    let second = get_with(&proxy, &cookie(&first).expect("a cookie"));
    assert_eq!(second.status, 200);
    let cookie = cookie(&second).expect("a new cookie");
    for _ in 0..8 {
        assert_eq!(server(&get_with(&proxy, &cookie)), server(&second));
    }
}

#[test]
fn a_cookie_of_somebody_else_is_none() {
    let backends = four();
    let proxy = before(&backends, STICKY);
    let real = cookie(&proxy.get("/")).expect("a cookie");
    let (start, last) = real.split_at(real.len() - 5);
    let swapped = if last.starts_with('A') { "B" } else { "A" };
    let forged = [start, swapped, &last[1..]].concat();
    for cookie_sent in ["lb=", "lb=x", "lb=127.0.0.1:80", &forged, "lb"] {
        let answer = get_with(&proxy, cookie_sent);
        assert_eq!(answer.status, 200);
        assert!(cookie(&answer).is_some(), "{cookie_sent}");
    }
}

#[test]
fn sessions_survive_the_process_if_there_is_a_secret() {
    let backends = four();
    for (sticky, survives) in [(SECRET, true), (STICKY, false)] {
        let mut proxy = before(&backends, sticky);
        let first = proxy.get("/");
        let cookie_sent = cookie(&first).expect("a cookie");
        proxy.kill_9_and_restart();
        let again = get_with(&proxy, &cookie_sent);
        assert_eq!(cookie(&again).is_none(), survives);
        assert!(!survives || server(&again) == server(&first));
    }
}
