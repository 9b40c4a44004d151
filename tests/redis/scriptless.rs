//! The dialect `plain` for users that may not run scripts, on a server that compares before it writes.

use super::{code, leased, ms, tried};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use synlock_core::{Code, Lock, LockOptions, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::redis::{Options, RedisServer};

const LONG: std::time::Duration = std::time::Duration::from_secs(60);

fn valkey() -> RedisServer {
    RedisServer::start_with(Options {
        valkey: true,
        ..Options::default()
    })
}

/// A store of a user who has these rights beside all but scripts.
fn store(server: &RedisServer, rights: &str) -> Store {
    let rules = format!("ACL SETUSER peer reset on >secret ~* &* +@all -@scripting {rights}");
    let words: Vec<_> = rules.split_whitespace().collect();
    assert_eq!(server.command(&words), "OK");
    let url = format!(
        "redis://peer:secret@127.0.0.1:{}?dialect=plain",
        server.port()
    );
    Store::open(&patient(&url)).unwrap()
}

fn token(lock: &Lock) -> String {
    lock.owner_token().unwrap().to_hex()
}

#[test]
fn locks_need_no_scripts_where_the_server_compares() {
    let server = valkey();
    let store = store(&server, "");
    let (sender, receiver) = std::sync::mpsc::channel();
    let id = store.observe_warnings(Arc::new(move |event| {
        let _ = sender.send(event.message.clone());
    }));
    let (one, two) = (leased(&store, "job", LONG), leased(&store, "job", LONG));
    assert_eq!(one.acquire(Wait::No, None).unwrap().fence, None);
    let words = receiver.recv_timeout(SOON).unwrap();
    assert!(words.contains("no scripts"), "{words}");
    // What stands there is what peers write.
    assert_eq!(server.command(&["KEYS", "*"]), "job");
    assert_eq!(server.command(&["GET", "job"]), token(&one));
    assert_eq!(tried(&two), Code::Busy);
    one.ensure_held().unwrap();
    one.refresh(Some(2 * LONG)).unwrap();
    one.refresh(Some(ms(10))).unwrap();
    let left: u64 = server.command(&["PTTL", "job"]).parse().unwrap();
    assert!(left > 90_000, "a lease was shortened: {left}");
    let seen = store.inspect("job").unwrap();
    assert_eq!(seen.holders[0].owner, token(&one)[..8]);
    assert!(seen.holders[0].remaining.unwrap() > LONG);
    assert_eq!((seen.holders.len(), seen.waiters), (1, None));
    assert_eq!(store.list(b"", None, 10).unwrap().locks.len(), 1);

    // A waiter gets it, and a hold is handed over.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| two.acquire(Wait::For(SOON), None).map(drop));
        std::thread::sleep(ms(100));
        one.release().unwrap();
        waiter.join().unwrap().unwrap();
    });
    let handed = two.export().unwrap();
    let heir = store.adopt(&handed, LockOptions::default()).unwrap();
    assert_eq!(server.command(&["GET", "job"]), token(&heir));
    assert_eq!(code(two.ensure_held()), Code::NotHeld);
    heir.ensure_held().unwrap();
    heir.release().unwrap();
    assert_eq!(server.command(&["EXISTS", "job"]), "0");

    // A peer's hold without a lease is left alone, whoever asks.
    server.command(&["SET", "job", "theirs"]);
    assert_eq!(tried(&one), Code::Busy);
    assert_eq!(code(one.acquire(Wait::For(ms(100)), None)), Code::Timeout);
    assert_eq!(server.command(&["GET", "job"]), "theirs");
    assert_eq!(store.inspect("job").unwrap().holders[0].remaining, None);
    assert!(store.break_lock("job").unwrap());
    // Stolen from outside: told, and left alone.
    assert_eq!(tried(&one), Code::Ok);
    server.command(&["SET", "job", "theirs"]);
    assert_eq!(code(one.refresh(None)), Code::Lost);
    server.command(&["DEL", "job"]);
    assert_eq!(tried(&two), Code::Ok);
    server.command(&["SET", "job", "theirs"]);
    assert_eq!(code(two.release()), Code::Lost);
    assert_eq!(server.command(&["GET", "job"]), "theirs");
    server.command(&["FLUSHALL"]);
    server.command(&["LPUSH", "job", "a list"]);
    assert_eq!(tried(&one), Code::Protocol);
    store.unobserve(id);
    assert!(server.calls("delifeq") > 0);
    assert_eq!(server.calls("eval"), 0);
}

#[test]
fn holds_by_commands_exclude_each_other_and_end() {
    let server = valkey();
    let store = store(&server, "");
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lock = leased(&store, "turn", LONG);
                for _ in 0..10 {
                    lock.acquire(Wait::Forever, None).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::sleep(ms(1));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release().unwrap();
                }
            });
        }
    });
    // Those of the dead end with their leases; leases that are renewed do not.
    let brief = leased(&store, "brief", ms(300));
    assert_eq!(tried(&brief), Code::Ok);
    let next = leased(&store, "brief", LONG);
    next.acquire(Wait::For(SOON), None).unwrap();
    assert_eq!(code(brief.refresh(None)), Code::Lost);
    let kept: Vec<_> = (0..3)
        .map(|number| store.lock(format!("kept{number}")).unwrap())
        .collect();
    for lock in &kept {
        assert_eq!(tried(lock), Code::Ok);
        lock.ensure_held().unwrap();
    }
}

#[test]
fn without_scripts_or_comparing_commands_the_rights_are_too_few() {
    let redis = RedisServer::start();
    let lock = store(&redis, "").lock("job").unwrap();
    assert_eq!(tried(&lock), Code::Permission);
    // Nothing was written that could not be given back.
    assert_eq!(redis.command(&["KEYS", "*"]), "");

    let valkey = valkey();
    let lock = store(&valkey, "-delifeq").lock("job").unwrap();
    assert_eq!(tried(&lock), Code::Permission);
    assert_eq!(valkey.command(&["KEYS", "*"]), "");
    let lock = store(&valkey, "resetkeys ~app:*").lock("job").unwrap();
    assert_eq!(tried(&lock), Code::Permission);
    // The native format is more than comparing commands can do.
    let url = format!("redis://peer:secret@127.0.0.1:{}", valkey.port());
    let native = Store::open(&url).unwrap().lock("app:job").unwrap();
    assert_eq!(tried(&native), Code::Permission);
}
