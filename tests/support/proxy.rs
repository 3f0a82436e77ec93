//! The proxy under test, with a configuration of its own.

use std::fmt::{Display, Write};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::backend::{Backend, RawBackend};
use super::client::{self, Connection, Response};
use super::process::{LOADBALANCER, Process};
use super::temp_dir::TempDir;
use super::wait_until;

/// How long a proxy may take to end after SIGTERM: more than its default drain limit.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(40);

/// Probes that notice soon.
const HEALTH_CHECK: &str =
    r#"health_check = { interval = "100ms", timeout = "500ms", fall = 2, rise = 1 }"#;

/// A proxy to be, as its configuration file: `Proxy::new().upstream("app", &[a.addr(), b.addr()]).start()`.
///
/// There is one listener, `web`, and the admin API, each on a free port of 127.0.0.1.
#[derive(Default)]
pub struct Proxy {
    settings: String,
    listener: String,
    upstreams: String,
    extra: String,
    variables: Vec<(String, String)>,
}

/// A proxy with nothing but defaults before a backend.
pub fn before(backend: &Backend) -> RunningProxy {
    Proxy::new().upstream("app", &[backend.addr()]).start()
}

/// The same before a scripted backend, without probes, and with a single worker, so that there is a single pool.
pub fn before_script(backend: &RawBackend) -> RunningProxy {
    let proxy = Proxy::new().setting("workers = 1");
    proxy.unprobed("app", &[backend.addr()]).start()
}

/// A running proxy, killed on drop.
pub struct RunningProxy {
    directory: TempDir,
    variables: Vec<(String, String)>,
    process: Process,
    addr: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    pub fn new() -> Self {
        Self::default()
    }

    /// Top-level keys, such as `workers = 1`.
    pub fn setting(mut self, toml: &str) -> Self {
        add_lines(&mut self.settings, toml);
        self
    }

    /// Keys of the listener, such as `max_connections = 1`.
    pub fn listener(mut self, toml: &str) -> Self {
        add_lines(&mut self.listener, toml);
        self
    }

    /// An upstream with these servers, whose health is checked every 100 ms.
    pub fn upstream(self, name: &str, servers: &[impl Display]) -> Self {
        self.upstream_with(name, servers, "")
    }

    /// An upstream that is not probed: its servers get only what the test sends, and are used whatever they do.
    pub fn unprobed(self, name: &str, servers: &[impl Display]) -> Self {
        self.unprobed_with(name, servers, "")
    }

    /// The same with keys of its own, such as `timeouts = { response = "1s" }`.
    pub fn unprobed_with(self, name: &str, servers: &[impl Display], toml: &str) -> Self {
        let toml = format!("health_check = {{ kind = \"off\" }}\n{toml}");
        self.upstream_with(name, servers, &toml)
    }

    /// An upstream with keys of its own, such as `strategy = "random"`; `health_check` replaces the fast one.
    pub fn upstream_with(mut self, name: &str, servers: &[impl Display], toml: &str) -> Self {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        add_lines(
            &mut self.upstreams,
            &format!("[[upstreams]]\nname = {name:?}\nservers = {servers:?}"),
        );
        if !toml.contains("health_check") {
            add_lines(&mut self.upstreams, HEALTH_CHECK);
        }
        add_lines(&mut self.upstreams, toml);
        self
    }

    /// Whole tables, such as `[rate_limit]` or `[[routes]]` and what is in them.
    pub fn extra(mut self, toml: &str) -> Self {
        add_lines(&mut self.extra, toml);
        self
    }

    /// An environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration file.
    fn text(&self, directory: &TempDir) -> String {
        let state_file = directory.path().join("state");
        let gate = directory.path().join("upgrade");
        let Self {
            settings,
            listener,
            upstreams,
            extra,
            ..
        } = self;
        format!(
            "{settings}\n\
             upgrade_socket = {gate:?}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\nstate_file = {state_file:?}\n\n\
             [[listeners]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n{listener}\n\
             {upstreams}\n{extra}"
        )
    }

    /// Starts the proxy and waits until it says that it is ready.
    pub fn start(self) -> RunningProxy {
        let directory = TempDir::new();
        let file = config_file(&directory);
        fs::write(&file, self.text(&directory))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let (process, addr, admin) = launch(&directory, &self.variables);
        RunningProxy {
            directory,
            variables: self.variables,
            process,
            addr,
            admin,
        }
    }
}

impl RunningProxy {
    /// Where `web` listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where another listener listens.
    pub fn addr_of(&self, listener: &str) -> SocketAddr {
        address_of(&self.process, listener)
    }

    /// For clients that want URLs.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        config_file(&self.directory)
    }

    /// Puts another configuration in the place of the file, as editors do.
    pub fn write(&self, config: &Proxy) {
        self.write_text(&config.text(&self.directory));
    }

    /// The same with this text.
    pub fn write_text(&self, text: &str) {
        let beside = self.directory.path().join("config.toml.new");
        fs::write(&beside, text).expect("the directory is the test's own");
        fs::rename(&beside, self.config_file()).expect("the directory is the test's own");
    }

    /// Has the admin API read the file again.
    pub fn reload(&self) -> Response {
        let host = self.admin.to_string();
        let headers = [("host", host.as_str())];
        client::request(
            self.admin,
            client::message("POST", "/config/reload", &headers, b""),
        )
    }

    /// Puts another configuration into force, and returns what has changed.
    pub fn change_to(&self, config: &Proxy) -> Vec<String> {
        self.write(config);
        let answer = self.reload();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let changes = answer.json()["changes"].clone();
        serde_json::from_value(changes).expect("a list of texts")
    }

    /// The answer of GET at the admin API.
    pub fn admin_json(&self, path: &str) -> serde_json::Value {
        client::get(self.admin, path).json()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A client's connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.addr).expect("the proxy listens")
    }

    /// GET through the proxy, on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        client::get(self.addr, path)
    }

    /// Sends what is to be refused with `status`, and a request behind it, which must not be taken for one: the
    /// connection ends with the refusal.
    pub fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16) {
        let bytes = bytes.as_ref();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let behind = client::message("GET", "/behind", &[], b"");
        let mut client = self.connect();
        let answer = client.request([bytes, &behind].concat());
        let answer = answer.unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(answer.status, status, "{shown:?}: {}", answer.text());
        assert_eq!(answer.headers.get("connection"), Some("close"), "{shown:?}");
        let rest = client.read_to_end();
        let rest = rest.unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(String::from_utf8_lossy(&rest), "", "{shown:?}");
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        client::get(self.admin, "/metrics").text().to_owned()
    }

    /// The sum of a metric's samples.
    pub fn metric(&self, name: &str) -> u64 {
        self.metric_with(name, "")
    }

    /// The sum of those that have this label, such as `reason="reset"`.
    pub fn metric_with(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_its = rest.starts_with(['{', ' ']) && rest.contains(label);
            is_its.then(|| rest.rsplit_once(' '))?
        });
        samples
            .map(|(_, value)| value.parse::<u64>().expect("a count"))
            .sum()
    }

    /// The directory with its configuration, `config.toml`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Another process with the same configuration file, that takes over from this one.
    pub fn successor(&self) -> Process {
        let file = config_file(&self.directory);
        let file = file
            .to_str()
            .expect("the temporary directory's name is UTF-8");
        let arguments = ["--config", file, "--upgrade"];
        Process::start_with_env(LOADBALANCER, &arguments, &self.variables)
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait_exit(limit)
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.wait_exit(SHUTDOWN_LIMIT)
    }

    /// Kills it and starts it again with the same files. The ports are new ones.
    pub fn kill_9_and_restart(&mut self) {
        self.process.kill_9();
        (self.process, self.addr, self.admin) = launch(&self.directory, &self.variables);
    }
}

fn add_lines(text: &mut String, lines: &str) {
    writeln!(text, "{lines}").expect("a String takes all");
}

fn config_file(directory: &TempDir) -> PathBuf {
    directory.path().join("config.toml")
}

/// Returns the process, where `web` listens and where the admin API does.
fn launch(
    directory: &TempDir,
    variables: &[(String, String)],
) -> (Process, SocketAddr, SocketAddr) {
    let file = config_file(directory);
    let file = file
        .to_str()
        .expect("the temporary directory's name is UTF-8");
    let process = Process::start_with_env(LOADBALANCER, &["--config", file], variables);
    let admin = address_of(&process, "admin");
    // A process that died or never gets ready shows its output when it is dropped by the panic.
    wait_until("ready", || {
        client::try_get(admin, "/readyz").is_ok_and(|answer| answer.status == 200)
    });
    let addr = address_of(&process, "web");
    (process, addr, admin)
}

/// Where the listener of this name listens: waits for `listening ... address=127.0.0.1:1234 listener=web`.
pub fn address_of(process: &Process, listener: &str) -> SocketAddr {
    let name = format!("listener={listener}");
    process.wait_for(&format!("listening ... {name}"), |line| {
        let mut words = line.split_whitespace();
        let announced =
            words.clone().any(|word| word == "listening") && words.clone().any(|word| word == name);
        let address = words.find_map(|word| word.strip_prefix("address="))?;
        announced.then(|| address.parse().ok())?
    })
}
