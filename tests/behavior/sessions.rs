//! Sessions: one owner of many names, by its id.

use super::fork::in_child;
use super::support::{Case, List, PATIENCE, code, ms};
use std::time::{Duration, Instant};
use synlock_core::session::Taken;
use synlock_core::{Code, Session, Wait};

/// Longer than any test takes, and than [`BRIEF`].
const LONG: Duration = Duration::from_secs(50);

/// The end of a [`LONG`] lease comes later: what ends a wait of this before is a wake-up.
const BRIEF: Wait = Wait::For(Duration::from_secs(30));

pub fn tests(list: &mut List) {
    list.add("a_session_acquires_renews_and_releases", acquires);
    list.add("a_session_waits_until_a_lock_may_be_available", waits);
    list.add("a_session_releases_all_that_it_holds", releases_all);
    if list.can.ttl {
        list.add("a_session_learns_that_its_lock_went_to_another", expires);
    }
    list.add("a_child_is_refused_its_parents_session", forks);
    if list.can.ttl && list.can.export && !list.can.frees_on_death {
        list.add("a_persistent_session_outlives_its_object", persists);
        list.add("one_of_many_that_share_an_id_gets_the_lock", contend);
    } else {
        list.add("a_session_that_cannot_persist_is_refused", |case| {
            assert_eq!(
                code(Session::persistent(&case.store, "me")),
                Code::Unsupported
            );
        });
    }
}

fn acquires(case: &Case) {
    let (mine, other) = (Session::new(&case.store), Session::new(&case.open_again()));
    let name = &case.name;
    assert!(mine.id().unwrap() == mine.id().unwrap() && mine.id().unwrap() != other.id().unwrap());
    assert!(mine.may_be_available(name).unwrap());
    assert_eq!(mine.acquire(name, LONG).unwrap(), Taken::New);
    assert_eq!(mine.acquire(name, LONG).unwrap(), Taken::Renewed);
    assert!(mine.renew(name, LONG).unwrap() && !other.renew(name, LONG).unwrap());
    assert!(!mine.may_be_available(name).unwrap() && !other.may_be_available(name).unwrap());
    assert_eq!(other.acquire(name, LONG).unwrap(), Taken::Busy);
    assert!(!other.release(name).unwrap());
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    assert!(mine.release(name).unwrap() && !mine.release(name).unwrap());
    assert_eq!(other.acquire(name, LONG).unwrap(), Taken::New);
    drop(other);
    assert_eq!(mine.acquire(name, LONG).unwrap(), Taken::New);
}

fn waits(case: &Case) {
    let mine = Session::new(&case.store);
    assert!(
        !mine.wait(&case.name, Wait::Forever).unwrap(),
        "nobody has it"
    );
    mine.acquire(&case.name, LONG).unwrap();
    let start = Instant::now();
    let other = Session::new(&case.store);
    assert!(other.wait(&case.name, Wait::For(ms(60))).unwrap());
    assert!(start.elapsed() >= ms(60));
    let name = case.name.clone();
    assert_eq!(mine.acquire(&case.name, LONG).unwrap(), Taken::Renewed);
    let waiter = std::thread::spawn(move || other.wait(name, BRIEF).unwrap());
    std::thread::sleep(ms(50));
    mine.release(&case.name).unwrap();
    assert!(!waiter.join().unwrap());
}

fn releases_all(case: &Case) {
    let (mine, other) = (Session::new(&case.store), Session::new(&case.store));
    let names = [case.another(), case.another(), case.another()];
    for name in &names[..2] {
        assert!(mine.acquire(name, LONG).unwrap().is_held());
    }
    assert!(other.acquire(&names[2], LONG).unwrap().is_held());
    assert_eq!(mine.release_all(None).unwrap(), 2);
    assert_eq!(mine.release_all(Some(&mine.id().unwrap())).unwrap(), 0);
    assert!(mine.may_be_available(&names[0]).unwrap() && mine.may_be_available(&names[1]).unwrap());
    assert!(!mine.may_be_available(&names[2]).unwrap());
    let theirs = mine.release_all(Some(&other.id().unwrap()));
    if case.can.store.ends_with("-drupal") {
        assert_eq!(theirs.unwrap(), 1);
        assert_eq!(other.acquire(&names[2], LONG).unwrap(), Taken::Lost);
    } else if case.can.list && !case.is_peers_table() && !case.can.store.contains('-') {
        assert_eq!(
            code(theirs),
            Code::Unsupported,
            "its holds have tokens of their own"
        );
        assert!(other.renew(&names[2], LONG).unwrap());
    }
}

fn expires(case: &Case) {
    let (mine, other) = (Session::new(&case.store), Session::new(&case.store));
    let ttl = case.ttl(ms(600));
    assert_eq!(mine.acquire(&case.name, ttl).unwrap(), Taken::New);
    assert!(!other.wait(&case.name, PATIENCE).unwrap(), "its lease ends");
    assert_eq!(other.acquire(&case.name, LONG).unwrap(), Taken::New);
    assert_eq!(mine.acquire(&case.name, LONG).unwrap(), Taken::Lost);
    assert_eq!(mine.acquire(&case.name, LONG).unwrap(), Taken::Busy);
    assert!(!mine.release(&case.name).unwrap());
    assert!(other.renew(&case.name, LONG).unwrap());
    assert!(other.release(&case.name).unwrap());
    // Somebody had it and is gone: the same.
    assert_eq!(mine.acquire(&case.name, ttl).unwrap(), Taken::New);
    assert!(!other.wait(&case.name, PATIENCE).unwrap());
    assert!(other.acquire(&case.name, LONG).unwrap().is_held());
    assert!(other.release(&case.name).unwrap());
    assert_eq!(mine.acquire(&case.name, LONG).unwrap(), Taken::Lost);
}

fn forks(case: &Case) {
    let mut slot = Some(Session::new(&case.store));
    let idle = Session::new(&case.store);
    let (mine, id) = (case.another(), idle.id().unwrap());
    slot.as_ref().unwrap().acquire(&case.name, LONG).unwrap();
    assert!(in_child(|| {
        let held = slot.take().unwrap();
        let refused = code(held.acquire(&case.name, LONG)) == Code::ForkedHandle
            && code(held.release(&case.name)) == Code::ForkedHandle
            && code(held.release_all(None)) == Code::ForkedHandle
            && code(held.id()) == Code::ForkedHandle;
        drop(held);
        let apart = idle.id().unwrap() != id && idle.acquire(&mine, LONG).unwrap() == Taken::New;
        refused && apart && idle.release_all(None).unwrap() == 1
    }));
    let held = slot.unwrap();
    assert_eq!(idle.id().unwrap(), id);
    assert!(
        held.renew(&case.name, LONG).unwrap(),
        "the child's end did nothing to it"
    );
}

fn persists(case: &Case) {
    let id = own_id(case);
    let again = || Session::persistent(&case.open_again(), &id).unwrap();
    let (first, other) = (again(), Session::new(&case.store));
    assert!(first.is_persistent() && *first.id().unwrap() == *id);
    assert_eq!(first.acquire(&case.name, LONG).unwrap(), Taken::New);
    assert_eq!(first.acquire(&case.name, LONG).unwrap(), Taken::Renewed);
    drop(first);
    assert!(in_child(|| {
        let mine = again();
        mine.acquire(&case.name, LONG).unwrap() == Taken::Busy
            && mine.renew(&case.name, LONG).unwrap()
    }));
    assert_eq!(other.acquire(&case.name, LONG).unwrap(), Taken::Busy);
    assert!(!other.release(&case.name).unwrap());
    assert!(again().release(&case.name).unwrap() && !again().release(&case.name).unwrap());
    assert_eq!(other.acquire(&case.name, LONG).unwrap(), Taken::New);
    assert!(!again().release(&case.name).unwrap() && !again().renew(&case.name, LONG).unwrap());
    assert!(other.release(&case.name).unwrap());

    // A lease that is over belongs to nobody, even if the next holder has the same id.
    let (old, ttl) = (again(), case.ttl(ms(600)));
    assert_eq!(old.acquire(&case.name, ttl).unwrap(), Taken::New);
    assert!(!other.wait(&case.name, PATIENCE).unwrap());
    case.outlive(ttl, ms(200));
    let next = again();
    assert_eq!(next.acquire(&case.name, LONG).unwrap(), Taken::New);
    assert_eq!(old.acquire(&case.name, LONG).unwrap(), Taken::Lost);
    assert!(next.renew(&case.name, LONG).unwrap());
    assert_eq!(next.release_all(None).unwrap(), 1);
    assert!(other.may_be_available(&case.name).unwrap());

    // Who has the same id and took nothing releases nothing of the others.
    let (holder, refused) = (again(), again());
    assert_eq!(holder.acquire(&case.name, LONG).unwrap(), Taken::New);
    assert_eq!(refused.acquire(&case.name, LONG).unwrap(), Taken::Busy);
    assert_eq!(refused.release_all(None).unwrap(), 0);
    assert!(holder.renew(&case.name, LONG).unwrap());

    // Whoever renews for less shortens nothing.
    assert!(refused.renew(&case.name, case.ttl(ms(600))).unwrap());
    let found = case.store.inspect(&case.name).unwrap().holders;
    let left = found.first().expect("a holder").remaining;
    assert!(left.is_none_or(|left| left > LONG / 2), "{left:?}");
    assert!(holder.renew(&case.name, LONG).unwrap());
    assert_eq!(holder.release_all(None).unwrap(), 1);
}

/// An id that no other case uses.
fn own_id(case: &Case) -> String {
    let name = case.another();
    name.chars().filter(char::is_ascii_graphic).collect()
}

fn contend(case: &Case) {
    let id = own_id(case);
    let taken: Vec<bool> = std::thread::scope(|scope| {
        let one = || {
            let mine = Session::persistent(&case.store, &id).unwrap();
            mine.acquire(&case.name, LONG).unwrap().is_held()
        };
        let all: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = taken.iter().filter(|taken| **taken).count();
    let mine = Session::persistent(&case.store, &id).unwrap();
    if case.can.store == "quorum" && count == 0 {
        // Those who ask at once may split the members, and give all back.
        assert!(mine.acquire(&case.name, LONG).unwrap().is_held());
    } else {
        assert_eq!(count, 1, "{taken:?}");
    }
    let listed = case.can.list && !case.is_peers_table() && !case.can.store.contains('-');
    if listed || case.can.store.ends_with("-drupal") {
        assert_eq!(Session::new(&case.store).release_all(Some(&id)).unwrap(), 1);
    } else {
        assert!(mine.release(&case.name).unwrap());
    }
    assert!(mine.may_be_available(&case.name).unwrap());
}
