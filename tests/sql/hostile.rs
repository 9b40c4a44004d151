//! Row 36: servers that speak MySQL's or PostgreSQL's protocol as no server does, at each step of a session.

use super::{PATIENCE, code, lock, ms};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::SOON;

/// What is said to a request, or to a client that has just come.
#[derive(Clone, Debug)]
enum Say {
    /// These bytes.
    Raw(Vec<u8>),
    /// These bytes, and the end.
    Last(Vec<u8>),
    /// The first, then the others as long as they are taken.
    Endless(Vec<u8>, Vec<u8>),
    /// The same, but no more than the memory of a machine bears: a quarter of a GiB.
    Long(Vec<u8>, Vec<u8>),
}

/// By the number of the request, and what was asked.
type Script = Box<dyn Fn(usize, &[u8]) -> Say + Send + Sync>;

/// The port of a server that ends with the test program. One of MySQL speaks first.
fn fake(speaks_first: bool, script: impl Fn(usize, &[u8]) -> Say + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let script: Arc<Script> = Arc::new(Box::new(script));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = Arc::clone(&script);
            std::thread::spawn(move || serve(stream, speaks_first, &script));
        }
    });
    port
}

fn serve(mut stream: TcpStream, speaks_first: bool, script: &Script) -> Option<()> {
    let mut request = vec![0; 65_536];
    for step in 0.. {
        let asked = if step == 0 && speaks_first {
            0
        } else {
            stream.read(&mut request).ok().filter(|got| *got > 0)?
        };
        match script(step, &request[..asked]) {
            Say::Raw(bytes) => stream.write_all(&bytes).ok()?,
            Say::Last(bytes) => return stream.write_all(&bytes).ok(),
            Say::Endless(first, then) => {
                stream.write_all(&first).ok()?;
                loop {
                    stream.write_all(&then).ok()?;
                }
            }
            Say::Long(first, then) => {
                stream.write_all(&first).ok()?;
                for _ in 0..(1 << 28) / then.len() {
                    stream.write_all(&then).ok()?;
                }
            }
        }
    }
    None
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    [&length[..3], &[number], body].concat()
}

fn greeting() -> Vec<u8> {
    let parts = [
        b"\x0a5.5.5-10.11.6-MariaDB\0\x07\0\0\0abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15",
        &[0; 10][..],
        b"ijklmnopqrst\0mysql_native_password\0",
    ];
    packet(0, &parts.concat())
}

/// An OK to the login, or to a statement.
fn fine(number: u8) -> Vec<u8> {
    packet(number, b"\0\0\0\x02\0\0\0")
}

/// The head of an answer of so many columns.
fn columns(width: u8) -> Vec<u8> {
    let each = (0..width).map(|number| packet(2 + number, b"\x03def\0\0\0\x01a"));
    let end = packet(2 + width, b"\xfe\0\0\x02\0");
    [packet(1, &[width]), each.collect::<Vec<_>>().concat(), end].concat()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (4 + body.len() as u32).to_be_bytes();
    [&[tag], &length[..], body].concat()
}

/// The login of a user whom the server trusts.
fn welcome() -> Vec<u8> {
    [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0016.4\0"),
        message(b'K', &[7; 8]),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// What makes no sense in either protocol, or no end.
fn odd(of_mysql: bool) -> Vec<Say> {
    let mut odd = vec![
        Say::Raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Say::Raw(vec![0; 64]),
        Say::Raw(vec![0xff; 64]),
        Say::Last(Vec::new()),
        Say::Endless(Vec::new(), vec![0; 4096]),
        Say::Endless(Vec::new(), vec![b'x'; 4096]),
    ];
    let sane = if of_mysql {
        let cut = packet(1, b"\0\0\0\x02\0\0\0");
        let error = packet(1, b"\xff\x15\x04#28000");
        odd.extend([
            Say::Raw(packet(1, b"")),
            Say::Raw(packet(1, b"\xfb/etc/passwd")),
            Say::Raw(packet(1, b"\xfe")),
            Say::Raw(packet(1, b"\xfd\xff\xff\xff")),
            Say::Raw(columns(3)),
            Say::Raw(
                [
                    columns(1),
                    packet(4, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"),
                ]
                .concat(),
            ),
            Say::Endless(
                packet(1, b"\xfc\xff\x0f"),
                packet(2, &[b'x'; 64]).repeat(64),
            ),
            Say::Endless(columns(200), packet(4, &[0xfb; 200]).repeat(20)),
            Say::Endless(b"\xf0\xff\xff\x01".to_vec(), vec![0; 4096]),
            Say::Endless(
                Vec::new(),
                packet(1, b"\xfemysql_native_password\0a\0").repeat(128),
            ),
            Say::Endless(Vec::new(), packet(1, b"\x01\x03").repeat(512)),
        ]);
        [cut, error]
    } else {
        let row = message(b'D', &[&[0, 200][..], &[0xff; 800]].concat());
        odd.extend([
            Say::Raw(message(b'Z', b"")),
            Say::Raw(message(b'R', &[0, 0, 0, 99])),
            Say::Raw(message(b'D', b"\0\x05\0\0\0\x01")),
            Say::Raw(b"D\x7f\xff\xff\xff".to_vec()),
            Say::Raw(b"D\0\0\0\x03".to_vec()),
            Say::Raw(b"D\0\xff\xff\xff".to_vec()),
            Say::Raw([message(b'T', b"\0\x09"), message(b'Z', b"I")].concat()),
            Say::Endless(Vec::new(), row.repeat(5)),
            Say::Endless(b"D\0\xff\xff\xf0\0\x01".to_vec(), vec![0; 4096]),
            Say::Endless(
                Vec::new(),
                message(b'N', b"SNOTICE\0C00000\0\0").repeat(128),
            ),
            // A message ends where each read does.
            Say::Endless(
                Vec::new(),
                message(b'N', &[b"SNOTICE\0M", &[b'x'; 1013][..], b"\0\0"].concat()).repeat(4),
            ),
            Say::Endless(Vec::new(), message(b'S', b"a\0b\0").repeat(128)),
            Say::Endless(Vec::new(), message(b'A', b"\0\0\0\x07a\0b\0").repeat(128)),
            Say::Endless(Vec::new(), message(b'R', &[0; 4]).repeat(128)),
        ]);
        [
            [message(b'C', b"UPDATE 1\0"), message(b'Z', b"I")].concat(),
            message(b'E', b"SERROR\0VERROR\0C28000\0Mno\0\0"),
        ]
    };
    for sane in sane {
        odd.extend(
            (1..sane.len())
                .step_by(3)
                .map(|end| Say::Last(sane[..end].to_vec())),
        );
    }
    odd
}

/// Whoever asks such a server hears of an error of ours in time; the answers of several are waited for at once.
fn hostile(scheme: &'static str, of_mysql: bool, before: &[Vec<u8>]) {
    std::thread::scope(|scope| {
        for say in odd(of_mysql) {
            scope.spawn(move || {
                let (words, before) = (
                    format!("{scheme}, {}: {say:.80?}", before.len()),
                    before.to_vec(),
                );
                let port = fake(of_mysql, move |step, _| {
                    before
                        .get(step)
                        .map_or_else(|| say.clone(), |sane| Say::Raw(sane.clone()))
                });
                let place = format!("{scheme}://somebody:secret@127.0.0.1:{port}/db");
                let store =
                    Store::open(&format!("{place}?connect_timeout=300&io_timeout=300")).unwrap();
                let start = Instant::now();
                let asked = store.lock("n").unwrap();
                for found in [
                    code(asked.try_acquire()),
                    code(asked.acquire(Wait::For(ms(100)), None)),
                    code(store.inspect("n")),
                ] {
                    let is_ours = matches!(
                        found,
                        Code::Protocol
                            | Code::Unavailable
                            | Code::Uncertain
                            | Code::Permission
                            | Code::Timeout
                            | Code::Ok
                            | Code::Unsupported
                    );
                    assert!(is_ours, "{words}: {found:?}");
                }
                assert!(start.elapsed() < SOON, "{words}: {:?}", start.elapsed());
            });
        }
    });
}

#[test]
fn odd_replies_of_mysql_are_errors_in_time() {
    for scheme in ["mysql", "mysql+advisory"] {
        hostile(scheme, true, &[]);
        hostile(scheme, true, &[greeting()]);
        hostile(scheme, true, &[greeting(), fine(2)]);
    }
}

#[test]
fn odd_replies_of_postgres_are_errors_in_time() {
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    for scheme in ["postgres", "postgres+advisory"] {
        hostile(scheme, false, &[]);
        hostile(scheme, false, std::slice::from_ref(&scram));
        hostile(scheme, false, &[welcome()]);
    }
}

/// More than a store can want to hear is no answer, long before memory is short or time over.
#[test]
fn odd_replies_without_an_end_are_left() {
    let url = |scheme, port| format!("{scheme}://somebody@127.0.0.1:{port}/db?io_timeout=20000");
    let rows = [columns(200), packet(4, &[0xfb; 200]).repeat(20)];
    for then in [rows[1].clone(), packet(4, &[0xfb; 200])] {
        let head = rows[0].clone();
        let port = fake(true, move |step, _| match step {
            0 => Say::Raw(greeting()),
            1 => Say::Raw(fine(2)),
            _ => Say::Long(head.clone(), then.clone()),
        });
        let found = code(lock(&url("mysql", port), "n").try_acquire());
        assert_eq!(found, Code::Protocol);
    }
    let row = message(b'D', &[&[0, 200][..], &[0xff; 800]].concat());
    let notice = message(b'N', b"SNOTICE\0C00000\0\0").repeat(128);
    for then in [row.repeat(5), notice] {
        let port = fake(false, move |step, _| match step {
            0 => Say::Raw(welcome()),
            _ => Say::Long(Vec::new(), then.clone()),
        });
        let found = code(lock(&url("postgres", port), "n").try_acquire());
        assert_eq!(found, Code::Protocol);
    }
}

/// What comes without having been asked for makes a connection useless, not the store.
#[test]
fn odd_replies_without_a_pause_are_left_before_the_next_request() {
    let done = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let notices = message(b'N', b"SNOTICE\0C00000\0\0").repeat(128);
    let port = fake(false, move |step, _| match step {
        0 => Say::Raw(welcome()),
        // What a session begins with.
        1 => Say::Raw(done.clone()),
        _ => Say::Endless(done.clone(), notices.clone()),
    });
    let url = format!("postgres://somebody@127.0.0.1:{port}/db?io_timeout=20000");
    let store = Store::open(&url).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..4 {
            tell.send(code(store.ping(PATIENCE))).unwrap();
        }
    });
    let mut before = Code::Ok;
    for _ in 0..4 {
        // Where it was quiet for a moment, the next request finds out.
        let found = told.recv_timeout(SOON).unwrap();
        let fits = found == Code::Ok || (before, found) == (Code::Ok, Code::Protocol);
        assert!(fits, "{found:?} after {before:?}");
        before = found;
    }
}

/// Proving who we are costs a server little, and us no more than it has to.
#[test]
fn odd_replies_to_a_login_cost_no_rounds_of_hashing_without_end() {
    let rounds = |of: u32| {
        move |step: usize, asked: &[u8]| {
            let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
            let asked = String::from_utf8_lossy(asked);
            match asked.split_once("r=") {
                Some((_, nonce)) if asked.contains("n=,r=") => {
                    let words = format!("\0\0\0\x0br={nonce}xyz,s=c2FsdA==,i={of}");
                    // And once more from the start.
                    Say::Raw([message(b'R', words.as_bytes()), scram].concat())
                }
                _ if step == 0 => Say::Raw(scram),
                _ => Say::Raw(Vec::new()),
            }
        }
    };
    for of in [4096, 1_000_001, u32::MAX] {
        let port = fake(false, rounds(of));
        let url = format!(
            "postgres://somebody:secret@127.0.0.1:{port}/db?connect_timeout=20000&io_timeout=20000"
        );
        let start = Instant::now();
        assert_eq!(code(lock(&url, "n").try_acquire()), Code::Protocol, "{of}");
        assert!(start.elapsed() < SOON, "{of}");
    }
}

/// A server that does not say whether it has granted may have: what cannot be read then is given back.
#[test]
fn a_grant_that_cannot_be_read_is_given_back() {
    // No more questions for this user, and no table of that name any more.
    for refusal in [
        &b"\xff\xca\x04#42000no more"[..],
        b"\xff\x7a\x04#42S02no table",
    ] {
        for (query, gives_back) in [
            ("table=own", "until = 0"),
            ("dialect=symfony", "DELETE"),
            ("dialect=drupal", "DELETE"),
            ("dialect=laravel", "DELETE"),
        ] {
            let (tell, told) = mpsc::channel();
            let port = fake(true, move |step, asked| {
                let asked = String::from_utf8_lossy(asked);
                if asked.contains(gives_back) {
                    tell.send(()).unwrap();
                }
                match step {
                    0 => Say::Raw(greeting()),
                    1 => Say::Raw(fine(2)),
                    _ if asked.contains("SELECT") && !asked.contains("INSERT") => {
                        Say::Raw(packet(1, refusal))
                    }
                    _ => Say::Raw(fine(1)),
                }
            });
            let url = format!("mysql://somebody@127.0.0.1:{port}/db?io_timeout=20000&{query}");
            let found = lock(&url, "n").try_acquire();
            assert_eq!(code(found), Code::Uncertain, "{query}");
            told.recv_timeout(SOON).expect(query);
        }
    }
}
