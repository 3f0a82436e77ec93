//! The command line: what it prints, how it exits, and where settings come from.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::DEADLINE;
use crate::support::client::get;
use crate::support::process::{LOADBALANCER, Process};
use crate::support::proxy::{Proxy, address_of};
use crate::support::temp_dir::TempDir;

/// The project's own directory.
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A file that is valid.
const VALID: &str = r#"
[admin]
listen = "off"
[[listeners]]
name = "web"
listen = "127.0.0.1:0"
[[routes]]
respond = { body = "here I am" }
"#;

/// A configuration file in a directory of its own.
struct ConfigFile {
    _directory: TempDir,
    path: PathBuf,
}

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let directory = TempDir::new();
        let path = directory.path().join(name);
        fs::write(&path, text).expect("the directory is new");
        Self {
            _directory: directory,
            path,
        }
    }

    fn path(&self) -> &str {
        text(&self.path)
    }
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("the temporary directory's name is UTF-8")
}

/// Runs the program to its end, which must come soon, and returns its exit code and all lines.
fn run(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut process = Process::start_with_env(LOADBALANCER, args, &variables.collect::<Vec<_>>());
    let code = process.wait_exit(DEADLINE).code();
    (code, process.output().lines().map(str::to_owned).collect())
}

/// `--check` on a file of this text.
fn check(config: &str, variables: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let file = ConfigFile::new("lb.toml", config);
    let (code, lines) = run(&["--config", file.path(), "--check"], variables);
    let directory = format!("{}/", text(file._directory.path()));
    (
        code,
        lines
            .iter()
            .map(|line| line.replace(&directory, ""))
            .collect(),
    )
}

#[test]
fn help_and_version_are_given_and_nothing_else_is_done() {
    let (code, lines) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    let help = lines.join("\n");
    for word in [
        "--config",
        "--check",
        "--version",
        "diff",
        "LB__",
        "RUST_LOG",
        "SIGTERM",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let version = concat!("loadbalancer ", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        run(&["--version"], &[]),
        (Some(0), vec![version.to_owned()])
    );

    let (code, lines) = run(&["--cheque"], &[]);
    assert_eq!(code, Some(2));
    assert!(lines[0].contains("--cheque"), "{lines:?}");
}

#[test]
fn check_says_that_a_file_is_valid() {
    assert_eq!(
        check(VALID, &[]),
        (Some(0), vec!["lb.toml: valid".to_owned()])
    );
}

#[test]
fn the_shipped_file_is_valid() {
    let path = format!("{PROJECT}/config.toml");
    let (code, lines) = run(&["--config", &path, "--check"], &[]);
    assert_eq!((code, lines), (Some(0), vec![format!("{path}: valid")]));
}

#[test]
fn check_prints_all_errors_with_line_and_key() {
    let config = r#"workers = 0
wokers = 2
[[listeners]]
listen = "localhost"
[[upstreams]]
name = "app"
servers = ["127.0.0.1"]
[[routes]]
upstream = "ap"
"#;
    let (code, lines) = check(config, &[("LB__REDIS__URL", "http://127.0.0.1")]);
    assert_eq!(code, Some(1));
    let places: Vec<_> = lines
        .iter()
        .map(|line| {
            let mut parts = line.splitn(3, ": ");
            (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("lb.toml:1", "workers"),
            ("lb.toml:2", "wokers"),
            ("lb.toml:4", "listeners[0].listen"),
            ("lb.toml:7", "upstreams[0].servers[0]"),
            ("lb.toml:9", "routes[0].upstream"),
            ("LB__REDIS__URL", "redis.url"),
        ]
    );
    for line in &lines[2..] {
        assert!(
            line.contains("expected") || line.contains("did you mean"),
            "{line}"
        );
    }
}

#[test]
fn a_start_with_errors_ends_like_a_check() {
    let file = ConfigFile::new(
        "lb.toml",
        "workers = 0\nwokers = 2\n[[routes]]\nrespond = {}\n",
    );
    let start = run(&["--config", file.path()], &[]);
    assert_eq!(start.0, Some(1));
    assert_eq!(start.1.len(), 3, "two keys and no listener: {start:?}");
    assert_eq!(run(&["--config", file.path(), "--check"], &[]), start);
}

#[test]
fn duplicate_routes_are_refused() {
    let twice = "[[routes]]\npaths = [\"/a\"]\nrespond = {}\n".repeat(2);
    let (code, lines) = check(&format!("{VALID}{twice}"), &[]);
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(
        lines[0].contains("routes[2]") && lines[0].contains("routes[1]"),
        "{lines:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let directory = TempDir::new();
    let missing = directory.path().join("missing.toml");
    for args in [
        &["--config", text(&missing)][..],
        &["-c", text(&missing), "--check"],
    ] {
        let (code, lines) = run(args, &[]);
        assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
        let start = format!("{}: cannot be read: ", text(&missing));
        assert!(lines[0].starts_with(&start), "{lines:?}");
    }
    let file = ConfigFile::new("lb.ini", VALID);
    let (code, lines) = run(&["--config", file.path()], &[]);
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(
        lines[0].contains(".toml, .yaml, .yml or .json"),
        "{lines:?}"
    );
}

#[test]
fn a_port_in_use_is_one_line() {
    let file = ConfigFile::new("lb.toml", VALID);
    let taken = |listener: &str, variable: &str, address: String| {
        let (code, lines) = run(&["--config", file.path()], &[(variable, &address)]);
        assert_eq!(code, Some(1));
        let line = lines.last().expect("the reason");
        let start = format!("loadbalancer: cannot listen on {address} ({listener}): ");
        assert!(line.starts_with(&start), "{lines:?}");
        // What came before it is about the listeners that were bound.
        let bound = |line: &String| line.contains("listening listener=");
        assert!(lines[..lines.len() - 1].iter().all(bound), "{lines:?}");
    };
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("it is bound").to_string();
    taken(
        "listener \"web\"",
        "LB__LISTENERS__0__LISTEN",
        address.clone(),
    );
    taken("admin.listen", "LB__ADMIN__LISTEN", address);

    // Another load balancer, whose sockets would let others share the port.
    let proxy = Proxy::new().extra("[[routes]]\nrespond = {}").start();
    let address = proxy.addr().to_string();
    taken("listener \"web\"", "LB__LISTENERS__0__LISTEN", address);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn yaml_and_json_are_read_like_toml() {
    let yaml = "
admin: { listen: 'off' }
listeners:
  - name: web
    listen: 127.0.0.1:0
routes:
  - respond: { body: here I am }
";
    let json = r#"{
        "admin": { "listen": "off" },
        "listeners": [{ "name": "web", "listen": "127.0.0.1:0" }],
        "routes": [{ "respond": { "body": "here I am" } }]
    }"#;
    for (name, config) in [
        ("lb.toml", VALID),
        ("lb.yaml", yaml),
        ("lb.yml", yaml),
        ("lb.json", json),
    ] {
        let file = ConfigFile::new(name, config);
        let process = Process::start(LOADBALANCER, &["--config", file.path()]);
        let addr = address_of(&process, "web");
        assert_eq!(get(addr, "/").text(), "here I am", "{name}");
    }

    for (name, wrong, place) in [
        ("lb.yaml", "workers: 1\nlisteners: 5\n", ":2: listeners"),
        (
            "lb.json",
            "{\n\"workers\": 1,\n\"listeners\": 5\n}",
            ":3: listeners",
        ),
    ] {
        let file = ConfigFile::new(name, wrong);
        let (code, lines) = run(&["--config", file.path(), "--check"], &[]);
        assert_eq!(code, Some(1));
        let place = format!("{}{place}", file.path());
        assert!(
            lines.iter().any(|line| line.starts_with(&place)),
            "{lines:?}"
        );
    }
}

#[test]
fn variables_override_the_file() {
    let proxy = Proxy::new()
        .setting("workers = 1")
        .extra("[[routes]]\nrespond = { body = \"from the file\" }")
        .env("LB__ROUTES__0__RESPOND__BODY", "from the environment")
        .env("LB__WORKERS", "3")
        .env(
            "LB__ROUTES__1",
            "{ paths = [\"/new\"], respond = { status = 204 } }",
        )
        .env("LB__routes__0__Respond__STATUS", "201")
        .start();
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.text()),
        (201, "from the environment")
    );
    assert_eq!(proxy.get("/new").status, 204);
    assert!(proxy.process().output().contains("workers=3"));
}

#[test]
fn a_bad_override_names_its_variable() {
    let variables = [
        ("LB__LISTENERS__0__TIMEOUTS__IDLE", "5"),
        ("LB__LISTENERS__7__NAME", "x"),
        ("LB__WORKERS", "many"),
    ];
    let (code, lines) = check(VALID, &variables);
    assert_eq!(code, Some(1));
    assert_eq!(lines.len(), variables.len(), "{lines:?}");
    for (line, (variable, _)) in lines.iter().zip(variables) {
        assert!(line.starts_with(&format!("{variable}: ")), "{line}");
    }
    assert!(lines[2].starts_with("LB__WORKERS: workers: "), "{lines:?}");
}

#[test]
fn secrets_come_from_the_environment_and_are_never_printed() {
    let config = format!("{VALID}[redis]\nurl = \"env:THE_REDIS\"\n");
    let (code, lines) = check(&config, &[("THE_REDIS", "redis://:hush@127.0.0.1:6379")]);
    assert_eq!(code, Some(0), "{lines:?}");
    let (code, lines) = check(&config, &[("THE_REDIS", "redis://:hush@nowhere")]);
    assert_eq!(code, Some(1));
    assert!(
        lines[0].starts_with("lb.toml:") && lines[0].contains("redis.url"),
        "{lines:?}"
    );
    assert!(!lines.concat().contains("hush"), "{lines:?}");
}

/// `diff` on files of these texts.
fn diff(old: &str, new: &str, variables: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let old = ConfigFile::new("old.toml", old);
    let new = ConfigFile::new("new.toml", new);
    run(&["diff", old.path(), new.path()], variables)
}

#[test]
fn diff_prints_what_a_new_file_changes() {
    let new = VALID.replace("here I am", "there I am");
    let changed = r#"route "route0": respond.body "here I am" -> "there I am""#;
    assert_eq!(diff(VALID, &new, &[]), (Some(0), vec![changed.to_owned()]));
    let same = (Some(0), vec!["no difference".to_owned()]);
    assert_eq!(diff(VALID, VALID, &[]), same);
    // What the environment decides is the same for both.
    let body = ("LB__ROUTES__0__RESPOND__BODY", "neither");
    assert_eq!(diff(VALID, &new, &[body]), same);
}

#[test]
fn diff_says_what_needs_a_restart() {
    let (code, mut lines) = diff(
        &format!("workers = 1\n{VALID}"),
        &format!("workers = 2\n{VALID}"),
        &[],
    );
    assert_eq!(code, Some(0));
    // One is on standard output, the other on standard error.
    lines.sort();
    assert_eq!(
        lines,
        [
            "in force after a restart or an upgrade only: workers",
            "workers 1 -> 2"
        ]
    );
}

#[test]
fn diff_of_a_file_that_is_not_valid_prints_its_errors() {
    let wrong = VALID.replace("respond", "respnd");
    for (old, new, name) in [
        (VALID, wrong.as_str(), "new.toml:"),
        (&wrong, VALID, "old.toml:"),
    ] {
        let (code, lines) = diff(old, new, &[]);
        assert_eq!(code, Some(2), "{lines:?}");
        assert!(
            lines.iter().all(|line| line.contains(name)) && !lines.is_empty(),
            "{lines:?}"
        );
    }
    let (code, lines) = diff(&wrong, &wrong, &[]);
    let of = |name: &str| lines.iter().filter(|line| line.contains(name)).count();
    assert_eq!(code, Some(2));
    assert!(of("old.toml:") > 0 && of("new.toml:") > 0, "{lines:?}");
    // It does nothing else.
    assert_eq!(
        run(&["--config", "x.toml", "diff", "a", "b"], &[]).0,
        Some(2)
    );
    assert_eq!(run(&["diff", "a"], &[]).0, Some(2));
}
