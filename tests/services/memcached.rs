//! A memcached server of one's own: on a free port of 127.0.0.1 or on a unix socket, killed when
//! dropped.

use super::free_port;
use crate::names::TempDir;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Listen on a unix socket; memcached has either that or a port.
    pub socket: bool,
    /// Ask for this user and password.
    pub login: Option<(String, String)>,
    /// Further words of the command line, such as `-m 2 -M`.
    pub extra: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct MemcachedServer {
    folder: TempDir,
    port: u16,
    options: Options,
    child: Child,
}

impl MemcachedServer {
    /// A plain one.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// One with options. A missing server program is a failure, never a skip.
    pub fn start_with(options: Options) -> Self {
        let folder = TempDir::new("synlock-memcached");
        if let Some((user, password)) = &options.login {
            std::fs::write(folder.path().join("login"), format!("{user}:{password}\n"))
                .expect("a file");
        }
        let port = free_port();
        let child = launch(&folder, port, &options);
        let server = MemcachedServer {
            folder,
            port,
            options,
            child,
        };
        server.wait_until_it_answers();
        server
    }

    /// `memcached://127.0.0.1:PORT` or `memcached:/path/to.sock`, without a login.
    pub fn url(&self) -> String {
        if self.options.socket {
            format!("memcached:{}", self.socket().display())
        } else {
            format!("memcached://127.0.0.1:{}", self.port)
        }
    }

    /// Path of the unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("memcached.sock")
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends bytes and returns the lines that come, up to the one that answers `mn`.
    pub fn say(&self, words: &[u8]) -> String {
        let request = [words, b"mn\r\n"].concat();
        if self.options.socket {
            say(
                UnixStream::connect(self.socket()).expect("the server"),
                &request,
            )
        } else {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server");
            say(stream, &request)
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGKILL and a new, empty server in the same place.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(&self.folder, self.port, &self.options);
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
            let connects = if self.options.socket {
                UnixStream::connect(self.socket()).is_ok()
            } else {
                TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            };
            if connects {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("memcached does not answer");
    }
}

impl Drop for MemcachedServer {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

fn say(mut stream: impl Read + Write, request: &[u8]) -> String {
    stream.write_all(request).expect("the server reads");
    let mut lines = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.expect("text");
        if line == "MN" {
            break;
        }
        lines += &line;
        lines.push('\n');
    }
    lines
}

fn launch(folder: &TempDir, port: u16, options: &Options) -> Child {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut command = Command::new("memcached");
    // As root it wants a user to become; as anybody else it heeds none.
    command.args(["-u", "root", "-U", "0"]);
    if options.socket {
        let _ = std::fs::remove_file(path("memcached.sock"));
        command.args(["-s", &path("memcached.sock")]);
    } else {
        command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
    }
    if options.login.is_some() {
        command.args(["-Y", &path("login")]);
    }
    command
        .args(&options.extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("memcached: {error}; install it with: apt-get install -y memcached")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_restarts_and_goes() {
        for socket in [false, true] {
            let mut server = MemcachedServer::start_with(Options {
                socket,
                ..Options::default()
            });
            assert_eq!(server.say(b"ms a 1\r\nx\r\n"), "HD\n");
            server.restart();
            assert_eq!(server.say(b"mg a v\r\n"), "EN\n");
        }
    }
}
