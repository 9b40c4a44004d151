//! Promotion, demotion, and the counter that shared holders share.
//!
//! `flock(2)` does not convert a lock in one step: the kernel drops the old mode, looks for
//! conflicts, and on a conflict leaves the caller *with nothing*. Between the two, a newcomer may be
//! granted the lock. Here is why a reader that is promoted or a writer that is demoted still sees
//! nobody slip in:
//!
//! 1. Before it converts, it makes sure that the file has content. From then on every exclusive
//!    newcomer, who looks at the file's size *after* it was granted the lock, takes the slow path.
//! 2. Then it takes the *gate*, an open-file-description lock on one byte, and keeps it until it
//!    holds the lock again in one mode or the other. Only one hold of a file converts at a time.
//! 3. An exclusive newcomer asks on the slow path whether somebody has the gate. If it was granted
//!    the lock inside the gap, the converter still has the gate (2), so the newcomer sees it, lets go
//!    and says busy. So no exclusive newcomer is ever granted inside the gap.
//! 4. A shared newcomer inside a reader's gap is a reader beside readers; the promotion then fails
//!    and the reader asks for its own mode back. Inside a writer's gap it reads what the writer
//!    wrote before it asked to be demoted.
//! 5. If the conversion fails, the converter asks for the shared mode until it has it. In its way
//!    stands at most an exclusive newcomer on its way out (3). Should that one be stopped in those few
//!    instructions, or be a stranger who knows `flock(2)` but no gate, the converter's hold is *lost*
//!    when its time is up, and it is told so.
//!
//! Locks of dead processes, the gate included, are dropped by the kernel.

use super::books::Held;
use super::file::{COUNTER, GATE, LockFile};
use super::header::Header;
use super::store::{Flock, cannot_lock, cannot_look};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::store::{Attempt, Busy, Claim, Grant};
use crate::{Error, Result};
use std::time::Duration;

/// How long a converter without a deadline of its own asks for its old mode.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(100);

/// Lets go of a byte when dropped; closing the descriptor would do so too.
struct Byte<'a>(&'a LockFile, i64);

impl<'a> Byte<'a> {
    fn take(file: &'a LockFile, byte: i64) -> Result<Option<Self>> {
        let taken = file.try_lock_byte(byte).map_err(|error| {
            if error.raw_os_error() == Some(libc::EBADF) {
                let why = "changing the mode needs a file that one may write to";
                return Error::new(Code::Permission, why);
            }
            cannot_lock(error)
        })?;
        Ok(taken.then_some(Byte(file, byte)))
    }
}

impl Drop for Byte<'_> {
    fn drop(&mut self) {
        self.0.unlock_byte(self.1);
    }
}

/// Draws a fencing token. An exclusive holder is alone; shared ones take turns by a byte's lock.
/// `None`: another shared holder is drawing at this moment.
pub(super) fn draw_fence(
    file: &LockFile,
    mut header: Header,
    claim: &Claim,
) -> Result<Option<Option<u64>>> {
    if claim.mode == Mode::Exclusive {
        return header
            .draw_fence(file, claim.fence_block)
            .map(|fence| Some(Some(fence)));
    }
    let Some(_turn) = Byte::take(file, COUNTER)? else {
        return Ok(None);
    };
    // Read again: the last turn may have been taken after the header was read.
    let mut header = Header::read(file)?;
    header
        .draw_fence(file, claim.fence_block)
        .map(|fence| Some(Some(fence)))
}

impl Flock {
    pub(super) fn convert(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let lost = || Error::outcome(Code::Lost);
        let held = self.held(claim).ok_or_else(lost)?;
        if held.mode == to {
            return self.converted(claim, to);
        }
        let file = &*held.file;
        let Some(seen) = file.current().map_err(cannot_look)? else {
            self.lose(claim);
            return Err(lost());
        };
        // On a dialect nothing is written, and every exclusive newcomer asks for the gate.
        if self.config.dialect.is_native() {
            let mut header = Header::read(file)?;
            if !seen.has_content || !header.is_whole {
                header.write_fixed(file, claim.name.as_bytes())?;
            }
        }
        let Some(gate) = Byte::take(file, GATE)? else {
            return Ok(busy());
        };
        let (mode, trouble) = self.through_gate(claim, file, to);
        drop(gate);
        match (mode, trouble) {
            (None, _) => {
                self.lose(claim);
                Err(lost())
            }
            (Some(mode), _) if mode == to => {
                if to == Mode::Shared {
                    // Readers that wait may come in.
                    self.pass_on(&claim.name);
                }
                self.converted(claim, to)
            }
            (Some(_), Some(trouble)) => Err(cannot_lock(trouble)),
            (Some(_), None) => Ok(busy()),
        }
    }

    /// Converts while the gate is ours. In which mode the file is held afterwards, if at all.
    fn through_gate(
        &self,
        claim: &Claim,
        file: &LockFile,
        to: Mode,
    ) -> (Option<Mode>, Option<std::io::Error>) {
        let trouble = match file.try_lock(to) {
            Ok(true) => return (Some(to), None),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        // Makes the gap wide enough to be hit in a short test; sound with the gate, not without.
        if cfg!(canary = "no_gate") {
            std::thread::sleep(2 * PAUSE);
        }
        let until = BootTime::now()
            .after(PATIENCE)
            .max(claim.deadline.unwrap_or(BootTime::from_nanos(0)));
        loop {
            match file.try_lock(Mode::Shared) {
                Ok(true) => return (Some(Mode::Shared), trouble),
                Ok(false) | Err(_) if until.has_passed() => return (None, trouble),
                Ok(false) | Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Notes the new mode; a writer gets a token above all that were given before. If drawing it
    /// fails, the hold is the writer's all the same, and asking again draws it.
    fn converted(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let note = |held: &mut Held| {
            if held.mode != to {
                held.mode = to;
                held.fence = held.fence.filter(|_| to == Mode::Shared);
            }
            held.clone()
        };
        let process = self.process();
        let held = process
            .with_held(claim, note)
            .ok_or_else(|| Error::outcome(Code::Lost))?;
        if !self.config.fencing || held.fence.is_some() {
            return Ok(Attempt::Granted(held.grant()));
        }
        let fence = Header::read(&held.file)?.draw_fence(&held.file, claim.fence_block)?;
        process.with_held(claim, |held| held.fence = Some(fence));
        Ok(Attempt::Granted(Grant {
            fence: Some(fence),
            ..held.grant()
        }))
    }
}

fn busy() -> Attempt {
    Attempt::Busy(Busy::default())
}
