//! Several Redis servers that work together: a cluster, and a master with a replica and its sentinel.

use std::fs;
use std::process::Command;

use super::process::Process;
use super::redis::{ACL, Redis, free_port};
use super::temp_dir::TempDir;
use super::wait_until;

/// Three primaries, each with a replica.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// A cluster that misses a node after half a second, and has users as [`ACL`] says.
    pub fn start() -> Self {
        let nodes: Vec<Redis> = (0..6).map(|_| node()).collect();
        let addresses: Vec<String> = nodes.iter().map(Redis::address).collect();
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli is there where redis-server is");
        let said = String::from_utf8_lossy(&created.stdout);
        assert!(created.status.success(), "{said}");
        let cluster = Self { nodes };
        wait_until(
            "all know all, and replicas have what they replicate",
            || {
                let is_ready = |it: &Redis| {
                    let info: String = it.command("CLUSTER INFO");
                    let replication: String = it.command("INFO replication");
                    info.contains("cluster_state:ok")
                        && (replication.contains("master_link_status:up")
                            || replication.contains("connected_slaves:1"))
                };
                cluster.nodes.iter().all(is_ready)
            },
        );
        cluster
    }

    /// The value of `redis.urls`, which names only two of the nodes.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.nodes[..2].iter().map(Redis::url_of_lb).collect();
        format!("{urls:?}")
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        self.nodes[0].command(&format!("CLUSTER KEYSLOT {key}"))
    }

    /// The place of the primary that owns a slot.
    pub fn owner(&self, slot: u16) -> usize {
        let nodes: String = self.nodes[5].command("CLUSTER NODES");
        let owns = |line: &&str| {
            let mut ranges = line.split(' ').skip(8).filter_map(|it| {
                let (first, last) = it.split_once('-').unwrap_or((it, it));
                Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
            });
            ranges.any(|range| range.contains(&slot))
        };
        let owner = nodes.lines().find(owns).expect("all slots have an owner");
        let is_it = |it: &Redis| owner.contains(&format!(" {}@", it.address()));
        let place = self.nodes.iter().position(is_it);
        place.unwrap_or_else(|| panic!("not of this cluster: {owner}"))
    }

    /// The place of a primary's replica.
    pub fn replica_of(&self, primary: usize) -> usize {
        let nodes: String = self.nodes[primary].command("CLUSTER NODES");
        let of = format!(" slave {} ", self.id(primary));
        let replica = nodes.lines().find(|line| line.contains(&of));
        let replica = replica.unwrap_or_else(|| panic!("no replica: {nodes}"));
        let is_it = |it: &Redis| replica.contains(&format!(" {}@", it.address()));
        let place = self.nodes.iter().position(is_it);
        place.unwrap_or_else(|| panic!("not of this cluster: {replica}"))
    }

    /// Whether a replica keeps from taking its primary's place.
    pub fn hold_back(&self, replica: usize, hold: bool) {
        let value = if hold { "yes" } else { "no" };
        let (): () =
            self.nodes[replica].command(&format!("CONFIG SET cluster-replica-no-failover {value}"));
    }

    /// Whether a node is a primary.
    pub fn is_primary(&self, place: usize) -> bool {
        let replication: String = self.nodes[place].command("INFO replication");
        replication.contains("role:master")
    }

    /// The id that the nodes have among themselves.
    pub fn id(&self, place: usize) -> String {
        self.nodes[place].command("CLUSTER MYID")
    }
}

/// A master, a replica, and a sentinel that calls the master `lb`. All let in none but users with passwords.
pub struct Guarded {
    /// The master and the replica.
    pub servers: [Redis; 2],
    pub sentinel: Process,
    port: u16,
    _directory: TempDir,
}

impl Guarded {
    /// With a sentinel that misses the master after half a second.
    pub fn start() -> Self {
        let secured = ["--requirepass", "test", "--masterauth", "test"];
        let acl: Vec<&str> = ACL.split_ascii_whitespace().skip(1).collect();
        let quick = ["--repl-diskless-sync-delay", "0", "--user"];
        let settings = [&secured[..], &quick, &acl].concat();
        let master = Redis::start_with(&settings);
        let port = master.port().to_string();
        let replica = ["--replicaof", "127.0.0.1", &port];
        let replica = Redis::start_with(&[&replica[..], &settings].concat());
        wait_until("the replica replicates", || {
            let replication: String = replica.command("INFO replication");
            replication.contains("master_link_status:up")
        });
        let directory = TempDir::new();
        let file = directory.path().join("sentinel.conf");
        let own = free_port();
        let text = format!(
            "port {own}\nbind 127.0.0.1\nrequirepass watch\nsentinel monitor lb 127.0.0.1 {port} 1\n\
             sentinel auth-pass lb test\nsentinel down-after-milliseconds lb 500\n\
             sentinel failover-timeout lb 2000\n"
        );
        fs::write(&file, text).expect("the directory is the test's own");
        let file = file
            .to_str()
            .expect("the temporary directory's name is UTF-8");
        let sentinel = Process::start("redis-server", &[file, "--sentinel"]);
        sentinel.wait_for_line("+slave");
        Self {
            servers: [master, replica],
            sentinel,
            port: own,
            _directory: directory,
        }
    }

    /// The value of `redis.sentinel`: the first that it names is not there.
    pub fn sentinels(&self) -> String {
        let nobody = free_port();
        let urls = [nobody, self.port].map(|port| format!("redis://:watch@127.0.0.1:{port}"));
        format!("{{ master = \"lb\", urls = {urls:?}, username = \"lb\", password = \"secret\" }}")
    }

    /// Has the sentinel make the replica the master.
    pub fn fail_over(&self) {
        let url = format!("redis://:watch@127.0.0.1:{}", self.port);
        let mut command = redis::cmd("SENTINEL");
        command.arg("FAILOVER").arg("lb");
        wait_until("the sentinel knows enough of the replica", || {
            redis::Client::open(url.as_str())
                .and_then(|client| client.get_connection())
                .and_then(|mut connection| command.query::<()>(&mut connection))
                .is_ok()
        });
    }
}

fn node() -> Redis {
    let bus = free_port().to_string();
    let acl: Vec<&str> = ACL.split_ascii_whitespace().skip(1).collect();
    let settings = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "500",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
        "--user",
    ];
    Redis::start_with(&[&settings[..], &acl].concat())
}
