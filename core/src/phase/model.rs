//! The gate of a handle in the model checker: calls that use it, and others that want its phase.
//! `tests/chaos/model -- phase`.

#[path = "gate.rs"]
mod gate;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};

    pub(super) fn pause(_looks: u32) {
        loom::thread::yield_now();
    }
}

use gate::{Denied, Gate};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const PARENT: u64 = 3;
const ME: u64 = 4;

struct Handle {
    gate: Gate,
    /// What only those who have the phase touch: the checker looks whether two do.
    phase: UnsafeCell<u32>,
}

// SAFETY: that this is true is what the model shows.
unsafe impl Sync for Handle {}

impl Handle {
    fn new() -> Arc<Self> {
        Arc::new(Handle {
            gate: Gate::new(),
            phase: UnsafeCell::new(0),
        })
    }

    fn change(&self) {
        // SAFETY: the checker looks at it.
        self.phase.with_mut(|phase| unsafe { *phase += 1 });
    }

    /// The short way of a call; whether it had one.
    fn call(&self) -> bool {
        let entered = self.gate.enter_and_lock(ME);
        if entered.is_ok() {
            self.change();
            self.gate.leave_and_unlock();
        }
        entered.is_ok()
    }

    /// A call that waits without the phase.
    fn wait(&self) -> bool {
        if self.gate.enter_and_lock(ME).is_err() {
            return false;
        }
        self.change();
        self.gate.unlock();
        assert_eq!(self.gate.user(), ME);
        self.look();
        self.gate.leave();
        true
    }

    /// Somebody who wants the phase alone.
    fn look(&self) {
        self.gate.lock(ME);
        self.change();
        self.gate.unlock();
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// All that were done have been done, and nobody is left in it.
fn is_done(handle: &Handle, changes: u32) {
    assert_eq!(handle.gate.user(), 0);
    assert!(handle.call());
    // SAFETY: the others have ended.
    let seen = handle.phase.with(|phase| unsafe { *phase });
    assert_eq!(seen, changes + 1);
}

#[test]
fn one_call_at_a_time_and_the_watchdog_in_between() {
    check(3, || {
        let handle = Handle::new();
        let (other, watchdog) = (handle.clone(), handle.clone());
        let other = thread::spawn(move || u32::from(other.call()));
        let watchdog = thread::spawn(move || watchdog.look());
        let mine = u32::from(handle.call());
        let theirs = other.join().unwrap();
        watchdog.join().unwrap();
        assert!(mine + theirs >= 1, "one of two calls is let in");
        is_done(&handle, mine + theirs + 1);
    });
}

#[test]
fn a_call_that_waits_leaves_the_phase_to_others() {
    check(3, || {
        let handle = Handle::new();
        let (other, watchdog) = (handle.clone(), handle.clone());
        let other = thread::spawn(move || 2 * u32::from(other.wait()));
        let watchdog = thread::spawn(move || {
            let got = watchdog.gate.try_lock(ME);
            if got {
                watchdog.change();
                watchdog.gate.unlock();
            }
            u32::from(got)
        });
        let mine = u32::from(handle.call());
        let changes = mine + other.join().unwrap() + watchdog.join().unwrap();
        is_done(&handle, changes);
    });
}

/// At the fork a call used the handle, or the watchdog had the phase of an idle one.
#[test]
fn a_child_takes_over_the_phase_but_no_use() {
    check(3, || {
        let handle = Handle::new();
        handle.gate.enter_and_lock(PARENT).unwrap();
        assert_eq!(handle.gate.enter_and_lock(ME), Err(Denied::Forked));
        handle.gate.unlock();
        assert_eq!(handle.gate.enter(ME), Err(Denied::Forked));
        handle.gate.leave();
        handle.gate.lock(PARENT);
        let other = handle.clone();
        let other = thread::spawn(move || u32::from(other.call()));
        let mine = u32::from(handle.call());
        let changes = mine + other.join().unwrap();
        assert!(changes >= 1);
        is_done(&handle, changes);
    });
}
