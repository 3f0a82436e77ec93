//! The access log: a line for each request, with what happened to it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::client::{Connection, message, request};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::temp_dir::TempDir;
use crate::support::wait_until;

/// A log file to be.
struct LogFile {
    _directory: TempDir,
    path: PathBuf,
}

impl LogFile {
    fn new() -> Self {
        let directory = TempDir::new();
        let path = directory.path().join("access.log");
        Self {
            _directory: directory,
            path,
        }
    }

    fn table(&self, format: &str) -> String {
        let path = &self.path;
        format!("[access_log]\nformat = {format:?}\npath = {path:?}\n")
    }

    /// Waits for as many lines. There are never more.
    fn lines(&self, count: usize) -> Vec<String> {
        let mut text = String::new();
        wait_until(&format!("{count} lines"), || {
            text = fs::read_to_string(&self.path).unwrap_or_default();
            text.matches('\n').count() >= count
        });
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    /// The only line, as JSON.
    fn only_record(&self) -> Value {
        let line = self.lines(1).swap_remove(0);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

#[test]
fn a_connection_that_is_passed_on_has_a_line_too() {
    let (log, backend) = (LogFile::new(), Backend::start());
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"app\"")
        .unprobed("app", &[backend.addr()])
        .extra(&log.table("json"))
        .start();
    let mut client = proxy.connect();
    let sent = client.get("/").expect("an answer").body.len() as u64;
    drop(client);
    let record = log.only_record();
    for (field, value) in [
        ("client", json!("127.0.0.1")),
        ("protocol", json!("tcp")),
        ("listener", json!("web")),
        ("name", json!("")),
        ("upstream", json!("app")),
        ("server", json!(backend.addr().to_string())),
        ("retries", json!(0)),
        ("received", json!(message("GET", "/", &[], b"").len())),
        ("reason", json!("client")),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    assert!(record["sent"].as_u64() > Some(sent), "with its head");
    let time = |field: &str| record[field].as_f64().expect("seconds");
    assert!(0.0 < time("connect") && time("connect") <= time("duration"));
}

/// A proxy that logs JSON, in front of one server.
fn logging(log: &LogFile, server: impl std::fmt::Display) -> RunningProxy {
    Proxy::new()
        .upstream_with("app", &[server], "health_check = { kind = \"off\" }")
        .extra(&log.table("json"))
        .extra("[[routes]]\nname = \"site\"\nhosts = [\"a.example\"]\nupstream = \"app\"")
        .start()
}

#[test]
fn a_line_says_all_about_a_request_and_its_answer() {
    let (log, backend) = (LogFile::new(), Backend::start());
    let proxy = logging(&log, backend.addr());
    let headers = [
        ("host", "a.example"),
        ("user-agent", "test \"1\""),
        ("referer", "http://b.example/"),
        ("x-request-id", "7b3f"),
    ];
    let sent = message("POST", "/echo?q=1&r=%22", &headers, b"hello");
    assert_eq!(request(proxy.addr(), sent).text(), "hello");

    let mut record = log.only_record();
    let record = record.as_object_mut().expect("an object");
    let duration = record.remove("duration").and_then(|it| it.as_f64());
    assert!(
        duration.is_some_and(|it| it > 0.0 && it < 10.0),
        "{duration:?}"
    );
    let time = record.remove("time").expect("a time");
    let time: jiff::Timestamp = serde_json::from_value(time).expect("RFC 3339");
    let age = jiff::Timestamp::now().as_second() - time.as_second();
    assert!((0..=60).contains(&age), "{age} s old");
    assert_eq!(
        Value::Object(record.clone()),
        json!({
            "client": "127.0.0.1",
            "method": "POST",
            "host": "a.example",
            "target": "/echo?q=1&r=%22",
            "protocol": "HTTP/1.1",
            "status": 200,
            "received": 5,
            "sent": 5,
            "referer": "http://b.example/",
            "user_agent": "test \"1\"",
            "request_id": "7b3f",
            "route": "site",
            "upstream": "app",
            "server": backend.addr().to_string(),
            "retries": 0,
            "retried": "",
            "hedged": false,
            "complete": true,
            "error": "",
        })
    );
}

/// Panics unless the record has these values.
#[track_caller]
fn assert_has(record: &Value, expected: Value) {
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&record[key], value, "{key} of {record:#}");
    }
}

#[test]
fn a_request_without_a_route_has_neither_upstream_nor_server() {
    let log = LogFile::new();
    let proxy = logging(&log, "127.0.0.1:1");
    let answer = request(
        proxy.addr(),
        message("GET", "/x", &[("host", "b.example")], b""),
    );
    assert_eq!(answer.status, 404);
    let expected = json!({
        "status": 404, "route": "", "upstream": "", "server": "", "complete": true, "error": "no_route",
        "host": "b.example", "target": "/x", "sent": answer.body.len(), "received": 0,
        "request_id": answer.headers.get("x-request-id"), "user_agent": "", "referer": "",
    });
    assert_has(&log.only_record(), expected);
}

#[test]
fn a_request_that_no_server_answers_names_the_last_one_tried() {
    let log = LogFile::new();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let closed = closed.expect("a free port");
    let proxy = logging(&log, closed);
    let answer = request(
        proxy.addr(),
        message("GET", "/x", &[("host", "a.example")], b""),
    );
    assert_eq!(answer.status, 502);
    let expected = json!({
        "status": 502, "route": "site", "upstream": "app", "server": closed.to_string(),
        "retries": 0, "complete": true, "sent": answer.body.len(),
    });
    assert_has(&log.only_record(), expected);
}

#[test]
fn a_try_on_another_server_is_counted() {
    let (log, backend) = (LogFile::new(), Backend::start());
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let closed = closed.expect("a free port");
    let proxy = Proxy::new()
        .upstream_with(
            "app",
            &[closed, backend.addr()],
            "health_check = { kind = \"off\" }",
        )
        .extra(&log.table("json"))
        .start();
    // The servers take turns, so that at least one of two requests begins with the closed one.
    assert_eq!([proxy.get("/").status, proxy.get("/").status], [200; 2]);
    let lines = log.lines(2);
    let records = lines.iter().map(|line| serde_json::from_str::<Value>(line));
    let records: Vec<_> = records.map(|record| record.expect("JSON")).collect();
    assert!(
        records
            .iter()
            .any(|record| record["retries"] == 1 && record["retried"] == "connect"),
        "{records:#?}"
    );
    for record in &records {
        assert_has(
            record,
            json!({ "server": backend.addr().to_string(), "status": 200 }),
        );
    }
}

#[test]
fn an_answer_that_the_client_gave_up_is_not_complete() {
    let (log, backend) = (LogFile::new(), Backend::start());
    let proxy = logging(&log, backend.addr());
    let mut client = Connection::open(proxy.addr()).expect("the proxy listens");
    let asking = message("GET", "/slow/1MiB/20000", &[("host", "a.example")], b"");
    client.send_raw(asking).expect("sent");
    assert_eq!(client.read_head().expect("an answer").status, 200);
    client.read_exact(1000).expect("the first bytes");
    drop(client);

    let record = log.only_record();
    assert_has(&record, json!({ "status": 200, "complete": false }));
    let sent = record["sent"].as_u64().expect("a number");
    assert!((1000..1 << 20).contains(&sent), "{sent}");
}

#[test]
fn an_answer_that_the_server_cut_off_is_not_complete() {
    let (log, backend) = (LogFile::new(), Backend::start());
    let proxy = logging(&log, backend.addr());
    let mut client = Connection::open(proxy.addr()).expect("the proxy listens");
    let asking = message("GET", "/cut/1000", &[("host", "a.example")], b"");
    client
        .request(asking)
        .expect_err("half of the body is missing");
    let expected = json!({ "status": 200, "complete": false, "sent": 500 });
    assert_has(&log.only_record(), expected);
}

#[test]
fn combined_lines_are_those_of_apache() {
    let (log, backend) = (LogFile::new(), Backend::start());
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra(&log.table("combined"))
        .start();
    let headers = [
        ("user-agent", "test \"1\""),
        ("referer", "http://b.example/"),
    ];
    request(proxy.addr(), message("GET", "/bytes/7?q=1", &headers, b""));
    request(proxy.addr(), message("DELETE", "/status/404", &[], b""));

    let lines = log.lines(2);
    let parts: Vec<_> = lines
        .iter()
        .map(|line| {
            let (client, rest) = line.split_once(" [").expect("a time");
            let (time, rest) = rest.split_once("] ").expect("the time's end");
            // 21/Nov/2026:08:30:00 +0000
            assert_eq!(time.len(), 26, "{line}");
            assert!(time.ends_with(" +0000"), "{line}");
            (client, rest)
        })
        .collect();
    assert_eq!(
        parts[0],
        (
            "127.0.0.1 - -",
            r#""GET /bytes/7?q=1 HTTP/1.1" 200 7 "http://b.example/" "test \"1\"""#
        )
    );
    let (_, rest) = parts[1];
    assert!(
        rest.starts_with(r#""DELETE /status/404 HTTP/1.1" 404 "#),
        "{rest}"
    );
    assert!(rest.ends_with(r#" "-" "-""#), "{rest}");
}

#[test]
fn lines_are_appended_and_none_is_lost_at_the_end() {
    let log = LogFile::new();
    fs::write(&log.path, "from before\n").expect("the directory is new");
    let mut proxy = Proxy::new()
        .extra(&log.table("json"))
        .extra("[[routes]]\nrespond = {}")
        .start();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert!(proxy.terminate().success());
    let text = fs::read_to_string(&log.path).expect("the log");
    assert_eq!(text.lines().next(), Some("from before"));
    assert_eq!(text.lines().count(), 21);
}

#[test]
fn sigusr1_reopens_the_file_after_a_rotation() {
    let log = LogFile::new();
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra(&log.table("json"))
        .start();
    proxy.get("/");
    log.lines(1);
    let rotated = log.path.with_extension("1");
    fs::rename(&log.path, &rotated).expect("a renamed log");
    proxy.process().signal("USR1");
    wait_until("the log is there again", || log.path.exists());
    proxy.get("/");
    log.lines(1);
    let old = fs::read_to_string(&rotated).expect("the rotated log");
    assert_eq!(old.lines().count(), 1);
}

#[test]
fn a_reason_is_given_for_answers_of_the_proxy_and_for_broken_ones() {
    let log = LogFile::new();
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra(&log.table("json"))
        .start();
    let mut client = Connection::open(proxy.addr()).expect("a connection");
    assert!(client.get("/cut/100000").is_err(), "the answer was cut");
    assert_eq!(proxy.get("/reset").status, 502);
    assert_eq!(proxy.get("/").status, 200);
    let reasons: Vec<Value> = log
        .lines(3)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["error"].clone())
        .collect();
    assert_eq!(reasons, ["answer_broken", "server_closed", ""]);
}

#[test]
fn what_is_no_request_has_a_line_too() {
    let log = LogFile::new();
    let proxy = Proxy::new()
        .listener("timeouts = { headers = \"200ms\" }")
        .extra(&log.table("json"))
        .extra("[[routes]]\nrespond = {}")
        .start();
    let cases = [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nhost:", 408, "headers_timeout"),
    ];
    for (number, (text, status, error)) in (1..).zip(cases) {
        let answer = request(proxy.addr(), text);
        assert_eq!(answer.status, status);
        assert!(answer.headers.get("date").is_some());
        let id = answer.headers.get("x-request-id").expect("it has an id");
        let line = log.lines(number).swap_remove(number - 1);
        let record: Value = serde_json::from_str(&line).expect("JSON");
        assert_has(
            &record,
            json!({ "status": status, "error": error, "request_id": id, "sent": answer.text().len() }),
        );
    }
    assert_eq!(proxy.metric("lb_requests_total"), 2);
}
