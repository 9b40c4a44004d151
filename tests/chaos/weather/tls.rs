//! Row 35 for databases and etcd: who cannot show who they are gets no word of a login. Redis has its own
//! in `tests/redis`.

use crate::code;
use std::path::Path;
use std::time::Instant;
use synlock_core::{Code, Store};
use synlock_tests::load::SOON;
use synlock_tests::services::etcd::{self, EtcdServer};
use synlock_tests::services::mariadb::{self, MariadbServer};
use synlock_tests::services::postgres::{self, PostgresServer};
use synlock_tests::services::redis::openssl;
use synlock_tests::services::redis_fake::{Act, Fake, Proxy};

const SECRET: &str = "secret";

/// What comes of a try; each query makes a store of its own, and so a connection.
fn tried(url: &str) -> Code {
    let store = Store::open(url).unwrap();
    code(store.lock("n").unwrap().try_acquire())
}

/// The servers' certificate is for `localhost` and 127.0.0.1, signed by the authority of the file.
fn certificates(ca: &Path, port: u16, url: &impl Fn(&str, u16, &str) -> String) {
    let trusted = format!(
        "ca_file={}&connect_timeout=20000&io_timeout=20000",
        ca.display()
    );
    assert_eq!(tried(&url("localhost", port, &trusted)), Code::Ok);
    let insecure = "insecure=1&connect_timeout=20000&io_timeout=20000";
    assert_eq!(tried(&url("127.0.0.1", port, insecure)), Code::Ok);
    let strange = tried(&url(
        "localhost",
        port,
        "connect_timeout=20000&io_timeout=20001",
    ));
    assert_eq!(strange, Code::Permission, "signed by nobody we know");
    let there = Proxy::start_on("127.0.0.2", port);
    let other = tried(&url("127.0.0.2", there.port(), &trusted));
    assert_eq!(other, Code::Permission, "of another host");
}

/// The same of one that then runs out; `restart` has it read anew.
fn certificates_that_run_out(
    folder: &Path,
    port: u16,
    url: impl Fn(&str, u16, &str) -> String,
    restart: impl FnOnce(),
) {
    let ca = folder.join("ca.crt");
    certificates(&ca, port, &url);
    let words = "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days -1";
    let words: Vec<&str> = words.split(' ').chain(["-extfile", "ext"]).collect();
    openssl(folder, &words);
    restart();
    let trusted = format!(
        "ca_file={}&connect_timeout=20000&io_timeout=20002",
        ca.display()
    );
    let old = tried(&url("localhost", port, &trusted));
    assert_eq!(old, Code::Permission, "run out");
}

/// The URL of a database with a login, where the fake is.
fn database(scheme: &str, fake: &Fake) -> String {
    let place = fake.url(scheme).replace("127.0.0.1", "localhost");
    let place = place.replace("//", &format!("//somebody:{SECRET}@"));
    format!("{place}/db?io_timeout=300&insecure=1")
}

/// Servers that speak no TLS, stall or hang up in the handshake hear no password.
fn hostile(acts: Vec<Act>, url: impl Fn(&Fake) -> String) {
    for act in acts {
        let fake = Fake::start(act.clone());
        let start = Instant::now();
        let found = tried(&url(&fake));
        assert!(start.elapsed() < SOON, "{act:?}");
        assert!(
            matches!(found, Code::Unavailable | Code::Protocol | Code::Permission),
            "{act:?}: {found:?}"
        );
        let heard = fake.heard();
        let told = |word: &str| {
            heard
                .windows(word.len())
                .any(|part| part == word.as_bytes())
        };
        assert!(!told(SECRET) && !told("somebody"), "{act:?}");
    }
}

#[test]
fn tls_of_postgres_fails_closed() {
    let mut server = PostgresServer::start_with(postgres::Options {
        password: Some(SECRET.into()),
        tls: true,
        ..postgres::Options::default()
    });
    let url = |host: &str, port: u16, query: &str| {
        format!("postgres://postgres:{SECRET}@{host}:{port}/postgres?tls=1&{query}")
    };
    let (folder, port) = (server.file(""), server.port());
    certificates_that_run_out(&folder, port, url, || server.restart());
    let acts = vec![
        Act::Mute,
        Act::Say(b"N".to_vec()),
        Act::SayAndClose(b"S".to_vec()),
        Act::Say(b"S".to_vec()),
        Act::Say([b"S".as_slice(), &[0x16, 3, 3]].concat()),
        Act::Say(
            [
                b"S".as_slice(),
                &[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc, 3, 3],
            ]
            .concat(),
        ),
        Act::Endless([b"S".as_slice(), &[0x16, 3, 3]].concat(), vec![0; 4096]),
        // What was said in clear before the handshake counts for nothing.
        Act::Say([b"S".as_slice(), b"R\0\0\0\x08\0\0\0\0"].concat()),
        Act::SayAndClose(b"R\0\0\0\x08\0\0\0\x03".to_vec()),
    ];
    hostile(acts, |fake| database("postgres", fake));
}

#[test]
fn tls_of_mysql_fails_closed() {
    let mut server = MariadbServer::start_with(mariadb::Options {
        password: Some(SECRET.into()),
        tls: true,
        ..mariadb::Options::default()
    });
    let url = |host: &str, port: u16, query: &str| {
        format!("mysql://locker:{SECRET}@{host}:{port}/test?tls=1&{query}")
    };
    let (folder, port) = (server.file(""), server.port());
    certificates_that_run_out(&folder, port, url, || server.restart());
    let has_tls = b"\x0a5.5.5-10.11.6-MariaDB\0\x07\0\0\0abcdefgh\0\xfe\xff\x2d\x02\0\xff\x81\x15";
    let greet = |head: &[u8], then: Act| {
        let rest = [&[0; 10][..], b"ijklmnopqrst\0mysql_native_password\0"].concat();
        let body = [head, &rest].concat();
        let length = [body.len() as u8, 0, 0, 0];
        Act::Greet([&length[..], &body].concat(), Box::new(then))
    };
    // An OK, and a wish for the password as it is, in clear.
    let fine = b"\x07\0\0\x02\0\0\0\x02\0\0\0".to_vec();
    let wish = b"\x16\0\0\x02\xfemysql_clear_password\0".to_vec();
    let mut without_tls = has_tls.to_vec();
    let low = without_tls.len() - 7;
    assert_eq!(without_tls[low], 0xff);
    without_tls[low] &= !8;
    hostile(
        vec![
            Act::Mute,
            greet(has_tls, Act::Mute),
            greet(has_tls, Act::Say(vec![0x16, 3, 3])),
            greet(
                has_tls,
                Act::Say(vec![0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc, 3, 3]),
            ),
            greet(has_tls, Act::SayAndClose(Vec::new())),
            greet(has_tls, Act::SayAndClose(vec![0x15, 3, 3, 0, 2, 2, 40])),
            greet(has_tls, Act::Say(fine.clone())),
            greet(has_tls, Act::Say(wish.clone())),
            greet(has_tls, Act::Endless(vec![0x16, 3, 3], vec![0; 4096])),
            greet(&without_tls, Act::Say(fine)),
            greet(&without_tls, Act::Say(wish)),
        ],
        |fake| database("mysql", fake),
    );
}

#[test]
fn tls_of_etcd_fails_closed() {
    let server = EtcdServer::start_with(etcd::Options {
        tls: true,
        ..etcd::Options::default()
    });
    let url = |host: &str, port: u16, query: &str| format!("etcds://{host}:{port}?{query}");
    // It reads its certificate for every connection.
    certificates_that_run_out(&server.file(""), server.port(), url, || ());
    let acts = vec![
        Act::Mute,
        Act::Say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Act::SayAndClose(vec![0x15, 3, 3, 0, 2, 2, 40]),
        Act::SayAndClose(Vec::new()),
        Act::Say(vec![0x16, 3, 3]),
    ];
    hostile(acts, |fake| {
        let place = fake.url("etcds").replace("127.0.0.1", "localhost");
        let place = place.replace("//", &format!("//somebody:{SECRET}@"));
        format!("{place}?io_timeout=300&insecure=1")
    });
}
