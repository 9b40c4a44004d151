//! A round of votes: who gives them, what a majority makes of them, and how they are given back.

use super::brand::{FIRST_LINGER, Watch};
use super::config::Quorum;
use super::count::{never, until};
use super::members::{Flight, Process};
use super::round::{Answers, Member, Rules, ask};
use super::rules::{self, Draw, Said, nth};
use super::tally::{Tally, Vote, said, shortfall};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::registry::Store;
use crate::service;
use crate::store::{Attempt, Backend, Busy, Claim, Grant};
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a vote of each member is asked for again, on the average, until a hold's token is given up.
const LIFTS: usize = 2;
/// How many tokens more are drawn then, for those that other locks of the member draw meanwhile.
const HEADROOM: u64 = 16;

impl Quorum {
    /// Asks members for their votes. Those that come after it is settled stay, unless the flight is given
    /// up by then.
    pub(super) fn collect(&self, claim: &Claim, members: &[Member], mut tally: Tally) -> Tally {
        let process = self.process();
        let flight = Arc::new(Flight::default());
        let max_ttl = self.longest_lease();
        let watch = Watch::of(self, claim);
        let known = std::mem::take(&mut tally.answers);
        let granted = Tally::count_granted(&known);
        let is_met =
            |answers: &Answers<Vote>| self.rule.is_met(granted + Tally::count_granted(answers));
        let question = |place| {
            let (claim, process, watch) = (claim.clone(), process.clone(), watch.clone());
            move |member: &dyn Backend| vote(place, member, &claim, max_ttl, &process, &watch)
        };
        let rules = Rules {
            late: |_| {
                let (claim, flight) = (claim.clone(), flight.clone());
                let (process, watch) = (process.clone(), watch.clone());
                move |member: &Arc<dyn Backend>, answer: Result<Vote>| {
                    if !flight.is_given_up() {
                        look_behind(&**member, &claim, &process, &watch, answer);
                    } else if answer.is_ok() && said(&answer).may_hold() {
                        give_back_to(member, &claim);
                    } else if said(&answer).may_hold() {
                        burn_at(member, &claim);
                    }
                }
            },
            is_settled: |answers: &Answers<Vote>, left| {
                let said = Tally::said(&known).chain(Tally::said(answers));
                self.rule.is_settled(said, left)
            },
            linger: if process.is_known.swap(true, Ordering::Relaxed) {
                Duration::ZERO
            } else {
                let left = claim.deadline.map_or(FIRST_LINGER, |end| end.left());
                left.min(FIRST_LINGER)
            },
            at_end: |answers: &Answers<Vote>| {
                if !is_met(answers) {
                    flight.give_up();
                }
            },
        };
        let pool = self.remote.then_some(&process.pool);
        let answers = ask(pool, members, question, rules);
        if !flight.is_given_up() && !watch.is_due {
            self.look_at_busy(claim, &answers, &watch);
        }
        if answers.len() < members.len() && !flight.is_given_up() {
            process.note(claim.token, &flight);
        }
        let answers = known.into_iter().chain(answers).collect();
        Tally { answers }
    }

    /// Looks, in the background, at members that were busy though there were enough without them.
    fn look_at_busy(&self, claim: &Claim, answers: &Answers<Vote>, watch: &Watch) {
        let process = self.process();
        for (place, answer) in answers {
            let (Ok(Vote::Busy(busy)), Some(member)) = (answer, self.members.get(*place)) else {
                continue;
            };
            let (claim, member, watch) = (claim.clone(), member.clone(), watch.clone());
            let (own, answer) = (process.clone(), Ok(Vote::Busy(*busy)));
            let look = move || look_behind(&*member, &claim, &own, &watch, answer);
            if !self.remote {
                look();
            } else if let Err(look) = process.pool.run(Box::new(look)) {
                look();
            }
        }
    }

    /// Makes a grant of the votes, or gives them back and says why not.
    pub(super) fn settle(&self, claim: &Claim, mut tally: Tally) -> Result<Attempt> {
        if let Some(misfit) = tally.take_misfit() {
            self.give_back(claim, &tally);
            return Err(misfit);
        }
        if self.rule.is_met(tally.granted()) {
            match self.grant(claim, &mut tally) {
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

    fn grant(&self, claim: &Claim, tally: &mut Tally) -> Result<Option<Grant>> {
        let mut grants = tally.grants();
        let fence = if self.fencing {
            match self.level(claim, &mut grants, tally)? {
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
    fn level(
        &self,
        claim: &Claim,
        grants: &mut Vec<(usize, Grant)>,
        tally: &mut Tally,
    ) -> Result<Option<u64>> {
        let blind = || Error::unsupported("a member of the quorum gave no fencing token");
        let block = u64::from(claim.fence_block.max(1));
        let drawn = |grant: Grant, count: u64| {
            let first = grant.fence.ok_or_else(blind)?;
            let last = first + count - 1;
            Ok(Draw { first, last })
        };
        let draws = grants.iter().map(|(_, grant)| drawn(*grant, block));
        let mut draws = draws.collect::<Result<Vec<Draw>>>()?;
        for _ in 0..=self.members.len() * LIFTS {
            let (highest, behind) = rules::level(&draws, block, self.rule.need);
            let Some(at) = behind else {
                return Ok(Some(highest));
            };
            let ((place, _), before) = (grants.remove(at), draws.remove(at));
            let Some(member) = self.members.get(place) else {
                break;
            };
            let raised = raised(&**member, claim, before, highest)?;
            let count = raised.fence_block.max(1);
            // Copies alone: the seat of a claim is one store's. Nothing has been promised yet: a member lost
            // meanwhile is a vote less.
            let again = member.release(&claim.clone());
            match again.and_then(|_| member.attempt(&raised, None)) {
                Ok(Attempt::Granted(grant)) => {
                    let draw = drawn(grant, count.into())?;
                    if draw.first <= before.first {
                        return Err(blind());
                    }
                    // Between the two it may have begun anew, and others may have voted there before.
                    match self.counted(place, &**member, claim, grant) {
                        Ok(Vote::Granted(grant)) => {
                            grants.push((place, grant));
                            draws.push(draw);
                        }
                        other => tally.put(place, other),
                    }
                }
                Ok(Attempt::Busy(_)) => {}
                Err(error) if error.ends_hold() => return Err(error),
                Err(error) => tally.doubt(place, &error),
            }
            if !self.rule.is_met(grants.len()) {
                break;
            }
        }
        // As after a split: others were quicker.
        Ok(None)
    }

    /// For how long a member must have kept what it granted until its vote counts.
    fn longest_lease(&self) -> Option<Duration> {
        (!self.cold_start).then_some(self.max_ttl)
    }

    /// What a grant of this member counts for.
    pub(super) fn counted(
        &self,
        place: usize,
        member: &dyn Backend,
        claim: &Claim,
        grant: Grant,
    ) -> Result<Vote> {
        let max_ttl = self.longest_lease();
        counted(place, member, claim, max_ttl, self.process(), grant)
    }

    /// Releases what was granted, or may have been.
    pub(super) fn give_back(&self, claim: &Claim, tally: &Tally) {
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
            // What has not answered to the claim either may get that after the release.
            let is_unsure = tally
                .answers
                .iter()
                .any(|(one, answer)| *one == place && said(answer) == Said::Unsure);
            let may_be_late = |member: &Arc<dyn Backend>| member.may_be_late();
            if answer.is_err() || is_unsure && self.members.get(place).is_some_and(may_be_late) {
                self.burn(place, claim);
            }
        }
    }

    /// Releases what is left of a hold that is lost: a member may not have forgotten it, and a vote may
    /// come late, where the next one waits in line.
    pub(super) fn leave(&self, claim: &Claim) {
        self.process().give_up(claim.token);
        self.process().losses.forget(claim.token);
        for (_, member) in self.places() {
            burn_at(&member, claim);
        }
    }

    /// Leaves a release to the background.
    pub(super) fn burn(&self, place: usize, claim: &Claim) {
        if let Some(member) = self.members.get(place) {
            burn_at(member, claim);
        }
    }
}

/// The claim with which a member draws tokens that reach as far as the highest.
fn raised(member: &dyn Backend, claim: &Claim, before: Draw, highest: u64) -> Result<Claim> {
    let block = u64::from(claim.fence_block.max(1));
    let mut raised = claim.clone();
    if member.raises_fences() && !cfg!(canary = "lift_blindly") {
        raised.fence_least = raised.fence_least.max(rules::last(highest, block));
        return Ok(raised);
    }
    let count = rules::lift(before, highest, block) + HEADROOM;
    raised.fence_block = u32::try_from(count).map_err(|_| {
        Error::unsupported("the members' fencing tokens are too far apart to be levelled")
    })?;
    Ok(raised)
}

/// One member's vote: its answer, unless it has come up too lately to remember.
fn vote(
    place: usize,
    member: &dyn Backend,
    claim: &Claim,
    max_ttl: Option<Duration>,
    process: &Process,
    watch: &Watch,
) -> Result<Vote> {
    match member.attempt(claim, None)? {
        Attempt::Busy(busy) => {
            if watch.is_due {
                watch.look(member, claim, process)?;
            }
            Ok(Vote::Busy(busy))
        }
        Attempt::Granted(grant) => counted(place, member, claim, max_ttl, process, grant),
    }
}

/// What a grant counts for: nothing, if its member has come up too lately.
fn counted(
    place: usize,
    member: &dyn Backend,
    claim: &Claim,
    max_ttl: Option<Duration>,
    process: &Process,
    grant: Grant,
) -> Result<Vote> {
    match is_warm(place, member, claim, max_ttl, process) {
        Ok(None) => Ok(Vote::Granted(grant)),
        Ok(Some(up)) => Ok(Vote::Cold(up)),
        // It may hold, and does not count.
        Err(error) => Err(Error::new(Code::Uncertain, error.message())),
    }
}

/// What a member that is busy says of its holder to a claim that has been granted without it.
fn look_behind(
    member: &dyn Backend,
    claim: &Claim,
    process: &Process,
    watch: &Watch,
    answer: Result<Vote>,
) {
    let told = match answer {
        Ok(Vote::Busy(_)) if !watch.is_due => watch.look(member, claim, process),
        Err(error) if error.ends_hold() => Err(error),
        _ => Ok(()),
    };
    if let Err(error) = told {
        process.note_misfit(claim.token, error);
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
    let asked = BootTime::now();
    Ok(member
        .life(claim.deadline)?
        .map(|life| process.up(place, life, asked, member.url()))
        .filter(|up| rules::is_cold(*up, max_ttl)))
}

pub(super) fn give_back_to(member: &Arc<dyn Backend>, claim: &Claim) {
    // A copy: the seat of a claim is one store's.
    if member.release(&claim.clone()).is_err() {
        burn_at(member, claim);
    }
}

pub(super) fn burn_at(member: &Arc<dyn Backend>, claim: &Claim) {
    service::burn(
        Store::over(member.clone(), Default::default()),
        claim.clone(),
    );
}
