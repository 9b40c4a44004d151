//! Whoever waits for a lock of PostgreSQL to be free is told, and takes nothing meanwhile.

use crate::{lock, ms};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::services::postgres::PostgresServer;

const WATCHERS: &str =
    "SELECT count(*) FROM synlock_locks WHERE encode(state, 'escape') LIKE '%v|%'";
const LOOKS: &str = "SELECT pg_stat_clear_snapshot(); SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'synlock_locks'";

fn number(server: &PostgresServer, sql: &str) -> u64 {
    let said = server.sql(sql);
    said.lines().last().unwrap().trim().parse().unwrap()
}

fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "never");
        std::thread::sleep(ms(5));
    }
}

const THREADS: u64 = 8;

/// Less than until the next look, so that only the word ends the wait.
const BRIEF: u64 = 4000;

/// Whether a wait that began then may have been over before the lock was free: nothing is known on such a machine.
fn is_late(began: Instant) -> bool {
    began.elapsed() > ms(BRIEF - 500)
}

#[test]
fn who_waits_for_a_free_lock_is_told() {
    let server = PostgresServer::start();
    let url = patient(&format!("postgres://{}", server.place()));
    let store = Store::open(&url).unwrap();
    let holder = lock(&url, "n");
    // By a release, a handle that is dropped, and by force.
    for round in 0..3 {
        holder.acquire(Wait::For(SOON), None).unwrap();
        std::thread::scope(|scope| {
            let time = if round == 0 { SOON } else { ms(BRIEF) };
            let (store, told, began) = (&store, Wait::For(time), Instant::now());
            let watcher = scope.spawn(move || store.wait_free("n", told).unwrap());
            until(|| number(&server, WATCHERS) == 1);
            if round == 0 {
                // The holder finds its row with more in it than it wrote.
                holder.refresh(None).unwrap();
                holder.ensure_held().unwrap();
                assert_eq!(lock(&url, "n").try_acquire().unwrap(), None);
                assert_eq!(store.inspect("n").unwrap().waiters, Some(0));
                // What polls has looked some forty times by then.
                let before = number(&server, LOOKS);
                std::thread::sleep(ms(4000));
                let looks = number(&server, LOOKS) - before;
                assert!(looks < 20, "{looks} looks");
            }
            match round {
                0 => drop(holder.release().unwrap()),
                1 => assert!(store.break_lock("n").unwrap()),
                _ => {
                    // The next in line has it first.
                    let next = lock(&url, "n");
                    std::thread::scope(|scope| {
                        let waiter = scope.spawn(|| next.acquire(Wait::For(SOON), None).map(drop));
                        until(|| store.inspect("n").unwrap().waiters == Some(1));
                        holder.release().unwrap();
                        waiter.join().unwrap().unwrap();
                    });
                    assert!(number(&server, WATCHERS) == 1 || is_late(began));
                    next.release().unwrap();
                }
            }
            let is_late = round > 0 && is_late(began);
            // By the very statement that ended the hold.
            assert_eq!(number(&server, WATCHERS), 0);
            assert!(watcher.join().unwrap() || is_late);
        });
        let _ = holder.release();
    }
}

#[test]
fn the_word_comes_to_waits_in_slices() {
    let server = PostgresServer::start();
    let url = patient(&format!("postgres://{}", server.place()));
    let (store, holder) = (Store::open(&url).unwrap(), lock(&url, "n"));
    holder.acquire(Wait::For(SOON), None).unwrap();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let watcher = scope.spawn(|| {
            // As hosts wait that must look at signals in between.
            (0..BRIEF / 20).any(|_| store.wait_free("n", Wait::For(ms(20))).unwrap())
        });
        until(|| number(&server, WATCHERS) == 1);
        let state = "SELECT encode(state, 'escape') FROM synlock_locks";
        let before = server.sql(state);
        std::thread::sleep(ms(500));
        // One line for all slices.
        assert!(server.sql(state) == before || is_late(began));
        holder.release().unwrap();
        let is_late = is_late(began);
        assert!(watcher.join().unwrap() || is_late);
    });
}

/// Threads of one process that wait in slices do not write a line for each slice.
#[test]
fn each_of_several_waits_has_one_line() {
    let server = PostgresServer::start();
    let url = patient(&format!("postgres://{}", server.place()));
    let (store, holder) = (Store::open(&url).unwrap(), lock(&url, "n"));
    holder.acquire(Wait::For(SOON), None).unwrap();
    let is_over = AtomicBool::new(false);
    let lines = "SELECT length(encode(state, 'escape')) - length(replace(encode(state, 'escape'), 'v|', 'v')) \
                 FROM synlock_locks";
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    assert!(!store.wait_free("n", Wait::For(ms(20))).unwrap());
                }
            });
        }
        std::thread::sleep(ms(2000));
        let found = number(&server, lines);
        is_over.store(true, Ordering::SeqCst);
        assert!((1..=THREADS).contains(&found), "{found} lines");
    });
    holder.release().unwrap();
}

#[test]
fn who_may_only_read_waits_all_the_same() {
    let server = PostgresServer::start();
    let url = patient(&format!("postgres://{}", server.place()));
    let holder = lock(&url, "n");
    holder.acquire(Wait::For(SOON), None).unwrap();
    server.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON synlock_locks TO reader");
    let (_, place) = url.split_once('@').unwrap();
    let reader = Store::open(&format!("postgres://reader@{place}")).unwrap();
    assert_eq!(
        reader.lock("m").unwrap().try_acquire().unwrap_err().code(),
        Code::Permission
    );
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| reader.wait_free("n", Wait::For(SOON)).unwrap());
        std::thread::sleep(ms(50));
        holder.release().unwrap();
        assert!(watcher.join().unwrap());
    });
}
