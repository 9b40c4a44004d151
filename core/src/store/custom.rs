//! Stores of one's own: callbacks of the host become a store.
//!
//! They are called on threads of the host alone, inside its own calls: nobody renews a lease behind
//! its back, event loops are refused, and a release whose reply was lost is repeated by the next call.
//! Who waits asks again and again, on its own thread.

use crate::capability::{Capabilities, Fence, Scope};
use crate::fork::{self, PerProcess};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::service;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection, Page};
use crate::sync::Mutex;
use crate::{Code, Error, OwnerToken, Result};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// When to ask again for a lock that is taken, unless the callback says.
const POLL: Duration = Duration::from_millis(50);
/// As `POLL`, for those who wait without taking the lock.
const WATCH_POLL: Duration = Duration::from_millis(20);
/// Releases to repeat that are kept at once, and how long each without a lease.
const MOST_BURNT: usize = 1000;
const BURNT_WITHOUT_LEASE: Duration = Duration::from_secs(60);

/// What the host asks its store for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// May this owner hold the lock now? `Ok`, or `Busy`. Asked again by an owner that holds, it is a
    /// grant.
    Attempt,
    /// Lengthen the hold to `ttl` from now, never shorten it: `Ok`, or `Lost`.
    Extend,
    /// End the hold: `Ok`, or `Lost` if it is not this owner's.
    Release,
    /// Does this owner hold the lock? `Ok`, or `Lost`.
    IsHeld,
    /// Turn the hold into one of the mode `to`: `Ok`, `Busy`, or `Lost`.
    ChangeMode,
    /// Say who holds the lock.
    Inspect,
    /// Say what is held of the names that begin with the one given, which may be empty.
    List,
    /// Take the lock from whoever holds it: `Ok`, or `NotHeld` if nobody does.
    BreakLock,
    /// Can the store serve?
    Ping,
}

impl Verb {
    /// Its name in Python and C.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Attempt => "attempt",
            Verb::Extend => "extend",
            Verb::Release => "release",
            Verb::IsHeld => "is_held",
            Verb::ChangeMode => "change_mode",
            Verb::Inspect => "inspect",
            Verb::List => "list",
            Verb::BreakLock => "break_lock",
            Verb::Ping => "ping",
        }
    }

    /// The code of a callback that fails without saying how: one that acts may have acted.
    pub fn failed(self) -> Code {
        match self {
            Verb::Attempt | Verb::Extend | Verb::Release | Verb::ChangeMode | Verb::BreakLock => {
                Code::Uncertain
            }
            Verb::IsHeld | Verb::Inspect | Verb::List | Verb::Ping => Code::Unavailable,
        }
    }
}

/// What it is asked about.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The resource; of `List` the prefix.
    pub name: &'a [u8],
    /// Whose hold: 32 hexadecimal digits. Whoever knows them may release the lock.
    pub owner: String,
    /// In which way, and for `ChangeMode` which way from now on.
    pub mode: Mode,
    /// The mode that the hold has at `ChangeMode`.
    pub from: Mode,
    /// How long the hold lasts without being lengthened; `None` without a lease.
    pub ttl: Option<Duration>,
    /// How long the answer may take; `None` leaves it to the store.
    pub time: Option<Duration>,
    /// Words for whoever inspects the lock.
    pub label: Option<&'a str>,
    /// Whether the caller will ask again if the lock is taken.
    pub waits: bool,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `Ok`, or the outcome that the verb names; any other code is an error.
    pub code: Code,
    /// Why, if it is an error.
    pub words: String,
    /// Of a grant: its fencing token.
    pub fence: Option<u64>,
    /// Of a grant: the owner before died inside.
    pub recovered: bool,
    /// Of `Busy`: when the holder's lease can end.
    pub until: Option<Duration>,
    /// Of `Busy`: when to ask again.
    pub poll: Option<Duration>,
    /// Of `Inspect` and `List`: locks that are held.
    pub locks: Vec<Inspection>,
}

impl Reply {
    /// This outcome and nothing else.
    pub fn of(code: Code) -> Self {
        Reply {
            code,
            words: String::new(),
            fence: None,
            recovered: false,
            until: None,
            poll: None,
            locks: Vec::new(),
        }
    }
}

/// What a custom store can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a record of what it can do")]
pub struct Traits {
    /// Shared holds.
    pub shared: bool,
    /// Several permits.
    pub permits: bool,
    /// `Extend` is answered, and holds end after their TTL.
    pub ttl: bool,
    /// A hold without a TTL ends when its owner's process dies.
    pub frees_on_death: bool,
    /// `ChangeMode` is answered.
    pub change_mode: bool,
    /// `Inspect` is answered.
    pub inspect: bool,
    /// `List` is answered.
    pub list: bool,
    /// `BreakLock` is answered.
    pub break_lock: bool,
    /// `Ping` is answered.
    pub ping: bool,
    /// Holds survive a restart of what keeps them.
    pub survives_restart: bool,
    /// Class of the fencing tokens.
    pub fence: Fence,
    /// Whom it keeps out.
    pub scope: Scope,
}

/// The host's half of a custom store. Called on the host's threads, several at once; dropped on one of
/// them, and never in a forked child.
pub trait Callbacks: Send + Sync {
    /// Answers. An error is told to whoever used the lock, with its source; a panic too.
    ///
    /// # Errors
    /// Whatever the host likes. `Unavailable` says that surely nothing was done.
    fn call(&self, verb: Verb, ask: &Ask<'_>) -> Result<Reply>;

    /// The host is going: it must not be called any more, not even when this is dropped.
    fn abandon(&self) {}
}

/// A hold to release whose release was not answered.
struct Burnt {
    claim: Claim,
    until: BootTime,
}

struct Custom {
    url: String,
    can: Traits,
    /// Where it was made: a child uses it, but does not drop it.
    generation: u64,
    callbacks: ManuallyDrop<Box<dyn Callbacks>>,
    burnt: PerProcess<Mutex<Vec<Burnt>>>,
    abandoned: AtomicBool,
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custom")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Drop for Custom {
    fn drop(&mut self) {
        if self.generation == fork::generation() && !service::is_this_thread() {
            // SAFETY: taken once, since this runs once.
            let callbacks = unsafe { ManuallyDrop::take(&mut self.callbacks) };
            // What the host lets go of must not take us with it.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(callbacks)));
        }
    }
}

/// A backend that asks the host.
///
/// # Errors
/// `InvalidArgument` for a name that could not stand in a URL, `Unsupported` for promises that
/// contradict each other.
pub(crate) fn open(
    name: &str,
    can: Traits,
    callbacks: Box<dyn Callbacks>,
) -> Result<Arc<dyn Backend>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        return Err(Error::invalid(
            "a custom store is named by 1 to 64 letters, digits, `-`, `_` and `.`",
        ));
    }
    if can.list && !can.inspect {
        return Err(Error::unsupported(
            "a store that lists its locks inspects them too",
        ));
    }
    if !can.ttl && !can.frees_on_death {
        return Err(Error::unsupported(
            "without leases (`extend`), a custom store must free the locks of dead processes (`frees_on_death`)",
        ));
    }
    Ok(Arc::new(Custom {
        url: format!("custom:{name}"),
        can,
        generation: fork::generation(),
        callbacks: ManuallyDrop::new(callbacks),
        burnt: PerProcess::new(),
        abandoned: AtomicBool::new(false),
    }))
}

impl Custom {
    fn ask<'a>(&self, claim: &'a Claim) -> Ask<'a> {
        Ask {
            name: claim.name.as_bytes(),
            owner: claim.token.to_hex(),
            mode: claim.mode,
            from: claim.mode,
            ttl: claim.ttl,
            time: claim.deadline.map(BootTime::left),
            label: claim.label.as_deref(),
            waits: false,
        }
    }

    fn ask_about<'a>(&self, name: &'a [u8], deadline: Option<BootTime>) -> Ask<'a> {
        Ask {
            name,
            owner: String::new(),
            mode: Mode::Exclusive,
            from: Mode::Exclusive,
            ttl: None,
            time: deadline.map(BootTime::left),
            label: None,
            waits: false,
        }
    }

    /// Asks the host; `expected` are the outcomes that are no errors.
    fn call(&self, verb: Verb, ask: &Ask<'_>, expected: &[Code]) -> Result<Reply> {
        if service::is_this_thread() {
            return Err(Error::unsupported(
                "a custom store is asked on threads of the program alone, not in the background",
            ));
        }
        if self.abandoned.load(Ordering::Acquire) {
            let words = "the request that made this custom store is over";
            return Err(Error::new(Code::Unavailable, words));
        }
        self.settle();
        self.call_now(verb, ask, expected)
    }

    fn call_now(&self, verb: Verb, ask: &Ask<'_>, expected: &[Code]) -> Result<Reply> {
        let answered = catch_unwind(AssertUnwindSafe(|| self.callbacks.call(verb, ask)));
        let reply = match answered {
            Ok(reply) => reply?,
            Err(panic) => {
                let words = panic_words(&*panic);
                std::mem::forget(panic);
                let words = format!("the custom store's {} panicked: {words}", verb.name());
                return Err(Error::new(verb.failed(), words));
            }
        };
        if reply.code == Code::Ok || expected.contains(&reply.code) {
            return Ok(reply);
        }
        let words = if reply.words.is_empty() {
            reply.code.text().to_owned()
        } else {
            reply.words
        };
        if reply.code.is_outcome() {
            let words = format!(
                "the custom store's {} answered {}, which is none of its answers",
                verb.name(),
                reply.code.name()
            );
            return Err(Error::new(Code::Protocol, words));
        }
        Err(Error::new(
            reply.code,
            format!("the custom store's {} failed: {words}", verb.name()),
        ))
    }

    /// Repeats the releases that were not answered; whoever calls next does it.
    fn settle(&self) {
        let Some(burnt) = self.burnt.get() else {
            return;
        };
        let due = std::mem::take(&mut *burnt.lock());
        let mut left = Vec::new();
        for one in due {
            let answer = self.call_now(Verb::Release, &self.ask(&one.claim), &[Code::Lost]);
            if answer.is_err() && !one.until.has_passed() {
                left.push(one);
            }
        }
        if !left.is_empty() {
            burnt.lock().append(&mut left);
        }
    }

    fn granted(&self, claim: &Claim, reply: &Reply) -> Grant {
        Grant {
            lease: claim
                .ttl
                .filter(|_| self.can.ttl)
                .map(|ttl| claim.asked.after(ttl)),
            fence: reply
                .fence
                .filter(|fence| *fence > 0 && self.can.fence != Fence::None),
            recovered: reply.recovered,
        }
    }

    fn needs(&self, has: bool, words: &str) -> Result<()> {
        if has {
            Ok(())
        } else {
            Err(Error::unsupported(words))
        }
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| {
            panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
        })
        .unwrap_or_else(|| "no words".to_owned())
}

impl Backend for Custom {
    fn capabilities(&self) -> Capabilities {
        let can = self.can;
        Capabilities {
            store: "custom",
            shared: can.shared,
            promote: can.shared && can.change_mode,
            permits: can.permits,
            ttl: can.ttl,
            frees_on_death: can.frees_on_death,
            fence: can.fence,
            wakes: false,
            fair: false,
            export: false,
            list: can.list,
            break_lock: can.break_lock,
            survives_restart: can.survives_restart,
            // Whoever keeps the leases may have a clock of its own.
            clock: if can.ttl { "server" } else { "none" },
            scope: can.scope,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn is_caller_thread_only(&self) -> bool {
        true
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.callbacks.abandon();
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        if !self.can.ping {
            return Ok(());
        }
        self.call(Verb::Ping, &self.ask_about(b"", deadline), &[])
            .map(drop)
    }

    fn reserves_fences(&self) -> bool {
        false
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.needs(
            claim.fence_block <= 1,
            "a custom store reserves no fencing tokens",
        )?;
        let ask = Ask {
            waits: bell.is_some(),
            ..self.ask(claim)
        };
        let reply = self.call(Verb::Attempt, &ask, &[Code::Busy])?;
        if reply.code == Code::Ok {
            return Ok(Attempt::Granted(self.granted(claim, &reply)));
        }
        let now = BootTime::now();
        // A quarter more or less, so that waiters do not ask in step.
        let poll = reply.poll.unwrap_or(POLL).max(Duration::from_millis(1));
        let spread = u32::from(claim.token.as_bytes()[1]) + 384;
        Ok(Attempt::Busy(Busy {
            until: reply.until.map(|left| now.after(left)),
            poll: Some(now.after(poll * spread / 512)),
            ..Busy::default()
        }))
    }

    fn cancel(&self, _claim: &Claim) -> Result<Cancelled> {
        // Nobody queues: an attempt that was refused left nothing behind.
        Ok(Cancelled::Gone)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        self.needs(self.can.ttl, "this custom store has no leases")?;
        let ask = Ask {
            ttl: Some(ttl),
            ..self.ask(claim)
        };
        let reply = self.call(Verb::Extend, &ask, &[Code::Lost])?;
        Ok(match reply.code {
            Code::Ok => Answer::Done(Some(claim.asked.after(ttl))),
            _ => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        if let Some(burnt) = self.burnt.get() {
            // It is made now; made twice, the second answer would be a loss.
            burnt.lock().retain(|one| one.claim.token != claim.token);
        }
        let reply = self.call(Verb::Release, &self.ask(claim), &[Code::Lost])?;
        Ok(match reply.code {
            Code::Ok => Answer::Done(None),
            _ => Answer::NotOurs,
        })
    }

    fn release_later(&self, claim: &Claim) -> bool {
        if self.abandoned.load(Ordering::Acquire) {
            return true;
        }
        let keep = claim.ttl.unwrap_or(BURNT_WITHOUT_LEASE);
        let mut burnt = self.burnt.get_or_init(Mutex::default).lock();
        if burnt.len() < MOST_BURNT {
            burnt.push(Burnt {
                claim: claim.clone(),
                until: BootTime::now().after(keep),
            });
        }
        true
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        self.needs(
            self.can.change_mode,
            "this custom store cannot change the mode of a hold",
        )?;
        let ask = Ask {
            mode: to,
            ..self.ask(claim)
        };
        let reply = self.call(Verb::ChangeMode, &ask, &[Code::Busy, Code::Lost])?;
        match reply.code {
            Code::Ok => Ok(Attempt::Granted(Grant {
                // It was not lengthened.
                lease: None,
                ..self.granted(claim, &reply)
            })),
            Code::Busy => Ok(Attempt::Busy(Busy::default())),
            _ => Err(Error::outcome(Code::Lost)),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let reply = self.call(Verb::IsHeld, &self.ask(claim), &[Code::Lost])?;
        Ok(reply.code == Code::Ok)
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let mut pause = WATCH_POLL;
        while !self.inspect(name, None)?.holders.is_empty() {
            if until.has_passed() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(until.left()));
            pause = (pause * 2).min(POLL * 5);
        }
        Ok(true)
    }

    fn inspects(&self) -> bool {
        self.can.inspect
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        self.needs(
            self.can.inspect,
            "this custom store cannot tell who holds a lock",
        )?;
        let ask = self.ask_about(name.as_bytes(), deadline);
        let mut locks = self.call(Verb::Inspect, &ask, &[Code::NotHeld])?.locks;
        locks.retain(|lock| lock.name == name.as_bytes());
        let mut found = Inspection {
            name: name.as_bytes().to_vec(),
            ..Inspection::default()
        };
        for lock in locks {
            found.waiters = found.waiters.or(lock.waiters);
            found.holders.extend(lock.holders);
        }
        Ok(found)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.needs(self.can.list, "this custom store cannot list its locks")?;
        let after = cursor.map(read_cursor).transpose()?;
        let mut locks = self
            .call(Verb::List, &self.ask_about(prefix, deadline), &[])?
            .locks;
        locks.retain(|lock| {
            lock.name.starts_with(prefix)
                && !lock.holders.is_empty()
                && after.as_ref().is_none_or(|after| lock.name > *after)
        });
        locks.sort_by(|a, b| a.name.cmp(&b.name));
        let cursor = (locks.len() > limit).then(|| {
            locks.truncate(limit);
            write_cursor(locks.last().map_or(&[], |lock| &lock.name))
        });
        Ok(Page { locks, cursor })
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        self.needs(self.can.break_lock, "this custom store cannot break locks")?;
        let ask = self.ask_about(name.as_bytes(), deadline);
        let reply = self.call(Verb::BreakLock, &ask, &[Code::NotHeld])?;
        Ok(reply.code == Code::Ok)
    }

    fn adopt(&self, _claim: &Claim, _heir: OwnerToken) -> Result<Option<Grant>> {
        Err(Error::unsupported(
            "holds of a custom store cannot be handed to another process",
        ))
    }
}

/// A cursor is the last name of its page, in hexadecimal digits.
fn write_cursor(name: &[u8]) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_cursor(text: &str) -> Result<Vec<u8>> {
    let bad = || Error::invalid("this is no cursor of ours");
    if !text.len().is_multiple_of(2) {
        return Err(bad());
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(bad)
        })
        .collect()
}
