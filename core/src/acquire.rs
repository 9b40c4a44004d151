//! Acquiring: the one waiting loop, as steps that a thread of the caller or the service thread takes.

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::event::EventKind;
use crate::lease::{BootTime, Wait};
use crate::options::Reentry;
use crate::owner::OwnerToken;
use crate::phase::{Hold, Pending, Phase, PhaseUse, Step, Undo};
use crate::reentry;
use crate::service;
use crate::shared::Shared;
use crate::signal::{Signal, Wake};
use crate::state::Acquired;
use crate::store::pipe::Ask;
use crate::store::{Attempt, Busy, Cancelled, Claim, Grant, Seat};
use crate::watchdog;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long a waiter may go without asking the store.
const SAFETY_POLL: Duration = Duration::from_secs(5);
/// The longest sleep before time is judged again.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How far an exchange with a server may outlast the caller's deadline: less would make the last
/// look before it an uncertain one.
const GRACE: Duration = Duration::from_millis(40);
/// What leaving the queue has in any case.
const SHORT_GRACE: Duration = Duration::from_millis(10);
/// How often an interruptible wait gives the host a turn.
const HOST_TURN: Duration = Duration::from_millis(200);

/// Where an acquire goes next.
pub(crate) enum Look<'a> {
    /// Nobody need be asked.
    Over(Step),
    /// To the store.
    Ask(Ask, &'a Claim),
}

impl Shared {
    pub(crate) fn new_claim(&self) -> Claim {
        // Holds that several handles share are found by their token alone.
        let shares = self.options.reentry != Reentry::Independent;
        Claim {
            name: self.name.clone(),
            token: OwnerToken::NONE,
            recurs: false,
            mode: self.options.mode,
            ttl: self.kept_for(self.ttl),
            deadline: None,
            fence_block: 1,
            fence_least: 0,
            label: self.options.label.clone(),
            fair: self.options.fair,
            asked: BootTime::from_nanos(0),
            seat: if shares { Seat::none() } else { Seat::new() },
        }
    }

    /// Acquires on the caller's thread.
    #[inline]
    pub(crate) fn acquire(
        &self,
        mut phase: PhaseUse<'_>,
        wait: Wait,
        cancel: Option<&Cancel>,
    ) -> Result<Acquired> {
        let started = BootTime::now();
        // Most locks are free: the way without queue and bell comes first. A server is asked once.
        let free = matches!(wait, Wait::No) || !self.is_remote;
        let is_cancelled = cancel.is_some_and(Cancel::is_cancelled);
        if free && !is_cancelled && !matches!(&*phase, Phase::Pending(..)) {
            if let Some(acquired) = self.try_now(&mut phase, started)? {
                return Ok(acquired);
            }
            if matches!(wait, Wait::No) {
                return Err(self.refuse(Code::Busy, Duration::ZERO));
            }
        }
        let _used = phase.unlock();
        self.wait_for(wait, started, cancel)
    }

    /// The long way: what was interrupted, a server that is to queue the claim, and what is taken.
    pub(crate) fn wait_for(
        &self,
        wait: Wait,
        started: BootTime,
        cancel: Option<&Cancel>,
    ) -> Result<Acquired> {
        let bell = match &*self.lock_phase() {
            Phase::Pending(_, bell) => bell.clone(),
            _ => Arc::default(),
        };
        let step = self.begin(wait, started, cancel, &bell)?;
        self.drive(step, &bell)
    }

    /// The short way alone; nothing if the lock is not free.
    pub(crate) fn acquire_at_once(&self, phase: &mut Phase) -> Result<Option<Acquired>> {
        let started = BootTime::now();
        if matches!(phase, Phase::Pending(..)) {
            // An interrupted acquire keeps its place, and its way to go on.
            return Ok(None);
        }
        self.try_now(phase, started)
    }

    /// After a single look.
    #[cold]
    pub(crate) fn refuse(&self, outcome: Code, waited: Duration) -> Error {
        self.tell_with(EventKind::Refused, |facts| {
            facts.code = outcome;
            facts.waited = waited;
            facts.attempts = 1;
            facts.message = match outcome {
                Code::Busy => "busy",
                other => other.text(),
            };
        });
        Error::outcome(outcome)
    }

    /// Starts an acquire, or goes on with an interrupted one.
    pub(crate) fn begin(
        &self,
        wait: Wait,
        started: BootTime,
        cancel: Option<&Cancel>,
        bell: &Arc<Signal>,
    ) -> Result<Step> {
        let mut phase = self.lock_phase();
        match self.ready(&mut phase, wait, started, cancel, bell)? {
            Some(step) => Ok(step),
            None => self.step(&mut phase, bell),
        }
    }

    /// As `begin`, without asking the store yet: nothing if that is next.
    pub(crate) fn ready(
        &self,
        phase: &mut Phase,
        wait: Wait,
        started: BootTime,
        cancel: Option<&Cancel>,
        bell: &Arc<Signal>,
    ) -> Result<Option<Step>> {
        let deadline = match wait {
            Wait::No => Some(started),
            Wait::For(duration) => Some(started.after(duration)),
            Wait::Forever => None,
        };
        let pending = match &mut *phase {
            Phase::Pending(pending, _) => {
                pending.deadline = deadline;
                pending.cancel = cancel.cloned();
                let next = pending.next_look.min(deadline.unwrap_or(pending.next_look));
                if next > started && !bell.is_rung() {
                    // Nothing new: the host had its turn, and the store need not be asked.
                    if let Some(cancel) = cancel {
                        cancel.attach(bell);
                    }
                    return Ok(Some(Step::Sleep(next)));
                }
                true
            }
            Phase::Held(hold) if !hold.has_ended() => return Err(refuse_second(hold)),
            _ => false,
        };
        if !pending {
            if let Some(acquired) = reentry::check(self, phase)? {
                return Ok(Some(Step::Granted(acquired)));
            }
            let claim = self.take_claim(phase, started)?;
            let pending = Pending {
                claim,
                started,
                deadline,
                cancel: cancel.cloned(),
                attempts: 0,
                queued: false,
                next_look: started,
            };
            self.set(phase, Phase::Pending(Box::new(pending), bell.clone()));
        }
        if let Some(cancel) = cancel {
            cancel.attach(bell);
        }
        Ok(None)
    }

    /// The short way of an acquire that does not wait: no queue, no bell; nothing if it is busy. A
    /// child of a fork at this moment sees by the gate that the handle is not its own.
    #[inline]
    fn try_now(&self, phase: &mut Phase, started: BootTime) -> Result<Option<Acquired>> {
        if let Phase::Held(hold) = phase
            && !hold.has_ended()
        {
            return Err(refuse_second(hold));
        }
        if let Some(acquired) = reentry::check(self, phase)? {
            return Ok(Some(acquired));
        }
        let claim = self.take_claim(phase, started)?;
        match self.store.backend().attempt(&claim, None) {
            Ok(Attempt::Granted(grant)) if !self.is_too_late(&claim, &grant) => {
                Ok(Some(self.hold(phase, claim, &grant, started, 1, false)))
            }
            other => self.not_now(phase, claim, other),
        }
    }

    /// What a single look comes to that brought no hold.
    #[cold]
    pub(crate) fn not_now(
        &self,
        phase: &mut Phase,
        claim: Box<Claim>,
        answer: Result<Attempt>,
    ) -> Result<Option<Acquired>> {
        match answer {
            Ok(Attempt::Granted(_)) => {
                self.give_back(&claim);
                Self::keep_claim(phase, claim);
                let words = "the grant took longer to arrive than its lease lasts";
                Err(Error::new(Code::Unavailable, words))
            }
            Ok(Attempt::Busy(_)) => {
                Self::keep_claim(phase, claim);
                Ok(None)
            }
            Err(error) => {
                self.burn_if_uncertain(&claim, &error);
                Self::keep_claim(phase, claim);
                Err(error)
            }
        }
    }

    /// A hold that arrives with less left than clocks may differ by is none. On this host a grant
    /// takes no time to arrive, and a lease that has run out is seen by the clock.
    #[inline]
    pub(crate) fn is_too_late(&self, claim: &Claim, grant: &Grant) -> bool {
        if !self.is_remote {
            return false;
        }
        match (claim.ttl, self.lease(grant.lease)) {
            (Some(ttl), Some(lease)) => lease.left() <= self.drift(ttl),
            _ => false,
        }
    }

    /// Whether what is pending was granted for too short a time.
    pub(crate) fn came_too_late(&self, grant: &Grant) -> bool {
        match &*self.lock_phase() {
            Phase::Pending(pending, _) => self.is_too_late(&pending.claim, grant),
            _ => false,
        }
    }

    pub(crate) fn give_back(&self, claim: &Claim) {
        if self.store.backend().release(claim).is_err() {
            service::burn(self.store.clone(), claim.clone());
        }
    }

    pub(crate) fn burn_if_uncertain(&self, claim: &Claim, error: &Error) {
        if error.code() == Code::Uncertain && !cfg!(canary = "keep_ghost") {
            service::burn(self.store.clone(), claim.clone());
        }
        self.tell(EventKind::Refused, error.code(), error.message());
    }

    /// One more look, after the bell or the time.
    pub(crate) fn resume(&self, bell: &Arc<Signal>) -> Result<Step> {
        self.step(&mut self.lock_phase(), bell)
    }

    fn step(&self, phase: &mut Phase, bell: &Arc<Signal>) -> Result<Step> {
        let (ask, claim) = match self.look(phase, true)? {
            Look::Over(step) => return Ok(step),
            Look::Ask(ask, claim) => (ask, claim),
        };
        let backend = self.store.backend();
        let answer = match ask {
            Ask::Queue => backend.attempt(claim, Some(bell)),
            Ask::Confirm => backend.confirm(claim, bell),
            Ask::Try | Ask::Release => backend.attempt(claim, None),
        };
        self.looked(phase, ask, answer)
    }

    /// Whether the next step leaves the queue.
    pub(crate) fn gives_up(&self, phase: &Phase) -> bool {
        let Phase::Pending(pending, _) = phase else {
            return false;
        };
        let cancelled = pending.cancel.as_ref().is_some_and(Cancel::is_cancelled);
        cancelled || pending.deadline.is_some_and(BootTime::has_passed)
    }

    /// The claim whose answer is under way.
    pub(crate) fn posted_claim(&self) -> Option<Claim> {
        match &*self.lock_phase() {
            Phase::Pending(pending, _) => Some((*pending.claim).clone()),
            Phase::Releasing(hold) => Some((*hold.claim).clone()),
            _ => None,
        }
    }

    /// What the store is to be asked next, if anything. Only who was `rung` for may have been made an offer.
    pub(crate) fn look<'a>(&self, phase: &'a mut Phase, rung: bool) -> Result<Look<'a>> {
        let Phase::Pending(pending, _) = &mut *phase else {
            return Err(Error::new(Code::Internal, "no acquire is under way"));
        };
        let now = BootTime::now();
        let cancelled = pending.cancel.as_ref().is_some_and(Cancel::is_cancelled);
        let over = pending.deadline.is_some_and(|deadline| now >= deadline);
        // The first attempt is made even if no time was given.
        if pending.attempts > 0 && (cancelled || over) {
            let outcome = if cancelled {
                Code::Cancelled
            } else {
                out_of_time(pending)
            };
            return self.give_up(phase, outcome).map(Look::Over);
        }
        if cancelled {
            self.set(phase, Phase::Idle(None));
            return Err(Error::outcome(Code::Cancelled));
        }
        let first = pending.attempts == 0;
        pending.attempts += 1;
        let waits = !over;
        pending.claim.asked = now;
        pending.claim.deadline = if waits {
            pending.deadline.map(exchange_deadline)
        } else {
            None
        };
        let ask = match (waits, first || !rung) {
            (false, _) => Ask::Try,
            (true, true) => Ask::Queue,
            (true, false) => Ask::Confirm,
        };
        // Borrowed anew, for a handle that may be given up above.
        let Phase::Pending(pending, _) = phase else {
            return Err(Error::new(Code::Internal, "no acquire is under way"));
        };
        Ok(Look::Ask(ask, &pending.claim))
    }

    /// Notes what the store has answered.
    pub(crate) fn looked(
        &self,
        phase: &mut Phase,
        ask: Ask,
        answer: Result<Attempt>,
    ) -> Result<Step> {
        let Phase::Pending(pending, _) = &mut *phase else {
            return Err(Error::new(Code::Internal, "no acquire is under way"));
        };
        let backend = self.store.backend();
        let waits = ask != Ask::Try;
        let now = pending.claim.asked;
        match answer {
            Ok(Attempt::Granted(grant)) => {
                if self.is_too_late(&pending.claim, &grant) {
                    self.give_back(&pending.claim);
                    // A new token: the old one was released and may still be on its way.
                    pending.claim.token = self.store.draw_token()?;
                    return Ok(Step::Sleep(BootTime::now()));
                }
                Ok(Step::Granted(self.hold_pending(phase, &grant, false)))
            }
            Ok(Attempt::Busy(_)) if !waits => {
                let outcome = out_of_time(pending);
                let waited = now.since(pending.started);
                self.set(phase, Phase::Idle(None));
                Err(self.refuse(outcome, waited))
            }
            Ok(Attempt::Busy(busy)) => {
                if busy.spent {
                    pending.claim.token = self.store.draw_token()?;
                }
                if !pending.queued {
                    pending.queued = true;
                    self.tell(EventKind::Waiting, Code::Busy, "waiting");
                    while let Some(words) = backend.take_caution() {
                        self.warn_of_store(words);
                    }
                }
                Ok(Step::Sleep(next_look(pending, busy)))
            }
            // The server has not answered in time, but that the lock was taken is known.
            Err(error)
                if pending.queued
                    && error.is_trouble()
                    && pending.deadline.is_some_and(BootTime::has_passed) =>
            {
                self.give_up(phase, Code::Timeout)
            }
            Err(error) => {
                let claim = (*pending.claim).clone();
                let queued = pending.queued || waits;
                self.set(phase, Phase::Idle(None));
                if queued && error.code() != Code::Uncertain {
                    // It may stand in the queue: take it out.
                    service::burn(self.store.clone(), claim.clone());
                }
                self.burn_if_uncertain(&claim, &error);
                Err(error)
            }
        }
    }

    /// Leaves the queue; granted meanwhile counts, unless the caller cancelled.
    fn give_up(&self, phase: &mut Phase, outcome: Code) -> Result<Step> {
        let Phase::Pending(pending, _) = &mut *phase else {
            return Err(Error::outcome(outcome));
        };
        let (started, attempts) = (pending.started, pending.attempts);
        // Leaving the queue must not fail for want of the time that has just run out, but the last look may
        // have used up the grace: what is not answered then is left to the background.
        let now = BootTime::now();
        let grace = exchange_deadline(pending.deadline.map_or(now, |deadline| deadline.min(now)));
        pending.claim.asked = now;
        pending.claim.deadline = Some(grace.max(now.after(SHORT_GRACE)));
        match self.store.backend().cancel(&pending.claim) {
            Ok(Cancelled::Granted(grant)) if !self.is_too_late(&pending.claim, &grant) => {
                return Ok(Step::Granted(self.hold_pending(phase, &grant, true)));
            }
            Ok(Cancelled::Granted(_)) => {
                self.give_back(&pending.claim);
                self.set(phase, Phase::Idle(None));
            }
            Ok(Cancelled::Gone) => self.set(phase, Phase::Idle(None)),
            Err(_) => {
                // Unknown whether we still wait or even hold: the background sees to it.
                service::burn(self.store.clone(), (*pending.claim).clone());
                self.set(phase, Phase::Idle(None));
            }
        }
        self.tell_with(EventKind::Refused, |facts| {
            facts.code = outcome;
            facts.waited = BootTime::now().since(started);
            facts.attempts = attempts;
            facts.message = outcome.text();
        });
        Err(Error::outcome(outcome))
    }

    /// Steps and sleeps until it is over, on the caller's thread.
    pub(crate) fn drive(&self, mut step: Step, bell: &Arc<Signal>) -> Result<Acquired> {
        let turn = self
            .options
            .interruptible
            .then(|| BootTime::now().after(HOST_TURN));
        loop {
            let until = match step {
                Step::Granted(acquired) => return Ok(acquired),
                Step::Sleep(until) => until,
            };
            loop {
                let now = BootTime::now();
                let slice = until
                    .min(now.after(LONGEST_SLEEP))
                    .min(turn.unwrap_or(until));
                match self.store.backend().park(bell, slice) {
                    Ok(Wake::Signalled) => break,
                    Ok(Wake::Interrupted) if turn.is_some() => {
                        return Err(Error::outcome(Code::Interrupted));
                    }
                    Ok(_) => {}
                    // The next look will find out what is wrong with the store.
                    Err(_) => break,
                }
                if until.has_passed() {
                    break;
                }
                if turn.is_some_and(BootTime::has_passed) {
                    return Err(Error::outcome(Code::Interrupted));
                }
            }
            step = self.resume(bell)?;
        }
    }

    pub(crate) fn abandon(&self) {
        self.abandon_in(&mut self.lock_phase());
    }

    pub(crate) fn abandon_in(&self, phase: &mut Phase) {
        if let Phase::Pending(pending, _) = &mut *phase {
            let claim = &mut pending.claim;
            claim.deadline = None;
            claim.asked = BootTime::now();
            match self.store.backend().cancel(claim) {
                Ok(Cancelled::Granted(_)) => self.give_back(claim),
                Ok(Cancelled::Gone) => {}
                Err(_) => service::burn(self.store.clone(), (**claim).clone()),
            }
            self.set(phase, Phase::Idle(None));
        }
    }

    /// Takes the last acquire back: its caller does not hear of it, so that nothing is held but what was held before.
    pub(crate) fn undo(&self) {
        self.abandon();
        let mut phase = self.lock_phase();
        let undo = match &*phase {
            Phase::Held(hold) => hold.undo,
            _ => Undo::Nothing,
        };
        match undo {
            Undo::Nothing => {}
            Undo::LetGo => {
                self.let_go(&mut phase);
                self.drop_hooks();
            }
            Undo::Release => {
                drop(phase);
                // An uncertain one goes on in the background.
                let _ = self.release();
            }
        }
    }

    /// Notes the grant of what was waited for.
    fn hold_pending(&self, phase: &mut Phase, grant: &Grant, waited: bool) -> Acquired {
        match std::mem::replace(phase, Phase::Idle(None)) {
            Phase::Pending(pending, _) => {
                let contended = waited || pending.queued;
                let (started, attempts) = (pending.started, pending.attempts);
                self.hold(phase, pending.claim, grant, started, attempts, contended)
            }
            other => {
                *phase = other;
                Acquired::default()
            }
        }
    }

    /// Notes a grant; from here on the handle holds.
    #[inline]
    pub(crate) fn hold(
        &self,
        phase: &mut Phase,
        mut claim: Box<Claim>,
        grant: &Grant,
        started: BootTime,
        attempts: u32,
        contended: bool,
    ) -> Acquired {
        // On this host the first look takes no time worth another look at the clock.
        let at_once = attempts == 1 && !contended && !self.is_remote;
        let now = if at_once { started } else { BootTime::now() };
        // It bounded the acquire; what is asked of the hold later has its own time.
        claim.deadline = None;
        if self.is_remote {
            let alone = attempts == 1 && !contended;
            self.note_answer(alone.then(|| now.since(started)), claim.ttl);
        }
        let acquired = Acquired {
            waited: now.since(started),
            contended,
            attempts,
            fence: grant.fence,
            recovered: grant.recovered,
            extended: false,
        };
        let shares = self.options.reentry != Reentry::Independent;
        let common = shares.then(|| reentry::note(self, &claim, grant.fence));
        let owner = claim.token;
        let lease = self.lease(grant.lease);
        self.quiet_lost();
        self.set_held(
            phase,
            Hold {
                claim,
                lease,
                fence: grant.fence,
                since: now,
                unsure: false,
                common,
                undo: Undo::Release,
            },
        );
        // Nobody watches what neither runs out nor ends with a server.
        if (lease.is_some() || self.is_remote)
            && let Phase::Held(hold) = &*phase
        {
            watchdog::start(self, hold);
        }
        self.tell_with(EventKind::Acquired, |facts| {
            facts.owner = owner;
            facts.waited = acquired.waited;
            facts.attempts = attempts;
            facts.message = "acquired";
        });
        acquired
    }

    /// What a server's answer tells about it, and how long it `took` if that is to be judged.
    fn note_answer(&self, took: Option<Duration>, ttl: Option<Duration>) {
        let slow = took.and_then(|took| self.store.judge_answer(ttl, took));
        while let Some(words) = self.store.backend().take_caution() {
            self.warn_of_store(words);
        }
        if let Some(words) = slow {
            self.warn_of_store(words);
        }
    }
}

/// Of an acquire on a handle that holds: it is no part of how the hold came about.
#[cold]
fn refuse_second(hold: &mut Hold) -> Error {
    hold.undo = Undo::Nothing;
    Error::outcome(Code::AlreadyHeld)
}

/// Until when an exchange may take that began within the caller's deadline.
pub(crate) fn exchange_deadline(deadline: BootTime) -> BootTime {
    deadline.after(GRACE)
}

/// What it comes to when no time is left: who had none to begin with has only tried.
fn out_of_time(pending: &Pending) -> Code {
    let had_time = pending.deadline.is_none_or(|end| end > pending.started);
    if pending.queued || had_time {
        Code::Timeout
    } else {
        Code::Busy
    }
}

fn next_look(pending: &mut Pending, busy: Busy) -> BootTime {
    let now = BootTime::now();
    // Spread out, so that waiters of one server do not ask in step.
    let jitter = u32::from(pending.claim.token.as_bytes()[0]) * 2;
    let mut next = now.after(SAFETY_POLL + Duration::from_millis(jitter.into()));
    for at in [busy.until, busy.poll, pending.deadline]
        .into_iter()
        .flatten()
    {
        next = next.min(at);
    }
    pending.next_look = next;
    next
}
