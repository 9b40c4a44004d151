//! What is particular to advisory locks: sessions that end, poolers, peers, and servers in trouble.

mod changes;
mod faults;
mod peers;
mod poolers;
mod quorums;
mod sessions;

use std::time::Duration;
use synlock_core::{Code, Lock, Store, Wait};
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// Long enough for any machine.
const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn code<T: std::fmt::Debug>(result: synlock_core::Result<T>) -> Code {
    match result {
        Ok(_) => Code::Ok,
        Err(error) => error.code(),
    }
}

/// A store with sessions of its own, as another process would have: the number makes the URLs differ.
fn open(url: &str, number: u32) -> Store {
    open_within(url, 20_000 + number)
}

/// With so many ms for a server that does not answer.
fn open_within(url: &str, io_timeout: u32) -> Store {
    let sign = if url.contains('?') { '&' } else { '?' };
    Store::open(&format!("{url}{sign}io_timeout={io_timeout}")).unwrap()
}

fn held(store: &Store, name: &str) -> Lock {
    let lock = store.lock(name).unwrap();
    lock.acquire(PATIENCE, None).unwrap();
    lock
}

/// A lock that was waited for, on a session of its own; `holder` lets go of it meanwhile.
fn waited_for(store: &Store, name: &str, holder: Lock) -> Lock {
    let lock = store.lock(name).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.acquire(PATIENCE, None).unwrap());
        until(|| holder.store().inspect(name).unwrap().waiters == Some(1));
        holder.release().unwrap();
        waiter.join().unwrap();
    });
    lock
}

fn until(mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it never came to be");
        std::thread::sleep(ms(2));
    }
}

fn postgres(server: &PostgresServer) -> String {
    format!("postgres+advisory://{}", server.place())
}

fn mysql(server: &MariadbServer) -> String {
    format!("mysql+advisory://{}", server.place())
}
