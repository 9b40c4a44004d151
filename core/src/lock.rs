//! Locks: the handle that a caller has.

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::event::EventKind;
use crate::fork;
use crate::lease::{BootTime, Wait};
use crate::mode::Mode;
use crate::name::Name;
use crate::options::LockOptions;
use crate::owner::OwnerToken;
use crate::phase::{Denied, Phase, PhaseUse, Seen, Use};
use crate::registry::Store;
use crate::service::{self, Command, Place};
use crate::shared::Shared;
use crate::store::Tokens;
use crate::watchdog;
use crate::{Error, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

pub use crate::state::{Acquired, Released, State};

/// Lease on stores that do not see their owner die, when the caller gives none; the watchdog
/// renews it.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// How long a host gives calls that are under way when it ends, all of them together.
pub const LAST_CALLS: Duration = Duration::from_secs(2);

/// A lock on one name in one store, reusable. May move between threads; used by one at a time: a
/// second call at the same moment is answered with `ConcurrentUse`.
///
/// After a fork, a handle that was idle works in the child as a new one; any other answers
/// `ForkedHandle`. Dropping a handle releases what it holds, unless `auto_release` is off.
#[derive(Debug)]
pub struct Lock(Arc<Shared>);

/// A use that goes on without the handle; if that is dropped meanwhile, the end of the use is its end.
pub(crate) struct LongUse(Arc<Shared>);

impl LongUse {
    pub(crate) fn of(lock: &Arc<Shared>) -> Result<Self> {
        lock.mark(|| LongUse(lock.clone()))
    }
}

impl Drop for LongUse {
    fn drop(&mut self) {
        let lock = &self.0;
        lock.gated.gate.leave();
        // Of this and the drop of the handle, whichever comes later sees the other.
        fence(Ordering::SeqCst);
        if !lock.is_orphaned() {
            return;
        }
        let place = Place::of(&lock.store);
        if service::serves(place) || lock.store.is_caller_thread_only() {
            lock.end();
        } else {
            // A loop of the host must not wait for that, nor what another store's thread has to do.
            let orphan = lock.clone();
            let end = Command::Job(Box::new(move || {
                orphan.end();
            }));
            let _ = service::send(place, end);
        }
    }
}

impl Shared {
    fn mark<U>(&self, used: impl FnOnce() -> U) -> Result<U> {
        let now = fork::generation();
        let entered = self.gated.gate.enter(now);
        let used = entered.map(|()| used()).map_err(|why| self.deny(why))?;
        if self.is_of(now) {
            Ok(used)
        } else {
            Err(self.deny(Denied::Forked))
        }
    }

    /// Does what the drop of the handle calls for, unless that is done, or somebody uses it: then whoever does sees
    /// to it. Whether nobody does.
    fn end(&self) -> bool {
        let Ok(_used) = self.mark(|| Use(self)) else {
            return false;
        };
        if self.orphaned.swap(false, Ordering::SeqCst) {
            self.end_hold();
        }
        true
    }

    fn end_hold(&self) {
        match State::from_u8(self.state.load(Ordering::Acquire)) {
            State::Acquiring => self.abandon(),
            State::Held if self.auto_release.load(Ordering::Relaxed) => {
                self.tell(
                    EventKind::Forgotten,
                    Code::Ok,
                    "a handle was dropped while it held the lock",
                );
                self.flush_notices();
                // The background keeps an uncertain release going.
                let released = self.release();
                self.warn_if_lost(released);
            }
            _ => {}
        }
    }

    /// Whether the handle did not leave `Idle` in a parent.
    #[inline]
    fn is_of(&self, generation: u64) -> bool {
        let owned = self.owned.load(Ordering::Acquire);
        owned == 0 || owned == generation
    }

    #[cold]
    fn deny(&self, why: Denied) -> Error {
        let code = match why {
            Denied::InUse => Code::ConcurrentUse,
            Denied::Forked => Code::ForkedHandle,
        };
        self.about("use", Error::outcome(code))
    }
}

impl Lock {
    pub(crate) fn new(store: Store, name: Name, options: LockOptions) -> Result<Self> {
        options.check()?;
        let can = *store.capabilities();
        match options.mode {
            Mode::Shared if !can.shared => {
                return Err(Error::unsupported("this store has no shared locks"));
            }
            Mode::Permits { .. } if !can.permits => {
                return Err(Error::unsupported(store.backend().why_no_permits()));
            }
            _ => {}
        }
        if options.ttl.is_some() && !can.ttl {
            return Err(Error::unsupported(
                "this store has no leases: a lock is held until released or until its owner dies",
            ));
        }
        store.backend().check_name(&name)?;
        let needs_lease = can.ttl && !can.frees_on_death;
        let by_default = || store.backend().default_lease();
        let ttl = options.ttl.or_else(|| needs_lease.then(by_default));
        if let Some(ttl) = ttl {
            store.backend().check_ttl(ttl + options.lock_delay)?;
        }
        options.require.check(&can)?;
        // Where a dead owner's lock does not wait for a lease, a delay would be promised in vain.
        if !options.lock_delay.is_zero() && !store.backend().keeps_delays() {
            return Err(Error::unsupported(
                "this store frees a dead owner's lock without a lease: it cannot delay that (`lock_delay`)",
            ));
        }
        if !options.lock_delay.is_zero() && ttl.is_none() {
            return Err(Error::invalid(
                "a lock delay follows the end of a lease: give a ttl",
            ));
        }
        let renew = ttl.is_some() && options.renew.unwrap_or(options.ttl.is_none());
        if renew && store.is_caller_thread_only() {
            return Err(Error::unsupported(
                "nobody renews a lease of a custom store in the background: give a ttl, and refresh it",
            ));
        }
        Ok(Lock(Shared::new(store, name, options, ttl, renew)))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The resource's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The options it was made with.
    pub fn options(&self) -> &LockOptions {
        &self.0.options
    }

    /// The lease that a grant gets, whether given or the store's need.
    pub fn ttl(&self) -> Option<Duration> {
        self.0.ttl
    }

    /// Marks the handle as in use until the guard is dropped.
    fn enter(&self) -> Result<Use<'_>> {
        self.0.mark(|| Use(&self.0))
    }

    /// As `enter`, for a use that goes on without the handle.
    pub(crate) fn enter_for_long(&self) -> Result<LongUse> {
        LongUse::of(&self.0)
    }

    /// As `enter`, with the phase.
    #[inline]
    fn enter_and_lock(&self) -> Result<PhaseUse<'_>> {
        let now = fork::generation();
        match PhaseUse::enter(&self.0, now) {
            Ok(used) if self.0.is_of(now) => Ok(used),
            Ok(_) => Err(self.0.deny(Denied::Forked)),
            Err(why) => Err(self.0.deny(why)),
        }
    }

    fn is_forked(&self) -> bool {
        let now = fork::generation();
        let user = self.0.gated.gate.user();
        !self.0.is_of(now) || (user != 0 && user != now)
    }

    #[cold]
    fn about(&self, operation: &'static str, error: Error) -> Error {
        self.0.about(operation, error)
    }

    /// The state by this process' own knowledge; asks nobody.
    pub fn state(&self) -> State {
        if self.is_forked() {
            return State::Forked;
        }
        match State::from_u8(self.0.state.load(Ordering::Acquire)) {
            State::Held if self.0.is_reentrant() && self.has_ended() => State::Idle,
            State::Held if self.remaining().is_some_and(|left| left.is_zero()) => State::Expired,
            State::Held if self.0.is_remote && self.has_lost_session() => State::Lost,
            state => state,
        }
    }

    /// Whether another handle that shared the hold has released it; nobody waits for an answer that is under way.
    fn has_ended(&self) -> bool {
        let phase = self.0.gated.try_lock();
        phase.is_some_and(|phase| matches!(&*phase, Phase::Held(hold) if hold.has_ended()))
    }

    fn has_lost_session(&self) -> bool {
        self.read_hold(|seen| seen.token)
            .is_some_and(|token| self.0.store().backend().has_lost(token))
    }

    /// Acquires the lock, waiting as `wait` says; any wait ends when `cancel` is thrown.
    ///
    /// # Errors
    /// Outcomes: `Busy` (`Wait::No`), `Timeout`, `Cancelled`, `Interrupted` (only if the lock is
    /// `interruptible`), `AlreadyHeld`, `Reentered`. Errors: `Unavailable`, `Uncertain`,
    /// `Permission`, `Protocol`, `Exhausted`, `Storage`, `ForkedHandle`, `ConcurrentUse`.
    #[inline]
    pub fn acquire(&self, wait: Wait, cancel: Option<&Cancel>) -> Result<Acquired> {
        let phase = self.enter_and_lock()?;
        self.0
            .acquire(phase, wait, cancel)
            .map_err(|error| self.about("acquire", error))
    }

    /// Acquires if the lock is free; `None` if somebody holds it.
    ///
    /// # Errors
    /// As [`Lock::acquire`], but for `Busy`.
    pub fn try_acquire(&self) -> Result<Option<Acquired>> {
        match self.acquire(Wait::No, None) {
            Ok(acquired) => Ok(Some(acquired)),
            Err(error) if error.code() == Code::Busy => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Lock::try_acquire`], but what is busy counts as not asked for: nobody is told. For a host that
    /// waits in another way than it tries, and then calls [`Lock::acquire`].
    ///
    /// # Errors
    /// As [`Lock::acquire`], but for `Busy`.
    pub fn acquire_at_once(&self) -> Result<Option<Acquired>> {
        let mut phase = self.enter_and_lock()?;
        self.0
            .acquire_at_once(&mut phase)
            .map_err(|error| self.about("acquire", error))
    }

    /// Whether no call waits for anybody, but for an `acquire` or `promote` that is told to.
    pub fn answers_at_once(&self) -> bool {
        self.0.answers_at_once
    }

    /// Takes back the last acquire, for a caller who will not hear how it ended: gives up the place in
    /// the queue that an interrupted one kept, and releases what one was granted. What was held before,
    /// by this handle or (`Reentry::Extend`) by another, stays held.
    ///
    /// # Errors
    /// `ForkedHandle`, `ConcurrentUse`.
    pub fn abandon(&self) -> Result<()> {
        let _used = self.enter()?;
        self.0.undo();
        Ok(())
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// `NotHeld` if the handle is idle, `Lost` if the lock was not this owner's any more,
    /// `Uncertain` if the reply was lost (the release goes on in the background), `Unavailable`.
    #[inline]
    pub fn release(&self) -> Result<Released> {
        let mut phase = self.enter_and_lock()?;
        self.0
            .release_in(&mut phase)
            .map_err(|error| self.about("release", error))
    }

    /// Lengthens the lease to `ttl`, or to the lock's own; never shortens it. On a store without
    /// leases only checks that the lock is still held.
    ///
    /// # Errors
    /// `NotHeld`, `Lost`, `Uncertain` (the old deadline stands), `InvalidArgument`, `Unsupported`
    /// for a TTL on a store without leases.
    pub fn refresh(&self, ttl: Option<Duration>) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .refresh(ttl)
            .map_err(|error| self.about("refresh", error))
    }

    /// Turns a shared hold into the exclusive one. Refused with `Busy` while others read, and the
    /// shared hold stays. Of two that promote and wait without a bound neither gets it: give a
    /// timeout, and release when it is refused.
    ///
    /// # Errors
    /// `Busy`, `Timeout`, `NotHeld`, `Lost`, `Unsupported`.
    pub fn promote(&self, wait: Wait) -> Result<()> {
        self.promote_with(wait, None)
    }

    /// As [`Lock::promote`]; the wait ends when `cancel` is thrown.
    ///
    /// # Errors
    /// As [`Lock::promote`], and `Cancelled`.
    pub fn promote_with(&self, wait: Wait, cancel: Option<&Cancel>) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .change_mode(Mode::Exclusive, wait, cancel)
            .map_err(|error| self.about("promote", error))
    }

    /// Turns the exclusive hold into a shared one.
    ///
    /// # Errors
    /// `NotHeld`, `Lost`, `Unsupported`.
    pub fn demote(&self) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .change_mode(Mode::Shared, Wait::No, None)
            .map_err(|error| self.about("demote", error))
    }

    /// Asks the store whether the lock is held; a statement about the past by the time it is read.
    ///
    /// # Errors
    /// Trouble of the store; losing the lock is `Ok(false)`.
    pub fn is_acquired(&self) -> Result<bool> {
        let _used = self.enter()?;
        match self.0.check() {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.code(), Code::Lost | Code::NotHeld) => Ok(false),
            Err(error) => Err(self.about("check", error)),
        }
    }

    /// Asks the store, and fails unless the lock is held.
    ///
    /// # Errors
    /// `NotHeld`, `Lost`, trouble of the store.
    pub fn ensure_held(&self) -> Result<()> {
        let _used = self.enter()?;
        self.0.check().map_err(|error| self.about("check", error))
    }

    /// Whether the lease has run out, or the lock was lost, by this process' own knowledge.
    pub fn is_expired(&self) -> bool {
        matches!(self.state(), State::Expired | State::Lost)
    }

    /// How much of the lease is left at least (drift taken off); `None` without a lease.
    pub fn remaining(&self) -> Option<Duration> {
        self.read_hold(|seen| seen.until.map(BootTime::left))
            .flatten()
    }

    /// The fencing token of the hold.
    pub fn fencing_token(&self) -> Option<u64> {
        self.read_hold(|seen| seen.fence).flatten()
    }

    /// The mode of the hold, or of the next one.
    pub fn mode(&self) -> Mode {
        self.read_hold(|seen| seen.mode)
            .unwrap_or(self.0.options.mode)
    }

    /// The owner token of the hold: whoever has it may release the lock.
    pub fn owner_token(&self) -> Option<OwnerToken> {
        if self.0.tokens == Tokens::Drawn {
            return self.read_hold(|seen| seen.token);
        }
        if self.is_forked() || self.0.owned.load(Ordering::Acquire) == 0 {
            return None;
        }
        match &mut *self.0.lock_phase() {
            Phase::Held(hold) => self.0.name_owner(&mut hold.claim).ok(),
            _ => None,
        }
    }

    fn read_hold<T>(&self, read: impl FnOnce(Seen) -> T) -> Option<T> {
        // The phase is the parent's.
        if self.is_forked() || self.0.owned.load(Ordering::Acquire) == 0 {
            return None;
        }
        // An event loop that looks must not wait for a server that hangs.
        if self.0.gated.try_lock().is_none()
            && let Some(seen) = *self.0.shown.lock()
        {
            return Some(read(seen));
        }
        let seen = match &*self.0.lock_phase() {
            Phase::Held(hold) => self.0.see(hold),
            // While its answer is under way.
            Phase::Releasing(_) => (*self.0.shown.lock())?,
            _ => return None,
        };
        Some(read(seen))
    }

    /// Whether dropping the handle releases the lock.
    pub fn auto_release(&self) -> bool {
        self.0.auto_release.load(Ordering::Relaxed)
    }

    /// Switches release on drop.
    pub fn set_auto_release(&self, on: bool) {
        self.0.auto_release.store(on, Ordering::Relaxed);
    }

    /// A descriptor that becomes readable when the hold is lost or its lease runs out; it belongs
    /// to the handle and is quiet again after the next acquire.
    ///
    /// # Errors
    /// `Exhausted`, `ForkedHandle`.
    pub fn lost_fd(&self) -> Result<RawFd> {
        if self.is_forked() {
            return Err(self.about("watch", Error::outcome(Code::ForkedHandle)));
        }
        if let Some(fd) = self.0.lost_fd.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = self.0.lost_fd.get_or_try_init(fork::eventfd)?.as_raw_fd();
        let phase = self.0.lock_phase();
        match &*phase {
            Phase::Lost(_) => self.0.raise_lost(),
            Phase::Held(hold) => watchdog::start(&self.0, hold),
            _ => {}
        }
        Ok(fd)
    }

    /// Calls `hook` once when the present hold, or the next one, is lost or its lease runs out; on
    /// the thread that finds out, often the service thread, so it must be short and must not use
    /// the lock. Called at once if the hold is lost already; forgotten when it is released.
    ///
    /// # Errors
    /// `ForkedHandle`.
    pub fn on_lost(&self, hook: impl FnOnce() + Send + 'static) -> Result<()> {
        if self.is_forked() {
            return Err(self.about("watch", Error::outcome(Code::ForkedHandle)));
        }
        let phase = self.0.lock_phase();
        if matches!(&*phase, Phase::Lost(_)) {
            self.0.call_later(Box::new(hook));
            return Ok(());
        }
        self.0.add_hook(Box::new(hook));
        if let Phase::Held(hold) = &*phase {
            watchdog::start(&self.0, hold);
        }
        Ok(())
    }

    /// The hold as text that another process can adopt; this handle then lets go of it without
    /// releasing.
    ///
    /// # Errors
    /// `NotHeld`, `Lost`, `Unsupported`.
    pub fn export(&self) -> Result<String> {
        let _used = self.enter()?;
        self.0.export().map_err(|error| self.about("export", error))
    }

    pub(crate) fn adopt_from(
        &self,
        token: OwnerToken,
        heir: OwnerToken,
        fence: Option<u64>,
    ) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .adopt(token, heir, fence)
            .map_err(|error| self.about("adopt", error))
    }

    /// What a host calls at its end for handles that it will not drop: releases the hold unless
    /// `auto_release` is off, and tells of it. A call that is under way on it has until then to end: on one
    /// that is in use nothing can be released.
    pub fn end_with_process(&self, until: BootTime) {
        let is_in_use = || {
            self.0.gated.gate.user() != 0 && matches!(self.state(), State::Held | State::Releasing)
        };
        while is_in_use() && !until.has_passed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.state() == State::Held && self.auto_release() {
            self.0.tell(
                EventKind::Forgotten,
                Code::Ok,
                "the process ended while it held the lock",
            );
            self.0.flush_notices();
            let released = self.release();
            self.0.warn_if_lost(released);
        }
    }

    /// What the last release that ended well said, for hosts whose release returns nothing.
    pub fn was_late(&self) -> bool {
        self.0.late.load(Ordering::Acquire)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // In a child nothing inherited is touched.
        if self.is_forked() {
            return;
        }
        // First, as whoever uses it looks for it last.
        self.0.orphaned.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.0.end() {
            return;
        }
        // Dispatch or a set works on it: it ends, and gives back what it has.
        let running = self.0.running.lock();
        // Otherwise it has ended, and what runs now is another's.
        if let (true, Some(cancel)) = (self.0.is_orphaned(), &*running) {
            cancel.cancel();
        }
    }
}
