//! The store: how a lock is taken, checked and let go.

use super::berth::{Berth, Inside};
use super::books::{Books, Held, Waiting};
use super::companion::{self, Companion, Found};
use super::config::Config;
use super::dialect::Dialect;
use super::directory::{Directory, has_links};
use super::file::{GATE, LockFile, Seen};
use super::header::Header;
use super::kept::{Kept, Seated};
use super::queue::Line;
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::cautions::{Looked, of_folder};
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection, Page, Tokens,
};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How often a file may be replaced between two looks before that is called trouble.
const MOST_TRIES: u32 = 100;
/// Waiters without a companion ask at least this often; at first more often.
const LONGEST_POLL: Duration = Duration::from_millis(50);
const SHORTEST_POLL: Duration = Duration::from_millis(1);

/// What a process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) books: Arc<Mutex<Books>>,
    waiting: Waiting,
    pub(super) companion: Companion,
    directory: Mutex<Option<Arc<Directory>>>,
}

/// A lock that has just been taken: let go again unless it is kept.
struct Taken<'a>(Option<&'a Arc<LockFile>>);

impl Taken<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0 {
            // If this fails, closing the descriptor lets go.
            let _ = file.unlock();
        }
    }
}

enum Outcome {
    Granted(Held),
    Busy(Arc<LockFile>),
}

/// A file that was just asked for the lock.
enum Look {
    /// It is ours, and the path leads to it.
    Locked {
        has_content: bool,
    },
    Busy,
    /// The path leads elsewhere.
    Gone,
}

/// What the short way has come to.
enum Quick {
    Granted(Grant),
    /// The berth's descriptor was asked, and the hold needs more, or is not to be had.
    Found(Arc<LockFile>, Look),
    Nothing,
}

#[derive(Debug)]
pub(super) struct Flock {
    url: String,
    pub(super) config: Config,
    process: PerProcess<Process>,
    looked: Looked,
}

impl Flock {
    pub(super) fn new(config: Config) -> Self {
        Flock {
            url: format!(
                "flock:{}{}",
                crate::error::printable(config.dir.as_os_str().as_encoded_bytes()),
                config.dialect.suffix()
            ),
            config,
            process: PerProcess::new(),
            looked: Looked::default(),
        }
    }

    #[inline]
    pub(super) fn process(&self) -> &Process {
        self.process.get_or_init(|| Process {
            books: Arc::default(),
            waiting: Waiting::default(),
            companion: Companion::new(&self.config),
            directory: Mutex::default(),
        })
    }

    pub(super) fn directory(&self) -> Result<Arc<Directory>> {
        let mut directory = self.process().directory.lock();
        if let Some(known) = &*directory {
            return Ok(known.clone());
        }
        let opened = Arc::new(Directory::open(&self.config)?);
        *directory = Some(opened.clone());
        self.process().companion.begin();
        Ok(opened)
    }

    /// Lets go of a directory that its path does not lead to any more.
    fn look_at_directory_again(&self) {
        let mut directory = self.process().directory.lock();
        if let Some(known) = &*directory
            && !known.is_in_place(&self.config)
        {
            *directory = None;
        }
    }

    /// Opens the file of a name; when descriptors run out, those kept idle are given up first.
    pub(super) fn open_file(&self, name: &Name, create: bool) -> Result<Option<Arc<LockFile>>> {
        let file_name = self.config.dialect.file_name(name.as_bytes())?;
        let open = || {
            self.directory()?
                .file(&self.config, &file_name, create)
                .map(|file| file.map(Arc::new))
        };
        match open() {
            Err(error) if error.code() == Code::Exhausted => {
                let idle = self.process().books.lock().drop_idle();
                if idle.is_empty() {
                    return Err(error);
                }
                drop(idle);
                open()
            }
            done => done,
        }
    }

    /// A grant only counts on the file that the path leads to *after* it was locked.
    #[inline]
    fn look(&self, claim: &Claim, file: &Arc<LockFile>, now: u64) -> Result<Look> {
        let locked = file.try_lock(claim.mode).map_err(cannot_lock)?;
        let taken = Taken(locked.then_some(file));
        let seen = match file.glance(now).map_err(cannot_look)? {
            Some(seen) => seen,
            None if cfg!(canary = "unlink_on_release") => Seen {
                links: 1,
                has_content: false,
            },
            None => return Ok(Look::Gone),
        };
        if seen.links > 1 {
            return Err(has_links());
        }
        if !locked {
            return Ok(Look::Busy);
        }
        taken.keep();
        Ok(Look::Locked {
            has_content: seen.has_content,
        })
    }

    fn take(
        &self,
        claim: &Claim,
        kept: Kept,
        mut known: Option<(Arc<LockFile>, Option<Look>)>,
    ) -> Result<Outcome> {
        for _ in 0..MOST_TRIES {
            let (file, looked) = match known.take() {
                Some(known) => known,
                None => {
                    let file = self.open_file(&claim.name, true)?.ok_or_else(|| {
                        Error::new(Code::Internal, "a lock file that was made is not there")
                    })?;
                    (file, None)
                }
            };
            let looked = match looked {
                Some(looked) => looked,
                None => self.look(claim, &file, BootTime::coarse_nanos())?,
            };
            let has_content = match looked {
                Look::Locked { has_content } => has_content,
                Look::Busy => return Ok(Outcome::Busy(file)),
                Look::Gone => {
                    self.look_at_directory_again();
                    continue;
                }
            };
            let taken = Taken(Some(&file));
            let Some(fence) = self.prepare(claim, kept, &file, has_content)? else {
                drop(taken);
                return Ok(Outcome::Busy(file));
            };
            taken.keep();
            return Ok(Outcome::Granted(Held::new(claim, file, fence)));
        }
        Err(Error::new(
            Code::Unavailable,
            "the lock file is replaced as fast as it is opened",
        ))
    }

    /// Whether a hold of an empty file needs nothing else: no gate, no words, no counter.
    fn is_simple(&self, claim: &Claim, kept: Kept) -> bool {
        self.config.dialect.is_native()
            && kept.is_plain
            && !self.config.fencing
            && claim.label.is_none()
    }

    /// The short way: takes the lock on the descriptor in the handle's berth, and notes the hold there.
    /// Otherwise what was found: the long way goes on with it.
    #[inline]
    fn take_inside(
        &self,
        claim: &Claim,
        kept: Kept,
        inside: &mut Inside,
        now: u64,
    ) -> Result<Quick> {
        let Inside::Idle(file) = &*inside else {
            return Ok(Quick::Nothing);
        };
        let looked = self.look(claim, file, now);
        let Inside::Idle(file) = std::mem::take(inside) else {
            return Ok(Quick::Nothing);
        };
        Ok(match looked? {
            Look::Locked { has_content: false } if self.is_simple(claim, kept) => {
                let held = Held::new(claim, file, None);
                let grant = held.grant();
                inside.fill(Inside::Held(claim.token, held));
                Quick::Granted(grant)
            }
            other => Quick::Found(file, other),
        })
    }

    /// What most acquires take: nobody waits, and the handle has a berth with a descriptor in it.
    #[inline]
    fn take_at_once(&self, process: &Process, claim: &Claim, now: u64) -> Result<Quick> {
        let companion = &process.companion;
        let in_seat = |seated: &mut Seated| {
            let line = seated.kept.line;
            let waited_for = claim.fair && companion.is_waited_for(now, &mut seated.found, line);
            if waited_for || companion.has_queued() {
                return None;
            }
            seated.berth(|inside| self.take_inside(claim, seated.kept, inside, now))
        };
        claim
            .seat
            .with(in_seat)
            .flatten()
            .unwrap_or(Ok(Quick::Nothing))
    }

    /// What a hold of a file with content, or one that needs content, has to see to. `None`: another
    /// hold is changing its mode, and this lock was only to be had in the middle of that.
    fn prepare(
        &self,
        claim: &Claim,
        kept: Kept,
        file: &LockFile,
        content: bool,
    ) -> Result<Option<Option<u64>>> {
        let exclusive = claim.mode == Mode::Exclusive;
        let gated = || -> Result<bool> {
            let asked = exclusive && !cfg!(canary = "no_gate");
            Ok(asked && file.is_byte_locked(GATE).map_err(cannot_lock)?)
        };
        if !self.config.dialect.is_native() {
            return Ok((!gated()?).then_some(None));
        }
        let label = claim.label.as_deref().filter(|_| exclusive);
        let hidden = !kept.is_plain;
        if !content && label.is_none() && !hidden && !self.config.fencing {
            return Ok(Some(None));
        }
        if content && gated()? {
            return Ok(None);
        }
        let mut header = Header::read(file)?;
        if !header.is_whole && (hidden || label.is_some() || self.config.fencing) {
            header.write_fixed(file, claim.name.as_bytes())?;
        }
        if exclusive && (label.is_some() || header.label().is_some()) {
            header.set_label(file, label.unwrap_or(""))?;
        }
        if !self.config.fencing {
            return Ok(Some(None));
        }
        super::convert::draw_fence(file, header, claim)
    }

    /// Tries to take the lock on a descriptor that was kept, or a new one.
    fn try_take(
        &self,
        process: &Process,
        claim: &Claim,
        kept: Kept,
        now: u64,
    ) -> Result<Option<Grant>> {
        let take = |inside: &mut Inside| self.take_inside(claim, kept, inside, now);
        let quick = Seated::in_berth(claim, take).unwrap_or(Ok(Quick::Nothing))?;
        self.go_on(process, claim, kept, quick)
    }

    /// The long way, from where the short one has come to.
    fn go_on(
        &self,
        process: &Process,
        claim: &Claim,
        kept: Kept,
        quick: Quick,
    ) -> Result<Option<Grant>> {
        let known = match quick {
            Quick::Granted(grant) => {
                process.waiting.stop(claim);
                return Ok(Some(grant));
            }
            Quick::Found(file, look) => Some((file, Some(look))),
            Quick::Nothing => {
                if let Some(grant) = process.granted_before(claim) {
                    return Ok(Some(grant));
                }
                Seated::look_for_berth(process, claim);
                let idle = process.books.lock().take_idle(&claim.name, kept.line);
                idle.map(|file| (file, None))
            }
        };
        match self.take(claim, kept, known)? {
            Outcome::Granted(held) => {
                let grant = held.grant();
                process.waiting.stop(claim);
                process.note(claim, held);
                Ok(Some(grant))
            }
            Outcome::Busy(file) => {
                process.keep(claim, kept, file);
                Ok(None)
            }
        }
    }

    /// An acquire that may have to wait, or has more to do than most.
    #[cold]
    fn take_or_wait(
        &self,
        process: &Process,
        claim: &Claim,
        bell: Option<&Arc<Signal>>,
        now: u64,
        quick: Quick,
    ) -> Result<Attempt> {
        if matches!(claim.mode, Mode::Permits { .. }) {
            return Err(Error::unsupported("this store has no permits"));
        }
        let companion = &process.companion;
        if !companion.has_begun() {
            self.directory()?;
        }
        let (kept, others_wait) = Kept::with(self.config.dialect, claim, |kept, found| {
            claim.fair && companion.is_waited_for(now, found, kept.line)
        });
        // A newcomer that need not wait behind others tries at once; one that found its file has tried.
        let granted = match quick {
            Quick::Nothing if others_wait || companion.is_queued(claim) => {
                process.granted_before(claim)
            }
            Quick::Nothing => self.try_take(process, claim, kept, now)?,
            found => self.go_on(process, claim, kept, found)?,
        };
        if let Some(grant) = granted {
            return Ok(Attempt::Granted(grant));
        }
        match bell {
            Some(bell) => self.wait(claim, bell),
            None => Ok(self.busy(claim, 0)),
        }
    }

    /// A look of a claim that waits, from its place in the queue.
    fn wait(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        let process = self.process();
        let (companion, kept) = (&process.companion, Kept::of(self.config.dialect, claim));
        let Some(look) = companion.look(claim, bell)? else {
            return self.wait_alone(process, claim, kept, bell);
        };
        if look.is_first || !claim.fair {
            match self.try_take(process, claim, kept, BootTime::coarse_nanos()) {
                Ok(Some(grant)) => {
                    companion.leave(claim);
                    if claim.mode == Mode::Shared {
                        // The next may be a reader too.
                        self.pass_on(&claim.name);
                    }
                    return Ok(Attempt::Granted(grant));
                }
                Ok(None) => {}
                Err(error) => {
                    self.give_up_place(self.process(), claim);
                    return Err(error);
                }
            }
        }
        Ok(Attempt::Busy(Busy {
            until: None,
            // A canary that wakes nobody does not look after them either.
            poll: (!cfg!(canary = "no_wake")).then_some(look.again),
            ..Busy::default()
        }))
    }

    fn give_up_place(&self, process: &Process, claim: &Claim) {
        if process.companion.leave(claim) {
            self.pass_on(&claim.name);
        }
    }

    /// Wakes the first of those who wait, without a handle that knows its queue.
    pub(super) fn pass_on(&self, name: &Name) {
        let companion = &self.process().companion;
        let now = BootTime::coarse_nanos();
        companion.pass_on(now, &mut Found::default(), self.line(name), true);
    }

    pub(super) fn line(&self, name: &Name) -> Line {
        companion::line(self.config.dialect, name)
    }

    /// Removes the file of a hold that ends, while it is still locked: whoever was granted the lock of a
    /// file that is gone looks again.
    fn remove_file(&self, name: &Name) {
        // What cannot be removed stays, as it does with Symfony.
        let _ = self.directory().and_then(|directory| {
            directory.remove(&self.config.dialect.file_name(name.as_bytes())?)
        });
    }

    /// A look of a claim that has no queue to stand in: it polls.
    fn wait_alone(
        &self,
        process: &Process,
        claim: &Claim,
        kept: Kept,
        bell: &Arc<Signal>,
    ) -> Result<Attempt> {
        if let Some(grant) = self.try_take(process, claim, kept, BootTime::coarse_nanos())? {
            return Ok(Attempt::Granted(grant));
        }
        let asked = process.waiting.wait(claim, bell);
        Ok(self.busy(claim, asked))
    }

    fn busy(&self, claim: &Claim, asked: u32) -> Attempt {
        let most = SHORTEST_POLL
            .saturating_mul(1 << asked.min(8))
            .min(LONGEST_POLL);
        // Spread out, so that waiters do not ask in step.
        let random = claim.token.as_bytes()[asked as usize % 8];
        let poll = most / 2 + (most / 2) * u32::from(random) / 256;
        Attempt::Busy(Busy {
            until: None,
            poll: Some(BootTime::now().after(poll)),
            ..Busy::default()
        })
    }

    /// Lets a hold go and keeps its descriptor, or closes it if it is of no more use.
    fn let_go(&self, process: &Process, claim: &Claim, file: Arc<LockFile>, reuse: bool) {
        let kept = Kept::of(self.config.dialect, claim);
        if cfg!(canary = "unlink_on_release") {
            self.remove_file(&claim.name);
        }
        let reuse = file.unlock().is_ok() && reuse && !file.is_spoilt();
        if reuse {
            process.keep(claim, kept, file);
        } else {
            drop(file);
        }
        let now = BootTime::coarse_nanos();
        Self::tell_next(process, claim, kept.line, now, &mut Found::default());
    }

    /// After a lock was let go.
    #[inline]
    fn tell_next(process: &Process, claim: &Claim, line: Line, now: u64, found: &mut Found) {
        process.companion.pass_on(now, found, line, claim.fair);
        if let Some(bell) = process.waiting.first_bell(&claim.name) {
            bell.ring();
        }
    }

    /// The short way of a release: lets go of the hold in the handle's berth, and leaves the descriptor
    /// there. Nothing if there is no such hold, or more to do.
    #[inline]
    fn release_in_berth(
        &self,
        process: &Process,
        claim: &Claim,
    ) -> Option<std::io::Result<Option<Seen>>> {
        if self.config.remove || cfg!(canary = "unlink_on_release") {
            return None;
        }
        let now = BootTime::coarse_nanos();
        let in_berth = |inside: &mut Inside| {
            let held = inside.of(claim.token)?;
            let current = held.file.glance(now);
            let reuse = held.file.unlock().is_ok() && is_ours(&current) && !held.file.is_spoilt();
            let held = inside.take(claim.token)?;
            if reuse {
                inside.fill(Inside::Idle(held.file));
            }
            Some(current)
        };
        let in_seat = |seated: &mut Seated| {
            let current = seated.berth(in_berth).flatten()?;
            Self::tell_next(process, claim, seated.kept.line, now, &mut seated.found);
            Some(current)
        };
        claim.seat.with(in_seat).flatten()
    }

    /// The long way; nothing if there is no such hold.
    #[cold]
    fn release_elsewhere(
        &self,
        process: &Process,
        claim: &Claim,
    ) -> Option<std::io::Result<Option<Seen>>> {
        self.give_up_place(process, claim);
        process.waiting.stop(claim);
        let held = process.take_held(claim)?;
        let current = held.file.glance(BootTime::coarse_nanos());
        let ours = is_ours(&current);
        let remove = self.config.remove && ours && held.mode == Mode::Exclusive;
        if remove {
            self.remove_file(&claim.name);
        }
        self.let_go(process, claim, held.file, ours && !remove);
        Some(current)
    }

    /// Forgets a hold whose file is not the lock any more.
    pub(super) fn lose(&self, claim: &Claim) {
        let process = self.process();
        if let Some(held) = process.take_held(claim) {
            self.let_go(process, claim, held.file, false);
        }
    }

    pub(super) fn held(&self, claim: &Claim) -> Option<Held> {
        self.process().with_held(claim, |held| held.clone())
    }
}

impl Process {
    /// Enters a new hold: in the handle's berth, or in the books.
    fn note(&self, claim: &Claim, held: Held) {
        let mut held = Some(held);
        Seated::in_berth(claim, |inside| {
            if matches!(inside, Inside::Nothing)
                && let Some(held) = held.take()
            {
                *inside = Inside::Held(claim.token, held);
            }
        });
        if let Some(held) = held {
            self.books.lock().held.insert(claim.token, held);
        }
    }

    /// Keeps an unlocked file for the next time.
    fn keep(&self, claim: &Claim, kept: Kept, file: Arc<LockFile>) {
        let mut file = Some(file);
        Seated::in_berth(claim, |inside| {
            if matches!(inside, Inside::Nothing)
                && let Some(file) = file.take()
            {
                *inside = Inside::Idle(file);
            }
        });
        if let Some(file) = file {
            let closed = self.books.lock().keep(&claim.name, kept.line, file);
            drop(closed);
        }
    }

    fn berths(&self) -> Vec<Arc<Berth>> {
        self.books.lock().berths.clone()
    }

    /// Works on the hold of a claim, wherever it is noted. A copy of a claim has no seat, but may have
    /// been made of one that has.
    pub(super) fn with_held<T>(&self, claim: &Claim, work: impl Fn(&mut Held) -> T) -> Option<T> {
        let token = claim.token;
        let own = Seated::in_berth(claim, |inside| inside.of(token).map(&work)).flatten();
        let in_berths = || {
            let mut all = self.berths().into_iter();
            all.find_map(|berth| berth.lock().of(token).map(&work))
        };
        // Twice, since a handle that goes leaves its hold to the books.
        own.or_else(|| self.books.lock().held.get_mut(&token).map(&work))
            .or_else(in_berths)
            .or_else(|| self.books.lock().held.get_mut(&token).map(&work))
    }

    /// The grant of a claim that asks again.
    fn granted_before(&self, claim: &Claim) -> Option<Grant> {
        if !claim.seat.keeps() {
            return self.with_held(claim, |held| held.grant());
        }
        let token = claim.token;
        let own = Seated::in_berth(claim, |inside| inside.of(token).map(|held| held.grant()));
        own.flatten()
            .or_else(|| self.books.lock().held.get(&token).map(Held::grant))
    }

    fn take_held(&self, claim: &Claim) -> Option<Held> {
        let token = claim.token;
        let own = Seated::in_berth(claim, |inside| inside.take(token)).flatten();
        let in_berths = || {
            let mut all = self.berths().into_iter();
            all.find_map(|berth| berth.lock().take(token))
        };
        own.or_else(|| self.books.lock().held.remove(&token))
            .or_else(in_berths)
            .or_else(|| self.books.lock().held.remove(&token))
    }

    /// A hold has got its token: in the handle's berth, or in the books. Only its handle asks for that.
    fn rename(&self, claim: &Claim, before: OwnerToken) {
        let token = claim.token;
        let in_berth = Seated::in_berth(claim, |inside| inside.rename(before, token));
        if in_berth != Some(true) {
            let mut books = self.books.lock();
            if let Some(held) = books.held.remove(&before) {
                books.held.insert(token, held);
            }
        }
    }

    /// All holds of this process. One that a handle leaves behind meanwhile is not missed.
    pub(super) fn all_held(&self) -> Vec<(OwnerToken, Held)> {
        let mut all: Vec<_> = self
            .berths()
            .iter()
            .filter_map(|berth| berth.held())
            .collect();
        let in_berths: Vec<OwnerToken> = all.iter().map(|(token, _)| *token).collect();
        let books = self.books.lock();
        let others = books.held.iter();
        let others = others.filter(|(token, _)| !in_berths.contains(token));
        all.extend(others.map(|(token, held)| (*token, held.clone())));
        all
    }
}

/// Whether a hold that is let go was one to the end.
fn is_ours(current: &std::io::Result<Option<Seen>>) -> bool {
    matches!(current, Ok(Some(_))) || cfg!(canary = "no_path_check")
}

pub(super) fn cannot_lock(error: std::io::Error) -> Error {
    Error::from_io(error, "the lock file cannot be locked")
}

pub(super) fn cannot_look(error: std::io::Error) -> Error {
    Error::from_io(error, "the lock file cannot be looked at")
}

impl Backend for Flock {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: self.config.dialect.store(),
            shared: true,
            promote: true,
            permits: false,
            ttl: false,
            frees_on_death: true,
            fence: self.fence_class(),
            wakes: true,
            fair: true,
            export: false,
            // Symfony's file names do not say the whole name.
            list: self.config.dialect != Dialect::Symfony,
            // A peer that waits for the old file would hold it beside whoever has the new one.
            break_lock: self.config.dialect.is_native(),
            survives_restart: false,
            clock: "none",
            scope: Scope::Host,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn first_caution(&self) -> Option<String> {
        self.looked
            .next(|| of_folder(&self.config.dir, self.config.fencing))
    }

    fn tokens(&self) -> Tokens {
        Tokens::Numbered
    }

    fn name_owner(&self, claim: &Claim, before: OwnerToken) {
        self.process().rename(claim, before);
    }

    fn answers_at_once(&self) -> bool {
        true
    }

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        self.look_at_directory_again();
        self.ping_directory()
    }

    #[inline]
    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let process = self.process();
        let now = BootTime::coarse_nanos();
        match self.take_at_once(process, claim, now)? {
            Quick::Granted(grant) => {
                process.waiting.stop(claim);
                Ok(Attempt::Granted(grant))
            }
            quick => self.take_or_wait(process, claim, bell, now, quick),
        }
    }

    fn take_caution(&self) -> Option<String> {
        self.process().companion.take_caution()
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        Ok(self.process().companion.park(bell, until))
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let process = self.process();
        self.give_up_place(process, claim);
        process.waiting.stop(claim);
        Ok(match process.with_held(claim, |held| held.grant()) {
            Some(grant) => Cancelled::Granted(grant),
            None => Cancelled::Gone,
        })
    }

    fn extend(&self, _claim: &Claim, _ttl: Duration) -> Result<Answer> {
        Err(Error::unsupported(
            "this store has no leases: a lock is held until released or until its owner dies",
        ))
    }

    #[inline]
    fn release(&self, claim: &Claim) -> Result<Answer> {
        let process = self.process();
        let current = self.release_in_berth(process, claim);
        let Some(current) = current.or_else(|| self.release_elsewhere(process, claim)) else {
            return Ok(Answer::NotOurs);
        };
        let ours = is_ours(&current);
        match current {
            Ok(_) if ours => Ok(Answer::Done(None)),
            Ok(_) => Ok(Answer::NotOurs),
            // It is free now, but whether it was ours to the end nobody can say.
            Err(error) => Err(cannot_look(error)),
        }
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        self.convert(claim, to)
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let Some(held) = self.held(claim) else {
            return Ok(false);
        };
        if held.file.current().map_err(cannot_look)?.is_some() || cfg!(canary = "no_path_check") {
            return Ok(true);
        }
        self.lose(claim);
        Ok(false)
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.wait_until_free(name, until)
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        self.inspect_name(name)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        _deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.list_page(prefix, cursor, limit)
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        self.break_name(name, deadline)
    }
}

impl Flock {
    /// As durable as the file, unless the file system forgets it with the next boot.
    fn fence_class(&self) -> Fence {
        if !self.config.fencing {
            return Fence::None;
        }
        const TMPFS: i64 = 0x0102_1994;
        const RAMFS: i64 = 0x8584_58F6;
        let there = [Some(self.config.dir.as_path()), self.config.dir.parent()];
        let kind = there.into_iter().flatten().find_map(|path| {
            let stat = nix::sys::statfs::statfs(path).ok()?;
            Some(stat.filesystem_type().0 as i64)
        });
        match kind {
            Some(TMPFS | RAMFS) | None => Fence::Hybrid,
            Some(_) => Fence::Durable,
        }
    }
}
