//! Servers of one's own, from Debian's packages: on free ports of 127.0.0.1 and unix sockets, data in a
//! temporary folder, killed when dropped. A server program that is missing is a failure, never a skip.

pub mod deaf;
pub mod etcd;
pub mod mariadb;
pub mod memcached;
pub mod pgbouncer;
mod ports;
pub mod postgres;
pub mod redis;
pub mod redis_fake;
pub mod redis_sets;
mod template;
pub mod wall;
pub mod zookeeper;

pub use ports::free_port;

/// Stops a process and its children, and returns once none of their threads runs any more: for a moment
/// after the signal they still answer.
fn pause(pid: u32) {
    let all = family(pid);
    all.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !all.iter().all(|pid| is_stopped(*pid)) {
        assert!(std::time::Instant::now() < end, "{pid} does not stop");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Lets them go on.
fn resume(pid: u32) {
    let all = family(pid);
    all.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
}

/// A process, and then its children.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Whether all threads are stopped, or the process is gone.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_none_or(|state| "TtZX".contains(state))
    })
}

fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a pid");
    // SAFETY: sends a signal to a server of ours, or to a child of it.
    unsafe { libc::kill(pid, signal) };
}
