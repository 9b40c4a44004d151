//! What a forked child may do with what it inherits.
#![cfg(feature = "memory")]

use std::sync::Arc;
use std::time::{Duration, Instant};
use synlock_core::{Code, Dispatch, LockOptions, Op, State, Store, Wait};

/// Runs `child` in a forked process; true if it returned true within ten seconds.
fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs only what the test gives it, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: ends this process without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writes; the child is ours.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if Instant::now() > end {
            // SAFETY: a child of ours that hangs.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_held_lock_is_refused_in_the_child_and_kept_by_the_parent() {
    let store = Store::open("memory:fork-held").unwrap();
    let mut slot = Some(store.lock("x").unwrap());
    let idle = store.lock("y").unwrap();
    slot.as_ref().unwrap().acquire(Wait::No, None).unwrap();
    assert!(in_child(|| {
        let held = slot.take().unwrap();
        let forked =
            |result: synlock_core::Result<()>| result.unwrap_err().code() == Code::ForkedHandle;
        let refused = held.state() == State::Forked
            && forked(held.acquire(Wait::Forever, None).map(drop))
            && forked(held.release().map(drop))
            && forked(held.refresh(None))
            && forked(held.ensure_held())
            && forked(held.lost_fd().map(drop))
            && forked(held.export().map(drop))
            && held.remaining().is_none()
            && held.owner_token().is_none();
        drop(held);
        // The store works, and an idle handle is as good as new.
        refused
            && idle.acquire(Wait::No, None).is_ok()
            && store.is_locked("y").unwrap()
            && idle.release().is_ok()
    }));
    slot.as_ref().unwrap().ensure_held().unwrap();
    slot.as_ref().unwrap().release().unwrap();
}

#[test]
fn a_lock_that_waits_at_the_fork_is_refused_in_the_child() {
    let store = Store::open("memory:fork-waiting").unwrap();
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let waiting = Arc::new(store.lock("x").unwrap());
    let thread = std::thread::spawn({
        let waiting = waiting.clone();
        move || waiting.acquire(Wait::Forever, None).map(drop)
    });
    while waiting.state() != State::Acquiring {
        std::thread::yield_now();
    }
    assert!(in_child(|| waiting.release().unwrap_err().code()
        == Code::ForkedHandle
        && waiting.state() == State::Forked));
    held.release().unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn the_child_has_a_service_thread_of_its_own() {
    let store = Store::open("memory:fork-service").unwrap();
    let options = |ttl| {
        let mut options = LockOptions::default();
        options.ttl = Some(ttl);
        options.renew = Some(true);
        options
    };
    let lock = store
        .lock_with("x", options(Duration::from_secs(60)))
        .unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let inherited = Dispatch::new().unwrap();
    assert!(in_child(|| {
        let dispatch = Dispatch::new().unwrap();
        // Longer leases where the machine lets the service thread wait.
        [60, 600, 6000]
            .map(Duration::from_millis)
            .into_iter()
            .any(|ttl| {
                let lock = store.lock_with("x", options(ttl)).unwrap();
                let refused = inherited
                    .submit(&lock, Op::Acquire(Wait::No), 0)
                    .unwrap_err()
                    .code()
                    == Code::ForkedHandle;
                dispatch.submit(&lock, Op::Acquire(Wait::No), 1).unwrap();
                while dispatch.reap(1).is_empty() {
                    std::thread::yield_now();
                }
                std::thread::sleep(ttl * 3);
                refused && lock.ensure_held().is_ok()
            })
    }));
    lock.ensure_held().unwrap();
}

#[test]
fn waits_of_the_parent_stay_with_it_and_the_child_has_its_own() {
    let store = Store::open("memory:fork-watch").unwrap();
    let asks = |name: &str| {
        let (tell, hear) = std::sync::mpsc::channel();
        let done = move |answer: synlock_core::Result<bool>| tell.send(answer.unwrap()).unwrap();
        synlock_core::dispatch::wait_free(&store, name, Wait::Forever, None, done).unwrap();
        hear
    };
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let parents = asks("x");
    assert!(in_child(|| {
        let own = store.lock("y").unwrap();
        own.acquire(Wait::No, None).unwrap();
        let childs = asks("y");
        own.release().unwrap();
        childs.recv_timeout(Duration::from_secs(9)) == Ok(true)
    }));
    assert!(parents.try_recv().is_err());
    held.release().unwrap();
    assert!(parents.recv().unwrap());
}
