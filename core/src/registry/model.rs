//! What a process has opened, in the model checker: threads that open the same URL at once, beside others
//! that open another, or fail.
//!
//! This is all that threads can do to each other there: nothing is taken out, so that no look-up meets the end
//! of what it looks for. (What a process holds by name, `reentry.rs`, is one mutex, and one swap that says who of
//! those that share a hold releases it.)
//!
//! The files are compiled a second time here, with the checker's types. `tests/chaos/model -- registry`
//! looks at every order up to a bound (loom), `-- registry-schedules` at many random ones without (shuttle).

#[path = "opened.rs"]
mod opened;
#[path = "../fork/per_process.rs"]
mod per_process;

mod sync {
    pub(super) use super::checker::sync::atomic::{AtomicPtr, Ordering};
}

use checker::thread;
#[cfg(loom)]
use loom as checker;
use opened::Opened;
use per_process::{Made, PerProcess};
#[cfg(shuttle)]
use shuttle as checker;
use std::collections::HashMap;
use std::convert::Infallible;
// The stores are not what is looked at.
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use sync::AtomicPtr;

const MOST_KEPT: usize = 2;
const PARENT: u64 = 3;
const CHILD: u64 = 4;

/// All threads of a model are of one child.
fn generation() -> u64 {
    CHILD
}

/// As the crate's: without poison.
#[derive(Debug)]
struct Mutex<T>(checker::sync::Mutex<T>);

impl<T> Mutex<T> {
    fn lock(&self) -> checker::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex(checker::sync::Mutex::new(T::default()))
    }
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
    let schedules = if is_full { 100_000 } else { 2_000 };
    let model = Arc::new(model);
    let random = model.clone();
    shuttle::check_random(move || random(), schedules);
    shuttle::check_pct(move || model(), schedules, preemptions);
}

/// A store. Its end asks the registry, as the end of what others are made of may: nobody may have it locked.
struct Store {
    number: u32,
    process: Weak<Process>,
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(process) = self.process.upgrade() {
            process.living.fetch_sub(1, Ordering::Relaxed);
            assert!(process.find("never opened").is_none());
        }
    }
}

struct Process {
    opened: Opened<Arc<Store>>,
    /// How many stores there are.
    living: AtomicU32,
}

type Kept = Made<Mutex<HashMap<String, Arc<Store>>>>;

impl Process {
    fn new() -> Arc<Self> {
        Self::with(std::ptr::null_mut())
    }

    fn with(inherited: *mut Kept) -> Arc<Self> {
        Arc::new(Process {
            opened: Opened {
                kept: PerProcess {
                    current: AtomicPtr::new(inherited),
                },
            },
            living: AtomicU32::new(0),
        })
    }

    fn make(self: &Arc<Self>, number: u32) -> Arc<Store> {
        self.living.fetch_add(1, Ordering::Relaxed);
        Arc::new(Store {
            number,
            process: Arc::downgrade(self),
        })
    }

    fn open(self: &Arc<Self>, url: &str, number: u32) -> Arc<Store> {
        self.open_over(url, || self.make(number))
    }

    fn open_over(&self, url: &str, open: impl FnOnce() -> Arc<Store>) -> Arc<Store> {
        let open = || Ok::<_, Infallible>(open());
        match self.opened.get_or_open(url.to_owned(), open) {
            Ok(store) => store,
            Err(never) => match never {},
        }
    }

    /// Opens what cannot be opened, unless another has.
    fn find(&self, url: &str) -> Option<Arc<Store>> {
        self.opened.get_or_open(url.to_owned(), || Err(())).ok()
    }

    fn living(&self) -> u32 {
        self.living.load(Ordering::Relaxed)
    }
}

fn same(one: &Arc<Store>, other: &Arc<Store>) -> bool {
    Arc::ptr_eq(one, other)
}

fn threads_open(process: &Arc<Process>, threads: u32) -> Arc<Store> {
    let others: Vec<_> = (1..threads)
        .map(|number| {
            let process = process.clone();
            thread::spawn(move || process.open("a", number))
        })
        .collect();
    let mine = process.open("a", 0);
    for other in others {
        assert!(same(&other.join().unwrap(), &mine), "one URL, one store");
    }
    assert!(same(&process.open("a", 9), &mine), "it is kept");
    assert_eq!(process.living(), 1, "what lost is gone");
    mine
}

#[test]
fn threads_that_open_one_url_share_the_store() {
    check(4, || drop(threads_open(&Process::new(), 2)));
    check(3, || drop(threads_open(&Process::new(), 3)));
}

/// The parent's store is neither given to the child nor dropped by it.
#[test]
fn threads_of_a_child_share_a_store_of_its_own() {
    check(3, || {
        let parents = Arc::new(Store {
            number: 99,
            process: Weak::new(),
        });
        let inherited = Kept {
            generation: PARENT,
            value: Mutex::default(),
        };
        let kept = parents.clone();
        inherited.value.lock().insert("a".to_owned(), kept);
        let inherited = Box::into_raw(Box::new(inherited));
        let process = Process::with(inherited);
        assert_ne!(threads_open(&process, 2).number, 99);
        drop(process);
        assert_eq!(Arc::strong_count(&parents), 2);
        // SAFETY: nobody has dropped it: it is still there.
        drop(unsafe { Box::from_raw(inherited) });
    });
}

#[test]
fn who_fails_keeps_nobody_else_from_opening() {
    check(4, || {
        let process = Process::new();
        let other = process.clone();
        let failing = thread::spawn(move || other.find("a"));
        let mine = process.open("a", 0);
        let found = failing.join().unwrap();
        assert!(found.is_none_or(|found| same(&found, &mine)));
        assert!(same(&process.open("a", 9), &mine));
        assert_eq!(process.living(), 1);
    });
}

/// Two stores that are each opened while the other is: whoever opens has nothing locked.
#[test]
fn a_store_may_be_opened_while_another_is() {
    check(3, || {
        let process = Process::new();
        let pair = |process: &Arc<Process>, outer: &str, inner: &str, number| {
            let mut found = None;
            let whole = process.open_over(outer, || {
                found = Some(process.open(inner, number));
                process.make(number)
            });
            let part = found.unwrap_or_else(|| process.open(inner, number));
            (whole, part)
        };
        let other = process.clone();
        let other = thread::spawn(move || pair(&other, "b", "a", 2));
        let (a, b) = pair(&process, "a", "b", 1);
        let (others_b, others_a) = other.join().unwrap();
        assert!(same(&a, &others_a) && same(&b, &others_b));
        assert_eq!(process.living(), 2);
    });
}

/// The last place goes to one of those who want it; what the other opened is its own.
#[test]
fn no_more_are_kept_than_there_is_room_for() {
    check(3, || {
        let process = Process::new();
        assert!(process.opened.all().is_empty());
        let first = process.open("a", 0);
        let other = process.clone();
        let other = thread::spawn(move || other.open("b", 1));
        let mine = process.open("c", 2);
        let theirs = other.join().unwrap();
        assert_eq!((theirs.number, mine.number), (1, 2));
        assert!(same(&process.open("a", 9), &first));
        let kept = [("b", &theirs), ("c", &mine)]
            .iter()
            .filter(|(url, store)| same(&process.open(url, 9), store))
            .count();
        assert_eq!(kept, MOST_KEPT - 1);
        assert_eq!(process.opened.all().len(), MOST_KEPT);
        drop((theirs, mine));
        assert_eq!(process.living(), 2, "what is not kept ends with its user");
    });
}
