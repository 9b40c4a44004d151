//! The store contract, verb by verb.

use super::config::Quorum;
use super::count::{never, until};
use super::holders::in_common;
use super::line::{Apart, DOWN_PAUSE, SPLIT_PAUSE};
use super::round::{Answers, Rules, ask};
use super::rules::nth;
use super::tally::{Tally, Vote, shortfall};
use super::votes::{burn_at, give_back_to};
use crate::capability::Capabilities;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often an heir looks whether another one is ahead of it.
const HEIR_ROUNDS: u32 = 10;
/// How long the first member's release waits for the others'.
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// How long a release that the others have settled waits for the first member's.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How long a hand-over waits for votes that were not needed.
const LATE_VOTES: Duration = Duration::from_millis(200);
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(100);
/// How long whoever waits for a free lock waits at the first member, which somebody may have who has no other.
const LONGEST_WATCH: Duration = Duration::from_secs(1);

/// Adopts a hold at the first members. Where somebody else has it, that may be another heir: it is let go
/// ahead, so that one of several heirs gets the whole. Or it is a stranger who has this member alone.
fn adopt_patiently(member: &dyn Backend, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
    for _ in 0..HEIR_ROUNDS {
        let adopted = member.adopt(&claim.clone(), heir);
        if !matches!(adopted, Ok(None)) || claim.deadline.is_some_and(BootTime::has_passed) {
            return adopted;
        }
        let found = member.inspect(&claim.name, claim.deadline)?;
        if found.holders.is_empty() {
            return adopted;
        }
        std::thread::sleep(SPLIT_PAUSE);
    }
    member.adopt(&claim.clone(), heir)
}

impl Quorum {
    /// A process that ends right after its release would take the first member's with it, which is sent
    /// last, and waiters stand in line there until the lease ends.
    fn wait_for_last(&self, is_over: &Receiver<()>) {
        let silent = &self.process().first_is_silent;
        let patience = if silent.load(Ordering::Relaxed) || cfg!(canary = "leave_last") {
            Duration::ZERO
        } else {
            LAST_ANSWER
        };
        // Nothing is ever said: it is over when nobody could say anything any more.
        if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            silent.store(true, Ordering::Relaxed);
        }
    }
}

impl Backend for Quorum {
    fn capabilities(&self) -> Capabilities {
        self.can
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn fingerprint(&self) -> String {
        let members: Vec<String> = self
            .members
            .iter()
            .map(|member| member.fingerprint())
            .collect();
        let strategy = if self.unanimous {
            "unanimous"
        } else {
            "majority"
        };
        format!("quorum:{strategy}:({})", members.join(","))
    }

    fn identity(&self) -> String {
        self.set_up()
    }

    fn brand(&self, token: OwnerToken) -> OwnerToken {
        token.branded(self.brand)
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        if ttl > self.max_ttl && !self.can.frees_on_death {
            return Err(Error::invalid(format!(
                "a TTL of {ttl:?}: a member that comes up votes after `max_ttl`, which is {:?}, so no lease may be longer",
                self.max_ttl
            )));
        }
        self.members
            .iter()
            .try_for_each(|member| member.check_ttl(ttl))
    }

    fn default_lease(&self) -> Duration {
        let members = self.members.iter().map(|member| member.default_lease());
        members.fold(self.max_ttl, Duration::min)
    }

    fn check_name(&self, name: &Name) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| member.check_name(name))
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| move |member: &dyn Backend| member.ping(deadline);
        let up = |answers: &Answers<()>| answers.iter().filter(|(_, one)| one.is_ok()).count();
        let rules = until(|answers: &Answers<()>, _| self.rule.is_met(up(answers)));
        let answers = ask(pool, &self.places(), question, rules);
        if self.rule.is_met(up(&answers)) {
            Ok(())
        } else {
            Err(self.unknown(&answers))
        }
    }

    fn keeps_delays(&self) -> bool {
        self.members.iter().all(|member| member.keeps_delays())
    }

    fn raises_fences(&self) -> bool {
        self.members.iter().all(|member| member.raises_fences())
    }

    fn may_be_late(&self) -> bool {
        self.members.iter().any(|member| member.may_be_late())
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let tally = self.collect(claim, &self.places(), Tally::default());
        let first_is_down = tally
            .answers
            .iter()
            .any(|(place, answer)| *place == 0 && answer.is_err());
        match (self.settle(claim, tally)?, bell) {
            // Canary of row 19: all try again at once, in no order.
            (attempt, Some(_)) if cfg!(canary = "no_order") => Ok(match attempt {
                Attempt::Busy(busy) => Attempt::Busy(Busy {
                    poll: Some(BootTime::now().after(SPLIT_PAUSE)),
                    ..busy
                }),
                granted => granted,
            }),
            (Attempt::Busy(busy), Some(_)) if first_is_down => Ok(self.without_line(claim, busy)),
            (Attempt::Busy(busy), Some(_)) => {
                claim.seat.put(Apart::NotYet);
                Ok(Attempt::Busy(Busy {
                    poll: Some(BootTime::now()),
                    ..busy
                }))
            }
            (attempt, _) => Ok(attempt),
        }
    }

    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        if cfg!(canary = "no_order") {
            return self.attempt(claim, Some(bell));
        }
        match claim
            .seat
            .with(|apart: &mut Apart| matches!(apart, Apart::NoLine))
        {
            // Perhaps there is one by now.
            Some(true) => self.attempt(claim, Some(bell)),
            Some(false) => {
                claim.seat.clear();
                self.stand(claim, bell, false)
            }
            None => self.stand(claim, bell, true),
        }
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let Some(first) = self.members.first() else {
            return Ok(Cancelled::Gone);
        };
        self.process().give_up(claim.token);
        match first.cancel(&claim.clone()) {
            Ok(Cancelled::Gone) => {}
            // One vote is none.
            Ok(Cancelled::Granted(_)) => give_back_to(first, claim),
            Err(_) => burn_at(first, claim),
        }
        Ok(Cancelled::Gone)
    }

    fn first_caution(&self) -> Option<String> {
        let own = self.looked.next(|| self.too_few().into_iter().collect());
        own.or_else(|| {
            self.members
                .iter()
                .find_map(|member| member.first_caution())
        })
    }

    fn take_caution(&self) -> Option<String> {
        let own = self.process().cautions.take();
        own.or_else(|| self.members.iter().find_map(|member| member.take_caution()))
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        match self.members.first() {
            Some(first) => first
                .park(bell, until)
                // It is down; the next look will tell.
                .or_else(|_| Ok(bell.sleep(until.min(BootTime::now().after(DOWN_PAUSE))))),
            None => Ok(bell.sleep(until)),
        }
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.members.first().and_then(|first| first.pump_fd())
    }

    fn pump(&self) {
        if let Some(first) = self.members.first() {
            first.pump();
        }
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        self.end_misfit(claim)?;
        let verb = move |member: &dyn Backend, claim: &Claim| member.extend(claim, ttl);
        let done = |answers: &Answers<Answer>| {
            let done = answers.iter().filter_map(|(_, answer)| match answer {
                Ok(Answer::Done(lease)) => Some(*lease),
                _ => None,
            });
            done.collect::<Vec<_>>()
        };
        let gone = |answers: &Answers<Answer>| {
            let gone = |answer: &&(usize, Result<Answer>)| matches!(answer.1, Ok(Answer::NotOurs));
            self.rule.is_short(answers.iter().filter(gone).count())
        };
        let rule = self.rule.to_extend();
        let mut answers = self.put(claim, &self.places(), verb, |answers, _| {
            !claim.recurs && (rule.is_met(done(answers).len()) || gone(answers))
        });
        self.end_told(claim, &mut answers)?;
        let leases = done(&answers);
        if rule.is_met(leases.len()) {
            return Ok(Answer::Done(nth(leases.into_iter(), rule.need)));
        }
        if gone(&answers) {
            self.leave(claim);
            return Ok(Answer::NotOurs);
        }
        Err(self.unknown(&answers))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        self.process().give_up(claim.token);
        self.process().losses.forget(claim.token);
        // The first member comes last: whoever waits there goes to the others at once.
        let (told, others) = channel();
        let others = Arc::new(Mutex::new(others));
        let wanted = self.rule.need - 1;
        let (last, is_last_over) = channel::<()>();
        let silent = &self.process().first_is_silent;
        let question = |place| {
            let (claim, told, others) = (claim.clone(), told.clone(), others.clone());
            let (last, silent) = ((place == 0).then(|| last.clone()), silent.clone());
            move |member: &dyn Backend| {
                if place == 0 {
                    drop(told);
                    let others = others.lock();
                    let end = BootTime::now().after(LAST_PAUSE);
                    for _ in 0..wanted {
                        if others.recv_timeout(end.left()).is_err() {
                            break;
                        }
                    }
                    drop(others);
                    let answer = member.release(&claim);
                    silent.store(false, Ordering::Relaxed);
                    drop(last);
                    return answer.map(|answer| answer != Answer::NotOurs);
                }
                let answer = member.release(&claim)?;
                let _ = told.send(());
                Ok(answer != Answer::NotOurs)
            }
        };
        let rules = Rules {
            // Whoever does not answer in time is told again in the background.
            late: |_| {
                let claim = claim.clone();
                move |member: &Arc<dyn Backend>, answer: Result<bool>| {
                    if answer.is_err() {
                        burn_at(member, &claim);
                    }
                }
            },
            // Nothing may be sent after the call for a token that recurs: all are heard.
            is_settled: |answers: &Answers<bool>, _| !claim.recurs && self.is_counted(answers),
            linger: Duration::ZERO,
            at_end: |_: &Answers<bool>| {},
        };
        let pool = self.remote.then(|| &self.process().pool);
        let mut places = self.places();
        places.reverse();
        let answers = ask(pool, &places, question, rules);
        drop((told, last));
        self.wait_for_last(&is_last_over);
        let counted = self.count(&answers);
        if counted.is_ok() {
            for (place, answer) in &answers {
                if answer.is_err() {
                    self.burn(*place, claim);
                }
            }
        }
        if let (Ok(_), Some(misfit)) = (&counted, self.process().take_misfit(claim.token)) {
            return Err(misfit);
        }
        match counted {
            Ok(true) => Ok(Answer::Done(None)),
            Ok(false) => Ok(Answer::NotOurs),
            Err(error) => Err(error),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        self.end_misfit(claim)?;
        if self.has_lost_members(claim.token) {
            self.leave(claim);
            return Ok(false);
        }
        let verb = |member: &dyn Backend, claim: &Claim| member.is_held(claim);
        let mut answers = self.put(claim, &self.places(), verb, |answers, _| {
            self.is_counted(answers)
        });
        self.end_told(claim, &mut answers)?;
        let held = self.count(&answers)?;
        if !held {
            self.leave(claim);
        }
        Ok(held)
    }

    fn has_lost(&self, token: OwnerToken) -> bool {
        self.has_lost_members(token)
    }

    fn alarm(&self, claim: &Claim, bell: &Arc<Signal>) {
        self.set_alarm(claim, bell);
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let mut first = self.members.first();
        let (mut was_told, mut pause) = (false, FIRST_LOOK);
        loop {
            if self.inspect(name, None)?.holders.is_empty() {
                return Ok(true);
            }
            let left = until.left();
            if left.is_zero() {
                return Ok(false);
            }
            if let Some(member) = first {
                let look = until.min(BootTime::now().after(LONGEST_WATCH));
                match member.wait_free(name, look) {
                    // There it is released last. But a holder may have the others alone.
                    Ok(true) if !was_told => {
                        was_told = true;
                        continue;
                    }
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(_) => first = None,
                }
            }
            was_told = false;
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    fn inspects(&self) -> bool {
        self.members.iter().all(|member| member.inspects())
    }

    /// Holders whom enough members name.
    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| {
            let name = name.clone();
            move |member: &dyn Backend| member.inspect(&name, deadline)
        };
        let answers = ask(pool, &self.places(), question, until(never));
        let mut told = Vec::new();
        let mut waiters = None;
        for (place, answer) in &answers {
            if let Ok(found) = answer {
                waiters = if *place == 0 { found.waiters } else { waiters };
                told.push(found.holders.clone());
            }
        }
        if !self.rule.is_met(told.len()) {
            return Err(self.unknown(&answers));
        }
        let holders = in_common(told.into_iter(), self.rule.need);
        Ok(Inspection {
            name: name.as_bytes().to_vec(),
            holders,
            waiters,
        })
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| {
            let name = name.clone();
            move |member: &dyn Backend| member.break_lock(&name, deadline)
        };
        let answers = ask(pool, &self.places(), question, until(never));
        let up = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        if !self.rule.is_met(up) {
            return Err(self.unknown(&answers));
        }
        Ok(answers.iter().any(|(_, answer)| matches!(answer, Ok(true))))
    }

    /// A vote that comes after the heir has asked for it would stay behind, in a name that nobody has.
    fn settle(&self, claim: &Claim) {
        let until = BootTime::now().after(LATE_VOTES);
        self.process().settle(claim.token, until);
    }

    /// Member by member, always in the same order: whoever comes second finds the first one taken, and stops.
    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let mut tally = Tally::default();
        for (place, member) in self.places() {
            let adopted = if tally.granted() == 0 {
                adopt_patiently(&*member, claim, heir)
            } else {
                member.adopt(&claim.clone(), heir)
            };
            let answer = adopted.map(|grant| match grant {
                Some(grant) => Vote::Granted(grant),
                None => Vote::Busy(Busy::default()),
            });
            tally.answers.push((place, answer));
        }
        if self.rule.is_met(tally.granted()) {
            // Where that is unknown, the hold may stand yet, which nobody has any more.
            let left = Claim {
                recurs: false,
                ..claim.clone()
            };
            for (place, answer) in &tally.answers {
                if answer.is_err() {
                    self.burn(*place, &left);
                }
            }
            let grants = tally.grants();
            return Ok(Some(Grant {
                lease: nth(grants.iter().map(|(_, grant)| grant.lease), self.rule.need),
                // The members' own say nothing of it: a vote that was not waited for may have a higher one, from
                // which no majority counts on.
                fence: None,
                recovered: false,
            }));
        }
        let claim = Claim {
            token: heir,
            ..claim.clone()
        };
        self.give_back(&claim, &tally);
        // Members that are down say nothing of whose it is.
        shortfall(&tally, &self.members, self.rule, self.max_ttl).map_or(Ok(None), Err)
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let _ = (claim, to);
        Err(Error::unsupported(
            "a quorum cannot change the mode of a hold",
        ))
    }
}
