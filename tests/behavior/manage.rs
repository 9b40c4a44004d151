//! Looking at a store from outside: inspect, list, wait until free, ping.

use super::support::{Case, List, code, ms};
use std::time::Instant;
use synlock_core::{Code, Wait};

pub fn tests(list: &mut List) {
    list.add("ping_answers", |case| {
        case.store
            .ping(Wait::For(std::time::Duration::from_secs(5)))
            .unwrap()
    });
    // Some look at a lock that they are told, but cannot find those that there are.
    let looks = match list.can.store {
        "memcached" => true,
        "quorum" => list.can.fence.class() == "none",
        _ => list.can.list,
    };
    if looks {
        list.add("inspect_shows_holder_and_label", inspect);
    }
    if list.can.list {
        list.add("list_pages_by_prefix", pages);
        list.add("a_bad_cursor_is_refused", |case| {
            assert_eq!(
                code(case.store.list(b"", Some("a/b"), 10)),
                Code::InvalidArgument
            );
        });
    }
    list.add("wait_free_takes_nothing", wait_free);
    list.add("a_check_finds_nothing", |case| {
        let lock = case.lock();
        lock.acquire(Wait::No, None).unwrap();
        match case.store.check() {
            Ok(found) => assert!(found.is_sound(), "{found:?}"),
            Err(error) => assert_eq!(error.code(), Code::Unsupported),
        }
    });
}

fn inspect(case: &Case) {
    assert!(case.store.inspect(&case.name).unwrap().holders.is_empty());
    let lock = case.lock_with(|options| options.label = Some("nightly import | café".into()));
    lock.acquire(Wait::No, None).unwrap();
    let found = case.store.inspect(&case.name).unwrap();
    assert_eq!(found.name, case.name.as_bytes());
    assert_eq!(found.holders.len(), 1);
    let holder = &found.holders[0];
    assert_eq!(holder.mode, "exclusive");
    // The tables of peers have no place for it.
    let told = !case.is_peers_table();
    assert_eq!(holder.pid, told.then(std::process::id));
    assert_eq!(
        holder.label.as_deref(),
        told.then_some("nightly import | café")
    );
    // What a store does not keep, it does not make up.
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (host, held) = known(case);
    assert_eq!(holder.host.as_deref(), host.then_some(here.trim()));
    assert_eq!(holder.held.is_some(), held);
    let most = std::time::Duration::from_secs(3_600);
    assert!(holder.held.is_none_or(|held| held < most), "{holder:?}");
    assert_eq!(holder.remaining.is_some(), lock.ttl().is_some());
    assert_eq!(holder.fence, lock.fencing_token());
    let token = lock.owner_token().unwrap().to_hex();
    assert!(
        !format!("{found:?}").contains(&token),
        "the owner token is a secret"
    );
}

/// Whether a store tells of a holder's host, and for how long it has held.
fn known(case: &Case) -> (bool, bool) {
    match case.can.store {
        "custom" => (false, false),
        "memcached" | "etcd" => (true, false),
        store if store.starts_with("zookeeper") => (true, false),
        _ => (!case.is_peers_table(), !case.is_peers_table()),
    }
}

fn pages(case: &Case) {
    let locks: Vec<_> = (0..25)
        .map(|number| {
            case.store
                .lock(format!("{}*page-{number}", case.name))
                .unwrap()
        })
        .collect();
    for lock in &locks {
        lock.acquire(Wait::No, None).unwrap();
    }
    locks[7].release().unwrap();
    let prefix = format!("{}*page-", case.name);
    let mut names = std::collections::BTreeSet::new();
    let mut cursor = None;
    let mut pages = 0;
    loop {
        let page = case
            .store
            .list(prefix.as_bytes(), cursor.as_deref(), 10)
            .unwrap();
        names.extend(page.locks.into_iter().map(|lock| lock.name));
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
        assert!(pages < 1000, "the list never ends");
    }
    assert_eq!(names.len(), 24);
    assert!(!names.contains(locks[7].name().as_bytes()));
}

fn wait_free(case: &Case) {
    assert!(case.store.wait_free(&case.name, Wait::No).unwrap());
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    let start = Instant::now();
    assert!(!case.store.wait_free(&case.name, Wait::For(ms(60))).unwrap());
    assert!(start.elapsed() >= ms(60));
    let waiter = std::thread::spawn({
        let case = case.clone();
        move || {
            case.store
                .wait_free(&case.name, Wait::For(ms(20_000)))
                .unwrap()
        }
    });
    std::thread::sleep(ms(50));
    lock.release().unwrap();
    assert!(waiter.join().unwrap());
    assert!(!case.store.is_locked(&case.name).unwrap());
}
