//! A running command of some language.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use synlock_tests::load::SOON;

/// Every language that has a command.
pub(crate) const LANGUAGES: [&str; 5] = ["rust", "c", "php", "python", "node"];

/// The process; killed when dropped.
pub(crate) struct Running {
    pub(crate) language: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the project")
        .to_owned()
}

fn program(language: &str) -> Command {
    let folder = root().join("tests/e2e");
    let built = root().join("target/e2e");
    let mut command = match language {
        "rust" => Command::new(env!("CARGO_BIN_EXE_e2e-rust")),
        "c" => Command::new(built.join("cmd-c")),
        "php" => {
            let mut php = Command::new("php");
            let library = format!(
                "synlock.library={}",
                built.join("libsynlock.so.0").display()
            );
            php.args(["-d", "ffi.enable=1", "-d", &library]);
            php.arg(folder.join("cmd.php"));
            php
        }
        "python" => {
            let mut python = Command::new(root().join("target/venv/bin/python"));
            python.arg(folder.join("cmd.py"));
            python.env("PYTHONPATH", root().join("bindings/python/python"));
            python
        }
        "node" => {
            let mut node = Command::new("node");
            node.arg(folder.join("cmd.mjs"));
            node
        }
        other => panic!("no command for {other}"),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// UNAVAILABLE or UNCERTAIN.
pub(crate) fn is_trouble(answer: &str) -> bool {
    matches!(answer, "200" | "201")
}

impl Running {
    /// Starts it with the store `s` open. A command that is missing is a failure, never a skip.
    pub(crate) fn start(language: &'static str, url: &str) -> Self {
        let mut child = program(language)
            .spawn()
            .unwrap_or_else(|error| panic!("{language}: {error}; run tests/e2e/run"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let mut running = Running {
            language,
            child,
            input,
            answers,
        };
        running.expect(&format!("open s {url}"), "0");
        running
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &str) {
        let input = self.input.as_mut().expect("still open");
        writeln!(input, "{request}").unwrap_or_else(|error| panic!("{}: {error}", self.language));
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> String {
        match self.answers.recv_timeout(Duration::from_secs(120)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{} does not answer", self.language),
            Err(RecvTimeoutError::Disconnected) => panic!("{} is gone", self.language),
        }
    }

    /// Whether no answer has come after this time.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.answers.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    /// Sends a request and gives its answer.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.send(request);
        self.answer()
    }

    /// A request that must be answered by just this.
    pub(crate) fn expect(&mut self, request: &str, answer: &str) {
        let got = self.ask(request);
        let shown: String = request.chars().take(100).collect();
        assert_eq!(got, answer, "{}: {shown}", self.language);
    }

    /// A request whose time, in ms, runs out, and is answered by just this; it gets more time where a server has not
    /// answered in less.
    pub(crate) fn runs_out(&mut self, request: impl Fn(u64) -> String, answer: &str) {
        let mut ms = 20;
        let mut got = self.ask(&request(ms));
        while ms < 10_000 && is_trouble(&got) {
            ms *= 5;
            got = self.ask(&request(ms));
        }
        assert_eq!(got, answer, "{}: {}", self.language, request(ms));
    }

    /// Takes a lease of these ms, or a longer one where the answer takes as long as that; the one that it has.
    pub(crate) fn leases(
        &mut self,
        request: impl Fn(u64) -> String,
        answer: &str,
        ttl: u64,
    ) -> u64 {
        let mut ttl = ttl;
        loop {
            let got = self.ask(&request(ttl));
            if got == answer || ttl > 20_000 || !is_trouble(&got) {
                assert_eq!(got, answer, "{}: {}", self.language, request(ttl));
                return ttl;
            }
            ttl *= 5;
        }
    }

    /// Asks until the answer comes: what a host or a server does in its own time.
    pub(crate) fn comes_to(&mut self, request: &str, answer: &str) {
        let end = Instant::now() + SOON;
        loop {
            let got = self.ask(request);
            if got == answer {
                return;
            }
            let language = self.language;
            assert!(
                Instant::now() < end,
                "{language}: {request} is {got}, and never {answer}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The number after the status 0.
    pub(crate) fn number(&mut self, request: &str) -> i64 {
        let got = self.ask(request);
        let number = got.strip_prefix("0 ").and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("{}: {request}: {got}", self.language))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Ends it as its host ends normally; its exit status.
    pub(crate) fn finish(&mut self) -> Option<i32> {
        drop(self.input.take());
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
