//! The driver: synlock and a peer on one lock, the same cases for every pair.

use libtest_mimic::Trial;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use synlock_tests::names::TempDir;
use synlock_tests::process::is_full_load;

/// Turns of a pair together.
pub(crate) fn turns() -> u32 {
    if is_full_load() { 5_000 } else { 500 }
}
/// For the end of all turns, some of whose peers poll.
fn their_time() -> Duration {
    PATIENCE * (turns() / 500)
}
/// For answers that must come.
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds that the lease of a holder lasts who will be killed, where it has one.
pub(crate) const LEASE: u64 = 6;
/// For answers that must not.
const MOMENT: Duration = Duration::from_millis(150);

/// A program and its arguments.
pub(crate) type Words = Vec<String>;

/// Two that share a lock.
#[derive(Clone)]
pub(crate) struct Pair {
    /// First part of the names of its cases.
    pub(crate) name: &'static str,
    /// What synlock opens, and the name that it locks.
    pub(crate) url: String,
    pub(crate) lock: String,
    /// The peer's command.
    pub(crate) peer: Words,
    /// Whether the lock of a killed holder comes free by itself, within `PATIENCE`.
    pub(crate) frees_on_death: bool,
    /// Keeps the server or the folder.
    pub(crate) _keep: Arc<dyn std::any::Any + Send + Sync>,
}

/// A peer in PHP: a script of `peers/`.
pub(crate) fn php(script: &str, arguments: &[&str]) -> Words {
    words("php", &[], script, arguments)
}

/// A peer in Python: a script of `peers/`, with the packages that the tests install.
pub(crate) fn python(script: &str, arguments: &[&str]) -> Words {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the project");
    let python = root.join("target/venv/bin/python");
    words(
        python.to_str().expect("a path of text"),
        &[],
        script,
        arguments,
    )
}

/// A peer in Node: a script of `peers/`, with the packages that `peers/install-node` installs.
pub(crate) fn node(script: &str, arguments: &[&str]) -> Words {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = root.join("interop/peers/install-node");
    let done = Command::new(install).status().expect("bash");
    assert!(done.success(), "Node's packages are not there");
    let modules = root.join("../target/interop/node_modules");
    let path = format!("NODE_PATH={}", modules.display());
    words("env", &[&path, "node"], script, arguments)
}

/// A peer in Rust: a package of `peers/`, apart from ours, and built once.
pub(crate) fn rust(package: &str, arguments: &[&str]) -> Words {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = tests.join("../target/interop").join(package);
    let done = Command::new("cargo")
        .args(["build", "--locked", "-q", "--manifest-path"])
        .arg(tests.join(format!("interop/peers/{package}/Cargo.toml")))
        .arg("--target-dir")
        .arg(&built)
        .status()
        .expect("cargo");
    assert!(done.success(), "{package} does not build");
    let program = built.join(format!("debug/{package}-peer"));
    let program = program.to_str().expect("a path of text");
    let words = [program].into_iter().chain(arguments.iter().copied());
    words.map(str::to_owned).collect()
}

/// A peer in shell: a script of `peers/`.
pub(crate) fn shell(script: &str, arguments: &[&str]) -> Words {
    words("bash", &[], script, arguments)
}

fn words(program: &str, options: &[&str], script: &str, arguments: &[&str]) -> Words {
    let path = format!("{}/interop/peers/{script}", env!("CARGO_MANIFEST_DIR"));
    let first = [program].into_iter().chain(options.iter().copied());
    let rest = [path.as_str()].into_iter().chain(arguments.iter().copied());
    first.chain(rest).map(str::to_owned).collect()
}

/// One side while it runs; killed when dropped.
pub(crate) struct Side {
    title: String,
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Side {
    pub(crate) fn start(command: &Words) -> Self {
        Side::start_with(command, None)
    }

    fn start_with(command: &Words, lease: Option<u64>) -> Self {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .envs(lease.map(|lease| ("LEASE", lease.to_string())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command[0]));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Side {
            title: command.join(" "),
            input: child.stdin.take().expect("a pipe"),
            child,
            answers,
        }
    }

    pub(crate) fn send(&mut self, request: &str) {
        writeln!(self.input, "{request}").unwrap_or_else(|error| panic!("{}: {error}", self.title));
    }

    pub(crate) fn answers(&mut self, answer: &str) {
        self.answers_within(PATIENCE, answer);
    }

    fn answers_within(&mut self, time: Duration, answer: &str) {
        match self.answers.recv_timeout(time) {
            Ok(line) => assert_eq!(line, answer, "{}", self.title),
            Err(RecvTimeoutError::Timeout) => panic!("{} does not answer", self.title),
            Err(RecvTimeoutError::Disconnected) => panic!("{} is gone", self.title),
        }
    }

    pub(crate) fn expect(&mut self, request: &str, answer: &str) {
        self.send(request);
        self.answers(answer);
    }

    fn is_silent(&mut self) {
        let said = self.answers.recv_timeout(MOMENT);
        assert_eq!(said, Err(RecvTimeoutError::Timeout), "{}", self.title);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pair {
    pub(crate) fn ours(&self) -> Side {
        Side::start(&vec![
            env!("CARGO_BIN_EXE_interop-synlock").to_owned(),
            self.url.clone(),
            self.lock.clone(),
        ])
    }

    pub(crate) fn theirs(&self) -> Side {
        Side::start(&self.peer)
    }

    /// Each side gets the lock of the other one that was killed.
    pub(crate) fn die(&self) {
        die(&mut self.ours(), &mut self.theirs());
        die(
            &mut Side::start_with(&self.peer, Some(LEASE)),
            &mut self.ours(),
        );
    }

    /// The cases of this pair.
    pub(crate) fn trials(&self) -> Vec<Trial> {
        type Start = fn(&Pair) -> Side;
        let sides: [(&str, Start, Start); 2] = [
            ("synlock_then_peer", Pair::ours, Pair::theirs),
            ("peer_then_synlock", Pair::theirs, Pair::ours),
        ];
        // They share one lock, so one after the other.
        let turn = Arc::default();
        let mut trials = vec![self.trial("turns", &turn, |pair| pair.turns())];
        for (title, first, second) in sides {
            let seen = move |pair: &Pair| see(&mut first(pair), &mut second(pair));
            trials.push(self.trial(&format!("{title}::hold_and_release_are_seen"), &turn, seen));
            let waits = move |pair: &Pair| wait(&mut first(pair), &mut second(pair));
            trials.push(self.trial(&format!("{title}::waits"), &turn, waits));
        }
        if self.frees_on_death {
            trials.push(self.trial("killed_holders_free", &turn, Pair::die));
        }
        trials
    }

    fn trial(
        &self,
        title: &str,
        turn: &Arc<Mutex<()>>,
        run: impl Fn(&Pair) + Send + Sync + 'static,
    ) -> Trial {
        let (pair, turn) = (self.clone(), turn.clone());
        Trial::test(format!("{}::{title}", self.name), move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            run(&pair);
            Ok(())
        })
    }

    /// Both count at once, and nothing is lost.
    pub(crate) fn turns(&self) {
        assert_eq!(self.count(), turns(), "turns were lost on {}", self.url);
    }

    /// What the counter says after the turns.
    pub(crate) fn count(&self) -> u32 {
        let folder = TempDir::new("synlock-interop");
        let counter = folder.path().join("counter");
        std::fs::write(&counter, "0").expect("the counter");
        let request = format!("turns {} {}", turns() / 2, counter.display());
        let (mut ours, mut theirs) = (self.ours(), self.theirs());
        // Started, both: what takes its time is not to be over before the other begins.
        for side in [&mut ours, &mut theirs] {
            side.expect("take", "taken");
            side.expect("release", "released");
        }
        ours.send(&request);
        theirs.send(&request);
        ours.answers_within(their_time(), "done");
        theirs.answers_within(their_time(), "done");
        let text = std::fs::read_to_string(&counter).expect("the counter");
        text.trim().parse().expect("a number")
    }
}

fn see(first: &mut Side, second: &mut Side) {
    for _ in 0..3 {
        first.expect("take", "taken");
        second.expect("try", "busy");
        first.expect("release", "released");
        second.expect("try", "taken");
        first.expect("try", "busy");
        second.expect("release", "released");
    }
}

fn wait(first: &mut Side, second: &mut Side) {
    for _ in 0..2 {
        first.expect("take", "taken");
        second.send("take");
        second.is_silent();
        first.expect("release", "released");
        second.answers("taken");
        first.expect("try", "busy");
        second.expect("release", "released");
    }
}

fn die(first: &mut Side, second: &mut Side) {
    first.expect("take", "taken");
    second.send("take");
    second.is_silent();
    first.kill();
    second.answers("taken");
    second.expect("release", "released");
}
