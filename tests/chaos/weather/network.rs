//! Row 17: the network of a server fails, or the server stops, at each step of the protocol. Every call
//! is back in time, and afterwards no reply belongs to another request.

use crate::calls::{Stalls, TIMEOUT, in_time};
use crate::remote::{Remote, lock};
use crate::{code, let_sigpipe_kill, ms};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, Result, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::services::redis_fake::Fault;

const FAULTS: [Fault; 4] = [Fault::Silence, Fault::OneWay, Fault::Reset, Fault::Cut];
/// Of a lock whose release may be lost.
const TTL: Duration = Duration::from_secs(3);

/// What a verb may say while the network fails. A hold that ends with its session may be lost, and a lease that has
/// run out on a slow machine.
fn is_allowed(found: Code, may_be_lost: bool) -> bool {
    match found {
        Code::Ok | Code::Unavailable | Code::Uncertain | Code::Busy | Code::NotHeld => true,
        Code::Lost => may_be_lost,
        _ => false,
    }
}

/// Until it works: what is slow on this machine is no fault of the server's, and the time is short.
pub fn insist<T>(mut call: impl FnMut() -> Result<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        match call() {
            Err(error)
                if matches!(error.code(), Code::Unavailable | Code::Uncertain)
                    && Instant::now() < end =>
            {
                std::thread::sleep(ms(10));
            }
            done => return done.unwrap(),
        }
    }
}

/// Each of many answers is of the lock that was asked for.
fn answers_are_their_own(store: &Store, name: &str, what: &str) {
    for number in 0..12 {
        let name = format!("{name}/{number}");
        let lock = lock(store, &name, Duration::from_secs(30));
        insist(|| lock.acquire(Wait::For(SOON), None));
        let found = insist(|| store.inspect(&name));
        assert_eq!(found.name, name.as_bytes(), "{what}");
        assert_eq!(found.holders.len(), 1, "{what}: {name}: {found:?}");
        let holder = &found.holders[0];
        let label = format!("label of {name}");
        assert_eq!(holder.label.as_deref(), Some(&*label), "{what}");
        if holder.fence.is_some() {
            assert_eq!(holder.fence, lock.fencing_token(), "{what}");
        }
        let released = code(lock.release());
        assert!(
            matches!(released, Code::Ok | Code::Uncertain),
            "{what}: {released:?}"
        );
    }
}

/// What was there in the weather is gone with its lease or session at the latest.
fn is_free(remote: &Remote, name: &str) {
    let after = remote.store("").lock(name).unwrap();
    insist(|| after.acquire(Wait::For(SOON), None));
    after.release().unwrap();
}

fn short() -> String {
    format!("io_timeout={}", TIMEOUT.as_millis())
}

/// A fault at one reply, four verbs in it, and a dozen locks after it.
fn round(remote: &Remote, fault: Fault, k: i64, stalls: &Stalls) -> bool {
    let (proxy, what) = (remote.proxy(), format!("{fault:?} at reply {k}"));
    let store = remote.store_behind(&proxy, &short());
    let name = unique("weather");
    let held = lock(&store, &name, TTL);
    let has_leases = store.capabilities().ttl;
    proxy.fail(k, fault);
    let began = Instant::now();
    let mut codes = vec![in_time(stalls, &what, || held.try_acquire())];
    codes.push(in_time(stalls, &what, || {
        if has_leases {
            held.refresh(None)
        } else {
            held.ensure_held()
        }
    }));
    codes.push(in_time(stalls, &what, || store.inspect(&name)));
    codes.push(in_time(stalls, &what, || held.release()));
    let may_be_lost = !has_leases || began.elapsed() >= TTL;
    let fine = codes.iter().all(|found| is_allowed(*found, may_be_lost));
    assert!(fine, "{what}: {codes:?}");
    let _ = held.abandon();
    proxy.heal();
    answers_are_their_own(&store, &name, &what);
    is_free(remote, &name);
    codes.iter().any(|found| *found != Code::Ok)
}

fn network(remote: &Remote) {
    let_sigpipe_kill();
    // What is made once (a table, a root) is there.
    let known = lock(&remote.store(""), "known", TTL);
    known.acquire(Wait::For(SOON), None).unwrap();
    known.release().unwrap();
    let broken = AtomicU32::new(0);
    // Nearly all of the time goes by in waiting.
    std::thread::scope(|scope| {
        for fault in FAULTS {
            let broken = &broken;
            scope.spawn(move || {
                let stalls = Stalls::watch();
                for k in 1..=if is_full_load() { 12 } else { 4 } {
                    broken.fetch_add(u32::from(round(remote, fault, k, &stalls)), SeqCst);
                }
            });
        }
    });
    let broken = broken.into_inner();
    assert!(broken >= 6, "{broken} rounds met the weather");
}

/// The server stops (SIGSTOP) before one of five verbs, and goes on.
fn stopped(remote: &Remote) {
    let stalls = Stalls::watch();
    let store = remote.store(&short());
    let has_leases = store.capabilities().ttl;
    for round in 0..if is_full_load() { 20 } else { 1 } {
        for step in 0..5 {
            let name = format!("stopped{round}/{step}");
            let held = lock(&store, &name, TTL);
            // The connection is there in any case.
            let warm = lock(&store, &format!("{name}/warm"), TTL);
            insist(|| warm.acquire(Wait::For(SOON), None));
            let _ = warm.release();
            let began = Instant::now();
            if step > 0 {
                insist(|| held.acquire(Wait::For(SOON), None));
            }
            remote.stop();
            let what = format!("step {step}");
            let found = in_time(&stalls, &what, || match step {
                0 => held.try_acquire().map(drop),
                1 if has_leases => held.refresh(None),
                1 | 2 => held.ensure_held(),
                3 => store.inspect(&name).map(drop),
                _ => held.release().map(drop),
            });
            let ran_out = found == Code::Lost && began.elapsed() >= TTL;
            assert!(
                matches!(found, Code::Unavailable | Code::Uncertain) || ran_out,
                "{what}: {found:?}"
            );
            remote.go_on();
            let _ = held.abandon();
            let _ = held.release();
            // Answers that were given up come now, and are nobody's.
            answers_are_their_own(&store, &name, &what);
            is_free(remote, &name);
        }
    }
}

macro_rules! weather {
    ($($feature:literal $name:ident $remote:expr, $($part:ident)*;)*) => {
        $(
            #[cfg(feature = $feature)]
            mod $name {
                use super::Remote;

                #[test]
                fn partitions_and_stops() {
                    let remote = $remote;
                    $(super::$part(&remote);)*
                }
            }
        )*
    };
}

weather! {
    "memcached" memcached Remote::memcached(), network stopped;
    "postgres" postgres Remote::postgres("postgres"), network stopped;
    "postgres" postgres_advisory Remote::postgres("postgres+advisory"), network stopped;
    "mysql" mysql Remote::mysql("mysql"), network stopped;
    "mysql" mysql_advisory Remote::mysql("mysql+advisory"), network stopped;
    "zookeeper" zookeeper Remote::zookeeper(), network stopped;
    "etcd" etcd Remote::etcd(), network stopped;
}
