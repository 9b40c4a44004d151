//! What a holder does: the part of the state machine for those who hold.

use super::protocol::{Answer, Look, Protocol, Table, Want};
use super::words::{Grant, Kind, Life, ModeWord, NOBODY, Place, Role, SOMEBODY};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

impl<T: Table + ?Sized> Protocol<'_, T> {
    /// Whether the record's life, begun with `life` or an extension of it, goes on.
    pub fn holds(&self, me: u16) -> bool {
        Life(self.0.life(me).load(Acquire)).is_begun()
    }

    /// Lets go; false if somebody had ended the hold. A fair release offers the slot to the head of
    /// the queue, another one only wakes it.
    pub fn release(&self, slot: u16, me: u16, fair: bool) -> bool {
        let end = || Life(self.0.life(me).swap(Life::RELEASED.0, AcqRel)).is_begun();
        // Canary of row 4: one store moved.
        let first = (!cfg!(canary = "release_late")).then(end);
        let waiters = loop {
            let grant = self.load(slot);
            if grant.kind() == Kind::Exclusive && grant.record() == me {
                if self.swap(slot, grant, grant.next(NOBODY, Kind::Open)) {
                    break grant.has_waiters();
                }
            } else {
                // Changes nothing, but comes before or after every waiter that sets its flag.
                break Grant(self.0.grant(slot).fetch_or(0, AcqRel)).has_waiters();
            }
        };
        let ours = first.unwrap_or_else(end);
        // A life that is over holds nothing, whatever its place still says.
        self.0.place(me).store(Place::NONE.0, Release);
        if waiters {
            self.hand_on(slot, fair);
        }
        ours
    }

    /// Lets the hold run out at `until` at the earliest; says when, or nothing if it is over.
    pub fn extend(&self, me: u16, until: u64, uses: u64) -> Option<Option<u64>> {
        loop {
            let life = Life(self.0.life(me).load(Acquire));
            if !life.is_begun() {
                return None;
            }
            let longer = Life::new(Some(until), uses);
            if life.until().is_none_or(|before| before >= until) {
                return Some(life.until());
            }
            let swapped = self
                .0
                .life(me)
                .compare_exchange(life.0, longer.0, AcqRel, Acquire);
            if swapped.is_ok() {
                return Some(longer.until());
            }
        }
    }

    /// Makes a member the one holder, if it is the only one.
    pub fn promote(&self, slot: u16, me: u16) -> Answer {
        loop {
            let grant = self.load(slot);
            if !self.holds(me) {
                return Answer::Moved;
            }
            if grant.kind() == Kind::Exclusive {
                // Ours already; or we were ended, and have not seen it yet.
                let mine = grant.record() == me && self.is_sole(slot, grant);
                return if mine {
                    self.promoted(grant)
                } else {
                    Answer::Moved
                };
            }
            match self.look(slot, grant, me, ModeWord::EXCLUSIVE) {
                Look::Free { .. } => {
                    let to = grant.next(me, Kind::Exclusive);
                    if self.swap(slot, grant, to) {
                        self.0.mode(me).store(ModeWord::EXCLUSIVE.0, Release);
                        let joining = Place::new(Role::Joining, slot, to.epoch());
                        self.0.place(me).swap(joining.0, AcqRel);
                        if !self.holds(me) {
                            self.admit(slot, NOBODY);
                            return Answer::Moved;
                        }
                        return self.promoted(to);
                    }
                }
                Look::Taken(until) => return Answer::Busy(until),
                Look::Mismatch(_) => return Answer::Busy(None),
            }
        }
    }

    fn promoted(&self, grant: Grant) -> Answer {
        Answer::Granted {
            epoch: grant.epoch(),
            recovered: false,
        }
    }

    /// Makes the one holder a member that shares; false if the hold is over.
    pub fn demote(&self, slot: u16, me: u16) -> bool {
        loop {
            let grant = self.load(slot);
            if !self.holds(me) {
                return false;
            }
            if grant.kind() != Kind::Exclusive || grant.record() != me {
                let shared = ModeWord(self.0.mode(me).load(Acquire)) == ModeWord::SHARED;
                let member = self.place(me).role() == Role::Member;
                return shared && member;
            }
            self.0.mode(me).store(ModeWord::SHARED.0, Release);
            let member = Place::new(Role::Member, slot, grant.epoch());
            self.0.place(me).swap(member.0, AcqRel);
            if self.swap(slot, grant, grant.next(SOMEBODY, Kind::Open)) {
                if grant.has_waiters() {
                    self.admit(slot, NOBODY);
                }
                return self.holds(me);
            }
        }
    }

    /// Gives what `from` holds to `me`; one of several heirs wins. The heir's life begins as
    /// `life`. `is_meant` is asked of each life of `from`: it may have been given back, and hold the slot again
    /// for somebody else.
    pub fn inherit(
        &self,
        slot: u16,
        from: u16,
        me: u16,
        (mode, life): (ModeWord, Life),
        is_meant: impl Fn() -> bool,
    ) -> Option<u64> {
        loop {
            let grant = self.load(slot);
            if grant.kind() == Kind::Sealed {
                return None;
            }
            let sole = grant.kind() == Kind::Exclusive;
            if !sole {
                self.help(slot, grant);
            }
            let place = self.place(from);
            let held = if sole {
                grant.record() == from && self.is_sole(slot, grant)
            } else {
                Self::is_member(slot, grant, from, place)
            };
            let before = Life(self.0.life(from).load(Acquire));
            if !held || !before.is_begun() || before.is_over(self.0.now()) {
                return None;
            }
            if !is_meant() && !cfg!(canary = "adopt_any") {
                return None;
            }
            let want = Want {
                mode: if sole { ModeWord::EXCLUSIVE } else { mode },
                life,
                fair: false,
                step: 1,
            };
            if !self.join(slot, grant, me, &want) {
                continue;
            }
            // A sole holder went with the grant word; among members the life decides who has it.
            if self.end_hold(from, before, place) || sole {
                return Some(grant.epoch() + 1);
            }
            self.release(slot, me, true);
            return None;
        }
    }

    /// Ends what the record holds in this place, though its owner may renew the life meanwhile.
    fn end_hold(&self, record: u16, mut life: Life, place: Place) -> bool {
        while !self.end(record, life) {
            life = Life(self.0.life(record).load(Acquire));
            // Looked at after the life: a later hold has another place.
            if !life.is_begun() || self.place(record) != place {
                return false;
            }
        }
        true
    }
}
