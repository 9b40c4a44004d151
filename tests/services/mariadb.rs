//! A MariaDB server of one's own: on a free port of 127.0.0.1 and on a unix socket, killed when
//! dropped. `root` has no password on the socket; `locker` comes in by TCP, into the database `test`.

use super::free_port;
use super::redis::make_certificates;
use super::template::{copy, run};
use crate::names::TempDir;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGE: &str = "mariadb-server";

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The password of `locker`.
    pub password: Option<String>,
    /// Speak TLS if asked, with a certificate of its own making.
    pub tls: bool,
    /// Further words of the command line, such as `--wait-timeout=1`.
    pub extra: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct MariadbServer {
    folder: TempDir,
    port: u16,
    options: Options,
    child: Child,
}

impl MariadbServer {
    /// A plain one.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// One with options. A missing server program is a failure, never a skip.
    pub fn start_with(options: Options) -> Self {
        let folder = TempDir::in_memory("synlock-my");
        copy("mariadb", &folder.path().join("data"), |data| {
            run(
                Command::new("mariadb-install-db")
                    .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                    .args(["--skip-test-db", "--innodb-log-file-size=4M"])
                    .args(own_user())
                    .arg(format!("--datadir={}", data.display())),
                PACKAGE,
            );
        });
        if options.tls {
            make_certificates(folder.path());
        }
        let port = free_port();
        let child = launch(folder.path(), port, &options);
        let server = MariadbServer {
            folder,
            port,
            options,
            child,
        };
        server.wait_until_it_answers();
        let password = server.options.password.as_deref().unwrap_or_default();
        server.sql(&format!(
            "CREATE DATABASE test; CREATE USER locker@'127.0.0.1' IDENTIFIED BY '{password}'; \
             CREATE USER locker@localhost IDENTIFIED BY '{password}'; \
             GRANT ALL ON *.* TO locker@'127.0.0.1'; GRANT ALL ON *.* TO locker@localhost;"
        ));
        server
    }

    /// `USER:PASSWORD@127.0.0.1:PORT/test`, what follows a scheme and `//`.
    pub fn place(&self) -> String {
        let password = self.options.password.as_ref();
        let password = password.map_or_else(String::new, |word| format!(":{word}"));
        format!("locker{password}@127.0.0.1:{}/test", self.port)
    }

    /// `//root@/test?socket=…`, what follows a scheme and `:`.
    pub fn socket_place(&self) -> String {
        format!("//root@/test?socket={}", self.socket().display())
    }

    /// Path of the unix socket.
    pub fn socket(&self) -> PathBuf {
        self.file("my.sock")
    }

    /// A file in the server's folder (`ca.crt`, `log`).
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements through the client as `root`, and returns what it prints.
    ///
    /// # Panics
    /// If they fail.
    pub fn sql(&self, statements: &str) -> String {
        let done = self.client(statements).output().expect("mariadb");
        assert!(
            done.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// A client that will run statements; give it pipes to talk with it.
    pub fn client(&self, statements: &str) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "-N", "-B", "-u", "root", "-S"])
            .arg(self.socket());
        if !statements.is_empty() {
            client.args(["-e", statements]);
        }
        client
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGKILL, and a new server on the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// A new server on the data of one that was killed.
    pub fn start_again(&mut self) {
        self.child = launch(self.folder.path(), self.port, &self.options);
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
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            let answers = self.socket().exists()
                && self
                    .client("SELECT 1")
                    .output()
                    .is_ok_and(|done| done.status.success());
            if answers {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        panic!("mariadbd does not answer:\n{log}");
    }
}

impl Drop for MariadbServer {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

fn own_user() -> Option<&'static str> {
    super::template::is_root().then_some("--user=root")
}

fn launch(folder: &Path, port: u16, options: &Options) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    let path = |name: &str| folder.join(name).display().to_string();
    let program = ["/usr/sbin/mariadbd", "/usr/bin/mariadbd"];
    let program = program.into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("mariadbd"));
    command
        .arg("--no-defaults")
        .args(own_user())
        .arg(format!("--datadir={}", path("data")))
        .arg(format!("--socket={}", path("my.sock")))
        .arg(format!("--port={port}"))
        .args(["--bind-address=127.0.0.1", "--skip-log-bin"])
        .args([
            "--innodb-log-file-size=4M",
            "--innodb-buffer-pool-size=16M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-use-native-aio=0",
            // A disk may take a second for what a table is made of.
            "--debug-no-sync",
            "--max-connections=1000",
            "--plugin-load-add=metadata_lock_info",
            // So that a session's process can be seen.
            "--performance-schema=ON",
        ]);
    if options.tls {
        command.args([
            format!("--ssl-cert={}", path("server.crt")),
            format!("--ssl-key={}", path("server.key")),
            format!("--ssl-ca={}", path("ca.crt")),
        ]);
    }
    command
        .args(&options.extra)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("mariadbd: {error}; install it with: apt-get install -y {PACKAGE}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_restarts_and_goes() {
        let mut server = MariadbServer::start_with(Options {
            password: Some("secret".into()),
            tls: true,
            ..Options::default()
        });
        server.sql("CREATE TABLE test.a (b int)");
        server.restart();
        assert_eq!(server.sql("SELECT count(*) FROM test.a"), "0");
        assert_eq!(server.sql("SELECT @@have_ssl"), "YES");
    }
}
