//! Asking again within one process: who is refused, and what is shared.

use super::hold::readable;
use super::support::{Case, List, PATIENCE, code, ms};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, Mode, Reentry, State, Wait};

pub fn tests(list: &mut List) {
    list.add("reentry_policies", reentry);
    if list.can.shared {
        list.add("reentry_shares_no_shared_hold_as_exclusive", reentry_modes);
    }
    if list.can.promote {
        list.add("reentry_knows_a_change_of_mode", reentry_promoted);
        list.add("a_change_of_mode_is_that_of_all_sharers", sharers_mode);
        if !list.is_caller_thread_only {
            list.add("sharers_change_the_mode_in_turn", in_turn);
        }
    }
    if list.can.permits {
        list.add("reentry_shares_no_more_permits_than_held", reentry_permits);
    }
    list.add("an_acquire_is_taken_back", taken_back);
    if list.can.export {
        list.add("an_export_takes_the_hold_from_all_sharers", exported);
    }
    let is_renewed = list.can.ttl && !list.is_caller_thread_only;
    if is_renewed {
        list.add("a_shared_hold_is_renewed_for_its_later_handle", renewed);
        list.add("a_shared_hold_has_the_longer_lease", longer);
        list.add("a_release_of_a_shared_hold_is_no_loss", no_loss);
    }
    // What neither runs out nor ends with a server is watched by nobody.
    let is_watched = is_renewed || (!list.can.ttl && list.can.clock == "server");
    if list.can.break_lock && is_watched {
        list.add("all_handles_of_a_shared_hold_hear_of_its_loss", told);
    }
}

fn reentry(case: &Case) {
    let with = |policy| case.lock_with(|options| options.reentry = policy);
    let (a, refused, extended) = (
        with(Reentry::Extend),
        with(Reentry::Error),
        with(Reentry::Extend),
    );
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(refused.acquire(Wait::No, None)), Code::Reentered);
    extended.acquire(Wait::No, None).unwrap();
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    extended.release().unwrap();
    assert_eq!(code(a.release()), Code::NotHeld);
    refused.acquire(Wait::No, None).unwrap();
}

fn extending(case: &Case, mode: Mode) -> Lock {
    case.lock_with(|options| {
        options.reentry = Reentry::Extend;
        options.mode = mode;
    })
}

/// Refused for what `held` says, and with nothing held.
fn refused_more(lock: &Lock, held: &str) {
    let error = lock.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::Reentered);
    assert!(error.to_string().contains(held), "{error} names {held}");
    assert_eq!(lock.state(), State::Idle);
}

fn reentry_modes(case: &Case) {
    let with = |mode| extending(case, mode);
    let (reader, writer) = (with(Mode::Shared), with(Mode::Exclusive));
    reader.acquire(Wait::No, None).unwrap();
    refused_more(&writer, "shared");
    let another = with(Mode::Shared);
    assert!(another.acquire(Wait::No, None).unwrap().extended);
    another.release().unwrap();
    writer.acquire(PATIENCE, None).unwrap();
    // Who may write may read.
    assert!(reader.acquire(Wait::No, None).unwrap().extended);
}

fn reentry_promoted(case: &Case) {
    let with = |mode| extending(case, mode);
    let (first, writer) = (with(Mode::Shared), with(Mode::Exclusive));
    first.acquire(Wait::No, None).unwrap();
    first.promote(Wait::No).unwrap();
    assert!(writer.acquire(Wait::No, None).unwrap().extended);
    writer.abandon().unwrap();
    first.demote().unwrap();
    refused_more(&writer, "shared");
    first.ensure_held().unwrap();
}

/// Whoever believed the mode of another time would write beside a reader.
fn sharers_mode(case: &Case) {
    let with = |mode| extending(case, mode);
    let (first, second) = (with(Mode::Shared), with(Mode::Exclusive));
    first.acquire(Wait::No, None).unwrap();
    first.promote(Wait::No).unwrap();
    assert!(second.acquire(Wait::No, None).unwrap().extended);
    assert_eq!(
        (first.mode(), second.mode()),
        (Mode::Exclusive, Mode::Exclusive)
    );
    first.demote().unwrap();
    assert_eq!((first.mode(), second.mode()), (Mode::Shared, Mode::Shared));
    let reader = case.shared();
    reader.acquire(PATIENCE, None).unwrap();
    assert_eq!(code(second.promote(Wait::No)), Code::Busy);
    reader.release().unwrap();
    second.promote(PATIENCE).unwrap();
    assert_eq!(first.mode(), Mode::Exclusive);
    assert_eq!(first.fencing_token(), second.fencing_token());
    first.ensure_held().unwrap();
}

/// Nobody else comes in while two change the mode of what they share.
fn in_turn(case: &Case) {
    let sharers = [(); 2].map(|()| extending(case, Mode::Shared));
    for sharer in &sharers {
        sharer.acquire(Wait::No, None).unwrap();
    }
    let (stranger, end) = (case.lock(), Instant::now() + ms(500));
    std::thread::scope(|scope| {
        for sharer in &sharers {
            scope.spawn(move || {
                while Instant::now() < end {
                    sharer.promote(Wait::No).unwrap();
                    sharer.demote().unwrap();
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < end {
                assert_eq!(code(stranger.acquire(Wait::No, None)), Code::Busy);
            }
        });
    });
    for sharer in &sharers {
        sharer.ensure_held().unwrap();
    }
}

fn reentry_permits(case: &Case) {
    let with = |take| extending(case, Mode::Permits { take, of: 5 });
    let (some, all) = (with(2), with(5));
    some.acquire(Wait::No, None).unwrap();
    refused_more(&all, "2 of 5");
    let fewer = with(1);
    assert!(fewer.acquire(Wait::No, None).unwrap().extended);
    fewer.release().unwrap();
    assert!(!all.acquire(PATIENCE, None).unwrap().extended);
}

fn exported(case: &Case) {
    let (a, b, third) = (
        extending(case, Mode::Exclusive),
        extending(case, Mode::Exclusive),
        extending(case, Mode::Exclusive),
    );
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    a.export().unwrap();
    assert_eq!([a.state(), b.state()], [State::Idle; 2]);
    assert_eq!(code(b.ensure_held()), Code::NotHeld);
    assert_eq!(code(third.acquire(Wait::No, None)), Code::Busy);
}

fn taken_back(case: &Case) {
    let with = || case.lock_with(|options| options.reentry = Reentry::Extend);
    let (first, again) = (with(), with());
    first.acquire(Wait::No, None).unwrap();
    again.acquire(Wait::No, None).unwrap();
    again.abandon().unwrap();
    assert_eq!((again.state(), first.state()), (State::Idle, State::Held));
    first.ensure_held().unwrap();
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    // Refused, it was granted nothing.
    for lock in [&first, &again] {
        let _ = lock.acquire(Wait::No, None);
        assert_eq!(code(lock.acquire(Wait::No, None)), Code::AlreadyHeld);
        lock.abandon().unwrap();
        lock.ensure_held().unwrap();
    }
    first.release().unwrap();
    first.acquire(Wait::No, None).unwrap();
    first.abandon().unwrap();
    assert_eq!(first.state(), State::Idle);
    case.lock().acquire(Wait::No, None).unwrap();
}

fn sharing(case: &Case, ttl: Option<Duration>, renew: Option<bool>) -> Lock {
    case.lock_with(|options| {
        options.reentry = Reentry::Extend;
        options.ttl = ttl;
        options.renew = renew;
    })
}

/// Whatever the lease of the handle that came first is, and though that is let alone.
fn renewed(case: &Case) {
    let ttl = case.ttl(ms(400));
    for (of_second, renew) in [(None, None), (Some(ttl), Some(true))] {
        case.patiently(ms(400), |ttl| {
            let first = sharing(case, Some(ttl), None);
            let second = sharing(case, of_second.map(|_| ttl), renew);
            first.acquire(PATIENCE, None).unwrap();
            let shared = second.acquire(Wait::No, None).unwrap();
            std::thread::sleep(ttl * 3);
            let held = second.ensure_held().map_err(|error| error.to_string());
            let state = second.state();
            let others = code(case.lock().acquire(Wait::No, None));
            let _ = (second.release(), first.release());
            match (shared.extended, held, state, others) {
                (true, Ok(()), State::Held, Code::Busy) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}

fn longer(case: &Case) {
    let (short, long) = (Duration::from_secs(15), Duration::from_secs(55));
    let (first, second) = (
        sharing(case, Some(short), None),
        sharing(case, Some(long), None),
    );
    first.acquire(Wait::No, None).unwrap();
    second.acquire(Wait::No, None).unwrap();
    assert!(second.remaining().unwrap() > short);
}

/// Both are released by the first that is: the other one has lost nothing.
fn no_loss(case: &Case) {
    let ttl = case.ttl(ms(400));
    let with = || sharing(case, Some(ttl), Some(true));
    let (first, second) = (with(), with());
    first.acquire(Wait::No, None).unwrap();
    second.acquire(Wait::No, None).unwrap();
    let fds = [first.lost_fd().unwrap(), second.lost_fd().unwrap()];
    first.release().unwrap();
    std::thread::sleep(ttl + ms(200));
    assert_eq!((first.state(), second.state()), (State::Idle, State::Idle));
    assert_eq!(fds.map(readable), [false; 2]);
    assert_eq!(code(second.release()), Code::NotHeld);
}

/// Asked by nobody, the store or the next renewal tells of it.
fn told(case: &Case) {
    let ttl = case.can.ttl.then(|| case.ttl(ms(600)));
    let with = || sharing(case, ttl, ttl.map(|_| true));
    let (first, second, third) = (with(), with(), with());
    let (sender, receiver) = mpsc::channel();
    for (name, lock) in [(1, &first), (2, &second), (3, &third)] {
        let sender = sender.clone();
        lock.on_lost(move || sender.send(name).unwrap_or_default())
            .unwrap();
        lock.acquire(Wait::No, None).unwrap();
    }
    // Who has let go is told nothing, and keeps nobody from being told.
    third.abandon().unwrap();
    drop(third);
    case.store.break_lock(&case.name).unwrap();
    let patience = Duration::from_secs(60);
    let mut heard = [(); 2].map(|()| receiver.recv_timeout(patience).unwrap());
    heard.sort_unstable();
    assert_eq!(heard, [1, 2]);
    assert_eq!([first.state(), second.state()], [State::Lost; 2]);
    for lock in [&first, &second] {
        assert_eq!(code(lock.release()), Code::Lost);
    }
}
