//! synlock beside other programs that lock: see `README.md`.

mod caches;
mod etcd;
mod files;
mod pair;
mod redis;
mod semaphores;
mod sessions;
mod tables;
mod zookeeper;

use libtest_mimic::{Arguments, Trial};

fn main() {
    synlock_tests::ipc::set_apart();
    let arguments = Arguments::from_args();
    let (tables, mortal) = tables::pairs();
    let pairs: Vec<pair::Pair> = [
        caches::pairs(),
        files::pairs(),
        semaphores::pairs(),
        redis::pairs(),
        zookeeper::pairs(),
        etcd::pairs(),
        tables,
        sessions::pairs(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut trials: Vec<Trial> = pairs.iter().flat_map(pair::Pair::trials).collect();
    trials.push(Trial::test("driver::turns_without_a_lock_are_lost", || {
        files::unprotected();
        Ok(())
    }));
    trials.push(Trial::test("tables::killed_holders_free", move || {
        tables::die(&mortal);
        Ok(())
    }));
    // Or the servers would outlive us: an exit drops nothing.
    drop(pairs);
    libtest_mimic::run(&arguments, trials).exit();
}
