//! Row 16 for databases: each reply is lost once, with its connection. The other remote stores have it in
//! suites of their own.

use crate::remote::{Remote, lock};
use crate::{code, ms};
use synlock_core::{Code, Lock, Mode, Store, Wait};
use synlock_tests::late::acquire_late;
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::services::redis_fake::Proxy;

/// What may come of a call whose reply is lost: its effect, or the word that it is not known. An attempt
/// that was not sent is trouble.
fn is_told(found: Code) -> bool {
    matches!(found, Code::Ok | Code::Busy | Code::Uncertain)
}

/// Longer than anybody waits here for a ghost to go; no longer, since a store that was given up goes on releasing
/// for as long, on a session.
const TTL: u64 = 30_000;

/// `replies` are so many as there are until the end of a release.
fn lost_replies(remote: &Remote, query: &str, replies: i64, least: u32) {
    let direct = remote.store(query);
    let known = lock(&direct, "known", ms(TTL));
    known.acquire(Wait::For(SOON), None).unwrap();
    known.release().unwrap();
    let has_leases = direct.capabilities().ttl;
    let mut lost = 0;
    for _ in 0..if is_full_load() { 100 } else { 1 } {
        for k in 1..=replies {
            // A new proxy, so that the store begins without a connection.
            let proxy = remote.proxy();
            let store = remote.store_behind(&proxy, query);
            let name = unique("lost");
            let (ours, other) = (lock(&store, &name, ms(TTL)), direct.lock(&name).unwrap());
            let what = format!("{query}: reply {k}");
            proxy.lose(k);
            let acquired = match ours.try_acquire() {
                Ok(None) => Code::Busy,
                result => code(result),
            };
            let unsent = acquired == Code::Unavailable && proxy.has_lost();
            assert!(is_told(acquired) || unsent, "{what}: acquire {acquired:?}");
            if acquired == Code::Ok {
                let holders = direct.inspect(&name).unwrap().holders.len();
                assert_eq!(holders, 1, "{what}");
                assert!(other.try_acquire().unwrap().is_none(), "{what}");
                let kept = code(if has_leases {
                    ours.refresh(None)
                } else {
                    ours.ensure_held()
                });
                // Where a hold is its session's, a lost reply may be its end: it is told.
                let is_gone = !has_leases && kept == Code::Lost;
                assert!(is_told(kept) || is_gone, "{what}: {kept:?}");
                if kept == Code::Ok {
                    assert!(other.try_acquire().unwrap().is_none(), "{what}");
                }
                let released = code(ours.release());
                let is_gone = is_gone || (!has_leases && released == Code::Lost);
                assert!(is_told(released) || is_gone, "{what}: {released:?}");
            }
            lost += u32::from(proxy.has_lost());
            proxy.heal();
            // No ghost stays behind, not even for its TTL, and the same handle asks again.
            other.acquire(Wait::For(SOON), None).unwrap();
            other.release().unwrap();
            let again = lock(&store, &name, ms(TTL));
            again.acquire(Wait::For(SOON), None).unwrap();
            assert!(other.try_acquire().unwrap().is_none(), "{what}");
            again.release().unwrap();
        }
    }
    assert!(lost >= least, "{query}: {lost} replies lost");
}

/// A request that was given up arrives after its release has been answered.
fn late_requests(remote: &Remote) {
    for query in ["", "dialect=drupal", "dialect=laravel"] {
        let direct = remote.store(query);
        let known = lock(&direct, "known", ms(60_000));
        known.acquire(Wait::For(SOON), None).unwrap();
        known.release().unwrap();
        let hasty = format!("io_timeout=300&{query}");
        let behind = |proxy: &Proxy, name: &str| {
            lock(&remote.store_behind(proxy, &hasty), name, ms(600_000))
        };
        let (name, _ours) = acquire_late(|| remote.proxy(), behind);
        let other = direct.lock(&name).unwrap();
        other.acquire(Wait::For(SOON), None).unwrap();
        other.release().unwrap();
    }
}

#[cfg(feature = "postgres")]
#[test]
fn late_requests_of_postgres() {
    late_requests(&Remote::postgres("postgres"));
}

#[cfg(feature = "mysql")]
#[test]
fn late_requests_of_mysql() {
    late_requests(&Remote::mysql("mysql"));
}

fn tables(remote: &Remote) {
    for query in ["", "dialect=symfony", "dialect=drupal", "dialect=laravel"] {
        lost_replies(remote, query, 7, 4);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn lost_replies_of_postgres() {
    tables(&Remote::postgres("postgres"));
}

#[cfg(feature = "mysql")]
#[test]
fn lost_replies_of_mysql() {
    tables(&Remote::mysql("mysql"));
}

/// A demotion whose reply is lost may be done: the holder believes the lesser of the two, and may ask again.
fn lost_demotions(remote: &Remote) {
    let direct = remote.store("");
    let mut lost = 0;
    for _ in 0..if is_full_load() { 100 } else { 1 } {
        for k in 1..=4 {
            let what = format!("reply {k}");
            let proxy = remote.proxy();
            let (store, name) = (remote.store_behind(&proxy, ""), unique("demoted"));
            let ours = lock(&store, &name, ms(TTL));
            let (writer, reader) = (lock(&direct, &name, ms(TTL)), shared(&direct, &name));
            ours.acquire(Wait::For(SOON), None).unwrap();
            proxy.lose(k);
            let told = code(ours.demote());
            let unsent = told == Code::Unavailable && proxy.has_lost();
            assert!(is_told(told) || unsent, "{what}: {told:?}");
            lost += u32::from(proxy.has_lost());
            proxy.heal();
            if told != Code::Ok {
                assert_eq!(ours.mode(), Mode::Shared, "{what}");
                ours.ensure_held()
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            ours.demote()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            ours.ensure_held().unwrap();
            assert!(writer.try_acquire().unwrap().is_none(), "{what}");
            reader.acquire(Wait::For(SOON), None).unwrap();
            ours.release().unwrap();
            assert!(writer.try_acquire().unwrap().is_none(), "{what}");
            reader.release().unwrap();
            writer.acquire(Wait::For(SOON), None).unwrap();
            writer.release().unwrap();
        }
    }
    assert!(lost >= 1, "{lost} replies lost");
}

fn shared(store: &Store, name: &str) -> Lock {
    let mut options = store.defaults().clone();
    options.ttl = Some(ms(TTL));
    options.mode = Mode::Shared;
    store.lock_with(name, options).unwrap()
}

#[cfg(feature = "postgres")]
#[test]
fn lost_demotions_of_postgres() {
    lost_demotions(&Remote::postgres("postgres"));
}

#[cfg(feature = "mysql")]
#[test]
fn lost_demotions_of_mysql() {
    lost_demotions(&Remote::mysql("mysql"));
}

#[cfg(feature = "postgres")]
#[test]
fn lost_replies_of_postgres_advisory() {
    let remote = Remote::postgres("postgres+advisory");
    for query in ["", "dialect=symfony", "fencing=0"] {
        lost_replies(&remote, query, 9, 5);
    }
}

#[cfg(feature = "mysql")]
#[test]
fn lost_replies_of_mysql_advisory() {
    let remote = Remote::mysql("mysql+advisory");
    for query in ["", "fencing=0"] {
        lost_replies(&remote, query, 9, 5);
    }
}
