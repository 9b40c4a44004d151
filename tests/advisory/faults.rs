//! Servers that stop, pause, restart, refuse.

use crate::{PATIENCE, code, held, ms, mysql, open, open_within, postgres};
use synlock_core::store::{Answer, Attempt, Claim};
use synlock_core::{BootTime, Code, Store, Wait};
use synlock_tests::apart;
use synlock_tests::claims::claim;
use synlock_tests::services::free_port;
use synlock_tests::services::mariadb::{self, MariadbServer};
use synlock_tests::services::postgres::{self, PostgresServer};

/// A pause, and what is known before, during and after it.
fn paused(url: &str, pause: impl Fn(), resume: impl Fn()) {
    // What is asked of a server that is silent is to end.
    let (here, there) = (open_within(url, 2_000), open(url, 1));
    let lock = held(&here, "held");
    let other = there.lock("held").unwrap();
    assert_eq!(code(other.acquire(Wait::No, None)), Code::Busy);
    pause();
    for _ in 0..2 {
        let free = here.lock("free").unwrap();
        let refused = code(free.acquire(Wait::For(ms(100)), None));
        assert!(
            matches!(refused, Code::Unavailable | Code::Uncertain | Code::Timeout),
            "{refused:?}"
        );
        let unknown = code(lock.ensure_held());
        assert!(
            matches!(unknown, Code::Unavailable | Code::Uncertain),
            "{unknown:?}"
        );
    }
    resume();
    // A pause ends no session.
    crate::until(|| lock.ensure_held().is_ok());
    assert_eq!(code(other.acquire(Wait::No, None)), Code::Busy);
    lock.release().unwrap();
    other.acquire(PATIENCE, None).unwrap();
    // What was granted to those who had given up is let go of.
    held(&there, "free").release().unwrap();
}

#[test]
fn a_paused_postgres_loses_nothing() {
    let server = PostgresServer::start();
    paused(&postgres(&server), || server.pause(), || server.resume());
}

#[test]
fn a_paused_mariadb_loses_nothing() {
    let server = MariadbServer::start();
    paused(&mysql(&server), || server.pause(), || server.resume());
}

/// A try whose answer comes while another thread speaks over the session, and its release waits for that. The
/// first try of all finds no sequence of fencing tokens, when it has the lock already.
fn answered_to_another(url: &str, pause: impl Fn(), resume: impl Fn(), is_first: bool) {
    let store = Store::open(&format!("{url}?io_timeout=20000")).unwrap();
    let backend = store.backend();
    store.ping(PATIENCE).unwrap();
    if !is_first {
        held(&store, "before").release().unwrap();
    }
    let without_end = |name| Claim {
        ttl: None,
        ..claim(name)
    };
    let (lost, next) = (without_end("lost"), without_end("next"));
    pause();
    let hasty = Claim {
        deadline: Some(BootTime::now().after(ms(100))),
        ..lost.clone()
    };
    backend.attempt(&hasty, None).unwrap_err();
    std::thread::scope(|scope| {
        let (first, second) = (next.clone(), lost.clone());
        let (asks, asked) = std::sync::mpsc::channel();
        let speaks = scope.spawn({
            let asks = asks.clone();
            move || {
                asks.send(gettid()).unwrap();
                backend.attempt(&first, None)
            }
        });
        until_it_waits(asked.recv().unwrap());
        let waits = scope.spawn(move || {
            asks.send(gettid()).unwrap();
            backend.release(&second)
        });
        until_it_waits(asked.recv().unwrap());
        resume();
        assert!(matches!(speaks.join().unwrap(), Ok(Attempt::Granted(_))));
        let released = waits.join().unwrap().unwrap();
        assert_eq!(released == Answer::NotOurs, is_first);
    });
    held(&open(url, 1), "lost").release().unwrap();
    backend.release(&next).unwrap();
}

fn gettid() -> libc::pid_t {
    // SAFETY: asks for a number.
    unsafe { libc::gettid() }
}

/// Until a thread of ours has slept for a while, each time that it was looked at: for a server, or for another.
fn until_it_waits(thread: libc::pid_t) {
    let mut slept = 0;
    crate::until(|| {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        slept = if rest.starts_with('S') { slept + 1 } else { 0 };
        slept == 50
    });
}

#[test]
fn a_late_grant_of_postgres_is_released_whoever_hears_of_it() {
    let server = PostgresServer::start();
    for is_first in [true, false] {
        let url = postgres(&server);
        answered_to_another(&url, || server.pause(), || server.resume(), is_first);
    }
}

#[test]
fn a_late_grant_of_mariadb_is_released_whoever_hears_of_it() {
    let server = MariadbServer::start();
    for is_first in [true, false] {
        let url = mysql(&server);
        answered_to_another(&url, || server.pause(), || server.resume(), is_first);
    }
}

/// A restart: locks are gone and told so, tokens go on.
fn restarted(url: &str, mut stop: impl FnMut(), mut start: impl FnMut()) {
    let store = open(url, 0);
    let lock = held(&store, "a");
    let token = lock.fencing_token().unwrap();
    stop();
    let refused = code(store.lock("b").unwrap().acquire(Wait::For(ms(50)), None));
    assert!(
        matches!(refused, Code::Unavailable | Code::Timeout),
        "{refused:?}"
    );
    start();
    assert_eq!(code(lock.ensure_held()), Code::Lost);
    let lock = held(&store, "a");
    assert!(lock.fencing_token().unwrap() > token);
}

#[test]
fn a_restarted_postgres_is_a_loss() {
    let server = std::cell::RefCell::new(PostgresServer::start());
    let url = postgres(&server.borrow());
    restarted(
        &url,
        || server.borrow_mut().kill(),
        || server.borrow_mut().start_again(),
    );
}

#[test]
fn a_restarted_mariadb_is_a_loss() {
    let server = std::cell::RefCell::new(MariadbServer::start());
    let url = mysql(&server.borrow());
    restarted(
        &url,
        || server.borrow_mut().kill(),
        || server.borrow_mut().start_again(),
    );
}

/// The text of what `url` is refused with.
fn refusal(url: &str, expected: Code) -> String {
    let error = open(url, 0)
        .lock("a")
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap_err();
    assert_eq!(error.code(), expected, "{error:?}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    error.to_string()
}

#[test]
fn wrong_passwords_databases_and_certificates_are_refused() {
    let postgres = PostgresServer::start_with(postgres::Options {
        password: Some("secret".into()),
        tls: true,
        ..postgres::Options::default()
    });
    let mariadb = MariadbServer::start_with(mariadb::Options {
        password: Some("secret".into()),
        tls: true,
        ..mariadb::Options::default()
    });
    for url in [crate::postgres(&postgres), crate::mysql(&mariadb)] {
        refusal(&url.replace("secret", "canary"), Code::Permission);
        refusal(&url.replace(":secret", ""), Code::Permission);
        let (server, _) = url.rsplit_once('/').unwrap();
        refusal(&format!("{server}/nowhere"), Code::InvalidUrl);
        // Signed by nobody whom the system trusts, and for another name.
        refusal(&format!("{url}?tls=1"), Code::Permission);
        let authority = if url.starts_with("postgres") {
            postgres.file("ca.crt")
        } else {
            mariadb.file("ca.crt")
        };
        held(
            &open(&format!("{url}?ca_file={}", authority.display()), 0),
            "a",
        );
    }
}

#[test]
fn a_server_without_tls_is_sent_nothing() {
    let (postgres, mariadb) = (
        PostgresServer::start(),
        MariadbServer::start_with(mariadb::Options {
            extra: vec!["--skip-ssl".into()],
            ..mariadb::Options::default()
        }),
    );
    for url in [crate::postgres(&postgres), crate::mysql(&mariadb)] {
        let words = refusal(&format!("{url}?tls=1"), Code::Permission);
        assert!(words.contains("no TLS"), "{words}");
    }
}

#[test]
fn a_user_without_rights_is_told_what_is_missing() {
    let server = PostgresServer::start();
    server.sql("CREATE ROLE plain LOGIN");
    let url = postgres(&server).replace("postgres@", "plain@");
    let words = refusal(&url, Code::Permission);
    assert!(
        words.contains("CREATE SEQUENCE") && words.contains("fencing=0"),
        "{words}"
    );
    held(&open(&format!("{url}?fencing=0"), 0), "a");
    // And nothing was left locked by the attempt that failed.
    held(&open(&postgres(&server), 0), "a");
}

#[test]
fn servers_that_only_read_are_refused() {
    let mariadb = MariadbServer::start();
    mariadb.sql("SET GLOBAL read_only = 1");
    assert!(refusal(&mysql(&mariadb), Code::Unavailable).contains("read-only"));
    let mut standby = PostgresServer::start_with(postgres::Options {
        settings: vec!["wal_level=replica".into(), "hot_standby=on".into()],
        ..postgres::Options::default()
    });
    standby.sql("CHECKPOINT");
    std::fs::write(standby.file("data/standby.signal"), "").unwrap();
    standby.restart();
    assert!(refusal(&postgres(&standby), Code::Unavailable).contains("standby"));
}

/// Each server of a Galera cluster has named locks of its own.
#[test]
fn a_galera_cluster_is_warned_of() {
    let provider = "--wsrep-provider=/usr/lib/galera/libgalera_smm.so";
    let listen = format!("gmcast.listen_addr=tcp://127.0.0.1:{}", free_port());
    let options = format!("--wsrep-provider-options={listen};gcache.size=1M;gcache.page_size=1M");
    let words = [
        "--wsrep-on=ON",
        "--binlog-format=ROW",
        "--wsrep-node-address=127.0.0.1",
    ];
    let words = [
        &words[..],
        &["--wsrep-cluster-address=gcomm://", provider, &options],
    ]
    .concat();
    let galera = MariadbServer::start_with(mariadb::Options {
        extra: words.into_iter().map(str::to_owned).collect(),
        ..mariadb::Options::default()
    });
    let alone = MariadbServer::start();
    for (server, number, times) in [(&galera, 1, 1), (&galera, 2, 0), (&alone, 1, 0)] {
        let quiet = if number == 2 { "&cautions=0" } else { "" };
        let store = open(&format!("{}?fencing=0{quiet}", mysql(server)), number);
        let told = apart::cautions(&store);
        for name in ["a", "b"] {
            held(&store, name).release().unwrap();
        }
        assert_eq!(apart::count(&told, "Galera"), times, "{told:?}");
    }
}
