//! Data folders of databases that are made once and copied for every server.

use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a command to its end.
pub(super) fn run(command: &mut Command, package: &str) {
    let done = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{command:?}: {error}; install it with: apt-get install -y {package}")
        });
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

pub(super) fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

/// A command that some servers will not take from root.
pub(super) fn unprivileged(program: impl AsRef<Path>) -> Command {
    if !is_root() {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(program.as_ref());
    command
}

/// Hands a folder and what is in it to the user of `unprivileged`.
pub(super) fn give(folder: &Path) {
    if is_root() {
        run(
            Command::new("chown")
                .args(["-R", "nobody:nogroup"])
                .arg(folder),
            "coreutils",
        );
    }
}

/// A fresh copy at `to` of a folder that `make` filled when this was first asked for.
pub(super) fn copy(name: &str, to: &Path, make: impl FnOnce(&Path)) {
    let kept = kept();
    let template = kept.join(name);
    let lock = std::fs::File::create(kept.join(format!("{name}.lock"))).expect("a lock file");
    // SAFETY: locks a descriptor of ours until it is closed.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
    if !template.exists() {
        let fresh = crate::names::TempDir::new("synlock-template");
        let data = fresh.path().join("data");
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&data)
            .expect("a folder");
        give(fresh.path());
        make(&data);
        let half = kept.join(format!("{name}.half"));
        let _ = std::fs::remove_dir_all(&half);
        run(
            Command::new("cp").arg("-a").arg(&data).arg(&half),
            "coreutils",
        );
        std::fs::rename(&half, &template).expect("a folder that can be moved");
    }
    drop(lock);
    run(
        Command::new("cp").arg("-a").arg(&template).arg(to),
        "coreutils",
    );
}

/// Where the originals lie from run to run.
fn kept() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let kept = target.join("services");
    std::fs::create_dir_all(&kept).expect("a folder for what is kept");
    kept
}
