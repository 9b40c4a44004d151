//! Records that a living process gives back, and another one takes.

use super::{EXCLUSIVE, World, check, want, write};
use crate::store::segment::groups::{self, Groups};
use crate::store::segment::mortal::AtomicU64;
use crate::store::shm::protocol::{Answer, Protocol, Table};
use loom::sync::atomic::Ordering::{AcqRel, Acquire};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::ops::Range;

const PROCESSES: usize = 3;

/// A slot as in the other models, and whose each record is: a group has one.
struct Shared {
    world: World,
    owners: [AtomicU64; 2],
    rungs: [AtomicU64; 2],
    /// A bell for each process, and how often it was rung.
    bells: [(Mutex<u32>, Condvar); PROCESSES],
}

impl Shared {
    /// Process 1 has the first record, process 2 the second.
    fn new() -> Arc<Self> {
        Arc::new(Shared {
            world: World::of(2),
            owners: [AtomicU64::new(1), AtomicU64::new(2)],
            rungs: Default::default(),
            bells: Default::default(),
        })
    }

    /// Sleeps until there is word for a record of this process.
    fn sleep(&self, me: u64, record: u16) {
        let (rings, bell) = &self.bells[me as usize - 1];
        loop {
            let heard = *rings.lock().unwrap();
            if Groups(self).hear(record) {
                return;
            }
            let mut now = rings.lock().unwrap();
            while *now == heard {
                now = bell.wait(now).unwrap();
            }
        }
    }

    /// Waits for the slot until it has it.
    fn wait(&self, me: u64, record: u16) -> u64 {
        let protocol = Protocol(self);
        let want = want(EXCLUSIVE, me + 10);
        assert!(protocol.enqueue(0, record, EXCLUSIVE, false));
        loop {
            match protocol.look_again(0, record, &want) {
                Answer::Granted { epoch, .. } => return epoch,
                _ => self.sleep(me, record),
            }
        }
    }
}

impl groups::Table for Shared {
    fn owner(&self, group: u16) -> &AtomicU64 {
        &self.owners[group as usize]
    }
    fn life(&self, record: u16) -> &AtomicU64 {
        Table::life(&self.world, record)
    }
    fn place(&self, record: u16) -> &AtomicU64 {
        Table::place(&self.world, record)
    }
    fn late(&self, record: u16) -> &AtomicU64 {
        Table::late(&self.world, record)
    }
    fn rung(&self, record: u16) -> &AtomicU64 {
        &self.rungs[record as usize]
    }
    fn records_of(&self, group: u16) -> Range<u16> {
        group..group + 1
    }
    fn group_of(&self, record: u16) -> u16 {
        record
    }
}

impl Table for Shared {
    fn grant(&self, slot: u16) -> &AtomicU64 {
        self.world.grant(slot)
    }
    fn tail(&self, slot: u16) -> &AtomicU64 {
        self.world.tail(slot)
    }
    fn recovered(&self, slot: u16) -> &AtomicU64 {
        self.world.recovered(slot)
    }
    fn offered(&self, slot: u16) -> &AtomicU64 {
        self.world.offered(slot)
    }
    fn seen_head(&self, slot: u16) -> &AtomicU64 {
        self.world.seen_head(slot)
    }
    fn place(&self, record: u16) -> &AtomicU64 {
        self.world.place(record)
    }
    fn life(&self, record: u16) -> &AtomicU64 {
        self.world.life(record)
    }
    fn mode(&self, record: u16) -> &AtomicU64 {
        self.world.mode(record)
    }
    fn late(&self, record: u16) -> &AtomicU64 {
        self.world.late(record)
    }
    fn records(&self) -> u16 {
        self.world.records()
    }
    fn is_alive(&self, record: u16) -> bool {
        Groups(self).owner_of(record) != 0
    }
    fn now(&self) -> u64 {
        self.world.now()
    }
    fn barge(&self) -> u64 {
        self.world.barge()
    }
    fn wake(&self, record: u16) {
        // Nobody rings again: word that is lost is a deadlock.
        let owner = Groups(self).tell(record, 1, u64::MAX);
        if let Some(process) = owner.filter(|owner| *owner != 0) {
            let (rings, bell) = &self.bells[process as usize - 1];
            *rings.lock().unwrap() += 1;
            bell.notify_all();
        }
    }
    fn is_woken(&self, record: u16) -> bool {
        self.rungs[record as usize].fetch_or(0, AcqRel) != 0
    }
    fn is_named(&self, slot: u16) -> bool {
        self.world.is_named(slot)
    }
}

/// The waiter with a record leaves and gives it back; the next owner waits with it; and all that while the holder
/// lets go, who may mean the first one.
#[test]
fn a_record_that_is_given_back_hears_no_less_for_its_next_owner() {
    check(2, || {
        let shared = Shared::new();
        let protocol = Protocol(&*shared);
        let held = protocol.try_now(0, 0, &want(EXCLUSIVE, 10));
        assert!(matches!(held, Answer::Granted { .. }));
        assert!(protocol.enqueue(0, 1, EXCLUSIVE, false));
        let other = shared.clone();
        let other = thread::spawn(move || {
            Protocol(&*other).leave(0, 1);
            Groups(&*other).give(1);
            // And the third process, which comes next.
            assert!(Groups(&*other).take(1, 3, &|owner| owner == 0));
            let epoch = other.wait(3, 1);
            write(&other.world, epoch);
            assert!(Protocol(&*other).release(0, 1, true));
        });
        assert!(protocol.release(0, 0, true));
        other.join().unwrap();
        assert!(protocol.is_free(0));
    });
}

/// A hold that ended by its lease is forgotten, its record given back, and taken by another process, which
/// takes the slot too; or somebody else does.
#[test]
fn a_record_that_is_given_back_holds_nothing_for_its_next_owner() {
    check(3, || {
        let shared = Shared::new();
        let protocol = Protocol(&*shared);
        let mut leased = want(EXCLUSIVE, 10);
        leased.life = crate::store::shm::words::Life::new(Some(500_000), 1);
        assert!(matches!(
            protocol.try_now(0, 1, &leased),
            Answer::Granted { .. }
        ));
        let other = shared.clone();
        let other = thread::spawn(move || {
            Groups(&*other).give(1);
            assert!(Groups(&*other).take(1, 3, &|owner| owner == 0));
            let answer = Protocol(&*other).try_now(0, 1, &want(EXCLUSIVE, 30));
            if let Answer::Granted { epoch, .. } = answer {
                write(&other.world, epoch);
                assert!(Protocol(&*other).release(0, 1, true));
            }
        });
        if let Answer::Granted { epoch, .. } = protocol.try_now(0, 0, &want(EXCLUSIVE, 20)) {
            write(&shared.world, epoch);
            assert!(protocol.release(0, 0, true));
        }
        other.join().unwrap();
        assert_eq!(shared.owners[1].load(Acquire), 3);
        assert!(protocol.is_free(0));
    });
}
