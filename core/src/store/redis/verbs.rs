//! The store contract, verb by verb.

use super::answers::{fence_or_lost, inspection, is_among, number, text};
use super::client::Redis;
use super::config::{Config, Dialect, Place};
use super::connection::{check, pack, protocol};
use super::scripts::Verb;
use super::subscription::{Stray, is_forbidden};
use super::together::{Leaving, Longer, Taking};
use super::{answers, listing, pipe, together};
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::pipe::Pipe;
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection, Life, Page, Told,
};
use crate::url::Url;
use crate::{Error, Result};
use redis::Value;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// Number of the layout of records; others with the same fields are read as well.
const LAYOUT: &str = if cfg!(feature = "next-layout") {
    "2"
} else {
    "1"
};
/// How long a place in the queue lives without a refresh: three safety polls.
const QUEUE_LIFE: Duration = Duration::from_secs(15);
/// When the second in the queue looks at a peer's lock.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How often a store without rights to subscribe is asked.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Opens a `redis:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`, `NotInBuild`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    Ok(Redis::new(Config::read(url)?))
}

pub(super) fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

pub(super) fn ttl(claim: &Claim) -> Duration {
    claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)
}

fn mode_letter(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "x",
        Mode::Shared => "s",
        Mode::Permits { .. } => "p",
    }
}

/// How the record of a claim begins.
fn record_head(claim: &Claim) -> String {
    let (take, of) = match claim.mode {
        Mode::Permits { take, of } => (take, of),
        Mode::Exclusive | Mode::Shared => (1, 1),
    };
    let (token, mode) = (claim.token.to_hex(), mode_letter(claim.mode));
    format!("{token}|{LAYOUT}|{mode}|{take}|{of}|")
}

/// The grant that answers a request sent at `before`.
pub(super) fn granted(claim: &Claim, before: BootTime, fence: u64) -> Grant {
    Grant {
        lease: Some(before.after(ttl(claim))),
        // Zero says that there is none: without keys of our own beside a peer's.
        fence: Some(fence).filter(|fence| *fence > 0),
        recovered: false,
    }
}

/// The words of an attempt.
pub(super) struct Asking {
    head: String,
    ttl: String,
    block: String,
    who: String,
    fair: bool,
    life: String,
}

impl Asking {
    pub(super) fn new(claim: &Claim, who: String) -> Self {
        Asking {
            head: record_head(claim),
            ttl: millis(ttl(claim)),
            block: match (claim.fence_block.max(1), claim.fence_least) {
                (block, 0) => block.to_string(),
                (block, least) => format!("{block}@{least}"),
            },
            who,
            fair: claim.fair,
            life: millis(QUEUE_LIFE),
        }
    }

    /// With a channel it is queued.
    pub(super) fn args<'a>(&'a self, channel: Option<&'a str>) -> Vec<&'a [u8]> {
        let fair = if self.fair { "1" } else { "0" };
        let words = [&*self.head, &self.ttl, &self.block, &self.who, fair];
        let queue = channel.map(|channel| [channel, &self.life]);
        let words = words.into_iter().chain(queue.into_iter().flatten());
        words.map(str::as_bytes).collect()
    }
}

impl Redis {
    fn ask(&self, claim: &Claim, channel: Option<&str>) -> Result<Attempt> {
        let before = BootTime::now();
        let asking = Asking::new(claim, self.who(claim.label.as_deref())?);
        let args = asking.args(channel);
        let reply = self.run_for(claim, Verb::Acquire, &args)?;
        self.answer(claim, before, channel.is_some(), reply.value, reply.acks)
    }

    /// What the reply to an attempt means that was sent at `before`.
    pub(super) fn answer(
        &self,
        claim: &Claim,
        before: BootTime,
        waits: bool,
        reply: Value,
        acks: Option<i64>,
    ) -> Result<Attempt> {
        match reply {
            Value::Array(parts) => self.refusal(claim, waits, &parts),
            fence => match fence_or_lost(&fence)? {
                Some(fence) if fence > 0 || !self.is_native() => {
                    self.check_acks(claim, acks)?;
                    Ok(Attempt::Granted(granted(claim, before, fence)))
                }
                _ => Err(protocol("an odd answer to an acquire")),
            },
        }
    }

    /// `{0, ms until a lease ends or -1, how many wait before, whether a holder is none of ours}` or
    /// `{-1, the others' number of permits}`.
    fn refusal(&self, claim: &Claim, waits: bool, parts: &[Value]) -> Result<Attempt> {
        let field = |at: usize| parts.get(at).and_then(number);
        match (field(0), field(1)) {
            (Some(0), Some(left)) => {
                // A little later, so that the server has surely ended it.
                let until = u64::try_from(left)
                    .ok()
                    .map(|ms| BootTime::now().after(Duration::from_millis(ms.saturating_add(1))));
                let poll = match (field(2), field(3)) {
                    (Some(before), Some(1)) if waits => self.look_at_peer(claim, before)?,
                    // Nobody counts there who hears an offer: to the dead it lapses unnoticed.
                    (Some(1), _) if waits && self.is_cluster() => {
                        Some(BootTime::now().after(SECOND_LOOK))
                    }
                    _ => None,
                };
                Ok(Attempt::Busy(Busy {
                    until,
                    poll,
                    ..Busy::default()
                }))
            }
            (Some(-1), Some(of)) => Err(Error::invalid(format!(
                "others use this name with {of} permits"
            ))),
            _ => Err(protocol("an odd answer to an acquire")),
        }
    }

    /// When to look again at a lock that a peer holds, who tells nobody of its release. The head does
    /// that for all, the second for the case that the head is dead.
    fn look_at_peer(&self, claim: &Claim, before: i64) -> Result<Option<BootTime>> {
        let pause = match before {
            0 => self.process()?.polls.next(claim.token),
            1 => SECOND_LOOK,
            _ => return Ok(None),
        };
        Ok(Some(BootTime::now().after(pause)))
    }

    fn is_cluster(&self) -> bool {
        matches!(self.config.place, Place::Cluster(_))
    }

    fn lacks_acks(&self, acks: Option<i64>) -> bool {
        acks.is_some_and(|acks| acks < i64::from(self.config.min_acks)) && !cfg!(canary = "no_acks")
    }

    fn shortfall(&self, acks: Option<i64>) -> String {
        format!(
            "{} of the {} replicas that `min_acks` asks for have the lock",
            acks.unwrap_or(0),
            self.config.min_acks
        )
    }

    /// Gives a grant back that too few replicas have: a failover would forget it.
    fn check_acks(&self, claim: &Claim, acks: Option<i64>) -> Result<()> {
        if !self.lacks_acks(acks) {
            return Ok(());
        }
        let released = self.release(claim);
        let code = if released.is_ok() {
            Code::Unavailable
        } else {
            Code::Uncertain
        };
        Err(Error::new(code, self.shortfall(acks)))
    }

    /// What the reply to a request means that was sent at `before`, to lengthen a hold.
    pub(super) fn extended(
        &self,
        claim: &Claim,
        ttl: Duration,
        before: BootTime,
        reply: &Value,
        acks: Option<i64>,
    ) -> Result<Answer> {
        match fence_or_lost(reply)? {
            // It lasts at least as long as before.
            Some(_) if self.lacks_acks(acks) => {
                Err(Error::new(Code::Uncertain, self.shortfall(acks)))
            }
            Some(_) => Ok(Answer::Done(Some(before.after(ttl)))),
            None => {
                self.forget(claim);
                Ok(Answer::NotOurs)
            }
        }
    }

    /// Asks to leave the queue.
    fn leave(&self, claim: &Claim) -> Result<Cancelled> {
        let before = BootTime::now();
        let (token, ttl) = (claim.token.to_hex(), millis(ttl(claim)));
        let reply = self.run_for(claim, Verb::Cancel, &[token.as_bytes(), ttl.as_bytes()])?;
        let Some(fence) = fence_or_lost(&reply.value)? else {
            return Ok(Cancelled::Gone);
        };
        match self.check_acks(claim, reply.acks) {
            Ok(()) => Ok(Cancelled::Granted(granted(claim, before, fence))),
            Err(error) if error.code() == Code::Uncertain => Err(error),
            Err(_) => Ok(Cancelled::Gone),
        }
    }

    /// The claim neither waits nor holds: a wake-up for it is for nobody.
    pub(super) fn forget(&self, claim: &Claim) {
        self.forget_token(claim.token);
    }

    pub(super) fn forget_token(&self, token: OwnerToken) {
        if let Some(process) = self.known_process() {
            process.subscription.unregister(token);
            if !self.is_native() {
                process.polls.forget(token);
            }
        }
    }

    pub(super) fn forget_polls(&self, claim: &Claim) {
        if let Some(process) = self.known_process().filter(|_| !self.is_native()) {
            process.polls.forget(claim.token);
        }
    }

    /// As an attempt, without a queue: for want of rights there is none.
    fn attempt_bare(&self, claim: &Claim, busy: Attempt) -> Result<Attempt> {
        let Attempt::Busy(busy) = busy else {
            return Ok(busy);
        };
        Ok(Attempt::Busy(Busy {
            poll: self.look_at_peer(claim, 0)?,
            ..busy
        }))
    }

    /// A wake-up for nobody: the lock was handed to a waiter that has left.
    pub fn return_strays(&self, strays: Vec<Stray>) {
        for stray in strays {
            if let Ok(name) = Name::new(&stray.name) {
                self.release_stray(&name, stray.token);
            }
        }
    }
}

impl Backend for Redis {
    fn capabilities(&self) -> Capabilities {
        let dialect = self.config.dialect;
        let shares = matches!(dialect, Dialect::Native | Dialect::Symfony);
        Capabilities {
            store: dialect.store(),
            shared: shares,
            promote: shares,
            permits: dialect == Dialect::Native,
            ttl: true,
            frees_on_death: false,
            fence: Fence::Hybrid,
            wakes: true,
            fair: true,
            export: true,
            list: true,
            break_lock: true,
            survives_restart: false,
            clock: "server",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.config.url
    }

    fn fingerprint(&self) -> String {
        // However it is reached, the same database and prefix on a server of the same name.
        let server = self.config.place.to_string();
        format!(
            "{}:{server}/{}/{}",
            self.config.dialect.store(),
            self.config.database,
            self.config.prefix
        )
    }

    fn why_no_permits(&self) -> &'static str {
        if self.config.dialect == Dialect::RedisSemaphore {
            return "no permits in the format of redis-semaphore: each of its callers ends the others' by its own clock, its own lockTimeout and its own limit, so none is sure of its permit; permits are of the native format";
        }
        "permits are of the native format alone: this dialect has none"
    }

    fn life(&self, deadline: Option<BootTime>) -> Result<Option<Life>> {
        let reply = check(self.one(&pack(&[b"INFO", b"server"]), self.limit(deadline))?)?;
        answers::life(&text(&reply).unwrap_or_default())
            .map(Some)
            .ok_or_else(|| protocol("an odd answer to INFO"))
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        check(self.one(&pack(&[b"PING"]), self.limit(deadline))?).map(drop)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let subscription = &self.process()?.subscription;
        // It may be queued since before, by a bell that is gone.
        subscription.knows(claim.token);
        let Some(bell) = bell else {
            return self.ask(claim, None);
        };
        if self.is_bare() || !subscription.stands() {
            // Nothing may be queued before the server has acknowledged the subscription.
            let answer = self.ask(claim, None)?;
            if matches!(answer, Attempt::Granted(_)) {
                return Ok(answer);
            }
            // The first request may have found out.
            if self.is_bare() {
                return self.attempt_bare(claim, answer);
            }
            let limit = self.limit(claim.deadline);
            match self.subscribe(limit) {
                Ok(()) => {}
                Err(error) if is_forbidden(&error) => {
                    let Attempt::Busy(busy) = answer else {
                        return Ok(answer);
                    };
                    return Ok(Attempt::Busy(Busy {
                        poll: Some(BootTime::now().after(POLL)),
                        ..busy
                    }));
                }
                // No time was left for it: that the lock is taken is known all the same.
                Err(_) if claim.deadline.is_some_and(BootTime::has_passed) => return Ok(answer),
                Err(error) => return Err(error),
            }
        }
        subscription.register(claim.token, bell);
        let answer = self.ask(claim, Some(&subscription.channel));
        // After an error it may be granted yet: whoever cancels or releases it then forgets it.
        if matches!(answer, Ok(Attempt::Granted(_))) {
            subscription.knows(claim.token);
            self.forget_polls(claim);
        }
        answer
    }

    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        // A head that polls would ask twice each time; an attempt takes an offer up as well.
        if !self.is_native() {
            return self.attempt(claim, Some(bell));
        }
        let before = BootTime::now();
        let (token, ttl) = (claim.token.to_hex(), millis(ttl(claim)));
        self.process()?.subscription.knows(claim.token);
        let reply = self.run_for(claim, Verb::Extend, &[token.as_bytes(), ttl.as_bytes()])?;
        match fence_or_lost(&reply.value)? {
            Some(fence) => {
                self.check_acks(claim, reply.acks)?;
                Ok(Attempt::Granted(granted(claim, before, fence)))
            }
            None => self.attempt(claim, Some(bell)),
        }
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        // Until the answer is here, a wake-up is for the one who may hold by it.
        self.process()?.subscription.knows(claim.token);
        let left = self.leave(claim);
        if !matches!(left, Ok(Cancelled::Granted(_))) {
            self.forget(claim);
        }
        self.forget_polls(claim);
        left
    }

    fn take_caution(&self) -> Option<String> {
        self.take_words()
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let (wake, strays) = self.process()?.subscription.park(bell, until)?;
        self.return_strays(strays);
        Ok(wake)
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.known_process()?.subscription.fd()
    }

    fn pump(&self) {
        if let Some(process) = self.known_process() {
            let strays = process.subscription.pump();
            self.return_strays(strays);
        }
    }

    fn pipe(&self) -> Option<&dyn Pipe> {
        self.has_pipe().then_some(self)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let before = BootTime::now();
        let token = claim.token.to_hex();
        let ms = millis(ttl);
        let reply = self.run_for(claim, Verb::Extend, &[token.as_bytes(), ms.as_bytes()])?;
        self.extended(claim, ttl, before, &reply.value, reply.acks)
    }

    fn extends_together(&self) -> bool {
        true
    }

    fn extend_many(&self, claims: &[(&Claim, Duration)]) -> Vec<Result<Answer>> {
        let wishes: Vec<_> = claims
            .iter()
            .map(|(claim, ttl)| Longer(claim, *ttl))
            .collect();
        together::ask_all(self, &wishes)
    }

    /// Releases whose answers are not waited for go one by one, and so does what follows them.
    fn takes_together(&self) -> bool {
        !self.config.leaves_releases
    }

    fn attempt_many(&self, claims: &[&Claim]) -> Vec<Result<Attempt>> {
        let wishes: Vec<_> = claims.iter().map(|claim| Taking(claim)).collect();
        together::ask_all(self, &wishes)
    }

    fn release_many(&self, claims: &[&Claim]) -> Vec<Result<Answer>> {
        let wishes: Vec<_> = claims.iter().map(|claim| Leaving(claim)).collect();
        let answers = together::ask_all(self, &wishes);
        if let Some(process) = self.known_process() {
            process.owed.learn(true);
        }
        answers
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let token = claim.token.to_hex();
        let reply = self.run_for(claim, Verb::Release, &[token.as_bytes()]);
        // Not before: a late wake-up, taken for nobody's, would end the hold in this release's place.
        self.forget(claim);
        let reply = reply?;
        self.process()?.owed.learn(true);
        match pipe::released(&reply.value)? {
            // The request whose reply was lost may have released it, or it was lost before.
            Answer::NotOurs if reply.resent && !cfg!(canary = "no_resent") => Err(pipe::unknown()),
            answer => Ok(answer),
        }
    }

    fn raises_fences(&self) -> bool {
        true
    }

    fn release_later(&self, claim: &Claim) -> bool {
        self.release_behind(claim)
    }

    fn leaves_releases(&self) -> bool {
        self.config.leaves_releases
    }

    fn release_unanswered(&self, claim: &Claim, told: Told) -> Option<Told> {
        Redis::release_unanswered(self, claim, told)
    }

    fn collect(&self, waits: bool) -> Option<BootTime> {
        self.collect_owed(waits)
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let before = BootTime::now();
        let token = claim.token.to_hex();
        let block = claim.fence_block.max(1).to_string();
        let args = [
            token.as_bytes(),
            mode_letter(to).as_bytes(),
            block.as_bytes(),
        ];
        let reply = self.run_for(claim, Verb::ChangeMode, &args)?;
        let Value::Array(parts) = reply.value else {
            return Err(protocol("an odd answer to a change of mode"));
        };
        match (
            parts.first().and_then(number),
            parts.get(1).and_then(number),
            parts.get(2).and_then(number),
        ) {
            // A replica that does not know of it would let readers in.
            (Some(1), ..) if to == Mode::Exclusive && self.lacks_acks(reply.acks) => {
                Err(Error::new(Code::Uncertain, self.shortfall(reply.acks)))
            }
            (Some(1), Some(fence), Some(left)) => Ok(Attempt::Granted(Grant {
                lease: Some(before.after(Duration::from_millis(u64::try_from(left).unwrap_or(0)))),
                fence: u64::try_from(fence).ok(),
                recovered: false,
            })),
            (Some(0), ..) => Ok(Attempt::Busy(Busy::default())),
            (Some(-1), ..) => Err(Error::outcome(Code::Lost)),
            _ => Err(protocol("an odd answer to a change of mode")),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let reply = self.run(Verb::Inspect, &claim.name, &[], claim.deadline)?;
        is_among(&claim.token.to_hex(), claim.mode, &reply)
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.process()?.watches.wait_free(self, name, until)
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let reply = self.run(Verb::Inspect, name, &[], deadline)?;
        inspection(name.as_bytes(), &reply)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        listing::list(self, prefix, cursor, limit, deadline)
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let reply = self.run(Verb::Break, name, &[], deadline)?;
        number(&reply)
            .map(|count| count > 0)
            .ok_or_else(|| protocol("an odd answer to a break"))
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let before = BootTime::now();
        let (token, heir, ttl) = (claim.token.to_hex(), heir.to_hex(), millis(ttl(claim)));
        let who = self.who(claim.label.as_deref())?;
        // An heir whose token recurs may be another process.
        let again = if claim.recurs { "" } else { "again" };
        let args = [token.as_str(), &heir, &ttl, &who, again];
        let reply = self.run_for(claim, Verb::Adopt, &args.map(str::as_bytes))?;
        match fence_or_lost(&reply.value)? {
            Some(_) if self.lacks_acks(reply.acks) => {
                Err(Error::new(Code::Uncertain, self.shortfall(reply.acks)))
            }
            fence => Ok(fence.map(|fence| granted(claim, before, fence))),
        }
    }
}
