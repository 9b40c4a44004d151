//! Locks: the one state machine between a caller and a store.

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::event::{Event, EventKind};
use crate::fork::{self, ProcessFd};
use crate::lease::{BootTime, Wait, drift_allowance};
use crate::mode::Mode;
use crate::name::Name;
use crate::options::LockOptions;
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::signal::Signal;
use crate::store::Claim;
use crate::sync::{Mutex, MutexGuard};
use crate::watchdog;
use crate::{Error, Result};
use once_cell::sync::OnceCell;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Lease on stores that do not see their owner die, when the caller gives none; the watchdog
/// renews it.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// What a handle's claim has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Nothing is held or asked for.
    Idle = 0,
    /// An acquire is under way, or was interrupted and keeps its place.
    Acquiring = 1,
    /// Held, as far as this process can know.
    Held = 2,
    /// The lease has run out by this process' clock.
    Expired = 3,
    /// The store said that it is not held any more.
    Lost = 4,
    /// A release was sent and its reply was lost.
    Releasing = 5,
    /// Held, asked for or uncertain in the parent of this process.
    Forked = 6,
}

impl State {
    fn from_u8(number: u8) -> Self {
        match number {
            1 => State::Acquiring,
            2 => State::Held,
            3 => State::Expired,
            4 => State::Lost,
            5 => State::Releasing,
            6 => State::Forked,
            _ => State::Idle,
        }
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Acquiring => "acquiring",
            State::Held => "held",
            State::Expired => "expired",
            State::Lost => "lost",
            State::Releasing => "releasing",
            State::Forked => "forked",
        }
    }
}

/// How an acquire went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Acquired {
    /// Time from the call to the grant.
    pub waited: Duration,
    /// Whether somebody else held the lock first.
    pub contended: bool,
    /// How often the store was asked.
    pub attempts: u32,
    /// The fencing token, if the store gives one.
    pub fence: Option<u64>,
    /// The previous owner died while it held the lock.
    pub recovered: bool,
}

/// How a release went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Released {
    /// The lease had run out by this process' clock, though the store still had it as ours.
    pub late: bool,
}

/// A hold, and what it was granted with.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    pub(crate) lease: Option<BootTime>,
    pub(crate) fence: Option<u64>,
    pub(crate) since: BootTime,
    /// Shared by handles that share the hold (`reentry=extend`): true once one has released it.
    pub(crate) ended: Arc<AtomicBool>,
}

/// What readers are told of a hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    token: OwnerToken,
    mode: Mode,
    /// Until when it may be acted on.
    until: Option<BootTime>,
    fence: Option<u64>,
}

/// Lets readers see the hold while a request holds the phase's mutex; until it is dropped.
pub(crate) struct Shown<'a>(&'a Shared);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        *self.0.shown.lock() = None;
    }
}

/// A claim that is being asked for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) claim: Claim,
    pub(crate) started: BootTime,
    pub(crate) deadline: Option<BootTime>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) attempts: u32,
    pub(crate) queued: bool,
    /// When to ask the store again even if the bell stays silent.
    pub(crate) next_look: BootTime,
}

#[derive(Debug)]
pub(crate) enum Phase {
    Idle,
    Pending(Pending, Arc<Signal>),
    Held(Hold),
    Lost,
    Releasing(Hold),
}

/// What an acquire needs next.
pub(crate) enum Step {
    /// It is over.
    Granted(Acquired),
    /// Sleep on the bell until then at most, and step again.
    Sleep(BootTime),
}

/// Called once, on the thread that finds out, when a hold is lost.
pub(crate) type LostHook = Box<dyn FnOnce() + Send>;

pub(crate) struct Shared {
    pub(crate) me: Weak<Shared>,
    pub(crate) store: Store,
    pub(crate) name: Name,
    pub(crate) options: LockOptions,
    /// Lease that each grant gets; `None` on stores that see their owner die.
    pub(crate) ttl: Option<Duration>,
    pub(crate) renew: bool,
    pub(crate) auto_release: AtomicBool,
    /// Generation of the process whose call uses the handle now, 0 for none.
    pub(crate) using: AtomicU64,
    /// Generation in which the handle left `Idle`, 0 while idle.
    pub(crate) owned: AtomicU64,
    pub(crate) state: AtomicU8,
    pub(crate) phase: Mutex<Phase>,
    /// The hold as it was before the request that is under way.
    shown: Mutex<Option<Seen>>,
    pub(crate) lost_fd: OnceCell<ProcessFd>,
    pub(crate) on_lost: Mutex<Vec<LostHook>>,
    /// Owner of the hold that the watchdog has in its book, by the first half of its token.
    pub(crate) watched: AtomicU64,
    /// Ends the operation that dispatch runs on this handle.
    pub(crate) running: Mutex<Option<Cancel>>,
    pub(crate) orphaned: AtomicBool,
    /// The last release came after the lease.
    pub(crate) late: AtomicBool,
    notices: Mutex<Vec<Notice>>,
    has_notices: AtomicBool,
}

/// What is to be told once the phase is unlocked.
enum Notice {
    Event(Event),
    Hook(LostHook),
}

/// The phase, locked; unlocking it tells what has happened meanwhile.
pub(crate) struct PhaseGuard<'a> {
    lock: &'a Shared,
    phase: Option<MutexGuard<'a, Phase>>,
    /// Never seen: stands in for a guard that is being dropped.
    none: Phase,
}

impl std::ops::Deref for PhaseGuard<'_> {
    type Target = Phase;

    fn deref(&self) -> &Phase {
        self.phase.as_deref().unwrap_or(&self.none)
    }
}

impl std::ops::DerefMut for PhaseGuard<'_> {
    fn deref_mut(&mut self) -> &mut Phase {
        self.phase.as_deref_mut().unwrap_or(&mut self.none)
    }
}

impl Drop for PhaseGuard<'_> {
    fn drop(&mut self) {
        self.phase = None;
        self.lock.flush_notices();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name)
            .field("store", &self.store.url())
            .finish_non_exhaustive()
    }
}

/// A lock on one name in one store, reusable. May move between threads; used by one at a time: a
/// second call at the same moment is answered with `ConcurrentUse`.
///
/// After a fork, a handle that was idle works in the child as a new one; any other answers
/// `ForkedHandle`. Dropping a handle releases what it holds, unless `auto_release` is off.
#[derive(Debug)]
pub struct Lock(Arc<Shared>);

/// Marks a handle as in use; unmarks it when dropped.
pub(crate) struct Use(Arc<Shared>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.using.store(0, Ordering::Release);
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
                return Err(Error::unsupported("this store has no permits"));
            }
            _ => {}
        }
        if options.ttl.is_some() && !can.ttl {
            return Err(Error::unsupported(
                "this store has no leases: a lock is held until released or until its owner dies",
            ));
        }
        let needs_lease = can.ttl && !can.frees_on_death;
        let ttl = options.ttl.or(needs_lease.then_some(DEFAULT_LEASE));
        let renew = ttl.is_some() && options.renew.unwrap_or(options.ttl.is_none());
        let auto_release = AtomicBool::new(options.auto_release);
        Ok(Lock(Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            store,
            name,
            options,
            ttl,
            renew,
            auto_release,
            using: AtomicU64::new(0),
            owned: AtomicU64::new(0),
            state: AtomicU8::new(State::Idle as u8),
            phase: Mutex::new(Phase::Idle),
            shown: Mutex::default(),
            lost_fd: OnceCell::new(),
            on_lost: Mutex::default(),
            watched: AtomicU64::new(0),
            running: Mutex::default(),
            orphaned: AtomicBool::new(false),
            late: AtomicBool::new(false),
            notices: Mutex::default(),
            has_notices: AtomicBool::new(false),
        })))
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
    pub(crate) fn enter(&self) -> Result<Use> {
        let now = fork::generation();
        match self
            .0
            .using
            .compare_exchange(0, now, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => {
                let used = Use(self.0.clone());
                if self.is_forked() {
                    Err(self.about("use", Error::outcome(Code::ForkedHandle)))
                } else {
                    Ok(used)
                }
            }
            Err(user) if user == now => Err(self.about("use", Error::outcome(Code::ConcurrentUse))),
            Err(_) => Err(self.about("use", Error::outcome(Code::ForkedHandle))),
        }
    }

    fn is_forked(&self) -> bool {
        let now = fork::generation();
        let (owned, using) = (
            self.0.owned.load(Ordering::Acquire),
            self.0.using.load(Ordering::Acquire),
        );
        (owned != 0 && owned != now) || (using != 0 && using != now)
    }

    fn about(&self, operation: &'static str, error: Error) -> Error {
        self.0.about(operation, error)
    }

    /// The state by this process' own knowledge; asks nobody.
    pub fn state(&self) -> State {
        if self.is_forked() {
            return State::Forked;
        }
        match State::from_u8(self.0.state.load(Ordering::Acquire)) {
            State::Held if self.remaining().is_some_and(|left| left.is_zero()) => State::Expired,
            state => state,
        }
    }

    /// Acquires the lock, waiting as `wait` says; any wait ends when `cancel` is thrown.
    ///
    /// # Errors
    /// Outcomes: `Busy` (`Wait::No`), `Timeout`, `Cancelled`, `Interrupted` (only if the lock is
    /// `interruptible`), `AlreadyHeld`, `Reentered`. Errors: `Unavailable`, `Uncertain`,
    /// `Permission`, `Protocol`, `Exhausted`, `Storage`, `ForkedHandle`, `ConcurrentUse`.
    pub fn acquire(&self, wait: Wait, cancel: Option<&Cancel>) -> Result<Acquired> {
        let _used = self.enter()?;
        self.0
            .acquire(wait, cancel)
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

    /// Gives up the place in the queue that an interrupted acquire kept; nothing is held
    /// afterwards.
    ///
    /// # Errors
    /// `ForkedHandle`, `ConcurrentUse`.
    pub fn abandon(&self) -> Result<()> {
        let _used = self.enter()?;
        self.0.abandon();
        Ok(())
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// `NotHeld` if the handle is idle, `Lost` if the lock was not this owner's any more,
    /// `Uncertain` if the reply was lost (the release goes on in the background), `Unavailable`.
    pub fn release(&self) -> Result<Released> {
        let _used = self.enter()?;
        self.0
            .release()
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
    /// shared hold stays.
    ///
    /// # Errors
    /// `Busy`, `Timeout`, `NotHeld`, `Lost`, `Unsupported`.
    pub fn promote(&self, wait: Wait) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .change_mode(Mode::Exclusive, wait)
            .map_err(|error| self.about("promote", error))
    }

    /// Turns the exclusive hold into a shared one.
    ///
    /// # Errors
    /// `NotHeld`, `Lost`, `Unsupported`.
    pub fn demote(&self) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .change_mode(Mode::Shared, Wait::No)
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
        self.read_hold(|seen| seen.token)
    }

    fn read_hold<T>(&self, read: impl FnOnce(Seen) -> T) -> Option<T> {
        // The parent's mutex may have been locked at the fork.
        if self.is_forked() || self.0.owned.load(Ordering::Acquire) == 0 {
            return None;
        }
        // An event loop that looks must not wait for a server that hangs.
        if self.0.phase.try_lock().is_none()
            && let Some(seen) = *self.0.shown.lock()
        {
            return Some(read(seen));
        }
        let seen = match &*self.0.lock_phase() {
            Phase::Held(hold) => self.0.see(hold),
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
            Phase::Lost => self.0.raise_lost(),
            Phase::Held(hold) => watchdog::start(&self.0, hold.claim.token, hold.lease),
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
        if matches!(&*phase, Phase::Lost) {
            self.0.call_later(Box::new(hook));
            return Ok(());
        }
        self.0.on_lost.lock().push(Box::new(hook));
        if let Phase::Held(hold) = &*phase {
            watchdog::start(&self.0, hold.claim.token, hold.lease);
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

    pub(crate) fn adopt_from(&self, token: OwnerToken, heir: OwnerToken) -> Result<()> {
        let _used = self.enter()?;
        self.0
            .adopt(token, heir)
            .map_err(|error| self.about("adopt", error))
    }

    /// What a host calls at its end for handles that it will not drop: releases the hold unless
    /// `auto_release` is off, and tells of it.
    pub fn end_with_process(&self) {
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
        if self.0.using.load(Ordering::Acquire) != 0 {
            // Dispatch works on it: it ends, and gives back what it is granted.
            self.0.orphaned.store(true, Ordering::SeqCst);
            if let Some(cancel) = &*self.0.running.lock() {
                cancel.cancel();
            }
            return;
        }
        let state = State::from_u8(self.0.state.load(Ordering::Acquire));
        if matches!(state, State::Idle) {
            return;
        }
        if matches!(state, State::Acquiring) {
            self.0.abandon();
        }
        if matches!(state, State::Held) && self.auto_release() {
            self.0.tell(
                EventKind::Forgotten,
                Code::Ok,
                "a handle was dropped while it held the lock",
            );
            self.0.flush_notices();
            // The background keeps an uncertain release going.
            let released = self.0.release();
            self.0.warn_if_lost(released);
        }
    }
}

impl Shared {
    pub(crate) fn lock_phase(&self) -> PhaseGuard<'_> {
        PhaseGuard {
            lock: self,
            phase: Some(self.phase.lock()),
            none: Phase::Idle,
        }
    }

    fn see(&self, hold: &Hold) -> Seen {
        Seen {
            token: hold.claim.token,
            mode: hold.claim.mode,
            until: hold.lease.map(|lease| self.conservative(hold, lease)),
            fence: hold.fence,
        }
    }

    /// Before a request that keeps the phase's mutex locked.
    pub(crate) fn show(&self, hold: &Hold) -> Shown<'_> {
        *self.shown.lock() = Some(self.see(hold));
        Shown(self)
    }

    pub(crate) fn about(&self, operation: &'static str, error: Error) -> Error {
        error
            .with_operation(operation)
            .with_resource(self.name.as_bytes())
            .with_store(self.store.url())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the handle was dropped while dispatch worked on it.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.load(Ordering::SeqCst)
    }

    /// Whether anybody wants to hear of a loss.
    pub(crate) fn is_watched(&self) -> bool {
        self.store.is_observed() || self.lost_fd.get().is_some() || !self.on_lost.lock().is_empty()
    }

    pub(crate) fn set(&self, slot: &mut Phase, next: Phase) {
        let state = match &next {
            Phase::Idle => State::Idle,
            Phase::Pending(..) => State::Acquiring,
            Phase::Held(_) => State::Held,
            Phase::Lost => State::Lost,
            Phase::Releasing(_) => State::Releasing,
        };
        // `owned` first: a fork between the two must never find a hold that looks idle.
        if state != State::Idle {
            self.owned.store(fork::generation(), Ordering::Release);
        }
        self.state.store(state as u8, Ordering::Release);
        *slot = next;
        if state == State::Idle {
            self.owned.store(0, Ordering::Release);
        }
    }

    pub(crate) fn tell(&self, kind: EventKind, code: Code, message: &str) {
        self.tell_with(kind, |event| {
            event.code = code;
            message.clone_into(&mut event.message);
        });
    }

    pub(crate) fn tell_with(&self, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        if self.store.is_observed() {
            self.push_event(kind, fill);
        }
    }

    fn push_event(&self, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        let mut event = Event::new(kind, self.store.url(), Some(&self.name));
        event.label = self.options.label.clone();
        fill(&mut event);
        self.notices.lock().push(Notice::Event(event));
        self.has_notices.store(true, Ordering::Release);
    }

    /// After a release whose caller is told nothing.
    pub(crate) fn warn_if_lost(&self, released: Result<Released>) {
        let is_lost = released.is_err_and(|error| error.code() == Code::Lost);
        if is_lost && !self.is_watched() {
            self.warn_of_loss("the lock was lost before its release");
            self.flush_notices();
        }
    }

    /// Tells of a loss that no call returns and nothing watches for.
    pub(crate) fn warn_of_loss(&self, why: &str) {
        self.push_event(EventKind::Lost, |event| {
            event.code = Code::Lost;
            why.clone_into(&mut event.message);
        });
    }

    /// Calls `hook` when the phase is unlocked next.
    pub(crate) fn call_later(&self, hook: LostHook) {
        self.notices.lock().push(Notice::Hook(hook));
        self.has_notices.store(true, Ordering::Release);
    }

    /// Tells what has happened; never under the mutex, since an observer may wait for a thread of
    /// its host that waits for this lock.
    pub(crate) fn flush_notices(&self) {
        if !self.has_notices.swap(false, Ordering::AcqRel) {
            return;
        }
        let notices = std::mem::take(&mut *self.notices.lock());
        for notice in notices {
            match notice {
                Notice::Event(event) => self.store.tell(&event),
                Notice::Hook(hook) => hook(),
            }
        }
    }

    /// What the store's clock and ours may differ by over a TTL.
    pub(crate) fn drift(&self, ttl: Duration) -> Duration {
        if self.store.capabilities().clock == "server" {
            drift_allowance(ttl)
        } else {
            Duration::ZERO
        }
    }

    /// The deadline that may be shown and acted on: the lease less what clocks may differ by.
    pub(crate) fn conservative(&self, hold: &Hold, lease: BootTime) -> BootTime {
        let drift = hold
            .claim
            .ttl
            .map(|ttl| self.drift(ttl))
            .unwrap_or_default();
        BootTime::from_nanos(
            lease
                .as_nanos()
                .saturating_sub(u64::try_from(drift.as_nanos()).unwrap_or(0)),
        )
    }
}
