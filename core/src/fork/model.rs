//! The guard in the model checker: threads of a child that begin together, and threads that list
//! descriptors, in every order and with weak memory.
//!
//! The files are compiled a second time here, with the checker's types in place of the standard
//! library's. `tests/chaos/model -- fork`.

#[path = "descriptors.rs"]
mod descriptors;
#[path = "line.rs"]
mod line;
#[path = "per_process.rs"]
mod per_process;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};
    pub(super) use loom::thread::yield_now;

    pub(super) const CHUNK: usize = 2;
}

use descriptors::Chunk;
use line::Line;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use per_process::{Made, PerProcess};
use std::collections::BTreeSet;
use sync::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

const PARENT: u64 = 3;
const CHILD: u64 = 4;

/// Whose values these are: all threads of a model are of one child.
fn generation() -> u64 {
    CHILD
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// A child as it is before its first thread asks who it is.
struct Child {
    word: AtomicU64,
    line: Line,
    fds: Chunk,
    /// Which of the parent's descriptors were closed, and how often any was.
    closed: std::sync::Mutex<Vec<i32>>,
}

const INHERITED: i32 = 100;

impl Child {
    /// Of a `fork` whose handler has run, or of a raw `clone`.
    fn born(handler: bool) -> Self {
        let child = Child {
            word: AtomicU64::new(0),
            line: Line {
                given: AtomicU64::new(PARENT),
                swept: AtomicU64::new(PARENT),
            },
            fds: chunk([INHERITED, -1]),
            closed: std::sync::Mutex::default(),
        };
        if handler {
            child.close_all();
            child.line.is_swept();
        }
        child
    }

    fn close_all(&self) {
        self.fds.take_all(|fd| self.closed.lock().unwrap().push(fd));
    }

    fn generation(&self) -> u64 {
        self.line.current(&self.word, || self.close_all())
    }

    /// What is on the list.
    fn listed(&self) -> BTreeSet<i32> {
        let mut listed = BTreeSet::new();
        self.fds.take_all(|fd| assert!(listed.insert(fd)));
        listed
    }
}

fn chunk(fds: [i32; sync::CHUNK]) -> Chunk {
    Chunk {
        fds: fds.map(AtomicI32::new),
        next: AtomicPtr::new(std::ptr::null_mut()),
    }
}

fn threads_begin(handler: bool, threads: i32, preemptions: usize) {
    check(preemptions, move || {
        let child = Arc::new(Child::born(handler));
        let begin = |child: &Child, fd: i32| {
            let generation = child.generation();
            child.fds.register(fd);
            generation
        };
        let others: Vec<_> = (1..threads)
            .map(|number| {
                let child = child.clone();
                thread::spawn(move || begin(&child, number))
            })
            .collect();
        let mine = begin(&child, 0);
        assert!(mine > PARENT);
        for other in others {
            assert_eq!(other.join().unwrap(), mine, "one process, one generation");
        }
        assert_eq!(
            *child.closed.lock().unwrap(),
            [INHERITED],
            "what was inherited is closed, once, and nothing else"
        );
        assert_eq!(child.listed(), (0..threads).collect());
    });
}

#[test]
fn threads_of_a_forked_child_begin_together() {
    threads_begin(true, 2, 4);
}

#[test]
fn threads_of_a_cloned_child_begin_together() {
    threads_begin(false, 2, 4);
}

/// The list neither loses a descriptor nor keeps one that was taken off, while it grows.
#[test]
fn descriptors_come_and_go() {
    check(3, || {
        let fds = Arc::new(chunk([7, 8]));
        let other = fds.clone();
        let thread = thread::spawn(move || {
            other.register(1);
            other.register(2);
            other.unregister(1);
        });
        fds.unregister(7);
        fds.register(3);
        fds.register(4);
        thread.join().unwrap();
        let mut left = Vec::new();
        fds.take_all(|fd| left.push(fd));
        left.sort_unstable();
        assert_eq!(left, [2, 3, 4, 8]);
    });
}

/// Counts the values that there are.
struct Counted(Arc<AtomicUsize>, u64);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn threads_make(inherited: bool, threads: u64, preemptions: usize) {
    check(preemptions, move || {
        let living = Arc::new(AtomicUsize::new(0));
        let parents = inherited.then(|| {
            Box::into_raw(Box::new(Made {
                generation: PARENT,
                value: Counted(living.clone(), 99),
            }))
        });
        let cell = Arc::new(PerProcess {
            current: AtomicPtr::new(parents.unwrap_or(std::ptr::null_mut())),
        });
        let make = |cell: &PerProcess<Counted>, living: &Arc<AtomicUsize>, number| {
            let made = || {
                living.fetch_add(1, Ordering::Relaxed);
                Counted(living.clone(), number)
            };
            let first = std::ptr::from_ref(cell.get_or_init(made)).addr();
            let again = cell.get().expect("it was made");
            assert_eq!(std::ptr::from_ref(again).addr(), first);
            (first, again.1)
        };
        let others: Vec<_> = (1..threads)
            .map(|number| {
                let (cell, living) = (cell.clone(), living.clone());
                thread::spawn(move || make(&cell, &living, number))
            })
            .collect();
        let mine = make(&cell, &living, 0);
        assert_ne!(mine.1, 99, "the parent's is not the child's");
        for other in others {
            assert_eq!(other.join().unwrap(), mine, "one process, one value");
        }
        assert_eq!(living.load(Ordering::Relaxed), 1, "one value is kept");
        drop(cell);
        assert_eq!(living.load(Ordering::Relaxed), 0, "and dropped at the end");
        if let Some(parents) = parents {
            // SAFETY: nobody has dropped the parent's: it is still there.
            let parents = unsafe { Box::from_raw(parents) };
            assert_eq!(parents.value.1, 99);
            living.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn threads_make_one_value() {
    threads_make(false, 2, 4);
    threads_make(false, 3, 3);
}

#[test]
fn threads_of_a_child_make_one_value() {
    threads_make(true, 2, 4);
    threads_make(true, 3, 3);
}
