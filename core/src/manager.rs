//! A manager of semaphores, as Avtonom's bundle has one: locks by typed keys, with one set of retry
//! settings, that knows what it holds and tells of what was forgotten.
//!
//! ```
//! use synlock_core::manager::{Manager, ManagerOptions};
//! use synlock_core::name::typed::Key;
//! use synlock_core::Store;
//!
//! # fn main() -> synlock_core::Result<()> {
//! let manager = Manager::new(&Store::open("memory:doc")?, ManagerOptions::default())?;
//! let key = Key::from_json(br#"["order_", 17]"#)?;
//! manager.acquire(&key, Some("pay()"), None, None)?;
//! manager.release(&key, Some("pay()"))?;
//! # Ok(())
//! # }
//! ```

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::event::{Event, EventKind, Facts};
use crate::fork::PerProcess;
use crate::lease::{BootTime, Wait};
use crate::lock::Lock;
use crate::name::Name;
use crate::name::typed::Key;
use crate::options::{LockOptions, Reentry, check_ttl};
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::state::{Acquired, Released, State};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What it means that this process asks for a key again while it holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Repeat {
    /// It is refused with `Reentered`.
    #[default]
    Error,
    /// The lease is lengthened, and a warning told; one release ends the hold.
    Extend,
}

/// Settings of a manager; the default is Avtonom's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ManagerOptions {
    /// How often to try: with `sleep`, how long to wait. Waiting is woken, not slept.
    pub tries: u32,
    /// How long one try lasts.
    pub sleep: Duration,
    /// By how much a try may last longer, at random, so that those who came together do not give up
    /// together.
    pub jitter: Duration,
    /// The lease of a lock that is acquired without one. Where the store has no leases, a lock is held until
    /// it is released or its owner dies, unless the store is `strict`.
    pub ttl: Duration,
    /// What every name begins with.
    pub prefix: Vec<u8>,
    /// Asking again within this process.
    pub repeat: Repeat,
    /// Nothing is written and nothing refused; everything is told.
    pub demo: bool,
    /// Give the host a turn on a signal and at least every 200 ms, as for a lock.
    pub interruptible: bool,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        ManagerOptions {
            tries: 240,
            sleep: Duration::from_millis(500),
            jitter: Duration::ZERO,
            ttl: Duration::from_secs(60),
            prefix: b"lock_".to_vec(),
            repeat: Repeat::Error,
            demo: false,
            interruptible: false,
        }
    }
}

/// Acquires and releases locks by typed keys. Usable from several threads; after a fork it holds nothing
/// in the child. Dropping it releases what it holds (unless the store says `auto_release=0`), and tells.
#[derive(Debug)]
pub struct Manager {
    store: Store,
    options: ManagerOptions,
    book: PerProcess<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    held: HashMap<Name, Vec<Held>>,
    /// Acquires that gave their host a turn.
    pending: HashMap<(ThreadId, Name), Ticket>,
}

#[derive(Debug)]
struct Held {
    lock: Arc<Lock>,
    /// Who acquired it: of two threads of which one had lost the lock, each releases its own.
    thread: ThreadId,
}

/// A lock that is to be acquired and then kept by the manager that gave the ticket.
#[derive(Debug)]
pub struct Ticket {
    lock: Arc<Lock>,
    deadline: Option<BootTime>,
    thread: ThreadId,
}

impl Ticket {
    /// The lock to acquire.
    pub fn lock(&self) -> &Arc<Lock> {
        &self.lock
    }

    /// How long to wait for it.
    pub fn wait(&self) -> Wait {
        match self.deadline {
            None => Wait::No,
            Some(deadline) => Wait::For(deadline.left()),
        }
    }
}

/// What asking for a key comes to.
#[derive(Debug)]
pub enum Asked {
    /// The manager holds it already: refresh the lock for as long. If it turns out to be lost, ask again.
    Extend(Arc<Lock>, Option<Duration>),
    /// Acquire the lock, then [`Manager::keep`] it.
    Ticket(Ticket),
}

/// What lengthening the lease of a held key comes to.
pub fn extended(lock: &Lock) -> Acquired {
    Acquired {
        attempts: 1,
        fence: lock.fencing_token(),
        extended: true,
        ..Acquired::default()
    }
}

/// Whether a lease could not be lengthened because the lock was lost: it is to be asked for again.
pub fn is_gone(error: &Error) -> bool {
    matches!(error.code(), Code::Lost | Code::NotHeld)
}

impl Manager {
    /// A manager of locks in this store, with observers of its own ([`Manager::store`]).
    ///
    /// # Errors
    /// `InvalidArgument` for settings out of range.
    pub fn new(store: &Store, options: ManagerOptions) -> Result<Self> {
        check_ttl(options.ttl)?;
        if options.tries == 0 {
            return Err(Error::invalid("a manager tries once at least"));
        }
        Ok(Manager {
            store: store.apart(options.demo),
            options,
            book: PerProcess::new(),
        })
    }

    /// The manager's own handle of the store: who observes it hears of the manager's locks.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The settings.
    pub fn options(&self) -> &ManagerOptions {
        &self.options
    }

    /// The name that a key stands for.
    ///
    /// # Errors
    /// `InvalidArgument` for a key that stands for none.
    pub fn name(&self, key: &Key) -> Result<Name> {
        Name::new(key.render(&self.options.prefix)?)
    }

    fn book(&self) -> &Mutex<Book> {
        self.book.get_or_init(Mutex::default)
    }

    /// Longest wait of one acquire.
    fn patience(&self) -> Duration {
        let jitter = match OwnerToken::draw() {
            Ok(token) if !self.options.jitter.is_zero() => {
                self.options.jitter * u32::from(token.as_bytes()[0]) / 255
            }
            _ => Duration::ZERO,
        };
        (self.options.sleep + jitter).saturating_mul(self.options.tries)
    }

    /// Options of the lock that holds `key`.
    fn lock_options(
        &self,
        key: &Key,
        caller: Option<&str>,
        ttl: Option<Duration>,
    ) -> Result<LockOptions> {
        let defaults = self.store.defaults();
        let ttl = ttl.unwrap_or(self.options.ttl);
        check_ttl(ttl)?;
        let reentry = match (self.options.demo, self.options.repeat) {
            (true, _) => Reentry::Independent,
            (false, Repeat::Error) => Reentry::Error,
            (false, Repeat::Extend) => Reentry::Extend,
        };
        let has_leases = self.store.capabilities().ttl || defaults.strict;
        Ok(LockOptions {
            ttl: has_leases.then_some(ttl),
            renew: has_leases.then_some(false),
            reentry,
            interruptible: self.options.interruptible,
            caller: caller.map(Into::into),
            key: Some(key.shown().into()),
            ..defaults.clone()
        })
    }

    /// Asks for a key: what there is to acquire, or to lengthen. Asks no store.
    ///
    /// # Errors
    /// `Reentered` if this manager holds it and a repetition is an error; `InvalidArgument`,
    /// `Unsupported`.
    pub fn ask(&self, key: &Key, caller: Option<&str>, ttl: Option<Duration>) -> Result<Asked> {
        let name = self.name(key)?;
        let options = self.lock_options(key, caller, ttl)?;
        if !self.options.demo
            && let Some(held) = self.held(&name)
        {
            if self.repeat(&held, &name, &options)? {
                return Ok(Asked::Extend(held, options.ttl));
            }
            // Lost meanwhile, and nobody else will come for it.
            drop(self.strike_own(&name, &held));
        }
        let patience = self.patience();
        Ok(Asked::Ticket(Ticket {
            lock: Arc::new(self.store.lock_with(name.as_bytes(), options)?),
            deadline: (!patience.is_zero()).then(|| BootTime::now().after(patience)),
            thread: thread::current().id(),
        }))
    }

    /// The lock that this manager holds under a name, the caller's own first.
    fn held(&self, name: &Name) -> Option<Arc<Lock>> {
        let book = self.book().lock();
        let all = book.held.get(name)?;
        let me = thread::current().id();
        let own = all.iter().find(|held| held.thread == me);
        own.or(all.first()).map(|held| held.lock.clone())
    }

    /// Takes a lock out of the book that this thread acquired.
    fn strike_own(&self, name: &Name, lock: &Arc<Lock>) -> Option<Held> {
        let held = self.strike(name, lock)?;
        if held.thread == thread::current().id() {
            return Some(held);
        }
        // Another thread's: it is told when it releases.
        self.enter(name.clone(), held);
        None
    }

    /// Takes a lock out of the book.
    fn strike(&self, name: &Name, lock: &Arc<Lock>) -> Option<Held> {
        let mut book = self.book().lock();
        let all = book.held.get_mut(name)?;
        let place = all.iter().position(|held| Arc::ptr_eq(&held.lock, lock))?;
        let held = all.remove(place);
        if all.is_empty() {
            book.held.remove(name);
        }
        Some(held)
    }

    /// Whether asking for a held key lengthens its lease; not if it is not held any more.
    fn repeat(&self, held: &Arc<Lock>, name: &Name, asked: &LockOptions) -> Result<bool> {
        if !matches!(held.state(), State::Held | State::Releasing) {
            return Ok(false);
        }
        let holder = held.options().caller.as_deref().unwrap_or("somebody");
        if self.options.repeat == Repeat::Error {
            let words = format!("this process holds the key already: {holder} acquired it");
            self.tell(EventKind::Refused, Code::Reentered, name, asked, &words);
            return Err(self.about("acquire", name, Error::new(Code::Reentered, words)));
        }
        let words = format!("this process holds the key already ({holder}): its lease is extended");
        self.tell(EventKind::Warning, Code::Reentered, name, asked, &words);
        Ok(true)
    }

    /// Keeps what was acquired, until it is released.
    pub fn keep(&self, ticket: Ticket) {
        let name = ticket.lock.name().clone();
        let held = Held {
            lock: ticket.lock,
            thread: ticket.thread,
        };
        self.enter(name, held);
    }

    fn enter(&self, name: Name, held: Held) {
        let mut book = self.book().lock();
        let all = book.held.entry(name).or_default();
        // Nobody may ever come for locks that were lost: not many are kept.
        let gone = (all.len() >= 8).then(|| all.remove(0));
        all.push(held);
        drop(book);
        // May ask a server.
        drop(gone);
    }

    /// Acquires `key` for `caller`, waiting as the settings say; `ttl` is the lease. With `interruptible`,
    /// the same thread calls again, and keeps its place.
    ///
    /// # Errors
    /// `Timeout`, `Busy` (settings without time), `Reentered`, `Cancelled`, `Interrupted`, and as
    /// [`Lock::acquire`].
    pub fn acquire(
        &self,
        key: &Key,
        caller: Option<&str>,
        ttl: Option<Duration>,
        cancel: Option<&Cancel>,
    ) -> Result<Acquired> {
        let name = self.name(key)?;
        let place = (thread::current().id(), name.clone());
        let waiting = self.book().lock().pending.remove(&place);
        let ticket = match waiting {
            Some(ticket) => ticket,
            None => match self.ask(key, caller, ttl)? {
                Asked::Ticket(ticket) => ticket,
                Asked::Extend(lock, lease) => match lock.refresh(lease) {
                    Ok(()) => return Ok(extended(&lock)),
                    Err(error) if is_gone(&error) => return self.acquire(key, caller, ttl, cancel),
                    Err(error) => return Err(error),
                },
            },
        };
        let acquired = ticket.lock.acquire(ticket.wait(), cancel);
        match acquired {
            Ok(acquired) => {
                self.keep(ticket);
                Ok(acquired)
            }
            Err(error) if error.code() == Code::Interrupted => {
                self.book().lock().pending.insert(place, ticket);
                Err(error)
            }
            Err(error) => Err(self.refused(&name, &ticket, error)),
        }
    }

    /// What an acquire of a ticket failed with; what nobody else tells is told.
    pub fn refused(&self, name: &Name, ticket: &Ticket, error: Error) -> Error {
        if error.code() == Code::Reentered {
            // Another manager of this process.
            let options = ticket.lock.options();
            let words = "this process holds the key already, through another manager";
            self.tell(EventKind::Refused, Code::Reentered, name, options, words);
        }
        error
    }

    /// Gives up the place in the queue that an interrupted acquire of this thread kept.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn abandon(&self, key: &Key) -> Result<()> {
        let place = (thread::current().id(), self.name(key)?);
        // Dropped outside the book: it may ask a server.
        let ticket = self.book().lock().pending.remove(&place);
        drop(ticket);
        Ok(())
    }

    /// Takes the lock that is to be released for `caller` out of the manager's hands: release it, or
    /// [`Manager::put_back`].
    ///
    /// # Errors
    /// `NotHeld` if the manager does not hold `key`; that is told as an error too.
    pub fn take(&self, key: &Key, caller: Option<&str>) -> Result<Option<Ticket>> {
        let name = self.name(key)?;
        let found = self.held(&name).and_then(|lock| self.strike(&name, &lock));
        let Some(held) = found else {
            let options = self.lock_options(key, caller, None)?;
            if self.options.demo {
                self.tell(EventKind::Released, Code::Ok, &name, &options, "released");
                return Ok(None);
            }
            let words =
                "this process does not hold the key: it was released before, or never acquired";
            self.tell_of_release(&name, &options, words);
            return Err(self.about("release", &name, Error::new(Code::NotHeld, words)));
        };
        held.lock.shared().ask_for(caller.map(Into::into));
        Ok(Some(Ticket {
            lock: held.lock,
            deadline: None,
            thread: held.thread,
        }))
    }

    /// Takes back what was not released after all, because another call was using it.
    pub fn put_back(&self, ticket: Ticket) {
        ticket.lock.shared().ask_for(None);
        self.keep(ticket);
    }

    /// Releases `key` for `caller`.
    ///
    /// # Errors
    /// `NotHeld` if this manager does not hold it; `Lost` if it was lost meanwhile, by its TTL or by force:
    /// somebody else may hold it, and is left alone; `Uncertain`; `Unavailable`.
    pub fn release(&self, key: &Key, caller: Option<&str>) -> Result<Released> {
        let Some(ticket) = self.take(key, caller)? else {
            return Ok(Released::default());
        };
        let released = ticket.lock.release();
        if released
            .as_ref()
            .is_err_and(|error| error.code() == Code::ConcurrentUse)
        {
            self.put_back(ticket);
        }
        released
    }

    /// The lock under `key` that this manager holds, for whoever wants to look at it, refresh it or hand it
    /// over.
    ///
    /// # Errors
    /// `NotHeld`, `InvalidArgument`.
    pub fn lock(&self, key: &Key) -> Result<Arc<Lock>> {
        let name = self.name(key)?;
        self.held(&name).ok_or_else(|| {
            let words = "this process does not hold the key";
            self.about("look at", &name, Error::new(Code::NotHeld, words))
        })
    }

    /// Lengthens the lease of `key`.
    ///
    /// # Errors
    /// `NotHeld`, and as [`Lock::refresh`].
    pub fn refresh(&self, key: &Key, ttl: Option<Duration>) -> Result<()> {
        let ttl = ttl.filter(|_| self.store.capabilities().ttl);
        self.lock(key)?.refresh(ttl)
    }

    /// Whether this manager holds `key`; asks the store.
    ///
    /// # Errors
    /// Trouble of the store.
    pub fn is_acquired(&self, key: &Key) -> Result<bool> {
        match self.lock(key) {
            Ok(lock) => lock.is_acquired(),
            Err(error) if error.code() == Code::NotHeld => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What this manager holds, as it knows: names, and who acquired them.
    pub fn list(&self) -> Vec<(Name, Option<Arc<str>>)> {
        let book = self.book().lock();
        let all = book.held.values().flatten();
        let mut list: Vec<_> = all
            .filter(|held| held.lock.state() == State::Held)
            .map(|held| (held.lock.name().clone(), held.lock.options().caller.clone()))
            .collect();
        list.sort();
        list
    }

    /// What a host calls at its end for managers that it will not drop: releases what is held, and tells; as
    /// [`Lock::end_with_process`].
    pub fn end_with_process(&self, until: BootTime) {
        // Emptied outside the mutex: ending may ask a server.
        let book = std::mem::take(&mut *self.book().lock());
        for held in book.held.values().flatten() {
            held.lock.end_with_process(until);
        }
    }

    fn about(&self, operation: &'static str, name: &Name, error: Error) -> Error {
        error
            .with_operation(operation)
            .with_resource(name.as_bytes())
            .with_store(self.store.url())
    }

    fn tell_of_release(&self, name: &Name, options: &LockOptions, words: &str) {
        if self.store.is_observed() {
            let mut event = self.event(EventKind::Refused, Code::NotHeld, name, options, words);
            event.operation = "release";
            self.store.tell(&event);
        }
    }

    fn tell(&self, kind: EventKind, code: Code, name: &Name, options: &LockOptions, words: &str) {
        if let Some(meters) = self.store.meters() {
            let facts = Facts {
                code,
                ..Facts::default()
            };
            meters.note(kind, &facts);
        }
        if self.store.is_observed() {
            self.store
                .tell(&self.event(kind, code, name, options, words));
        }
    }

    fn event(
        &self,
        kind: EventKind,
        code: Code,
        name: &Name,
        options: &LockOptions,
        words: &str,
    ) -> Event {
        let mut event = Event::new(kind, self.store.url(), Some(name));
        event.level = kind.level_of_manager();
        event.code = code;
        event.caller = options.caller.clone();
        event.key = options.key.clone();
        event.label = options.label.clone();
        words.clone_into(&mut event.message);
        event
    }
}
