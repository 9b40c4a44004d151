//! What a holder does: release, refresh, check, change of mode, export and adoption.

use crate::acquire::exchange_deadline;
use crate::broken;
use crate::cancel::Cancel;
use crate::capability::Fence;
use crate::codes::Code;
use crate::event::EventKind;
use crate::lease::{BootTime, Wait};
use crate::mode::Mode;
use crate::name::Name;
use crate::options::check_ttl;
use crate::owner::OwnerToken;
use crate::parting::LOST;
use crate::phase::{Hold, Phase, Undo};
use crate::reentry;
use crate::service;
use crate::shared::Shared;
use crate::state::Released;
use crate::store::{Answer, Attempt, Claim};
use crate::url::encode;
use crate::watchdog;
use crate::{Error, Result};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a refused promotion asks again.
const PROMOTE_POLL: Duration = Duration::from_millis(10);

/// What is to be told of a hold that ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    late: bool,
    since: BootTime,
    owner: OwnerToken,
}

impl Shared {
    pub(crate) fn release(&self) -> Result<Released> {
        self.release_in(&mut self.lock_phase())
    }

    #[inline]
    pub(crate) fn release_in(&self, phase: &mut Phase) -> Result<Released> {
        let Some(ending) = self.begin_release(phase)? else {
            self.abandon_in(phase);
            return Err(Error::outcome(Code::NotHeld));
        };
        let (Phase::Held(hold) | Phase::Releasing(hold)) = &*phase else {
            return Err(Error::outcome(Code::NotHeld));
        };
        let backend = self.store.backend();
        // After the lease its answer says whether the lock was still ours.
        if backend.leaves_releases()
            && !ending.late
            && matches!(&*phase, Phase::Held(_))
            && backend
                .release_unanswered(&hold.claim, self.parting(ending.owner))
                .is_none()
        {
            return Ok(self.released(phase, ending, "released; its answer is not waited for"));
        }
        let shown = self.show(hold);
        let answer = backend.release(&hold.claim);
        drop(shown);
        self.end_release(phase, ending, answer)
    }

    /// What precedes the request; nothing if an acquire is to be abandoned instead.
    #[inline]
    fn begin_release(&self, phase: &mut Phase) -> Result<Option<Ending>> {
        let retried = matches!(&*phase, Phase::Releasing(_));
        let hold = match &mut *phase {
            Phase::Idle(_) => return Err(Error::outcome(Code::NotHeld)),
            Phase::Pending(..) => return Ok(None),
            Phase::Lost(_) => {
                self.set(phase, Phase::Idle(None));
                return Err(Error::outcome(Code::Lost));
            }
            Phase::Held(hold) | Phase::Releasing(hold) => hold,
        };
        let common = hold.common.as_ref();
        let ended_before = common.is_some_and(|common| common.end());
        reentry::catch_up(hold);
        if ended_before && !retried {
            // Another handle of this process has released the hold that both shared.
            self.set(phase, Phase::Idle(None));
            return Err(Error::outcome(Code::NotHeld));
        }
        let late = hold.lease.is_some_and(BootTime::has_passed);
        if self.store.is_observed() {
            // Whoever began to listen meanwhile is told whose hold ends.
            let _ = self.name_owner(&mut hold.claim);
        }
        Ok(Some(Ending {
            late,
            since: hold.since,
            owner: hold.claim.token,
        }))
    }

    /// Begins a release whose answer comes later. Readers see the hold meanwhile; the watchdog does not.
    pub(crate) fn post_release(&self, phase: &mut Phase) -> Result<Option<(Ending, Claim)>> {
        let Some(ending) = self.begin_release(phase)? else {
            return Ok(None);
        };
        match std::mem::replace(&mut *phase, Phase::Idle(None)) {
            Phase::Held(hold) | Phase::Releasing(hold) => {
                *self.shown.lock() = Some(self.see(&hold));
                let claim = (*hold.claim).clone();
                self.set(phase, Phase::Releasing(hold));
                Ok(Some((ending, claim)))
            }
            other => {
                *phase = other;
                Ok(None)
            }
        }
    }

    /// Notes the answer that came later.
    pub(crate) fn posted_release(
        &self,
        ending: Ending,
        answer: Result<Answer>,
    ) -> Result<Released> {
        let mut phase = self.lock_phase();
        *self.shown.lock() = None;
        self.end_release(&mut phase, ending, answer)
    }

    #[inline]
    fn end_release(
        &self,
        phase: &mut Phase,
        ending: Ending,
        answer: Result<Answer>,
    ) -> Result<Released> {
        match answer {
            Ok(Answer::Done(_)) => Ok(self.released(phase, ending, "released")),
            Ok(Answer::NotOurs) => self.not_released(phase, ending, None),
            Err(error) => self.not_released(phase, ending, Some(error)),
        }
    }

    /// Notes that the hold is over.
    #[inline]
    fn released(&self, phase: &mut Phase, ending: Ending, message: &str) -> Released {
        let Ending { late, since, owner } = ending;
        self.late.store(late, Ordering::Release);
        self.set_released(phase);
        self.drop_hooks();
        self.tell_with(EventKind::Released, |facts| {
            facts.owner = owner;
            facts.held = BootTime::now().since(since);
            facts.message = message;
        });
        Released { late }
    }

    /// A release that did not find the hold, or whose answer did not come.
    #[cold]
    fn not_released(
        &self,
        phase: &mut Phase,
        ending: Ending,
        error: Option<Error>,
    ) -> Result<Released> {
        let tell = |code: Code, message: &str| {
            self.tell_with(EventKind::Lost, |facts| {
                facts.code = code;
                facts.owner = ending.owner;
                facts.held = BootTime::now().since(ending.since);
                facts.message = message;
            });
        };
        match error {
            None => {
                self.set(phase, Phase::Idle(None));
                tell(Code::Lost, LOST);
                Err(Error::outcome(Code::Lost))
            }
            // The store has given back what there was.
            Some(error) if error.ends_hold() => {
                self.set(phase, Phase::Idle(None));
                tell(error.code(), error.message());
                Err(error)
            }
            Some(error) => {
                // Never reported as released; the background sees it through.
                if let Phase::Held(hold) | Phase::Releasing(hold) =
                    std::mem::replace(&mut *phase, Phase::Idle(None))
                {
                    service::burn(self.store.clone(), (*hold.claim).clone());
                    self.set(phase, Phase::Releasing(hold));
                }
                Err(error)
            }
        }
    }

    /// The hold, if it is one; otherwise why not.
    fn held<'a>(&self, phase: &'a mut Phase) -> Result<&'a mut Hold> {
        match phase {
            Phase::Held(hold) if hold.has_ended() => Err(Error::outcome(Code::NotHeld)),
            Phase::Held(hold) => {
                reentry::catch_up(hold);
                Ok(hold)
            }
            Phase::Lost(_) => Err(Error::outcome(Code::Lost)),
            Phase::Releasing(_) => Err(Error::new(
                Code::Uncertain,
                "a release is under way, its reply was lost",
            )),
            Phase::Idle(_) | Phase::Pending(..) => Err(Error::outcome(Code::NotHeld)),
        }
    }

    pub(crate) fn refresh(&self, ttl: Option<Duration>) -> Result<()> {
        self.refresh_now(ttl)
            .map_err(|error| self.name_breaker(error))
    }

    /// Asks the store whether the hold stands.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_now().map_err(|error| self.name_breaker(error))
    }

    /// Of a loss: who broke the lock, if that is asked for and known.
    fn name_breaker(&self, error: Error) -> Error {
        if error.code() != Code::Lost || !self.options.ask_who_broke {
            return error;
        }
        let since = BootTime::from_nanos(self.lost_since.load(Ordering::Acquire));
        let fence = Some(self.lost_fence.load(Ordering::Acquire)).filter(|fence| *fence > 0);
        match broken::by_whom(&self.store, &self.name, since, fence) {
            Some(words) => Error::new(Code::Lost, words),
            None => error,
        }
    }

    fn refresh_now(&self, ttl: Option<Duration>) -> Result<()> {
        if let Some(ttl) = ttl {
            check_ttl(ttl)?;
            if !self.store.capabilities().ttl {
                return Err(Error::unsupported("this store has no leases to lengthen"));
            }
            self.store
                .backend()
                .check_ttl(ttl + self.options.lock_delay)?;
        }
        let mut phase = self.lock_phase();
        let hold = self.held(&mut phase)?;
        let Some(ttl) = self.kept_for(ttl).or(hold.claim.ttl) else {
            drop(phase);
            return self.check_now();
        };
        let was_late = hold.lease.is_some_and(BootTime::has_passed);
        hold.claim.asked = BootTime::now();
        let shown = self.show(hold);
        let extended = self.store.backend().extend(&hold.claim, ttl);
        drop(shown);
        match extended {
            Ok(Answer::Done(lease)) => {
                hold.claim.ttl = Some(ttl);
                hold.lease = self.lease(lease).max(hold.lease);
                watchdog::start(self, hold);
                let message = if was_late {
                    "refreshed after the lease had run out; nobody had taken the lock"
                } else {
                    "refreshed"
                };
                self.tell(EventKind::Refreshed, Code::Ok, message);
                Ok(())
            }
            Ok(Answer::NotOurs) => {
                // One release follows, in case a late grant of this token is still on its way.
                let _ = self.store.backend().release(&hold.claim);
                self.lose(&mut phase, "the store says that it is not held any more");
                Err(Error::outcome(Code::Lost))
            }
            Err(error) => Err(self.lose_if_ended(&mut phase, error)),
        }
    }

    /// Of an error after which there is no hold: notes that.
    fn lose_if_ended(&self, phase: &mut Phase, error: Error) -> Error {
        if error.ends_hold() {
            self.lose(phase, error.message());
        }
        error
    }

    fn check_now(&self) -> Result<()> {
        let mut phase = self.lock_phase();
        let hold = self.held(&mut phase)?;
        let shown = self.show(hold);
        if hold
            .lease
            .is_some_and(|lease| self.conservative(hold, lease).has_passed())
        {
            // Whatever the store says now, somebody may have held the lock in between.
            if !self.store.backend().is_held(&hold.claim).unwrap_or(false) {
                self.lose(&mut phase, "its lease ran out");
            }
            return Err(Error::new(Code::Lost, "the lease ran out"));
        }
        let held = self.store.backend().is_held(&hold.claim);
        drop(shown);
        match held {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.lose(&mut phase, "the store says that it is not held any more");
                Err(Error::outcome(Code::Lost))
            }
            Err(error) => Err(self.lose_if_ended(&mut phase, error)),
        }
    }

    /// Marks the hold as lost and raises the alarm.
    pub(crate) fn lose(&self, phase: &mut Phase, why: &str) {
        if let Phase::Held(hold) = std::mem::replace(phase, Phase::Idle(None)) {
            let since = hold.since.as_nanos();
            self.lost_since.store(since, Ordering::Release);
            self.lost_fence
                .store(hold.fence.unwrap_or(0), Ordering::Release);
            self.tell_with(EventKind::Lost, |facts| {
                facts.code = Code::Lost;
                facts.owner = hold.claim.token;
                facts.held = BootTime::now().since(hold.since);
                facts.message = why;
            });
            // The claim goes: its hold may still stand in the store for a while.
            self.set(phase, Phase::Lost(None));
            self.raise_lost();
        }
    }

    /// Makes the alarm's descriptor readable, if anybody asked for one.
    pub(crate) fn raise_lost(&self) {
        if let Some(fd) = self.lost_fd.get() {
            let one = 1u64;
            // SAFETY: writes eight bytes to an eventfd that lives as long as `self`.
            unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
        for hook in self.take_hooks() {
            self.call_later(hook);
        }
    }

    /// Makes the alarm's descriptor quiet again.
    #[inline]
    pub(crate) fn quiet_lost(&self) {
        if let Some(fd) = self.lost_fd.get() {
            let mut count = 0u64;
            // SAFETY: reads eight bytes from a non-blocking eventfd that lives as long as `self`.
            unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
    }

    pub(crate) fn change_mode(&self, to: Mode, wait: Wait, cancel: Option<&Cancel>) -> Result<()> {
        let can = self.store.capabilities();
        if (to == Mode::Exclusive && !can.promote) || (to == Mode::Shared && !can.shared) {
            return Err(Error::unsupported(
                "this store cannot change the mode of a hold",
            ));
        }
        let deadline = wait.deadline();
        loop {
            let mut phase = self.lock_phase();
            let hold = self.held(&mut phase)?;
            let (common, shown) = (hold.common.clone(), self.show(hold));
            let turn = common.as_ref().map(|common| common.turn());
            let hold = self.held(&mut phase)?;
            if hold.claim.mode == to && !hold.unsure {
                return Ok(());
            }
            if matches!(hold.claim.mode, Mode::Permits { .. }) {
                return Err(Error::invalid(
                    "permits cannot be turned into a shared or exclusive hold",
                ));
            }
            hold.claim.deadline = if wait == Wait::No {
                None
            } else {
                deadline.map(exchange_deadline)
            };
            let changed = self.store.backend().change_mode(&hold.claim, to);
            drop(shown);
            hold.claim.deadline = None;
            match changed {
                Ok(Attempt::Granted(grant)) => {
                    hold.claim.mode = to;
                    hold.unsure = false;
                    hold.lease = self.lease(grant.lease).or(hold.lease);
                    hold.fence = grant.fence.or(hold.fence);
                    reentry::note_mode(hold);
                    return Ok(());
                }
                Ok(Attempt::Busy(_)) => {}
                Err(error) if error.code() == Code::Lost => {
                    self.lose(&mut phase, "the store says that it is not held any more");
                    return Err(error);
                }
                // That it was not done is certain only of what no store was asked.
                Err(error)
                    if matches!(error.code(), Code::Unsupported | Code::InvalidArgument)
                        || cfg!(canary = "demote_forgets") =>
                {
                    return Err(error);
                }
                Err(error) => {
                    // It may be done, or be done late: the lesser of the two is believed, and the store asked again.
                    hold.claim.mode = Mode::Shared;
                    hold.unsure = true;
                    reentry::note_mode(hold);
                    return Err(error);
                }
            }
            drop((phase, turn));
            if deadline.is_some_and(BootTime::has_passed) {
                return Err(Error::outcome(if wait == Wait::No {
                    Code::Busy
                } else {
                    Code::Timeout
                }));
            }
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Error::outcome(Code::Cancelled));
            }
            std::thread::sleep(PROMOTE_POLL.min(deadline.map_or(PROMOTE_POLL, BootTime::left)));
        }
    }

    pub(crate) fn export(&self) -> Result<String> {
        if !self.store.capabilities().export {
            return Err(Error::unsupported(
                "holds of this store cannot be handed to another process",
            ));
        }
        self.check()?;
        let mut phase = self.lock_phase();
        let hold = self.held(&mut phase)?;
        self.name_owner(&mut hold.claim)?;
        self.store.backend().settle(&hold.claim);
        let text = write_export(&self.store.fingerprint(), &hold.claim, hold.fence);
        if let Some(common) = &hold.common {
            // No handle that shares it has any part in it from now on.
            common.end();
        }
        self.let_go(&mut phase);
        Ok(text)
    }

    /// Takes over the hold that `token` has; `told` is the fencing token that came with it.
    pub(crate) fn adopt(
        &self,
        token: OwnerToken,
        heir: OwnerToken,
        told: Option<u64>,
    ) -> Result<()> {
        let mut phase = self.lock_phase();
        let now = BootTime::now();
        let mut claim = Box::new(Claim {
            token,
            asked: now,
            ..self.new_claim()
        });
        let adopted = match self.store.backend().adopt(&claim, heir) {
            Err(error) => {
                // It may be the heir's, whom nobody knows. Whose it was before is left as it is.
                claim.token = heir;
                self.burn_if_uncertain(&claim, &error);
                return Err(error);
            }
            adopted => adopted?,
        };
        match adopted {
            Some(grant) if self.is_too_late(&claim, &grant) => {
                claim.token = heir;
                self.give_back(&claim);
                Err(Error::new(
                    Code::Lost,
                    "the lease was over before the store's answer came",
                ))
            }
            Some(grant) => {
                claim.token = heir;
                let lease = self.lease(grant.lease);
                self.borrow(false);
                let fences = self.store.capabilities().fence != Fence::None;
                let hold = Hold {
                    claim,
                    lease,
                    fence: grant.fence.or(told.filter(|_| fences)),
                    since: now,
                    unsure: false,
                    common: None,
                    undo: Undo::Nothing,
                };
                self.set(&mut phase, Phase::Held(hold));
                if let Phase::Held(hold) = &*phase {
                    watchdog::start(self, hold);
                }
                Ok(())
            }
            None => Err(Error::new(
                Code::Lost,
                "the hold is gone, or somebody else has adopted it",
            )),
        }
    }
}

/// `synlock1:fingerprint:name:mode:token:fence`, fields percent-encoded.
fn write_export(fingerprint: &str, claim: &Claim, fence: Option<u64>) -> String {
    let mode = match claim.mode {
        Mode::Exclusive => "x".to_owned(),
        Mode::Shared => "s".to_owned(),
        Mode::Permits { take, of } => format!("p{take}/{of}"),
    };
    format!(
        "synlock1:{}:{}:{}:{}:{}",
        encode(fingerprint.as_bytes()),
        encode(claim.name.as_bytes()),
        encode(mode.as_bytes()),
        claim.token.to_hex(),
        fence.map(|fence| fence.to_string()).unwrap_or_default()
    )
}

/// What an exported hold says.
pub(crate) struct Exported {
    pub name: Name,
    pub mode: Mode,
    pub token: OwnerToken,
    pub fence: Option<u64>,
}

/// Reads what `export` wrote, for this store alone.
pub(crate) fn read_export(text: &str, fingerprint: &str) -> Result<Exported> {
    let bad = || Error::invalid("this is no exported hold of this version");
    let fields: Vec<&str> = text.trim().split(':').collect();
    let &["synlock1", of, name, mode, token, fence] = fields.as_slice() else {
        return Err(bad());
    };
    if decode(of).ok_or_else(bad)? != fingerprint.as_bytes() {
        return Err(Error::invalid("the hold was exported from another store"));
    }
    let mode = match String::from_utf8(decode(mode).ok_or_else(bad)?)
        .map_err(|_| bad())?
        .as_str()
    {
        "x" => Mode::Exclusive,
        "s" => Mode::Shared,
        permits => {
            let (take, of) = permits
                .strip_prefix('p')
                .and_then(|rest| rest.split_once('/'))
                .ok_or_else(bad)?;
            Mode::Permits {
                take: take.parse().map_err(|_| bad())?,
                of: of.parse().map_err(|_| bad())?,
            }
            .check()?
        }
    };
    let token = OwnerToken::from_hex(token.as_bytes())
        .filter(OwnerToken::is_drawn)
        .ok_or_else(bad)?;
    Ok(Exported {
        name: Name::new(decode(name).ok_or_else(bad)?)?,
        mode,
        token,
        fence: match fence {
            "" => None,
            number => Some(number.parse().map_err(|_| bad())?),
        },
    })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}
