//! What the suites for every store do not ask of `redis:`. Its requests and its keys stand here, the rest in files
//! of its own.

#[path = "connection.rs"]
mod connection;
#[path = "dispatch.rs"]
mod dispatch;
#[path = "late.rs"]
mod late;
mod lives;
#[path = "losses.rs"]
mod losses;
#[path = "many.rs"]
mod many;
#[path = "modes.rs"]
mod modes;
#[path = "owed.rs"]
mod owed;
#[path = "queue_replies.rs"]
mod queue_replies;
#[path = "storm.rs"]
mod storm;
#[cfg(feature = "redis-tls")]
#[path = "tls.rs"]
mod tls;
#[path = "together.rs"]
mod together;
#[path = "trouble.rs"]
mod trouble;
#[path = "wakes.rs"]
mod wakes;
#[path = "watches.rs"]
mod watches;

use std::time::{Duration, Instant};
use synlock_core::{Code, Dispatch, Lock, LockOptions, Mode, Result, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn lock(url: &str, name: &str) -> Lock {
    Store::open(url).unwrap().lock(name).unwrap()
}

fn leased(url: &str, name: &str, ttl: Duration) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    Store::open(url).unwrap().lock_with(name, options).unwrap()
}

/// Tries once; the code, which must have come in time.
fn try_code(url: &str) -> Code {
    let start = Instant::now();
    let code = match lock(url, &unique("fault")).try_acquire() {
        Ok(None) => Code::Busy,
        result => code(result),
    };
    assert!(start.elapsed() < SOON, "{url}: {:?}", start.elapsed());
    code
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

#[test]
fn a_foreign_type_at_the_key_is_told_and_left_alone() {
    let server = RedisServer::start();
    let one = lock(&server.url(), "invoice");
    one.try_acquire().unwrap();
    let key = server.command(&["KEYS", "synlock:*}:invoice"]);
    assert!(key.starts_with("synlock:{b"), "{key}");
    one.release().unwrap();
    assert_eq!(server.command(&["EXISTS", &key]), "0");
    server.command(&["SET", &key, "theirs"]);
    assert_eq!(code(one.try_acquire()), Code::Protocol);
    assert_eq!(server.command(&["GET", &key]), "theirs");
    server.command(&["DEL", &key]);
    server.command(&["HSET", &key, "field", "theirs"]);
    assert_eq!(code(one.try_acquire()), Code::Protocol);
    assert_eq!(server.command(&["HGET", &key, "field"]), "theirs");
    server.command(&["DEL", &key]);

    // The queue, the waiters and the fencing counter: no holder and no waiter is left half made.
    let bucket = key.strip_suffix(":invoice").unwrap();
    for (helper, held) in [
        (format!("{bucket}q:invoice"), true),
        (format!("{bucket}w:invoice"), true),
        (format!("{bucket}f"), false),
    ] {
        let other = lock(&server.url(), "invoice");
        if held {
            other.try_acquire().unwrap().unwrap();
        }
        let before = server.command(&["TYPE", &key]);
        server.command(&["DEL", &helper]);
        server.command(&["SET", &helper, "theirs"]);
        let refused = one.acquire(Wait::For(ms(200)), None);
        assert_eq!(code(refused), Code::Protocol, "{helper}");
        assert_eq!(server.command(&["GET", &helper]), "theirs");
        assert_eq!(server.command(&["TYPE", &key]), before, "{helper}");
        assert_eq!(server.command(&["DEL", &helper]), "1");
        if held {
            let queue = format!("{bucket}q:invoice");
            assert_eq!(server.command(&["EXISTS", &queue]), "0", "a waiter is left");
            other.release().unwrap();
        }
        one.try_acquire().unwrap().expect("it works again");
        one.release().unwrap();
    }
}

#[test]
fn a_pair_is_two_requests_and_a_contended_acquisition_three() {
    let server = RedisServer::start();
    let (one, two) = (lock(&server.url(), "n"), lock(&server.url(), "n"));
    let pair = || {
        one.try_acquire().unwrap().unwrap();
        one.release().unwrap();
    };
    pair();
    let before = server.calls("evalsha");
    (0..50).for_each(|_| pair());
    assert_eq!(server.calls("evalsha") - before, 100);
    let contend = |rounds: u32| {
        for _ in 0..rounds {
            one.try_acquire().unwrap().unwrap();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| two.acquire(Wait::For(ms(4000)), None).unwrap());
                while server.command(&["EVAL", "local n = 0; for _, k in ipairs(redis.call('KEYS', '*}q:n')) do n = redis.call('ZCARD', k) end; return n", "0"]) != "1" {
                    std::thread::sleep(ms(1));
                }
                one.release().unwrap();
                waiter.join().unwrap();
            });
            two.release().unwrap();
        }
    };
    // The first subscribes.
    contend(1);
    let before = server.calls("evalsha");
    contend(10);
    // One's try and release, and two's three: queue, confirm, release.
    assert_eq!(server.calls("evalsha") - before, 10 * (2 + 3));
    assert_eq!(server.calls("subscribe"), 1);
}

/// Waits for something that must come, or panics.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < end, "it never came to this");
        std::thread::sleep(ms(5));
    }
}

/// Takes so many completions; their users' numbers with how they ended, as they came.
fn reap(dispatch: &Dispatch, count: usize) -> Vec<(u64, Code)> {
    let mut reaped = Vec::new();
    while reaped.len() < count {
        let mut ready = libc::pollfd {
            fd: dispatch.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut ready, 1, 1000) };
        let some = dispatch.reap(count - reaped.len()).into_iter();
        reaped.extend(some.map(|one| (one.user, code(one.result))));
    }
    reaped
}

#[test]
fn labels_may_hold_anything() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let label = "50%|\n\n%0A of\u{1F512} it";
    let mut options = LockOptions::default();
    options.label = Some(label.into());
    options.mode = Mode::Shared;
    let (one, two) = (
        store.lock_with("n", options.clone()).unwrap(),
        store.lock_with("n", options).unwrap(),
    );
    one.try_acquire().unwrap().unwrap();
    two.try_acquire().unwrap().unwrap();
    for holder in store.inspect("n").unwrap().holders {
        assert_eq!(holder.label.as_deref(), Some(label));
    }
    one.release().unwrap();
    assert_eq!(store.inspect("n").unwrap().holders.len(), 1);
    two.release().unwrap();
    assert_eq!(server.command(&["KEYS", "*}:*"]), "");
}

#[test]
fn long_names_are_listed_whole() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let names = [
        vec![b'x'; 3000],
        [vec![b'x'; 2999], vec![b'y']].concat(),
        vec![b'x'; 1024],
    ];
    let locks: Vec<Lock> = names.iter().map(|name| store.lock(name).unwrap()).collect();
    for lock in &locks {
        lock.try_acquire().unwrap().unwrap();
    }
    let listed = |prefix: &[u8]| {
        let page = store.list(prefix, None, 100).unwrap();
        let mut names: Vec<_> = page.locks.into_iter().map(|lock| lock.name).collect();
        names.sort();
        names
    };
    let mut sorted = names.to_vec();
    sorted.sort();
    assert_eq!(listed(b""), sorted);
    assert_eq!(listed(&names[1]), [names[1].clone()]);
    for lock in &locks {
        lock.release().unwrap();
    }
    assert_eq!(server.command(&["KEYS", "*}:*"]), "");
}

#[test]
fn permits_of_another_number_never_share_the_lock() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let permits = |of| {
        let mut options = store.defaults().clone();
        options.mode = Mode::Permits { take: 1, of };
        store.lock_with("n", options).unwrap()
    };
    let exclusive = store.lock("n").unwrap();
    exclusive.try_acquire().unwrap();
    std::thread::scope(|scope| {
        let waiters = [2, 5].map(|of| {
            let waiter = permits(of);
            let thread = scope.spawn(move || {
                let result = waiter.acquire(Wait::For(ms(1000)), None);
                std::thread::sleep(ms(100));
                (code(result), waiter)
            });
            std::thread::sleep(ms(200));
            thread
        });
        exclusive.release().unwrap();
        std::thread::sleep(ms(50));
        assert_eq!(store.inspect("n").unwrap().holders.len(), 1);
        for waiter in waiters {
            drop(waiter.join().unwrap());
        }
    });
}
