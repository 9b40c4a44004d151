//! Hundreds of holds that are renewed together, and thousands of waiters.

use crate::{code, ms, reap, until};
use std::time::Instant;
use synlock_core::store::{Answer, Claim};
use synlock_core::{BootTime, Code, Dispatch, LockOptions, Op, Result, Store, Wait};
use synlock_tests::claims::held_claims;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::Proxy;

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
        until(|| {
            // Counting takes the server as long as a few hundred of them take it.
            std::thread::sleep(ms(200));
            queued(&server) == waiters
        });
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
