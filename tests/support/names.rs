//! Names that no other test uses.

use std::sync::atomic::{AtomicU32, Ordering};

/// A name with this stem, unique on this machine.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    format!(
        "{stem}-{}-{}-{time:x}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A fresh directory below the system's temporary one, removed when dropped.
#[derive(Debug)]
pub struct TempDir(std::path::PathBuf);

impl TempDir {
    /// Makes it, for this user alone.
    pub fn new(stem: &str) -> Self {
        Self::within(std::env::temp_dir(), stem)
    }

    /// As `new`, in memory where that is a file system: for databases, some of which sync at every step, and a disk
    /// that others use may take a second for each.
    pub fn in_memory(stem: &str) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        if memory.is_dir() {
            Self::within(memory, stem)
        } else {
            Self::new(stem)
        }
    }

    /// As `new`, in a folder of the caller's choice.
    pub fn within(folder: impl AsRef<std::path::Path>, stem: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let path = folder.as_ref().join(unique(stem));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
