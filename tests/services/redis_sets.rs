//! Several Redis servers that belong together: a Cluster, and a master with its replica and sentinels.

use super::free_port;
use super::redis::{Options, RedisServer};
use crate::names::TempDir;
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

/// A Cluster of three masters.
#[derive(Debug)]
pub struct Cluster {
    /// Its servers.
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts it; every slot has its server.
    pub fn start() -> Self {
        let mut buses = Vec::new();
        let nodes: Vec<_> = (0..3)
            .map(|_| {
                let bus = free_port().to_string();
                let extra = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "1000",
                    "--cluster-port",
                    &bus,
                ];
                let server = RedisServer::start_with(Options {
                    extra: extra.map(str::to_owned).to_vec(),
                    ..Options::default()
                });
                buses.push(bus);
                server
            })
            .collect();
        for (number, node) in nodes.iter().enumerate() {
            let (first, end) = (number * SLOTS / 3, (number + 1) * SLOTS / 3);
            let range = [first.to_string(), (end - 1).to_string()];
            let done = node.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            assert_eq!(done, "OK");
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let port = nodes[0].port().to_string();
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[0]]);
        }
        let cluster = Cluster { nodes };
        until("a cluster", || {
            cluster.nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        cluster
    }

    /// `redis+cluster://127.0.0.1:PORT,…`, of two servers.
    pub fn url(&self) -> String {
        format!(
            "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
            self.nodes[0].port(),
            self.nodes[1].port()
        )
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
    ports: Vec<u16>,
    children: Vec<Child>,
    _folder: TempDir,
}

impl Sentinels {
    /// Starts them; the replica has caught up, and every sentinel knows the others.
    pub fn start() -> Self {
        let servers = master_and_replica();
        let folder = TempDir::new("synlock-sentinel");
        let ports: Vec<_> = (0..3).map(|_| free_port()).collect();
        let children = ports
            .iter()
            .map(|port| {
                let file = folder.path().join(format!("{port}.conf"));
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\n\
                     sentinel monitor main 127.0.0.1 {} 2\n\
                     sentinel down-after-milliseconds main 700\n\
                     sentinel failover-timeout main 3000\n",
                    folder.path().display(),
                    servers[0].port()
                );
                std::fs::write(&file, text).expect("a file");
                Command::new("redis-server")
                    .arg(&file)
                    .arg("--sentinel")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("redis-server")
            })
            .collect();
        let set = Sentinels {
            servers,
            ports,
            children,
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
        let done = Command::new("redis-cli")
            .args(["-p", &self.ports[number].to_string(), "SENTINEL", what])
            .arg("main")
            .output()
            .expect("redis-cli");
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

    /// `redis+sentinel://127.0.0.1:PORT,…/main`.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
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

/// Two servers; the second follows the first, and has caught up.
pub fn master_and_replica() -> Vec<RedisServer> {
    let quick = [
        "--repl-diskless-sync-delay",
        "0",
        "--repl-ping-replica-period",
        "1",
    ];
    let options = |more: &[String]| Options {
        extra: quick
            .iter()
            .map(|word| (*word).to_owned())
            .chain(more.iter().cloned())
            .collect(),
        ..Options::default()
    };
    let master = RedisServer::start_with(options(&[]));
    let follow = ["--replicaof", "127.0.0.1", &master.port().to_string()].map(str::to_owned);
    let replica = RedisServer::start_with(options(&follow));
    until("a replica", || {
        let info = master.command(&["INFO", "replication"]);
        info.contains("state=online")
            && replica
                .command(&["INFO", "replication"])
                .contains("master_link_status:up")
    });
    vec![master, replica]
}
