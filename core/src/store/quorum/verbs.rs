//! The store contract, verb by verb.

use super::config::Quorum;
use super::members::{Flight, Process};
use super::round::{Answers, Member, Rules, ask};
use super::rules::{self, nth};
use super::tally::{Tally, Vote, said, shortfall};
use crate::capability::Capabilities;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::service;
use crate::signal::{Signal, Wake};
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Holder, Inspection};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long after a split until the next try, at least; up to five times as long.
const SPLIT_PAUSE: Duration = Duration::from_millis(5);
/// How often an heir looks whether another one is ahead of it.
const HEIR_ROUNDS: u32 = 10;
/// What a waiter's seat keeps while it does not stand in line.
enum Apart {
    /// It is about to.
    NotYet,
    /// There is none: the first member is down.
    NoLine,
}

/// How often a waiter asks when the first member, where it would stand in line, is down.
const DOWN_PAUSE: Duration = Duration::from_millis(40);
/// How long the first member's release waits for the others'.
const LAST_PAUSE: Duration = Duration::from_millis(100);
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// Rules of questions whose late answers matter to nobody.
fn until<T, S>(is_settled: S) -> Rules<impl Fn(usize) -> Forget<T>, S, impl FnOnce(&Answers<T>)>
where
    S: Fn(&Answers<T>, usize) -> bool,
{
    Rules {
        late: |_| -> Forget<T> { |_, _| {} },
        is_settled,
        at_end: |_: &Answers<T>| {},
    }
}

type Forget<T> = fn(&Arc<dyn Backend>, Result<T>);

/// Hears everybody.
fn never<T>(_: &Answers<T>, _: usize) -> bool {
    false
}

/// `pause` to five times that, by the token, so that those who split do not meet again.
fn spread(pause: Duration, claim: &Claim) -> BootTime {
    // Another byte each time.
    let at = (BootTime::now().as_nanos() >> 20) as usize % 16;
    let byte = claim.token.as_bytes()[at];
    BootTime::now().after(pause + pause * u32::from(byte) / 64)
}

impl Quorum {
    fn process(&self) -> &Arc<Process> {
        self.process.get_or_init(Arc::default)
    }

    fn places(&self) -> Vec<Member> {
        self.members.iter().cloned().enumerate().collect()
    }

    /// Puts a verb to members and hears them all, or as many as `is_settled` wants.
    fn put<T: Send + 'static>(
        &self,
        claim: &Claim,
        members: &[Member],
        verb: impl Fn(&dyn Backend, &Claim) -> Result<T> + Copy + Send + 'static,
        is_settled: impl Fn(&Answers<T>, usize) -> bool,
    ) -> Answers<T> {
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| {
            let claim = claim.clone();
            move |member: &dyn Backend| verb(member, &claim)
        };
        ask(pool, members, question, until(is_settled))
    }

    /// Asks members for their votes. Those that come after it is settled stay, unless the flight is given
    /// up by then.
    fn collect(&self, claim: &Claim, members: &[Member], mut tally: Tally) -> Tally {
        let process = self.process();
        let flight = Arc::new(Flight::default());
        let max_ttl = (!self.cold_start).then_some(self.max_ttl);
        let known = std::mem::take(&mut tally.answers);
        let granted = Tally::count_granted(&known);
        let is_met =
            |answers: &Answers<Vote>| self.rule.is_met(granted + Tally::count_granted(answers));
        let question = |place| {
            let (claim, process) = (claim.clone(), process.clone());
            move |member: &dyn Backend| vote(place, member, &claim, max_ttl, &process)
        };
        let rules = Rules {
            late: |_| {
                let (claim, flight) = (claim.clone(), flight.clone());
                move |member: &Arc<dyn Backend>, answer: Result<Vote>| {
                    if flight.is_given_up() && said(&answer).may_hold() {
                        give_back_to(member, &claim);
                    }
                }
            },
            is_settled: |answers: &Answers<Vote>, left| {
                let said = Tally::said(&known).chain(Tally::said(answers));
                self.rule.is_settled(said, left)
            },
            at_end: |answers: &Answers<Vote>| {
                if !is_met(answers) {
                    flight.give_up();
                }
            },
        };
        let pool = self.remote.then_some(&process.pool);
        let answers = ask(pool, members, question, rules);
        if answers.len() < members.len() && !flight.is_given_up() {
            process.note(claim.token, &flight);
        }
        let answers = known.into_iter().chain(answers).collect();
        Tally { answers }
    }

    /// Makes a grant of the votes, or gives them back and says why not.
    fn settle(&self, claim: &Claim, tally: Tally) -> Result<Attempt> {
        if self.rule.is_met(tally.granted()) {
            match self.grant(claim, &tally) {
                Ok(Some(grant)) => return Ok(Attempt::Granted(grant)),
                Ok(None) => {}
                Err(error) => {
                    self.give_back(claim, &tally);
                    return Err(error);
                }
            }
        }
        self.give_back(claim, &tally);
        match shortfall(&tally, &self.members, self.rule, self.max_ttl) {
            Some(error) => Err(error),
            // Late votes and releases of this round are still on their way.
            None => Ok(Attempt::Busy(Busy {
                until: tally.until(),
                poll: None,
                spent: rules::SPENT,
            })),
        }
    }

    fn grant(&self, claim: &Claim, tally: &Tally) -> Result<Option<Grant>> {
        let mut grants = tally.grants();
        let fence = if self.fencing {
            match self.level(claim, &mut grants)? {
                Some(fence) => Some(fence),
                None => return Ok(None),
            }
        } else {
            None
        };
        let leases = grants.iter().map(|(_, grant)| grant.lease);
        Ok(Some(Grant {
            lease: nth(leases, self.rule.need),
            fence,
            recovered: grants.iter().any(|(_, grant)| grant.recovered),
        }))
    }

    /// Gives the hold the highest token of its members, and makes sure that enough of them will count on
    /// from there: any later quorum has one of these members in it.
    fn level(&self, claim: &Claim, grants: &mut Vec<(usize, Grant)>) -> Result<Option<u64>> {
        let blind = || Error::unsupported("a member of the quorum gave no fencing token");
        let fences = grants
            .iter()
            .map(|(_, grant)| grant.fence.ok_or_else(blind));
        let fences = fences.collect::<Result<Vec<u64>>>()?;
        let block = u64::from(claim.fence_block.max(1));
        let (highest, behind) = rules::level(&fences, self.rule.need);
        let behind: Vec<(usize, u64)> = behind
            .into_iter()
            .filter_map(|at| Some((grants.get(at)?.0, *fences.get(at)?)))
            .collect();
        if behind.is_empty() {
            return Ok(Some(highest));
        }
        // Nothing has been promised yet: a member lost meanwhile is a vote less.
        for (place, fence) in behind {
            let Some(member) = self.members.get(place) else {
                continue;
            };
            let wanted = u32::try_from(highest - fence + block).map_err(|_| {
                Error::unsupported("the members' fencing tokens are too far apart to be levelled")
            })?;
            let raised = Claim {
                fence_block: wanted,
                ..claim.clone()
            };
            // Copies alone: the seat of a claim is one store's.
            member.release(&claim.clone())?;
            grants.retain(|(granted, _)| *granted != place);
            if let Attempt::Granted(grant) = member.attempt(&raised, None)? {
                let reaches = |first| first > fence && first + u64::from(wanted) >= highest + block;
                if !grant.fence.is_some_and(reaches) {
                    return Err(blind());
                }
                grants.push((place, grant));
            }
        }
        Ok(self.rule.is_met(grants.len()).then_some(highest))
    }

    /// Releases what was granted, or may have been.
    fn give_back(&self, claim: &Claim, tally: &Tally) {
        // Votes that were not waited for because there were enough.
        let left_out = self.process().give_up(claim.token);
        let held: Vec<Member> = self
            .places()
            .into_iter()
            .filter(|(place, _)| {
                let answer = tally.answers.iter().find(|(one, _)| one == place);
                rules::gives_back(answer.map(|(_, answer)| said(answer)), left_out)
            })
            .collect();
        if cfg!(canary = "keep_losers") {
            return;
        }
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| {
            let claim = claim.clone();
            move |member: &dyn Backend| member.release(&claim)
        };
        let answers = ask(pool, &held, question, until(never));
        for (place, answer) in answers {
            if answer.is_err() {
                self.burn(place, claim);
            }
        }
    }

    /// Leaves a release to the background.
    fn burn(&self, place: usize, claim: &Claim) {
        if let Some(member) = self.members.get(place) {
            burn_at(member, claim);
        }
    }

    /// Stands in line at the first member, then asks the rest.
    fn stand(&self, claim: &Claim, bell: &Arc<Signal>, again: bool) -> Result<Attempt> {
        let Some(first) = self.members.first() else {
            return Err(Error::new(Code::Internal, "a quorum of nobody"));
        };
        let own = claim.clone();
        let asked = if again {
            first.confirm(&own, bell)
        } else {
            first.attempt(&own, Some(bell))
        };
        if !again && let Err(error) = &asked {
            if error.code() == Code::Uncertain {
                self.burn(0, claim);
            }
            let spent = Busy {
                spent: true,
                ..Busy::default()
            };
            return Ok(self.without_line(claim, spent));
        }
        let max_ttl = (!self.cold_start).then_some(self.max_ttl);
        let vote = match asked {
            Ok(Attempt::Busy(busy)) => return Ok(Attempt::Busy(busy)),
            Ok(Attempt::Granted(grant)) => is_warm(0, &**first, claim, max_ttl, self.process())
                .map(|cold| cold.map_or(Vote::Granted(grant), Vote::Cold)),
            Err(error) => Err(error),
        };
        if !matches!(vote, Ok(Vote::Granted(_))) {
            // Without it there is no line to stand in, and no place there.
            if vote.is_ok() {
                give_back_to(first, claim);
            } else {
                burn_at(first, claim);
            }
            // By another token: the release may come late.
            claim.seat.put(Apart::NoLine);
            return Ok(Attempt::Busy(Busy {
                poll: Some(BootTime::now()),
                spent: rules::SPENT,
                ..Busy::default()
            }));
        }
        let rest: Vec<Member> = self.places().into_iter().skip(1).collect();
        let tally = Tally {
            answers: vec![(0, vote)],
        };
        let tally = self.collect(claim, &rest, tally);
        Ok(self.later(self.settle(claim, tally)?, SPLIT_PAUSE, claim))
    }

    /// For a waiter who knows that somebody holds, while the first member is down.
    fn without_line(&self, claim: &Claim, busy: Busy) -> Attempt {
        claim.seat.put(Apart::NoLine);
        self.later(
            Attempt::Busy(Busy {
                until: None,
                ..busy
            }),
            DOWN_PAUSE,
            claim,
        )
    }

    /// Says when a waiter that got nothing asks again.
    fn later(&self, attempt: Attempt, pause: Duration, claim: &Claim) -> Attempt {
        match attempt {
            Attempt::Busy(busy) => Attempt::Busy(Busy {
                poll: Some(spread(pause, claim)),
                ..busy
            }),
            granted => granted,
        }
    }

    /// Counts yes and no; what neither enough of one nor of the other has said is unknown.
    fn count(&self, answers: &Answers<bool>) -> Result<bool> {
        let said = |what: bool| {
            let said =
                |answer: &&(usize, Result<bool>)| matches!(answer.1, Ok(word) if word == what);
            answers.iter().filter(said).count()
        };
        if self.rule.is_met(said(true)) {
            return Ok(true);
        }
        if self.rule.is_short(said(false)) {
            return Ok(false);
        }
        Err(self.unknown(answers))
    }

    fn is_counted(&self, answers: &Answers<bool>) -> bool {
        let yes = answers
            .iter()
            .filter(|(_, answer)| matches!(answer, Ok(true)));
        let no = answers
            .iter()
            .filter(|(_, answer)| matches!(answer, Ok(false)));
        self.rule.is_met(yes.count()) || self.rule.is_short(no.count())
    }

    /// Too few members have answered.
    fn unknown<T>(&self, answers: &Answers<T>) -> Error {
        let mut words = Vec::new();
        let mut code = Code::Unavailable;
        for (place, answer) in answers {
            if let (Err(error), Some(member)) = (answer, self.members.get(*place)) {
                words.push(format!("{}: {}", member.url(), error.message()));
                if error.code() == Code::Uncertain {
                    code = Code::Uncertain;
                }
            }
        }
        Error::new(
            code,
            format!(
                "too few members of the quorum answered ({})",
                words.join("; ")
            ),
        )
    }
}

/// One member's vote: its answer, unless it has come up too lately to remember.
fn vote(
    place: usize,
    member: &dyn Backend,
    claim: &Claim,
    max_ttl: Option<Duration>,
    process: &Process,
) -> Result<Vote> {
    match member.attempt(claim, None)? {
        Attempt::Busy(busy) => Ok(Vote::Busy(busy)),
        Attempt::Granted(grant) => match is_warm(place, member, claim, max_ttl, process) {
            Ok(None) => Ok(Vote::Granted(grant)),
            Ok(Some(up)) => Ok(Vote::Cold(up)),
            // It may hold, and does not count.
            Err(error) => Err(Error::new(Code::Uncertain, error.message())),
        },
    }
}

/// Asked after the grant: a server that is old enough now was so then. How long it is up, if too short.
fn is_warm(
    place: usize,
    member: &dyn Backend,
    claim: &Claim,
    max_ttl: Option<Duration>,
    process: &Process,
) -> Result<Option<Duration>> {
    let Some(max_ttl) = max_ttl else {
        return Ok(None);
    };
    Ok(member
        .life(claim.deadline)?
        .map(|life| process.up(place, life, member.url()))
        .filter(|up| rules::is_cold(*up, max_ttl)))
}

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

fn give_back_to(member: &Arc<dyn Backend>, claim: &Claim) {
    // A copy: the seat of a claim is one store's.
    if member.release(&claim.clone()).is_err() {
        burn_at(member, claim);
    }
}

fn burn_at(member: &Arc<dyn Backend>, claim: &Claim) {
    service::burn(
        Store::over(member.clone(), Default::default()),
        claim.clone(),
    );
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
                .or_else(|_| Ok(bell.sleep(until.min(spread_now(DOWN_PAUSE))))),
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
        let answers = self.put(claim, &self.places(), verb, |answers, _| {
            rule.is_met(done(answers).len()) || gone(answers)
        });
        let leases = done(&answers);
        if rule.is_met(leases.len()) {
            return Ok(Answer::Done(nth(leases.into_iter(), rule.need)));
        }
        if gone(&answers) {
            return Ok(Answer::NotOurs);
        }
        Err(self.unknown(&answers))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        self.process().give_up(claim.token);
        // The first member comes last: whoever waits there goes to the others at once.
        let (told, others) = channel();
        let others = Arc::new(Mutex::new(others));
        let wanted = self.rule.need - 1;
        let question = |place| {
            let (claim, told, others) = (claim.clone(), told.clone(), others.clone());
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
                    return member
                        .release(&claim)
                        .map(|answer| answer != Answer::NotOurs);
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
            is_settled: |answers: &Answers<bool>, _| self.is_counted(answers),
            at_end: |_: &Answers<bool>| {},
        };
        let pool = self.remote.then(|| &self.process().pool);
        let mut places = self.places();
        places.reverse();
        let answers = ask(pool, &places, question, rules);
        drop(told);
        let counted = self.count(&answers);
        if counted.is_ok() {
            for (place, answer) in &answers {
                if answer.is_err() {
                    self.burn(*place, claim);
                }
            }
        }
        match counted {
            Ok(true) => Ok(Answer::Done(None)),
            Ok(false) => Ok(Answer::NotOurs),
            Err(error) => Err(error),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let verb = |member: &dyn Backend, claim: &Claim| member.is_held(claim);
        let answers = self.put(claim, &self.places(), verb, |answers, _| {
            self.is_counted(answers)
        });
        self.count(&answers)
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let mut pause = FIRST_LOOK;
        loop {
            if self.inspect(name, None)?.holders.is_empty() {
                return Ok(true);
            }
            let left = until.left();
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Holders whom enough members name.
    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| {
            let name = name.clone();
            move |member: &dyn Backend| member.inspect(&name, deadline)
        };
        let answers = ask(pool, &self.places(), question, until(never));
        let mut seen: HashMap<String, Vec<Holder>> = HashMap::new();
        let (mut up, mut waiters) = (0, None);
        for (place, answer) in &answers {
            if let Ok(found) = answer {
                up += 1;
                waiters = if *place == 0 { found.waiters } else { waiters };
                for holder in &found.holders {
                    let same = seen.entry(holder.owner.clone()).or_default();
                    same.push(holder.clone());
                }
            }
        }
        if !self.rule.is_met(up) {
            return Err(self.unknown(&answers));
        }
        let holders = seen
            .into_values()
            .filter(|same| self.rule.is_met(same.len()))
            .filter_map(|same| {
                let left = nth(same.iter().map(|holder| holder.remaining), self.rule.need);
                let holder = same.into_iter().next()?;
                Some(Holder {
                    remaining: left,
                    // The members' own tokens are not the quorum's.
                    fence: None,
                    ..holder
                })
            })
            .collect();
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
        let claim = Claim {
            token: heir,
            ..claim.clone()
        };
        if self.rule.is_met(tally.granted()) {
            let grants = tally.grants();
            return Ok(Some(Grant {
                lease: nth(grants.iter().map(|(_, grant)| grant.lease), self.rule.need),
                fence: grants
                    .iter()
                    .filter_map(|(_, grant)| grant.fence)
                    .max()
                    .filter(|_| self.fencing),
                recovered: false,
            }));
        }
        self.give_back(&claim, &tally);
        match shortfall(&tally, &self.members, self.rule, self.max_ttl) {
            Some(error) if tally.granted() > 0 => Err(error),
            _ => Ok(None),
        }
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let _ = (claim, to);
        Err(Error::unsupported(
            "a quorum cannot change the mode of a hold",
        ))
    }
}

fn spread_now(pause: Duration) -> BootTime {
    BootTime::now().after(pause)
}
