//! Taking a slot, waiting for it, and handing it on: the part of the state machine for those who do
//! not hold.

use super::protocol::{Answer, CLAIM_NS, Look, Protocol, TICK_NS, Table, Want};
use super::words::{Grant, Kind, ModeWord, NOBODY, Place, Role, SOMEBODY, WAITERS_FLAG, WATCHER};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// How a queue's head is packed: ticket, then record.
const RECORD_BITS: u32 = 15;
const RECORD_MASK: u64 = (1 << RECORD_BITS) - 1;

impl<T: Table + ?Sized> Protocol<'_, T> {
    /// Takes the slot if that is possible now.
    pub fn try_now(&self, slot: u16, me: u16, want: &Want) -> Answer {
        loop {
            let grant = self.load(slot);
            if grant.kind() == Kind::Sealed || !self.0.is_named(slot) {
                return Answer::Moved;
            }
            if want.fair
                && grant.has_waiters()
                && let Some(since) = self.whose_turn(slot)
            {
                if !Self::has_waited(since, self.0.now(), CLAIM_NS) {
                    return Answer::Busy(None);
                }
                // One that is stopped: if only newcomers look, they must offer it the slot, and see it late.
                self.admit(slot, NOBODY);
                if self.whose_turn(slot).is_some() {
                    return Answer::Busy(None);
                }
                continue;
            }
            if grant.kind() == Kind::Offer && self.offer_stands(slot, grant) {
                return Answer::Busy(None);
            }
            match self.look(slot, grant, me, want.mode) {
                Look::Free { recovered } => {
                    if self.join(slot, grant, me, want) {
                        return self.granted(slot, grant, want, recovered);
                    }
                }
                Look::Taken(until) => return Answer::Busy(until),
                Look::Mismatch(of) => return Answer::Mismatch(of),
            }
        }
    }

    fn granted(&self, slot: u16, grant: Grant, want: &Want, recovered: bool) -> Answer {
        if grant.has_waiters() && want.mode != ModeWord::EXCLUSIVE {
            // The next in the queue may go together with us.
            self.admit(slot, NOBODY);
        }
        Answer::Granted {
            epoch: grant.epoch() + want.step,
            recovered,
        }
    }

    /// Joins the queue, or the watchers; true unless the slot has another name now.
    pub fn enqueue(&self, slot: u16, me: u16, mode: ModeWord, watch: bool) -> bool {
        let ticket = if watch { WATCHER } else { self.ticket(slot) };
        self.0.late(me).store(0, Release);
        self.0.mode(me).store(mode.0, Release);
        let waiting = Place::new(Role::Waiting, slot, ticket);
        self.0.place(me).swap(waiting.0, AcqRel);
        let grant = Grant(self.0.grant(slot).fetch_or(WAITERS_FLAG, AcqRel));
        if grant.kind() == Kind::Sealed || !self.0.is_named(slot) {
            self.0.place(me).swap(Place::NONE.0, AcqRel);
            return false;
        }
        true
    }

    /// One look of a record that waits.
    pub fn look_again(&self, slot: u16, me: u16, want: &Want) -> Answer {
        if self.0.late(me).swap(0, AcqRel) != 0 {
            // While we were late, the flag may have been cleared over our head.
            self.0.grant(slot).fetch_or(WAITERS_FLAG, AcqRel);
        }
        loop {
            self.admit(slot, me);
            let grant = self.load(slot);
            if grant.kind() == Kind::Sealed || !self.0.is_named(slot) {
                self.0.place(me).swap(Place::NONE.0, AcqRel);
                return Answer::Moved;
            }
            let mine = grant.kind() == Kind::Offer && grant.record() == me;
            match self.look(slot, grant, me, want.mode) {
                Look::Free { recovered } if mine => {
                    if self.join(slot, grant, me, want) {
                        return self.granted(slot, grant, want, recovered);
                    }
                }
                Look::Free { .. } => return Answer::Busy(None),
                Look::Taken(until) => return Answer::Busy(until),
                Look::Mismatch(of) => {
                    self.leave(slot, me);
                    return Answer::Mismatch(of);
                }
            }
        }
    }

    /// Draws a ticket: the time, or one more than the last. So the order of tickets is that of
    /// arrival, and a ticket says since when its owner has waited.
    fn ticket(&self, slot: u16) -> u64 {
        let tail = self.0.tail(slot);
        let now = self.0.now() / TICK_NS;
        let mut last = tail.load(Acquire);
        loop {
            let next = now.max(last.wrapping_add(1));
            match tail.compare_exchange(last, next, AcqRel, Acquire) {
                Ok(_) => return next % WATCHER,
                Err(other) => last = other,
            }
        }
    }

    /// Whether the owner of a ticket has waited for so many nanoseconds.
    fn has_waited(ticket: u64, now: u64, ns: u64) -> bool {
        let now = now / TICK_NS % WATCHER;
        // Tickets may run ahead of the clock where many come, and begin anew after two years.
        let waited = (now + WATCHER - ticket) % WATCHER;
        (ns / TICK_NS..WATCHER / 2).contains(&waited)
    }

    /// Whether the owner of a ticket has waited for longer than others may pass it.
    fn may_insist(&self, ticket: u64) -> bool {
        !cfg!(canary = "pass_always")
            && ticket != WATCHER
            && Self::has_waited(ticket, self.0.now(), self.0.barge())
    }

    /// The ticket of the first, if it has waited so long that nobody may pass any more.
    fn whose_turn(&self, slot: u16) -> Option<u64> {
        let first = self.seen_head(slot).or_else(|| self.first(slot, NOBODY, 0));
        let insists = |(_, ticket): &(u16, u64)| self.may_insist(*ticket);
        // Whether it lives is a question to the kernel.
        let head = first.filter(insists).and_then(|_| self.head(slot, NOBODY));
        head.filter(insists).map(|(_, ticket)| ticket)
    }

    /// After a release: offers the slot to the head of the queue if it is its turn. Otherwise only
    /// wakes it, and whoever comes first has the slot; the one that is woken makes the offer, if it
    /// still can.
    pub(super) fn hand_on(&self, slot: u16, fair: bool) {
        let passes = |ticket| ticket != WATCHER && !(fair && self.may_insist(ticket));
        if let Some((record, ticket)) = self.seen_head(slot)
            && passes(ticket)
            && self.0.is_woken(record)
        {
            return;
        }
        match self.first(slot, NOBODY, 0) {
            Some((record, ticket)) if passes(ticket) && self.0.is_alive(record) => {
                let head = ticket << RECORD_BITS | u64::from(record);
                self.0.seen_head(slot).store(head, Release);
                if !cfg!(canary = "no_wake") {
                    self.0.wake(record);
                }
            }
            _ => self.admit(slot, NOBODY),
        }
    }

    /// The head of the queue as it was seen last, if it still waits: whoever came since has a greater
    /// ticket. Spares reading all places each time a lock is let go that many wait for.
    fn seen_head(&self, slot: u16) -> Option<(u16, u64)> {
        let head = self.0.seen_head(slot).load(Acquire);
        let (ticket, record) = (head >> RECORD_BITS, (head & RECORD_MASK) as u16);
        let waiting = Place::new(Role::Waiting, slot, ticket);
        let stands = record < self.0.records() && self.place(record) == waiting;
        stands.then_some((record, ticket))
    }

    /// Whether at most one living waiter comes before `me`.
    pub fn is_near(&self, slot: u16, me: u16) -> bool {
        let ticket = self.place(me).number();
        (0..self.0.records())
            .filter(|record| {
                let place = self.place(*record);
                place.waits_for(slot) && place.number() < ticket && self.0.is_alive(*record)
            })
            .nth(1)
            .is_none()
    }

    /// Leaves the queue. Afterwards no offer to `me` stands.
    pub fn leave(&self, slot: u16, me: u16) {
        self.0.place(me).swap(Place::NONE.0, AcqRel);
        self.admit(slot, NOBODY);
    }

    /// The living waiter with the lowest ticket, `skip` and late ones aside.
    pub(super) fn head(&self, slot: u16, skip: u16) -> Option<(u16, u64)> {
        let mut floor = 0;
        loop {
            let (record, ticket) = self.first(slot, skip, floor)?;
            if self.0.is_alive(record) {
                return Some((record, ticket));
            }
            if ticket == WATCHER {
                return None;
            }
            floor = ticket + 1;
        }
    }

    /// The waiter with the lowest ticket from `floor` on, dead or alive.
    fn first(&self, slot: u16, skip: u16, floor: u64) -> Option<(u16, u64)> {
        let first = (0..self.0.records())
            .map(|record| (self.place(record), record))
            .filter(|(place, record)| {
                place.waits_for(slot)
                    && place.number() >= floor
                    && *record != skip
                    && self.0.late(*record).load(Acquire) == 0
            })
            .map(|(place, record)| (place.number(), record))
            .min();
        first.map(|(ticket, record)| (record, ticket))
    }

    pub(super) fn offer_stands(&self, slot: u16, grant: Grant) -> bool {
        let record = grant.record();
        let place = self.place(record);
        let comes =
            place.waits_for(slot) || (place.role() == Role::Joining && place.slot() == slot);
        if !comes || self.0.late(record).load(Acquire) != 0 || !self.0.is_alive(record) {
            return false;
        }
        let offered = self.0.offered(slot).load(Acquire);
        if self.0.now().saturating_sub(offered) < CLAIM_NS {
            return true;
        }
        self.0.late(record).store(1, Release);
        false
    }

    /// Offers the slot to the head of the queue if it goes together with the holders. `by` is the
    /// waiter that asks, if one does; it need not be woken.
    pub fn admit(&self, slot: u16, by: u16) {
        loop {
            // Not a plain load: what the caller wrote before must be seen by whoever changes the
            // word after this look, or that change by us.
            let grant = if cfg!(canary = "plain_look") {
                self.load(slot)
            } else {
                Grant(self.0.grant(slot).fetch_or(0, AcqRel))
            };
            if !grant.has_waiters() || grant.kind() == Kind::Sealed {
                return;
            }
            if grant.kind() == Kind::Offer && self.offer_stands(slot, grant) {
                if by != NOBODY && by != grant.record() {
                    // Whoever made the offer may have died before it could tell.
                    self.0.wake(grant.record());
                }
                return;
            }
            let head = self.head(slot, NOBODY);
            let mode = match head {
                Some((record, ticket)) if ticket != WATCHER => {
                    ModeWord(self.0.mode(record).load(Acquire))
                }
                _ => ModeWord::EXCLUSIVE,
            };
            let recovered = match self.look(slot, grant, NOBODY, mode) {
                Look::Free { recovered } => recovered,
                Look::Mismatch(_) => {
                    // It has to be told.
                    if let Some((record, _)) = head.filter(|(record, _)| *record != by) {
                        self.0.wake(record);
                    }
                    return;
                }
                Look::Taken(_) => return,
            };
            match head {
                None => {
                    if self.clear_waiters(slot, grant, recovered) {
                        return;
                    }
                }
                Some((_, WATCHER)) => {
                    self.wake_watchers(slot);
                    return;
                }
                Some((record, _)) => {
                    let offer = grant.next(record, Kind::Offer);
                    self.0.offered(slot).store(self.0.now(), Release);
                    if recovered {
                        self.0.recovered(slot).store(offer.epoch(), Release);
                    }
                    if self.swap(slot, grant, offer) {
                        if record != by && !cfg!(canary = "no_wake") {
                            self.0.wake(record);
                        }
                        return;
                    }
                }
            }
        }
    }

    /// Nobody was seen waiting: takes the flag away, and looks once more. True if it stays away.
    fn clear_waiters(&self, slot: u16, grant: Grant, recovered: bool) -> bool {
        let to = match grant.kind() {
            // Its place does not fit the new epoch: void, and still telling of the death.
            Kind::Exclusive if recovered => grant.next(grant.record(), Kind::Exclusive),
            // The same, but for one that may be about to join at the next epoch.
            Kind::Offer if recovered => {
                let next = grant.next(grant.record(), Kind::Exclusive);
                next.next(grant.record(), Kind::Exclusive)
            }
            Kind::Exclusive => grant.next(NOBODY, Kind::Open),
            Kind::Open if grant.record() == NOBODY => grant.next(NOBODY, Kind::Open),
            // The last joiner was made a member by `look`.
            _ => grant.next(SOMEBODY, Kind::Open),
        };
        let to = to.without_waiters();
        if !self.swap(slot, grant, to) {
            return false;
        }
        if cfg!(canary = "no_rescan") || self.head(slot, NOBODY).is_none() {
            return true;
        }
        self.0.grant(slot).fetch_or(WAITERS_FLAG, AcqRel);
        false
    }

    fn wake_watchers(&self, slot: u16) {
        for record in 0..self.0.records() {
            let place = self.place(record);
            if place.waits_for(slot) && place.number() == WATCHER {
                self.0.wake(record);
            }
        }
    }
}
