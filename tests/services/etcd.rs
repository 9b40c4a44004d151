//! etcd servers of one's own: one, or several of a cluster; on free ports of 127.0.0.1, data in a temporary
//! folder, killed when dropped.

use super::free_port;
use super::redis::make_certificates;
use crate::names::TempDir;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How the servers are set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Members of the cluster; 0 is 1.
    pub members: usize,
    /// Clients must speak TLS.
    pub tls: bool,
    /// Password of the user `root`: clients must log in.
    pub password: Option<String>,
    /// Further words of the command line, such as `--quota-backend-bytes=33554432`.
    pub extra: Vec<String>,
}

#[derive(Debug)]
struct Member {
    port: u16,
    peer: u16,
    child: Option<Child>,
}

/// Running servers.
#[derive(Debug)]
pub struct EtcdServer {
    folder: TempDir,
    options: Options,
    members: Vec<Member>,
}

impl EtcdServer {
    /// One server.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A missing server program is a failure, never a skip.
    pub fn start_with(options: Options) -> Self {
        let folder = TempDir::in_memory("synlock-etcd");
        if options.tls {
            make_certificates(folder.path());
        }
        let count = options.members.max(1);
        let members = (0..count)
            .map(|_| Member {
                port: free_port(),
                peer: free_port(),
                child: None,
            })
            .collect();
        let mut server = EtcdServer {
            folder,
            options,
            members,
        };
        for number in 0..count {
            server.launch(number);
        }
        for number in 0..count {
            server.wait_until_it_serves(number);
        }
        if let Some(password) = server.options.password.clone() {
            let user = format!("root:{password}");
            for words in [
                vec!["user", "add", &user],
                vec!["user", "grant-role", "root", "root"],
                vec!["auth", "enable"],
            ] {
                let told = server.ctl_plain(&words);
                assert!(told.status.success(), "{told:?}");
            }
        }
        server
    }

    /// `etcd://127.0.0.1:PORT,…`, with what a client must say.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = (0..self.members.len())
            .map(|number| self.host(number))
            .collect();
        let login = self
            .options
            .password
            .as_ref()
            .map_or_else(String::new, |password| format!("root:{password}@"));
        if self.options.tls {
            let ca = self.file("ca.crt");
            format!(
                "etcds://{login}{}?ca_file={}",
                hosts.join(","),
                ca.display()
            )
        } else {
            format!("etcd://{login}{}", hosts.join(","))
        }
    }

    /// Where one of them listens.
    pub fn host(&self, number: usize) -> String {
        let name = if self.options.tls {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{name}:{}", self.members[number].port)
    }

    /// Port of the first of them.
    pub fn port(&self) -> u16 {
        self.members[0].port
    }

    /// A file of theirs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `etcdctl` with these words, spoken to all members.
    pub fn ctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        let hosts: Vec<String> = (0..self.members.len())
            .map(|number| format!("{}://{}", self.scheme(), self.host(number)))
            .collect();
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", hosts.join(",")))
            .args(words)
            .stdin(Stdio::null());
        if self.options.tls {
            command.arg(format!("--cacert={}", self.file("ca.crt").display()));
        }
        command
    }

    fn ctl_plain(&self, words: &[&str]) -> Output {
        self.ctl(words).output().unwrap_or_else(|error| {
            panic!("etcdctl: {error}; install it with: apt-get install -y etcd-client")
        })
    }

    /// What `etcdctl` prints.
    pub fn told(&self, words: &[&str]) -> String {
        let mut command = self.ctl(words);
        if let Some(password) = &self.options.password {
            command.arg(format!("--user=root:{password}"));
        }
        let told = command.output().unwrap_or_else(|error| {
            panic!("etcdctl: {error}; install it with: apt-get install -y etcd-client")
        });
        assert!(told.status.success(), "{told:?}");
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    fn scheme(&self) -> &'static str {
        if self.options.tls { "https" } else { "http" }
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
    pub fn launch_again(&mut self, number: usize) {
        self.launch(number);
    }

    /// SIGKILL and a new server in the same place, without what the old one had written.
    pub fn restart_empty(&mut self) {
        self.kill(0);
        let _ = std::fs::remove_dir_all(self.file("0"));
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

    /// The member that leads, if one does.
    pub fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|number| {
            let answer = self.post(*number, "/v3/maintenance/status", "{}");
            let text = |key: &str| {
                let at = answer.find(&format!("\"{key}\":\""))?;
                answer[at..].split('"').nth(3).map(str::to_owned)
            };
            text("leader").is_some() && text("leader") == text("member_id")
        })
    }

    fn launch(&mut self, number: usize) {
        let peers: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(number, member)| format!("m{number}=http://127.0.0.1:{}", member.peer))
            .collect();
        let member = &self.members[number];
        let client = format!("{}://127.0.0.1:{}", self.scheme(), member.port);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let log = std::fs::File::create(self.file(&format!("{number}.log"))).expect("a log");
        let mut command = Command::new("etcd");
        command
            .arg("--name")
            .arg(format!("m{number}"))
            .arg("--data-dir")
            .arg(self.file(&number.to_string()))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")])
            .args([
                "--unsafe-no-fsync=true",
                "--logger=zap",
                "--log-level=error",
            ]);
        command.args(&self.options.extra);
        if self.options.tls {
            command
                .arg("--cert-file")
                .arg(self.file("server.crt"))
                .arg("--key-file")
                .arg(self.file("server.key"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("etcd: {error}; install it with: apt-get install -y etcd-server")
            });
        self.members[number].child = Some(child);
    }

    fn wait_until_it_serves(&self, number: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let serves = if self.options.tls {
                let told = self.ctl_plain(&["get", "x"]);
                told.status.success()
            } else {
                // By a read that the leader agrees to; with a login it is refused all the same.
                let answer = self.post(number, "/v3/kv/range", r#"{"key":"eA=="}"#);
                answer.contains("\"header\"") || answer.contains("user name is empty")
            };
            if serves {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.file(&format!("{number}.log")));
        panic!("etcd does not answer:\n{}", log.unwrap_or_default());
    }

    fn post(&self, number: usize, path: &str, body: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.members[number].port)) else {
            return String::new();
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = Vec::new();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            self.kill(number);
        }
    }
}
