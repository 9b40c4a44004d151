//! A PostgreSQL server of one's own: on a free port of 127.0.0.1 and on a unix socket, without fsync,
//! killed when dropped. Its superuser is `postgres`.

use super::free_port;
use super::redis::make_certificates;
use super::template::{copy, give, run, unprivileged};
use crate::names::TempDir;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGE: &str = "postgresql";

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Ask for this password over TCP, by SCRAM.
    pub password: Option<String>,
    /// Speak TLS if asked, with a certificate of its own making.
    pub tls: bool,
    /// Further settings, such as `max_connections=5`.
    pub settings: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    port: u16,
    options: Options,
    child: Child,
}

impl PostgresServer {
    /// A plain one.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// One with options. A missing server program is a failure, never a skip.
    pub fn start_with(options: Options) -> Self {
        let folder = TempDir::in_memory("synlock-pg");
        copy("postgres", &folder.path().join("data"), |data| {
            run(
                unprivileged(program("initdb"))
                    .arg("-D")
                    .arg(data)
                    .args(["--no-sync", "-A", "trust", "-U", "postgres"])
                    .args(["--locale=C.UTF-8", "-E", "UTF8", "--no-instructions"]),
                PACKAGE,
            );
        });
        if options.tls {
            make_certificates(folder.path());
        }
        let method = if options.password.is_some() {
            "scram-sha-256"
        } else {
            "trust"
        };
        std::fs::write(
            folder.path().join("data/pg_hba.conf"),
            format!("local all all trust\nhost all all 127.0.0.1/32 {method}\n"),
        )
        .expect("a file");
        give(folder.path());
        let port = free_port();
        let child = launch(folder.path(), port, &options);
        let server = PostgresServer {
            folder,
            port,
            options,
            child,
        };
        server.wait_until_it_answers();
        if let Some(password) = &server.options.password {
            server.sql(&format!("ALTER USER postgres PASSWORD '{password}'"));
        }
        server
    }

    /// `USER:PASSWORD@127.0.0.1:PORT/postgres`, what follows a scheme and `//`.
    pub fn place(&self) -> String {
        let password = self.options.password.as_ref();
        let password = password.map_or_else(String::new, |word| format!(":{word}"));
        format!("postgres{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// `//postgres@/postgres?socket=…`, what follows a scheme and `:`.
    pub fn socket_place(&self) -> String {
        format!(
            "//postgres@:{}/postgres?socket={}",
            self.port,
            self.folder.path().display()
        )
    }

    /// A file in the server's folder (`ca.crt`, `log`).
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements through psql as the superuser, over the unix socket, and returns what it prints.
    ///
    /// # Panics
    /// If they fail.
    pub fn sql(&self, statements: &str) -> String {
        let done = self.psql(statements).output().expect("psql");
        assert!(
            done.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// A psql that will run statements; give it pipes to talk with it.
    pub fn psql(&self, statements: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U"])
            .args(["postgres", "-d", "postgres", "-p"])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(self.folder.path());
        if !statements.is_empty() {
            psql.args(["-c", statements]);
        }
        psql
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.signal(libc::SIGQUIT);
        let _ = self.child.wait();
    }

    /// A crash, and a new server on the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// A new server on the data of one that was killed.
    pub fn start_again(&mut self) {
        self.child = launch(self.folder.path(), self.port, &self.options);
        self.wait_until_it_answers();
    }

    /// SIGSTOP, to its sessions too.
    pub fn pause(&self) {
        super::pause(self.child.id());
    }

    /// SIGCONT, to its sessions too.
    pub fn resume(&self) {
        super::resume(self.child.id());
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid");
        // SAFETY: sends a signal to a child of ours that has not been waited for.
        unsafe { libc::kill(pid, signal) };
    }

    fn wait_until_it_answers(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        let socket = self.file(&format!(".s.PGSQL.{}", self.port));
        while Instant::now() < end {
            let answers = socket.exists()
                && self
                    .psql("SELECT 1")
                    .output()
                    .is_ok_and(|done| done.status.success());
            if answers {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        panic!("postgres does not answer:\n{log}");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

/// Debian keeps a server's programs out of the path, in a folder per version.
fn program(name: &str) -> PathBuf {
    let newest = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .max();
    newest.unwrap_or_else(|| PathBuf::from(name))
}

fn launch(folder: &Path, port: u16, options: &Options) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    let mut command = unprivileged(program("postgres"));
    command.arg("-D").arg(folder.join("data"));
    let mut set = |setting: &str| {
        command.args(["-c", setting]);
    };
    set(&format!("port={port}"));
    set(&format!("unix_socket_directories={}", folder.display()));
    for setting in [
        "listen_addresses=127.0.0.1",
        "fsync=off",
        "full_page_writes=off",
        "shared_buffers=16MB",
        "max_connections=1000",
        "autovacuum=off",
        "wal_level=minimal",
        "max_wal_senders=0",
    ] {
        set(setting);
    }
    if options.tls {
        set("ssl=on");
        set(&format!("ssl_cert_file={}/server.crt", folder.display()));
        set(&format!("ssl_key_file={}/server.key", folder.display()));
    }
    for setting in &options.settings {
        set(setting);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("postgres: {error}; install it with: apt-get install -y {PACKAGE}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_restarts_and_goes() {
        let mut server = PostgresServer::start_with(Options {
            password: Some("secret".into()),
            tls: true,
            ..Options::default()
        });
        assert_eq!(server.sql("CREATE TABLE a (b int); SELECT 1"), "1");
        server.restart();
        assert_eq!(server.sql("SELECT count(*) FROM a"), "0");
        assert_eq!(server.sql("SHOW ssl"), "on");
    }
}
