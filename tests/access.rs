//! Allow and deny lists of listeners and routes: who is served, who is not, and how lists in files change.

use std::fs;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
use std::io::Write;
use std::path::PathBuf;

use crate::support::backend::RawBackend;
use crate::support::client::{Connection, message};
use crate::support::process::{LOADBALANCER, Process};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::temp_dir::TempDir;
use crate::support::tls::Authority;
use crate::support::{DEADLINE, wait_until};

/// A proxy without servers whose listener has these keys.
fn guarded(listener: &str) -> Proxy {
    Proxy::new()
        .setting("workers = 2")
        .listener(listener)
        .extra("[[routes]]\nrespond = {}")
}

/// Whether a client of this address is served; else its connection was reset.
fn serves(proxy: &RunningProxy, client: [u8; 4]) -> bool {
    let answer = Connection::open_from(client, proxy.addr()).and_then(|mut it| it.get("/"));
    match answer {
        Ok(answer) => {
            assert_eq!(answer.status, 200);
            true
        }
        Err(error) => {
            // Whoever writes first hears of the reset there, and reads the end.
            let kinds = [ConnectionReset, BrokenPipe, NotConnected, UnexpectedEof];
            assert!(kinds.contains(&error.kind()), "{error}");
            false
        }
    }
}

/// A file of networks of a test's own.
struct List(TempDir);

impl List {
    fn holding(content: &str) -> Self {
        let list = Self(TempDir::new());
        list.write(content);
        list
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("list.txt")
    }

    /// As it is written in the configuration.
    fn source(&self) -> String {
        format!("{:?}", format!("file:{}", self.path().display()))
    }

    /// Puts another file in its place.
    fn write(&self, content: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, content).expect("the directory is ours");
        fs::rename(new, self.path()).expect("the directory is ours");
    }
}

#[test]
fn the_most_specific_of_allow_and_deny_decides_on_connections() {
    let proxy = guarded(
        r#"allow = ["127.0.0.0/24", "127.0.1.7"]
           deny = ["127.0.0.128/25", "127.0.0.5"]"#,
    );
    let proxy = proxy.start();
    for (client, served) in [
        ([127, 0, 0, 1], true),
        ([127, 0, 0, 5], false),
        ([127, 0, 0, 200], false),
        ([127, 0, 1, 7], true),
        ([127, 0, 1, 8], false),
    ] {
        assert_eq!(serves(&proxy, client), served, "{client:?}");
    }
    assert_eq!(proxy.metric("lb_access_denied_total"), 3);
    let lists = proxy.admin_json("/access")["lists"].clone();
    let expected = serde_json::json!([
        {"listener": "web", "route": null, "allow": 2, "deny": 2, "refused": 3}
    ]);
    assert_eq!(lists, expected);
    // Each worker tells of the first that it refused.
    let output = proxy.process().output();
    let told = output.matches("a connection was refused").count();
    assert!((1..=2).contains(&told), "{output}");
}

#[test]
fn who_is_denied_gets_a_reset_and_not_a_word() {
    let proxy = guarded("deny = [\"127.0.0.9\"]").start();
    for _ in 0..10 {
        let silent = Connection::open_from([127, 0, 0, 9], proxy.addr());
        let error = silent.and_then(|mut it| it.read_to_end()).unwrap_err();
        assert_eq!(error.kind(), ConnectionReset);
    }
    assert_eq!(proxy.metric("lb_access_denied_total"), 10);
}

#[test]
fn servers_of_tcp_hear_nothing_of_those_who_are_denied() {
    let server = RawBackend::start(|connection| connection.stream.write_all(b"220 hello\r\n"));
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"mail\"\ndeny = [\"127.0.0.9\"]")
        .listener("connection_rate = { connections = 1, window = \"10m\" }")
        .unprobed("mail", &[server.addr()])
        .start();
    let greeted = |client| {
        let connection = Connection::open_from(client, proxy.addr());
        let read = connection.and_then(|mut it| it.read_to_end());
        read.is_ok_and(|greeting| greeting == b"220 hello\r\n")
    };
    let clients = [
        [127, 0, 0, 9],
        [127, 0, 0, 8],
        [127, 0, 0, 8],
        [127, 0, 0, 7],
    ];
    assert_eq!(clients.map(greeted), [false, true, false, true]);
    assert_eq!(server.connections(), 2);
}

#[test]
fn tls_is_not_spoken_with_those_who_are_denied() {
    let authority = Authority::new();
    let tls = authority.issue(&["localhost"]).entry();
    let tls = format!("tls = {{ certificates = [{tls}] }}");
    let proxy = guarded(&format!("deny = [\"127.0.0.9\"]\n{tls}")).start();
    assert!(!serves(&proxy, [127, 0, 0, 9]));
    assert_eq!(proxy.metric("lb_tls_failures_total"), 0);
}

#[test]
fn behind_a_proxy_the_client_of_the_header_is_meant() {
    let proxy = guarded("proxy_protocol = \"required\"\ndeny = [\"192.0.2.0/24\", \"127.0.0.2\"]")
        .setting("trusted_proxies = [\"127.0.0.0/8\"]")
        .start();
    let statuses = ["192.0.2.7", "198.51.100.7"].map(|client| {
        // The proxy itself may be on a list, which is none of its clients' business.
        let mut connection =
            Connection::open_from([127, 0, 0, 2], proxy.addr()).expect("it listens");
        let header = format!("PROXY TCP4 {client} 198.51.100.1 4321 443\r\n");
        let request = message("GET", "/", &[], b"");
        let answer = connection.request([header.as_bytes(), &request].concat());
        answer.map(|it| it.status).unwrap_or_default()
    });
    assert_eq!(statuses, [0, 200]);
    assert_eq!(proxy.metric("lb_access_denied_total"), 1);
}

#[test]
fn routes_refuse_with_403_whom_trusted_proxies_name() {
    let proxy = Proxy::new()
        .setting("workers = 1\ntrusted_proxies = [\"127.0.0.1\"]")
        .extra(
            r#"
[[routes]]
name = "inside"
paths = ["/admin/*"]
allow = ["10.0.0.0/8", "2001:db8::/32"]
deny = ["10.9.0.0/16"]
respond = {}
[[routes]]
respond = {}
"#,
        )
        .start();
    let ask = |path: &str, client: &str| {
        let fields = [("x-forwarded-for", client), ("accept", "application/json")];
        let mut connection = proxy.connect();
        connection
            .request(message("GET", path, &fields, b""))
            .expect("an answer")
    };
    for (client, status) in [
        ("10.1.1.1", 200),
        ("::ffff:10.1.1.1", 200),
        ("2001:db8::1", 200),
        ("10.9.1.1", 403),
        ("192.0.2.1", 403),
        ("2001:db9::1", 403),
    ] {
        assert_eq!(ask("/admin/x", client).status, status, "{client}");
        assert_eq!(ask("/", client).status, 200);
    }
    let refused = ask("/admin/x", "192.0.2.1");
    assert_eq!(refused.json()["error"], "forbidden");
    assert_eq!(
        proxy.metric_with("lb_access_denied_total", "route=\"inside\""),
        4
    );
    assert_eq!(proxy.metric("lb_access_denied_total"), 4);
}

#[test]
fn files_are_taken_over_when_they_change_and_bad_ones_are_not() {
    let list = List::holding("127.0.0.7 # somebody\n");
    let source = list.source();
    let proxy = guarded(&format!("deny = [{source}, \"127.0.0.9\"]"))
        .extra(&format!(
            "[[listeners]]\nname = \"other\"\nlisten = \"127.0.0.1:0\"\ndeny = [{source}]"
        ))
        .start();
    assert!(!serves(&proxy, [127, 0, 0, 7]) && !serves(&proxy, [127, 0, 0, 9]));
    let open = Connection::open_from([127, 0, 0, 8], proxy.addr());
    let mut open = open.expect("it listens");
    assert_eq!(open.get("/").expect("an answer").status, 200);

    list.write("127.0.0.8\n127.0.0.10\n");
    wait_until("the new list", || !serves(&proxy, [127, 0, 0, 8]));
    assert!(serves(&proxy, [127, 0, 0, 7]) && !serves(&proxy, [127, 0, 0, 9]));
    assert_eq!(
        open.get("/").expect("an answer").status,
        200,
        "it was there"
    );
    let report = proxy.admin_json("/access");
    let files = report["files"].as_array().expect("a list");
    assert_eq!(files.len(), 1, "it is read once: {report}");
    assert_eq!(files[0]["entries"], 2);
    assert_eq!(report["lists"][0]["deny"], 3);

    list.write("127.0.0.7\n127.0.0\n");
    wait_until("the error", || {
        proxy.metric("lb_access_file_entries") == 2 && proxy.metric("lb_access_file_ok") == 0
    });
    assert!(!serves(&proxy, [127, 0, 0, 8]) && serves(&proxy, [127, 0, 0, 7]));
    let line = format!("{}:2: \"127.0.0\" is no network", list.path().display());
    assert!(proxy.process().output().contains(&line));
    let refused = proxy.reload();
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("list.txt:2"), "{}", refused.text());
    let errors = refused.json()["errors"].clone();
    let key = errors[0]["key"].as_str().expect("it names the key");
    assert!(key.contains(".deny["), "{errors}");
    assert!(errors[0]["line"].is_u64() && errors[0]["file"].is_string());

    list.write("127.0.0.7\n");
    wait_until("the list in order", || !serves(&proxy, [127, 0, 0, 7]));
    assert_eq!(proxy.metric("lb_access_file_ok"), 1);
    assert_eq!(proxy.reload().status, 200);
}

#[test]
fn lists_follow_new_configurations() {
    let proxy = guarded("").start();
    assert!(serves(&proxy, [127, 0, 0, 7]));
    proxy.change_to(&guarded("deny = [\"127.0.0.7\"]"));
    assert!(!serves(&proxy, [127, 0, 0, 7]));
    proxy.change_to(&guarded("deny = [\"127.0.0.8\"]"));
    assert!(serves(&proxy, [127, 0, 0, 7]) && !serves(&proxy, [127, 0, 0, 8]));
    proxy.change_to(&guarded(""));
    assert!(serves(&proxy, [127, 0, 0, 8]));
    assert_eq!(proxy.metric("lb_access_denied_total"), 2);
}

#[test]
fn check_and_the_start_tell_of_files_that_cannot_be_used() {
    let directory = TempDir::new();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("bad.txt"), "10.0.0.0/8\nexample.com\n").expect("the directory is ours");
    let config = format!(
        "admin = {{ listen = \"off\" }}\n[[listeners]]\nlisten = \"127.0.0.1:0\"\n\
         deny = [\"file:{bad}\", \"file:{missing}\"]\n[[routes]]\nrespond = {{}}\nallow = [\"file:{bad}\"]\n",
        bad = path("bad.txt").display(),
        missing = path("missing.txt").display(),
    );
    fs::write(path("lb.toml"), config).expect("the directory is ours");
    let config = path("lb.toml");
    let config = config.to_str().expect("the path is UTF-8");
    for arguments in [&["--config", config, "--check"][..], &["--config", config]] {
        let mut process = Process::start(LOADBALANCER, arguments);
        assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
        let output = process.output();
        assert_eq!(
            output
                .matches("bad.txt:2: \"example.com\" is no network")
                .count(),
            1,
            "{output}"
        );
        assert!(output.contains("missing.txt\": No such file"), "{output}");
    }
}

/// A client behind a proxy that this one trusts cannot be taken for that proxy, nor for somebody else, by what it sent to it:
/// what that has added at the end counts.
#[test]
fn a_client_cannot_hide_behind_the_proxy_that_it_comes_from() {
    let proxy = Proxy::new()
        .setting("workers = 1\ntrusted_proxies = [\"127.0.0.1\"]")
        .extra("[[routes]]\nallow = [\"127.0.0.0/8\", \"192.0.2.0/24\"]\nrespond = {}")
        .start();
    let status = |line: &[u8]| {
        let bytes = [b"GET / HTTP/1.1\r\nhost: test\r\n", line, b"\r\n\r\n"].concat();
        let answer = proxy.connect().request(bytes);
        answer.expect("an answer").status
    };
    let lines: [&[u8]; 9] = [
        b"x-forwarded-for: 203.0.113.5",
        b"x-forwarded-for: \xff, 203.0.113.5",
        b"x-forwarded-for: 192.0.2.1\xff, 203.0.113.5",
        b"forwarded: \xff, for=203.0.113.5",
        b"forwarded: for=\", for=203.0.113.5",
        b"forwarded: for=\", for=203.0.113.5;proto=http;host=\"x,for=192.0.2.1\"",
        b"forwarded: for=203.0.113.5;proto=http;host=\"x,for=192.0.2.1\"",
        b"forwarded: host=\"x;for=192.0.2.1\";for=203.0.113.5",
        b"forwarded: host=\"x\\\",for=192.0.2.1\";for=203.0.113.5",
    ];
    for line in lines {
        assert_eq!(status(line), 403, "{}", String::from_utf8_lossy(line));
    }
    assert_eq!(status(b"x-forwarded-for: \xff, 192.0.2.1"), 200);
    assert_eq!(status(b"forwarded: for=\", for=192.0.2.1"), 200);
}
