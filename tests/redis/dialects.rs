//! Locks in the formats of peers: what stands on the server, and how synlock behaves beside them. The
//! peers themselves are in `tests/interop/`.

#[path = "scriptless.rs"]
mod scriptless;

use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Mode, Result, Store, Wait};
use synlock_tests::redis::RedisServer;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn store(server: &RedisServer, dialect: &str) -> Store {
    Store::open(&format!("{}?dialect={dialect}", server.url())).unwrap()
}

fn leased(store: &Store, name: &str, ttl: Duration) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    store.lock_with(name, options).unwrap()
}

fn reader(store: &Store, name: &str) -> Lock {
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    options.ttl = Some(ms(5000));
    store.lock_with(name, options).unwrap()
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

fn tried(lock: &Lock) -> Code {
    code(lock.acquire(Wait::No, None))
}

fn number(server: &RedisServer, words: &[&str]) -> i64 {
    server.command(words).parse().unwrap()
}

/// Everything but our own helpers.
fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<_> = server
        .command(&["KEYS", "*"])
        .lines()
        .filter(|key| !key.starts_with("synlock:q") && !key.is_empty())
        .map(str::to_owned)
        .collect();
    keys.sort();
    keys
}

const OURS: [&str; 5] = [
    "plain",
    "symfony",
    "redisson",
    "python-redis-lock",
    "redis-semaphore",
];

#[test]
fn a_text_at_the_name_with_a_ttl() {
    let server = RedisServer::start();
    for (dialect, key) in [
        ("plain", "job"),
        ("python-redis-lock", "lock:job"),
        ("redis-semaphore", "mutex:job"),
    ] {
        let store = store(&server, dialect);
        let ours = leased(&store, "job", ms(5000));
        assert_eq!(tried(&ours), Code::Ok);
        assert_eq!(keys(&server), [key], "{dialect}");
        let token = ours.owner_token().unwrap().to_hex();
        assert_eq!(server.command(&["GET", key]), token);
        let left = number(&server, &["PTTL", key]);
        assert!((1..=5000).contains(&left), "{left}");
        // As peers take and give.
        assert_eq!(server.command(&["SET", key, "theirs", "NX", "PX", "9"]), "");
        ours.refresh(Some(ms(60_000))).unwrap();
        assert!(number(&server, &["PTTL", key]) > 50_000);
        ours.release().unwrap();
        assert_eq!(server.command(&["EXISTS", key]), "0");

        assert_eq!(server.command(&["SET", key, "theirs", "NX"]), "OK");
        assert_eq!(tried(&ours), Code::Busy);
        let seen = &store.inspect("job").unwrap().holders[0];
        assert_eq!((seen.owner.as_str(), seen.remaining), ("theirs", None));
        assert_eq!((seen.pid, seen.fence), (None, None));
        // No lease: waited for, never broken.
        assert_eq!(code(ours.acquire(Wait::For(ms(400)), None)), Code::Timeout);
        assert_eq!(server.command(&["GET", key]), "theirs");
        server.command(&["DEL", key]);
        assert_eq!(tried(&ours), Code::Ok);
        // Stolen from outside: told, and left alone.
        server.command(&["SET", key, "theirs"]);
        assert_eq!(code(ours.ensure_held()), Code::Lost);
        assert_eq!(code(ours.release()), Code::Lost);
        assert_eq!(server.command(&["GET", key]), "theirs");
        server.command(&["FLUSHALL"]);
    }
}

#[test]
fn python_redis_locks_waiters_are_told_by_a_list() {
    let server = RedisServer::start();
    let ours = leased(&store(&server, "python-redis-lock"), "job", ms(5000));
    assert_eq!(tried(&ours), Code::Ok);
    assert_eq!(server.command(&["EXISTS", "lock-signal:job"]), "0");
    ours.release().unwrap();
    assert_eq!(number(&server, &["LLEN", "lock-signal:job"]), 1);
    let left = number(&server, &["PTTL", "lock-signal:job"]);
    assert!((1..=1000).contains(&left), "{left}");
}

#[test]
fn a_sorted_set_as_symfony_has_it() {
    let server = RedisServer::start();
    let store = store(&server, "symfony");
    let ours = leased(&store, "job", ms(5000));
    assert_eq!(tried(&ours), Code::Ok);
    assert_eq!(keys(&server), ["job"]);
    let token = ours.owner_token().unwrap().to_hex();
    let score = server.command(&["ZSCORE", "job", &token]);
    assert_eq!(server.command(&["ZSCORE", "job", "__write__"]), score);
    assert_eq!(server.command(&["PEXPIRETIME", "job"]), score);
    ours.demote().unwrap();
    assert_eq!(server.command(&["ZSCORE", "job", "__write__"]), "");

    // A reader of theirs beside ours, then alone; one whose lease has run out counts for nothing.
    let soon = (score.parse::<u64>().unwrap() + 60_000).to_string();
    server.command(&["ZADD", "job", &soon, "theirs", "1", "dead"]);
    assert_eq!(code(ours.promote(Wait::No)), Code::Busy);
    assert_eq!(store.inspect("job").unwrap().holders.len(), 2);
    ours.release().unwrap();
    assert_eq!(server.command(&["ZRANGE", "job", "0", "-1"]), "theirs");
    assert_eq!(server.command(&["PEXPIRETIME", "job"]), soon);
    assert_eq!(tried(&ours), Code::Busy);
    let shared = reader(&store, "job");
    assert_eq!(tried(&shared), Code::Ok);
    assert_eq!(server.command(&["ZSCORE", "job", "theirs"]), soon);
    shared.release().unwrap();
    server.command(&["ZADD", "job", &soon, "__write__"]);
    assert_eq!(tried(&shared), Code::Busy);
    server.command(&["DEL", "job"]);

    // Of before 5.2.
    server.command(&["SET", "job", "theirs", "PX", "300"]);
    assert_eq!(tried(&ours), Code::Busy);
    assert_eq!(tried(&shared), Code::Busy);
    assert_eq!(server.command(&["GET", "job"]), "theirs");
    ours.acquire(Wait::For(ms(5000)), None).unwrap();
    assert_eq!(server.command(&["TYPE", "job"]), "zset");
}

#[test]
fn a_hash_as_redisson_has_it() {
    let server = RedisServer::start();
    let ours = leased(&store(&server, "redisson"), "job", ms(5000));
    assert_eq!(tried(&ours), Code::Ok);
    assert_eq!(keys(&server), ["job"]);
    let token = ours.owner_token().unwrap().to_hex();
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| &token[from..to]);
    let field = format!("{}:1", parts.join("-"));
    assert_eq!(server.command(&["HGETALL", "job"]), format!("{field}\n1"));
    assert!((1..=5000).contains(&number(&server, &["PTTL", "job"])));
    let told = server.calls("publish");
    ours.release().unwrap();
    assert_eq!(server.calls("publish"), told + 1);
    assert_eq!(server.command(&["EXISTS", "job"]), "0");
    // Held twice by one of their threads: still one hold, and none of ours to count down.
    let theirs = "b983c153-7421-469a-addb-44fb92259a1b:1";
    server.command(&["HSET", "job", theirs, "2"]);
    assert_eq!(tried(&ours), Code::Busy);
    assert_eq!(server.command(&["HGET", "job", theirs]), "2");
}

#[test]
fn something_else_at_the_key_is_told_and_left_alone() {
    let server = RedisServer::start();
    for (dialect, key) in [
        ("plain", "job"),
        ("python-redis-lock", "lock:job"),
        ("redis-semaphore", "mutex:job"),
        ("symfony", "job"),
        ("redisson", "job"),
    ] {
        let store = store(&server, dialect);
        let lock = store.lock("job").unwrap();
        server.command(&["RPUSH", key, "theirs"]);
        assert_eq!(tried(&lock), Code::Protocol, "{dialect}");
        assert!(store.list(b"", None, 10).unwrap().locks.is_empty());
        assert_eq!(server.command(&["LRANGE", key, "0", "-1"]), "theirs");
        server.command(&["DEL", key]);
        // A helper.
        server.command(&["SET", &format!("synlock:q:{{{key}}}"), "theirs"]);
        let held = store.lock("job").unwrap();
        server.command(&["DEL", &format!("synlock:q:{{{key}}}")]);
        assert_eq!(tried(&held), Code::Ok);
        held.release().unwrap();
        server.command(&["FLUSHALL"]);
    }
}

#[test]
fn the_head_alone_polls_a_peers_key_and_ours_go_in_order() {
    let server = RedisServer::start();
    let store = store(&server, "plain");
    server.command(&["SET", "job", "theirs"]);
    let order = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (lock, order) = (store.lock("job").unwrap(), &order);
            scope.spawn(move || {
                lock.acquire(Wait::For(ms(20_000)), None).unwrap();
                order.lock().unwrap().push(number);
                lock.release().unwrap();
            });
            while store.inspect("job").unwrap().waiters != Some(number + 1) {
                std::thread::sleep(ms(1));
            }
        }
        std::thread::sleep(ms(500));
        let calls = || server.calls("evalsha");
        let (before, start) = (calls(), Instant::now());
        std::thread::sleep(ms(2000));
        // The head's each 250 ms, the second's each second; whoever counts, counts late.
        let most = start.elapsed().as_millis() as u64;
        let polls = calls() - before;
        assert!(
            polls >= 4 && polls <= most / 250 + most / 1000 + 2,
            "{polls} in {most} ms"
        );
        server.command(&["DEL", "job"]);
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_head_that_gives_up_passes_the_watch_on() {
    let server = RedisServer::start();
    let store = store(&server, "plain");
    server.command(&["SET", "job", "theirs"]);
    std::thread::scope(|scope| {
        let (first, second) = (store.lock("job").unwrap(), store.lock("job").unwrap());
        let first = scope.spawn(move || code(first.acquire(Wait::For(ms(500)), None)));
        while store.inspect("job").unwrap().waiters != Some(1) {
            std::thread::sleep(ms(1));
        }
        let second = scope.spawn(move || second.acquire(Wait::For(ms(20_000)), None).map(drop));
        assert_eq!(first.join().unwrap(), Code::Timeout);
        let before = server.calls("evalsha");
        std::thread::sleep(ms(1500));
        let polls = server.calls("evalsha") - before;
        assert!(polls >= 5, "the second does not watch: {polls} polls");
        server.command(&["DEL", "job"]);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn without_rights_to_helper_keys_it_polls_and_says_so() {
    let server = RedisServer::start();
    let rules = "ACL SETUSER peer on >secret +@all ~* resetkeys ~app:* resetchannels &*";
    assert_eq!(server.command(&rules.split(' ').collect::<Vec<_>>()), "OK");
    for dialect in ["plain", "symfony", "redisson"] {
        let url = format!(
            "redis://peer:secret@127.0.0.1:{}?dialect={dialect}",
            server.port()
        );
        let store = Store::open(&url).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let id = store.observe_warnings(std::sync::Arc::new(move |event| {
            let _ = sender.send(event.message.clone());
        }));
        let name = format!("app:{dialect}");
        let (one, two) = (store.lock(&name).unwrap(), store.lock(&name).unwrap());
        assert_eq!(one.acquire(Wait::No, None).unwrap().fence, None);
        assert_eq!(tried(&two), Code::Busy);
        one.refresh(None).unwrap();
        one.ensure_held().unwrap();
        assert_eq!(store.inspect(&name).unwrap().waiters, None);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| two.acquire(Wait::For(ms(20_000)), None).map(drop));
            let words = receiver.recv_timeout(ms(10_000)).unwrap();
            assert!(words.contains("synlock:q"), "{words}");
            one.release().unwrap();
            waiter.join().unwrap().unwrap();
        });
        two.release().unwrap();
        store.unobserve(id);
        assert_eq!(server.command(&["KEYS", "*"]), "");
        // What the lock's own key does not allow is an error still.
        assert_eq!(tried(&store.lock("other").unwrap()), Code::Permission);
    }
}

#[test]
fn losses_are_told_and_tokens_grow_over_flushes_and_restarts() {
    let mut server = RedisServer::start();
    for dialect in OURS {
        let one = store(&server, dialect).lock("n").unwrap();
        let mut last = 0;
        for round in 0..4 {
            let fence = one.try_acquire().unwrap().unwrap().fence.unwrap();
            assert!(fence > last, "{dialect}: {fence} after {last}");
            last = fence;
            if round % 2 == 0 {
                server.command(&["FLUSHALL"]);
            } else {
                server.restart();
            }
            assert_eq!(code(one.ensure_held()), Code::Lost);
            assert_eq!(code(one.release()), Code::Lost);
        }
    }
}

#[test]
fn a_server_without_memory_or_rights_to_write_is_unavailable() {
    let server = RedisServer::start();
    for dialect in OURS {
        let store = store(&server, dialect);
        let (held, other) = (store.lock("held").unwrap(), store.lock("other").unwrap());
        assert_eq!(tried(&held), Code::Ok);
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        assert_eq!(tried(&other), Code::Unavailable, "{dialect}");
        assert_eq!(tried(&store.lock("held").unwrap()), Code::Busy);
        held.release().unwrap();
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        server.command(&["REPLICAOF", "127.0.0.1", "1"]);
        assert_eq!(tried(&other), Code::Unavailable);
        server.command(&["REPLICAOF", "NO", "ONE"]);
        assert_eq!(tried(&other), Code::Ok);
        other.release().unwrap();
    }
}

/// What redis-semaphore 5.6.2 sends to take a permit.
const THEIR_SEMAPHORE: &str = "
  local key = KEYS[1]
  local limit = tonumber(ARGV[1])
  local identifier = ARGV[2]
  local lockTimeout = tonumber(ARGV[3])
  local now = tonumber(ARGV[4])
  local expiredTimestamp = now - lockTimeout

  redis.call('zremrangebyscore', key, '-inf', expiredTimestamp)

  if redis.call('zcard', key) < limit then
    redis.call('zadd', key, now, identifier)
    redis.call('pexpire', key, lockTimeout)
    return 1
  else
    return 0
  end";

#[test]
fn permits_of_a_peer_that_goes_by_its_callers_clocks_are_refused() {
    let server = RedisServer::start();
    let take = |key: &str, who: &str, limit: &str, timeout: &str, now: &str| {
        let key = format!("semaphore:{key}");
        let words = ["EVAL", THEIR_SEMAPHORE, "1", &key, limit, who, timeout, now];
        number(&server, &words) == 1
    };
    // Within one moment, though one permit is all there is: by a clock that is ahead, by a shorter timeout,
    // by another limit.
    for (key, limit, timeout, now) in [
        ("ahead", "1", "600000", "1700000600000"),
        ("shorter", "1", "1000", "1700000001000"),
        ("larger", "2", "600000", "1700000000000"),
    ] {
        assert!(take(key, "a", "1", "600000", "1700000000000"));
        assert!(!take(key, "b", "1", "600000", "1700000000001"), "{key}");
        assert!(take(key, "b", limit, timeout, now), "{key}");
    }
    // A score that no clock reaches is kept by the script, and goes with its key all the same.
    let key = "semaphore:never";
    number(&server, &["ZADD", key, "9007199254740991", "ours"]);
    assert!(take("never", "b", "2", "1", "1700000000000"));
    std::thread::sleep(ms(20));
    assert_eq!(number(&server, &["EXISTS", key]), 0);

    let mut options = LockOptions::default();
    options.mode = Mode::Permits { take: 1, of: 2 };
    for (dialect, word) in [("redis-semaphore", "clock"), ("plain", "native")] {
        let error = store(&server, dialect)
            .lock_with("job", options.clone())
            .unwrap_err();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        assert!(error.message().contains(word), "{error}");
    }
}

#[test]
fn the_names_of_dialects_are_known() {
    let error = Store::open("redis://h?dialect=klingon").unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("redisson"), "{error}");
    let native = Store::open("redis://h?dialect=native").unwrap();
    assert_eq!(native.capabilities().store, "redis");
    assert_ne!(
        native.fingerprint(),
        Store::open("redis://h?dialect=plain")
            .unwrap()
            .fingerprint()
    );
}
