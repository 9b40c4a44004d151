//! A server's wall clock in a test's hand: a library preloaded into that one process, since the machine's
//! own clock is everybody's.

use crate::names::TempDir;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The clock of the servers that are started with `environment`.
#[derive(Debug)]
pub struct Wall {
    folder: PathBuf,
    /// Goes with the clock of whoever has made it.
    _owned: Option<TempDir>,
}

impl Wall {
    /// Builds the library; the clock is right at first.
    pub fn new() -> Self {
        let owned = TempDir::new("synlock-wall");
        // Some servers run as users of their own.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(owned.path(), open).expect("a folder");
        let wall = Wall {
            folder: owned.path().to_owned(),
            _owned: Some(owned),
        };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/services/fakewall.c");
        let done = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(wall.library())
            .arg(source)
            .status()
            .expect("cc");
        assert!(done.success(), "the library does not build");
        wall.set(0);
        wall
    }

    /// The clock in a folder of another's.
    pub fn of(folder: PathBuf) -> Self {
        Wall {
            folder,
            _owned: None,
        }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn library(&self) -> PathBuf {
        self.folder.join("fakewall.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("offset")
    }

    /// What a server's process needs to have this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(self.library())),
            ("FAKEWALL".to_owned(), text(self.file())),
        ]
    }

    /// Steps the clock by so much, ahead or back of the right time.
    pub fn ahead(&self, by: Duration) {
        self.set(i64::try_from(by.as_micros()).expect("a step"));
    }

    /// See [`Wall::ahead`].
    pub fn back(&self, by: Duration) {
        self.set(-i64::try_from(by.as_micros()).expect("a step"));
    }

    fn set(&self, micros: i64) {
        use std::os::unix::fs::FileExt;
        let mut options = std::fs::OpenOptions::new();
        // The mapped file stays the same one.
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.file());
        file.expect("a file")
            .write_all_at(&micros.to_ne_bytes(), 0)
            .expect("eight bytes");
    }
}

impl Default for Wall {
    fn default() -> Self {
        Self::new()
    }
}
