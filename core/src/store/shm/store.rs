//! The store contract over a segment.

use super::config::Config;
use super::layout::{LABEL_BYTES, Word, entry};
use super::member::Member;
use super::names::{self, Key};
use super::protocol::{Answer as Reply, Protocol, Table, Want};
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
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Holder, Inspection, Page,
};
use crate::sync::{Mutex, RwLock};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
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
}

/// What this process has in the segment.
#[derive(Debug, Default)]
struct State {
    member: RwLock<Option<Arc<Member>>>,
    waits: Arc<Waits>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    of: HashMap<OwnerToken, Entry>,
    /// At how many entries to look for those that nobody will ask for again.
    sweep_at: usize,
}

/// A record that is given back when nobody in this process can touch it any more: a late caller must
/// not meet the record's next hold.
#[derive(Debug)]
struct Record {
    member: Arc<Member>,
    number: u16,
}

impl Record {
    fn take(member: &Arc<Member>) -> Result<Arc<Self>> {
        Ok(Arc::new(Record {
            member: member.clone(),
            number: member.take_record()?,
        }))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.member.give_record(self.number);
    }
}

/// One claim's record.
#[derive(Clone, Debug)]
struct Entry {
    member: Arc<Member>,
    slot: u16,
    record: u16,
    fence: Option<u64>,
    looks: u32,
    _owned: Arc<Record>,
}

impl Entry {
    fn is_waiting(&self) -> bool {
        self.fence.is_none()
    }

    fn lease(&self) -> Option<BootTime> {
        let life = self.member.word(Word::Life, self.record);
        Life(life.load(Acquire)).until().map(BootTime::from_nanos)
    }

    fn grant(&self, recovered: bool) -> Grant {
        Grant {
            lease: self.lease(),
            fence: self.fence,
            recovered,
        }
    }
}

fn mode_word(mode: Mode) -> ModeWord {
    match mode {
        Mode::Exclusive => ModeWord::EXCLUSIVE,
        Mode::Shared => ModeWord::SHARED,
        Mode::Permits { take, of } => ModeWord::permits(take, of),
    }
}

fn mismatch(of: u32, claim: &Claim) -> Error {
    let ours = match claim.mode {
        Mode::Permits { of, .. } => of,
        _ => 0,
    };
    Error::invalid(format!(
        "others use this name with {of} permits, not {ours}"
    ))
}

fn want(member: &Member, claim: &Claim) -> Want {
    let until = claim.ttl.map(|ttl| BootTime::now().after(ttl).as_nanos());
    Want {
        mode: mode_word(claim.mode),
        life: Life::new(until, member.next_use()),
        fair: claim.fair,
        step: u64::from(claim.fence_block.max(1)),
    }
}

impl Shm {
    pub(super) fn new(config: Config) -> Self {
        Shm {
            url: format!("shm:{}", config.path.display()),
            config,
            state: PerProcess::new(),
        }
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
        self.state().entries.lock().of.get(&claim.token).cloned()
    }

    fn keep(&self, claim: &Claim, entry: &Entry) {
        let mut entries = self.state().entries.lock();
        entries.of.insert(claim.token, entry.clone());
        if entries.of.len() >= entries.sweep_at.max(256) {
            entries.sweep();
        }
    }

    /// Forgets a claim; its record is free again.
    fn forget(&self, claim: &Claim, entry: &Entry) {
        let state = self.state();
        let removed = state.entries.lock().of.remove(&claim.token);
        if removed.is_some() && entry.is_waiting() {
            state.waits.remove(entry.record);
        }
    }

    fn held_entry(&self, claim: &Claim) -> Option<Entry> {
        let entry = self.entry(claim)?;
        (!entry.is_waiting() && entry.member.is_in_place(&self.config)).then_some(entry)
    }

    /// Writes down for people whose record it is.
    fn describe(member: &Member, record: u16, claim: &Claim) {
        let segment = &member.segment;
        let at = segment.geometry.info(record);
        segment.write_bytes(at + entry::TOKEN, claim.token.as_bytes());
        segment
            .word(at + entry::SINCE)
            .store(BootTime::now().as_nanos(), Relaxed);
        let label = claim.label.as_deref().unwrap_or("").as_bytes();
        let label = &label[..label.len().min(LABEL_BYTES)];
        segment
            .word(at + entry::LABEL_LENGTH)
            .store(label.len() as u64, Relaxed);
        segment.write_bytes(at + entry::LABEL, label);
    }

    fn granted(&self, claim: &Claim, mut entry: Entry, epoch: u64, recovered: bool) -> Attempt {
        let segment = &entry.member.segment;
        let fence = names::fence_at(
            segment,
            entry.slot,
            epoch + 1 - u64::from(claim.fence_block.max(1)),
        );
        let at = segment.geometry.info(entry.record);
        segment.word(at + entry::FENCE).store(fence, Relaxed);
        segment
            .word(at + entry::SINCE)
            .store(BootTime::now().as_nanos(), Relaxed);
        entry.fence = Some(fence);
        let grant = entry.grant(recovered);
        self.keep(claim, &entry);
        Attempt::Granted(grant)
    }

    fn first_attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let key = Key::new(&claim.name);
        for _ in 0..MOST_MOVES {
            let member = self.member()?;
            let slot = names::find_or_put(&member, &key)?;
            let owned = Record::take(&member)?;
            let record = owned.number;
            Self::describe(&member, record, claim);
            let want = want(&member, claim);
            let view = View {
                member: &member,
                key: Some(&key),
            };
            let protocol = Protocol(&view);
            let entry = |fence| Entry {
                member: member.clone(),
                slot,
                record,
                fence,
                looks: 0,
                _owned: owned.clone(),
            };
            match (protocol.try_now(slot, record, &want), bell) {
                (Reply::Granted { epoch, recovered }, _) => {
                    return Ok(self.granted(claim, entry(None), epoch, recovered));
                }
                (Reply::Busy(until), None) => {
                    return Ok(Attempt::Busy(Busy {
                        until: until.map(BootTime::from_nanos),
                        poll: None,
                    }));
                }
                (Reply::Busy(_), Some(bell)) => {
                    if protocol.enqueue(slot, record, want.mode, false) {
                        let entry = entry(None);
                        self.keep(claim, &entry);
                        return self.look_again(claim, Some(bell), entry);
                    }
                }
                (Reply::Mismatch(of), _) => return Err(mismatch(of, claim)),
                (Reply::Moved, _) => {}
            }
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
        let key = Key::new(&claim.name);
        let member = entry.member.clone();
        let view = View {
            member: &member,
            key: Some(&key),
        };
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
        match protocol.look_again(entry.slot, entry.record, &want(&member, claim)) {
            Reply::Granted { epoch, recovered } => {
                waits.remove(entry.record);
                Ok(self.granted(claim, entry, epoch, recovered))
            }
            Reply::Busy(until) => {
                let near = protocol.position(entry.slot, entry.record) < 2;
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
                }))
            }
            Reply::Mismatch(of) => {
                self.forget(claim, &entry);
                Err(mismatch(of, claim))
            }
            Reply::Moved => {
                self.forget(claim, &entry);
                self.first_attempt(claim, bell)
            }
        }
    }

    fn look_up(&self, name: &Name) -> Result<Option<(Arc<Member>, u16)>> {
        let member = self.member()?;
        let slot = names::find(&member.segment, &Key::new(name));
        Ok(slot.map(|slot| (member, slot)))
    }

    fn show(member: &Member, slot: u16, name: Vec<u8>) -> Inspection {
        let view = View { member, key: None };
        let protocol = Protocol(&view);
        let holders = protocol.holders(slot).into_iter();
        Inspection {
            name,
            holders: holders.map(|record| holder(member, record)).collect(),
            waiters: Some(protocol.waiters(slot)),
        }
    }
}

impl Entries {
    /// Drops holds that ended without a release: exported, lost, or run out.
    fn sweep(&mut self) {
        let now = BootTime::now().as_nanos();
        self.of.retain(|_, entry| {
            if entry.is_waiting() {
                return true;
            }
            let word = entry.member.word(Word::Life, entry.record);
            let life = Life(word.load(Acquire));
            // One that has run out may be extended at this moment: one of the two wins.
            life.is_begun()
                && !(life.is_over(now)
                    && word
                        .compare_exchange(life.0, Life::ENDED.0, AcqRel, Acquire)
                        .is_ok())
        });
        self.sweep_at = self.of.len() * 2;
    }
}

fn token_of(member: &Member, record: u16) -> OwnerToken {
    let segment = &member.segment;
    let bytes = segment.read_bytes(segment.geometry.info(record) + entry::TOKEN, 16);
    let mut token = [0; 16];
    token.copy_from_slice(&bytes);
    OwnerToken::from_bytes(token)
}

fn holder(member: &Member, record: u16) -> Holder {
    let segment = &member.segment;
    let at = segment.geometry.info(record);
    let now = BootTime::now();
    let view = View { member, key: None };
    let mode = ModeWord(view.mode(record).load(Acquire));
    let life = Life(view.life(record).load(Acquire));
    let since = BootTime::from_nanos(segment.word(at + entry::SINCE).load(Relaxed));
    let length = segment.word(at + entry::LABEL_LENGTH).load(Relaxed) as usize;
    let label = segment.read_bytes(at + entry::LABEL, length.min(LABEL_BYTES));
    let label = String::from_utf8_lossy(&label).into_owned();
    Holder {
        owner: token_of(member, record).to_hex()[..8].to_owned(),
        mode: match mode.as_permits() {
            Some(_) => "permits",
            None if mode == ModeWord::SHARED => "shared",
            None => "exclusive",
        },
        permits: mode.as_permits().map_or(1, |(take, _)| take),
        host: None,
        pid: member.pid_of(record),
        label: (!label.is_empty()).then_some(label),
        remaining: life
            .until()
            .map(|until| BootTime::from_nanos(until).since(now)),
        held: Some(now.since(since)),
        fence: Some(segment.word(at + entry::FENCE).load(Relaxed)),
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

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        self.member().map(drop)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
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
        let view = View {
            member: &entry.member,
            key: None,
        };
        Protocol(&view).leave(entry.slot, entry.record);
        self.forget(claim, &entry);
        Ok(Cancelled::Gone)
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let state = self.state();
        let member = state.member.read().clone();
        Ok(match member {
            Some(member) => state.waits.park(&member, bell, until),
            None => bell.sleep(until),
        })
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let Some(entry) = self.held_entry(claim) else {
            return Ok(Answer::NotOurs);
        };
        let view = View {
            member: &entry.member,
            key: None,
        };
        let until = BootTime::now().after(ttl).as_nanos();
        let longer = Protocol(&view).extend(entry.record, until, entry.member.next_use());
        Ok(match longer {
            Some(until) => Answer::Done(until.map(BootTime::from_nanos)),
            None => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let Some(entry) = self.entry(claim) else {
            return Ok(Answer::NotOurs);
        };
        let view = View {
            member: &entry.member,
            key: None,
        };
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
        let view = View {
            member: &entry.member,
            key: None,
        };
        let protocol = Protocol(&view);
        match to {
            Mode::Exclusive => match protocol.promote(entry.slot, entry.record) {
                Reply::Granted { epoch, .. } => Ok(self.granted(claim, entry, epoch, false)),
                Reply::Busy(until) => Ok(Attempt::Busy(Busy {
                    until: until.map(BootTime::from_nanos),
                    poll: None,
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
        let view = View {
            member: &entry.member,
            key: None,
        };
        let over = entry.lease().is_some_and(BootTime::has_passed);
        Ok(!over && Protocol(&view).holds(entry.record))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let Some((member, slot)) = self.look_up(name)? else {
            return Ok(true);
        };
        let view = View {
            member: &member,
            key: None,
        };
        let protocol = Protocol(&view);
        let (bell, owned) = (Arc::new(Signal::new()), Record::take(&member)?);
        let record = owned.number;
        let waits = &self.state().waits;
        let queued = protocol.enqueue(slot, record, ModeWord::EXCLUSIVE, true);
        let added = waits.add(&member, &bell, record);
        let mut pause = Duration::from_millis(1);
        let free = loop {
            if added.is_err() || !queued || protocol.is_free(slot) {
                break true;
            }
            if until.has_passed() {
                break false;
            }
            pause = (pause * 2).min(NEAR_POLL);
            waits.park(&member, &bell, until.min(BootTime::now().after(pause)));
        };
        waits.remove(record);
        protocol.leave(slot, record);
        added.map(|()| free)
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        let bytes = name.as_bytes().to_vec();
        Ok(match self.look_up(name)? {
            Some((member, slot)) => Self::show(&member, slot, bytes),
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
                let lock = Self::show(&member, slot as u16, name);
                page.locks
                    .extend(Some(lock).filter(|lock| !lock.holders.is_empty()));
            }
        }
        Ok(page)
    }

    fn break_lock(&self, name: &Name, _deadline: Option<BootTime>) -> Result<bool> {
        let Some((member, slot)) = self.look_up(name)? else {
            return Ok(false);
        };
        let view = View {
            member: &member,
            key: None,
        };
        Ok(Protocol(&view).break_holds(slot))
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let Some((member, slot)) = self.look_up(&claim.name)? else {
            return Ok(None);
        };
        let view = View {
            member: &member,
            key: None,
        };
        let protocol = Protocol(&view);
        let holders = protocol.holders(slot);
        let from = holders
            .into_iter()
            .find(|record| token_of(&member, *record) == claim.token);
        let Some(from) = from else { return Ok(None) };
        let left = Life(view.life(from).load(Acquire)).until();
        let heirs = Claim {
            token: heir,
            ..claim.clone()
        };
        let owned = Record::take(&member)?;
        let record = owned.number;
        Self::describe(&member, record, &heirs);
        let life = Life::new(left, member.next_use());
        let mode = mode_word(claim.mode);
        // The hold goes on, and with it its token.
        let fence = member
            .segment
            .word(member.segment.geometry.info(from) + entry::FENCE)
            .load(Relaxed);
        if protocol.inherit(slot, from, record, mode, life).is_none() {
            return Ok(None);
        }
        let at = member.segment.geometry.info(record) + entry::FENCE;
        member.segment.word(at).store(fence, Relaxed);
        let entry = Entry {
            member: member.clone(),
            slot,
            record,
            fence: Some(fence),
            looks: 0,
            _owned: owned,
        };
        self.keep(&heirs, &entry);
        Ok(Some(entry.grant(false)))
    }
}
