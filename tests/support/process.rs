//! Forked children of a test program.

use std::time::{Duration, Instant};

/// Forks, runs `work` in the child and leaves it by `_exit` with the status that `work` returns.
///
/// Call it from a program with one thread: the child has that one only.
pub fn fork(work: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the program has one thread, so the child may use everything.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: asks the kernel to end this child with its parent.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(status.unwrap_or(101)) }
        }
        pid => {
            assert!(pid > 0, "no process to be had");
            pid
        }
    }
}

/// Sends a signal.
pub fn signal(pid: libc::pid_t, signal: i32) {
    // SAFETY: no memory involved; `pid` is a child that has not been waited for.
    unsafe { libc::kill(pid, signal) };
}

/// Waits for a child; its wait status.
pub fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writes.
        let got = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if got == pid {
            return status;
        }
        let error = std::io::Error::last_os_error();
        assert!(
            error.kind() == std::io::ErrorKind::Interrupted,
            "waitpid({pid}): {error}"
        );
    }
}

/// Waits for a child until `limit`; its exit status, negative for a signal, `None` if it still runs.
pub fn wait_for(pid: libc::pid_t, limit: Duration) -> Option<i32> {
    let end = Instant::now() + limit;
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == pid {
            return Some(exit_status(status));
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A wait status as an exit status, negative for a signal.
pub fn exit_status(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        -libc::WTERMSIG(status)
    }
}

/// Nanoseconds on a clock that all processes share.
pub fn nanos() -> u64 {
    synlock_core::BootTime::now().as_nanos()
}

/// Whether `SYNLOCK_LOAD=full` asks for the bar's own figures rather than a fiftieth.
pub fn is_full_load() -> bool {
    std::env::var("SYNLOCK_LOAD").as_deref() == Ok("full")
}

/// Waits until a child has stopped or ended, without taking its end; whether it has stopped.
pub fn is_stopped(pid: libc::pid_t) -> bool {
    let events = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
    // SAFETY: zero is a value of this struct, which the call fills.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid during the call.
    unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, events) };
    info.si_code == libc::CLD_STOPPED
}
