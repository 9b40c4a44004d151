//! What the suites for every store do not ask of `redis:`: its faults, its requests, its keys.

#[path = "connection.rs"]
mod connection;
#[path = "dispatch.rs"]
mod dispatch;
#[path = "owed.rs"]
mod owed;
#[path = "queue_replies.rs"]
mod queue_replies;

use std::time::{Duration, Instant};
use synlock_core::store::{Answer, Claim};
use synlock_core::{BootTime, Code, Dispatch, Lock, LockOptions, Mode, Op, Result, Store, Wait};
use synlock_tests::claims::held_claims;
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::{Options, RedisServer, openssl};
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::{Act, Fake, Late, Proxy};

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
fn a_server_that_is_down_or_deaf_is_unavailable_in_time() {
    let down = format!("redis://127.0.0.1:{}?io_timeout=300", free_port());
    assert_eq!(try_code(&down), Code::Unavailable);
    let mute = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=300", mute.url("redis"));
    assert_eq!(try_code(&url), Code::Unavailable);
    // The caller's own deadline counts, if it is nearer.
    let start = Instant::now();
    let url = format!("{}?io_timeout=60000", mute.url("redis"));
    let result = lock(&url, "x").acquire(Wait::For(ms(200)), None);
    assert!(
        result.is_err() && start.elapsed() < SOON,
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_wake_up_that_is_read_late_ends_no_hold() {
    let server = RedisServer::start();
    let (here, there) = (server.url(), format!("{}?io_timeout=1900", server.url()));
    let mut options = LockOptions::default();
    options.interruptible = true;
    let store = Store::open(&here).unwrap();
    let waiter = store.lock_with("a", options).unwrap();
    let holder = lock(&there, "a");
    holder.acquire(Wait::No, None).unwrap();
    // It stands in the queue, and nobody reads what is published for it.
    assert_eq!(code(waiter.acquire(Wait::Forever, None)), Code::Interrupted);
    holder.release().unwrap();
    // The lock has been handed over; it is found out by asking, as at the end of a wait.
    waiter.acquire(Wait::For(ms(0)), None).unwrap();
    // Somebody else's wait reads the word.
    let busy = lock(&there, "c");
    busy.acquire(Wait::No, None).unwrap();
    let other = store.lock("c").unwrap();
    assert_eq!(code(other.acquire(Wait::For(ms(300)), None)), Code::Timeout);
    waiter.ensure_held().unwrap();
    waiter.release().unwrap();
}

#[test]
fn a_server_that_is_deaf_keeps_no_other_leases_from_being_renewed() {
    let (deaf, well) = (RedisServer::start(), RedisServer::start());
    let url = format!("{}?io_timeout=8000", deaf.url());
    lock(&url, "a").acquire(Wait::No, None).unwrap();
    deaf.pause();
    // The release of what may have been granted waits for an answer, in the background.
    let refused = code(lock(&url, "b").acquire(Wait::For(ms(50)), None));
    assert_eq!(refused, Code::Uncertain);
    let mut options = LockOptions::default();
    (options.ttl, options.renew) = (Some(ms(3000)), Some(true));
    let held = Store::open(&well.url()).unwrap();
    let held = held.lock_with("c", options).unwrap();
    held.acquire(Wait::No, None).unwrap();
    std::thread::sleep(ms(4500));
    held.ensure_held().unwrap();
    deaf.resume();
}

#[test]
fn passwords_are_asked_for_and_checked() {
    let server = RedisServer::start_with(Options {
        password: Some("secret".into()),
        ..Options::default()
    });
    assert_eq!(try_code(&server.url()), Code::Ok);
    for user in ["", ":wrong@", "nobody:secret@"] {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        let error = lock(&url, "x").try_acquire().unwrap_err();
        assert_eq!(error.code(), Code::Permission, "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
}

#[test]
fn a_server_that_cannot_write_is_unavailable_not_busy() {
    let server = RedisServer::start();
    let held = lock(&server.url(), "held");
    held.try_acquire().unwrap();
    assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert_eq!(try_code(&server.url()), Code::Unavailable);
    // What is held can be given back all the same.
    held.release().unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(try_code(&server.url()), Code::Unavailable);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(try_code(&server.url()), Code::Ok);
}

#[test]
fn odd_replies_are_errors_in_time() {
    let fake = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=300", fake.url("redis"));
    let say = |text: &str| Act::Say(text.as_bytes().to_vec());
    for (act, expected) in [
        (say("-LOADING Redis is loading\r\n"), Code::Unavailable),
        (say("-NOPERM no rights\r\n"), Code::Permission),
        (say("-ERR something new\r\n"), Code::Protocol),
        (say("HTTP/1.1 400 Bad Request\r\n"), Code::Protocol),
        (say("*2\r\n+what\r\n+ever\r\n"), Code::Protocol),
        (say(":0\r\n"), Code::Protocol),
        (say(":-1\r\n"), Code::Protocol),
        (say("$99999999999\r\n"), Code::Protocol),
        (say("*1048577\r\n"), Code::Protocol),
        (say("*2\r\n:1\r\n"), Code::Uncertain),
        (Act::SayAndClose(b"*2\r\n:1".to_vec()), Code::Uncertain),
        (Act::SayAndClose(Vec::new()), Code::Uncertain),
        (
            Act::Endless(b"$16777216\r\n".to_vec(), vec![b'x'; 4096]),
            Code::Protocol,
        ),
        (
            Act::Endless(b"+".to_vec(), vec![b'x'; 4096]),
            Code::Protocol,
        ),
        (Act::Endless(Vec::new(), b"*1\r\n".to_vec()), Code::Protocol),
    ] {
        fake.set(act.clone());
        assert_eq!(try_code(&url), expected, "{:.60}", format!("{act:?}"));
    }
}

#[test]
fn noise_never_hangs_nor_panics() {
    let fake = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=20", fake.url("redis"));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let seeds: [&[u8]; 4] = [
        b"*2\r\n:1\r\n$16\r\n1732443000000001\r\n",
        b"*2\r\n:0\r\n:1500\r\n",
        b"-NOSCRIPT No matching script\r\n",
        b"$-1\r\n",
    ];
    let handle = lock(&url, "noise");
    for _ in 0..if is_full_load() { 50_000 } else { 400 } {
        let mut bytes = seeds[random(4)].to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.insert(at, b"+-:$*0123456789\r\n"[random(17)]),
                _ => bytes.truncate(at + 1),
            }
        }
        fake.set(Act::SayAndClose(bytes.clone()));
        let start = Instant::now();
        if let Ok(Some(_)) = handle.try_acquire() {
            let _ = handle.release();
            let _ = handle.abandon();
        } else {
            let _ = handle.abandon();
        }
        assert!(start.elapsed() < SOON, "{:?}", bytes.escape_ascii());
    }
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

fn extend_all(store: &Store, claims: &[Claim]) -> Vec<Result<Answer>> {
    let wishes: Vec<_> = claims.iter().map(|claim| (claim, ms(90_000))).collect();
    let before = BootTime::now();
    let answers = store.backend().extend_many(&wishes);
    let now = BootTime::now();
    for answer in answers.iter().flatten() {
        if let Answer::Done(lease) = answer {
            let lease = lease.unwrap();
            assert!(lease >= before.after(ms(90_000)) && lease <= now.after(ms(90_000)));
        }
    }
    assert_eq!(answers.len(), claims.len());
    answers
}

#[test]
fn five_hundred_leases_are_lengthened_in_one_round_trip() {
    let server = RedisServer::start();
    for dialect in ["native", "symfony"] {
        let proxy = Proxy::start(server.port());
        let url = format!("{}?dialect={dialect}&io_timeout=20000", proxy.url());
        let store = Store::open(&url).unwrap();
        let stem = unique("many");
        let names: Vec<_> = (0..500).map(|number| format!("{stem}/{number}")).collect();
        let claims = held_claims(&store, &names);
        let done = |answers: &[Result<Answer>]| {
            let all = answers.iter();
            all.filter(|answer| matches!(answer, Ok(Answer::Done(_))))
                .count()
        };
        // The server need not know the script.
        server.command(&["SCRIPT", "FLUSH"]);
        assert_eq!(done(&extend_all(&store, &claims)), 500);
        // No reply comes before all have been asked for.
        proxy.dam(500);
        assert_eq!(done(&extend_all(&store, &claims)), 500);
        assert!(proxy.has_dam_broken());
        // One that is lost is told of itself alone.
        assert!(store.break_lock(&names[123]).unwrap());
        let answers = extend_all(&store, &claims);
        assert_eq!(done(&answers), 499);
        assert_eq!(answers[123].as_ref().unwrap(), &Answer::NotOurs);
        // Something else at a key concerns that key.
        let key = match dialect {
            "native" => server.command(&["KEYS", &format!("*:{}", names[9])]),
            _ => names[9].clone(),
        };
        server.command(&["DEL", &key]);
        server.command(&["LPUSH", &key, "x"]);
        let answers = extend_all(&store, &claims);
        assert_eq!(done(&answers), 498);
        assert_eq!(code(answers.into_iter().nth(9).unwrap()), Code::Protocol);
        // What was asked, and not answered, may have been done or not, for each of them.
        server.command(&["DEL", &key]);
        proxy.lose(1);
        for (number, answer) in extend_all(&store, &claims).into_iter().enumerate() {
            let code = answer.map_or_else(|error| error.code(), |_| Code::Ok);
            assert_eq!(code, Code::Uncertain, "{number}");
        }
        let answers = extend_all(&store, &claims);
        assert_eq!(done(&answers), 498);
        for claim in &claims {
            store.backend().release(claim).unwrap();
        }
    }
    // Nobody listens: nothing was asked.
    let down = format!("redis://127.0.0.1:{}?io_timeout=300", free_port());
    let store = Store::open(&down).unwrap();
    let direct = Store::open(&server.url()).unwrap();
    let claims = held_claims(&direct, &["a".into(), "b".into()]);
    for answer in extend_all(&store, &claims) {
        assert_eq!(code(answer), Code::Unavailable);
    }
}

/// As it comes about by itself: hundreds of locks, each acquired at its own time.
#[test]
fn a_watchdog_renews_all_leases_of_a_connection_together() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let mut options = LockOptions::default();
    (options.ttl, options.renew) = (Some(ms(9000)), Some(true));
    let store = Store::open(&proxy.url()).unwrap();
    let take = |number| {
        let name = format!("job/{number}");
        let lock = store.lock_with(&name, options.clone()).unwrap();
        lock.acquire(Wait::No, None).unwrap();
        lock
    };
    let locks: Vec<_> = (0..500).map(take).collect();
    let before = server.calls("evalsha");
    proxy.dam(500);
    until(|| proxy.has_dam_broken());
    for lock in &locks {
        lock.ensure_held().unwrap();
        lock.release().unwrap();
    }
    // Acquired, renewed, looked at, released; with room for a renewal that comes in between.
    let calls = server.calls("evalsha") - before;
    assert!(calls <= 500 * 5, "{calls}");
}

/// How many stand in the queues of this server.
fn queued(server: &RedisServer) -> usize {
    let script = "local n = 0; for _, k in ipairs(redis.call('KEYS', '*}q:*')) do n = n + redis.call('ZCARD', k) end; return n";
    server.command(&["EVAL", script, "0"]).parse().unwrap()
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
fn thousands_wait_in_one_process_at_the_cost_of_few() {
    let waiters = if is_full_load() { 10_000 } else { 3_000 };
    let server = RedisServer::start();
    for names in [1, waiters] {
        let store = Store::open(&server.url()).unwrap();
        let made = |number: usize| store.lock(format!("{names}/{}", number % names)).unwrap();
        let holders: Vec<_> = (0..names).map(made).collect();
        for holder in &holders {
            holder.acquire(Wait::No, None).unwrap();
        }
        let dispatch = Dispatch::new().unwrap();
        let locks: Vec<_> = (0..waiters).map(made).collect();
        let submit =
            |number: usize, op| dispatch.submit(&locks[number], op, number as u64).unwrap();
        let tickets: Vec<_> = (0..waiters)
            .map(|number| submit(number, Op::Acquire(Wait::Forever)))
            .collect();
        until(|| queued(&server) == waiters);
        let clients = || {
            let name = format!("name=synlock-{} ", std::process::id());
            server.command(&["CLIENT", "LIST"]).matches(&name).count()
        };
        // Those of other tests in this process talk to other servers.
        assert!(
            clients() <= 3 * if names == 1 { 1 } else { 2 },
            "{}",
            clients()
        );
        // Each asks at most once in five seconds.
        let (calls, start) = (server.calls("evalsha"), Instant::now());
        std::thread::sleep(ms(2000));
        let most = waiters as f64 * (1.0 + start.elapsed().as_secs_f64() / 5.0);
        let calls = server.calls("evalsha") - calls;
        assert!((calls as f64) < most + 100.0, "{calls}");
        // A cancel is an end without a hold.
        for number in (0..waiters).step_by(2) {
            dispatch.cancel(tickets[number]);
        }
        for (number, code) in reap(&dispatch, waiters / 2) {
            assert_eq!((number % 2, code), (0, Code::Cancelled));
        }
        assert_eq!(queued(&server), waiters / 2);
        // The others come in turn, one at a time.
        for holder in &holders {
            holder.release().unwrap();
        }
        let mut next = 1;
        for _ in 0..waiters / 2 {
            let (number, code) = reap(&dispatch, 1)[0];
            assert_eq!(code, Code::Ok);
            assert!(names > 1 || number == next, "{number} in place of {next}");
            next += 2;
            locks[number as usize].release().unwrap();
        }
        assert_eq!(queued(&server), 0);
        assert!(store.list(b"", None, 10).unwrap().locks.is_empty());
    }
}

#[test]
fn connections_have_a_name_where_the_server_allows_it() {
    let server = RedisServer::start();
    let one = lock(&server.url(), "n");
    one.try_acquire().unwrap().unwrap();
    let name = format!("name=synlock-{} ", std::process::id());
    let clients = server.command(&["CLIENT", "LIST"]);
    assert_eq!(clients.matches(&name).count(), 1, "{clients}");
    assert_eq!(server.calls("client|setname"), 1);
    one.release().unwrap();
    // Without the right to, it works without a name.
    let rules = ["ACL", "SETUSER", "default", "-client|setname"];
    assert_eq!(server.command(&rules), "OK");
    assert_eq!(
        try_code(&format!("{}?prefix=apart:", server.url())),
        Code::Ok
    );
}

#[test]
fn waiting_for_a_free_lock_asks_seldom_and_hears_at_once() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let (one, two) = (store.lock("n").unwrap(), store.lock("n").unwrap());
    assert!(store.wait_free("n", Wait::No).unwrap());
    one.try_acquire().unwrap().unwrap();
    assert!(!store.wait_free("n", Wait::No).unwrap());
    let before = server.calls("evalsha") + server.calls("eval");
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // In slices, as hosts wait that must look at signals in between.
            for _ in 0..200 {
                if store.wait_free("n", Wait::For(ms(20))).unwrap() {
                    return true;
                }
            }
            false
        });
        std::thread::sleep(ms(1500));
        // A first look, one that registers, and what a script costs that the server does not know.
        let asked = server.calls("evalsha") + server.calls("eval") - before;
        assert!((2..=3).contains(&asked), "{asked} requests");
        // Handed on to a waiter the lock is not free.
        let waiter = scope.spawn(|| two.acquire(Wait::For(ms(4000)), None).map(drop));
        while store.inspect("n").unwrap().waiters != Some(1) {
            std::thread::sleep(ms(1));
        }
        one.release().unwrap();
        waiter.join().unwrap().unwrap();
        std::thread::sleep(ms(100));
        assert!(!watcher.is_finished());
        let published = server.calls("publish");
        two.release().unwrap();
        assert!(watcher.join().unwrap());
        assert_eq!(server.calls("publish") - published, 1);
    });
    // Nothing is left behind.
    assert_eq!(server.command(&["KEYS", "*}w:*"]), "");
    // A look goes on with no watch that was given up: its word may not have been read.
    one.try_acquire().unwrap().unwrap();
    assert!(!store.wait_free("n", Wait::For(ms(20))).unwrap());
    one.release().unwrap();
    assert!(store.wait_free("n", Wait::No).unwrap());
}

#[test]
fn a_watch_hears_of_a_lease_that_ends() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let held = leased(&server.url(), "n", ms(300));
    held.try_acquire().unwrap().unwrap();
    let before = server.calls("evalsha");
    assert!(store.wait_free("n", Wait::For(ms(4000))).unwrap());
    // Neither a waiter nor a poll was needed: it was known when the lease would end.
    assert!(server.calls("evalsha") - before <= 4);
    assert_eq!(code(held.release()), Code::Lost);
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
fn losses_are_told_and_tokens_grow_over_flushes_and_restarts() {
    let mut server = RedisServer::start();
    let one = lock(&server.url(), "n");
    let mut last = 0;
    for round in 0..if is_full_load() { 150 } else { 9 } {
        let fence = one.try_acquire().unwrap().unwrap().fence.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        match round % 3 {
            0 => {
                server.command(&["FLUSHALL"]);
            }
            1 => server.restart(),
            _ => {
                server.command(&["SCRIPT", "FLUSH"]);
                one.ensure_held().unwrap();
                one.release().unwrap();
                continue;
            }
        }
        assert_eq!(code(one.ensure_held()), Code::Lost);
        assert_eq!(code(one.release()), Code::Lost);
        // Without asking before, too.
        one.try_acquire().unwrap().unwrap();
        server.restart();
        assert_eq!(code(one.release()), Code::Lost);
    }
}

#[test]
fn a_lost_reply_is_made_good_or_uncertain() {
    let server = RedisServer::start();
    let direct = server.url();
    // The scripts are known to the server.
    let known = leased(&direct, "known", ms(5000));
    known.try_acquire().unwrap();
    known.refresh(None).unwrap();
    known.release().unwrap();
    let dialects = [
        "native",
        "plain",
        "symfony",
        "redisson",
        "python-redis-lock",
        "redis-semaphore",
    ];
    let lost: u32 = dialects
        .iter()
        .map(|dialect| lose_replies(&server, "", &format!("?dialect={dialect}"), 7))
        .sum();
    assert!(lost >= 24, "{lost} replies lost");
}

/// By commands alone a verb has several requests, each of which may be the one.
#[test]
fn a_lost_reply_of_a_command_is_made_good_or_uncertain() {
    let server = RedisServer::start_with(Options {
        valkey: true,
        ..Options::default()
    });
    let rules = "ACL SETUSER peer on >secret ~* &* +@all -@scripting";
    assert_eq!(server.command(&rules.split(' ').collect::<Vec<_>>()), "OK");
    let lost = lose_replies(&server, "peer:secret@", "?dialect=plain", 9);
    assert!(lost >= 14, "{lost} replies lost");
}

/// Loses each reply up to the last, and asks what had come of it; how many were lost.
fn lose_replies(server: &RedisServer, user: &str, query: &str, last: i64) -> u32 {
    let allowed = |code: Code| matches!(code, Code::Ok | Code::Busy | Code::Uncertain);
    let at = |url: String| format!("{}{query}", url.replace("://", &format!("://{user}")));
    let direct = at(server.url());
    let mut lost = 0;
    for _ in 0..if is_full_load() { 100 } else { 2 } {
        for k in 1..=last {
            // A new proxy, so that the store begins without a connection.
            let proxy = Proxy::start(server.port());
            let name = unique("lost");
            let ours = leased(&at(proxy.url()), &name, ms(60_000));
            let other = lock(&direct, &name);
            proxy.lose(k);
            let acquired = match ours.try_acquire() {
                Ok(None) => Code::Busy,
                result => code(result),
            };
            assert!(allowed(acquired), "reply {k}: acquire {acquired:?}");
            if acquired == Code::Ok {
                let store = Store::open(&direct).unwrap();
                assert_eq!(store.inspect(&name).unwrap().holders.len(), 1);
                assert!(other.try_acquire().unwrap().is_none());
                let refreshed = code(ours.refresh(None));
                assert!(allowed(refreshed), "reply {k}: refresh {refreshed:?}");
                let released = code(ours.release());
                assert!(allowed(released), "reply {k}: release {released:?}");
            }
            lost += u32::from(proxy.has_lost());
            // No ghost stays behind, not even for its TTL.
            other.acquire(Wait::For(SOON), None).unwrap();
            other.release().unwrap();
        }
    }
    lost
}

#[test]
fn a_request_that_was_given_up_does_nothing_after_its_release() {
    let server = RedisServer::start();
    let direct = Store::open(&server.url()).unwrap();
    let known = direct.lock("known").unwrap();
    known.try_acquire().unwrap();
    known.release().unwrap();
    for name in ["one", "two"] {
        let proxy = Proxy::start(server.port());
        let ours = leased(
            &format!("{}?io_timeout=200", proxy.url()),
            name,
            ms(600_000),
        );
        let calls = server.calls("evalsha");
        proxy.keep_next();
        assert_eq!(code(ours.try_acquire()), Code::Uncertain);
        assert_eq!(proxy.late(), Late::Kept);
        // It is released in the background, on another connection.
        until(|| server.calls("evalsha") > calls);
        proxy.send_late();
        until(|| !matches!(proxy.late(), Late::Kept | Late::Sent));
        assert!(direct.inspect(name).unwrap().holders.is_empty(), "{name}");
    }
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

#[cfg(feature = "redis-tls")]
#[test]
fn tls_fails_closed() {
    let server = RedisServer::start_with(Options {
        password: Some("secret".into()),
        tls: true,
        ..Options::default()
    });
    let ca = server.file("ca.crt").display().to_string();
    let tls = |host: &str, query: &str| {
        format!(
            "rediss://:secret@{host}:{}?io_timeout=500{query}",
            server.tls_port()
        )
    };
    let trusted = format!("&ca_file={ca}");
    assert_eq!(try_code(&tls("localhost", &trusted)), Code::Ok);
    assert_eq!(try_code(&tls("127.0.0.1", "&insecure=1")), Code::Ok);
    // Signed by nobody we know.
    assert_eq!(try_code(&tls("localhost", "")), Code::Permission);
    // For another host: 127.0.0.2 is the same server, and not in its certificate.
    server.command(&["CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2"]);
    assert_eq!(try_code(&tls("127.0.0.2", &trusted)), Code::Permission);
    // Expired.
    let folder = server.file("");
    openssl(
        &folder,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "old.crt",
            "-days",
            "-1",
            "-extfile",
            "ext",
        ],
    );
    let old = server.file("old.crt").display().to_string();
    assert_eq!(
        server.command(&["CONFIG", "SET", "tls-cert-file", &old]),
        "OK"
    );
    // Another store, since the first has a connection from before.
    let apart = format!("{trusted}&prefix=apart:");
    assert_eq!(try_code(&tls("localhost", &apart)), Code::Permission);
    // Servers that speak no TLS, stall or hang up in the handshake hear no password.
    for act in [
        Act::Say(b"-ERR unknown command\r\n".to_vec()),
        Act::SayAndClose(vec![0x15, 3, 3, 0, 2, 2, 40]),
        Act::SayAndClose(Vec::new()),
        Act::Mute,
        Act::Say(vec![0x16, 3, 3]),
    ] {
        let fake = Fake::start(act.clone());
        let url = fake.url("rediss").replace("127.0.0.1", ":secret@localhost");
        let found = try_code(&format!("{url}?io_timeout=500&insecure=1"));
        assert!(
            matches!(found, Code::Unavailable | Code::Protocol),
            "{act:?}: {found:?}"
        );
        let heard = fake.heard();
        assert!(!heard.is_empty() && !heard.windows(6).any(|word| word == b"secret"));
        assert_eq!(heard[0], 0x16, "a TLS handshake and nothing else");
    }
}
