//! What taking a lock means in semaphores: the steps that take it, wait for it, and give it back.

use super::kernel::{self, Done, MAX, MOST_OPS, Op};
use super::layout::{self, FENCE, FREE, KICK, KICKS, OF, TAKEN, TAKERS};
use super::native::Set;
use super::peer;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::store::{Claim, Grant};
use crate::{Error, Result};
use std::sync::Arc;

/// How often steps are made anew because others changed what they were made from.
const MOST_TRIES: u32 = 100;
/// More cannot be told from an exclusive hold.
const MOST_PERMITS: u32 = MAX as u32 - 1;

/// An open lock: the set that a claim works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    Native(Set),
    /// Among whose users the claim is counted.
    Peer(i32),
}

impl Gate {
    pub(super) fn id(self) -> i32 {
        match self {
            Gate::Native(set) => set.id,
            Gate::Peer(id) => id,
        }
    }

    /// The semaphore that counts what is free.
    pub(super) fn free(self) -> u16 {
        match self {
            Gate::Native(_) => FREE,
            Gate::Peer(_) => peer::FREE,
        }
    }

    /// What ends the waits whose number this is, and what undoes that.
    pub(super) fn kick(self, number: u8) -> (Op, Op) {
        let (semaphore, much) = match self {
            Gate::Native(_) => (KICK + u16::from(number) % KICKS, MAX),
            Gate::Peer(_) => (peer::USERS, peer::KICK),
        };
        (Op::mine(semaphore, much), Op::mine(semaphore, -much))
    }

    /// Steps that come first in a wait, change nothing, and fail while it is kicked.
    fn kickable(self, number: u8) -> [Op; 2] {
        let (up, down) = self.kick(number);
        let (semaphore, much) = match self {
            Gate::Native(_) => (up.semaphore, 1),
            Gate::Peer(_) => (up.semaphore, -down.add),
        };
        [Op::lasting(semaphore, much), Op::lasting(semaphore, -much)]
    }

    /// Steps that can be done when nobody holds, and change nothing.
    pub(super) fn watch(self) -> [Op; 2] {
        let all = match self {
            Gate::Native(_) => MAX,
            Gate::Peer(_) => 1,
        };
        [
            Op::lasting(self.free(), -all),
            Op::lasting(self.free(), all),
        ]
    }
}

/// What a claim asks for, without what its handle keeps.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) name: Name,
    pub(super) token: OwnerToken,
    mode: Mode,
    label: Option<Arc<str>>,
    fence_block: u32,
    asked: BootTime,
}

impl From<&Claim> for Wish {
    fn from(claim: &Claim) -> Self {
        Wish {
            name: claim.name.clone(),
            token: claim.token,
            mode: claim.mode,
            label: claim.label.clone(),
            fence_block: claim.fence_block.max(1),
            asked: claim.asked,
        }
    }
}

/// A hold of this process.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) gate: Gate,
    pub(super) mode: Mode,
    pub(super) fence: Option<u64>,
    pub(super) since: BootTime,
    pub(super) label: Option<Arc<str>>,
    /// Where the permits taken are noted.
    noted: Option<u16>,
}

impl Held {
    pub(super) fn grant(&self) -> Grant {
        Grant {
            lease: None,
            fence: self.fence,
            recovered: false,
        }
    }

    fn new(gate: Gate, wish: &Wish) -> Self {
        Held {
            gate,
            mode: wish.mode,
            fence: None,
            since: wish.asked,
            label: wish.label.clone(),
            noted: None,
        }
    }

    /// Steps that give it back.
    fn back(&self) -> Vec<Op> {
        match (self.gate, self.mode) {
            (Gate::Peer(_), _) => vec![Op::mine(peer::FREE, 1), Op::mine(peer::USERS, -1)],
            (Gate::Native(_), Mode::Permits { take, .. }) => {
                let mut ops = vec![Op::mine(FREE, take as i16)];
                ops.extend(self.noted.map(|at| Op::mine(at, -(take as i16))));
                ops
            }
            (Gate::Native(_), _) => {
                let mut ops = vec![Op::mine(FREE, MAX)];
                let label = self.label.as_deref().map(layout::label_words);
                let words = label.into_iter().flatten();
                ops.extend(words.map(|(place, add)| Op::mine(place, -add)));
                ops
            }
        }
    }

    /// Gives it back; false if it was not ours any more.
    pub(super) fn give_back(&self) -> Result<bool> {
        match kernel::operate(self.gate.id(), &self.back())? {
            Done::Yes => Ok(true),
            Done::Gone => Ok(false),
            // Somebody has set the semaphores: more is free than there is, or less is noted than we did.
            Done::Overflow | Done::Busy | Done::Interrupted => {
                self.forget();
                Ok(false)
            }
        }
    }

    /// Takes itself off what can still be counted.
    pub(super) fn forget(&self) {
        if let Gate::Peer(id) = self.gate {
            peer::leave(id);
        }
    }

    /// Whether the semaphores still say that somebody holds as much.
    pub(super) fn is_there(&self) -> Result<bool> {
        let most = match (self.gate, self.mode) {
            (Gate::Native(_), Mode::Permits { take, .. }) => MAX as i32 - take as i32,
            _ => 0,
        };
        let free = kernel::value(self.gate.id(), self.gate.free())?;
        Ok(free.is_some_and(|free| free <= most))
    }
}

/// The answer of one look.
#[derive(Debug)]
pub(super) enum Look {
    Held(Held),
    Busy,
    /// Woken for nothing that is known here: the time, a signal, a kick.
    Woken(Done),
    /// The set was removed: find it again.
    Gone,
}

/// Refuses what the kernel's semaphores cannot count.
pub(super) fn check_mode(native: bool, mode: Mode) -> Result<()> {
    match mode {
        Mode::Exclusive => Ok(()),
        Mode::Permits { of, .. } if native && of <= MOST_PERMITS => Ok(()),
        Mode::Permits { .. } if native => Err(Error::invalid(format!(
            "the kernel's semaphores count to {MAX}: at most {MOST_PERMITS} permits"
        ))),
        Mode::Permits { .. } => Err(Error::unsupported("a dialect's locks have no permits")),
        Mode::Shared => Err(Error::unsupported("this store has no shared locks")),
    }
}

/// Tries to take the lock.
pub(super) fn try_take(gate: Gate, wish: &Wish) -> Result<Look> {
    take(gate, wish, |ops| kernel::operate(gate.id(), ops))
}

/// Sleeps in the kernel until the lock is taken, or the time is over, or a signal handler ran, or the
/// number is kicked.
pub(super) fn wait(gate: Gate, wish: &Wish, number: u8, until: BootTime) -> Result<Look> {
    take(gate, wish, |ops| {
        let mut all = gate.kickable(number).to_vec();
        all.extend_from_slice(ops);
        kernel::wait(gate.id(), &all, until)
    })
}

fn take(gate: Gate, wish: &Wish, run: impl Fn(&[Op]) -> Result<Done>) -> Result<Look> {
    let held = Held::new(gate, wish);
    match (gate, wish.mode) {
        (Gate::Native(set), Mode::Permits { take, of }) => {
            let done = take_permits(set, wish, take as i16, of as i16, &run)?;
            finish(set, wish, held, done)
        }
        (Gate::Native(set), _) => {
            let mut ops = vec![Op::mine(FREE, -MAX)];
            let label = wish.label.as_deref().map(layout::label_words);
            let words = label.into_iter().flatten();
            ops.extend(words.map(|(place, add)| Op::mine(place, add)));
            let done = take_counted(set, wish, &ops, &run)?;
            finish(set, wish, held, done)
        }
        (Gate::Peer(_), _) => {
            let done = run(&[Op::mine(peer::FREE, -1)])?;
            Ok(look(held, done))
        }
    }
}

fn look(held: Held, done: Done) -> Look {
    match done {
        Done::Yes => Look::Held(held),
        Done::Busy => Look::Busy,
        Done::Gone => Look::Gone,
        done => Look::Woken(done),
    }
}

/// Does the steps, and one more that adds to the fencing counter.
fn take_counted(
    set: Set,
    wish: &Wish,
    ops: &[Op],
    run: impl Fn(&[Op]) -> Result<Done>,
) -> Result<Done> {
    let block = i16::try_from(wish.fence_block)
        .map_err(|_| Error::invalid("more fencing tokens at once than this store can reserve"))?;
    let mut all = ops.to_vec();
    // Canary of row 28.
    if !cfg!(canary = "flat_sysv") {
        all.push(Op::lasting(FENCE, block));
    }
    let mut done = run(&all)?;
    for _ in 0..MOST_TRIES {
        if !matches!(done, Done::Overflow) {
            break;
        }
        // The lowest word is full, or the wait was kicked.
        let Some(fence) = set.values(layout::fence_in)? else {
            return Ok(Done::Gone);
        };
        let (old, new) = (
            layout::fence_words(fence),
            layout::fence_words(fence + u64::from(block.unsigned_abs())),
        );
        if old[1..] == new[1..] {
            break;
        }
        let mut all = ops.to_vec();
        for (place, (old, new)) in (FENCE..).zip(old.into_iter().zip(new)) {
            all.extend(exchange(place, old, new));
        }
        debug_assert!(all.len() <= MOST_OPS);
        done = kernel::operate(set.id, &all)?;
        if matches!(done, Done::Busy) {
            // Somebody else was faster: with the counter, or with the lock.
            return Ok(Done::Busy);
        }
    }
    Ok(done)
}

/// Steps that change a semaphore from one value to another, and can be done only while it has the first. A
/// step that adds 0 waits for 0, and stands only where the value is 0 if all is well.
fn exchange(semaphore: u16, old: u16, new: u16) -> [Op; 3] {
    [
        Op::lasting(semaphore, -(old as i16)),
        Op::lasting(semaphore, 0),
        Op::lasting(semaphore, new as i16),
    ]
}

/// Takes permits while all agree on how many there are.
fn take_permits(
    set: Set,
    wish: &Wish,
    take: i16,
    of: i16,
    run: impl Fn(&[Op]) -> Result<Done>,
) -> Result<Done> {
    for _ in 0..MOST_TRIES {
        let seen = set.values(|values| (values[usize::from(FREE)], values[usize::from(OF)]))?;
        let Some((free, agreed)) = seen else {
            return Ok(Done::Gone);
        };
        if agreed == of as u16 {
            let mut ops = exchange(OF, agreed, agreed).to_vec();
            // Enough is free if that leaves so much; then what was too much is put back.
            ops.push(Op::mine(FREE, -(MAX - of + take)));
            if of < MAX {
                ops.push(Op::mine(FREE, MAX - of));
            }
            return take_counted(set, wish, &ops, run);
        }
        let in_use = free != 0 && free != MAX as u16;
        if in_use {
            return Err(Error::invalid(format!(
                "others use this name with {agreed} permits, not {of}"
            )));
        }
        // Nobody uses permits: agree on ours, if it stays so.
        let mut ops = match free {
            0 => vec![Op::lasting(FREE, 0)],
            _ => vec![Op::lasting(FREE, -MAX), Op::lasting(FREE, MAX)],
        };
        ops.extend(exchange(OF, agreed, of as u16));
        if matches!(kernel::operate(set.id, &ops)?, Done::Gone) {
            return Ok(Done::Gone);
        }
    }
    Ok(Done::Busy)
}

/// Reads the fencing token of what was just taken, and notes permits where others see them.
fn finish(set: Set, wish: &Wish, mut held: Held, done: Done) -> Result<Look> {
    if !matches!(done, Done::Yes) {
        return Ok(look(held, done));
    }
    let seen = set.values(|values| {
        let taken = &values[usize::from(TAKEN)..][..usize::from(TAKERS)];
        let free = taken.iter().position(|value| *value == 0);
        (layout::fence_in(values), free)
    });
    let (fence, free) = match seen {
        Ok(Some(seen)) => seen,
        Ok(None) => return Ok(Look::Gone),
        Err(error) => {
            let _ = held.give_back();
            return Err(error);
        }
    };
    held.fence = Some(fence + 1 - u64::from(wish.fence_block));
    if let (Mode::Permits { take, .. }, Some(free)) = (wish.mode, free) {
        let at = TAKEN + free as u16;
        let note = [Op::lasting(at, 0), Op::mine(at, take as i16)];
        if matches!(kernel::operate(set.id, &note), Ok(Done::Yes)) {
            held.noted = Some(at);
        }
    }
    Ok(Look::Held(held))
}
