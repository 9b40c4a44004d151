//! Children of a fork: what they may do, and what their end must not do to the parent.

use super::support::{Case, List, PATIENCE, code};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, State, Wait};

pub fn tests(list: &mut List) {
    list.add("a_child_is_refused_what_its_parent_holds", refused);
    list.add("a_child_uses_the_store_as_its_own", works);
    list.add("a_childs_end_leaves_the_parents_lock_alone", fates);
}

/// Runs `child` in a forked process; whether it returned true in time.
pub fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs only what the case gives it, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: ends this process without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writes; the child is ours.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if Instant::now() > end {
            // SAFETY: a child of ours that hangs.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn refused(case: &Case) {
    let held = case.lock();
    held.acquire(Wait::No, None).unwrap();
    assert!(in_child(|| {
        held.state() == State::Forked
            && code(held.acquire(Wait::Forever, None)) == Code::ForkedHandle
            && code(held.release()) == Code::ForkedHandle
            && code(held.refresh(None)) == Code::ForkedHandle
            && code(held.ensure_held()) == Code::ForkedHandle
            && code(held.lost_fd()) == Code::ForkedHandle
    }));
    held.ensure_held().unwrap();
    held.release().unwrap();
}

fn works(case: &Case) {
    let (held, idle) = (case.lock(), case.lock());
    held.acquire(Wait::No, None).unwrap();
    let other = case.store.lock(case.another()).unwrap();
    let elsewhere = case.can.scope == synlock_core::Scope::Process;
    assert!(in_child(|| {
        // In the child's own memory the parent's lock does not exist; anywhere else it does.
        let seen =
            code(idle.acquire(Wait::No, None)) == if elsewhere { Code::Ok } else { Code::Busy };
        seen && other.acquire(PATIENCE, None).is_ok()
            && other.ensure_held().is_ok()
            && other.release().is_ok()
    }));
    held.ensure_held().unwrap();
    assert_eq!(code(idle.acquire(Wait::No, None)), Code::Busy);
}

fn fates(case: &Case) {
    let mut slot: Option<Lock> = Some(case.lock());
    slot.as_ref().unwrap().acquire(Wait::No, None).unwrap();
    for fate in 0..3 {
        assert!(in_child(|| {
            let lock = slot.take().unwrap();
            match fate {
                0 => drop(lock),
                1 => drop((code(lock.release()), lock)),
                _ => std::mem::forget(lock),
            }
            true
        }));
        slot.as_ref().unwrap().ensure_held().unwrap();
        assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    }
    slot.take().unwrap().release().unwrap();
    case.lock()
        .acquire(Wait::For(Duration::from_secs(1)), None)
        .unwrap();
}
