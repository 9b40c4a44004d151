//! A PgBouncer of one's own in front of a server of PostgreSQL, killed when dropped.

use super::free_port;
use super::postgres::PostgresServer;
use super::template::{give, unprivileged};
use crate::names::TempDir;
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A running pooler.
#[derive(Debug)]
pub struct PgBouncer {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl PgBouncer {
    /// One whose `mode` is `session`, `transaction` or `statement`, with `size` sessions at most.
    pub fn start(server: &PostgresServer, mode: &str, size: u32) -> Self {
        let folder = TempDir::new("synlock-pgb");
        let port = free_port();
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n\
             max_client_conn = 100\nserver_lifetime = 3600\n",
            server.port()
        );
        let settings = folder.path().join("pgbouncer.ini");
        std::fs::write(&settings, text).expect("a file");
        give(folder.path());
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let program = program
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let child = unprivileged(program.unwrap_or("pgbouncer"))
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("pgbouncer: {error}; install it with: apt-get install -y pgbouncer")
            });
        let bouncer = PgBouncer {
            folder,
            port,
            child,
        };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(bouncer.folder.path().join("log"));
            assert!(Instant::now() < end, "pgbouncer does not answer: {log:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        bouncer
    }

    /// `postgres@127.0.0.1:PORT/postgres`, what follows a scheme and `//`.
    pub fn place(&self) -> String {
        format!("postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_two_clients_are_one() {
        let server = PostgresServer::start();
        let bouncer = PgBouncer::start(&server, "transaction", 1);
        let ask = || {
            let place = format!("postgresql://{}", bouncer.place());
            let done = std::process::Command::new("psql")
                .args(["-X", "-A", "-t", &place, "-c", "SELECT pg_backend_pid()"])
                .output()
                .expect("psql");
            String::from_utf8_lossy(&done.stdout).into_owned()
        };
        let first = ask();
        assert!(!first.trim().is_empty());
        assert_eq!(first, ask());
    }
}
