//! Waits for a lock to be free, for hosts that must not block: by threads of the library's own, one for each
//! name that is waited for. A store's wait takes a thread, and is woken.

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::{BootTime, Wait};
use crate::name::Name;
use crate::registry::Store;
use crate::service;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Names beyond this many take turns.
const MOST_THREADS: usize = 32;
/// A thread that nobody waits for any more is back after this.
const SLICE: Duration = Duration::from_millis(200);

type Done = Box<dyn FnOnce(Result<bool>) + Send>;
/// Store, name, and a number for a wait that is to end before the one under way comes back.
type Key = (usize, Name, u64);

struct Waiter {
    deadline: Option<BootTime>,
    cancel: Option<Cancel>,
    done: Done,
}

struct Watched {
    store: Store,
    waiters: Vec<Waiter>,
    /// When the thread comes back.
    until: Option<BootTime>,
}

#[derive(Default)]
struct Book {
    watched: HashMap<Key, Watched>,
    /// Those that no thread is at.
    line: VecDeque<Key>,
    threads: usize,
    last: u64,
}

/// What a thread is to ask, and how many want to know.
struct Turn {
    key: Key,
    store: Store,
    until: BootTime,
    asked: usize,
}

static BOOK: PerProcess<Mutex<Book>> = PerProcess::new();

/// As [`Store::wait_free`]: `done` is called on a thread of the library's, and must not block it for long.
/// Throwing `cancel` makes the wait come to `Cancelled`, within a fifth of a second.
///
/// # Errors
/// `InvalidArgument`, `Unsupported` on a custom store, `Exhausted` if there is no thread to be had; then `done`
/// is never called.
pub fn wait_free(
    store: &Store,
    name: impl AsRef<[u8]>,
    wait: Wait,
    cancel: Option<Cancel>,
    done: impl FnOnce(Result<bool>) + Send + 'static,
) -> Result<()> {
    if store.is_caller_thread_only() {
        return Err(Error::unsupported(
            "a custom store is asked on threads of the program alone",
        ));
    }
    let name = Name::new(name)?;
    let deadline = match wait {
        Wait::No => Some(BootTime::now()),
        wait => wait.deadline(),
    };
    let waiter = Waiter {
        deadline,
        cancel,
        done: Box::new(done),
    };
    let mut book = BOOK.get_or_init(Mutex::default).lock();
    let key = book.enter(store, name, waiter);
    if book.line.is_empty() || book.threads >= MOST_THREADS {
        return Ok(());
    }
    let spawned = service::spawn_quiet("synlock-watch", watch);
    match spawned {
        Ok(()) => book.threads += 1,
        // Without this one there are others, or nobody would ever come.
        Err(error) if book.threads == 0 => {
            book.strike(&key);
            return Err(error);
        }
        Err(_) => {}
    }
    Ok(())
}

impl Book {
    fn enter(&mut self, store: &Store, name: Name, waiter: Waiter) -> Key {
        let address = Arc::as_ptr(store.backend()).cast::<()>() as usize;
        let mut key = (address, name, 0);
        let comes_late = |watched: &Watched| {
            let until = watched.until.zip(waiter.deadline);
            until.is_some_and(|(until, deadline)| deadline < until)
        };
        if self.watched.get(&key).is_some_and(comes_late) {
            self.last += 1;
            key.2 = self.last;
        }
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.waiters.push(waiter);
            return key;
        }
        let watched = Watched {
            store: store.clone(),
            waiters: vec![waiter],
            until: None,
        };
        self.watched.insert(key.clone(), watched);
        self.line.push_back(key.clone());
        key
    }

    /// Takes back a wait that nobody can come for.
    fn strike(&mut self, key: &Key) {
        self.watched.remove(key);
        self.line.retain(|other| other != key);
    }

    /// The next to ask; without one the thread is over.
    fn next(&mut self) -> Option<Turn> {
        let (key, watched) = loop {
            let Some(key) = self.line.pop_front() else {
                self.threads -= 1;
                return None;
            };
            if let Some(watched) = self.watched.get_mut(&key) {
                break (key, watched);
            }
        };
        let ends = watched.waiters.iter().filter_map(|waiter| waiter.deadline);
        let until = ends.fold(BootTime::now().after(SLICE), BootTime::min);
        watched.until = Some(until);
        Some(Turn {
            store: watched.store.clone(),
            until,
            asked: watched.waiters.len(),
            key,
        })
    }

    /// Who is to be told what. Those who came while it was asked wait for the next answer.
    fn answered(&mut self, turn: Turn, answer: Result<bool>) -> Vec<(Done, Result<bool>)> {
        let Some(watched) = self.watched.get_mut(&turn.key) else {
            return Vec::new();
        };
        watched.until = None;
        let mut told = Vec::new();
        let later = watched.waiters.split_off(turn.asked);
        for waiter in std::mem::take(&mut watched.waiters) {
            let is_cancelled = waiter.cancel.as_ref().is_some_and(Cancel::is_cancelled);
            match &answer {
                Ok(true) => told.push((waiter.done, Ok(true))),
                Err(error) => told.push((waiter.done, Err(again(error)))),
                Ok(false) if is_cancelled => {
                    told.push((waiter.done, Err(Error::outcome(Code::Cancelled))));
                }
                Ok(false) if waiter.deadline.is_some_and(BootTime::has_passed) => {
                    told.push((waiter.done, Ok(false)));
                }
                Ok(false) => watched.waiters.push(waiter),
            }
        }
        watched.waiters.extend(later);
        if watched.waiters.is_empty() {
            self.watched.remove(&turn.key);
        } else {
            self.line.push_back(turn.key);
        }
        told
    }
}

fn again(error: &Error) -> Error {
    Error::new(error.code(), error.message())
}

fn watch() {
    let book = BOOK.get_or_init(Mutex::default);
    while let Some(turn) = { book.lock().next() } {
        let ask = || {
            turn.store
                .wait_free(turn.key.1.as_bytes(), Wait::For(turn.until.left()))
        };
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask))
            .unwrap_or_else(|_| Err(Error::new(Code::Internal, "a wait met a bug")));
        let told = { book.lock().answered(turn, answer) };
        for (done, answer) in told {
            service::contain(|| done(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LockOptions;
    use std::sync::mpsc::{Receiver, channel};

    fn held(name: &str) -> (Store, crate::Lock) {
        let store = Store::open(&format!("memory:watch-{name}")).unwrap();
        let lock = store.lock_with(name, LockOptions::default()).unwrap();
        lock.acquire(Wait::No, None).unwrap();
        (store, lock)
    }

    fn asks(
        store: &Store,
        name: &str,
        wait: Wait,
        cancel: Option<Cancel>,
    ) -> Receiver<Result<bool>> {
        let (tell, hear) = channel();
        wait_free(store, name, wait, cancel, move |answer| {
            let _ = tell.send(answer);
        })
        .unwrap();
        hear
    }

    #[test]
    fn all_who_wait_hear_of_a_release() {
        let (store, lock) = held("all");
        let waits: Vec<_> = (0..5)
            .map(|_| asks(&store, "all", Wait::Forever, None))
            .collect();
        assert!(!asks(&store, "all", Wait::No, None).recv().unwrap().unwrap());
        assert!(waits.iter().all(|wait| wait.try_recv().is_err()));
        lock.release().unwrap();
        for wait in waits {
            assert!(wait.recv().unwrap().unwrap());
        }
        assert!(asks(&store, "all", Wait::No, None).recv().unwrap().unwrap());
    }

    #[test]
    fn a_wait_ends_at_its_own_time() {
        let (store, lock) = held("time");
        let long = asks(&store, "time", Wait::For(Duration::from_secs(600)), None);
        let short = asks(&store, "time", Wait::For(Duration::from_millis(30)), None);
        assert!(!short.recv().unwrap().unwrap());
        assert!(long.try_recv().is_err());
        lock.release().unwrap();
        assert!(long.recv().unwrap().unwrap());
    }

    #[test]
    fn a_switch_ends_one_wait_of_several() {
        let (store, lock) = held("switch");
        let cancel = Cancel::new();
        let (ended, stays) = (
            asks(&store, "switch", Wait::Forever, Some(cancel.clone())),
            asks(&store, "switch", Wait::Forever, None),
        );
        cancel.cancel();
        assert_eq!(ended.recv().unwrap().unwrap_err().code(), Code::Cancelled);
        assert!(stays.try_recv().is_err());
        lock.release().unwrap();
        assert!(stays.recv().unwrap().unwrap());
    }

    #[test]
    fn more_names_than_threads_take_turns() {
        let (store, lock) = held("first");
        let many = 3 * MOST_THREADS;
        let locks: Vec<_> = (0..many)
            .map(|number| {
                store
                    .lock_with(format!("n{number}"), LockOptions::default())
                    .unwrap()
            })
            .collect();
        for lock in &locks {
            lock.acquire(Wait::No, None).unwrap();
        }
        let waits: Vec<_> = (0..many)
            .map(|number| asks(&store, &format!("n{number}"), Wait::Forever, None))
            .collect();
        assert!(BOOK.get().unwrap().lock().threads <= MOST_THREADS);
        for lock in &locks {
            lock.release().unwrap();
        }
        for wait in waits {
            assert!(wait.recv().unwrap().unwrap());
        }
        drop(lock);
    }

    #[test]
    fn a_wrong_name_is_refused_at_once() {
        let (store, _lock) = held("wrong");
        let refused = wait_free(&store, "", Wait::No, None, |_| panic!("told"));
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}
