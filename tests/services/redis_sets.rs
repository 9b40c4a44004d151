//! Several Redis servers that belong together: a Cluster, and a master with its replica and sentinels.

use super::free_port;
use super::redis::{Options, RedisServer};
use crate::names::TempDir;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SLOTS: usize = 16_384;

/// Waits for something of several servers, or panics.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How the servers of a set are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// By anybody.
    None,
    /// With TLS and the password `secret`; sentinels with `geheim`. They speak TLS among themselves.
    TlsAndPassword,
}

const PASSWORD: &str = "secret";
const SENTINELS_PASSWORD: &str = "geheim";

impl Guard {
    fn is_on(self) -> bool {
        self == Guard::TlsAndPassword
    }

    /// Options of one more server of a set.
    fn options(self, first: Option<&RedisServer>, words: &[&str]) -> Options {
        let mut extra: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if self.is_on() {
            let guarded = ["--tls-replication", "yes", "--masterauth", PASSWORD];
            extra.extend(guarded.map(str::to_owned));
        }
        Options {
            password: self.is_on().then(|| PASSWORD.to_owned()),
            tls: self.is_on(),
            certificates_of: first.filter(|_| self.is_on()).map(|first| first.file("")),
            extra,
            ..Options::default()
        }
    }

    /// The port at which clients and the other servers speak to it.
    fn port(self, server: &RedisServer) -> u16 {
        if self.is_on() {
            server.tls_port()
        } else {
            server.port()
        }
    }
}

/// A Cluster of three masters.
#[derive(Debug)]
pub struct Cluster {
    /// Its servers.
    pub nodes: Vec<RedisServer>,
    guard: Guard,
}

impl Cluster {
    /// Starts it; every slot has its server.
    pub fn start() -> Self {
        Self::start_with(Guard::None)
    }

    /// Starts it with clients kept out, or not.
    pub fn start_with(guard: Guard) -> Self {
        let mut buses = Vec::new();
        let mut nodes: Vec<RedisServer> = Vec::new();
        for _ in 0..3 {
            let bus = free_port().to_string();
            let mut words = vec![
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
            ];
            if guard.is_on() {
                words.extend(["--tls-cluster", "yes"]);
            }
            let options = guard.options(nodes.first(), &words);
            nodes.push(RedisServer::start_with(options));
            buses.push(bus);
        }
        for (number, node) in nodes.iter().enumerate() {
            let (first, end) = (number * SLOTS / 3, (number + 1) * SLOTS / 3);
            let range = [first.to_string(), (end - 1).to_string()];
            let done = node.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            assert_eq!(done, "OK");
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let port = guard.port(&nodes[0]).to_string();
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[0]]);
        }
        let cluster = Cluster { nodes, guard };
        until("a cluster", || {
            cluster.nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        cluster
    }

    /// `redis+cluster://127.0.0.1:PORT,…`, of two servers, with what a client must say.
    pub fn url(&self) -> String {
        let hosts = self.nodes[..2]
            .iter()
            .map(|node| format!("127.0.0.1:{}", self.guard.port(node)));
        let hosts: Vec<_> = hosts.collect();
        if self.guard.is_on() {
            let ca = self.nodes[0].file("ca.crt");
            format!(
                "rediss+cluster://:{PASSWORD}@{}?ca_file={}",
                hosts.join(","),
                ca.display()
            )
        } else {
            format!("redis+cluster://{}", hosts.join(","))
        }
    }

    /// Number of the server that has the key's slot, and the slot.
    pub fn owner(&self, key: &str) -> (usize, usize) {
        let slot: usize = self.nodes[0]
            .command(&["CLUSTER", "KEYSLOT", key])
            .parse()
            .expect("a slot");
        let owner = (0..3).find(|number| slot < (number + 1) * SLOTS / 3);
        (owner.expect("an owner"), slot)
    }

    /// The name by which the others know a server.
    pub fn id(&self, number: usize) -> String {
        self.nodes[number].command(&["CLUSTER", "MYID"])
    }
}

/// A master, a replica, and three sentinels that watch them as `main`.
#[derive(Debug)]
pub struct Sentinels {
    /// The master first, at the beginning.
    pub servers: Vec<RedisServer>,
    /// Of each sentinel: the plain one, and the one for TLS.
    ports: Vec<(u16, u16)>,
    children: Vec<Child>,
    guard: Guard,
    _folder: TempDir,
}

impl Sentinels {
    /// Starts them; the replica has caught up, and every sentinel knows the others.
    pub fn start() -> Self {
        Self::start_with(Guard::None)
    }

    /// Starts them with clients kept out, or not.
    pub fn start_with(guard: Guard) -> Self {
        let servers = master_and_replica_with(guard);
        let folder = TempDir::new("synlock-sentinel");
        let ports: Vec<_> = (0..3).map(|_| (free_port(), free_port())).collect();
        let children = ports
            .iter()
            .map(|ports| launch_sentinel(folder.path(), *ports, guard, &servers[0]))
            .collect();
        let set = Sentinels {
            servers,
            ports,
            children,
            guard,
            _folder: folder,
        };
        until("sentinels that know each other", || {
            (0..3).all(|number| {
                let told = set.ask(number, "master");
                told.contains("num-other-sentinels\n2\n") && told.contains("num-slaves\n1\n")
            })
        });
        set
    }

    fn ask(&self, number: usize, what: &str) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.ports[number].0.to_string()]);
        if self.guard.is_on() {
            cli.args(["--no-auth-warning", "-a", SENTINELS_PASSWORD]);
        }
        let done = cli.args(["SENTINEL", what, "main"]).output();
        let done = done.expect("redis-cli");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Port of the master, as the first sentinel knows it.
    pub fn master_port(&self) -> u16 {
        let told = self.ask(0, "get-master-addr-by-name");
        told.lines()
            .nth(1)
            .and_then(|port| port.parse().ok())
            .unwrap_or(0)
    }

    /// `redis+sentinel://127.0.0.1:PORT,…/main`, with what a client must say.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .ports
            .iter()
            .map(|(plain, tls)| if self.guard.is_on() { tls } else { plain })
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let hosts = hosts.join(",");
        if self.guard.is_on() {
            let ca = self.servers[0].file("ca.crt");
            format!(
                "rediss+sentinel://:{PASSWORD}@{hosts}/main?ca_file={}&sentinel_password={SENTINELS_PASSWORD}",
                ca.display()
            )
        } else {
            format!("redis+sentinel://{hosts}/main")
        }
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn launch_sentinel(
    folder: &Path,
    (plain, tls): (u16, u16),
    guard: Guard,
    master: &RedisServer,
) -> Child {
    let file = folder.join(format!("{plain}.conf"));
    let mut text = format!(
        "port {plain}\nbind 127.0.0.1\ndir {}\n\
         sentinel monitor main 127.0.0.1 {} 2\n\
         sentinel down-after-milliseconds main 700\n\
         sentinel failover-timeout main 3000\n",
        folder.display(),
        guard.port(master)
    );
    if guard.is_on() {
        let of = |name: &str| master.file(name).display().to_string();
        text.push_str(&format!(
            "tls-port {tls}\ntls-replication yes\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\n\
             tls-ca-cert-file {}\nrequirepass {SENTINELS_PASSWORD}\nsentinel sentinel-pass {SENTINELS_PASSWORD}\n\
             sentinel auth-pass main {PASSWORD}\n",
            of("server.crt"),
            of("server.key"),
            of("ca.crt"),
        ));
    }
    std::fs::write(&file, text).expect("a file");
    Command::new("redis-server")
        .arg(&file)
        .arg("--sentinel")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server")
}

/// Two servers; the second follows the first, and has caught up.
pub fn master_and_replica() -> Vec<RedisServer> {
    master_and_replica_with(Guard::None)
}

fn master_and_replica_with(guard: Guard) -> Vec<RedisServer> {
    let quick = [
        "--repl-diskless-sync-delay",
        "0",
        "--repl-ping-replica-period",
        "1",
    ];
    let master = RedisServer::start_with(guard.options(None, &quick));
    let port = guard.port(&master).to_string();
    let follows = [&quick[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let replica = RedisServer::start_with(guard.options(Some(&master), &follows));
    until("a replica", || {
        let info = master.command(&["INFO", "replication"]);
        info.contains("state=online")
            && replica
                .command(&["INFO", "replication"])
                .contains("master_link_status:up")
    });
    vec![master, replica]
}
