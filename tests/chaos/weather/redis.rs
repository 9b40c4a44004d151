//! Rows 12, 13 and 17: a Redis whose wall clock jumps, whose memory is full, whose network fails.

use crate::calls::{Stalls, TIMEOUT, in_time};
use crate::network::insist;
use crate::{code, leased, let_sigpipe_kill, ms};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use synlock_core::{Code, LockOptions, Store, Wait};
use synlock_tests::apart;
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::page::FencedResource;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::redis_fake::{Act, Fake, Fault, Proxy};
use synlock_tests::services::wall::Wall;

/// The server's clock jumps while locks are held: who has lost is told and fenced off, and no time that is
/// shown is more than was asked for.
#[test]
fn clock_jumps() {
    let wall = Wall::new();
    let server = RedisServer::start_with(Options {
        environment: wall.environment(),
        ..Options::default()
    });
    let before = server.command(&["TIME"]);
    wall.ahead(Duration::from_secs(100_000));
    let after = server.command(&["TIME"]);
    let seconds = |time: &str| time.lines().next().unwrap().parse::<u64>().unwrap();
    assert!(
        seconds(&after) - seconds(&before) >= 100_000,
        "the clock is the test's"
    );
    let ttl = Duration::from_secs(10);
    for dialect in ["native", "plain", "symfony"] {
        let store = Store::open(&patient(&format!("{}?dialect={dialect}", server.url()))).unwrap();
        let resource = FencedResource::default();
        let steps = [5000, 10_001, 3_600_000];
        let (mut stolen, rounds) = (0, if is_full_load() { 70 } else { 6 });
        for round in 0..rounds {
            let jump = ms(steps[round / 2 % 3]);
            let (one, two) = (leased(&store, "n", ttl), leased(&store, "n", ttl));
            // The time is right, or ahead by an hour after a step back.
            wall.back(Duration::ZERO);
            one.acquire(Wait::For(SOON), None).unwrap();
            let token = one.fencing_token().unwrap();
            assert!(
                resource.write(1, token),
                "round {round}: a fresh token is refused"
            );
            if round % 2 == 0 {
                wall.ahead(jump);
            } else {
                wall.back(jump);
            }
            let left = one.remaining().unwrap();
            assert!(left <= ttl, "{left:?}");
            match two.acquire(Wait::No, None) {
                Ok(taken) => {
                    stolen += 1;
                    assert!(resource.write(2, taken.fence.unwrap()));
                    assert!(!resource.write(1, token), "round {round}: a stale write");
                    assert_eq!(code(one.ensure_held()), Code::Lost, "round {round}");
                    assert_eq!(code(one.release()), Code::Lost);
                    assert!(two.remaining().unwrap() <= ttl);
                    two.release().unwrap();
                }
                Err(error) => {
                    assert_eq!(error.code(), Code::Busy, "{error}");
                    one.ensure_held().unwrap();
                    let held = &store.inspect("n").unwrap().holders[0];
                    assert!(held.remaining.unwrap() <= ttl + jump, "{held:?}");
                    one.refresh(None).unwrap();
                    assert!(one.remaining().unwrap() <= ttl);
                    assert!(resource.write(1, token));
                    one.release().unwrap();
                }
            }
        }
        assert!(
            stolen >= rounds / 4,
            "{stolen} of {rounds} leases ended by a jump"
        );
    }
}

/// Writes to the cache that the server also is, through one connection.
fn fill(server: &RedisServer, count: u64, ttl: bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let value = "v".repeat(200);
    let mut line = String::new();
    for batch in 0..count / 500 {
        let mut text = String::new();
        for number in 0..500 {
            let end = if ttl { " PX 600000" } else { "" };
            text += &format!("SET cache:{batch}:{number} {value}{end}\r\n");
        }
        stream.write_all(text.as_bytes()).unwrap();
        for _ in 0..500 {
            line.clear();
            answers.read_line(&mut line).unwrap();
        }
    }
}

/// A cache that throws locks away says so once at first use, and each loss is told by the next check.
#[test]
fn eviction() {
    let policies = [
        "allkeys-lru",
        "allkeys-random",
        "allkeys-lfu",
        "volatile-lru",
        "volatile-ttl",
    ];
    let mut lost = HashMap::new();
    for policy in policies {
        let memory = ["--maxmemory", "4mb", "--maxmemory-policy", policy];
        let server = RedisServer::start_with(Options {
            extra: memory.map(str::to_owned).to_vec(),
            ..Options::default()
        });
        let store = Store::open(&patient(&server.url())).unwrap();
        let warned = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&warned);
        let id = store.observe_warnings(Arc::new(move |event| {
            heard.lock().unwrap().push(event.message.clone());
        }));
        let locks: Vec<_> = (0..40)
            .map(|number| leased(&store, &format!("lock{number}"), ms(300_000)))
            .collect();
        for lock in &locks {
            lock.acquire(Wait::No, None).unwrap();
        }
        let words = warned.lock().unwrap().clone();
        let tells = words.iter().filter(|words| words.contains(policy)).count();
        assert_eq!(tells, 1, "{policy}: {words:?}");
        fill(
            &server,
            if is_full_load() { 100_000 } else { 25_000 },
            policy.starts_with("volatile"),
        );
        // The truth is the server's; told is what the handles say. Each command may throw away more.
        let is_there = |number: usize| {
            let key = format!("synlock:*}}:lock{number}");
            !server.command(&["KEYS", &key]).is_empty()
        };
        for (number, lock) in locks.iter().enumerate() {
            let was_there = is_there(number);
            let found = code(lock.ensure_held());
            assert!(was_there || found == Code::Lost, "{policy}: a silent loss");
            assert!(
                found == Code::Ok || !is_there(number),
                "{policy}: {found:?}"
            );
            assert!(matches!(found, Code::Ok | Code::Lost), "{found:?}");
            *lost.entry(policy).or_insert(0) += u32::from(found == Code::Lost);
        }
        store.unobserve(id);
    }
    assert!(
        lost.values().all(|count| *count > 0),
        "every policy throws away: {lost:?}"
    );
    // A server that throws nothing away is nothing to warn of.
    for extra in [vec![], vec!["--maxmemory", "100mb"]] {
        let server = RedisServer::start_with(Options {
            extra: extra.into_iter().map(str::to_owned).collect(),
            ..Options::default()
        });
        let store = Store::open(&patient(&server.url())).unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&heard);
        store.observe_warnings(Arc::new(move |_| {
            count.fetch_add(1, SeqCst);
        }));
        store.lock("n").unwrap().try_acquire().unwrap();
        assert_eq!(heard.load(SeqCst), 0);
    }
}

/// Each verb at each step of the protocol, in each weather; then no reply belongs to another request.
#[test]
fn partitions_and_stalls() {
    let server = RedisServer::start();
    let stalls = Stalls::watch();
    let direct = Store::open(&patient(&server.url())).unwrap();
    // The scripts are known to the server.
    let known = leased(&direct, "known", ms(60_000));
    known.acquire(Wait::No, None).unwrap();
    known.refresh(None).unwrap();
    direct.inspect("known").unwrap();
    known.release().unwrap();
    let ttl = ms(3000);
    let allowed = |found: Code, began: Instant| match found {
        Code::Ok | Code::Unavailable | Code::Uncertain | Code::Busy | Code::NotHeld => true,
        Code::Lost => began.elapsed() >= ttl,
        _ => false,
    };
    let mut broken = 0;
    for fault in [Fault::Silence, Fault::OneWay, Fault::Reset, Fault::Cut] {
        for k in 1..=if is_full_load() { 8 } else { 5 } {
            let proxy = Proxy::start(server.port());
            let url = format!("{}?io_timeout={}", proxy.url(), TIMEOUT.as_millis());
            let store = Store::open(&url).unwrap();
            let name = unique("weather");
            let mut options = LockOptions::default();
            options.ttl = Some(ttl);
            let lock = store.lock_with(&name, options).unwrap();
            let began = Instant::now();
            proxy.fail(k, fault);
            let what = format!("{fault:?} at reply {k}");
            let mut codes = vec![in_time(&stalls, &what, || lock.try_acquire())];
            codes.push(in_time(&stalls, &what, || lock.refresh(None)));
            codes.push(in_time(&stalls, &what, || store.inspect(&name)));
            codes.push(in_time(&stalls, &what, || lock.release()));
            assert!(
                codes.iter().all(|found| allowed(*found, began)),
                "{what}: {codes:?}"
            );
            broken += u32::from(codes.iter().any(|found| *found != Code::Ok));
            let _ = lock.abandon();
            proxy.heal();
            // Each answer is of the lock that was asked for.
            for number in 0..12 {
                let name = format!("{name}/{number}");
                let mut options = LockOptions::default();
                options.label = Some(format!("label of {name}").into());
                let lock = store.lock_with(&name, options).unwrap();
                insist(|| lock.acquire(Wait::For(SOON), None));
                let found = insist(|| store.inspect(&name));
                assert_eq!(found.name, name.as_bytes());
                let label = found.holders[0].label.as_deref();
                assert_eq!(label, Some(&*format!("label of {name}")), "{what}");
                let released = code(lock.release());
                assert!(
                    matches!(released, Code::Ok | Code::Uncertain),
                    "{what}: {released:?}"
                );
            }
            // No ghost outlives its lease.
            let after = direct.lock(&name).unwrap();
            after.acquire(Wait::For(SOON), None).unwrap();
            after.release().unwrap();
        }
    }
    assert!(broken >= 8, "{broken} calls met the weather");
}

/// A server that stops (SIGSTOP) between two verbs, and goes on.
#[test]
fn paused_server() {
    let server = RedisServer::start();
    let stalls = Stalls::watch();
    let url = format!("{}?io_timeout={}", server.url(), TIMEOUT.as_millis());
    let store = Store::open(&url).unwrap();
    for round in 0..if is_full_load() { 20 } else { 2 } {
        for step in 0..5 {
            let name = format!("paused{round}/{step}");
            let (lock, began) = (leased(&store, &name, ms(2000)), Instant::now());
            if step > 0 {
                insist(|| lock.acquire(Wait::For(SOON), None));
            }
            server.pause();
            let what = format!("step {step}");
            let found = in_time(&stalls, &what, || match step {
                0 => lock.try_acquire().map(drop),
                1 => lock.refresh(None).map(drop),
                2 => lock.ensure_held(),
                3 => store.inspect(&name).map(drop),
                _ => lock.release().map(drop),
            });
            let ran_out = found == Code::Lost && began.elapsed() >= ms(2000);
            assert!(
                matches!(found, Code::Unavailable | Code::Uncertain) || ran_out,
                "{what}: {found:?}"
            );
            server.resume();
            let _ = lock.abandon();
            let _ = lock.release();
            let later = store.lock(&name).unwrap();
            insist(|| later.acquire(Wait::For(SOON), None));
            let released = code(later.release());
            assert!(
                matches!(released, Code::Ok | Code::Uncertain),
                "{what}: {released:?}"
            );
        }
    }
    // One that takes connections and says nothing.
    let mute = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout={}", mute.url("redis"), TIMEOUT.as_millis());
    let store = Store::open(&url).unwrap();
    let found = in_time(&stalls, "mute", || store.lock("n").unwrap().try_acquire());
    assert_eq!(found, Code::Unavailable);
}

/// Of several servers behind one name each would have locks of its own.
#[test]
fn a_name_with_several_addresses_is_warned_of() {
    let server = RedisServer::start();
    if let Some(folder) = apart::folder() {
        for (host, times) in [("one.test", 0), ("many.test", 1)] {
            let store =
                Store::open(&patient(&format!("redis://{host}:{}", server.port()))).unwrap();
            let told = apart::cautions(&store);
            for _ in 0..2 {
                store.lock("n").unwrap().try_acquire().unwrap().unwrap();
            }
            assert_eq!(
                apart::count(&told, "several addresses"),
                times,
                "{folder}: {told:?}"
            );
        }
        return;
    }
    let folder = server.file("");
    apart::again(
        "redis::a_name_with_several_addresses_is_warned_of",
        &["--mount"],
        &folder,
        "printf '127.0.0.1 localhost one.test\\n127.0.0.1 many.test\\n127.0.0.2 many.test\\n' > hosts && \
         mount --bind hosts /etc/hosts",
    );
}

/// The server stands still for a third of the lease.
#[test]
fn a_lease_that_is_short_beside_the_answer_is_warned_of() {
    const SAYS: &str = "the way to the server";
    let server = RedisServer::start();
    let store = Store::open(&format!("{}?io_timeout=20000", server.url())).unwrap();
    let told = apart::cautions(&store);
    leased(&store, "long", Duration::from_secs(600))
        .try_acquire()
        .unwrap()
        .unwrap();
    assert_eq!(apart::count(&told, SAYS), 0, "{told:?}");
    let late = |name: &str| {
        server.pause();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(ms(2200));
                server.resume();
            });
            leased(&store, name, ms(6000))
                .try_acquire()
                .unwrap()
                .unwrap();
        });
    };
    // Once may be a busy moment.
    late("a");
    assert_eq!(apart::count(&told, SAYS), 0, "{told:?}");
    ["b", "c", "d"].into_iter().for_each(late);
    assert_eq!(apart::count(&told, SAYS), 1, "{told:?}");
}

#[test]
fn a_server_that_goes_raises_no_signal() {
    let_sigpipe_kill();
    let mut server = RedisServer::start_with(Options {
        tls: true,
        ..Options::default()
    });
    for url in [server.url(), server.socket_url(), server.tls_url()] {
        let store = Store::open(&url).unwrap();
        let held = leased(&store, "n", Duration::from_secs(60));
        insist(|| held.acquire(Wait::For(SOON), None));
        server.kill();
        let verbs: [&dyn Fn() -> Code; 4] = [
            &|| code(held.refresh(None)),
            &|| code(held.ensure_held()),
            &|| code(store.inspect("n")),
            &|| code(held.release()),
        ];
        for verb in verbs {
            let found = verb();
            assert!(
                matches!(found, Code::Unavailable | Code::Uncertain),
                "{url}: {found:?}"
            );
        }
        server.restart();
        // What came with the old connections is over with them.
        let after = leased(&store, "after", Duration::from_secs(60));
        insist(|| after.acquire(Wait::For(SOON), None));
        let _ = after.release();
    }
}
