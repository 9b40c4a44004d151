//! The table of handles in the model checker: calls, frees and new handles of several threads in every
//! order, weak memory included.
//!
//! `table.rs` is compiled a second time here, with the checker's types. `tests/chaos/model -- table`
//! looks at every order up to a bound (loom), `-- schedules` at many random ones without (shuttle).

#[path = "table.rs"]
mod table;

mod sync {
    pub(super) use super::checker::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(super) use super::watched::UnsafeCell;

    pub(super) const CHUNK: usize = 1;
    pub(super) const CHUNKS: usize = 2;
    pub(super) const GENERATIONS: u64 = 6;

    #[derive(Debug, Default)]
    pub(super) struct FreeList(pub(super) super::checker::sync::Mutex<Vec<u32>>);

    impl FreeList {
        pub(super) fn with<R>(&self, run: impl FnOnce(&mut Vec<u32>) -> R) -> R {
            run(&mut self.0.lock().unwrap())
        }
    }
}

use checker::sync::Arc;
use checker::sync::atomic::{AtomicU32, Ordering};
use checker::thread;
#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;
use table::{Entry, Place, Table};
use watched::UnsafeCell;

#[cfg(loom)]
use loom::cell as watched;

/// What the other checker brings itself: a cell that nobody may write while it is used.
#[cfg(shuttle)]
mod watched {
    use std::sync::atomic::{AtomicIsize, Ordering};

    /// With how many read it, or -1.
    #[derive(Debug)]
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>, AtomicIsize);

    impl<T> UnsafeCell<T> {
        pub(super) fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value), AtomicIsize::new(0))
        }

        pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            let readers = self.1.fetch_add(1, Ordering::SeqCst);
            assert!(readers >= 0, "read while it is written");
            shuttle::thread::yield_now();
            let result = read(self.0.get());
            self.1.fetch_sub(1, Ordering::SeqCst);
            result
        }

        pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            let users = self.1.swap(-1, Ordering::SeqCst);
            assert_eq!(users, 0, "written while it is used");
            shuttle::thread::yield_now();
            let result = write(self.0.get());
            self.1.store(0, Ordering::SeqCst);
            result
        }
    }
}

/// What was done to the entries of a model.
#[derive(Debug, Default)]
struct Tally {
    ended: std::sync::atomic::AtomicU32,
    destroyed: std::sync::atomic::AtomicU32,
}

impl Tally {
    fn read(&self) -> (u32, u32) {
        (
            self.ended.load(Ordering::SeqCst),
            self.destroyed.load(Ordering::SeqCst),
        )
    }
}

/// An entry whose uses and end the checker watches.
struct Watched {
    /// Read by every use, written by the destruction.
    body: UnsafeCell<u32>,
    tally: Arc<Tally>,
}

impl Watched {
    fn new(number: u32, tally: &Arc<Tally>) -> Self {
        Watched {
            body: UnsafeCell::new(number),
            tally: tally.clone(),
        }
    }

    fn use_it(&self) -> u32 {
        // SAFETY: the checker fails if anybody destroys it meanwhile.
        self.body.with(|body| unsafe { *body })
    }
}

// SAFETY: what is not Sync in it is what the checker watches.
unsafe impl Sync for Watched {}

impl Entry for Watched {
    fn end(&self) {
        self.use_it();
        self.tally.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn destroy(self) {
        // SAFETY: the checker fails if anybody still uses it.
        self.body.with_mut(|body| unsafe { *body = u32::MAX });
        self.tally.destroyed.fetch_add(1, Ordering::SeqCst);
    }
}

fn table() -> Arc<Table<Watched>> {
    Arc::new(Table {
        chunks: Default::default(),
        next: AtomicU32::new(0),
        free: sync::FreeList::default(),
    })
}

#[cfg(loom)]
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// In random order, and in orders that find whatever takes so many preemptions with a known chance (PCT).
#[cfg(shuttle)]
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let is_full = std::env::var("SYNLOCK_LOAD").is_ok_and(|load| load == "full");
    let schedules = if is_full { 100_000 } else { 1_000 };
    let model = std::sync::Arc::new(model);
    let random = model.clone();
    shuttle::check_random(move || random(), schedules);
    shuttle::check_pct(move || model(), schedules, preemptions);
}

/// A call: what it saw, if the handle was good.
fn call(table: &Table<Watched>, place: Place) -> Option<u32> {
    let pin = table.pin(place)?;
    let seen = pin.get().map(Watched::use_it);
    // Once more, later in the same call.
    assert_eq!(pin.get().map(Watched::use_it), seen, "it moved under a pin");
    seen
}

fn free(table: &Table<Watched>, place: Place) -> bool {
    table.pin(place).is_some_and(table::Pin::free)
}

#[test]
fn a_call_beside_a_free() {
    check(4, || {
        let (table, tally) = (table(), Arc::new(Tally::default()));
        let place = table.insert(Watched::new(7, &tally)).unwrap();
        let caller = table.clone();
        let caller = thread::spawn(move || call(&caller, place));
        assert!(free(&table, place));
        assert!(matches!(caller.join().unwrap(), None | Some(7)));
        assert_eq!(tally.read(), (1, 1));
        assert_eq!(call(&table, place), None, "a stale handle");
    });
}

#[test]
fn of_two_frees_beside_a_call_one_succeeds() {
    check(3, || {
        let (table, tally) = (table(), Arc::new(Tally::default()));
        let place = table.insert(Watched::new(7, &tally)).unwrap();
        let freer = table.clone();
        let freer = thread::spawn(move || free(&freer, place));
        let caller = table.clone();
        let caller = thread::spawn(move || call(&caller, place));
        let mine = free(&table, place);
        assert!(mine ^ freer.join().unwrap(), "exactly one frees it");
        assert!(matches!(caller.join().unwrap(), None | Some(7)));
        assert_eq!(tally.read(), (1, 1));
    });
}

/// The slot is used again while somebody still has its old handle.
#[test]
fn a_stale_handle_beside_a_new_one() {
    check(3, || {
        let (table, tally) = (table(), Arc::new(Tally::default()));
        let old = table.insert(Watched::new(7, &tally)).unwrap();
        let caller = table.clone();
        let caller = thread::spawn(move || (call(&caller, old), free(&caller, old)));
        let mine = free(&table, old);
        let new = table.insert(Watched::new(8, &tally)).unwrap();
        assert_ne!(new, old);
        assert_eq!(call(&table, new), Some(8), "nobody else has this handle");
        let (seen, freed) = caller.join().unwrap();
        assert!(matches!(seen, None | Some(7)), "{seen:?} by an old handle");
        assert!(mine ^ freed);
        assert_eq!(tally.read(), (1, 1));
        assert!(free(&table, new));
        assert_eq!(tally.read(), (2, 2));
    });
}

#[test]
fn two_threads_make_and_free_handles() {
    check(3, || {
        let (table, tally) = (table(), Arc::new(Tally::default()));
        let work = |table: &Table<Watched>, tally: &Arc<Tally>, number: u32| {
            for turn in 0..2 {
                let number = number + turn;
                let place = table
                    .insert(Watched::new(number, tally))
                    .expect("two threads, two slots");
                assert_eq!(call(table, place), Some(number), "the other's, or none");
                assert!(free(table, place));
            }
        };
        let (theirs, told) = (table.clone(), tally.clone());
        let thread = thread::spawn(move || work(&theirs, &told, 10));
        work(&table, &tally, 20);
        thread.join().unwrap();
        assert_eq!(tally.read(), (4, 4));
        // Nothing of the table is lost: both slots are there.
        let one = table.insert(Watched::new(1, &tally)).unwrap();
        let two = table.insert(Watched::new(2, &tally)).unwrap();
        assert!(table.insert(Watched::new(3, &tally)).is_none());
        assert_ne!(one.index, two.index);
    });
}

/// A slot that has run through its generations is given up rather than answering an old handle.
// One thread has no orders to choose from.
#[cfg(loom)]
#[test]
fn generations_end() {
    check(3, || {
        let (table, tally) = (table(), Arc::new(Tally::default()));
        let first = table.insert(Watched::new(0, &tally)).unwrap();
        assert!(free(&table, first));
        for number in 1..5 {
            let place = table.insert(Watched::new(number, &tally)).unwrap();
            assert_eq!(place.index, first.index);
            assert!(free(&table, place));
        }
        let other = table.insert(Watched::new(9, &tally)).unwrap();
        assert_ne!(other.index, first.index);
        assert_eq!(call(&table, first), None);
    });
}

/// Everything that is live is visited by a look at the whole table, beside frees.
#[test]
fn a_look_at_all_beside_a_free() {
    check(3, || {
        let (table, tally) = (table(), Arc::new(Tally::default()));
        let kept = table.insert(Watched::new(1, &tally)).unwrap();
        let gone = table.insert(Watched::new(2, &tally)).unwrap();
        let freer = table.clone();
        let freer = thread::spawn(move || assert!(free(&freer, gone)));
        let seen: Vec<u32> = (0..table.used())
            .filter_map(|index| table.live(index))
            .filter_map(|place| call(&table, place))
            .collect();
        assert!(seen == [1] || seen == [1, 2], "{seen:?}");
        freer.join().unwrap();
        assert_eq!(call(&table, kept), Some(1));
        assert_eq!(tally.read(), (1, 1));
    });
}
