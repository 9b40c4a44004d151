//! What this host, or the container that the process is in, lets its processes share.

/// The number that the kernel gives to the host's own IPC namespace (`PROC_IPC_INIT_INO`).
const HOSTS: &str = "ipc:[4026531839]";
/// A kernel that lets all processes have fewer semaphore sets than this is soon full.
const FEW: u64 = 64;

/// Words about shared memory or semaphores that nobody outside a container has.
pub fn of_namespace(what: &str) -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/ipc").ok()?;
    judge_namespace(what, &link.to_string_lossy())
}

fn judge_namespace(what: &str, link: &str) -> Option<String> {
    (link.starts_with("ipc:") && link != HOSTS).then(|| {
        format!(
            "this process is in an IPC namespace of its own, a container for instance: processes outside it have other {what} of the same names; start all of them in one (`--ipc=container:…`), or use a store with a server"
        )
    })
}

/// Words about limits of semaphores that are soon reached.
pub fn of_semaphores() -> Option<String> {
    let limits = std::fs::read_to_string("/proc/sys/kernel/sem").ok()?;
    let sets = std::fs::read_to_string("/proc/sysvipc/sem").ok()?;
    judge_semaphores(&limits, sets.lines().count().saturating_sub(1) as u64)
}

/// `SEMMSL SEMMNS SEMOPM SEMMNI`.
fn judge_semaphores(limits: &str, used: u64) -> Option<String> {
    let limits: Vec<u64> = limits
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let &[_, all, _, most] = limits.as_slice() else {
        return None;
    };
    let most = most.min(all);
    (most < FEW || used > most - most / 10).then(|| {
        format!(
            "{used} of the {most} semaphore sets that the kernel allows are in use: when none is left, acquires fail as exhausted; raise kernel.sem, or use `shm:`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_namespace_than_the_hosts_is_told() {
        assert!(judge_namespace("locks", HOSTS).is_none());
        assert!(judge_namespace("locks", "").is_none());
        assert!(judge_namespace("locks", "ipc:[4026532177]").is_some());
    }

    #[test]
    fn few_or_used_up_semaphores_are_told() {
        let usual = "32000\t1024000000\t500\t32000\n";
        assert!(judge_semaphores(usual, 0).is_none());
        assert!(judge_semaphores(usual, 28_800).is_none());
        assert!(judge_semaphores(usual, 28_801).is_some());
        assert!(judge_semaphores("250 32 100 128", 0).is_some());
        assert!(judge_semaphores("", 0).is_none());
    }
}
