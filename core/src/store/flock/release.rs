//! How a hold ends: the short way in the handle's berth, and the long one.

use super::berth::Inside;
use super::companion::Found;
use super::file::{LockFile, Seen};
use super::kept::{Kept, Seated};
use super::process::Process;
use super::queue::Line;
use super::store::Flock;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::store::Claim;
use std::sync::Arc;

impl Flock {
    /// The short way of a release: lets go of the hold in the handle's berth, and leaves the descriptor
    /// there. Nothing if there is no such hold, or more to do.
    #[inline]
    pub(super) fn release_in_berth(
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
    pub(super) fn release_elsewhere(
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

    /// Forgets a hold whose file is not the lock any more.
    pub(super) fn lose(&self, claim: &Claim) {
        let process = self.process();
        if let Some(held) = process.take_held(claim) {
            self.let_go(process, claim, held.file, false);
        }
    }

    /// After a lock was let go.
    #[inline]
    fn tell_next(process: &Process, claim: &Claim, line: Line, now: u64, found: &mut Found) {
        process.companion.pass_on(now, found, line, claim.fair);
        if let Some(bell) = process.waiting.first_bell(&claim.name) {
            bell.ring();
        }
    }

    /// Removes the file of a hold that ends, while it is still locked: whoever was granted the lock of a
    /// file that is gone looks again.
    fn remove_file(&self, name: &Name) {
        // What cannot be removed stays, as it does with Symfony.
        let _ = self.directory().and_then(|directory| {
            directory.remove(&self.config.dialect.file_name(name.as_bytes())?)
        });
    }
}

/// Whether a hold that is let go was one to the end.
pub(super) fn is_ours(current: &std::io::Result<Option<Seen>>) -> bool {
    matches!(current, Ok(Some(_))) || cfg!(canary = "no_path_check")
}
