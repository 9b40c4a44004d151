//! `DIR/.synlock`: the mapped file in which waiters of the directory's locks queue and are woken.
//!
//! It says nothing about who holds. Without it (removed, damaged, of another layout or owner, no room)
//! waiters poll, and locks are as safe as with it.

use super::config::Config;
use super::dialect::{Dialect, symfony_file_name};
use super::queue::{Line, Queue, Table, Turn};
use crate::Result;
use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::name::Name;
use crate::signal::{Signal, Wake};
use crate::store::Claim;
use crate::store::segment::config::{Config as Place, QUEUE_SLOTS};
use crate::store::segment::layout::{GROUP, Kind, Word, entry};
use crate::store::segment::member::Member;
use crate::store::segment::waits::Waits;
use crate::sync::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// The companion's name; lock files never begin with a dot.
pub(super) const FILE_NAME: &str = ".synlock";
/// How often to look whether the file is still there, and to ask again for one that was not to be had.
const LOOK_EVERY: u64 = 1_000_000_000;
/// The first polls at most this far apart, at first more often: holders that die and strangers that
/// let go tell nobody.
const FIRST_POLL: Duration = Duration::from_millis(50);
const SHORTEST_POLL: Duration = Duration::from_millis(1);
/// The others look whether the first lives: all together about as often, however many they are.
const SAFETY_POLL: Duration = Duration::from_millis(200);
const LONGEST_POLL: Duration = Duration::from_millis(500);
const LOOKERS: u32 = 16;

/// A claim in the queue.
#[derive(Clone, Debug)]
struct Queued {
    member: Arc<Member>,
    record: u16,
    line: Line,
    /// Looks in vain since it was woken last.
    looks: u32,
    again: BootTime,
}

/// A record that hears of the lock until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    member: Arc<Member>,
    record: u16,
    line: Line,
    waits: Arc<Waits>,
    bell: Arc<Signal>,
}

impl Watch {
    /// Until the lock may have come free.
    pub(super) fn sleep(&self, until: BootTime) -> Wake {
        self.waits.park(&self.bell, until)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.waits.remove(&self.member, self.record);
        Queue(&*self.member, self.line).leave(self.record);
        self.member.give_record(self.record);
    }
}

/// What a waiter is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether nobody comes before it: it may try.
    pub(super) is_first: bool,
    /// When to look again unless woken.
    pub(super) again: BootTime,
}

/// This process' part in the companion.
#[derive(Debug)]
pub(super) struct Companion {
    dialect: Dialect,
    place: Place,
    member: RwLock<Option<Arc<Member>>>,
    /// How often that has changed, and one.
    changes: AtomicU64,
    /// When to look at the file again; never, until the directory is known to be there.
    next_look: AtomicU64,
    waits: Arc<Waits>,
    queued: Mutex<ByToken<Queued>>,
    any_queued: AtomicBool,
    last_unfair: AtomicU64,
    caution: Mutex<Option<String>>,
    cautioned: AtomicBool,
}

/// The file as a handle found it last, so that its pairs count no references.
#[derive(Debug, Default)]
pub(super) struct Found {
    changes: u64,
    member: Option<Arc<Member>>,
}

/// Which queue a name has. FNV-1a: names are to be spread, not to withstand whoever may write to the
/// directory anyway.
pub(super) fn line(dialect: Dialect, name: &Name) -> Line {
    match dialect {
        Dialect::Native | Dialect::File => line_of(name.as_bytes()),
        // Apart from the native lock of that name, which is another file.
        Dialect::Symfony => line_of(symfony_file_name(name.as_bytes()).as_bytes()),
    }
}

fn line_of(bytes: &[u8]) -> Line {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Line {
        slot: ((hash >> 48) as u32 % QUEUE_SLOTS) as u16,
        key: hash | 1,
    }
}

impl Companion {
    pub(super) fn new(config: &Config) -> Self {
        // Whoever may write to it can hurt its users, so it is not for all whom a dialect serves.
        let mode = match (config.dialect.is_native(), config.group) {
            (true, _) => config.mode,
            (false, None) => 0o600,
            (false, Some(_)) => 0o660,
        };
        Companion {
            dialect: config.dialect,
            place: Place {
                kind: Kind::Queues,
                path: config.dir.join(FILE_NAME),
                mode,
                group: config.group,
                slots: Some(QUEUE_SLOTS),
            },
            member: RwLock::default(),
            changes: AtomicU64::new(1),
            next_look: AtomicU64::new(u64::MAX),
            waits: Arc::default(),
            queued: Mutex::default(),
            any_queued: AtomicBool::new(false),
            last_unfair: AtomicU64::new(0),
            caution: Mutex::default(),
            cautioned: AtomicBool::new(false),
        }
    }

    /// The directory is there and may be trusted.
    pub(super) fn begin(&self) {
        self.next_look.store(0, Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.next_look.load(Relaxed) != u64::MAX
    }

    /// Attaches to the file if it is due by the coarse clock, and does what is asked with it; `None`
    /// without one.
    #[inline]
    fn with<T>(
        &self,
        now: u64,
        found: &mut Found,
        act: impl FnOnce(&Arc<Member>) -> T,
    ) -> Option<T> {
        if now >= self.next_look.load(Relaxed) {
            self.look_at_file();
        }
        // Before the file: one that came between is found again the next time.
        let changes = self.changes.load(Acquire);
        if found.changes != changes {
            self.find(changes, found);
        }
        found.member.as_ref().map(act)
    }

    #[cold]
    fn find(&self, changes: u64, found: &mut Found) {
        let member = self.member.read().clone();
        *found = Found { changes, member };
    }

    #[cold]
    fn look_at_file(&self) {
        self.next_look
            .store(BootTime::coarse_nanos() + LOOK_EVERY, Relaxed);
        if let Some(member) = &*self.member.read()
            && member.segment.is_in_place(&self.place)
        {
            return;
        }
        let attached = Member::attach(&self.place);
        if let Err(error) = &attached
            && !self.cautioned.swap(true, Relaxed)
        {
            *self.caution.lock() = Some(format!(
                "waiters poll, and newcomers may overtake them, since {} cannot be used: {}",
                self.place.path.display(),
                error.message()
            ));
        }
        *self.member.write() = attached.ok().map(Arc::new);
        self.changes.fetch_add(1, Release);
    }

    /// Words about a companion that cannot be used, once.
    pub(super) fn take_caution(&self) -> Option<String> {
        if !self.cautioned.load(Relaxed) {
            return None;
        }
        self.caution.lock().take()
    }

    /// Whether a newcomer has to wait behind somebody.
    #[inline]
    pub(super) fn is_waited_for(&self, now: u64, found: &mut Found, line: Line) -> bool {
        self.with(now, found, |member| Queue(&**member, line).is_waited_for())
            .unwrap_or(false)
    }

    /// Somebody let go, or makes room for others beside it.
    #[inline]
    pub(super) fn pass_on(&self, now: u64, found: &mut Found, line: Line, fair: bool) {
        if !fair {
            // Even to see who is first costs more than an unfair hold; once in a tick will do, since
            // a first that was woken looks again after a millisecond.
            let tick = now ^ line.key;
            if self.last_unfair.swap(tick, Relaxed) == tick {
                return;
            }
        }
        let _ = self.with(now, found, |member| Queue(&**member, line).pass_on(fair));
    }

    /// How many wait, if there is a queue.
    pub(super) fn waiters(&self, line: Line) -> Option<u32> {
        let now = BootTime::coarse_nanos();
        self.with(now, &mut Found::default(), |member| {
            Queue(&**member, line).waiters() as u32
        })
    }

    fn of(&self, claim: &Claim) -> Option<Queued> {
        if !self.has_queued() {
            return None;
        }
        self.queued.lock().get(&claim.token).cloned()
    }

    /// Whether any claim of this process stands in a queue.
    #[inline]
    pub(super) fn has_queued(&self) -> bool {
        self.any_queued.load(Acquire)
    }

    pub(super) fn is_queued(&self, claim: &Claim) -> bool {
        self.of(claim).is_some()
    }

    /// Joins the queue, or looks again from it. `None`: there is none to join.
    pub(super) fn look(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Option<Look>> {
        let mut known = self.of(claim);
        let now = BootTime::coarse_nanos();
        let current = self.with(now, &mut Found::default(), Clone::clone);
        let same = |queued: &Queued| {
            current
                .as_ref()
                .is_some_and(|member| Arc::ptr_eq(member, &queued.member))
        };
        if known.as_ref().is_some_and(|queued| !same(queued)) {
            self.leave(claim);
            known = None;
        }
        let Some(member) = current else {
            return Ok(None);
        };
        let mut queued = match known {
            Some(queued) => queued,
            None => match self.join(claim, member) {
                Some(queued) => queued,
                None => return Ok(None),
            },
        };
        if let Err(error) = self.waits.add(&queued.member, bell, queued.record) {
            self.leave(claim);
            return Err(error);
        }
        let now = BootTime::now();
        let turn = Queue(&*queued.member, queued.line).look(queued.record);
        if now < queued.again || matches!(turn, Turn::Behind(_)) {
            queued.looks = 0;
        }
        let pause = match turn {
            Turn::First => SHORTEST_POLL
                .saturating_mul(1 << queued.looks.min(8))
                .min(FIRST_POLL),
            Turn::Behind(waiting) => {
                let share = waiting as u32 / LOOKERS;
                (SAFETY_POLL * share.max(1)).min(LONGEST_POLL)
            }
        };
        let random = claim.token.as_bytes()[queued.looks as usize % 8];
        queued.looks += 1;
        // Spread out, so that waiters do not look in step.
        queued.again = now.after(pause / 2 + pause / 2 * u32::from(random) / 256);
        let look = Look {
            is_first: turn == Turn::First,
            again: queued.again,
        };
        let mut all = self.queued.lock();
        all.insert(claim.token, queued);
        self.any_queued.store(true, Relaxed);
        Ok(Some(look))
    }

    fn join(&self, claim: &Claim, member: Arc<Member>) -> Option<Queued> {
        let record = member.take_record().ok()?;
        let queued = Queued {
            record,
            line: line(self.dialect, &claim.name),
            looks: 0,
            again: BootTime::from_nanos(0),
            member,
        };
        Queue(&*queued.member, queued.line).join(record);
        let mut all = self.queued.lock();
        all.insert(claim.token, queued.clone());
        self.any_queued.store(true, Relaxed);
        Some(queued)
    }

    /// Watches a lock; nothing where there is no queue, or no room in it.
    pub(super) fn watch(&self, line: Line) -> Option<Watch> {
        let now = BootTime::coarse_nanos();
        let member = self.with(now, &mut Found::default(), Clone::clone)?;
        let record = member.take_record().ok()?;
        let watch = Watch {
            record,
            line,
            waits: self.waits.clone(),
            bell: Arc::default(),
            member,
        };
        self.waits.add(&watch.member, &watch.bell, record).ok()?;
        Queue(&*watch.member, line).watch(record);
        Some(watch)
    }

    /// Leaves the queue without telling anybody; true if the claim stood in it.
    pub(super) fn leave(&self, claim: &Claim) -> bool {
        if !self.any_queued.load(Acquire) {
            return false;
        }
        let removed = {
            let mut all = self.queued.lock();
            let removed = all.remove(&claim.token);
            self.any_queued.store(!all.is_empty(), Relaxed);
            removed
        };
        let Some(queued) = removed else {
            return false;
        };
        self.waits.remove(&queued.member, queued.record);
        Queue(&*queued.member, queued.line).leave(queued.record);
        queued.member.give_record(queued.record);
        true
    }

    /// Sleeps until there is word for the bell.
    pub(super) fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Wake {
        self.waits.park(bell, until)
    }
}

/// What is kept in a record, under the names that it has in the arrays of shm.
const KEY: Word = Word::Life;
const SEEN: Word = Word::Late;

impl Table for Member {
    #[inline]
    fn flag(&self, slot: u16) -> &AtomicU64 {
        self.segment.word(self.segment.slot(slot) + entry::FLAG)
    }
    fn tail(&self, slot: u16) -> &AtomicU64 {
        self.segment.word(self.segment.slot(slot) + entry::TAIL)
    }
    fn place(&self, record: u16) -> &AtomicU64 {
        self.word(Word::Place, record)
    }
    fn key(&self, record: u16) -> &AtomicU64 {
        self.word(KEY, record)
    }
    fn seen(&self, record: u16) -> &AtomicU64 {
        self.word(SEEN, record)
    }
    fn records(&self) -> u16 {
        self.groups_used() * GROUP
    }
    fn is_alive(&self, record: u16) -> bool {
        self.lives(self.owner_of(record))
    }
    fn now(&self) -> u64 {
        BootTime::now().as_nanos()
    }
    fn wake(&self, record: u16) {
        Member::wake(self, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    /// The queue of a directory, as one process or another has it.
    fn companion(dir: &std::path::Path) -> Companion {
        let mut url = Url::parse(&format!("flock:{}", dir.display()), &[]).unwrap();
        let companion = Companion::new(&Config::take(&mut url).unwrap());
        companion.begin();
        companion
    }

    #[test]
    fn who_watches_hears_of_every_release_and_of_nothing_else() {
        let dir = std::env::temp_dir().join(format!("synlock-watch-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (here, there) = (companion(&dir), companion(&dir));
        let [line, other] = [&b"a"[..], b"b"].map(line_of);
        let let_go =
            |line| there.pass_on(BootTime::coarse_nanos(), &mut Found::default(), line, true);
        let watch = here.watch(line).unwrap();
        for _ in 0..3 {
            let_go(line);
            let never = BootTime::now().after(Duration::from_secs(600));
            assert_eq!(watch.sleep(never), Wake::Signalled);
        }
        let_go(other);
        let soon = BootTime::now().after(Duration::from_millis(20));
        assert_eq!(watch.sleep(soon), Wake::Elapsed);
        assert_eq!(here.waiters(line), Some(0));
        drop(watch);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
