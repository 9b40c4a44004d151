//! What needs no server of PostgreSQL; the store's suites talk to real ones.

use super::config::Config;
use super::keys::Key;
use super::session::Session;
use super::table::{Place, Table};
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::Claim;
use crate::store::db::{Connection, Engine};
use crate::url::Url;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for any machine.
const SOON: Duration = Duration::from_secs(60);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (4 + body.len() as u32).to_be_bytes();
    [&[tag], &length[..], body].concat()
}

/// A server that lets everybody in, and answers one statement.
fn serve(listener: &TcpListener) -> TcpStream {
    let mut stream = listener.accept().unwrap().0;
    let ready = message(b'Z', b"I");
    let welcome = [
        message(b'R', &[0; 4]),
        message(b'K', &[7; 8]),
        ready.clone(),
    ];
    for says in [
        welcome.concat(),
        [message(b'C', b"SELECT 1\0"), ready].concat(),
    ] {
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(&says).unwrap();
    }
    stream
}

/// Whoever listens may have missed that it came.
#[test]
fn an_answer_is_found_by_the_waiter_that_it_is_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || serve(&listener));
    let mut url = Url::parse(&format!("postgres+advisory://me@127.0.0.1:{port}/db"), &[]).unwrap();
    let config = Config::read(&mut url, Engine::Postgres).unwrap();
    let limit = BootTime::now().after(SOON);
    let connection = Connection::open(&config.database, limit).unwrap();
    let mut session = Box::new(Session::over(connection).unwrap());

    let name = Name::new("n").unwrap();
    let key = Key::of(&config, name.as_bytes()).unwrap();
    let claim = Claim::exclusive(name, OwnerToken::draw().unwrap(), SOON);
    let (mut table, bell) = (Table::default(), Arc::new(Signal::default()));
    let place = table.queue(&key, &claim, &bell, 8);
    assert!(matches!(place, Place::Begin(None)), "{place:?}");
    session.start("SELECT 1", &[], limit).unwrap();
    table.waits_over(&key, session);
    let wait = loop {
        match table.queue(&key, &claim, &bell, 8) {
            Place::Answered(wait) => break wait,
            place => assert!(matches!(place, Place::Queued), "{place:?}"),
        }
        assert!(!limit.has_passed(), "the answer is not found");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(wait.session.is_some() && matches!(wait.outcome, Some(Ok(_))));
    server.join().unwrap();
}
