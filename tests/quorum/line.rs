//! Who waits stands in line at the first member, and must not stand there while the others are free.

use super::{code, lock, ms, three, url};
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;

#[test]
fn a_stranger_at_one_member_is_in_no_waiters_way() {
    std::thread::scope(|scope| {
        // Whichever of them is the first.
        for at in 0..3 {
            scope.spawn(move || {
                let members = [0, 1, 2].map(|_| format!("memory:{}", unique("line")));
                let url = format!("quorum:({})", members.join(","));
                let (stranger, holder) = (lock(&members[at], "n"), lock(&url, "n"));
                let waiter = lock(&url, "n");
                stranger.acquire(Wait::No, None).unwrap();
                holder.acquire(Wait::No, None).unwrap();
                std::thread::scope(|scope| {
                    let waits = scope.spawn(|| code(waiter.acquire(Wait::For(SOON), None)));
                    // In line by now; if not, it has nothing to show.
                    std::thread::sleep(ms(300));
                    assert!(!waits.is_finished(), "granted twice");
                    holder.release().unwrap();
                    assert_eq!(waits.join().unwrap(), Code::Ok, "a stranger at {at}");
                });
                waiter.ensure_held().unwrap();
                assert_eq!(code(holder.acquire(Wait::No, None)), Code::Busy);
                waiter.release().unwrap();
                stranger.ensure_held().unwrap();
                stranger.release().unwrap();
                // No place that was left behind.
                holder.acquire(Wait::For(SOON), None).unwrap();
                holder.release().unwrap();
            });
        }
    });
}

#[test]
fn waiting_for_a_free_lock_asks_seldom_and_hears_of_it() {
    let servers = three();
    let url = url(&servers, "", "cold_start=1");
    let (holder, store) = (lock(&url, "n"), Store::open(&url).unwrap());
    let calls = || -> u64 {
        let scripts = |server: &RedisServer| server.calls("evalsha") + server.calls("eval");
        servers.iter().map(scripts).sum()
    };
    for stranger in [None, Some(lock(&servers[0].url(), "n"))] {
        // Also where the first member is not the holder's.
        if let Some(stranger) = &stranger {
            stranger.acquire(Wait::For(SOON), None).unwrap();
        }
        holder.acquire(Wait::For(SOON), None).unwrap();
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| store.wait_free("n", Wait::For(SOON)).unwrap());
            std::thread::sleep(ms(500));
            let before = calls();
            std::thread::sleep(ms(3000));
            let asked = calls() - before;
            // In tenths of a second it would be ninety at least.
            assert!(asked < 60, "{asked} requests");
            assert!(!watcher.is_finished());
            holder.release().unwrap();
            assert!(watcher.join().unwrap());
        });
    }
}
