//! The guards of PostgreSQL and MariaDB, on the servers themselves. SQLite and Redis, with a holder that
//! was stopped past its lease, are in `bindings/python/tests/test_fencing.py`.

use std::process::Command;
use synlock_core::fencing::{Engine, STALE, ddl, statement, trigger};
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// Statements one by one, as a program would send them; `DELIMITER` is the clients' own.
fn script(engine: Engine, statements: &[String]) -> String {
    match engine {
        Engine::Mysql => format!("DELIMITER //\n{} //\nDELIMITER ;", statements.join(" //\n")),
        _ => format!("{};", statements.join(";\n")),
    }
}

/// The guarded transaction, with its parameters filled in.
fn write(engine: Engine, table: &str, token: i64, value: &str) -> String {
    let (first, second) = ("'inv''oice'", token.to_string());
    let sql = statement(engine, table).unwrap();
    let sql = match engine {
        Engine::Postgres => sql.replace("$1", first).replace("$2", &second),
        _ => sql.replacen('?', first, 1).replacen('?', &second, 1),
    };
    format!("BEGIN; {sql}; UPDATE data SET v = '{value}'; COMMIT;")
}

fn guards(engine: Engine, run: &dyn Fn(&str) -> Command) {
    let good = |sql: &str| {
        let done = run(sql).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{sql}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let stale = |sql: &str| {
        let done = run(sql).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            !done.status.success() && said.contains(STALE),
            "{sql}: {said}"
        );
    };
    good(
        "CREATE TABLE data (v VARCHAR(20), fence BIGINT); INSERT INTO data VALUES ('first', NULL)",
    );
    let table = "guards";
    for _ in 0..2 {
        // Run again, it changes nothing.
        good(&script(engine, &ddl(engine, table).unwrap()));
    }
    good(&write(engine, table, 8, "eighth"));
    good(&write(engine, table, 9, "ninth"));
    good(&write(engine, table, 9, "again"));
    stale(&write(engine, table, 8, "late"));
    good(&write(engine, table, i64::MAX, "last"));
    stale(&write(engine, table, i64::MAX - 1, "later"));
    assert!(good("SELECT v FROM data").contains("last"));
    assert!(good("SELECT token FROM guards").contains(&i64::MAX.to_string()));
    good(&script(engine, &trigger(engine, "data", "fence").unwrap()));
    good("UPDATE data SET v = 'a', fence = 5");
    good("UPDATE data SET v = 'b', fence = 5");
    stale("UPDATE data SET v = 'c', fence = 4");
    stale("UPDATE data SET v = 'd', fence = NULL");
    assert!(good("SELECT v FROM data").contains('b'));
}

#[test]
fn postgres_refuses_an_older_token() {
    let server = PostgresServer::start();
    guards(Engine::Postgres, &|sql| server.psql(sql));
}

#[test]
fn mariadb_refuses_an_older_token() {
    let server = MariadbServer::start();
    server.sql("CREATE DATABASE IF NOT EXISTS fencing");
    guards(Engine::Mysql, &|sql| {
        let mut client = server.client("");
        client.args(["fencing", "-e", sql]);
        client
    });
}
