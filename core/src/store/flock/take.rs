//! How a lock is taken: the short way on the descriptor in the handle's berth, and the long one.

use super::berth::Inside;
use super::books::Held;
use super::directory::has_links;
use super::file::{GATE, LockFile, Seen};
use super::header::Header;
use super::kept::{Kept, Seated};
use super::process::Process;
use super::store::{Flock, cannot_lock, cannot_look};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::signal::Signal;
use crate::store::{Attempt, Claim, Grant};
use crate::{Error, Result};
use std::sync::Arc;

/// How often a file may be replaced between two looks before that is called trouble.
const MOST_TRIES: u32 = 100;

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
pub(super) enum Look {
    /// It is ours, and the path leads to it.
    Locked {
        has_content: bool,
    },
    Busy,
    /// The path leads elsewhere.
    Gone,
}

/// What the short way has come to.
pub(super) enum Quick {
    Granted(Grant),
    /// The berth's descriptor was asked, and the hold needs more, or is not to be had.
    Found(Arc<LockFile>, Look),
    Nothing,
}

impl Flock {
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
    pub(super) fn take_at_once(&self, process: &Process, claim: &Claim, now: u64) -> Result<Quick> {
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
    pub(super) fn try_take(
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
    pub(super) fn take_or_wait(
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
}
