//! The tables of native locks.

use crate::{Modes, is_understood, take_turns, vector};
use std::path::Path;
use std::process::Command;
use synlock_core::{Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::names::TempDir;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

const LOOK: &str = "SELECT state FROM synlock_locks WHERE until > 0";

#[test]
fn neighbours_take_turns_on_postgres() {
    let server = PostgresServer::start();
    let url = patient(&format!("postgres://{}", server.place()));
    take_turns(&url, ["h|1|", "h|2|"], Modes::Promotable, || {
        let look = LOOK.replace("state", "encode(state, 'escape')");
        server.sql(&look)
    });
}

#[test]
fn neighbours_take_turns_on_mysql() {
    let server = MariadbServer::start();
    let url = patient(&format!("mysql://{}", server.place()));
    take_turns(&url, ["h|1|", "h|2|"], Modes::Promotable, || {
        server.sql(&format!("USE test; {LOOK}"))
    });
}

#[test]
fn neighbours_take_turns_on_sqlite() {
    let folder = TempDir::in_memory("synlock-layouts");
    let file = folder.path().join("locks.db");
    let url = format!("sqlite:{}?io_timeout=20000", file.display());
    take_turns(&url, ["h|1|", "h|2|"], Modes::Promotable, || {
        sqlite(&file, LOOK)
    });
}

/// What Python's client for the file finds.
fn sqlite(file: &Path, sql: &str) -> String {
    let script = "import sqlite3, sys\n\
                  with sqlite3.connect(sys.argv[1]) as db: print(*db.execute(sys.argv[2]))";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(file).arg(sql);
    let done = python.output().expect("python3");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Puts the vector's rows into the table by the engine's own client, and reads them.
fn rows(store: &Store, run: impl Fn(&str)) {
    store.create_table(Wait::Forever).unwrap();
    for line in vector(include_str!("../vectors/sql-layout-1.txt")) {
        let [name, id, state, mode, label, adopts] = line.as_slice() else {
            panic!("{line:?}");
        };
        let hex = |text: &str| -> String {
            let text = text.replace("\\n", "\n");
            text.bytes().map(|byte| format!("{byte:02x}")).collect()
        };
        // Until the year 2286; a fence as one that was drawn.
        run(&format!(
            "INSERT INTO synlock_locks (id, name, version, fence, since, until, state) VALUES \
             (X'{id}', X'{}', 1, 41, 1700000000000000, 9999999999000000, X'{}')",
            hex(name),
            hex(state)
        ));
        let label = Some(label.as_str()).filter(|label| *label != "-");
        is_understood(store, name, mode, label, adopts == "adopts");
    }
}

#[test]
fn rows_of_the_first_release_are_understood() {
    let server = PostgresServer::start();
    let store = Store::open(&patient(&format!("postgres://{}", server.place()))).unwrap();
    rows(&store, |sql| {
        let mut words = sql.split("X'");
        let mut text = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (hex, rest) = word.split_once('\'').unwrap();
            text += &format!("'\\x{hex}'{rest}");
        }
        server.sql(&text);
    });
    let server = MariadbServer::start();
    let store = Store::open(&patient(&format!("mysql://{}", server.place()))).unwrap();
    rows(&store, |sql| drop(server.sql(&format!("USE test; {sql}"))));
    let folder = TempDir::in_memory("synlock-layouts");
    let file = folder.path().join("locks.db");
    let store = Store::open(&format!("sqlite:{}?io_timeout=20000", file.display())).unwrap();
    rows(&store, |sql| drop(sqlite(&file, sql)));
}
