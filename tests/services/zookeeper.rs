//! ZooKeeper servers of one's own: standalone, or several of an ensemble; on free ports of 127.0.0.1,
//! data in a temporary folder, killed when dropped.

use super::free_port;
use super::redis_fake::Proxy;
use crate::names::TempDir;
use crate::process::is_full_load;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server's tick: no session is shorter than two.
pub const TICK: Duration = Duration::from_millis(200);

/// How long a session outlives its client, in ms: what the machine lets wait for as long is lost.
pub fn session() -> u32 {
    if is_full_load() { 2000 } else { 5000 }
}

/// One server, and how to start it again.
#[derive(Debug)]
struct Member {
    number: usize,
    port: u16,
    child: Option<Child>,
}

/// Running servers.
#[derive(Debug)]
pub struct ZookeeperServer {
    folder: TempDir,
    members: Vec<Member>,
    /// Of the virtual machine.
    flags: Vec<String>,
}

impl ZookeeperServer {
    /// One server.
    pub fn start() -> Self {
        Self::start_ensemble(1)
    }

    /// One that clears empty containers away ten times a second, not once a minute.
    pub fn start_that_clears() -> Self {
        let flag = "-Dznode.container.checkIntervalMs=100";
        Self::start_with(1, vec![flag.to_owned()])
    }

    /// Several that elect a leader.
    pub fn start_ensemble(count: usize) -> Self {
        Self::start_with(count, Vec::new())
    }

    /// Three of which the first follows, and speaks with its leader through one of these. The others do not miss it
    /// for twelve seconds.
    pub fn start_with_a_follower_behind_relays() -> (Self, Vec<Proxy>) {
        let (mut server, peers) = Self::prepare(3, Vec::new());
        let relays: Vec<Proxy> = peers.iter().map(|(talk, _)| Proxy::start(*talk)).collect();
        for member in 0..3 {
            server.configure(member, |text| {
                let mut text = text.replace("syncLimit=20", "syncLimit=60");
                if member == 0 {
                    for ((talk, _), relay) in peers.iter().zip(&relays).skip(1) {
                        let (old, new) = (format!(":{talk}:"), format!(":{}:", relay.port()));
                        text = text.replace(&old, &new);
                    }
                }
                text
            });
        }
        // Who comes later follows.
        for number in [1, 2] {
            server.launch(number);
        }
        for number in [1, 2, 0] {
            if number == 0 {
                server.launch(0);
            }
            server.wait_until_it_serves(number);
        }
        (server, relays)
    }

    /// A missing server program is a failure, never a skip.
    fn start_with(count: usize, flags: Vec<String>) -> Self {
        let (mut server, _) = Self::prepare(count, flags);
        for number in 0..count {
            server.launch(number);
        }
        for number in 0..count {
            server.wait_until_it_serves(number);
        }
        server
    }

    /// Nothing runs yet. The ports on which they talk with each other and vote.
    fn prepare(count: usize, flags: Vec<String>) -> (Self, Vec<(u16, u16)>) {
        let folder = TempDir::in_memory("synlock-zookeeper");
        let peers: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let members: Vec<Member> = (0..count)
            .map(|number| Member {
                number,
                port: free_port(),
                child: None,
            })
            .collect();
        std::fs::write(folder.path().join("log4j.properties"), LOG).expect("a file");
        for member in &members {
            let home = folder.path().join(member.number.to_string());
            std::fs::create_dir_all(home.join("data")).expect("a folder");
            std::fs::write(home.join("data/myid"), (member.number + 1).to_string())
                .expect("a file");
            let mut text = format!(
                "tickTime={}\nminSessionTimeout={}\nmaxSessionTimeout=120000\ninitLimit=50\nsyncLimit=20\ndataDir={}\n\
                 clientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
                 maxClientCnxns=0\n4lw.commands.whitelist=*\n",
                TICK.as_millis(),
                2 * TICK.as_millis(),
                home.join("data").display(),
                member.port
            );
            if count > 1 {
                for (number, (talk, vote)) in peers.iter().enumerate() {
                    text.push_str(&format!("server.{}=127.0.0.1:{talk}:{vote}\n", number + 1));
                }
            }
            std::fs::write(home.join("zoo.cfg"), text).expect("a file");
        }
        let server = ZookeeperServer {
            folder,
            members,
            flags,
        };
        (server, peers)
    }

    /// Changes what a server is told when it starts.
    fn configure(&self, number: usize, change: impl FnOnce(String) -> String) {
        let file = self.folder.path().join(format!("{number}/zoo.cfg"));
        let text = std::fs::read_to_string(&file).expect("a file");
        std::fs::write(file, change(text)).expect("a file");
    }

    /// No session is longer once the first server is started again.
    pub fn limit_sessions(&self, most: u32) {
        let (old, new) = (
            "maxSessionTimeout=120000",
            format!("maxSessionTimeout={most}"),
        );
        self.configure(0, |text| text.replace(old, &new));
    }

    /// `zookeeper://127.0.0.1:PORT,…`, with sessions that end soon.
    pub fn url(&self) -> String {
        format!("zookeeper://{}?session_timeout={}", self.hosts(), session())
    }

    /// `127.0.0.1:PORT,…`.
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.port))
            .collect();
        hosts.join(",")
    }

    /// Port of the first server.
    pub fn port(&self) -> u16 {
        self.members[0].port
    }

    /// Which of them leads, if one does.
    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &&Member| {
            let mode = word(member.port, "srvr").unwrap_or_default();
            mode.contains("Mode: leader")
        };
        self.members.iter().find(leads).map(|member| member.number)
    }

    /// What a server answers to a word of four letters.
    pub fn word(&self, word_of_four: &str) -> String {
        word(self.port(), word_of_four).unwrap_or_default()
    }

    /// ZooKeeper's own client with these words.
    pub fn tool(&self, words: &[&str]) {
        let classes = format!(
            "{}:/usr/share/java/zookeeper.jar",
            self.folder.path().display()
        );
        let done = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp", &classes])
            .args(["org.apache.zookeeper.ZooKeeperMain", "-server"])
            .arg(format!("127.0.0.1:{}", self.port()))
            .args(words)
            .output()
            .expect("java");
        assert!(done.status.success(), "{words:?}: {done:?}");
    }

    /// A number that the first server counts (`mntr`).
    pub fn counter(&self, name: &str) -> u64 {
        let lines = self.word("mntr");
        lines
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0)
    }

    /// SIGKILL.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a killed one again, with what it had written.
    pub fn start_again(&mut self, number: usize) {
        self.launch(number);
        self.wait_until_it_serves(number);
    }

    /// Starts a killed one again without waiting for it.
    pub fn launch(&mut self, number: usize) {
        let home = self.folder.path().join(number.to_string());
        let log = std::fs::File::create(home.join("log")).expect("a log");
        let classes = format!(
            "{}:/usr/share/java/zookeeper.jar",
            self.folder.path().display()
        );
        let child = Command::new("java")
            .args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dzookeeper.forceSync=no", "-cp", &classes])
            .args(&self.flags)
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(home.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("java: {error}; install it with: apt-get install -y zookeeper")
            });
        self.members[number].child = Some(child);
    }

    /// SIGKILL and a new server in the same place, without what the old one had written.
    pub fn restart_empty(&mut self) {
        self.kill(0);
        let _ = std::fs::remove_dir_all(self.folder.path().join("0/data/version-2"));
        self.start_again(0);
    }

    /// SIGSTOP.
    pub fn pause(&self, number: usize) {
        self.members[number]
            .child
            .iter()
            .for_each(|child| super::pause(child.id()));
    }

    /// SIGCONT.
    pub fn resume(&self, number: usize) {
        self.members[number]
            .child
            .iter()
            .for_each(|child| super::resume(child.id()));
    }

    fn wait_until_it_serves(&self, number: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let answer = word(self.members[number].port, "srvr").unwrap_or_default();
            if answer.contains("Mode: ") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = self.folder.path().join(number.to_string()).join("log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        panic!("ZooKeeper does not answer:\n{log}");
    }
}

impl Drop for ZookeeperServer {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            self.kill(number);
        }
    }
}

fn word(port: u16, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

const LOG: &str = "log4j.rootLogger=WARN, CONSOLE\n\
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender\n\
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout\n\
log4j.appender.CONSOLE.layout.ConversionPattern=%d %p %m%n\n";
