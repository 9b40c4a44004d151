//! Others' transactions on our rows, servers that break statements off, and rows that are dropped meanwhile: an
//! attempt never waits for them, nothing is called lost, and nobody hears of a deadlock.

use super::{PATIENCE, code, ms};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Store, Wait};
use synlock_tests::load::{SOON, most, patient};
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::services::mariadb::{self, MariadbServer};
use synlock_tests::services::pgbouncer::PgBouncer;
use synlock_tests::services::postgres::{self, PostgresServer};

/// A server of either kind.
enum Server {
    Postgres(PostgresServer),
    Mariadb(MariadbServer),
}

impl Server {
    fn both() -> [Self; 2] {
        [
            Server::Postgres(PostgresServer::start()),
            Server::Mariadb(MariadbServer::start()),
        ]
    }

    fn url(&self, options: &str) -> String {
        match self {
            Server::Postgres(server) => format!("postgres://{}?{options}", server.place()),
            Server::Mariadb(server) => format!("mysql://{}?{options}", server.place()),
        }
    }

    fn sql(&self, text: &str) -> String {
        match self {
            Server::Postgres(server) => server.sql(text),
            Server::Mariadb(server) => server.sql(&format!("USE test;\n{text}")),
        }
    }

    fn client(&self) -> Command {
        match self {
            Server::Postgres(server) => server.psql(""),
            Server::Mariadb(server) => {
                let mut client = server.client("");
                client.args(["--unbuffered", "test"]);
                client
            }
        }
    }

    /// The key of a lock's row.
    fn row(&self, name: &str) -> String {
        match self {
            Server::Postgres(_) => format!("id = sha256('{name}')"),
            Server::Mariadb(_) => format!("id = UNHEX(SHA2('{name}', 256))"),
        }
    }
}

/// Another client, which is not one of ours and keeps what it has locked until it is told to end.
struct Foreign {
    client: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Foreign {
    fn begin(server: &Server, statements: &str) -> Self {
        let mut client = server
            .client()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = client.stdin.take().unwrap();
        let output = BufReader::new(client.stdout.take().unwrap());
        let mut foreign = Foreign {
            client,
            input,
            output,
        };
        foreign.say(statements);
        foreign
    }

    /// Runs statements, to their end.
    fn say(&mut self, statements: &str) {
        writeln!(self.input, "{statements}; SELECT 'so far';").unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        while line.trim() != "so far" {
            line.clear();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "{statements}: the other client has ended");
        }
    }

    /// Its transaction comes to its end, which nobody has taken from it.
    fn end(mut self, statements: &str) {
        self.say(statements);
        drop(self.input);
        assert!(self.client.wait().unwrap().success());
    }
}

/// What another client does to a table, and how it ends; whether rows can be read meanwhile.
struct InTheWay {
    begins: String,
    ends: &'static str,
    readable: bool,
}

fn in_the_way(server: &Server, table: &str, name: &str) -> Vec<InTheWay> {
    let row = server.row(name);
    let begin = |text: String| format!("BEGIN; {text}");
    let rows = [
        format!("SELECT 1 FROM {table} WHERE {row} FOR UPDATE"),
        format!("UPDATE {table} SET version = version + 1 WHERE {row}"),
        format!("DELETE FROM {table} WHERE {row}"),
    ];
    let mut all: Vec<_> = rows
        .map(|text| (begin(text), "ROLLBACK", true))
        .into_iter()
        .collect();
    match server {
        Server::Postgres(_) => all.extend([
            (
                begin(format!("LOCK TABLE {table} IN EXCLUSIVE MODE")),
                "COMMIT",
                true,
            ),
            (begin(format!("LOCK TABLE {table}")), "COMMIT", false),
        ]),
        Server::Mariadb(_) => all.extend([
            (format!("LOCK TABLES {table} READ"), "UNLOCK TABLES", true),
            (format!("LOCK TABLES {table} WRITE"), "UNLOCK TABLES", false),
        ]),
    }
    all.into_iter()
        .map(|(begins, ends, readable)| InTheWay {
            begins,
            ends,
            readable,
        })
        .collect()
}

/// A store with sessions of its own.
fn open(url: &str) -> Store {
    Store::open(&format!("{url}&label={}", unique("store"))).unwrap()
}

/// A lock whose lease nobody waits for. Whoever is refused has one that ends: on a machine that stands still a
/// request which its client has given up may be carried out later.
fn lasting(store: &Store, name: &str) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(Duration::from_secs(3600));
    store.lock_with(name, options).unwrap()
}

/// Until it is done: a machine may let a hasty client wait.
fn insist(what: &str, done: impl Fn() -> Code) {
    let end = Instant::now() + SOON * 3;
    loop {
        match done() {
            Code::Ok => return,
            code => assert!(Instant::now() < end, "{what}: {code:?}"),
        }
        std::thread::sleep(ms(10));
    }
}

/// A call that must not wait for the other client.
fn soon(what: &str, bar: Duration, call: impl FnOnce() -> Code) -> Code {
    let start = Instant::now();
    let found = call();
    let took = start.elapsed();
    assert!(took < most(bar), "{what}: {found:?} after {took:?}");
    found
}

/// What a wait comes to while another client is in the way. The server may take longer than a short one to say so.
fn waited(what: &str, lock: &Lock) -> Code {
    let waits = [300, 3000, 15_000].into_iter().map(|time| {
        soon(what, ms(2 * time), || {
            code(lock.acquire(Wait::For(ms(time)), None))
        })
    });
    waits
        .into_iter()
        .find(|found| !is_trouble(*found))
        .unwrap_or(Code::Uncertain)
}

fn is_trouble(code: Code) -> bool {
    matches!(code, Code::Uncertain | Code::Unavailable)
}

/// One who tries, waits, looks, refreshes and releases while another client is in the way.
fn meet(server: &Server, number: usize, way: &InTheWay, table: &str, name: &str) {
    let what = format!("{number} {}", way.begins);
    // Whoever waited for the other client, would for a minute.
    let slow = server.url(&format!(
        "table={table}&connect_timeout=60000&io_timeout=60000"
    ));
    let hasty = server.url(&format!(
        "table={table}&connect_timeout=2000&io_timeout=2000"
    ));
    let (slow, hasty) = (open(&slow), open(&hasty));
    // Free, with a row of its own.
    let (free, other) = (slow.lock(name).unwrap(), slow.lock("other").unwrap());
    let before = free.acquire(PATIENCE, None).unwrap().fence.unwrap();
    free.release().unwrap();
    let foreign = Foreign::begin(server, &way.begins);
    let tried = soon(&what, ms(100), || code(free.acquire(Wait::No, None)));
    assert_eq!(tried, Code::Busy, "{what}");
    assert_eq!(waited(&what, &free), Code::Timeout, "{what}");
    if way.ends == "ROLLBACK" {
        // Another name is in nobody's way.
        other.acquire(PATIENCE, None).unwrap();
        other.release().unwrap();
    }
    std::thread::scope(|scope| {
        // Whoever waits gets it once the other client is done.
        let waiter = scope.spawn(|| free.acquire(PATIENCE, None).unwrap().fence.unwrap());
        std::thread::sleep(ms(100));
        foreign.end(way.ends);
        assert!(waiter.join().unwrap() > before, "{what}");
    });
    free.release().unwrap();

    // Held.
    let held = lasting(&hasty, name);
    insist(&what, || code(held.acquire(PATIENCE, None)));
    let fence = held.fencing_token().unwrap();
    let foreign = Foreign::begin(server, &way.begins);
    let tried = soon(&what, ms(100), || code(free.acquire(Wait::No, None)));
    assert_eq!(tried, Code::Busy, "{what}");
    let mut options = LockOptions::default();
    options.mode = synlock_core::Mode::Shared;
    let shared = slow.lock_with(name, options).unwrap();
    let tried = soon(&what, ms(100), || code(shared.acquire(Wait::No, None)));
    assert_eq!(tried, Code::Busy, "{what}");
    assert_eq!(waited(&what, &free), Code::Timeout, "{what}");
    let refreshed = soon(&what, ms(2200), || code(held.refresh(None)));
    assert!(is_trouble(refreshed), "{what}: {refreshed:?}");
    let looked = soon(&what, ms(2200), || code(held.ensure_held()));
    let shown = soon(&what, ms(2200), || code(hasty.inspect(name)));
    for found in [looked, shown] {
        let fits = is_trouble(found) || way.readable && found == Code::Ok;
        assert!(fits, "{what}: {found:?}");
    }
    foreign.end(way.ends);
    insist(&what, || code(held.refresh(None)));
    let foreign = Foreign::begin(server, &way.begins);
    let released = soon(&what, ms(2200), || code(held.release()));
    assert!(is_trouble(released), "{what}: {released:?}");
    foreign.end(way.ends);
    // It was not released, and is now: by this, or in the background.
    let again = code(held.release());
    assert!(
        is_trouble(again) || matches!(again, Code::Ok | Code::Lost | Code::NotHeld),
        "{what}: {again:?}"
    );
    let next = free.acquire(PATIENCE, None).unwrap().fence.unwrap();
    assert!(next > fence, "{what}: {next} after {fence}");
    free.release().unwrap();
}

fn meet_all(server: &Server) {
    let name = "n";
    let count = in_the_way(server, "", name).len();
    std::thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || {
                let table = format!("way_{number}");
                let way = in_the_way(server, &table, name).remove(number);
                meet(server, number, &way, &table, name);
            });
        }
    });
}

#[test]
fn foreign_transactions_on_postgres_hold_no_attempt_up() {
    meet_all(&Server::Postgres(PostgresServer::start()));
}

#[test]
fn foreign_transactions_on_mariadb_hold_no_attempt_up() {
    let server = Server::Mariadb(MariadbServer::start());
    meet_all(&server);
    // What stops all writers of a server.
    let way = InTheWay {
        begins: "FLUSH TABLES WITH READ LOCK".into(),
        ends: "UNLOCK TABLES",
        readable: true,
    };
    meet(&server, 9, &way, "way_9", "n");
}

/// The tables of peers: their rows are inserted and deleted.
#[test]
fn foreign_transactions_on_tables_of_peers_hold_no_attempt_up() {
    let servers = Server::both();
    std::thread::scope(|scope| {
        for server in &servers {
            for dialect in ["symfony", "drupal", "laravel"] {
                scope.spawn(move || meet_peer(server, dialect));
            }
        }
    });
}

fn meet_peer(server: &Server, dialect: &str) {
    let options = format!("dialect={dialect}&table={dialect}");
    let store = open(&patient(&server.url(&options)));
    let hasty = open(&server.url(&format!("{options}&io_timeout=2000")));
    let (lock, held) = (store.lock("n").unwrap(), lasting(&hasty, "held"));
    let rival = store.lock("held").unwrap();
    lock.acquire(PATIENCE, None).unwrap();
    lock.release().unwrap();
    insist(dialect, || code(held.acquire(PATIENCE, None)));
    let (all, end) = match server {
        Server::Postgres(_) => (format!("BEGIN; LOCK TABLE {dialect}"), "COMMIT"),
        Server::Mariadb(_) => (format!("LOCK TABLES {dialect} WRITE"), "UNLOCK TABLES"),
    };
    let rows = format!("BEGIN; SELECT 1 FROM {dialect} FOR UPDATE");
    let gone = format!("BEGIN; DELETE FROM {dialect}");
    for (begins, ends) in [(rows, "COMMIT"), (gone, "ROLLBACK"), (all, end)] {
        let what = format!("{dialect}: {begins}");
        let foreign = Foreign::begin(server, &begins);
        let tried = soon(&what, ms(100), || code(rival.acquire(Wait::No, None)));
        assert_eq!(tried, Code::Busy, "{what}");
        assert_eq!(waited(&what, &rival), Code::Timeout, "{what}");
        let refreshed = soon(&what, ms(2200), || code(held.refresh(None)));
        assert!(is_trouble(refreshed), "{what}: {refreshed:?}");
        foreign.end(ends);
        insist(&what, || code(held.refresh(None)));
        lock.acquire(PATIENCE, None).unwrap();
        let foreign = Foreign::begin(server, &begins);
        let released = soon(&what, ms(2200), || code(held.release()));
        assert!(is_trouble(released), "{what}: {released:?}");
        foreign.end(ends);
        lock.release().unwrap();
        rival.acquire(PATIENCE, None).unwrap();
        rival.release().unwrap();
        insist(&what, || code(held.acquire(PATIENCE, None)));
    }
}

/// Sessions behind a pooler are others' as well: nothing may be set in them, and no attempt waits all the same.
#[test]
fn foreign_transactions_hold_no_attempt_up_behind_a_pooler() {
    let direct = Server::Postgres(PostgresServer::start());
    let Server::Postgres(server) = &direct else {
        return;
    };
    for (number, mode) in ["transaction", "statement"].into_iter().enumerate() {
        let pooler = PgBouncer::start(server, mode, 3);
        let table = format!("pooled_{number}");
        let through = format!("postgres://{}?table={table}", pooler.place());
        let store = open(&patient(&through));
        let lock = store.lock("n").unwrap();
        lock.acquire(PATIENCE, None).unwrap();
        lock.release().unwrap();
        for way in in_the_way(&direct, &table, "n") {
            let what = format!("{mode} {}", way.begins);
            let foreign = Foreign::begin(&direct, &way.begins);
            let tried = soon(&what, ms(200), || code(lock.acquire(Wait::No, None)));
            assert_eq!(tried, Code::Busy, "{what}");
            assert_eq!(waited(&what, &lock), Code::Timeout, "{what}");
            foreign.end(way.ends);
            lock.acquire(PATIENCE, None).unwrap();
            lock.release().unwrap();
        }
        // Whoever gets the session next finds it as it was.
        let left = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-c", "SHOW lock_timeout"])
            .arg(format!("postgres://{}", pooler.place()))
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&left.stdout).trim(),
            "0",
            "{left:?}"
        );
    }
}

/// Several threads, with sessions of their own, at one name: by tries and by waits. Never two inside, each with a
/// higher fencing token than the one before, and no other refusal than that it is taken.
fn hot(url: &str, name: &str, rounds: u32) {
    let last = Mutex::new(0);
    let inside = Mutex::new(());
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (last, inside) = (&last, &inside);
            scope.spawn(move || {
                let store = open(url);
                let lock = lasting(&store, name);
                for round in 0..rounds {
                    let fence = if (thread + round) % 2 == 0 {
                        lock.acquire(PATIENCE, None).unwrap().fence
                    } else {
                        let end = Instant::now() + SOON * 3;
                        loop {
                            assert!(Instant::now() < end, "{url}: it is always taken");
                            match lock.acquire(Wait::No, None) {
                                Ok(acquired) => break acquired.fence,
                                Err(error) => {
                                    assert_eq!(error.code(), Code::Busy, "{url}: {error}")
                                }
                            }
                            std::thread::sleep(ms(1));
                        }
                    };
                    let alone = inside.try_lock().expect("two holders");
                    let mut last = last.lock().unwrap();
                    assert!(fence.unwrap() > *last, "{url}: {fence:?} after {last}");
                    *last = fence.unwrap();
                    lock.refresh(None).unwrap();
                    drop(alone);
                    lock.release().unwrap();
                }
            });
        }
    });
}

/// Servers whose transactions are stricter by default than ours need, or do not end by themselves.
#[test]
fn hot_names_on_servers_of_other_isolation() {
    for level in ["serializable", "repeatable read"] {
        let server = PostgresServer::start_with(postgres::Options {
            settings: vec![format!("default_transaction_isolation={level}")],
            ..postgres::Options::default()
        });
        hot(&patient(&format!("postgres://{}", server.place())), "n", 15);
        let pooler = PgBouncer::start(&server, "transaction", 6);
        hot(&patient(&format!("postgres://{}", pooler.place())), "m", 5);
    }
    for settings in [
        ["--transaction-isolation=SERIALIZABLE", "--autocommit=1"],
        ["--innodb-snapshot-isolation=ON", "--autocommit=1"],
        ["--transaction-isolation=READ-COMMITTED", "--autocommit=0"],
        ["--transaction-isolation=SERIALIZABLE", "--autocommit=0"],
    ] {
        let server = MariadbServer::start_with(mariadb::Options {
            extra: settings.map(str::to_owned).to_vec(),
            ..mariadb::Options::default()
        });
        hot(&patient(&format!("mysql://{}", server.place())), "n", 15);
    }
}

/// A server that breaks statements off, as victims of deadlocks and for want of an order: all of them or half.
fn break_off(server: &Server, states: &[&str]) {
    for state in states {
        let table = format!("victim_{}", state.to_lowercase());
        let url = patient(&server.url(&format!("table={table}")));
        let hasty = open(&server.url(&format!("table={table}&io_timeout=1000")));
        let (store, name) = (open(&url), "n");
        let (free, held) = (store.lock(name).unwrap(), lasting(&hasty, "held"));
        free.acquire(PATIENCE, None).unwrap();
        free.release().unwrap();
        insist(state, || code(held.acquire(PATIENCE, None)));
        let breaks = |share: &str| {
            server.sql(&match server {
                Server::Postgres(_) => format!(
                    "CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
                     IF random() < {share} THEN RAISE EXCEPTION 'victim' USING ERRCODE = '{state}'; END IF; \
                     RETURN NEW; END$$; \
                     CREATE OR REPLACE TRIGGER broken BEFORE INSERT OR UPDATE ON {table} \
                     FOR EACH ROW EXECUTE FUNCTION broken()"
                ),
                Server::Mariadb(_) => {
                    let triggers = ["INSERT", "UPDATE"].map(|verb| {
                        format!(
                            "CREATE OR REPLACE TRIGGER broken_{verb}_{state} BEFORE {verb} ON {table} FOR EACH ROW \
                             IF RAND() < {share} THEN SIGNAL SQLSTATE '40001' \
                             SET MYSQL_ERRNO = {state}, MESSAGE_TEXT = 'victim'; END IF//\n"
                        )
                    });
                    format!("DELIMITER //\n{}", triggers.concat())
                }
            });
        };
        breaks("2");
        let tried = soon(state, ms(100), || code(free.acquire(Wait::No, None)));
        assert_eq!(tried, Code::Busy, "{state}");
        assert_eq!(waited(state, &free), Code::Timeout, "{state}");
        let refreshed = code(held.refresh(None));
        assert!(is_trouble(refreshed), "{state}: {refreshed:?}");
        breaks("0.5");
        hot(&url, name, 5);
        insist(state, || code(held.refresh(None)));
        insist(state, || code(held.release()));
    }
}

#[test]
fn deadlocks_and_serialisation_failures_are_no_errors() {
    break_off(
        &Server::Postgres(PostgresServer::start()),
        &["40001", "40P01", "55P03"],
    );
    break_off(
        &Server::Mariadb(MariadbServer::start()),
        &["1213", "1205", "1020"],
    );
}

/// Rows that have been free for long are dropped while others work, except those that another client has locked.
#[test]
fn purging_goes_on_beside_hot_names_and_foreign_transactions() {
    const KEPT: usize = 3;
    // Names, and who works on others meanwhile.
    let (idle, threads) = if is_full_load() { (250, 8) } else { (60, 4) };
    for server in Server::both() {
        let url = patient(&server.url("purge_after=1"));
        let keeps = open(&patient(&server.url("purge_after=0")));
        for number in 0..idle {
            let lock = keeps.lock(format!("idle-{number}")).unwrap();
            lock.acquire(PATIENCE, None).unwrap();
            lock.release().unwrap();
        }
        let locks: Vec<_> = (0..KEPT)
            .map(|number| {
                let row = server.row(&format!("idle-{number}"));
                format!("SELECT 1 FROM synlock_locks WHERE {row} FOR UPDATE")
            })
            .collect();
        let foreign = Foreign::begin(&server, &format!("BEGIN; {}", locks.join("; ")));
        let left = || {
            let idle = match &server {
                Server::Postgres(_) => "convert_from(name, 'UTF8')",
                Server::Mariadb(_) => "name",
            };
            let found = server.sql(&format!(
                "SELECT count(*) FROM synlock_locks WHERE {idle} LIKE 'idle-%'"
            ));
            found.parse::<usize>().unwrap()
        };
        let until = |most: usize| {
            // So many rounds as a slow machine does not get to soon.
            let end = Instant::now() + SOON * 10;
            while left() > most {
                assert!(Instant::now() < end, "{url}: {} rows", left());
                std::thread::sleep(ms(20));
            }
        };
        let is_over = AtomicBool::new(false);
        let last: [Mutex<u64>; 4] = Default::default();
        let store = open(&url);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (store, last, is_over) = (&store, &last, &is_over);
                scope.spawn(move || {
                    for round in thread.. {
                        let lock = lasting(store, &format!("hot-{}", round % 4));
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        let fence = lock.acquire(Wait::Forever, None).unwrap().fence.unwrap();
                        let mut last = last[round % 4].try_lock().expect("two holders");
                        assert!(fence > *last, "{fence} after {last}");
                        *last = fence;
                        drop(last);
                        lock.release().unwrap();
                    }
                });
            }
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                until(KEPT);
                assert_eq!(left(), KEPT, "{url}: what another has locked is gone");
                foreign.end("COMMIT");
                until(0);
            }));
            is_over.store(true, Ordering::SeqCst);
            told.unwrap();
        });
        let deadlocks = server.sql(match &server {
            Server::Postgres(_) => "SELECT sum(deadlocks) FROM pg_stat_database",
            Server::Mariadb(_) => {
                "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_DEADLOCKS'"
            }
        });
        assert_eq!(deadlocks, "0", "{url}");
    }
}
