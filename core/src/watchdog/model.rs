//! The watchdog's entry of a handle whose holds come and go, in the model checker.
//! `tests/chaos/model -- watchdog`.

#[path = "entry.rs"]
mod entry;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

use entry::Entry;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// For how long a renewal is good.
const LEASE: u64 = 10;

/// A hold, and by when it must be looked at.
#[derive(Clone, Copy)]
struct Hold {
    number: u32,
    by: u64,
}

/// What the phase's mutex guards, and the time, which goes on when an entry comes due.
#[derive(Default)]
struct Phase {
    hold: Option<Hold>,
    now: u64,
    /// Holds that were renewed.
    renewed: Vec<u32>,
}

struct Handle {
    entry: Entry,
    phase: Mutex<Phase>,
    /// When the entries in the book come due.
    book: Mutex<Vec<u64>>,
}

impl Handle {
    fn new() -> Arc<Self> {
        Arc::new(Handle {
            entry: Entry::new(),
            phase: Mutex::default(),
            book: Mutex::default(),
        })
    }

    fn acquire(&self, number: u32, lease: u64) {
        let mut phase = self.phase.lock().unwrap();
        let by = phase.now + lease;
        phase.hold = Some(Hold { number, by });
        if self.entry.needs_new(by, phase.now, 1) {
            self.book.lock().unwrap().push(by);
        }
    }

    fn release(&self) {
        assert!(self.phase.lock().unwrap().hold.take().is_some());
    }

    /// As the service thread: sleeps until the first entry is due, and lets it look.
    fn serve(&self) {
        let Some(due) = self.next_due() else { return };
        let mut phase = self.phase.lock().unwrap();
        if !self.entry.is(due) {
            return;
        }
        let again = self.renew(&mut phase);
        self.book.lock().unwrap().extend(self.entry.set(again));
    }

    fn renew(&self, phase: &mut Phase) -> Option<u64> {
        let now = phase.now;
        let hold = phase.hold.as_mut()?;
        assert!(now <= hold.by, "looked at too late");
        hold.by = now + LEASE;
        let Hold { number, by } = *hold;
        phase.renewed.push(number);
        Some(by)
    }

    fn next_due(&self) -> Option<u64> {
        let mut phase = self.phase.lock().unwrap();
        let mut book = self.book.lock().unwrap();
        let first = (0..book.len()).min_by_key(|at| book[*at])?;
        let due = book.swap_remove(first);
        phase.now = phase.now.max(due);
        Some(due)
    }
}

/// Holds with shorter and longer leases come and go beside the service thread. Each is looked at in
/// time while it lasts, none after its release, and one entry is left of them all.
#[test]
fn every_hold_is_looked_at_in_time_by_one_entry() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4));
    builder.check(|| {
        let handle = Handle::new();
        let service = handle.clone();
        let service = thread::spawn(move || {
            for _ in 0..3 {
                service.serve();
            }
        });
        handle.acquire(1, 30);
        handle.release();
        let before = handle.phase.lock().unwrap().renewed.clone();
        assert!(before.iter().all(|number| *number == 1));
        handle.acquire(2, 10);
        handle.release();
        handle.acquire(3, 20);
        service.join().unwrap();
        // Until entries that others have replaced have come due too.
        for _ in 0..6 {
            handle.serve();
        }
        let renewed = handle.phase.lock().unwrap().renewed.clone();
        assert!(renewed.is_sorted(), "renewed after its release");
        assert_eq!(renewed.last(), Some(&3), "nobody looks at the last hold");
        assert_eq!(handle.book.lock().unwrap().len(), 1, "one entry");
    });
}
