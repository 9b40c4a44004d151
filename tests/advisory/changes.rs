//! A change of mode whose answer is late: the session lives on, and nothing stays locked in it.

use crate::{PATIENCE, code, held, open, open_within, postgres, until, waited_for};
use synlock_core::{Code, Lock, Mode, Store, Wait};
use synlock_tests::services::postgres::PostgresServer;
use synlock_tests::services::redis_fake::{Late, Proxy};

/// What is asked of the hold once the answer is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Nothing,
    Check,
    Again,
}

fn change(lock: &Lock, to: Mode) -> synlock_core::Result<()> {
    match to {
        Mode::Shared => lock.demote(),
        _ => lock.promote(Wait::No),
    }
}

fn shared(store: &Store, name: &str) -> Lock {
    let mut options = store.defaults().clone();
    options.mode = Mode::Shared;
    store.lock_with(name, options).unwrap()
}

/// The request that lets go of the mode of before is kept back until the call has given up.
fn is_cut(proxy: &Proxy, lock: &Lock, to: Mode) {
    proxy.keep_next_with("pg_advisory_unlock");
    let told = code(change(lock, to));
    assert!(
        matches!(told, Code::Uncertain | Code::Unavailable),
        "{told:?}"
    );
    proxy.send_late();
    until(|| proxy.late() == Late::Answered);
}

/// `waited`: on a session of its own.
fn late_change(server: &PostgresServer, to: Mode, next: Next, waited: bool) {
    let what = format!("to {to:?}, then {next:?}, waited: {waited}");
    let (proxy, url) = (Proxy::start(server.port()), postgres(server));
    let behind = url.replace(
        &format!(":{}", server.port()),
        &format!(":{}", proxy.port()),
    );
    let (store, there) = (open_within(&behind, 2_000), open(&url, 0));
    let name = &*format!("{what} {}", proxy.port());
    let lock = match to {
        Mode::Shared if waited => waited_for(&store, name, held(&there, name)),
        Mode::Shared => held(&store, name),
        _ => shared(&store, name),
    };
    if to == Mode::Exclusive {
        lock.acquire(PATIENCE, None).unwrap();
    }
    is_cut(&proxy, &lock, to);
    match next {
        Next::Nothing => {}
        Next::Check => lock
            .ensure_held()
            .unwrap_or_else(|error| panic!("{what}: {error}")),
        Next::Again => {
            change(&lock, to).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(lock.mode(), to, "{what}");
            lock.ensure_held()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let reader = code(shared(&there, name).acquire(Wait::No, None));
            let expected = if to == Mode::Shared {
                Code::Ok
            } else {
                Code::Busy
            };
            assert_eq!(reader, expected, "{what}");
        }
    }
    let writer = there.lock(name).unwrap();
    assert_eq!(code(writer.acquire(Wait::No, None)), Code::Busy, "{what}");
    assert_eq!(code(lock.release()), Code::Ok, "{what}");
    // The store and its sessions are still there.
    let freed = code(writer.acquire(PATIENCE, None));
    assert_eq!(freed, Code::Ok, "{what}: something stays locked");
    drop(store);
}

#[test]
fn a_late_change_of_mode_leaves_nothing_locked() {
    let server = PostgresServer::start();
    std::thread::scope(|scope| {
        for next in [Next::Nothing, Next::Check, Next::Again] {
            for (to, waited) in [
                (Mode::Shared, false),
                (Mode::Shared, true),
                (Mode::Exclusive, false),
            ] {
                let server = &server;
                scope.spawn(move || late_change(server, to, next, waited));
            }
        }
    });
}

/// Two handles hold over one session. What fails for the second one must not let go of what the first one has.
#[test]
fn a_token_that_cannot_be_drawn_leaves_the_others_hold_alone() {
    let server = PostgresServer::start();
    let url = postgres(&server);
    for fair in [true, false] {
        let (store, there) = (open(&url, 0), open(&url, 1));
        let name = &*format!("fair: {fair}");
        let [first, second] = [(); 2].map(|()| {
            let mut options = store.defaults().clone();
            (options.mode, options.fair) = (Mode::Shared, fair);
            store.lock_with(name, options).unwrap()
        });
        first.acquire(PATIENCE, None).unwrap();
        server.sql("DROP SEQUENCE synlock_fence");
        let fence = second.acquire(PATIENCE, None).unwrap().fence;
        assert!(fence.is_some(), "{name}");
        let writer = there.lock(name).unwrap();
        for lock in [first, second] {
            let code = code(writer.acquire(Wait::No, None));
            assert_eq!(code, Code::Busy, "{name}");
            lock.ensure_held().unwrap();
            lock.release().unwrap();
        }
        writer.acquire(PATIENCE, None).unwrap();
    }
}
