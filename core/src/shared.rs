//! What a lock handle shares with the watchdog and with event loops.

use crate::Error;
use crate::Result;
use crate::cancel::Cancel;
use crate::capability::Scope;
use crate::codes::Code;
use crate::event::{Event, EventKind, Facts};
use crate::fork::{self, PerProcess, ProcessFd};
use crate::lease::{BootTime, drift_allowance};
use crate::name::Name;
use crate::options::{LockOptions, Reentry};
use crate::owner::{Numbers, OwnerToken};
use crate::parting::LOST;
use crate::phase::{Gated, Hold, Phase, PhaseGuard, Seen};
use crate::reentry;
use crate::registry::Store;
use crate::service::Place;
use crate::signal::Signal;
use crate::state::{Released, State};
use crate::store::{Claim, Tokens};
use crate::sync::Mutex;
use crate::watchdog;
use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Called once, on the thread that finds out, when a hold is lost.
pub(crate) type LostHook = Box<dyn FnOnce() + Send>;

pub(crate) struct Shared {
    pub(crate) me: Weak<Shared>,
    pub(crate) store: Store,
    pub(crate) name: Name,
    pub(crate) options: LockOptions,
    /// Lease that each grant gets; `None` on stores that see their owner die.
    pub(crate) ttl: Option<Duration>,
    renew: bool,
    /// Renewed all the same, for as long as the rest of its set is waited for.
    keeps: AtomicBool,
    /// Renewed all the same, for its hold has the lease of another handle, and this one asked for none.
    borrows: AtomicBool,
    /// A server keeps the lock, so that each request may take its time, by a clock of its own.
    pub(crate) is_remote: bool,
    /// No verb of the store waits for anybody.
    pub(crate) answers_at_once: bool,
    /// When holds get their tokens.
    pub(crate) tokens: Tokens,
    /// What stands for those that wait; for whoever has the phase.
    numbers: Numbers,
    pub(crate) auto_release: AtomicBool,
    /// Generation in which the handle left `Idle`, 0 while idle.
    pub(crate) owned: AtomicU64,
    pub(crate) state: AtomicU8,
    /// Who uses the handle, and its phase.
    pub(crate) gated: Gated,
    /// The hold as it was before the request that is under way.
    pub(crate) shown: Mutex<Option<Seen>>,
    pub(crate) lost_fd: PerProcess<ProcessFd>,
    on_lost: Mutex<Vec<LostHook>>,
    hooks: AtomicBool,
    /// Rung by a store whose holds end with a session.
    alarm: OnceBox<Arc<Signal>>,
    /// The watchdog's one entry for this handle.
    pub(crate) watched: watchdog::entry::Entry,
    /// Ends the operation that dispatch runs on this handle.
    pub(crate) running: Mutex<Option<Cancel>>,
    pub(crate) orphaned: AtomicBool,
    /// The last release came after the lease.
    pub(crate) late: AtomicBool,
    /// Who uses the handle now, where that changes; of a manager.
    asker: Mutex<Option<Arc<str>>>,
    /// When the hold that was lost last began, in nanoseconds since boot.
    pub(crate) lost_since: AtomicU64,
    /// The fencing token of the hold that was lost; 0 if it had none.
    pub(crate) lost_fence: AtomicU64,
    notices: Mutex<Vec<Notice>>,
    has_notices: AtomicBool,
}

/// What is to be told once the phase is unlocked.
enum Notice {
    Event(Box<Event>),
    Hook(LostHook),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name)
            .field("store", &self.store.url())
            .finish_non_exhaustive()
    }
}

/// Lets readers see the hold while a request keeps the phase locked; until it is dropped.
pub(crate) struct Shown<'a>(Option<&'a Shared>);

impl Drop for Shown<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lock) = self.0 {
            *lock.shown.lock() = None;
        }
    }
}

impl Shared {
    pub(crate) fn new(
        store: Store,
        name: Name,
        options: LockOptions,
        ttl: Option<Duration>,
        renew: bool,
    ) -> Arc<Self> {
        let shares = options.reentry != Reentry::Independent;
        Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            is_remote: store.capabilities().clock == "server"
                || store.capabilities().scope == Scope::Cluster,
            answers_at_once: store.backend().answers_at_once(),
            // Holds that several handles share are found by their token alone.
            tokens: if shares {
                Tokens::Drawn
            } else {
                store.backend().tokens()
            },
            numbers: Numbers::default(),
            auto_release: AtomicBool::new(options.auto_release),
            store,
            name,
            options,
            ttl,
            renew,
            keeps: AtomicBool::new(false),
            borrows: AtomicBool::new(false),
            owned: AtomicU64::new(0),
            state: AtomicU8::new(State::Idle as u8),
            gated: Gated::new(),
            shown: Mutex::default(),
            lost_fd: PerProcess::new(),
            on_lost: Mutex::default(),
            hooks: AtomicBool::new(false),
            alarm: OnceBox::new(),
            watched: watchdog::entry::Entry::new(),
            running: Mutex::default(),
            orphaned: AtomicBool::new(false),
            late: AtomicBool::new(false),
            asker: Mutex::default(),
            lost_since: AtomicU64::new(0),
            lost_fence: AtomicU64::new(0),
            notices: Mutex::default(),
            has_notices: AtomicBool::new(false),
        })
    }

    #[inline]
    pub(crate) fn lock_phase(&self) -> PhaseGuard<'_> {
        PhaseGuard::new(self)
    }

    pub(crate) fn see(&self, hold: &Hold) -> Seen {
        let (mode, fence) = reentry::latest(hold);
        Seen {
            token: hold.claim.token,
            mode,
            until: hold.lease.map(|lease| self.conservative(hold, lease)),
            fence,
        }
    }

    /// Before a request that keeps the phase locked, unless that is over in a moment.
    #[inline]
    pub(crate) fn show(&self, hold: &Hold) -> Shown<'_> {
        if !self.is_remote {
            return Shown(None);
        }
        *self.shown.lock() = Some(self.see(hold));
        Shown(Some(self))
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

    /// Whether its leases are renewed in the background.
    pub(crate) fn renews(&self) -> bool {
        self.renew || self.keeps.load(Ordering::Acquire) || self.borrows.load(Ordering::Acquire)
    }

    /// Has the present hold renewed, or no more, whatever the options say; `watch` must follow.
    pub(crate) fn keep(&self, on: bool) {
        let is_needed = !self.renew && !self.store.is_caller_thread_only();
        self.keeps.store(on && is_needed, Ordering::Release);
    }

    /// Notes whether the hold that begins has a lease that the handle did not ask for.
    pub(crate) fn borrow(&self, on: bool) {
        let may_renew = self.options.renew != Some(false) && !self.store.is_caller_thread_only();
        self.borrows.store(on && may_renew, Ordering::Release);
    }

    /// Puts the hold under watch that is to be kept.
    pub(crate) fn watch(&self) {
        if self.keeps.load(Ordering::Acquire)
            && let Phase::Held(hold) = &*self.lock_phase()
        {
            watchdog::start(self, hold);
        }
    }

    /// Whether anybody wants to hear of a loss.
    pub(crate) fn is_watched(&self) -> bool {
        self.store.is_observed() || self.lost_fd.get().is_some() || self.has_hooks()
    }

    /// The handle's claim, with a token if one is needed: the one of the last hold, or the first.
    #[inline]
    pub(crate) fn take_claim(&self, phase: &mut Phase, now: BootTime) -> Result<Box<Claim>> {
        let spare = match phase {
            Phase::Idle(spare) | Phase::Lost(spare) => spare.take(),
            _ => None,
        };
        let mut claim = spare.unwrap_or_else(|| Box::new(self.new_claim()));
        claim.token = self.first_token()?;
        claim.ttl = self.kept_for(self.ttl);
        claim.mode = self.options.mode;
        claim.deadline = None;
        claim.asked = now;
        Ok(claim)
    }

    /// A token at once if the store or somebody who listens needs one.
    #[inline]
    pub(crate) fn first_token(&self) -> Result<OwnerToken> {
        match self.tokens {
            _ if self.store.is_observed() => self.store.draw_token(),
            Tokens::Drawn => self.store.draw_token(),
            Tokens::Numbered => Ok(OwnerToken::numbered(self.numbers.next())),
            Tokens::Seated => Ok(OwnerToken::NONE),
        }
    }

    /// Gives a hold its token, if it had to wait for one.
    pub(crate) fn name_owner(&self, claim: &mut Claim) -> Result<OwnerToken> {
        if self.tokens != Tokens::Drawn && !claim.token.is_drawn() {
            let before = std::mem::replace(&mut claim.token, self.store.draw_token()?);
            self.store.backend().name_owner(claim, before);
        }
        Ok(claim.token)
    }

    /// Puts an unused claim back.
    pub(crate) fn keep_claim(phase: &mut Phase, claim: Box<Claim>) {
        if let Phase::Idle(spare) | Phase::Lost(spare) = phase {
            *spare = Some(claim);
        }
    }

    /// Goes over to the next phase; an idle one takes the claim along, unless it brings one.
    pub(crate) fn set(&self, slot: &mut Phase, next: Phase) {
        let state = next.state();
        // `owned` first: a fork between the two must never find a hold that looks idle.
        if state != State::Idle {
            self.owned.store(fork::generation(), Ordering::Release);
        }
        self.state.store(state as u8, Ordering::Release);
        let last = std::mem::replace(slot, next);
        if let Phase::Idle(spare @ None) = slot {
            *spare = last.into_claim();
        }
        if state == State::Idle {
            self.owned.store(0, Ordering::Release);
        }
    }

    /// As `set`, for the step that most take: from idle or lost to held.
    #[inline]
    pub(crate) fn set_held(&self, slot: &mut Phase, hold: Hold) {
        // In this order, for the same reason.
        self.owned.store(fork::generation(), Ordering::Release);
        self.state.store(State::Held as u8, Ordering::Release);
        match std::mem::replace(slot, Phase::Held(hold)) {
            // Nothing is in it: what most leave is not looked through once more.
            empty @ Phase::Idle(None) => std::mem::forget(empty),
            last => drop(last),
        }
    }

    /// As `set`, for the way back: from held to idle, with the claim for the next hold.
    #[inline]
    pub(crate) fn set_released(&self, slot: &mut Phase) {
        self.state.store(State::Idle as u8, Ordering::Release);
        let last = std::mem::replace(slot, Phase::Idle(None));
        if let Phase::Idle(spare) = slot {
            *spare = last.into_claim();
        }
        self.owned.store(0, Ordering::Release);
    }

    /// Becomes idle without a trace: the hold is not this handle's any more, but may go on.
    pub(crate) fn let_go(&self, slot: &mut Phase) {
        self.set(slot, Phase::Idle(None));
        if let Phase::Idle(spare) = slot {
            drop(spare.take());
        }
    }

    pub(crate) fn tell(&self, kind: EventKind, code: Code, message: &str) {
        self.tell_with(kind, |facts| {
            facts.code = code;
            facts.message = message;
        });
    }

    #[inline]
    pub(crate) fn tell_with<'a>(&self, kind: EventKind, fill: impl FnOnce(&mut Facts<'a>)) {
        if self.store.is_heard() {
            let mut facts = Facts::default();
            fill(&mut facts);
            self.note(kind, &facts);
        }
    }

    /// Counts it, and keeps it for those who listen.
    #[cold]
    fn note(&self, kind: EventKind, facts: &Facts<'_>) {
        if let Some(meters) = self.store.meters() {
            meters.note(kind, facts);
        }
        if !self.store.is_observed() {
            return;
        }
        let mut event = self.event(kind);
        event.code = facts.code;
        event.owner = facts.owner.shown();
        event.waited = facts.waited;
        event.held = facts.held;
        event.attempts = facts.attempts;
        facts.message.clone_into(&mut event.message);
        if let (EventKind::Acquired, Some(_), Some(ttl)) = (kind, &event.key, self.ttl) {
            event.message = format!("acquired (ttl {} s)", ttl.as_secs_f64());
        }
        self.push(event);
    }

    fn event(&self, kind: EventKind) -> Event {
        let mut event = Event::new(kind, self.store.url(), Some(&self.name));
        event.label = self.options.label.clone();
        event.caller = self.caller();
        event.key = self.options.key.clone();
        if event.key.is_some() {
            event.level = kind.level_of_manager();
        }
        event
    }

    /// Who asks, for events.
    pub(crate) fn caller(&self) -> Option<Arc<str>> {
        let asker = self.asker.lock().clone();
        asker.or_else(|| self.options.caller.clone())
    }

    fn push(&self, event: Event) {
        self.notices.lock().push(Notice::Event(Box::new(event)));
        self.has_notices.store(true, Ordering::Release);
    }

    /// Who asks for what is done next, for the events that follow.
    pub(crate) fn ask_for(&self, caller: Option<Arc<str>>) {
        *self.asker.lock() = caller;
    }

    /// After a release whose caller is told nothing.
    pub(crate) fn warn_if_lost(&self, released: Result<Released>) {
        let is_lost = released.is_err_and(|error| error.code() == Code::Lost);
        if is_lost && !self.is_watched() {
            self.warn_of_loss(LOST);
            self.flush_notices();
        }
    }

    /// Tells of a loss that no call returns and nothing watches for.
    pub(crate) fn warn_of_loss(&self, why: &str) {
        let mut event = self.event(EventKind::Lost);
        event.code = Code::Lost;
        why.clone_into(&mut event.message);
        self.push(event);
    }

    /// Tells of what the store has to do without.
    pub(crate) fn warn_of_store(&self, words: String) {
        if !self.options.cautions {
            return;
        }
        let mut event = self.event(EventKind::Warning);
        event.resource.clear();
        event.message = words;
        self.push(event);
    }

    #[inline]
    fn has_hooks(&self) -> bool {
        self.hooks.load(Ordering::Acquire)
    }

    /// The bell that has the service thread look whether the hold stands.
    pub(crate) fn alarm(&self) -> &Arc<Signal> {
        self.alarm.get_or_init(|| {
            let me = self.me.clone();
            let place = Place::of(&self.store);
            let bell = Signal::with_hook(move || watchdog::look_soon(place, me.clone()));
            Box::new(Arc::new(bell))
        })
    }

    /// Notes whom to call when the hold is lost.
    pub(crate) fn add_hook(&self, hook: LostHook) {
        self.on_lost.lock().push(hook);
        self.hooks.store(true, Ordering::Release);
    }

    /// Forgets everybody on the list.
    #[inline]
    pub(crate) fn drop_hooks(&self) {
        if self.has_hooks() {
            drop(self.take_hooks());
        }
    }

    /// Takes everybody off the list.
    pub(crate) fn take_hooks(&self) -> Vec<LostHook> {
        let hooks = std::mem::take(&mut *self.on_lost.lock());
        self.hooks.store(false, Ordering::Release);
        hooks
    }

    /// Calls `hook` when the phase is unlocked next.
    pub(crate) fn call_later(&self, hook: LostHook) {
        self.notices.lock().push(Notice::Hook(hook));
        self.has_notices.store(true, Ordering::Release);
    }

    /// Tells what has happened; never while the phase is locked, since an observer may wait for a thread of
    /// its host that waits for this lock.
    #[inline]
    pub(crate) fn flush_notices(&self) {
        if self.has_notices() {
            self.tell_notices();
        }
    }

    /// A look costs nothing; whoever noted something calls `flush_notices` afterwards.
    #[inline]
    pub(crate) fn has_notices(&self) -> bool {
        self.has_notices.load(Ordering::Acquire)
    }

    #[cold]
    fn tell_notices(&self) {
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

    /// How long the store is to keep a hold that lasts for `ttl`.
    #[inline]
    pub(crate) fn kept_for(&self, ttl: Option<Duration>) -> Option<Duration> {
        ttl.map(|ttl| ttl + self.options.lock_delay)
    }

    /// The end of the lease, of what the store keeps until `kept`: the lock delay follows it.
    #[inline]
    pub(crate) fn lease(&self, kept: Option<BootTime>) -> Option<BootTime> {
        let delay = self.options.lock_delay;
        if delay.is_zero() {
            return kept;
        }
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        kept.map(|kept| BootTime::from_nanos(kept.as_nanos().saturating_sub(delay)))
    }

    /// What the store's clock and ours may differ by over a TTL.
    pub(crate) fn drift(&self, ttl: Duration) -> Duration {
        if self.is_remote {
            // What the store keeps beyond the lease is no time to be sure of.
            drift_allowance(ttl.saturating_sub(self.options.lock_delay))
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
        lease.before(drift)
    }
}
