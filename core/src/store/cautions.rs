//! What is to be said of a folder in which a store of this host keeps its locks, before its first use.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Marks of folders that systemd and snap give to one service alone, under a name that all have.
const PRIVATE: [&str; 2] = ["systemd-private-", "snap-private-tmp"];

/// Whether the folder of a store was looked at.
#[derive(Debug, Default)]
pub(super) struct Looked(AtomicBool);

impl Looked {
    /// Words about the folder, the first time.
    pub fn at(&self, folder: &Path) -> Option<String> {
        if self.0.load(Ordering::Relaxed) || self.0.swap(true, Ordering::Relaxed) {
            return None;
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        judge(folder, &mounts)
    }
}

fn judge(folder: &Path, mounts: &str) -> Option<String> {
    // ID PARENT DEVICE ROOT POINT …; of several mounts on one point the last is on top.
    let (root, _) = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(3);
            Some((words.next()?, words.next()?))
        })
        .filter(|(_, point)| folder.starts_with(point))
        .max_by_key(|(_, point)| point.len())?;
    let is_private = root
        .split('/')
        .any(|part| PRIVATE.iter().any(|mark| part.starts_with(mark)));
    is_private.then(|| {
        format!(
            "{} is in a private temporary directory: processes of other services have another one of that name, and the same locks in it; keep locks below /run or /var/lib",
            folder.to_string_lossy()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_on_top_counts() {
        let plain = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:5 / /run rw - tmpfs tmpfs rw\n";
        let private = format!(
            "{plain}40 22 8:1 /tmp/systemd-private-9f-web.service-x/tmp /tmp rw - ext4 /dev/sda1 rw\n"
        );
        let covered = format!("{private}41 40 8:1 /srv/tmp /tmp rw - ext4 /dev/sda1 rw\n");
        let says = |folder: &str, mounts: &str| judge(Path::new(folder), mounts).is_some();
        assert!(!says("/tmp/locks", plain));
        assert!(says("/tmp/locks", &private));
        assert!(!says("/tmpfiles", &private));
        assert!(!says("/run/locks", &private));
        assert!(!says("/tmp/locks", &covered));
        assert!(!says("/tmp/locks", "nonsense\n"));
    }
}
