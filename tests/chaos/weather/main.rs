//! Rows 12, 13, 16, 17, 30 and 35: servers whose clock jumps, whose memory is full, whose network fails or
//! loses a reply, who stop and go on, who cannot show who they are; system calls that fail on the way.

mod calls;
mod clocks;
mod composed;
mod heirs;
mod network;
mod redis;
mod remote;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod replies;
mod syscalls;
#[cfg(all(feature = "postgres", feature = "mysql", feature = "etcd"))]
mod tls;

use std::time::Duration;
use synlock_core::{Code, Lock, Result, Store};

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

/// As in a host written in C, to which the writing end of a broken pipe is fatal. Rust's own programs ignore it.
fn let_sigpipe_kill() {
    // SAFETY: sets a signal back to its default; no memory involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn leased(store: &Store, name: &str, ttl: Duration) -> Lock {
    let mut options = store.defaults().clone();
    options.ttl = Some(ttl);
    store.lock_with(name, options).unwrap()
}
