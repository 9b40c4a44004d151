//! psql, the client of MariaDB, and the numbers of other libraries.

use crate::{PATIENCE, code, held, mysql, open, postgres};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use synlock_core::{Code, Wait};
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// A client program that is told statements, and answers each with a line.
struct Client(Child);

impl Client {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Client(child.spawn().expect("a client"))
    }

    fn ask(&mut self, statement: &str) -> String {
        let input = self.0.stdin.as_mut().expect("its input");
        writeln!(input, "{statement};").expect("it listens");
        let mut line = String::new();
        BufReader::with_capacity(1, self.0.stdout.as_mut().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        line.trim().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn psql_takes_turns() {
    let server = PostgresServer::start();
    let url = format!("{}?dialect=symfony", postgres(&server));
    let store = open(&url, 0);
    let mut psql = Client::start(server.psql(""));
    // CRC-32 of `pdf-creation`.
    for _ in 0..20 {
        let lock = held(&store, "pdf-creation");
        assert_eq!(psql.ask("SELECT pg_try_advisory_lock(572123647)"), "f");
        lock.release().unwrap();
        assert_eq!(psql.ask("SELECT pg_try_advisory_lock(572123647)"), "t");
        assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
        let found = store.inspect("pdf-creation").unwrap();
        assert_eq!(found.holders.len(), 1);
        assert_eq!(found.holders[0].pid, None);
        assert_eq!(psql.ask("SELECT pg_advisory_unlock(572123647)"), "t");
    }
    // A waiter gets it when the program ends.
    psql.ask("SELECT pg_advisory_lock(572123647) IS NULL");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| held(&store, "pdf-creation"));
        crate::until(|| store.inspect("pdf-creation").unwrap().waiters == Some(1));
        drop(psql);
        waiter.join().unwrap().release().unwrap();
    });
}

#[test]
fn the_client_of_mariadb_takes_turns() {
    let server = MariadbServer::start();
    let store = open(&mysql(&server), 0);
    let mut command = server.client("");
    command.arg("--unbuffered");
    let mut client = Client::start(command);
    for _ in 0..20 {
        let lock = held(&store, "job");
        assert_eq!(client.ask("SELECT GET_LOCK('synlock:job', 0)"), "0");
        lock.release().unwrap();
        assert_eq!(client.ask("SELECT GET_LOCK('synlock:job', 0)"), "1");
        assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
        assert_eq!(client.ask("SELECT RELEASE_LOCK('synlock:job')"), "1");
    }
    client.ask("SELECT GET_LOCK('synlock:job', 0)");
    let waiter = std::thread::spawn(move || held(&store, "job"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(client);
    waiter.join().unwrap().release().unwrap();
}

/// `dialect | name in hexadecimal | what the server shows of it`.
#[test]
fn numbers_and_names_are_those_of_the_vectors() {
    let (postgres, mariadb) = (PostgresServer::start(), MariadbServer::start());
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/vectors/advisory-keys"
    ))
    .unwrap();
    let (url, other) = (crate::postgres(&postgres), mysql(&mariadb));
    let mut checked = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [engine, dialect, name, shown] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let name: Vec<u8> = (0..name.len() / 2)
            .map(|at| u8::from_str_radix(&name[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let url = if engine == "postgres" { &url } else { &other };
        let lock = open(&format!("{url}?dialect={dialect}"), 0)
            .lock(&name)
            .unwrap();
        lock.acquire(PATIENCE, None).unwrap();
        if engine == "postgres" {
            let seen = postgres.sql(
                "SELECT concat_ws(',', classid, objid, objsubid) FROM pg_locks WHERE locktype = 'advisory'",
            );
            assert_eq!(seen, shown, "{line}");
        } else {
            let free = mariadb.sql(&format!("SELECT IS_FREE_LOCK('{shown}')"));
            assert_eq!(free, "0", "{line}");
        }
        lock.release().unwrap();
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

/// Debian's symfony/lock, taking turns over PDO.
#[test]
fn symfonys_store_takes_turns() {
    let server = PostgresServer::start();
    let store = open(&format!("{}?dialect=symfony", postgres(&server)), 0);
    let mut php = Command::new("php");
    php.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/advisory/symfony.php"))
        .arg(format!(
            "pgsql:host=127.0.0.1;port={};dbname=postgres;user=postgres",
            server.port()
        ));
    let mut php = Client::start(php);
    for turn in 0..50 {
        let name = if turn % 2 == 0 {
            "pdf-creation"
        } else {
            "café"
        };
        let lock = held(&store, name);
        assert_eq!(php.ask(&format!("try {name}")), "busy");
        assert_eq!(php.ask(&format!("read {name}")), "busy");
        lock.release().unwrap();
        assert_eq!(php.ask(&format!("try {name}")), "held");
        assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
        assert_eq!(php.ask(&format!("free {name}")), "free");
    }
    // Readers beside each other.
    let mut options = store.defaults().clone();
    options.mode = synlock_core::Mode::Shared;
    let reader = store.lock_with("pdf-creation", options).unwrap();
    assert_eq!(php.ask("read pdf-creation"), "held");
    reader.acquire(PATIENCE, None).unwrap();
    assert_eq!(
        code(store.lock("pdf-creation").unwrap().acquire(Wait::No, None)),
        Code::Busy
    );
}
