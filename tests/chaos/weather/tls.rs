//! Row 35 for databases and etcd: who cannot show who they are gets no word of a login. Redis has its own
//! in `tests/redis`.

use crate::code;
use std::path::Path;
use synlock_core::{Code, Store};
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
        let found = tried(&url(&fake));
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
    hostile(vec![Act::Mute], |fake| database("mysql", fake));
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
