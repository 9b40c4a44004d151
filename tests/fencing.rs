//! The guards of PostgreSQL, MariaDB and Redis, on the servers themselves, and a holder that was stopped for
//! longer than its lease and then writes. SQLite's are tested in C, Python and PHP.

use libtest_mimic::{Arguments, Failed, Trial};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use synlock_core::fencing::{self, Engine, STALE, ddl, statement, trigger};
use synlock_core::{Lock, LockOptions, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::process::signal;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// Of the lock whose holder is stopped.
const NAME: &str = "inv'oice";
const BRIEF: Duration = Duration::from_millis(300);

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
    // Nor does a run leave a moment in which anything else is let through.
    for sql in ddl(engine, table).unwrap() {
        good(&script(engine, &[sql]));
        stale(&write(engine, table, 8, "between"));
    }
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

fn lock(url: &str, ttl: Duration) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    let store = Store::open(url).expect("a store");
    store.lock_with(NAME, options).expect("a lock")
}

/// A process that takes the lock for a moment and says its token; when it is spoken to, it says it again.
#[expect(clippy::print_stdout, reason = "its output is its answer")]
fn hold(url: &str) {
    let lock = lock(url, BRIEF);
    let fence = lock.acquire(Wait::For(SOON), None).expect("the lock").fence;
    println!("{}", fence.expect("a token"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a word");
    println!("{}", fence.expect("a token"));
}

/// The holder, which dies with its test.
struct Holder {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(url: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["hold", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        Holder {
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    fn token(&mut self) -> i64 {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().parse().expect("a token")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A holder is stopped past its lease, the next one writes, and what the first one writes then is refused.
/// `write` says what became of a write with a token: `None` if it was taken, or the error's words.
fn paused(url: &str, write: &dyn Fn(i64, &str) -> Option<String>) {
    let mut holder = Holder::start(url);
    let old = holder.token();
    let pid = i32::try_from(holder.child.id()).expect("a number");
    assert_eq!(write(old, "first"), None);
    signal(pid, libc::SIGSTOP);
    let heir = lock(url, Duration::from_secs(60));
    let taken = heir.acquire(Wait::For(SOON), None).expect("the lock");
    let new = i64::try_from(taken.fence.expect("a token")).expect("below 2^63");
    assert!(new > old, "{new} after {old}");
    assert_eq!(write(new, "second"), None);
    // It goes on where it was stopped, and believes in the token that it has.
    signal(pid, libc::SIGCONT);
    holder.input.write_all(b"\n").expect("it lives");
    let late = holder.token();
    let said = write(late, "late").expect("a refusal");
    assert!(fencing::is_stale(&said), "{said}");
    assert_eq!(write(new, "third"), None);
    heir.release().expect("still held");
}

/// The same on a database; the locks are in a table of it.
fn paused_sql(engine: Engine, url: &str, run: &dyn Fn(&str) -> Command) {
    paused(&patient(url), &|token, value| {
        let done = run(&write(engine, "guards", token, value)).output();
        let done = done.expect("a client");
        (!done.status.success()).then(|| String::from_utf8_lossy(&done.stderr).into_owned())
    });
    let value = run("SELECT v FROM data").output().expect("a client");
    assert!(String::from_utf8_lossy(&value.stdout).contains("third"));
}

fn postgres() -> Result<(), Failed> {
    let server = PostgresServer::start();
    let run = |sql: &str| server.psql(sql);
    guards(Engine::Postgres, &run);
    server.sql("DROP TRIGGER data_fence_grows ON data; DELETE FROM guards");
    let url = format!("postgres://{}", server.place());
    paused_sql(Engine::Postgres, &url, &run);
    Ok(())
}

fn mariadb() -> Result<(), Failed> {
    let server = MariadbServer::start();
    server.sql("CREATE DATABASE IF NOT EXISTS fencing");
    let run = |sql: &str| {
        let mut client = server.client("");
        client.args(["fencing", "-e", sql]);
        client
    };
    guards(Engine::Mysql, &run);
    server.sql("DROP TRIGGER fencing.data_fence_grows; DELETE FROM fencing.guards");
    let url = format!("mysql://{}", server.place());
    paused_sql(Engine::Mysql, &url, &run);
    Ok(())
}

fn redis() -> Result<(), Failed> {
    let server = RedisServer::start();
    let write = |token: i64, value: &str| {
        let token = token.to_string();
        let keys = ["2", "fence", "data", &token];
        let words = [
            &["EVAL", fencing::REDIS],
            &keys[..],
            &["SET", "data", value],
        ]
        .concat();
        let said = server.command(&words);
        (said != "OK").then_some(said)
    };
    paused(&patient(&server.url()), &write);
    assert_eq!(server.command(&["GET", "data"]), "third");
    Ok(())
}

fn main() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("hold") {
        return hold(&words.next().expect("a URL"));
    }
    let trials = vec![
        Trial::test("postgres_refuses_an_older_token", postgres),
        Trial::test("mariadb_refuses_an_older_token", mariadb),
        Trial::test("redis_refuses_an_older_token", redis),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
