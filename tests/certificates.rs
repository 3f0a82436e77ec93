//! Certificates as their files come and go: what `--check` and the start say of them, and what a running proxy notices.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::support::DEADLINE;
use crate::support::process::{LOADBALANCER, Process};
use crate::support::proxy::Proxy;
use crate::support::temp_dir::TempDir;

/// A directory with certificates in it.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Saves a new certificate for `localhost` and its key as `name.crt` and `name.key`, each by a rename.
    fn save(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().expect("there is randomness");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("it is a name");
        change(&mut params);
        let certificate = params.self_signed(&key).expect("the parameters are fine");
        for (end, text) in [("key", key.serialize_pem()), ("crt", certificate.pem())] {
            let new = self.path("new");
            fs::write(&new, text).expect("the directory is ours");
            fs::rename(&new, self.path(&format!("{name}.{end}"))).expect("it is there");
        }
    }

    /// A listener that shows `name`, and an upstream that trusts `ca`.
    fn tables(&self, name: &str, ca: &str) -> String {
        format!(
            r#"
[[listeners]]
name = "secure"
listen = "127.0.0.1:0"
tls = {{ certificates = [{{ cert = {:?}, key = {:?} }}] }}

[[upstreams]]
name = "app"
health_check = {{ kind = "off" }}
tls = {{ ca = {:?} }}
"#,
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
            self.path(&format!("{ca}.crt")),
        )
    }

    /// What a run of the program with these tables, and `arguments`, ends with and says.
    fn run(&self, tables: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
        let config = self.path("lb.toml");
        fs::write(&config, format!("admin = {{ listen = \"off\" }}\n{tables}"))
            .expect("the directory is ours");
        let config = config.to_str().expect("the path is UTF-8");
        let mut process =
            Process::start(LOADBALANCER, &[&["--config", config], arguments].concat());
        let code = process.wait_exit(DEADLINE).code();
        let directory = format!("{}/", self.0.path().display());
        let output = process.output().replace(&directory, "");
        (code, output.lines().map(str::to_owned).collect())
    }
}

#[test]
fn check_reads_all_certificates() {
    let files = Certificates::new();
    files.save("server", |_| {});
    let valid = files.run(&files.tables("server", "server"), &["--check"]);
    assert_eq!(valid, (Some(0), vec!["lb.toml: valid".to_owned()]));

    files.save("other", |_| {});
    fs::copy(files.path("other.key"), files.path("server.key")).expect("both are there");
    let tables = files.tables("server", "missing");
    let (code, lines) = files.run(&tables, &["--check"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        lines,
        [
            "lb.toml:6: listeners[0].tls.certificates[0].key: server.key: is not the key of the (first) certificate in server.crt",
            "lb.toml:11: upstreams[0].tls.ca: missing.crt: cannot be read: No such file or directory (os error 2)",
        ]
    );
    // A start ends like a check.
    let (code, started) = files.run(&tables, &[]);
    assert_eq!(code, Some(1));
    for line in lines {
        assert!(started.contains(&line), "{line}: {started:?}");
    }
}

#[test]
fn check_warns_of_what_has_expired() {
    let files = Certificates::new();
    files.save("server", |params| {
        params.not_after = date_time_ymd(2020, 1, 31);
    });
    let (code, mut lines) = files.run(&files.tables("server", "server"), &["--check"]);
    assert_eq!(code, Some(0));
    lines.sort();
    assert_eq!(
        lines,
        [
            "lb.toml: valid",
            "warning: listener \"secure\": server.crt: expired at 2020-01-31T00:00:00Z",
        ]
    );
}

#[test]
fn files_that_are_replaced_are_taken_or_said_to_be_bad() {
    let files = Certificates::new();
    files.save("server", |_| {});
    files.save("ca", |_| {});
    let proxy = Proxy::new().extra(&files.tables("server", "ca")).start();
    let process = proxy.process();

    fs::write(files.path("ca.crt"), "no certificate").expect("the directory is ours");
    let line = process.wait_for_line("ca.crt: has no certificate in it");
    assert!(
        line.contains("upstream \"app\": ") && line.ends_with("; what was in use stays in use"),
        "{line}"
    );

    files.save("server", |_| {});
    let line = process.wait_for_line("new certificates are in use");
    assert!(
        line.contains("listener \"secure\": ") && line.contains("server.crt (localhost; until "),
        "{line}"
    );

    files.save("ca", |_| {});
    process.wait_for_line("upstream \"app\": new certificates are in use");

    files.save("server", |params| {
        params.not_after = date_time_ymd(2020, 1, 31);
    });
    let line = process.wait_for_line("server.crt: expired at 2020-01-31");
    assert!(line.contains("listener \"secure\": "), "{line}");
}

#[test]
fn the_script_makes_certificates_that_fit_together() {
    let files = Certificates::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/certificates");
    let made = Command::new(script)
        .arg(files.0.path())
        .args(["a.example", "192.0.2.7", "2001:db8::1"])
        .output()
        .expect("bash is there");
    assert!(made.status.success(), "{made:?}");
    for name in ["server", "client"] {
        let (code, lines) = files.run(&files.tables(name, "ca"), &["--check"]);
        assert_eq!((code, lines), (Some(0), vec!["lb.toml: valid".to_owned()]));
    }
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(files.path("server.crt"))
        .output()
        .expect("openssl is there");
    let shown = String::from_utf8_lossy(&shown.stdout);
    for name in [
        "DNS:localhost",
        "IP Address:127.0.0.1",
        "DNS:a.example",
        "IP Address:192.0.2.7",
        "IP Address:2001:DB8:0:0:0:0:0:1",
    ] {
        assert!(shown.contains(name), "{name}: {shown}");
    }

    let check = || {
        let mut command = Command::new(script);
        command.arg("--check").arg(files.0.path());
        command.output().expect("bash is there")
    };
    let good = check();
    assert!(good.status.success(), "{good:?}");
    fs::copy(files.path("client.key"), files.path("server.key")).expect("copied");
    let bad = check();
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let table = String::from_utf8_lossy(&bad.stdout);
    assert!(
        table.contains("| server.key belongs to server.crt | FAILS |"),
        "{table}"
    );
}
