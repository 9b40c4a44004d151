//! Who waits stands in line at the first member, and must not stand there while the others are free.

use super::{code, lock, ms};
use synlock_core::{Code, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;

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
