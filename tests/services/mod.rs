//! Servers of one's own, from Debian's packages: on free ports of 127.0.0.1 and unix sockets, data in a
//! temporary folder, killed when dropped. A server program that is missing is a failure, never a skip.

use std::net::TcpListener;

pub mod etcd;
pub mod mariadb;
pub mod memcached;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub mod redis_fake;
pub mod redis_sets;
mod template;
pub mod wall;
pub mod zookeeper;

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

/// Sends a signal to a process and all its children.
fn signal_all(pid: u32, signal: libc::c_int) {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let all = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    for pid in all.chain(std::iter::once(pid)) {
        let pid = libc::pid_t::try_from(pid).expect("a pid");
        // SAFETY: sends a signal to a server of ours, or to a child of it.
        unsafe { libc::kill(pid, signal) };
    }
}
