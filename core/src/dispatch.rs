//! For hosts with an event loop: operations that run on the service thread and report back.

pub(crate) mod completions;
pub(crate) mod post;
mod set;
mod watch;

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::hold::Ending;
use crate::lease::{BootTime, Wait};
use crate::lock::{Acquired, Lock, LongUse, Released};
use crate::mode::Mode;
use crate::phase::Step;
use crate::registry::Store;
use crate::service::{self, Command, Place};
use crate::set::LockSet;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::store::Backend;
pub use crate::store::poller::Poller;
use crate::sync::{self, Mutex};
use crate::{Error, Result};
use completions::Completions;
pub use set::submit_set;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
pub use watch::wait_free;

/// How often a waiting promotion asks again.
const PROMOTE_POLL: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Op {
    /// As [`Lock::acquire`].
    Acquire(Wait),
    /// As [`Lock::release`].
    Release,
    /// As [`Lock::refresh`].
    Refresh(Option<Duration>),
    /// As [`Lock::promote`].
    Promote(Wait),
    /// As [`Lock::demote`].
    Demote,
    /// As [`Lock::ensure_held`].
    Check,
    /// As [`Lock::abandon`].
    Abandon,
}

/// What it came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// An acquire.
    Acquired(Acquired),
    /// A release.
    Released(Released),
    /// Anything else.
    Done,
}

type Done = Box<dyn FnOnce(Result<Outcome>) + Send>;

/// One operation under way on the service thread.
pub(crate) struct Task {
    id: u64,
    lock: Arc<Shared>,
    used: Option<LongUse>,
    op: Op,
    deadline: Option<BootTime>,
    cancel: Option<Cancel>,
    bell: Arc<Signal>,
    /// The loop that reads answers, if it does.
    poller: Option<Arc<Poller>>,
    until: Option<BootTime>,
    /// Of a release whose answer is under way.
    ending: Option<Ending>,
    done: Option<Done>,
}

static TASKS: AtomicU64 = AtomicU64::new(1);

/// Starts `op`; `done` is called on the service thread, or by another loop that reads for it, and must block
/// neither. Throwing `cancel` ends an acquire: it then comes to `Cancelled`, or to a grant that had been made
/// already.
///
/// # Errors
/// `ConcurrentUse`, `ForkedHandle`, `Exhausted`, and `Unsupported` on a custom store; then `done` is
/// never called.
pub fn submit_with(
    lock: &Lock,
    op: Op,
    cancel: Option<Cancel>,
    done: impl FnOnce(Result<Outcome>) + Send + 'static,
) -> Result<()> {
    submit_on(None, lock, op, cancel, done)
}

/// As `submit_with`, for a loop that reads answers itself: `done` may be called by `Poller::read` too.
///
/// # Errors
/// As `submit_with`.
pub fn submit_on(
    poller: Option<&Arc<Poller>>,
    lock: &Lock,
    op: Op,
    cancel: Option<Cancel>,
    done: impl FnOnce(Result<Outcome>) + Send + 'static,
) -> Result<()> {
    if lock.store().is_caller_thread_only() {
        return Err(Error::unsupported(
            "a custom store is asked on threads of the program alone: event loops call its locks directly",
        ));
    }
    let used = lock.enter_for_long()?;
    // A handle that is dropped meanwhile must be able to end the wait.
    let cancel = cancel.unwrap_or_default();
    start(
        poller,
        lock.shared(),
        Some(used),
        op,
        cancel,
        Box::new(done),
    )
}

/// Starts `op` on a lock that is in use already, by `used` or by a set.
fn start(
    poller: Option<&Arc<Poller>>,
    lock: &Arc<Shared>,
    used: Option<LongUse>,
    op: Op,
    cancel: Cancel,
    done: Done,
) -> Result<()> {
    let id = TASKS.fetch_add(1, Ordering::Relaxed);
    let place = Place::of(lock.store());
    let bell = Arc::new(Signal::with_hook(move || {
        // Without a thread there is no task that could miss the word.
        let _ = service::send(place, Command::Ring(id));
    }));
    let deadline = match op {
        Op::Acquire(wait) | Op::Promote(wait) => wait.deadline(),
        _ => None,
    };
    *lock.running.lock() = Some(cancel.clone());
    let task = Box::new(Task {
        id,
        lock: lock.clone(),
        used,
        op,
        deadline,
        cancel: Some(cancel),
        bell,
        poller: poller.cloned(),
        until: None,
        ending: None,
        done: Some(done),
    });
    post::begin(task)
}

/// Runs a job (an inspection, a ping) on the service thread of a store.
///
/// # Errors
/// `Exhausted` if the thread cannot be started.
pub fn run(store: &Store, job: impl FnOnce() + Send + 'static) -> Result<()> {
    service::send(Place::of(store), Command::Job(Box::new(job)))
}

impl Task {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        self.lock.store().backend()
    }

    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Goes one step; says when to be called again, or nothing once it is over.
    pub(crate) fn step(&mut self, first: bool) -> Option<BootTime> {
        self.bell.take();
        let result = match self.op {
            Op::Acquire(wait) => match self.acquire(wait, first) {
                Ok(Step::Sleep(until)) => {
                    self.until = Some(until);
                    return self.until;
                }
                Ok(Step::Granted(acquired)) => Ok(Outcome::Acquired(acquired)),
                Err(error) => Err(self.lock.about("acquire", error)),
            },
            Op::Release => self
                .lock
                .release()
                .map(Outcome::Released)
                .map_err(|error| self.lock.about("release", error)),
            Op::Refresh(ttl) => self
                .lock
                .refresh(ttl)
                .map(|()| Outcome::Done)
                .map_err(|error| self.lock.about("refresh", error)),
            Op::Promote(wait) => match self.lock.change_mode(Mode::Exclusive, Wait::No, None) {
                Err(error) if error.code() == Code::Busy && wait != Wait::No => {
                    let cancelled = self.cancel.as_ref().is_some_and(Cancel::is_cancelled);
                    if cancelled || self.deadline.is_some_and(BootTime::has_passed) {
                        let outcome = if cancelled {
                            Code::Cancelled
                        } else {
                            Code::Timeout
                        };
                        Err(self.lock.about("promote", Error::outcome(outcome)))
                    } else {
                        self.until = Some(BootTime::now().after(PROMOTE_POLL));
                        return self.until;
                    }
                }
                other => other
                    .map(|()| Outcome::Done)
                    .map_err(|error| self.lock.about("promote", error)),
            },
            Op::Demote => self
                .lock
                .change_mode(Mode::Shared, Wait::No, None)
                .map(|()| Outcome::Done)
                .map_err(|error| self.lock.about("demote", error)),
            Op::Check => self
                .lock
                .check()
                .map(|()| Outcome::Done)
                .map_err(|error| self.lock.about("check", error)),
            Op::Abandon => {
                self.lock.undo();
                Ok(Outcome::Done)
            }
        };
        self.finish(result);
        None
    }

    fn acquire(&self, wait: Wait, first: bool) -> Result<Step> {
        if !first {
            return self.lock.resume(&self.bell);
        }
        // An acquire that was interrupted on a thread waits with a bell that we do not hear.
        self.lock.abandon();
        let (wait, now) = (self.time_left(wait), BootTime::now());
        self.lock.begin(wait, now, self.cancel.as_ref(), &self.bell)
    }

    /// Time spent in the inbox counts. Whoever had some has waited, even if all of it went by there.
    fn time_left(&self, wait: Wait) -> Wait {
        match (wait, self.deadline) {
            (Wait::For(given), Some(deadline)) if !given.is_zero() => {
                Wait::For(deadline.left().max(Duration::from_nanos(1)))
            }
            (wait, _) => wait,
        }
    }

    fn finish(&mut self, result: Result<Outcome>) {
        self.lock.running.lock().take();
        if self.lock.is_orphaned() && result.is_ok() && matches!(self.op, Op::Acquire(_)) {
            // Its handle was dropped while this was under way. A loop of the host must not wait for that.
            let lock = self.lock.clone();
            let end = move || lock.undo();
            if service::is_this_thread() {
                end();
            } else {
                let _ = service::send(Place::of(self.lock.store()), Command::Job(Box::new(end)));
            }
        }
        self.used = None;
        if let Some(done) = self.done.take() {
            done(result);
        }
    }

    pub(crate) fn fail(mut self, error: Error) {
        self.finish(Err(error));
    }
}

/// A finished operation.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion {
    /// What `submit` returned.
    pub ticket: u64,
    /// What the caller gave to `submit`.
    pub user: u64,
    /// What it came to.
    pub result: Result<Outcome>,
}

/// A queue of completions with a descriptor to poll. Usable from any thread.
#[derive(Debug)]
pub struct Dispatch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    poller: Arc<Poller>,
    done: Completions<Completion>,
    running: Mutex<HashMap<u64, Cancel>>,
    next: AtomicU64,
}

impl Dispatch {
    /// An empty queue; starts no thread.
    ///
    /// # Errors
    /// `Exhausted` if there is no descriptor to be had.
    pub fn new() -> Result<Self> {
        Self::with(false)
    }

    fn with(gathers: bool) -> Result<Self> {
        let inner = Inner {
            poller: Arc::new(Poller::new(gathers)?),
            done: Completions::new(),
            running: Mutex::default(),
            next: AtomicU64::new(1),
        };
        Ok(Dispatch(Arc::new(inner)))
    }

    /// The same for a loop that calls `flush` at the end of a turn for which `owes` was true: what it submits in
    /// one turn goes out together.
    ///
    /// # Errors
    /// As `new`.
    pub fn gathering() -> Result<Self> {
        Self::with(true)
    }

    /// Readable while completions wait to be reaped, or an answer that may be one.
    pub fn fd(&self) -> RawFd {
        self.0.poller.fd()
    }

    /// Starts an operation; its completion will carry `user`.
    ///
    /// # Errors
    /// `ConcurrentUse`, `ForkedHandle` (also for a queue made by the parent), `Exhausted`.
    pub fn submit(&self, lock: &Lock, op: Op, user: u64) -> Result<u64> {
        self.submit_by(user, |poller, cancel, done| {
            submit_on(Some(poller), lock, op, Some(cancel), done)
        })
    }

    /// As `submit`, on all locks of a set: `Acquire`, `Release`, `Abandon` or `Check`.
    ///
    /// # Errors
    /// As `submit`, about one of the locks; `InvalidArgument` for another operation.
    pub fn submit_set(&self, set: &Arc<LockSet>, op: Op, user: u64) -> Result<u64> {
        self.submit_by(user, |poller, cancel, done| {
            submit_set(Some(poller), set, op, Some(cancel), done)
        })
    }

    fn submit_by(
        &self,
        user: u64,
        submit: impl FnOnce(&Arc<Poller>, Cancel, Done) -> Result<()>,
    ) -> Result<u64> {
        if !self.0.poller.is_ours() {
            return Err(Error::new(
                Code::ForkedHandle,
                "the dispatch queue belongs to the parent process",
            ));
        }
        let ticket = self.0.next.fetch_add(1, Ordering::Relaxed);
        let cancel = Cancel::new();
        self.0.running.lock().insert(ticket, cancel.clone());
        let inner = self.0.clone();
        let done = move |result| {
            inner.complete(Completion {
                ticket,
                user,
                result,
            })
        };
        let submitted = submit(&self.0.poller, cancel, Box::new(done));
        if submitted.is_err() {
            self.0.running.lock().remove(&ticket);
        }
        submitted.map(|()| ticket)
    }

    /// Ends an acquire or promotion that is under way; its completion still comes. A ticket that
    /// has finished is no error.
    pub fn cancel(&self, ticket: u64) {
        let cancel = self.0.running.lock().get(&ticket).cloned();
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
    }

    /// Whether operations are held back until `flush`, and nobody was told of it yet.
    pub fn owes(&self) -> bool {
        self.0.poller.owes()
    }

    /// Writes what was held back.
    pub fn flush(&self) {
        self.0.poller.flush();
    }

    /// Takes up to `most` completions, oldest first.
    pub fn reap(&self, most: usize) -> Vec<Completion> {
        let Inner { poller, done, .. } = &*self.0;
        if !poller.is_ours() {
            return Vec::new();
        }
        done.reap(most, || poller.read(), || poller.ring(), || poller.quiet())
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        if self.0.poller.is_ours() {
            let running: Vec<Cancel> = self.0.running.lock().values().cloned().collect();
            running.iter().for_each(Cancel::cancel);
        }
    }
}

impl Inner {
    fn complete(&self, completion: Completion) {
        self.running.lock().remove(&completion.ticket);
        self.done.put(completion, || self.poller.ring());
    }
}
