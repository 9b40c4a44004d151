//! Places where somebody plants things in the way of a store's files, and something that must stay as
//! it was.

use crate::taker::Taker;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A user without rights.
pub const NOBODY: u32 = 65_534;
/// Another one, whom nobody trusts.
pub const STRANGER: u32 = 54_321;
const VICTIM: &str = "the victim's data";

/// Whether this process may become others.
pub fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

/// A taker as user `me`; whatever hangs is killed, and its answer is empty.
pub fn taker(program: &str, url: &str, me: u32) -> Taker {
    let mut taker = Taker::spawn(Command::new("timeout").args(["-k1", "10", program, url]));
    if is_root() && me != 0 {
        taker.ok(&format!("user {me} {me}"));
    }
    taker
}

/// One case's places.
#[derive(Debug)]
pub struct Scene {
    /// Where everything is.
    pub base: PathBuf,
    /// The directory that is attacked.
    pub locks: PathBuf,
    /// What must stay as it is.
    pub victim: PathBuf,
    /// Who is attacked.
    pub me: u32,
}

impl Scene {
    /// A sound place for `me`, below `base`.
    pub fn new(base: &Path, number: usize, me: u32) -> Self {
        let base = base.join(number.to_string());
        let scene = Scene {
            locks: base.join("locks"),
            victim: base.join("victim"),
            base,
            me,
        };
        fs::create_dir(&scene.base).unwrap();
        scene.own(&scene.base, 0o755, me);
        fs::write(&scene.victim, VICTIM).unwrap();
        scene.own(&scene.victim, 0o600, me);
        scene.dir(&scene.locks, 0o700, me);
        scene
    }

    /// Gives something an owner and permissions.
    pub fn own(&self, path: &Path, mode: u32, owner: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if owner != self.me || is_root() {
            chown(path, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Makes a directory.
    pub fn dir(&self, path: &Path, mode: u32, owner: u32) {
        fs::create_dir(path).unwrap();
        self.own(path, mode, owner);
    }

    /// Makes an empty file.
    pub fn file(&self, path: &Path, mode: u32, owner: u32) {
        fs::write(path, b"").unwrap();
        self.own(path, mode, owner);
    }

    /// Where things are planted.
    pub fn x(&self) -> PathBuf {
        self.locks.join("x")
    }

    /// Removes the directory.
    pub fn clear(&self) {
        fs::remove_dir_all(&self.locks).unwrap();
    }

    /// Makes a FIFO or a device.
    pub fn mknod(&self, path: &Path, kind: &[&str]) {
        let made = Command::new("mknod").arg(path).args(kind).status().unwrap();
        assert!(made.success());
        if is_root() {
            chown(path, Some(self.me), Some(self.me)).unwrap();
        }
    }

    /// Moves the directory away and puts something else in its place.
    pub fn swap(&self, put: impl FnOnce(&Path)) {
        let _ = fs::remove_dir_all(self.base.join("away"));
        fs::rename(&self.locks, self.base.join("away")).unwrap();
        put(&self.locks);
    }

    /// Everything that must be as it was.
    pub fn state(&self) -> (Vec<u8>, u32, u32) {
        let data = fs::metadata(&self.victim).unwrap();
        (
            fs::read(&self.victim).unwrap(),
            data.permissions().mode(),
            data.uid(),
        )
    }
}
