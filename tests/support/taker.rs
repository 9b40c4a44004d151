//! The other process: `flock-taker`, driven line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// The taker of the next release, whose layout numbers are one higher (`next-layout`): built beside
/// this one's.
pub fn next_release(this: &str) -> &'static str {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let target = Path::new(this)
            .ancestors()
            .find(|path| path.ends_with("target"))
            .map_or_else(std::env::temp_dir, Path::to_path_buf)
            .join("next-layout");
        let built = Command::new(env!("CARGO"))
            .args(["build", "-q", "--no-default-features"])
            .args([
                "--features",
                "memory,flock,shm,sysv,redis,sqlite,memcached,postgres,mysql,zookeeper,etcd,next-layout",
            ])
            .args(["--bin", "flock-taker", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the next release does not build");
        target.join("debug/flock-taker")
    });
    built.to_str().expect("a path of text")
}

/// A running taker; killed when dropped.
#[derive(Debug)]
pub struct Taker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Taker {
    /// Starts it on a URL.
    pub fn start(program: &str, url: &str) -> Self {
        Self::spawn(Command::new(program).arg(url))
    }

    /// Starts a command that ends up as a taker.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the taker starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Taker {
            child,
            stdin,
            stdout,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One command, one answer; empty if it has died.
    pub fn ask(&mut self, command: &str) -> String {
        let stdin = self.stdin.as_mut().expect("still open");
        if writeln!(stdin, "{command}").is_err() {
            return String::new();
        }
        let mut answer = String::new();
        let _ = self.stdout.read_line(&mut answer);
        answer.trim_end().to_owned()
    }

    /// As `ask`, the answer's first word alone.
    pub fn code(&mut self, command: &str) -> String {
        let answer = self.ask(command);
        answer.split(' ').next().unwrap_or_default().to_owned()
    }

    /// As `ask`, and must be answered with OK; what follows it.
    pub fn ok(&mut self, command: &str) -> String {
        let answer = self.ask(command);
        match answer.strip_prefix("OK") {
            Some(rest) => rest.trim().to_owned(),
            None => panic!("{command}: {answer:?}"),
        }
    }

    /// Ends it by itself.
    pub fn quit(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
