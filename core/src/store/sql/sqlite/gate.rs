//! Forks. SQLite notes in memory which locks a process has on a file: a child that inherits an open
//! connection believes in locks that it has not got, and may destroy the database. So all
//! connections are closed before a fork, and made anew after it, in parent and child; a child made
//! behind the back of that (a raw `clone`, a fork from within a signal handler that interrupted an
//! operation) is refused.

use super::pool;
use crate::codes::Code;
use crate::fork::{self, Around};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Operations under way.
static USERS: AtomicUsize = AtomicUsize::new(0);
/// Forks under way, of several threads perhaps: until all are over, nobody may begin.
static FORKS: AtomicUsize = AtomicUsize::new(0);
/// Connections that are open in this process, or were in the one that it was cloned from.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// The process that opened them.
static OPENED_IN: AtomicU64 = AtomicU64::new(0);

static AROUND: Around = Around {
    before: close_all,
    in_parent: go_on,
    in_child: begin_anew,
};

/// How long a fork waits for operations of other threads, in steps of 100 µs.
const PATIENCE: u32 = 10_000;

fn close_all() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    for _ in 0..PATIENCE {
        if USERS.load(Ordering::SeqCst) == 0 {
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    if !cfg!(canary = "share_after_fork") {
        pool::close_idle();
    }
}

fn go_on() {
    // One that began before the gate was asked for first is not counted.
    let over = |forks: usize| forks.checked_sub(1);
    let _ = FORKS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, over);
}

fn begin_anew() {
    USERS.store(0, Ordering::SeqCst);
    FORKS.store(0, Ordering::SeqCst);
}

/// Leave to work on connections, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass;

impl Pass {
    /// Waits while a fork is under way.
    pub fn get() -> Result<Self> {
        fork::around(&AROUND);
        loop {
            while FORKS.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            USERS.fetch_add(1, Ordering::SeqCst);
            let pass = Pass;
            if FORKS.load(Ordering::SeqCst) > 0 {
                continue;
            }
            let inherited = OPEN.load(Ordering::SeqCst) > 0
                && OPENED_IN.load(Ordering::SeqCst) != fork::generation();
            if inherited && !cfg!(canary = "share_after_fork") {
                return Err(Error::new(
                    Code::ForkedHandle,
                    "this process was cloned in the middle of an operation on SQLite, whose state in it cannot be trusted any more",
                ));
            }
            return Ok(pass);
        }
    }

    /// Whether somebody wants to fork and waits for this.
    pub fn is_wanted_back() -> bool {
        FORKS.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        USERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts an open connection.
#[derive(Debug)]
pub(super) struct Counted;

impl Counted {
    pub fn new() -> Self {
        OPENED_IN.store(fork::generation(), Ordering::SeqCst);
        OPEN.fetch_add(1, Ordering::SeqCst);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}
