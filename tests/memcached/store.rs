//! What the suites for every store do not ask of `memcached:`: its faults, its times, its items.

use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Result, Store, Wait};
use synlock_tests::apart;
use synlock_tests::late::acquire_late;
use synlock_tests::load::{SOON, most};
use synlock_tests::memcached::{MemcachedServer, Options};
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::{Act, Fake, Proxy};

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn lock(url: &str, name: &str) -> Lock {
    Store::open(url).unwrap().lock(name).unwrap()
}

fn leased(url: &str, name: &str, ttl: Duration) -> Result<Lock> {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    Store::open(url).unwrap().lock_with(name, options)
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

/// Tries once; the code, which must have come in time.
fn try_code(url: &str) -> Code {
    let start = Instant::now();
    let code = code(lock(url, &unique("fault")).acquire(Wait::No, None));
    assert!(start.elapsed() < SOON, "{url}: {:?}", start.elapsed());
    code
}

#[test]
fn a_server_that_is_down_deaf_or_stopped_is_unavailable_in_time() {
    let down = format!("memcached://127.0.0.1:{}?io_timeout=300", free_port());
    assert_eq!(try_code(&down), Code::Unavailable);
    let mute = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=300", mute.url("memcached"));
    assert_eq!(try_code(&url), Code::Unavailable);
    let server = MemcachedServer::start();
    let url = format!("{}?io_timeout=300", server.url());
    let held = lock(&url, "held");
    held.acquire(Wait::No, None).unwrap();
    server.pause();
    // Whether it was carried out is unknown: the server reads it when it goes on.
    assert_eq!(code(held.refresh(None)), Code::Unavailable);
    assert_eq!(try_code(&url), Code::Unavailable);
    let start = Instant::now();
    let url = format!("{}?io_timeout=60000", server.url());
    let result = lock(&url, "x").acquire(Wait::For(ms(200)), None);
    assert!(
        result.is_err() && start.elapsed() < SOON,
        "{:?}",
        start.elapsed()
    );
    server.resume();
    held.ensure_held().unwrap();
    held.release().unwrap();
    assert_eq!(try_code(&url), Code::Ok);
}

#[test]
fn a_login_is_asked_for_and_checked() {
    let server = MemcachedServer::start_with(Options {
        login: Some(("me".into(), "secret".into())),
        ..Options::default()
    });
    let with = |login: &str| format!("memcached://{login}127.0.0.1:{}", server.port());
    assert_eq!(try_code(&with("me:secret@")), Code::Ok);
    for login in ["", "me:wrong@", "you:secret@"] {
        let error = lock(&with(login), "x").try_acquire().unwrap_err();
        assert_eq!(error.code(), Code::Permission, "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    // A server that asks for no login would keep it for everybody to read.
    let open = MemcachedServer::start();
    let url = format!("memcached://me:secret@127.0.0.1:{}", open.port());
    assert_eq!(try_code(&url), Code::Ok);
    assert_eq!(open.say(b"mg login v\r\n"), "EN\n");
}

#[test]
fn a_full_server_frees_nobodys_lock() {
    let server = MemcachedServer::start_with(Options {
        extra: ["-m", "2", "-M"].map(str::to_owned).into(),
        ..Options::default()
    });
    let held = lock(&server.url(), "held");
    held.acquire(Wait::No, None).unwrap();
    // Items of all sizes that a lock may have, until the server takes no more.
    for size in [40, 60, 90, 120, 160] {
        let value = "x".repeat(size);
        for part in 0.. {
            let words: String = (0..500)
                .map(|n| format!("ms fill-{size}-{part}-{n} {size}\r\n{value}\r\n"))
                .collect();
            if server.say(words.as_bytes()).contains("out of memory") {
                break;
            }
        }
    }
    let other = lock(&server.url(), "held");
    for _ in 0..3 {
        assert_eq!(code(other.acquire(Wait::No, None)), Code::Busy);
    }
    held.ensure_held().unwrap();
    // Refused perhaps, never lost.
    let refreshed = code(held.refresh(None));
    assert!(
        matches!(refreshed, Code::Ok | Code::Unavailable),
        "{refreshed:?}"
    );
    held.ensure_held().unwrap();
    let error = lock(&server.url(), "new").try_acquire().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(error.message().contains("out of memory"), "{error:?}");
    held.release().unwrap();
}

#[test]
fn odd_replies_are_errors_in_time() {
    let fake = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=300", fake.url("memcached"));
    let say = |text: &str| Act::Say(text.as_bytes().to_vec());
    for (act, expected) in [
        (say("ERROR\r\n"), Code::Unsupported),
        (say("CLIENT_ERROR unauthenticated\r\n"), Code::Permission),
        (say("CLIENT_ERROR bad data chunk\r\n"), Code::Protocol),
        (
            say("SERVER_ERROR out of memory\r\nEN\r\n"),
            Code::Unavailable,
        ),
        (say("HTTP/1.1 400 Bad Request\r\n"), Code::Protocol),
        (say("STORED\r\nVA 9999999 c1 t1\r\n"), Code::Protocol),
        (say("STORED\r\nVA 1 c1 t1\r\nabc\r\n"), Code::Protocol),
        (say("STORED\r\nVA 1\r\na\r\n"), Code::Protocol),
        (say("STORED\r\nHD\r\n"), Code::Protocol),
        (say("STORED\r\n"), Code::Uncertain),
        (say("STORED\r\nVA 40 c1 t1\r\nabc"), Code::Uncertain),
        (Act::SayAndClose(b"STORED".to_vec()), Code::Uncertain),
        (Act::SayAndClose(Vec::new()), Code::Uncertain),
        (
            Act::Endless(b"STOR".to_vec(), vec![b'x'; 4096]),
            Code::Protocol,
        ),
        (
            Act::Endless(Vec::new(), b"STORED\r\n".to_vec()),
            Code::Protocol,
        ),
    ] {
        fake.set(act.clone());
        assert_eq!(try_code(&url), expected, "{:.60}", format!("{act:?}"));
    }
}

#[test]
fn something_else_at_the_key_is_told_and_left_alone() {
    let server = MemcachedServer::start();
    server.say(b"set synlock:page 0 0 5\r\nhello\r\n");
    let lock = lock(&server.url(), "page");
    assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
    assert_eq!(code(lock.store().inspect("page")), Code::Protocol);
    assert!(server.say(b"mg synlock:page v\r\n").contains("hello"));
}

/// Whether the item at a key is there.
fn stands(server: &MemcachedServer, key: &str) -> bool {
    server
        .say(format!("mg {key} t\r\n").as_bytes())
        .starts_with("HD")
}

/// Whether the item of a hold is there as long as its owner was promised; at full load, it is there little longer.
fn lives_long_enough(server: &MemcachedServer, ttl: Duration) -> bool {
    let name = unique("life");
    let lock = leased(&server.url(), &name, ttl).unwrap();
    lock.set_auto_release(false);
    let before = Instant::now();
    lock.acquire(Wait::No, None).unwrap();
    let key = format!("synlock:{name}");
    while stands(server, &key) {
        std::thread::sleep(ms(20));
    }
    // It was told to be gone by then.
    let life = before.elapsed();
    let longest = Duration::from_secs(ttl.as_millis().div_ceil(1000) as u64 + 2);
    assert!(life <= most(longest + ms(500)), "{ttl:?}: lived {life:?}");
    life >= ttl
}

/// The server's clock shows whole seconds, and is set once in a second. A tick that is a little late may come in the
/// second after its own: then what was dated just before it is nearly two seconds older at once.
#[test]
fn an_item_lives_through_a_tick_that_is_late() {
    let server = MemcachedServer::start();
    let far = 2_000_000;
    server.say(format!("set clock 0 {far} 1\r\nx\r\n").as_bytes());
    let clock = || {
        let told = server.say(b"mg clock t\r\n");
        let left = told.trim().strip_prefix("HD t").expect("the clock");
        far - left.parse::<i64>().expect("a number")
    };
    let goes_on_from = |now| {
        let end = Instant::now() + SOON;
        while clock() == now {
            assert!(Instant::now() < end, "the server's clock stands still");
            std::thread::sleep(ms(2));
        }
    };
    let wanted = if is_full_load() { 20 } else { 2 };
    let mut seen = 0;
    // Each pause moves the tick by a tenth of a second or two, so that it comes round in some rounds.
    for _ in 0..wanted * 40 {
        let name = unique("tick");
        let lock = leased(&server.url(), &name, ms(1000)).unwrap();
        lock.set_auto_release(false);
        goes_on_from(clock());
        std::thread::sleep(ms(900));
        let before = clock();
        let asked = Instant::now();
        lock.acquire(Wait::No, None).unwrap();
        let promised = asked + lock.remaining().unwrap();
        server.pause();
        std::thread::sleep(ms(230));
        server.resume();
        goes_on_from(before);
        let jump = clock() - before;
        // By no more than a second, or the machine stood still.
        if jump != 2 || asked.elapsed() > ms(500) {
            continue;
        }
        while stands(&server, &format!("synlock:{name}")) {
            std::thread::sleep(ms(10));
        }
        let gone = Instant::now();
        assert!(gone >= promised, "ended {:?} early", promised - gone);
        seen += 1;
        if seen == wanted {
            return;
        }
    }
    panic!("the clock went on by two seconds {seen} times");
}

#[test]
fn an_item_lives_as_long_as_its_lease_and_little_longer() {
    let server = MemcachedServer::start();
    let phases: u32 = if is_full_load() { 200 } else { 10 };
    let batch = 40;
    for first in (0..phases).step_by(batch) {
        std::thread::scope(|scope| {
            for phase in first..phases.min(first + batch as u32) {
                for ttl in [1000, 1500, 2000, 5000].map(ms) {
                    let server = &server;
                    scope.spawn(move || {
                        std::thread::sleep(ms(1000) * phase / phases);
                        // A machine that stands still lets the server's clock stand, too.
                        let most = if is_full_load() { 1 } else { 5 };
                        let is_kept = (0..most).any(|_| lives_long_enough(server, ttl));
                        assert!(is_kept, "{ttl:?}: ended early");
                    });
                }
            }
        });
    }
    // At the ends of the range.
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let long = leased(&server.url(), "long", days(30)).unwrap();
    long.acquire(Wait::No, None).unwrap();
    assert!(stands(&server, "synlock:long"));
    long.ensure_held().unwrap();
    long.refresh(None).unwrap();
    long.ensure_held().unwrap();
    let left = long.remaining().unwrap();
    assert!(left < days(30) && left > days(29), "{left:?}");
    for odd in [
        Duration::ZERO,
        ms(999),
        days(30) + ms(1),
        Duration::from_secs(2_592_001),
        Duration::from_secs(1 << 31),
    ] {
        let made = leased(&server.url(), "odd", odd);
        assert_eq!(code(made), Code::InvalidArgument, "{odd:?}");
        assert_eq!(
            code(long.refresh(Some(odd))),
            Code::InvalidArgument,
            "{odd:?}"
        );
    }
    for odd in ["0", "-1", "999", "2592000001"] {
        let url = format!("{}?ttl={odd}", server.url());
        assert_eq!(code(Store::open(&url)), Code::InvalidArgument, "{odd}");
    }
}

#[test]
fn losses_are_told() {
    let mut server = MemcachedServer::start_with(Options {
        extra: ["-m", "2"].map(str::to_owned).into(),
        ..Options::default()
    });
    let one = lock(&server.url(), "n");
    for round in 0..if is_full_load() { 60 } else { 6 } {
        one.acquire(Wait::No, None).unwrap();
        match round % 3 {
            0 => assert_eq!(server.say(b"flush_all\r\n"), "OK\n"),
            1 => server.restart(),
            _ => {
                // Others fill the memory, and the server makes room. Looking at it keeps an item young.
                let mut part = 0;
                while server.say(b"me synlock:n\r\n") != "EN\n" {
                    for size in [50, 70, 90, 110, 130] {
                        let value = "x".repeat(size);
                        let words: String = (0..4_000)
                            .map(|n| format!("ms f{part}-{size}-{n} {size} q\r\n{value}\r\n"))
                            .collect();
                        server.say(words.as_bytes());
                    }
                    part += 1;
                    assert!(part < 50, "nothing is evicted");
                }
            }
        }
        assert_eq!(code(one.ensure_held()), Code::Lost);
        assert_eq!(code(one.release()), Code::Lost);
    }
    // Whoever comes now is warned of a server that throws items away, and of no other.
    for (server, times) in [(&server, 1), (&MemcachedServer::start(), 0)] {
        let store = Store::open(&format!("{}?label=new", server.url())).unwrap();
        let told = apart::cautions(&store);
        for name in ["a", "b"] {
            store.lock(name).unwrap().try_acquire().unwrap().unwrap();
        }
        assert_eq!(apart::count(&told, "items away"), times, "{told:?}");
        assert_eq!(told.lock().unwrap().len(), times, "{told:?}");
    }
}

#[test]
fn a_release_never_frees_the_next_owner() {
    let mut server = MemcachedServer::start();
    // After a restart the server counts anew: the next owner's item has the number that ours had.
    let (a, b) = (lock(&server.url(), "n"), lock(&server.url(), "n"));
    a.acquire(Wait::No, None).unwrap();
    server.restart();
    let fence = b.acquire(Wait::No, None).unwrap().fence;
    assert_eq!(fence, a.fencing_token(), "the server counts otherwise");
    assert_eq!(code(a.release()), Code::Lost);
    b.ensure_held().unwrap();
    b.release().unwrap();

    // Broken and taken by another while its owner lets go of it.
    let rounds = if is_full_load() { 10_000 } else { 1_000 };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let a = lock(&server.url(), "race");
            while !over.load(Ordering::Relaxed) {
                if a.try_acquire().unwrap().is_some() {
                    let released = code(a.release());
                    assert!(matches!(released, Code::Ok | Code::Lost), "{released:?}");
                }
            }
        });
        let b = lock(&server.url(), "race");
        for round in 0..rounds {
            b.store().break_lock("race").unwrap();
            if b.try_acquire().unwrap().is_some() {
                let held = code(b.ensure_held());
                over.fetch_or(held != Code::Ok, Ordering::Relaxed);
                assert_eq!(held, Code::Ok, "round {round}");
                b.release().unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
    });

    // Expired, and taken by another.
    std::thread::scope(|scope| {
        for _ in 0..if is_full_load() { 200 } else { 20 } {
            let server = &server;
            scope.spawn(move || {
                let name = unique("expired");
                let a = leased(&server.url(), &name, ms(1000)).unwrap();
                let b = lock(&server.url(), &name);
                a.acquire(Wait::No, None).unwrap();
                b.acquire(Wait::For(ms(20_000)), None).unwrap();
                assert_eq!(code(a.release()), Code::Lost);
                b.ensure_held().unwrap();
            });
        }
    });
}

#[test]
fn a_lost_reply_is_made_good_or_uncertain() {
    let server = MemcachedServer::start();
    let rounds = if is_full_load() { 100 } else { 3 };
    let allowed = |code: Code| matches!(code, Code::Ok | Code::Busy | Code::Uncertain);
    let mut lost = 0;
    for round in 0..rounds {
        let query = ["", "?dialect=symfony"][round % 2];
        let direct = format!("{}{query}", server.url());
        for k in 1..=7 {
            // A new proxy, so that the store begins without a connection.
            let proxy = Proxy::start(server.port());
            let name = unique("lost");
            let url = proxy.url().replace("redis:", "memcached:");
            let ours = leased(&format!("{url}{query}"), &name, ms(60_000)).unwrap();
            let other = lock(&direct, &name);
            proxy.lose(k);
            let acquired = code(ours.acquire(Wait::No, None));
            assert!(allowed(acquired), "reply {k}: acquire {acquired:?}");
            if acquired == Code::Ok {
                assert!(other.store().is_locked(&name).unwrap());
                assert!(other.try_acquire().unwrap().is_none());
                let refreshed = code(ours.refresh(None));
                assert!(allowed(refreshed), "reply {k}: refresh {refreshed:?}");
                ours.ensure_held().unwrap();
                let released = code(ours.release());
                assert!(allowed(released), "reply {k}: release {released:?}");
            }
            lost += u32::from(proxy.has_lost());
            // No ghost stays behind, not even for its TTL.
            other.acquire(Wait::For(SOON), None).unwrap();
            other.release().unwrap();
        }
    }
    assert!(lost >= 12, "{lost} replies lost");
}

/// A server that ends the first connection on which it hears `word`, and says `then` to it on others. Its port, and how
/// often it has heard it.
fn cuts_off(word: &'static str, then: &'static str) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(AtomicU32::new(0));
    let times = heard.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let times = times.clone();
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while let Ok(got @ 1..) = stream.read(&mut request) {
                    let says = match &request[..got] {
                        b"mn\r\n" => "MN\r\n",
                        b"stats\r\n" => "END\r\n",
                        asked if !asked.starts_with(word.as_bytes()) => "EN\r\n",
                        _ if times.fetch_add(1, Ordering::SeqCst) == 0 => return,
                        _ => then,
                    };
                    stream.write_all(says.as_bytes()).unwrap();
                }
            });
        }
    });
    (port, heard)
}

#[test]
fn an_error_after_a_lost_reply_leaves_the_outcome_open() {
    let (port, heard) = cuts_off("add ", "CLIENT_ERROR bad data chunk\r\n");
    let url = format!("memcached://127.0.0.1:{port}?io_timeout=20000");
    assert_eq!(try_code(&url), Code::Uncertain);
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

/// Whoever breaks a lock again may break the next owner's.
#[test]
fn a_lock_is_broken_once() {
    let (port, heard) = cuts_off("md ", "HD\r\n");
    let url = format!("memcached://127.0.0.1:{port}?io_timeout=20000");
    let store = Store::open(&url).unwrap();
    assert_eq!(code(store.break_lock("n")), Code::Uncertain);
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    assert!(store.break_lock("n").unwrap());
}

#[test]
fn a_request_that_was_given_up_leaves_nothing_for_its_lease() {
    let server = MemcachedServer::start();
    for query in ["", "&dialect=symfony"] {
        let behind = |proxy: &Proxy, name: &str| {
            let url = proxy.url().replace("redis:", "memcached:");
            let url = format!("{url}?io_timeout=200{query}");
            leased(&url, name, ms(600_000)).unwrap()
        };
        let (name, _ours) = acquire_late(|| Proxy::start(server.port()), behind);
        let other = lock(&format!("{}?{query}", server.url()), &name);
        other.acquire(Wait::For(SOON), None).unwrap();
        other.release().unwrap();
    }
}

#[test]
fn labels_and_long_names_stand_in_the_item() {
    let server = MemcachedServer::start();
    let store = Store::open(&server.url()).unwrap();
    let label = "50 % of\nit | é";
    let mut options = LockOptions::default();
    options.label = Some(label.into());
    let name = "n".repeat(60_000);
    let lock = store.lock_with(&name, options).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let fence = lock.fencing_token();
    lock.refresh(Some(Duration::from_secs(90))).unwrap();
    let found = store.inspect(&name).unwrap();
    assert_eq!(found.holders[0].label.as_deref(), Some(label));
    assert_eq!(found.holders[0].fence, fence);
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let item = server.say(format!("mg synlock:{}~{hash} v\r\n", &name[..100]).as_bytes());
    assert!(item.ends_with(&format!("\n{name}\n")), "{:.300}", item);
}

#[test]
fn items_of_the_first_release_are_understood() {
    let server = MemcachedServer::start();
    let vector = include_str!("../vectors/memcached-layout-1.txt");
    let mut seen = 0;
    for line in vector.lines().filter(|line| !line.starts_with('#')) {
        let [name, key, value, label, fence] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let value = value.replace("\\n", "\n");
        let words = format!("set {key} 0 60 {}\r\n{value}\r\n", value.len());
        assert_eq!(server.say(words.as_bytes()), "STORED\n");
        let name = if name == "long" {
            "x".repeat(300)
        } else {
            name.to_owned()
        };
        let lock = lock(&server.url(), &name);
        assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy, "{name:.20}");
        let holder = &lock.store().inspect(&name).unwrap().holders[0];
        assert_eq!(holder.owner, "0123abcd");
        assert_eq!(
            (holder.host.as_deref(), holder.pid),
            (Some("box"), Some(77))
        );
        assert_eq!(holder.label.as_deref().unwrap_or("-"), label);
        if fence != "-" {
            assert_eq!(holder.fence, fence.parse().ok());
        }
        // Whoever knows its token adopts it.
        let exported = format!(
            "synlock1:{}:{name}:x:0123abcd0123abcd0123abcd0123abcd:",
            encode(&lock.store().fingerprint())
        );
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let heir = lock
                .store()
                .adopt(&exported, LockOptions::default())
                .unwrap();
            heir.ensure_held().unwrap();
            heir.release().unwrap();
        }
        seen += 1;
    }
    assert_eq!(seen, 3);
}

fn encode(text: &str) -> String {
    text.replace('%', "%25")
        .replace(':', "%3A")
        .replace('/', "%2F")
}
