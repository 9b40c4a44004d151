//! Builds of neighbouring releases share a server: this one, and one whose layout number is one
//! higher (`next-layout`). And what an older release wrote is understood: the vectors.

mod databases;
mod memcached;
mod redis;
mod several;
mod zookeeper;

use std::process::Command;
use synlock_core::store::Holder;
use synlock_core::{Code, LockOptions, Store};
use synlock_tests::load::patient;
use synlock_tests::services::etcd::EtcdServer;
use synlock_tests::taker::{Taker, next_release};

const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");

/// What the store has beside exclusive locks.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Modes {
    Exclusive,
    Shared,
    /// And a reader may become a writer.
    Promotable,
}

/// Both take turns at `n`. `look` shows what the holder wrote, with the one or the other sign of its layout.
fn take_turns(url: &str, signs: [&str; 2], modes: Modes, look: impl Fn() -> String) {
    let shares = modes >= Modes::Shared;
    let mut this = Taker::start(THIS, url);
    let mut next = Taker::start(next_release(THIS), url);
    let mut last = 0;
    for taker in [&mut this, &mut next] {
        taker.ok("lock h n");
        if shares {
            taker.ok("lock s n shared");
        }
    }
    for round in 0..4 {
        let (one, two) = if round % 2 == 0 {
            (&mut this, &mut next)
        } else {
            (&mut next, &mut this)
        };
        let fence: u64 = one.ok("acquire h 0").parse().unwrap_or(last + 1);
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        let written = look();
        assert!(written.contains(signs[round % 2]), "{written}");
        assert_eq!(two.code("acquire h 0"), "BUSY");
        assert_eq!(two.ok("inspect n"), "1");
        one.ok("check h");
        let fence = std::thread::scope(|scope| {
            // The other one's waiter gets the lock by this one's release.
            let waiter = scope.spawn(|| two.ok("acquire h 60000"));
            std::thread::sleep(std::time::Duration::from_millis(100));
            one.ok("release h");
            waiter.join().unwrap().parse().unwrap_or(last + 1)
        });
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        assert_eq!(one.code("acquire h 0"), "BUSY");
        assert_eq!(one.ok("break n"), "true");
        assert_eq!(two.code("release h"), "LOST");
        if shares {
            one.ok("acquire s 0");
            two.ok("acquire s 0");
            assert_eq!(one.ok("inspect n"), "2");
            assert_eq!(one.code("acquire h 0"), "BUSY");
            if modes == Modes::Promotable {
                assert_eq!(one.code("promote s 0"), "BUSY");
            }
            one.ok("release s");
            if modes == Modes::Promotable {
                two.ok("promote s 0");
            }
            two.ok("release s");
        }
    }
}

/// Lines of a vector, by their tabs.
fn vector(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split('\t').map(str::to_owned).collect());
    let fields: Vec<_> = fields.collect();
    assert!(!fields.is_empty());
    fields
}

const TOKEN: &str = "00112233445566778899aabbccddeeff";

/// The lock `name` is held once by the vectors' process, and who knows its token goes on with it.
fn is_understood(store: &Store, name: &str, mode: &str, label: Option<&str>, adopts: bool) {
    let lock = store.lock(name).unwrap();
    assert!(lock.try_acquire().unwrap().is_none(), "{name}");
    let found = store.inspect(name).unwrap();
    let is_its = |holder: &&Holder| holder.owner == TOKEN[..8];
    let holder = found.holders.iter().find(is_its).expect("the holder");
    assert_eq!(holder.mode, mode, "{name}");
    assert_eq!(
        (holder.host.as_deref(), holder.pid),
        (Some("box"), Some(77))
    );
    assert_eq!(holder.label.as_deref(), label, "{name}");
    if adopts {
        let place = store.fingerprint().replace('%', "%25");
        let place = place.replace(':', "%3A").replace('/', "%2F");
        let heir = store
            .adopt(
                &format!("synlock1:{place}:{name}:x:{TOKEN}:"),
                LockOptions::default(),
            )
            .unwrap();
        heir.ensure_held().unwrap();
        heir.release().unwrap();
        assert_eq!(heir.release().unwrap_err().code(), Code::NotHeld);
        lock.try_acquire().unwrap().expect("it is free");
        lock.release().unwrap();
    }
}

/// The output of kazoo, told what to do in Python.
fn kazoo(hosts: &str, script: &str) -> Command {
    let mut python = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/venv/bin/python"
    ));
    let begin =
        "import sys, kazoo.client\nzk = kazoo.client.KazooClient(sys.argv[1])\nzk.start()\n";
    python.args(["-c", &format!("{begin}{script}"), hosts]);
    python
}

#[test]
fn neighbours_take_turns_on_etcd() {
    let server = EtcdServer::start();
    let signs = [r#""synlock":1"#, r#""synlock":2"#];
    take_turns(&patient(&server.url()), signs, Modes::Shared, || {
        server.told(&["get", "--prefix", "synlock:n/", "--print-value-only"])
    });
}
