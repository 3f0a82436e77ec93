//! New configurations: what brings them, what is said of them, and what becomes of bad ones.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::process::{LOADBALANCER, Process};
use crate::support::proxy::{Proxy, RunningProxy, address_of};
use crate::support::temp_dir::TempDir;
use crate::support::{client, in_parallel, wait_until};

/// A configuration whose answers say which one it is.
pub fn saying(word: &str) -> Proxy {
    Proxy::new()
        .setting("workers = 2")
        .extra(&format!("[[routes]]\nrespond = {{ body = {word:?} }}"))
}

/// The same, taken over only by those who ask for it.
fn unwatched(word: &str) -> Proxy {
    saying(word).setting("watch_config = false")
}

fn says(proxy: &RunningProxy, word: &str) -> bool {
    proxy.get("/").text() == word
}

fn wait_until_it_says(proxy: &RunningProxy, word: &str) {
    wait_until(word, || says(proxy, word));
}

fn status(proxy: &RunningProxy) -> Value {
    proxy.admin_json("/config/status")
}

/// The errors of an answer that refuses a configuration.
fn errors(answer: &Response) -> Value {
    assert_eq!(answer.status, 422, "{}", answer.text());
    answer.json()["errors"].clone()
}

#[test]
fn a_file_that_was_replaced_is_taken_over() {
    let proxy = saying("one").start();
    assert!(says(&proxy, "one"));
    proxy.write(&saying("two"));
    wait_until_it_says(&proxy, "two");
    assert_eq!(status(&proxy)["by"], "file");
}

#[test]
fn a_file_that_was_written_in_place_is_taken_over() {
    let proxy = saying("one").start();
    let text = fs::read_to_string(proxy.config_file()).expect("it is there");
    fs::write(proxy.config_file(), text.replace("one", "two")).expect("written");
    wait_until_it_says(&proxy, "two");
}

#[test]
fn a_symbolic_link_that_was_swapped_is_taken_over() {
    // As Kubernetes mounts a ConfigMap: the file is a link through a link to a directory.
    let directory = TempDir::new();
    let path = |name: &str| directory.path().join(name);
    for (version, word) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(path(version)).expect("a new directory");
        let text = format!(
            "[admin]\nlisten = \"off\"\n[[listeners]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
             [[routes]]\nrespond = {{ body = {word:?} }}"
        );
        fs::write(path(version).join("config.toml"), text).expect("written");
    }
    symlink("v1", path("..data")).expect("linked");
    symlink("..data/config.toml", path("config.toml")).expect("linked");
    let file = path("config.toml");
    let file = file.to_str().expect("UTF-8");
    let process = Process::start(LOADBALANCER, &["--config", file]);
    let web = address_of(&process, "web");
    wait_until("it serves", || client::try_get(web, "/").is_ok());
    assert_eq!(client::get(web, "/").text(), "one");
    symlink("v2", path("..new")).expect("linked");
    fs::rename(path("..new"), path("..data")).expect("swapped");
    wait_until("two", || client::get(web, "/").text() == "two");
}

#[test]
fn sighup_has_the_file_read_again() {
    let proxy = unwatched("one").start();
    proxy.write(&unwatched("two"));
    assert!(says(&proxy, "one"));
    proxy.process().signal("HUP");
    wait_until_it_says(&proxy, "two");
    assert_eq!(status(&proxy)["by"], "signal");
}

#[test]
fn the_admin_api_has_the_file_read_again_and_says_what_changed() {
    let proxy = unwatched("one").start();
    proxy.write(&unwatched("two").listener("max_connections = 7"));
    let answer = proxy.reload();
    assert_eq!(answer.status, 200, "{}", answer.text());
    // All workers have it by now.
    let answers = in_parallel(16, |_| proxy.get("/").text().to_owned());
    assert_eq!(answers, vec!["two"; 16]);
    let body = answer.json();
    assert_eq!(body["generation"], 2);
    let changes = body["changes"].as_array().expect("a list");
    assert_eq!(changes.len(), 2, "{changes:?}");
    let says = |part: &str| {
        changes
            .iter()
            .any(|it| it.as_str().is_some_and(|it| it.contains(part)))
    };
    assert!(says("max_connections"), "{changes:?}");
    assert_eq!(
        proxy.admin_json("/config")["listeners"][0]["max_connections"],
        7
    );
    assert_eq!(
        proxy.reload().json()["changes"],
        json!([]),
        "nothing has changed"
    );
}

#[test]
fn a_bad_file_changes_nothing_and_its_errors_are_everywhere() {
    let proxy = unwatched("one").start();
    let file = proxy.config_file().display().to_string();
    let listener = "[[listeners]]\nlisten = \"127.0.0.1:0\"";
    proxy.write_text(&format!(
        "workers = \"many\"\nwat = 1\n{listener}\n[[routes]]\nrespond = {{}}"
    ));
    let answer = proxy.reload();
    let errors = errors(&answer);
    let places: Vec<_> = errors
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| (it["file"].clone(), it["line"].clone(), it["key"].clone()))
        .collect();
    assert_eq!(
        places,
        [
            (json!(file), json!(1), json!("workers")),
            (json!(file), json!(2), json!("wat"))
        ]
    );
    assert!(says(&proxy, "one"));
    proxy.process().wait_for_line(&format!("{file}:2: wat"));
    let status = status(&proxy);
    assert_eq!(status["generation"], 1);
    assert_eq!(status["last"]["result"], "failure");
    assert_eq!(status["last"]["errors"], errors);
    let metrics = proxy.metrics();
    for line in [
        "lb_config_last_reload_successful 0",
        "lb_config_reloads_total{result=\"failure\"} 1",
        "lb_config_generation 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}");
    }
}

#[test]
fn a_bad_file_is_tried_once_and_a_good_one_after_it_is_taken_over() {
    let proxy = saying("one").start();
    proxy.write_text("wat = 1");
    wait_until("it has been tried", || status(&proxy)["failures"] == 1);
    proxy.write(&saying("two"));
    wait_until_it_says(&proxy, "two");
    assert_eq!(status(&proxy)["failures"], 1);
    assert_eq!(status(&proxy)["last"]["result"], "success");
}

#[test]
fn a_certificate_that_is_missing_refuses_the_whole() {
    let proxy = unwatched("one").start();
    let tls = "tls = { certificates = [{ cert = \"no.crt\", key = \"no.key\" }] }";
    proxy.write(&unwatched("two").listener(tls));
    let errors = errors(&proxy.reload());
    assert!(errors.to_string().contains("no.crt"), "{errors}");
    assert!(says(&proxy, "one"));
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_applies() {
    let proxy = unwatched("one").start();
    let config = Proxy::new()
        .setting("workers = 1\nwatch_config = false")
        .extra("[access_log]\npath = \"/dev/null\"\n[[routes]]\nrespond = { body = \"two\" }");
    proxy.write(&config);
    let answer = proxy.reload().json();
    assert_eq!(answer["restart_needed"], json!(["workers", "access_log"]));
    assert!(says(&proxy, "two"));
    assert_eq!(
        proxy.admin_json("/config")["workers"],
        2,
        "what is in force"
    );
    assert_eq!(status(&proxy)["restart_needed"], answer["restart_needed"]);
    proxy.process().wait_for_line("a restart is needed");
    proxy.change_to(&unwatched("three"));
    assert_eq!(status(&proxy)["restart_needed"], json!([]));
}

#[test]
fn without_watch_config_the_file_is_left_alone_until_it_is_back() {
    let proxy = saying("one").start();
    proxy.change_to(&unwatched("two"));
    proxy.write(&saying("three"));
    // That two looks would have been taken by now shows the other proxy, whose file changed later.
    let other = saying("one").start();
    other.write(&saying("two"));
    wait_until_it_says(&other, "two");
    assert!(says(&proxy, "two"));
    assert_eq!(proxy.reload().status, 200);
    proxy.write(&saying("four"));
    wait_until_it_says(&proxy, "four");
}

#[test]
fn a_limit_keeps_its_counts_unless_its_numbers_change() {
    let limited = |requests: u32, word: &str| {
        unwatched(word).extra(&format!(
            "[rate_limit]\nrequests = {requests}\nwindow = \"10m\""
        ))
    };
    let proxy = limited(3, "one").start();
    let statuses = |count: usize| {
        (0..count)
            .map(|_| proxy.get("/").status)
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses(2), [200, 200]);
    proxy.change_to(&limited(3, "two"));
    assert_eq!(statuses(2), [200, 429], "two were counted before");
    assert_eq!(proxy.metric("lb_limit_denied_total"), 1);
    proxy.change_to(&limited(2, "two"));
    assert_eq!(statuses(3), [200, 200, 429], "it starts anew");
    assert_eq!(
        proxy.metric("lb_limit_denied_total"),
        2,
        "and its figures go on"
    );
}

#[test]
fn counters_go_on() {
    let proxy = unwatched("one").start();
    for number in 1..=3 {
        assert_eq!(proxy.get("/").status, 200);
        let word = format!("config {number}");
        proxy.change_to(&unwatched(&word));
        assert_eq!(proxy.metric("lb_requests_total"), number);
        assert_eq!(proxy.metric("lb_connections_accepted_total"), number);
    }
}
