//! What a forked child may do with what it inherits.
#![cfg(feature = "memory")]

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use synlock_core::signal::Signal;
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

/// A handle that renews, with a lease of `ttl`.
fn renewing(store: &Store, name: &str, ttl: Duration) -> synlock_core::Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    options.renew = Some(true);
    store.lock_with(name, options).unwrap()
}

#[test]
fn a_handle_that_the_parent_has_used_is_renewed_in_the_child() {
    let store = Store::open("memory:fork-renewed").unwrap();
    // A longer lease where the machine lets the service thread wait.
    let is_renewed = [600, 3000]
        .map(Duration::from_millis)
        .into_iter()
        .any(|ttl| {
            let lock = renewing(&store, "x", ttl);
            lock.acquire(Wait::No, None).unwrap();
            lock.release().unwrap();
            // What the parent's service thread was to look at comes due before what the child's is to.
            std::thread::sleep(ttl / 8);
            in_child(|| {
                lock.acquire(Wait::No, None).unwrap();
                std::thread::sleep(ttl * 2);
                lock.ensure_held().is_ok()
            })
        });
    assert!(is_renewed);
}

/// How many descriptors this process may have.
fn allow_descriptors(count: libc::rlim_t) {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: libc::RLIM_INFINITY,
    };
    let mut known = limit;
    // SAFETY: two valid structures, of which one is filled.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut known);
        known.rlim_cur = limit.rlim_cur.min(known.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const known), 0);
    }
}

#[test]
fn a_hold_is_renewed_though_an_earlier_one_found_no_thread() {
    let store = Store::open("memory:fork-no-thread").unwrap();
    // In a process that has no service thread yet, and may have no descriptor for one.
    assert!(in_child(|| {
        [600, 3000]
            .map(Duration::from_millis)
            .into_iter()
            .any(|ttl| {
                let lock = renewing(&store, "x", ttl);
                allow_descriptors(0);
                let begun = lock.acquire(Wait::No, None);
                allow_descriptors(256);
                begun.unwrap();
                lock.release().unwrap();
                std::thread::sleep(ttl / 8);
                lock.acquire(Wait::No, None).unwrap();
                std::thread::sleep(ttl * 2);
                lock.ensure_held().is_ok()
            })
    }));
}

/// A pipe with a word in it, whose ends are the numbers `at` too.
fn pipe_at(at: RawFd) -> [RawFd; 2] {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written to `ends`; the number is free in the child, and the next file's.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK), 0);
        if !ends.contains(&at) {
            assert_eq!(libc::dup2(ends[0], at), at);
        }
        assert_eq!(libc::write(ends[1], c"a word..".as_ptr().cast(), 8), 8);
    }
    ends
}

/// Whether the word is what is in the pipe, and all.
fn is_untouched([from, _]: [RawFd; 2]) -> bool {
    let mut words = [0_u8; 16];
    // SAFETY: reads at most sixteen bytes into sixteen.
    let got = unsafe { libc::read(from, words.as_mut_ptr().cast(), 16) };
    got == 8 && &words[..8] == b"a word.."
}

fn is_readable(fd: RawFd) -> bool {
    let mut heard = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut heard, 1, 5_000) == 1 }
}

#[test]
fn the_descriptor_of_a_loss_is_not_the_childs() {
    let store = Store::open("memory:fork-lost-fd").unwrap();
    let lock = renewing(&store, "x", Duration::from_secs(60));
    lock.acquire(Wait::No, None).unwrap();
    let parents = lock.lost_fd().unwrap();
    lock.release().unwrap();
    assert!(in_child(|| {
        let pipe = pipe_at(parents);
        lock.acquire(Wait::No, None).unwrap();
        let childs = lock.lost_fd().unwrap();
        store.break_lock("x").unwrap();
        let is_lost = lock.ensure_held().unwrap_err().code() == Code::Lost;
        childs != parents && is_lost && is_readable(childs) && is_untouched(pipe)
    }));
}

#[test]
fn the_descriptor_of_a_bell_is_not_the_childs() {
    let bell = Signal::new();
    let parents = bell.fd().unwrap();
    assert!(in_child(|| {
        let [from, to] = pipe_at(parents);
        // Both ends: nothing is to be read or written.
        // SAFETY: numbers of the test's own.
        unsafe { assert_eq!(libc::dup2(to, parents), parents) };
        bell.ring();
        let is_heard = is_readable(bell.fd().unwrap());
        bell.take() && is_heard && is_untouched([from, to])
    }));
}
