//! The store contract over a segment.

use super::config::Config;
use super::kept::Kept;
use super::layout::entry;
use super::look;
use super::member::Member;
use super::names::{self, Key};
use super::protocol::{Answer as Reply, Protocol, Table, Want};
use super::records::{Entries, Entry, Record};
use super::view::View;
use super::waits::Waits;
use super::words::{Life, ModeWord};
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::cautions::{Looked, of_folder, of_namespace};
use crate::store::segment::folder::HOST_DIR;
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Check, Claim, Grant, Inspection, Page, Tokens,
};
use crate::sync::{Mutex, RwLock};
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

/// How often the first two waiters look at whether the holder still lives, at least; doubling from
/// a millisecond.
const NEAR_POLL: Duration = Duration::from_millis(250);
/// How often the others look.
const FAR_POLL: Duration = Duration::from_secs(1);
/// How often a name may be moved to another slot between two looks.
const MOST_MOVES: u32 = 100;

#[derive(Debug)]
pub(super) struct Shm {
    config: Config,
    url: String,
    state: PerProcess<State>,
    looked: Looked,
}

/// What this process has in the segment.
#[derive(Debug, Default)]
struct State {
    member: RwLock<Option<Arc<Member>>>,
    waits: Arc<Waits>,
    entries: Arc<Mutex<Entries>>,
}

pub(super) fn mode_word(mode: Mode) -> ModeWord {
    match mode {
        Mode::Exclusive => ModeWord::EXCLUSIVE,
        Mode::Shared => ModeWord::SHARED,
        Mode::Permits { take, of } => ModeWord::permits(take, of),
    }
}

pub(super) fn mismatch(of: u32, claim: &Claim) -> Error {
    let ours = match claim.mode {
        Mode::Permits { of, .. } => of,
        _ => 0,
    };
    Error::invalid(format!(
        "others use this name with {of} permits, not {ours}"
    ))
}

/// What a claim wants, as of `now`.
pub(super) fn want(record: &Record, claim: &Claim, now: BootTime) -> Want {
    let until = claim.ttl.map(|ttl| now.after(ttl).as_nanos());
    Want {
        mode: mode_word(claim.mode),
        life: Life::new(until, record.next_use()),
        fair: claim.fair,
        step: u64::from(claim.fence_block.max(1)),
    }
}

pub(super) fn busy(until: Option<u64>) -> Attempt {
    Attempt::Busy(Busy {
        until: until.map(BootTime::from_nanos),
        poll: None,
        ..Busy::default()
    })
}

impl Shm {
    pub(super) fn new(config: Config) -> Self {
        Shm {
            url: format!("shm:{}", config.path.display()),
            config,
            state: PerProcess::new(),
            looked: Looked::default(),
        }
    }

    /// Words about the place of the segment.
    fn look(&self) -> Vec<String> {
        let mut words = of_folder(&self.config.path, false);
        if self.config.path.starts_with(HOST_DIR) {
            words.extend(of_namespace("shared memory"));
        }
        words
    }

    fn state(&self) -> &State {
        self.state.get_or_init(State::default)
    }

    /// This process' part in the segment that stands in the place now.
    fn member(&self) -> Result<Arc<Member>> {
        let state = self.state();
        if let Some(member) = &*state.member.read()
            && member.is_in_place(&self.config)
        {
            return Ok(member.clone());
        }
        let mut known = state.member.write();
        match &*known {
            Some(member) if member.is_in_place(&self.config) => Ok(member.clone()),
            _ => {
                let member = Arc::new(Member::attach(&self.config)?);
                *known = Some(member.clone());
                Ok(member)
            }
        }
    }

    fn entry(&self, claim: &Claim) -> Option<Entry> {
        if claim.seat.keeps() {
            let entry = |kept: &mut Kept| kept.in_use().cloned();
            return claim.seat.with(entry).flatten();
        }
        self.state().entries.lock().of.get(&claim.token).cloned()
    }

    /// An entry that belongs to the handle and is in no use.
    fn spare_entry(&self, claim: &Claim) -> Option<Entry> {
        let spare = |kept: &mut Kept| kept.spare(&self.config).cloned();
        claim.seat.with(spare).flatten()
    }

    fn keep(&self, claim: &Claim, entry: &Entry) {
        let state = self.state();
        if !claim.seat.keeps() {
            return state.entries.lock().keep(claim.token, entry.clone());
        }
        let put = |kept: &mut Kept| kept.put(entry.clone());
        if claim.seat.with(put) != Some(true) {
            claim
                .seat
                .put(Kept::new(entry.clone(), state.entries.clone()));
        }
    }

    /// Forgets a claim; its record is free again.
    fn forget(&self, claim: &Claim, entry: &Entry) {
        let state = self.state();
        if entry.is_waiting() {
            state.waits.remove(&entry.member, entry.record);
        }
        if !claim.seat.keeps() {
            state.entries.lock().of.remove(&claim.token);
        } else if claim.seat.with(|kept: &mut Kept| kept.free(&self.config)) == Some(false) {
            claim.seat.clear();
        }
    }

    fn held_entry(&self, claim: &Claim) -> Option<Entry> {
        let entry = self.entry(claim)?;
        (!entry.is_waiting() && entry.member.is_in_place(&self.config)).then_some(entry)
    }

    fn granted(&self, claim: &Claim, mut entry: Entry, epoch: u64, recovered: bool) -> Attempt {
        entry.note_grant(claim, epoch, BootTime::now());
        let grant = entry.grant(recovered);
        self.keep(claim, &entry);
        Attempt::Granted(grant)
    }

    fn new_entry(&self, claim: &Claim, key: &Key) -> Result<Entry> {
        let member = self.member()?;
        let slot = names::find_or_put(&member, key)?;
        let mut entry = Entry::new(member, slot)?;
        entry.describe(claim);
        Ok(entry)
    }

    fn first_attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let key = Key::new(&claim.name);
        for _ in 0..MOST_MOVES {
            let mut entry = match self.spare_entry(claim) {
                Some(entry) => entry,
                None => self.new_entry(claim, &key)?,
            };
            entry.name_owner(claim.token);
            let (slot, record) = (entry.slot, entry.record);
            // Putting in a name may have taken its time.
            let want = want(&entry.owned, claim, BootTime::now());
            let view = View::of(&entry.member, &key);
            let protocol = Protocol(&view);
            match (protocol.try_now(slot, record, &want), bell) {
                (Reply::Granted { epoch, recovered }, _) => {
                    return Ok(self.granted(claim, entry, epoch, recovered));
                }
                (Reply::Busy(until), None) => {
                    // The record is the handle's for the next time.
                    self.keep(claim, &entry);
                    self.forget(claim, &entry);
                    return Ok(busy(until));
                }
                (Reply::Busy(_), Some(bell)) => {
                    if protocol.enqueue(slot, record, want.mode, false) {
                        self.keep(claim, &entry);
                        return self.look_again(claim, Some(bell), entry);
                    }
                }
                (Reply::Mismatch(of), _) => {
                    claim.seat.clear();
                    return Err(mismatch(of, claim));
                }
                (Reply::Moved, _) => {}
            }
            claim.seat.clear();
        }
        Err(Error::new(
            Code::Unavailable,
            "the segment's names change all the time: it needs more `slots`",
        ))
    }

    fn look_again(
        &self,
        claim: &Claim,
        bell: Option<&Arc<Signal>>,
        mut entry: Entry,
    ) -> Result<Attempt> {
        let member = entry.member.clone();
        let view = View::at(&member, entry.naming);
        let protocol = Protocol(&view);
        let waits = &self.state().waits;
        if let Some(bell) = bell
            && let Err(error) = waits.add(&member, bell, entry.record)
        {
            protocol.leave(entry.slot, entry.record);
            self.forget(claim, &entry);
            return Err(error);
        }
        if !member.is_in_place(&self.config) {
            self.forget(claim, &entry);
            return self.first_attempt(claim, bell);
        }
        let want = want(&entry.owned, claim, BootTime::now());
        match protocol.look_again(entry.slot, entry.record, &want) {
            Reply::Granted { epoch, recovered } => {
                waits.remove(&member, entry.record);
                Ok(self.granted(claim, entry, epoch, recovered))
            }
            Reply::Busy(until) => {
                let deaf = cfg!(canary = "no_bell");
                let near = !deaf && protocol.is_near(entry.slot, entry.record);
                entry.looks = (entry.looks + 1).min(16);
                self.keep(claim, &entry);
                let pause = if near {
                    NEAR_POLL.min(Duration::from_millis(1 << entry.looks.min(10)))
                } else {
                    FAR_POLL
                };
                Ok(Attempt::Busy(Busy {
                    until: until.map(BootTime::from_nanos),
                    poll: Some(BootTime::now().after(pause)),
                    ..Busy::default()
                }))
            }
            Reply::Mismatch(of) => {
                self.forget(claim, &entry);
                Err(mismatch(of, claim))
            }
            Reply::Moved => {
                self.forget(claim, &entry);
                claim.seat.clear();
                self.first_attempt(claim, bell)
            }
        }
    }

    /// Waits for a slot to be free; nothing if its segment was lost meanwhile.
    fn watch(
        &self,
        member: &Arc<Member>,
        (slot, key): (u16, &Key),
        until: BootTime,
    ) -> Result<Option<bool>> {
        let view = View::of(member, key);
        let protocol = Protocol(&view);
        let (bell, owned) = (Arc::new(Signal::new()), Record::take(member)?);
        let record = owned.number;
        let waits = &self.state().waits;
        let queued = protocol.enqueue(slot, record, ModeWord::EXCLUSIVE, true);
        let added = waits.add(member, &bell, record);
        let mut pause = Duration::from_millis(1);
        let free = loop {
            // A name that has lost its slot was free.
            if added.is_err() || !queued || protocol.is_free(slot) || !view.is_named(slot) {
                break Some(true);
            }
            if !member.is_in_place(&self.config) {
                break None;
            }
            if until.has_passed() {
                break Some(false);
            }
            pause = (pause * 2).min(NEAR_POLL);
            waits.park(&bell, until.min(BootTime::now().after(pause)));
        };
        waits.remove(member, record);
        protocol.leave(slot, record);
        added.map(|()| free)
    }

    fn look_up(&self, key: &Key) -> Result<Option<(Arc<Member>, u16)>> {
        let member = self.member()?;
        let slot = names::find(&member.segment, key);
        Ok(slot.map(|slot| (member, slot)))
    }
}

impl Backend for Shm {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: "shm",
            shared: true,
            promote: true,
            permits: true,
            ttl: true,
            frees_on_death: true,
            fence: Fence::Hybrid,
            wakes: true,
            fair: true,
            export: true,
            list: true,
            break_lock: true,
            survives_restart: false,
            clock: "host",
            scope: Scope::Host,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn first_caution(&self) -> Option<String> {
        self.looked.next(|| self.look())
    }

    fn tokens(&self) -> Tokens {
        Tokens::Seated
    }

    fn answers_at_once(&self) -> bool {
        true
    }

    fn name_owner(&self, claim: &Claim, _before: OwnerToken) {
        let name = |kept: &mut Kept| kept.name_owner(claim.token);
        claim.seat.with(name);
    }

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        self.member().map(drop)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        if bell.is_none() {
            let known = |kept: &mut Kept| kept.try_now(&self.config, claim);
            if let Some(answer) = claim.seat.with(known).flatten() {
                return answer;
            }
        }
        match self.entry(claim) {
            None => self.first_attempt(claim, bell),
            Some(entry) if entry.is_waiting() => self.look_again(claim, bell, entry),
            Some(entry) => Ok(Attempt::Granted(entry.grant(false))),
        }
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let Some(entry) = self.entry(claim) else {
            return Ok(Cancelled::Gone);
        };
        if !entry.is_waiting() {
            return Ok(Cancelled::Granted(entry.grant(false)));
        }
        let view = View::any(&entry.member);
        Protocol(&view).leave(entry.slot, entry.record);
        self.forget(claim, &entry);
        Ok(Cancelled::Gone)
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        Ok(self.state().waits.park(bell, until))
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let Some(entry) = self.held_entry(claim) else {
            return Ok(Answer::NotOurs);
        };
        let view = View::any(&entry.member);
        let until = claim.asked.after(ttl).as_nanos();
        let longer = Protocol(&view).extend(entry.record, until, entry.owned.next_use());
        Ok(match longer {
            Some(until) => Answer::Done(until.map(BootTime::from_nanos)),
            None => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let known = |kept: &mut Kept| kept.release(&self.config, claim.fair);
        if let Some(ours) = claim.seat.with(known).flatten() {
            return Ok(if ours {
                Answer::Done(None)
            } else {
                Answer::NotOurs
            });
        }
        let Some(entry) = self.entry(claim) else {
            return Ok(Answer::NotOurs);
        };
        let view = View::any(&entry.member);
        let protocol = Protocol(&view);
        let ours = if entry.is_waiting() {
            protocol.leave(entry.slot, entry.record);
            false
        } else {
            protocol.release(entry.slot, entry.record, claim.fair)
                && entry.member.is_in_place(&self.config)
        };
        self.forget(claim, &entry);
        Ok(if ours {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        })
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let lost = || Error::outcome(Code::Lost);
        let entry = self.held_entry(claim).ok_or_else(lost)?;
        let view = View::any(&entry.member);
        let protocol = Protocol(&view);
        match to {
            Mode::Exclusive => match protocol.promote(entry.slot, entry.record) {
                Reply::Granted { epoch, .. } => Ok(self.granted(claim, entry, epoch, false)),
                Reply::Busy(until) => Ok(Attempt::Busy(Busy {
                    until: until.map(BootTime::from_nanos),
                    poll: None,
                    ..Busy::default()
                })),
                _ => Err(lost()),
            },
            Mode::Shared if protocol.demote(entry.slot, entry.record) => {
                Ok(Attempt::Granted(entry.grant(false)))
            }
            Mode::Shared => Err(lost()),
            Mode::Permits { .. } => Err(Error::unsupported("a hold cannot be turned into permits")),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let Some(entry) = self.held_entry(claim) else {
            return Ok(false);
        };
        let view = View::any(&entry.member);
        let over = entry.lease().is_some_and(BootTime::has_passed);
        Ok(!over && Protocol(&view).holds(entry.record))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let key = Key::new(name);
        loop {
            let Some((member, slot)) = self.look_up(&key)? else {
                return Ok(true);
            };
            if let Some(free) = self.watch(&member, (slot, &key), until)? {
                return Ok(free);
            }
        }
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        let bytes = name.as_bytes().to_vec();
        Ok(match self.look_up(&Key::new(name))? {
            Some((member, slot)) => look::show(&member, slot, bytes),
            None => Inspection {
                name: bytes,
                waiters: Some(0),
                ..Inspection::default()
            },
        })
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        _deadline: Option<BootTime>,
    ) -> Result<Page> {
        let member = self.member()?;
        let slots = member.segment.geometry.slots;
        let start = match cursor {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .ok()
                .filter(|slot| *slot < slots)
                .ok_or_else(|| Error::invalid("this is no cursor of ours"))?,
        };
        let mut page = Page::default();
        for slot in start..slots {
            if page.locks.len() >= limit {
                page.cursor = Some(slot.to_string());
                break;
            }
            let name = names::name_of(&member.segment, slot as u16);
            if let Some(name) = name.filter(|name| name.starts_with(prefix)) {
                let lock = look::show(&member, slot as u16, name);
                page.locks
                    .extend(Some(lock).filter(|lock| !lock.holders.is_empty()));
            }
        }
        Ok(page)
    }

    fn break_lock(&self, name: &Name, _deadline: Option<BootTime>) -> Result<bool> {
        let key = Key::new(name);
        let Some((member, slot)) = self.look_up(&key)? else {
            return Ok(false);
        };
        let view = View::of(&member, &key);
        Ok(Protocol(&view).break_holds(slot))
    }

    fn check(&self) -> Result<Check> {
        super::check::check(&self.config)
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let Some((member, slot)) = self.look_up(&Key::new(&claim.name))? else {
            return Ok(None);
        };
        let view = View::any(&member);
        let protocol = Protocol(&view);
        let holders = protocol.holders(slot);
        let from = holders.into_iter().find(|record| {
            claim.token != OwnerToken::NONE && look::token_of(&member, *record) == claim.token
        });
        let Some(from) = from else { return Ok(None) };
        let left = Life(view.life(from).load(Acquire)).until();
        let mut entry = Entry::new(member.clone(), slot)?;
        entry.describe(claim);
        entry.name_owner(heir);
        let life = Life::new(left, entry.owned.next_use());
        let mode = mode_word(claim.mode);
        // The hold goes on, and with it its token.
        let fence = member
            .segment
            .word(member.segment.geometry.info(from) + entry::FENCE)
            .load(Relaxed);
        let is_meant = || look::token_of(&member, from) == claim.token;
        let heirs = protocol.inherit(slot, from, entry.record, (mode, life), is_meant);
        if heirs.is_none() {
            return Ok(None);
        }
        let at = entry.info + entry::FENCE;
        member.segment.word(at).store(fence, Relaxed);
        entry.fence = Some(fence);
        if claim.seat.keeps() {
            self.keep(claim, &entry);
        } else {
            self.state().entries.lock().keep(heir, entry.clone());
        }
        Ok(Some(entry.grant(false)))
    }
}
