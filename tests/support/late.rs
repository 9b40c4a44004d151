//! A request that is given up, and arrives after its release has been answered.

use crate::names::unique;
use crate::services::redis_fake::{Late, Proxy};
use std::thread::sleep;
use std::time::Duration;
use synlock_core::{Code, Lock, Wait};

/// Has an acquire of the lock that `behind` makes given up, and arrive half a second later; its name, and its handle.
pub fn acquire_late(
    proxy: impl Fn() -> Proxy,
    behind: impl Fn(&Proxy, &str) -> Lock,
) -> (String, Lock) {
    let given_up = || {
        let (proxy, name) = (proxy(), unique("late"));
        let lock = behind(&proxy, &name);
        proxy.keep_next_with(&name);
        let told = lock.acquire(Wait::No, None);
        let is_uncertain = told.is_err_and(|error| error.code() == Code::Uncertain);
        (is_uncertain && proxy.late() == Late::Kept).then_some((proxy, name, lock))
    };
    // Again where a slow machine has let it come to nothing before it was sent.
    let (proxy, name, lock) = (0..20).find_map(|_| given_up()).expect("a late request");
    // It is released in the background, on another connection, long before.
    sleep(Duration::from_millis(500));
    proxy.send_late();
    while matches!(proxy.late(), Late::Kept | Late::Sent) {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(proxy.late(), Late::Answered, "it was carried out");
    (name, lock)
}
