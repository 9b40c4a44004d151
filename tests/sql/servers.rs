//! What the suites for every store do not ask of the table stores with a server: its faults, poolers,
//! rights, rows.

#[path = "faults.rs"]
mod faults;
#[path = "foreign.rs"]
mod foreign;
#[path = "hostile.rs"]
mod hostile;
#[path = "names.rs"]
mod names;
#[path = "watch.rs"]
mod watch;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Result, Store, Wait};
use synlock_tests::apart;
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::services::deaf::deaf_to;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::pgbouncer::PgBouncer;
use synlock_tests::services::postgres::PostgresServer;
use synlock_tests::services::wall::Wall;
use synlock_tests::taker::Taker;

const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");

/// Long enough for any machine.
const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn lock(url: &str, name: &str) -> Lock {
    Store::open(url).unwrap().lock(name).unwrap()
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

/// Several threads at one name: never two inside, and everybody gets in.
fn contend(url: &str, threads: u32, rounds: u32) {
    let name = unique("hot");
    let (inside, total) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let lock = lock(url, &name);
                for _ in 0..rounds {
                    lock.acquire(PATIENCE, None).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    total.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release().unwrap();
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::SeqCst), threads * rounds);
}

/// Symfony's stores of before July 2025 compare a row with a clock rounded to whole seconds: it is up to half a second
/// ahead.
#[test]
fn no_peer_whose_clock_is_rounded_takes_a_row_within_its_lease() {
    let server = PostgresServer::start();
    let url = format!("postgres://{}?dialect=symfony", server.place());
    let store = Store::open(&patient(&url)).unwrap();
    let mut options = LockOptions::default();
    options.ttl = Some(ms(5000));
    for round in 0..8 {
        // In all parts of a second.
        std::thread::sleep(ms(130));
        let name = format!("rounded-{round}");
        let lock = store.lock_with(&name, options.clone()).unwrap();
        let before = server.sql("SELECT extract(epoch FROM clock_timestamp())");
        lock.acquire(PATIENCE, None).unwrap();
        let ends = server.sql("SELECT max(key_expiration) FROM lock_keys");
        let (before, ends): (f64, f64) = (before.parse().unwrap(), ends.parse().unwrap());
        assert!(ends - 0.5 >= before + 5.0, "{ends} for {before}");
        lock.release().unwrap();
    }
}

/// MariaDB may work out all that a statement assigns before it assigns any of it.
#[test]
fn a_row_that_has_ended_is_taken_by_one_in_every_mode_of_the_server() {
    for mode in ["ANSI", "SIMULTANEOUS_ASSIGNMENT", "ORACLE"] {
        let server = MariadbServer::start();
        server.sql(&format!(
            "SET GLOBAL sql_mode = CONCAT_WS(',', @@sql_mode, '{mode}')"
        ));
        for (dialect, table, ends) in [
            ("table=synlock_locks", "synlock_locks", "until"),
            ("dialect=symfony", "lock_keys", "key_expiration"),
            ("dialect=drupal", "semaphore", "expire"),
            ("dialect=laravel", "cache_locks", "expiration"),
        ] {
            let url = patient(&format!("mysql://{}?{dialect}", server.place()));
            let [dead, first, second] = [(); 3].map(|()| lock(&url, "n"));
            dead.acquire(PATIENCE, None).unwrap();
            dead.set_auto_release(false);
            server.sql(&format!("UPDATE test.{table} SET {ends} = 1"));
            let case = format!("{mode}, {dialect}");
            assert_eq!(code(first.acquire(PATIENCE, None)), Code::Ok, "{case}");
            assert_eq!(code(second.acquire(Wait::No, None)), Code::Busy, "{case}");
            assert!(first.is_acquired().unwrap(), "{case}");
        }
    }
}

#[test]
fn poolers_break_nothing_and_are_told_of() {
    let server = PostgresServer::start();
    for (mode, size) in [
        ("session", 20),
        ("transaction", 1),
        ("transaction", 2),
        ("statement", 2),
    ] {
        let pooler = PgBouncer::start(&server, mode, size);
        let url = format!("postgres://{}?io_timeout=20000", pooler.place());
        // Another client's statements, under the same pool.
        let other = format!("postgres://{}?io_timeout=20000&table=other", pooler.place());
        std::thread::scope(|scope| {
            scope.spawn(|| contend(&url, 4, 10));
            scope.spawn(|| contend(&other, 4, 10));
        });
        let store = Store::open(&url).unwrap();
        let told = Arc::new(AtomicU32::new(0));
        let heard = told.clone();
        store.observe(Arc::new(move |event| {
            heard.fetch_add(
                u32::from(event.message.contains("pooler")),
                Ordering::SeqCst,
            );
        }));
        let fresh = format!("{url}&label={mode}{size}&table=told_{mode}{size}");
        let waits = Store::open(&fresh).unwrap();
        let heard = told.clone();
        waits.observe(Arc::new(move |event| {
            heard.fetch_add(
                u32::from(event.message.contains("pooler")),
                Ordering::SeqCst,
            );
        }));
        let (held, waiter) = (waits.lock("n").unwrap(), waits.lock("n").unwrap());
        held.acquire(Wait::No, None).unwrap();
        // A server may take longer than that to say that it is taken.
        let outcome = [200, 2_000, 20_000]
            .into_iter()
            .map(|time| code(waiter.acquire(Wait::For(ms(time)), None)))
            .find(|code| !matches!(code, Code::Unavailable | Code::Uncertain));
        assert_eq!(outcome, Some(Code::Timeout));
        assert_eq!(told.load(Ordering::SeqCst), 1, "{mode}");
        held.release().unwrap();
    }
}

#[test]
fn holds_survive_a_restart_and_faults_are_told_in_time() {
    let mut postgres = PostgresServer::start();
    let hasty = format!("postgres://{}?io_timeout=500", postgres.place());
    let url = patient(&format!("postgres://{}", postgres.place()));
    let (held, other) = (lock(&url, "held"), lock(&url, "held"));
    let fence = held.acquire(Wait::No, None).unwrap().fence.unwrap();
    postgres.kill();
    let start = Instant::now();
    assert_eq!(
        code(lock(&hasty, "x").acquire(Wait::No, None)),
        Code::Unavailable
    );
    assert!(start.elapsed() < SOON);
    postgres.start_again();
    assert!(held.is_acquired().unwrap());
    assert_eq!(code(other.acquire(Wait::No, None)), Code::Busy);
    held.release().unwrap();
    assert!(other.acquire(Wait::No, None).unwrap().fence.unwrap() > fence);
    // A server that does not answer: the outcome is unknown, and in the end nothing is held.
    let free = lock(&hasty, "stopped");
    postgres.pause();
    let start = Instant::now();
    let unknown = code(free.acquire(Wait::No, None));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    postgres.resume();
    assert!(
        matches!(unknown, Code::Uncertain | Code::Unavailable),
        "{unknown:?}"
    );
    lock(&url, "stopped").acquire(PATIENCE, None).unwrap();
}

#[test]
fn mariadb_restarts_and_stops() {
    let mut server = MariadbServer::start();
    // What was granted must have reached the system, as with the settings of a server in earnest.
    server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
    let hasty = format!("mysql://{}?io_timeout=500", server.place());
    let url = patient(&format!("mysql://{}", server.place()));
    let (held, other) = (lock(&url, "held"), lock(&url, "held"));
    let fence = held.acquire(Wait::No, None).unwrap().fence.unwrap();
    server.kill();
    assert_eq!(
        code(lock(&hasty, "x").acquire(Wait::No, None)),
        Code::Unavailable
    );
    server.start_again();
    assert!(held.is_acquired().unwrap());
    assert_eq!(code(other.acquire(Wait::No, None)), Code::Busy);
    held.release().unwrap();
    assert!(other.acquire(Wait::No, None).unwrap().fence.unwrap() > fence);
    let free = lock(&hasty, "stopped");
    server.pause();
    let start = Instant::now();
    let unknown = code(free.acquire(Wait::No, None));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    server.resume();
    assert!(
        matches!(unknown, Code::Uncertain | Code::Unavailable),
        "{unknown:?}"
    );
    lock(&url, "stopped").acquire(PATIENCE, None).unwrap();
}

#[test]
fn a_user_without_rights_is_refused_until_the_table_is_made() {
    let server = PostgresServer::start();
    server.sql("CREATE ROLE weak LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC;");
    let weak = format!(
        "postgres://weak@127.0.0.1:{}/postgres?table=made",
        server.port()
    );
    assert_eq!(
        code(lock(&weak, "n").acquire(Wait::No, None)),
        Code::Permission
    );
    let owner = Store::open(&format!("postgres://{}?table=made", server.place())).unwrap();
    owner.create_table(Wait::Forever).unwrap();
    owner.create_table(Wait::Forever).unwrap();
    server.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON made TO weak");
    lock(&weak, "n").acquire(Wait::No, None).unwrap();
}

#[test]
fn ddl_makes_the_table_that_the_store_uses() {
    let (postgres, mariadb) = (PostgresServer::start(), MariadbServer::start());
    let a = Store::open(&format!("postgres://{}?table=by_hand", postgres.place())).unwrap();
    let b = Store::open(&format!("mysql://{}?table=by_hand", mariadb.place())).unwrap();
    assert_eq!(a.ddl(Some("mysql")).unwrap(), b.ddl(None).unwrap());
    assert_eq!(a.ddl(None).unwrap(), b.ddl(Some("postgres")).unwrap());
    assert_eq!(code(a.ddl(Some("oracle"))), Code::InvalidArgument);
    assert_eq!(
        code(Store::open("memory:").unwrap().ddl(None)),
        Code::Unsupported
    );
    postgres.sql(&a.ddl(None).unwrap());
    mariadb.sql(&format!("USE test; {}", b.ddl(None).unwrap()));
    for store in [a, b] {
        store.lock("n").unwrap().acquire(Wait::No, None).unwrap();
    }
}

/// Others keep transactions open on our rows: a try is never granted, and comes back in time.
#[test]
fn a_foreign_transaction_holds_nobody_up_for_long() {
    let server = PostgresServer::start();
    let hasty = format!("postgres://{}?io_timeout=400", server.place());
    let url = patient(&format!("postgres://{}", server.place()));
    let held = lock(&hasty, "n");
    // A server that has just started may not answer in as little time.
    lock(&url, "m").acquire(Wait::No, None).unwrap();
    let end = Instant::now() + SOON;
    while held.acquire(PATIENCE, None).is_err() {
        assert!(Instant::now() < end, "it is never held");
    }
    let mut foreign = server
        .psql("BEGIN; SELECT 1 FROM synlock_locks FOR UPDATE; SELECT pg_sleep(600)")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND wait_event = 'PgSleep'";
    while server.sql(busy) != "1" {
        std::thread::sleep(ms(10));
    }
    // That it is taken is seen without waiting for the row: that would end in an error.
    assert_eq!(code(lock(&url, "n").acquire(Wait::No, None)), Code::Busy);
    // Another name is not in the way at all.
    lock(&url, "o").acquire(Wait::No, None).unwrap();
    let released = code(held.release());
    assert!(
        matches!(released, Code::Uncertain | Code::Unavailable),
        "{released:?}"
    );
    server
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    foreign.wait().unwrap();
    lock(&url, "n").acquire(PATIENCE, None).unwrap();
}

/// A waiter that dies costs the next one a second.
#[test]
fn a_dead_waiter_is_passed_over() {
    let server = PostgresServer::start();
    let url = patient(&format!("postgres://{}", server.place()));
    // A machine may let one wait for as long as the safety poll.
    let took: Vec<_> = (0..3)
        .map(|round| passed_over(&url, &format!("n{round}")))
        .collect();
    assert!(
        took.iter().any(|waited| *waited < ms(4500)),
        "the safety poll, not the offer's end: {took:?}"
    );
}

/// How long the second in the queue waits once the first is dead and the holder lets go.
fn passed_over(url: &str, name: &str) -> Duration {
    let held = lock(url, name);
    held.acquire(Wait::No, None).unwrap();
    let mut dead = Taker::start(THIS, url);
    dead.ok(&format!("lock h {name}"));
    let waiters = |count| {
        let store = Store::open(url).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while store.inspect(name).unwrap().waiters != Some(count) {
            assert!(Instant::now() < end, "{count} waiters never came");
            std::thread::sleep(ms(5));
        }
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            // Killed with its process, in the middle of the wait.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dead.ok("acquire h 120000")))
                .is_err()
        });
        waiters(1);
        let next = scope.spawn(|| {
            let lock = lock(url, name);
            lock.acquire(PATIENCE, None).unwrap();
            (Instant::now(), lock)
        });
        waiters(2);
        kill_takers();
        assert!(first.join().unwrap());
        let released = Instant::now();
        held.release().unwrap();
        let (granted, _lock) = next.join().unwrap();
        granted.duration_since(released)
    })
}

/// Ends the takers that are children of this program.
fn kill_takers() {
    let own = std::process::id().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((head, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let parent = rest.split_whitespace().nth(1);
        if head.contains("flock-taker") && parent == Some(&own) {
            let pid: i32 = head.split_whitespace().next().unwrap().parse().unwrap();
            // SAFETY: a child of this program, by its number.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

#[test]
fn the_servers_clock_counts_to_the_millisecond() {
    for url in [
        (Some(PostgresServer::start()), None),
        (None, Some(MariadbServer::start())),
    ]
    .iter()
    .map(
        |pair: &(Option<PostgresServer>, Option<MariadbServer>)| match pair {
            (Some(server), _) => format!("postgres://{}", server.place()),
            (_, Some(server)) => format!("mysql://{}", server.place()),
            _ => unreachable!(),
        },
    ) {
        let store = Store::open(&patient(&url)).unwrap();
        store.ping(PATIENCE).unwrap();
        let mut ttl = ms(300);
        let start = loop {
            let mut options = LockOptions::default();
            options.ttl = Some(ttl);
            let short = store.lock_with("n", options).unwrap();
            let start = Instant::now();
            let granted = short.acquire(Wait::No, None);
            short.set_auto_release(false);
            match granted {
                Ok(_) => break start,
                // The answer took longer than the lease.
                Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
            }
            ttl *= 4;
        };
        let next = lock(&patient(&url), "n");
        next.acquire(PATIENCE, None).unwrap();
        assert!(start.elapsed() >= ttl - ms(10), "{:?}", start.elapsed());
    }
}

/// Drupal's and Laravel's rows end by the clock of whoever looks: one that is wrong is told of, once.
#[test]
fn a_clock_that_differs_from_the_servers_is_told_of() {
    const URL: &str = "SYNLOCK_TEST_CLOCK_URL";
    const TIMES: &str = "SYNLOCK_TEST_CLOCK_TIMES";
    const SAYS: &str = "this host's clock is";
    if let Ok(url) = std::env::var(URL) {
        // With the clock of the test's.
        let store = Store::open(&url).unwrap();
        let told = apart::cautions(&store);
        for _ in 0..2 {
            let lock = store.lock("n").unwrap();
            lock.acquire(Wait::No, None).unwrap();
            lock.release().unwrap();
        }
        let times = std::env::var(TIMES).unwrap();
        let found = apart::count(&told, SAYS);
        assert_eq!(found.to_string(), times, "{told:?}");
        return;
    }
    let (postgres, mariadb) = (PostgresServer::start(), MariadbServer::start());
    let wall = Wall::new();
    for (ahead, dialect, times) in [
        (Duration::ZERO, "drupal", 0),
        (Duration::from_secs(100), "drupal", 1),
        (Duration::from_secs(100), "laravel", 1),
        (Duration::from_secs(100), "symfony", 0),
    ] {
        wall.ahead(ahead);
        for place in [
            format!("postgres://{}", postgres.place()),
            format!("mysql://{}", mariadb.place()),
        ] {
            let done = Command::new(std::env::current_exe().unwrap())
                .arg("--exact")
                .arg("a_clock_that_differs_from_the_servers_is_told_of")
                .envs(wall.environment())
                .env(URL, format!("{place}?dialect={dialect}"))
                .env(TIMES, times.to_string())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(said.contains("1 passed"), "{place} {dialect}: {done:?}");
        }
    }
}

#[test]
fn nobody_waits_longer_than_asked_behind_another_that_listens() {
    let server = PostgresServer::start();
    let (port, heard) = deaf_to(b"LISTEN", server.port());
    let holder = lock(&patient(&format!("postgres://{}", server.place())), "n");
    holder.acquire(Wait::No, None).unwrap();
    let place = server
        .place()
        .replace(&server.port().to_string(), &port.to_string());
    let store = Store::open(&format!("postgres://{place}?io_timeout=10000")).unwrap();
    let is_over = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let found = store.lock("n").unwrap().acquire(Wait::Forever, None);
            is_over.store(1, Ordering::SeqCst);
            assert!(found.is_err(), "{found:?}");
        });
        while heard.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(ms(1));
        }
        let found = store.lock("n").unwrap().acquire(Wait::For(ms(50)), None);
        assert!(found.is_err(), "{found:?}");
        let waited = is_over.load(Ordering::SeqCst);
        assert_eq!(waited, 0, "it waited for the other to listen: {found:?}");
    });
}
