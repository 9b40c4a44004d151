//! The state machine of `protocol.rs` in the model checker: every order of steps of two or three
//! processes, weak memory included, and the death of one of them before any of its steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p synlock-core --lib shm::model`; `LOOM_MAX_PREEMPTIONS=4`
//! and more for a longer look.

mod deaths;
mod holds;
mod modes;
mod queue;
mod records;

use super::protocol::{Answer, Protocol, Table, Want};
use super::words::{Grant, Life, ModeWord};
use crate::store::segment::mortal::AtomicU64;
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::Acquire;
use loom::sync::{Condvar, Mutex};

const RECORDS: usize = 4;
const NAME: u64 = 7;

/// One slot, and a process for each record.
struct World {
    grant: AtomicU64,
    /// Of a second slot, for which nobody waits.
    second: AtomicU64,
    tail: AtomicU64,
    recovered: AtomicU64,
    offered: AtomicU64,
    seen_head: AtomicU64,
    places: [AtomicU64; RECORDS],
    lives: [AtomicU64; RECORDS],
    modes: [AtomicU64; RECORDS],
    lates: [AtomicU64; RECORDS],
    dead: [loom::sync::atomic::AtomicU64; RECORDS],
    name: AtomicU64,
    clock: AtomicU64,
    rung: [(Mutex<bool>, Condvar); RECORDS],
    /// How many records there are: fewer make the model smaller.
    records: u16,
    /// For how long newcomers may pass those who wait; nobody may, or everybody, since the clock
    /// stands still.
    barge: u64,
    /// What the lock protects: the checker complains about every access that it does not order.
    guarded: UnsafeCell<u64>,
}

impl World {
    fn of(records: u16) -> Self {
        World {
            records,
            barge: BARGE.get(),
            grant: AtomicU64::new(Grant::free().0),
            second: AtomicU64::new(Grant::free().0),
            tail: AtomicU64::default(),
            recovered: AtomicU64::default(),
            offered: AtomicU64::default(),
            seen_head: AtomicU64::default(),
            places: Default::default(),
            lives: Default::default(),
            modes: Default::default(),
            lates: Default::default(),
            dead: Default::default(),
            name: AtomicU64::new(NAME),
            clock: AtomicU64::new(1_000_000),
            rung: Default::default(),
            guarded: UnsafeCell::new(0),
        }
    }
}

impl World {
    /// In place of the time after which unheard word is rung for again.
    fn dead_now(&self, record: u16) -> bool {
        self.dead[record as usize].load(Acquire) != 0
    }
}

impl Table for World {
    fn grant(&self, slot: u16) -> &AtomicU64 {
        [&self.grant, &self.second][usize::from(slot)]
    }
    fn tail(&self, _: u16) -> &AtomicU64 {
        &self.tail
    }
    fn recovered(&self, _: u16) -> &AtomicU64 {
        &self.recovered
    }
    fn offered(&self, _: u16) -> &AtomicU64 {
        &self.offered
    }
    fn seen_head(&self, _: u16) -> &AtomicU64 {
        &self.seen_head
    }
    fn place(&self, record: u16) -> &AtomicU64 {
        &self.places[record as usize]
    }
    fn life(&self, record: u16) -> &AtomicU64 {
        &self.lives[record as usize]
    }
    fn mode(&self, record: u16) -> &AtomicU64 {
        &self.modes[record as usize]
    }
    fn late(&self, record: u16) -> &AtomicU64 {
        &self.lates[record as usize]
    }
    fn records(&self) -> u16 {
        self.records
    }
    fn is_alive(&self, record: u16) -> bool {
        self.dead[record as usize].load(Acquire) == 0
    }
    fn now(&self) -> u64 {
        self.clock.0.load(Acquire)
    }
    fn barge(&self) -> u64 {
        self.barge
    }
    fn wake(&self, record: u16) {
        let (rung, bell) = &self.rung[record as usize];
        *rung.lock().unwrap() = true;
        bell.notify_one();
    }
    fn is_woken(&self, record: u16) -> bool {
        *self.rung[record as usize].0.lock().unwrap() && !self.dead_now(record)
    }
    fn is_named(&self, _: u16) -> bool {
        self.name.load(Acquire) == NAME
    }
}

fn want(mode: ModeWord, use_number: u64) -> Want {
    Want {
        mode,
        life: Life::new(None, use_number),
        fair: true,
        step: 1,
    }
}

const EXCLUSIVE: ModeWord = ModeWord::EXCLUSIVE;
const SHARED: ModeWord = ModeWord::SHARED;

/// Sleeps until word is left.
fn sleep(world: &World, me: u16) {
    let (rung, bell) = &world.rung[me as usize];
    let mut rung = rung.lock().unwrap();
    while !*rung {
        rung = bell.wait(rung).unwrap();
    }
    *rung = false;
}

/// Takes the slot, waiting for it without ever looking unless told.
fn take(world: &World, me: u16, mode: ModeWord) -> u64 {
    let protocol = Protocol(world);
    let want = want(mode, u64::from(me) + 10);
    let mut answer = protocol.try_now(0, me, &want);
    if matches!(answer, Answer::Busy(_)) {
        assert!(protocol.enqueue(0, me, mode, false));
        answer = protocol.look_again(0, me, &want);
        while matches!(answer, Answer::Busy(_)) {
            sleep(world, me);
            answer = protocol.look_again(0, me, &want);
        }
    }
    match answer {
        Answer::Granted { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

fn write(world: &World, epoch: u64) {
    world.guarded.with_mut(|guarded| {
        // SAFETY: the checker fails if anybody else is here.
        unsafe {
            assert!(
                *guarded < epoch,
                "fencing tokens grow: {} {epoch}",
                *guarded
            );
            *guarded = epoch;
        }
    });
}

fn read(world: &World) {
    world.guarded.with(|guarded| {
        // SAFETY: the checker fails if a writer is here.
        unsafe { std::ptr::read(guarded) }
    });
}

std::thread_local! {
    static BARGE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Checks the model twice: releases offer the slot to the head of the queue, and only wake it.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let model = std::sync::Arc::new(model);
    for barge in [0, 1_000_000] {
        BARGE.set(barge);
        let model = model.clone();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
        builder.max_branches = 20_000;
        builder.check(move || model());
    }
}
