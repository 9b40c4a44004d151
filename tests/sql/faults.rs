//! Servers that refuse: passwords, rights, read-only, no room for a client or for a row. What is said is right, nothing
//! is left behind, and the store works again once the server does.

use super::{code, ms};
use std::net::TcpStream;
use std::time::Instant;
use synlock_core::{Code, Lock, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::services::mariadb::{self, MariadbServer};
use synlock_tests::services::postgres::{self, PostgresServer};

/// What befalls a server and how it ends, and what a store says of it meanwhile.
struct Fault {
    begins: &'static str,
    ends: &'static str,
    code: Code,
    words: &'static str,
}

fn fault(begins: &'static str, ends: &'static str, code: Code, words: &'static str) -> Fault {
    Fault {
        begins,
        ends,
        code,
        words,
    }
}

/// A store with sessions of its own, and none before it.
fn open(url: &str) -> Store {
    Store::open(&format!("{}&label={}", patient(url), unique("store"))).unwrap()
}

/// Until the server is as it was.
fn insist(lock: &Lock) {
    let end = Instant::now() + SOON;
    while let Err(error) = lock.acquire(Wait::For(SOON), None) {
        assert!(Instant::now() < end, "{error}");
        std::thread::sleep(ms(10));
    }
}

/// One lock is held over it, and another one cannot be had meanwhile.
fn meet(url: &str, sql: &impl Fn(&str), fault: &Fault) {
    let what = format!("{url}: {}", fault.begins);
    let (before, after) = (open(url), open(url));
    let (kept, name) = (unique("kept"), unique("fault"));
    let held = before.lock(&kept).unwrap();
    insist(&held);
    sql(fault.begins);
    let lock = after.lock(&name).unwrap();
    let refused = lock.try_acquire().expect_err(&what);
    assert_eq!(refused.code(), fault.code, "{what}: {refused}");
    let said = format!("{refused} {refused:?}");
    assert!(said.contains(fault.words), "{what}: {said}");
    assert!(!said.contains("secret"), "{what}: {said}");
    // What was there before may go on, or is told of in the same words; it is not lost.
    let found = code(held.ensure_held());
    assert!(
        matches!(found, Code::Ok) || found == fault.code,
        "{what}: {found:?}"
    );
    let released = code(held.release());
    assert!(
        matches!(released, Code::Ok) || released == fault.code,
        "{what}: {released:?}"
    );
    sql(fault.ends);
    // At once, and by whoever was refused.
    lock.try_acquire()
        .unwrap_or_else(|error| panic!("{what}: {error}"))
        .unwrap();
    lock.release().unwrap();
    if released != Code::Ok {
        // Unless it was seen through in the background.
        let again = code(held.release());
        assert!(matches!(again, Code::Ok | Code::Lost), "{what}: {again:?}");
    }
    for name in [&kept, &name] {
        let (again, other) = (after.lock(name).unwrap(), before.lock(name).unwrap());
        insist(&again);
        assert!(other.try_acquire().unwrap().is_none(), "{what}");
        again.release().unwrap();
        insist(&other);
        other.release().unwrap();
    }
}

#[test]
fn faults_of_postgres_are_told_and_end() {
    let server = PostgresServer::start_with(postgres::Options {
        password: Some("secret".into()),
        ..postgres::Options::default()
    });
    let sql = |text: &str| drop(server.sql(text));
    sql("CREATE ROLE weak LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO weak");
    let place = server.place().replace("postgres:", "weak:");
    let everywhere = [
        fault(
            "ALTER ROLE weak PASSWORD 'other'",
            "ALTER ROLE weak PASSWORD 'secret'",
            Code::Permission,
            "28P01",
        ),
        fault(
            "ALTER ROLE weak CONNECTION LIMIT 0",
            "ALTER ROLE weak CONNECTION LIMIT -1",
            Code::Exhausted,
            "no room for another client",
        ),
        fault(
            "ALTER ROLE weak NOLOGIN",
            "ALTER ROLE weak LOGIN",
            Code::Permission,
            "does not let this user",
        ),
    ];
    let table = format!("postgres://{place}");
    let advisory = format!("postgres+advisory://{place}");
    for url in [&table, &advisory] {
        everywhere.iter().for_each(|fault| meet(url, &sql, fault));
    }
    meet(
        &table,
        &sql,
        &fault(
            "ALTER ROLE weak SET default_transaction_read_only = on",
            "ALTER ROLE weak RESET default_transaction_read_only",
            Code::Unavailable,
            "read-only",
        ),
    );
    sql("ALTER TABLE synlock_locks OWNER TO postgres; GRANT ALL ON synlock_locks TO weak");
    meet(
        &table,
        &sql,
        &fault(
            "REVOKE UPDATE ON synlock_locks FROM weak",
            "GRANT ALL ON synlock_locks TO weak",
            Code::Permission,
            "42501",
        ),
    );
    sql(
        "ALTER SEQUENCE synlock_fence OWNER TO postgres; GRANT ALL ON SEQUENCE synlock_fence TO weak",
    );
    meet(
        &advisory,
        &sql,
        &fault(
            "REVOKE ALL ON SEQUENCE synlock_fence FROM weak",
            "GRANT ALL ON SEQUENCE synlock_fence TO weak",
            Code::Permission,
            "42501",
        ),
    );
    // The disk and the memory.
    for state in ["53100", "53200", "53400"] {
        sql(&format!(
            "CREATE OR REPLACE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{state}'; END$$"
        ));
        meet(
            &table,
            &sql,
            &fault(
                "CREATE TRIGGER full_now BEFORE INSERT OR UPDATE ON synlock_locks FOR EACH ROW EXECUTE FUNCTION full()",
                "DROP TRIGGER full_now ON synlock_locks",
                Code::Exhausted,
                "run out of something",
            ),
        );
    }
}

#[test]
fn faults_of_mariadb_are_told_and_end() {
    let server = MariadbServer::start_with(mariadb::Options {
        password: Some("secret".into()),
        ..mariadb::Options::default()
    });
    let sql = |text: &str| drop(server.sql(text));
    sql(
        "CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 50; GRANT ALL ON test.* TO weak@'127.0.0.1'",
    );
    let place = server.place().replace("locker:", "weak:");
    let everywhere = [
        fault(
            "ALTER USER weak@'127.0.0.1' IDENTIFIED BY 'other'",
            "ALTER USER weak@'127.0.0.1' IDENTIFIED BY 'secret'",
            Code::Permission,
            "does not let this user",
        ),
        fault(
            "ALTER USER weak@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1",
            "ALTER USER weak@'127.0.0.1' WITH MAX_USER_CONNECTIONS 50",
            Code::Exhausted,
            "no room for another client",
        ),
        fault(
            "SET GLOBAL read_only = 1",
            "SET GLOBAL read_only = 0",
            Code::Unavailable,
            "read-only",
        ),
        fault(
            "ALTER USER weak@'127.0.0.1' ACCOUNT LOCK",
            "ALTER USER weak@'127.0.0.1' ACCOUNT UNLOCK",
            Code::Permission,
            "does not let this user",
        ),
    ];
    let table = format!("mysql://{place}");
    let advisory = format!("mysql+advisory://{place}");
    for url in [&table, &advisory] {
        everywhere.iter().for_each(|fault| meet(url, &sql, fault));
    }
    // Sessions keep what they were granted on a database, not what on a table.
    sql(
        "REVOKE ALL ON test.* FROM weak@'127.0.0.1'; GRANT CREATE, SELECT ON test.* TO weak@'127.0.0.1'",
    );
    for (url, begins, ends) in [
        (
            &table,
            "REVOKE INSERT ON test.synlock_locks FROM weak@'127.0.0.1'",
            "GRANT ALL ON test.synlock_locks TO weak@'127.0.0.1'",
        ),
        (
            &advisory,
            "REVOKE INSERT ON test.synlock_fence FROM weak@'127.0.0.1'",
            "GRANT ALL ON test.synlock_fence TO weak@'127.0.0.1'",
        ),
    ] {
        sql(ends);
        meet(url, &sql, &fault(begins, ends, Code::Permission, "42000"));
    }
    for number in [1114, 1021, 1041] {
        sql(&format!(
            "CREATE OR REPLACE PROCEDURE test.full() \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'no room'"
        ));
        meet(
            &table,
            &sql,
            &fault(
                "CREATE TRIGGER test.full_now BEFORE INSERT ON test.synlock_locks FOR EACH ROW CALL test.full()",
                "DROP TRIGGER test.full_now",
                Code::Exhausted,
                "run out of something",
            ),
        );
    }
    // Whoever has not logged in yet takes up a place as well.
    let (before, after) = (open(&table), open(&table));
    let held = before.lock("n").unwrap();
    insist(&held);
    let there = server.sql("SELECT COUNT(*) FROM information_schema.processlist");
    let most = there.parse::<usize>().unwrap() + 10;
    sql(&format!("SET GLOBAL max_connections = {most}"));
    let crowd: Vec<_> = (0..most)
        .map(|_| TcpStream::connect(("127.0.0.1", server.port())).unwrap())
        .collect();
    let refused = after.lock("m").unwrap().try_acquire().unwrap_err();
    assert_eq!(refused.code(), Code::Exhausted, "{refused}");
    held.ensure_held().unwrap();
    drop(crowd);
    sql("SET GLOBAL max_connections = 1000");
    insist(&after.lock("m").unwrap());
    held.release().unwrap();
}

/// A table that is emptied or dropped under a hold: that is told, the table is made anew, and tokens grow.
fn forget(url: &str, sql: &impl Fn(&str)) {
    for statement in ["DELETE FROM synlock_locks", "DROP TABLE synlock_locks"] {
        let (here, there) = (open(url), open(url));
        let name = unique("forgotten");
        let (held, waiter) = (here.lock(&name).unwrap(), there.lock(&name).unwrap());
        insist(&held);
        let token = held.fencing_token().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| waiter.acquire(Wait::For(SOON), None));
            if here.capabilities().wakes {
                while here.inspect(&name).unwrap().waiters != Some(1) {
                    std::thread::sleep(ms(2));
                }
            }
            sql(statement);
            let fresh = waiting.join().unwrap().unwrap().fence.unwrap();
            assert!(fresh > token, "{url} {statement}: {fresh} after {token}");
        });
        assert_eq!(code(held.ensure_held()), Code::Lost, "{url} {statement}");
        assert_eq!(code(held.release()), Code::Lost, "{url} {statement}");
        waiter.ensure_held().unwrap();
        assert!(here.lock(&name).unwrap().try_acquire().unwrap().is_none());
        waiter.release().unwrap();
        let next = here.lock(&name).unwrap();
        insist(&next);
        sql(statement);
        // Nobody has come since.
        assert_eq!(code(next.refresh(None)), Code::Lost, "{url} {statement}");
        insist(&next);
        next.release().unwrap();
    }
}

#[test]
fn tables_that_are_emptied_or_dropped_are_a_loss() {
    let (postgres, mariadb) = (PostgresServer::start(), MariadbServer::start());
    forget(&format!("postgres://{}", postgres.place()), &|text| {
        postgres.sql(text);
    });
    forget(&format!("mysql://{}", mariadb.place()), &|text| {
        mariadb.sql(&format!("USE test; {text}"));
    });
}
