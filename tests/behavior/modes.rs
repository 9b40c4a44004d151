//! Shared locks, promotion, permits.

use super::support::{Case, List, PATIENCE, code, ms};
use synlock_core::{Code, Mode, Wait};

pub fn tests(list: &mut List) {
    if list.can.shared {
        list.add("readers_share_and_keep_writers_out", shared);
        list.add(
            "a_reader_cannot_change_a_strangers_hold",
            demote_needs_a_hold,
        );
        list.add(
            "a_waiting_writer_gets_the_lock_after_the_readers",
            writer_waits,
        );
    }
    if list.can.shared && !list.can.promote {
        list.add("a_change_of_mode_is_refused_and_the_hold_stays", no_change);
    }
    if list.can.promote {
        list.add("a_sole_reader_is_promoted", promote);
        list.add("a_refused_promotion_keeps_the_read_lock", refused_promotion);
        list.add("a_writer_is_demoted", demote);
    }
    if list.can.permits {
        list.add("permits_are_counted", permits);
        list.add("several_permits_at_once", several);
        list.add("all_agree_on_the_number_of_permits", disagree);
        list.add("a_waiter_gets_a_permit", permit_wait);
    }
}

fn shared(case: &Case) {
    let (a, b, w) = (case.shared(), case.shared(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert_eq!(a.mode(), Mode::Shared);
    assert_eq!(code(w.acquire(Wait::No, None)), Code::Busy);
    a.release().unwrap();
    assert_eq!(code(w.acquire(Wait::No, None)), Code::Busy);
    b.ensure_held().unwrap();
    b.release().unwrap();
    w.acquire(Wait::No, None).unwrap();
    assert_eq!(code(a.acquire(Wait::No, None)), Code::Busy);
}

fn demote_needs_a_hold(case: &Case) {
    let a = case.shared();
    assert_eq!(code(a.demote()), Code::NotHeld);
    let refused = if case.can.promote {
        Code::NotHeld
    } else {
        Code::Unsupported
    };
    assert_eq!(code(a.promote(Wait::No)), refused);
}

fn writer_waits(case: &Case) {
    let (a, w) = (case.shared(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    let writer = std::thread::spawn(move || w.acquire(PATIENCE, None).map(|_| w));
    case.wait_for_waiters(1);
    if case.can.fair {
        // A reader that comes later stands behind the writer.
        assert_eq!(code(case.shared().acquire(Wait::No, None)), Code::Busy);
    }
    a.release().unwrap();
    let w = writer.join().unwrap().unwrap();
    w.ensure_held().unwrap();
    assert_eq!(code(case.shared().acquire(Wait::No, None)), Code::Busy);
}

fn no_change(case: &Case) {
    let (a, b) = (case.shared(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(a.promote(Wait::No)), Code::Unsupported);
    assert_eq!(a.mode(), Mode::Shared);
    a.ensure_held().unwrap();
    a.release().unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.demote()), Code::Unsupported);
    assert_eq!(b.mode(), Mode::Exclusive);
    b.ensure_held().unwrap();
}

fn promote(case: &Case) {
    let (a, b) = (case.shared(), case.shared());
    a.acquire(Wait::No, None).unwrap();
    a.promote(Wait::No).unwrap();
    assert_eq!(a.mode(), Mode::Exclusive);
    a.ensure_held().unwrap();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    a.release().unwrap();
    b.acquire(Wait::No, None).unwrap();
}

fn refused_promotion(case: &Case) {
    let (a, b, w) = (case.shared(), case.shared(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert_eq!(code(a.promote(Wait::No)), Code::Busy);
    assert_eq!(code(a.promote(Wait::For(ms(40)))), Code::Timeout);
    assert_eq!(a.mode(), Mode::Shared);
    a.ensure_held().unwrap();
    b.release().unwrap();
    assert_eq!(code(w.acquire(Wait::No, None)), Code::Busy);
    a.promote(Wait::No).unwrap();
}

fn demote(case: &Case) {
    let (a, b, w) = (case.lock(), case.shared(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    a.demote().unwrap();
    assert_eq!(a.mode(), Mode::Shared);
    b.acquire(Wait::No, None).unwrap();
    assert_eq!(code(w.acquire(Wait::No, None)), Code::Busy);
    a.release().unwrap();
    b.ensure_held().unwrap();
}

fn permits(case: &Case) {
    let locks: Vec<_> = (0..4).map(|_| case.permits(1, 3)).collect();
    for lock in &locks[..3] {
        lock.acquire(Wait::No, None).unwrap();
    }
    assert_eq!(code(locks[3].acquire(Wait::No, None)), Code::Busy);
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    locks[1].release().unwrap();
    locks[3].acquire(Wait::No, None).unwrap();
    locks[0].ensure_held().unwrap();
}

fn several(case: &Case) {
    let (a, b, c) = (case.permits(3, 5), case.permits(2, 5), case.permits(1, 5));
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert_eq!(code(c.acquire(Wait::No, None)), Code::Busy);
    let found = case.store.inspect(&case.name).unwrap();
    assert_eq!(
        found
            .holders
            .iter()
            .map(|holder| holder.permits)
            .sum::<u32>(),
        5
    );
    b.release().unwrap();
    c.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
}

fn disagree(case: &Case) {
    let (a, b) = (case.permits(1, 3), case.permits(1, 4));
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::InvalidArgument);
    a.release().unwrap();
    b.acquire(Wait::No, None).unwrap();
}

fn permit_wait(case: &Case) {
    let (a, b, c) = (case.permits(1, 2), case.permits(1, 2), case.permits(2, 2));
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    let waiter = std::thread::spawn(move || c.acquire(PATIENCE, None).map(|_| c));
    case.wait_for_waiters(1);
    a.release().unwrap();
    std::thread::sleep(ms(20));
    b.release().unwrap();
    waiter.join().unwrap().unwrap().ensure_held().unwrap();
}
