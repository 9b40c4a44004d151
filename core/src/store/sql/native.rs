//! The store contract over an engine: synlock's own table.
//!
//! A lock that is free, or that one owner alone holds, is taken, lengthened and freed by one
//! statement. Everything else reads the row, works on it here, and writes it if nobody else has
//! written it meanwhile: no transaction stays open, so nobody waits for another's row for longer
//! than a statement takes, and nothing can deadlock.

use super::book::{self, Book, Released, Row, Verdict};
use super::config::Common;
use super::engine::{Engine, Grab, Id, Swap, Wrote};
use super::limit::Limit;
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::watches::{SAFETY_POLL, Watch, Watched, Watches};
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection, Life, Page,
};
use crate::{Error, Result, hex};
use sha2::{Digest, Sha256};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How many releases of a process pass between two purges.
const PURGE_EVERY: u32 = 100;
/// Of so many purges, one begins with the first row.
const FROM_THE_START: u8 = 4;
/// How often a lock is looked at that nobody rings for: the first time, and at most.
const FIRST_POLL: Duration = Duration::from_millis(4);
const LONGEST_POLL: Duration = Duration::from_millis(100);

/// Rows that are asked for at once, however long a page is to be.
const MOST_LISTED: usize = 500;

#[derive(Debug)]
pub(super) struct Native<E> {
    pub engine: E,
    common: Common,
    who: PerProcess<String>,
    releases: AtomicU32,
    watches: PerProcess<Watches>,
}

/// What a handle's seat keeps: the key of its name, and how often it asked in vain.
struct Notes {
    id: Id,
    polls: u32,
}

pub(super) fn id_of(name: &Name) -> Id {
    let mut whole = name.as_bytes();
    // Canary of row 32.
    if cfg!(canary = "cut_long") {
        whole = &whole[..whole.len().min(1000)];
    }
    Sha256::digest(whole).into()
}

/// When to ask again after so many times in vain: later and later, never in step with others.
pub(super) fn next_poll(polls: u32, token: &OwnerToken) -> BootTime {
    let pause = (FIRST_POLL * 2u32.saturating_pow(polls.min(8))).min(LONGEST_POLL);
    let odd = u32::from(token.as_bytes()[(polls as usize) % 16]);
    // Between half of it and all of it.
    BootTime::now().after(pause / 2 + pause * odd / 512)
}

fn fence(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}

fn granted(claim: &Claim, before: BootTime, number: i64) -> Grant {
    let ttl = claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE);
    Grant {
        lease: Some(before.after(ttl)),
        fence: fence(number),
        recovered: false,
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Nothing was written: whoever tries to get the lock has found it in others' hands.
fn contended(limit: Limit) -> Error {
    if limit.is_brief() {
        return Error::outcome(Code::Busy);
    }
    Error::new(
        Code::Unavailable,
        "others changed the lock's row each time before it could be written",
    )
}

impl<E: Engine> Native<E> {
    pub fn new(engine: E, common: Common) -> Self {
        Native {
            engine,
            common,
            who: PerProcess::new(),
            releases: AtomicU32::new(0),
            watches: PerProcess::new(),
        }
    }

    fn who(&self, claim: &Claim) -> String {
        let host_and_pid = self.who.get_or_init(book::host_and_pid);
        book::who(host_and_pid, claim.label.as_deref())
    }

    fn id(claim: &Claim) -> Id {
        let known = claim.seat.with(|notes: &mut Notes| notes.id);
        known.unwrap_or_else(|| {
            let id = id_of(&claim.name);
            claim.seat.put(Notes { id, polls: 0 });
            id
        })
    }

    /// Reads the row, works on it and writes it, as often as others are faster.
    fn change<T>(
        &self,
        id: &Id,
        mut row: Option<Row>,
        limit: Limit,
        mut work: impl FnMut(&mut Book) -> Result<(T, bool)>,
    ) -> Result<T> {
        let mut turns = 0u32;
        loop {
            let found = match row.take() {
                Some(row) => row,
                // A lock whose row was purged, or never made, is free.
                None => self.engine.read(id, limit)?.unwrap_or_default(),
            };
            let mut book = Book::read(&found)?;
            let (answer, changed) = work(&mut book)?;
            if !changed {
                return Ok(answer);
            }
            let state = book.text();
            let swap = Swap {
                id,
                version: found.version,
                seen_fence: found.fence,
                fence: book.fence,
                since: found.now,
                until: book.until(),
                state: &state,
                notes: &book.notes,
            };
            if self.engine.swap(&swap, limit)? {
                return Ok(answer);
            }
            if limit.has_passed() {
                return Err(contended(limit));
            }
            turns += 1;
            if turns > 3 {
                // Not in step with those who were faster.
                std::thread::sleep(Duration::from_micros(u64::from(turns.min(20)) * 50));
            }
        }
    }

    fn ask(&self, claim: &Claim, channel: Option<&str>) -> Result<Attempt> {
        match self.look(claim, channel) {
            // Another's transaction has the row or the table, and nobody rings when it ends.
            Err(error) if error.code() == Code::Busy => Ok(Attempt::Busy(Busy {
                poll: Some(Self::poll(claim)),
                ..Busy::default()
            })),
            looked => looked,
        }
    }

    fn look(&self, claim: &Claim, channel: Option<&str>) -> Result<Attempt> {
        let before = BootTime::now();
        let limit = self.engine.limit(claim.deadline).brief();
        let (id, who) = (Self::id(claim), self.who(claim));
        let state = book::only(claim, &who);
        let block = i64::from(claim.fence_block.max(1));
        let grab = Grab {
            id: &id,
            name: claim.name.as_bytes(),
            block,
            ttl: book::micros(claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)),
            state: &state,
            asked_before: claim.seat.with(|notes: &mut Notes| notes.polls > 0) == Some(true),
        };
        let mut turns = 0;
        let row = loop {
            match self.engine.grab(&grab, limit)? {
                Wrote::Done(last) => {
                    let first = if cfg!(canary = "flat_fence") {
                        1
                    } else {
                        last - block + 1
                    };
                    return Ok(Attempt::Granted(granted(claim, before, first)));
                }
                Wrote::Found(Some(row)) => break row,
                // Another writer was faster, and has freed or not yet shown it.
                Wrote::Found(None) if limit.has_passed() || turns == 100 => {
                    return Err(contended(limit));
                }
                Wrote::Found(None) => turns += 1,
            }
        };
        let verdict = self.change(&id, Some(row), limit, |book| {
            let verdict = book.attempt(claim, &who, channel)?;
            let changed = !matches!(verdict, Verdict::Busy { changed: false, .. });
            Ok((verdict, changed))
        })?;
        Ok(match verdict {
            Verdict::Granted { fence } => Attempt::Granted(granted(claim, before, fence)),
            Verdict::Busy { left, .. } => {
                // A little later, so that the server has surely ended it.
                let ends = |left| BootTime::now().after(duration(left) + Duration::from_millis(1));
                Attempt::Busy(Busy {
                    until: left.map(ends),
                    poll: channel.is_none().then(|| Self::poll(claim)),
                    ..Busy::default()
                })
            }
        })
    }

    fn poll(claim: &Claim) -> BootTime {
        let polls = claim.seat.with(|notes: &mut Notes| {
            notes.polls += 1;
            notes.polls - 1
        });
        next_poll(polls.unwrap_or(4), &claim.token)
    }

    /// Now and then, after a release: it is over, and the caller does not wait for a lock.
    fn purge_now_and_then(&self, token: &OwnerToken) {
        if self.common.purge_after.is_zero() {
            return;
        }
        let releases = self.releases.fetch_add(1, Ordering::Relaxed);
        if releases % PURGE_EVERY == PURGE_EVERY - 1 {
            // Somewhere in the table: keys are hashes, so in time every row comes under it.
            let mut after: Id = Sha256::digest(token.as_bytes()).into();
            // The first rows of a table have hardly a key before them.
            if after[31].is_multiple_of(FROM_THE_START) {
                after = Id::default();
            }
            let limit = BootTime::now().after(Duration::from_millis(200));
            let idle = book::micros(self.common.purge_after);
            // What cannot be dropped now can be later.
            let _ = self
                .engine
                .purge(&after, idle, self.engine.limit(Some(limit)));
        }
    }

    /// Those who poll are not in the book.
    fn shown(&self, book: &Book, name: &[u8]) -> Inspection {
        let shown = book.inspection(name);
        Inspection {
            waiters: shown.waiters.filter(|_| self.engine.traits().wakes),
            ..shown
        }
    }

    fn read(&self, name: &Name, deadline: Option<BootTime>) -> Result<Book> {
        let row = self
            .engine
            .read(&id_of(name), self.engine.limit(deadline))?;
        Book::read(&row.unwrap_or_default())
    }
}

impl<E: Engine> Backend for Native<E> {
    fn capabilities(&self) -> Capabilities {
        let traits = self.engine.traits();
        Capabilities {
            store: traits.store,
            shared: true,
            promote: true,
            permits: true,
            ttl: true,
            frees_on_death: false,
            fence: Fence::Durable,
            wakes: traits.wakes,
            fair: traits.wakes,
            export: true,
            list: true,
            break_lock: true,
            survives_restart: true,
            clock: traits.clock,
            scope: traits.scope,
        }
    }

    fn url(&self) -> &str {
        &self.common.url
    }

    fn fingerprint(&self) -> String {
        self.common.fingerprint.clone()
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        self.engine.ping(self.engine.limit(deadline))
    }

    /// It forgets nothing; but leases end early when its clock goes ahead.
    fn life(&self, deadline: Option<BootTime>) -> Result<Option<Life>> {
        let clock = self.engine.clock(self.engine.limit(deadline))?;
        Ok(Some(Life {
            id: String::new(),
            up: Duration::MAX,
            clock: Some(duration(clock)),
        }))
    }

    /// A server may read a statement after its connection was given up, and another session's before it. A file is
    /// asked on this thread.
    fn may_be_late(&self) -> bool {
        self.engine.traits().scope == Scope::Cluster
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let Some(bell) = bell else {
            return self.ask(claim, None);
        };
        claim.seat.with(|notes: &mut Notes| notes.polls = 0);
        self.queue(claim, bell)
    }

    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        self.queue(claim, bell)
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        self.engine.unregister(claim.token);
        let (before, limit) = (BootTime::now(), self.engine.limit(claim.deadline));
        let taken = self.change(&Self::id(claim), None, limit, |book| {
            let before = book.text();
            let taken = book.cancel(claim.token, claim.fence_block);
            Ok((taken, book.text() != before))
        })?;
        Ok(match taken {
            Some(fence) => Cancelled::Granted(granted(claim, before, fence)),
            None => Cancelled::Gone,
        })
    }

    fn take_caution(&self) -> Option<String> {
        self.engine.take_caution()
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        self.engine.park(bell, until)
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.engine.pump_fd()
    }

    fn pump(&self) {
        self.engine.pump();
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let (before, limit) = (BootTime::now(), self.engine.limit(claim.deadline));
        let (id, state) = (Self::id(claim), book::only(claim, &self.who(claim)));
        let done = Answer::Done(Some(before.after(ttl)));
        let row = match self.engine.touch(&id, &state, book::micros(ttl), limit)? {
            Wrote::Done(()) => return Ok(done),
            Wrote::Found(row) => row,
        };
        let ours = self.change(&id, row, limit, |book| {
            let ours = book.extend(claim.token, ttl);
            Ok((ours, ours))
        })?;
        Ok(if ours { done } else { Answer::NotOurs })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let limit = self.engine.limit(claim.deadline);
        let (id, state) = (Self::id(claim), book::only(claim, &self.who(claim)));
        let released = match self.engine.free(&id, &state, limit)? {
            Wrote::Done(()) => Released::Held,
            Wrote::Found(row) => self.change(&id, row, limit, |book| {
                let released = book.release(claim.token);
                Ok((released, released != Released::Nothing))
            })?,
        };
        self.purge_now_and_then(&claim.token);
        Ok(match released {
            Released::Held => Answer::Done(None),
            Released::Queued | Released::Nothing => Answer::NotOurs,
        })
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let (before, limit) = (BootTime::now(), self.engine.limit(claim.deadline));
        let changed = self.change(&Self::id(claim), None, limit, |book| {
            let changed = book.change_mode(claim, to);
            Ok((changed, matches!(changed, Some(Some(_)))))
        })?;
        match changed {
            None => Err(Error::outcome(Code::Lost)),
            Some(None) => Ok(Attempt::Busy(Busy::default())),
            Some(Some((number, left))) => Ok(Attempt::Granted(Grant {
                lease: Some(before.after(duration(left))),
                fence: fence(number),
                recovered: false,
            })),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        Ok(self
            .read(&claim.name, claim.deadline)?
            .holds(claim.token, claim.mode))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let watches = self.watches.get_or_init(Watches::default);
        watches.wait_free(self, name, until)
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let book = self.read(name, deadline)?;
        Ok(self.shown(&book, name.as_bytes()))
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        let mut after = match cursor {
            None => Vec::new(),
            Some(text) => read_cursor(text)?,
        };
        let mut page = Page::default();
        loop {
            let until = self.engine.limit(deadline);
            let size = (limit - page.locks.len()).min(MOST_LISTED);
            let rows = self.engine.list(&after, prefix, size, until)?;
            let full = rows.len() >= size;
            for listed in rows {
                let book = Book::read(&listed.row)?;
                if !book.is_free() {
                    page.locks.push(self.shown(&book, &listed.name));
                }
                after = listed.id;
            }
            if !full {
                return Ok(page);
            }
            if page.locks.len() >= limit || deadline.is_some_and(BootTime::has_passed) {
                page.cursor = Some(hex::encode(&after));
                return Ok(page);
            }
        }
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let limit = self.engine.limit(deadline);
        self.change(&id_of(name), None, limit, |book| {
            let any = book.break_holds();
            Ok((any, any))
        })
    }

    fn create_table(&self, deadline: Option<BootTime>) -> Result<()> {
        self.engine.create_table(self.engine.limit(deadline))
    }

    fn ddl(&self, engine: Option<&str>) -> Result<String> {
        let own = self.engine.traits().store;
        super::ddl(engine.unwrap_or(own), &self.common.table)
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let (before, limit) = (BootTime::now(), self.engine.limit(claim.deadline));
        let who = self.who(claim);
        let adopted = self.change(&Self::id(claim), None, limit, |book| {
            let adopted = book.adopt(claim, heir, &who);
            Ok((adopted, adopted.is_some()))
        })?;
        Ok(adopted.map(|fence| granted(claim, before, fence)))
    }
}

impl<E: Engine> Watched for Native<E> {
    fn is_free(&self, name: &Name) -> Result<bool> {
        Ok(self.read(name, None)?.is_free())
    }

    fn look(&self, name: &Name, watch: &Watch) -> Result<Option<BootTime>> {
        if self.engine.traits().wakes
            && let Some(answer) = self.register(name, watch)?
        {
            return Ok(answer);
        }
        let is_free = self.is_free(name)?;
        Ok((!is_free).then(|| next_poll(watch.looks, &watch.token)))
    }

    fn wait(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        self.engine.park(bell, until)
    }

    fn leave(&self, token: OwnerToken) {
        self.engine.unregister(token);
    }
}

impl<E: Engine> Native<E> {
    /// Sees to it that the watch is told when nobody holds; when to look again, nothing if nobody does. Not at all
    /// behind a pooler, where the table may only be read, or where others are always faster.
    fn register(&self, name: &Name, watch: &Watch) -> Result<Option<Option<BootTime>>> {
        let limit = self.engine.limit(None);
        let Some(channel) = self.engine.channel(limit)? else {
            return Ok(None);
        };
        self.engine.register(watch.token, &watch.bell);
        let looked = self.change(&id_of(name), None, limit, |book| {
            let before = book.text();
            let left = book.watch(watch.token, channel);
            Ok((left, book.text() != before))
        });
        // Worse trouble is met again by whoever only looks.
        let Ok(left) = looked else { return Ok(None) };
        Ok(Some(left.map(|left| {
            // A lease that runs out is told to nobody.
            let ends = duration(left).saturating_add(Duration::from_millis(1));
            BootTime::now().after(ends.min(SAFETY_POLL))
        })))
    }

    /// Asks, and waits in the queue if it is busy and this process can be told.
    fn queue(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        let traits = self.engine.traits();
        if !traits.wakes {
            return self.ask(claim, None);
        }
        let mut known = None;
        if !self.engine.listens() {
            // Nobody may be queued before the server has acknowledged that we listen; most locks are
            // free.
            let answer = self.ask(claim, None)?;
            if matches!(answer, Attempt::Granted(_)) {
                return Ok(answer);
            }
            match self.engine.channel(self.engine.limit(claim.deadline)) {
                Ok(Some(_)) => known = Some(answer),
                Ok(None) => return Ok(answer),
                // No time was left for it: that the lock is taken is known all the same.
                Err(_) if claim.deadline.is_some_and(BootTime::has_passed) => return Ok(answer),
                Err(error) => return Err(error),
            }
        }
        self.engine.register(claim.token, bell);
        let channel = self.engine.channel(self.engine.limit(claim.deadline))?;
        let answer = match (self.ask(claim, channel), known) {
            // Whether it is queued is unknown; whoever gives up now takes it out.
            (Err(error), Some(busy))
                if error.is_trouble() && claim.deadline.is_some_and(BootTime::has_passed) =>
            {
                Ok(busy)
            }
            (answer, _) => answer,
        };
        if !matches!(answer, Ok(Attempt::Busy(_))) {
            self.engine.unregister(claim.token);
        }
        answer
    }
}

/// The bytes in a cursor.
pub(super) fn read_cursor(text: &str) -> Result<Vec<u8>> {
    hex::decode(text.as_bytes()).ok_or_else(|| Error::invalid("this is no cursor of ours"))
}
