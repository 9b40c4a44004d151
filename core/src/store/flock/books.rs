//! What one process has open: holds by token, idle descriptors and waiters by name, and the berths of
//! handles.

use super::berth::Berth;
use super::file::LockFile;
use super::queue::Line;
use crate::hash::{ByToken, HashGiven};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Claim, Grant};
use crate::sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Descriptors kept open for names that nobody holds, those in berths among them.
const MOST_IDLE: usize = 64;
/// Handles that have a berth; the others find what they need in the books.
const MOST_BERTHS: usize = 32;

/// A hold of this process.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) file: Arc<LockFile>,
    pub(super) mode: Mode,
    pub(super) fence: Option<u64>,
    pub(super) since: BootTime,
    pub(super) label: Option<Arc<str>>,
}

impl Held {
    #[inline]
    pub(super) fn new(claim: &Claim, file: Arc<LockFile>, fence: Option<u64>) -> Self {
        Held {
            file,
            mode: claim.mode,
            fence,
            since: claim.asked,
            label: claim.label.clone(),
        }
    }

    pub(super) fn grant(&self) -> Grant {
        Grant {
            lease: None,
            fence: self.fence,
            recovered: false,
        }
    }
}

#[derive(Debug)]
struct Waiter {
    token: OwnerToken,
    bell: Arc<Signal>,
    asked: u32,
}

/// Descriptors of one name that hold nothing.
#[derive(Debug)]
struct Shelf {
    name: Name,
    files: Vec<Arc<LockFile>>,
}

/// By the keys of their names' lines. Of names that share one, only the last to let go has a shelf; and
/// there are few, so that nobody gains by choosing names.
type Shelves = HashMap<u64, Shelf, HashGiven>;

/// What this process has open.
#[derive(Debug, Default)]
pub(super) struct Books {
    idle: Shelves,
    idle_files: usize,
    pub(super) held: ByToken<Held>,
    pub(super) berths: Vec<Arc<Berth>>,
}

/// Who waits without a queue to stand in.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_name: Mutex<HashMap<Name, VecDeque<Waiter>>>,
    any: AtomicBool,
}

impl Books {
    pub(super) fn take_idle(&mut self, name: &Name, line: Line) -> Option<Arc<LockFile>> {
        let shelf = self.idle.get_mut(&line.key)?;
        if shelf.name != *name {
            return None;
        }
        let file = shelf.files.pop();
        self.idle_files -= usize::from(file.is_some());
        file
    }

    /// Keeps an unlocked file for the next time; what comes back must be dropped without the mutex.
    pub(super) fn keep(
        &mut self,
        name: &Name,
        line: Line,
        file: Arc<LockFile>,
    ) -> Vec<Arc<LockFile>> {
        let mut out = Vec::new();
        if self.idle_files + self.berths.len() >= MOST_IDLE || self.idle.len() > 2 * MOST_IDLE {
            self.idle.retain(|_, shelf| !shelf.files.is_empty());
            let victim = self.idle.keys().next().copied();
            if let Some(shelf) = victim.and_then(|victim| self.idle.remove(&victim)) {
                self.idle_files -= shelf.files.len();
                out = shelf.files;
            }
        }
        let shelf = self.idle.entry(line.key).or_insert_with(|| Shelf {
            name: name.clone(),
            files: Vec::new(),
        });
        if shelf.name != *name {
            self.idle_files -= shelf.files.len();
            out.append(&mut shelf.files);
            shelf.name = name.clone();
        }
        shelf.files.push(file);
        self.idle_files += 1;
        out
    }

    /// Gives up all descriptors that hold nothing.
    pub(super) fn drop_idle(&mut self) -> Vec<Arc<LockFile>> {
        self.idle_files = 0;
        let shelves = std::mem::take(&mut self.idle).into_values();
        let mut out: Vec<_> = shelves.flat_map(|shelf| shelf.files).collect();
        out.extend(self.berths.iter().filter_map(|berth| berth.give_up_idle()));
        out
    }

    /// A new berth, if there is one left.
    pub(super) fn lodge(&mut self) -> Option<Arc<Berth>> {
        if self.berths.len() >= MOST_BERTHS {
            return None;
        }
        let berth = Arc::new(Berth::default());
        self.berths.push(berth.clone());
        Some(berth)
    }
}

impl Waiting {
    /// Notes a waiter; how often it has asked before.
    pub(super) fn wait(&self, claim: &Claim, bell: &Arc<Signal>) -> u32 {
        let mut by_name = self.by_name.lock();
        self.any.store(true, Release);
        let queue = by_name.entry(claim.name.clone()).or_default();
        if let Some(known) = queue.iter_mut().find(|known| known.token == claim.token) {
            known.bell = bell.clone();
            known.asked += 1;
            return known.asked;
        }
        queue.push_back(Waiter {
            token: claim.token,
            bell: bell.clone(),
            asked: 0,
        });
        0
    }

    #[inline]
    pub(super) fn stop(&self, claim: &Claim) {
        // A claim's verbs follow each other: what it noted is seen.
        if self.any.load(Acquire) {
            self.stop_one(claim);
        }
    }

    #[cold]
    fn stop_one(&self, claim: &Claim) {
        let mut by_name = self.by_name.lock();
        if let Some(queue) = by_name.get_mut(&claim.name) {
            queue.retain(|known| known.token != claim.token);
            if queue.is_empty() {
                by_name.remove(&claim.name);
            }
        }
        self.any.store(!by_name.is_empty(), Release);
    }

    /// Whoever is missed here asks again soon.
    #[inline]
    pub(super) fn first_bell(&self, name: &Name) -> Option<Arc<Signal>> {
        if !self.any.load(Acquire) {
            return None;
        }
        self.first_of(name)
    }

    #[cold]
    fn first_of(&self, name: &Name) -> Option<Arc<Signal>> {
        let by_name = self.by_name.lock();
        let first = by_name.get(name)?.front()?;
        Some(first.bell.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::fd::OwnedFd;

    fn file() -> Arc<LockFile> {
        let fd = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let stat = nix::sys::stat::fstat(&fd).unwrap();
        Arc::new(LockFile::new(fd, CString::default(), &stat))
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn names_that_share_a_key_share_no_descriptors() {
        let line = Line { slot: 0, key: 1 };
        let mut books = Books::default();
        let (of_a, of_b) = (file(), file());
        assert!(books.keep(&name("a"), line, of_a.clone()).is_empty());
        assert!(books.take_idle(&name("b"), line).is_none());
        let closed = books.keep(&name("b"), line, of_b.clone());
        assert!(closed.len() == 1 && Arc::ptr_eq(&closed[0], &of_a));
        assert!(books.take_idle(&name("a"), line).is_none());
        let taken = books.take_idle(&name("b"), line).unwrap();
        assert!(Arc::ptr_eq(&taken, &of_b) && books.idle_files == 0);
        assert!(books.take_idle(&name("b"), line).is_none());
    }

    #[test]
    fn no_more_descriptors_are_kept_than_counted() {
        let mut books = Books::default();
        let mut closed = 0;
        for key in 0..3 * MOST_IDLE as u64 {
            let line = Line { slot: 0, key };
            closed += books.keep(&name(&key.to_string()), line, file()).len();
            let kept: usize = books.idle.values().map(|shelf| shelf.files.len()).sum();
            assert!(kept == books.idle_files && kept <= MOST_IDLE);
        }
        assert_eq!(closed, 2 * MOST_IDLE);
        assert_eq!(books.drop_idle().len(), MOST_IDLE);
        assert_eq!(books.idle_files, 0);
    }

    #[test]
    fn a_berth_gives_up_its_descriptor_and_leaves_its_hold_behind() {
        use super::super::berth::{Inside, Lodger};
        let books = Arc::new(Mutex::new(Books::default()));
        let line = Line { slot: 0, key: 1 };
        let lodger = || Lodger {
            berth: books.lock().lodge().unwrap(),
            books: books.clone(),
            name: name("a"),
            line,
        };
        let (a, b) = (lodger(), lodger());
        let token = OwnerToken::draw().unwrap();
        let held = Held {
            file: file(),
            mode: Mode::Exclusive,
            fence: None,
            since: BootTime::now(),
            label: None,
        };
        *a.berth.lock() = Inside::Held(token, held);
        *b.berth.lock() = Inside::Idle(file());
        assert_eq!(books.lock().drop_idle().len(), 1, "the idle one");
        assert!(matches!(*b.berth.lock(), Inside::Nothing));
        *b.berth.lock() = Inside::Idle(file());
        drop(b);
        assert!(books.lock().take_idle(&name("a"), line).is_some());
        drop(a);
        assert!(books.lock().held.contains_key(&token));
        assert!(books.lock().berths.is_empty());
        let many: Vec<_> = (0..MOST_BERTHS).map(|_| lodger()).collect();
        assert!(books.lock().lodge().is_none());
        drop(many);
        assert!(books.lock().lodge().is_some());
    }
}
