//! What the suite for every store does not ask of `quorum:`: members that are down, deaf, forgetful or
//! split, and tokens of members that count apart.

mod forgetting;
mod line;
mod set_ups;
mod tiered;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Result, Store, Wait};
use synlock_tests::apart;
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

fn three() -> Vec<RedisServer> {
    (0..3).map(|_| RedisServer::start()).collect()
}

fn url(servers: &[RedisServer], member: &str, options: &str) -> String {
    let members: Vec<String> = servers
        .iter()
        .map(|server| format!("{}{member}", server.url()))
        .collect();
    format!("quorum:({})?{options}", members.join(","))
}

fn lock(url: &str, name: &str) -> Lock {
    Store::open(url).unwrap().lock(name).unwrap()
}

fn leased(url: &str, name: &str, ttl: Duration) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    Store::open(url).unwrap().lock_with(name, options).unwrap()
}

#[test]
fn down_is_told_apart_from_busy() {
    let mut servers = three();
    let url = url(
        &servers,
        "?io_timeout=300&connect_timeout=300",
        "cold_start=1",
    );
    let (a, b) = (lock(&url, "n"), lock(&url, "n"));
    a.acquire(Wait::No, None).unwrap();
    // Two votes are enough to hold; with the third, one member less leaves it held.
    let has_voted = |server: &RedisServer| Store::open(&server.url()).unwrap().is_locked("n");
    while !servers.iter().all(|server| has_voted(server).unwrap()) {
        std::thread::sleep(ms(1));
    }
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    servers[0].kill();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    assert_eq!(code(b.acquire(Wait::For(ms(100)), None)), Code::Timeout);
    a.refresh(None).unwrap();
    a.ensure_held().unwrap();
    servers[1].kill();
    let error = b.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    for down in &servers[..2] {
        assert!(error.message().contains(&down.url()), "{error}");
    }
    assert!(a.refresh(None).is_err());
    // Nobody knows: the answers that it takes are missing.
    assert_eq!(code(a.ensure_held()), Code::Unavailable);
    assert!(b.store().ping(Wait::For(ms(1000))).is_err());
}

#[test]
fn a_hold_is_handed_over_though_a_stranger_has_a_member() {
    let servers = three();
    let url = url(&servers, "", "cold_start=1");
    for server in &servers {
        let name = unique("heir");
        let stranger = lock(&server.url(), &name);
        stranger.acquire(Wait::No, None).unwrap();
        let one = lock(&url, &name);
        one.acquire(Wait::No, None).unwrap();
        let exported = one.export().unwrap();
        let store = Store::open(&url).unwrap();
        let heir = store.adopt(&exported, LockOptions::default()).unwrap();
        heir.ensure_held().unwrap();
        let again = store.adopt(&exported, LockOptions::default());
        assert_eq!(code(again), Code::Lost);
        heir.ensure_held().unwrap();
        heir.release().unwrap();
        stranger.ensure_held().unwrap();
    }
}

#[test]
fn a_member_that_hangs_holds_up_nobody_and_keeps_nothing() {
    let servers = three();
    let url = url(&servers, "?io_timeout=60000", "cold_start=1");
    for server in &servers {
        let name = unique("hangs");
        let lock = lock(&url, &name);
        // Connections stand, so that requests get there.
        lock.acquire(Wait::No, None).unwrap();
        lock.release().unwrap();
        std::thread::sleep(ms(100));
        server.pause();
        let start = Instant::now();
        lock.acquire(Wait::For(SOON), None).unwrap();
        lock.release().unwrap();
        assert!(start.elapsed() < SOON * 2, "{:?}", start.elapsed());
        server.resume();
        // What it grants now is given back long before its lease of 30 s ends.
        let alone = Store::open(&server.url()).unwrap().lock(&name).unwrap();
        alone.acquire(Wait::For(ms(10_000)), None).unwrap();
        std::thread::sleep(ms(200));
        alone.ensure_held().unwrap();
    }
}

#[cfg(feature = "redis-tls")]
#[test]
fn members_that_cannot_show_who_they_are_do_not_vote() {
    let servers: Vec<RedisServer> = (0..3)
        .map(|_| {
            RedisServer::start_with(synlock_tests::redis::Options {
                tls: true,
                ..Default::default()
            })
        })
        .collect();
    let trusted = |server: &RedisServer| server.tls_url().replace('&', "%26");
    let strange = |server: &RedisServer| format!("rediss://localhost:{}", server.tls_port());
    let of = |strangers: usize| {
        let members = servers.iter().enumerate().map(|(number, server)| {
            let is_strange = number < strangers;
            let url = [trusted, strange][usize::from(is_strange)](server);
            format!("member={}", url.replace('?', "%3F").replace('=', "%3D"))
        });
        let members: Vec<String> = members.collect();
        format!("quorum:?{}&cold_start=1", members.join("&"))
    };
    for strangers in 0..=3 {
        let lock = lock(&of(strangers), &unique("tls"));
        let got = lock.acquire(Wait::No, None);
        if strangers < 2 {
            got.unwrap();
            lock.release().unwrap();
        } else {
            assert_eq!(code(got), Code::Permission, "{strangers} strangers");
        }
    }
}

#[test]
fn a_round_without_a_majority_leaves_nothing_behind() {
    let mut servers = three();
    let url = url(&servers, "?io_timeout=1000", "cold_start=1");
    servers[2].kill();
    let (a, b) = (lock(&url, "n"), lock(&url, "n"));
    a.acquire(Wait::No, None).unwrap();
    // It is asked no more.
    std::thread::sleep(ms(1200));
    servers[2].restart();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    assert_eq!(code(b.acquire(Wait::For(ms(50)), None)), Code::Timeout);
    let end = Instant::now() + ms(10_000);
    let member = Store::open(&servers[2].url()).unwrap();
    while member.is_locked("n").unwrap() {
        assert!(Instant::now() < end, "the loser keeps a vote");
        std::thread::sleep(ms(10));
    }
    a.ensure_held().unwrap();
}

#[test]
fn a_refresh_needs_a_majority_too() {
    let members = [1, 2, 3].map(|n| format!("memory:{}-{n}", unique("refresh")));
    let url = format!("quorum:({})", members.join(","));
    let lock = leased(&url, "n", Duration::from_secs(30));
    lock.acquire(Wait::No, None).unwrap();
    let broken = |member: &str| Store::open(member).unwrap().break_lock("n").unwrap();
    assert!(broken(&members[1]));
    lock.refresh(None).unwrap();
    lock.ensure_held().unwrap();
    assert!(broken(&members[0]));
    assert_eq!(code(lock.refresh(None)), Code::Lost);
    // What was left of it is given back.
    assert!(!Store::open(&members[2]).unwrap().is_locked("n").unwrap());
}

#[test]
fn somebody_wins_each_round() {
    let servers = three();
    let url = url(&servers, "", "cold_start=1");
    let rounds = if is_full_load() { 1000 } else { 12 };
    let mut without = 0;
    for contenders in [2, 4, 8] {
        for _ in 0..rounds {
            let name = unique("split");
            let (start, end) = (Barrier::new(contenders), Barrier::new(contenders));
            let winners = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..contenders {
                    scope.spawn(|| {
                        let lock = lock(&url, &name);
                        start.wait();
                        let won = lock.acquire(Wait::For(ms(500)), None).is_ok();
                        winners.fetch_add(won.into(), Ordering::SeqCst);
                        end.wait();
                    });
                }
            });
            let winners = winners.into_inner();
            assert!(winners <= 1, "{winners} winners");
            without += u32::from(winners == 0);
        }
    }
    assert!(
        without * 100 <= 3 * rounds,
        "{without} of {} rounds without a winner",
        3 * rounds
    );
    // After a split they stand in line at one member and leave the others alone (4 to 13 calls for each acquire
    // were seen), where without an order all would try again and again (79).
    let acquires = u64::from(rounds) * (2 + 4 + 8);
    let mut calls = servers
        .iter()
        .map(|server| server.calls("evalsha") + server.calls("eval"))
        .collect::<Vec<_>>();
    calls.sort_unstable();
    assert!(
        calls[1] <= 30 * acquires,
        "{calls:?} calls for {acquires} acquires"
    );
}

#[test]
fn tokens_grow_though_the_members_count_apart() {
    let members = [1, 2, 3].map(|n| format!("memory:{}-{n}", unique("fence")));
    let url = format!("quorum:({})?fencing=1", members.join(","));
    let quorum = lock(&url, "n");
    let alone = members.each_ref().map(|member| lock(member, "n"));
    let mut last = 0;
    for round in 0..30_usize {
        // One member counts on, one is out of it.
        for _ in 0..round * 7 % 13 {
            let other = lock(&members[round * 5 % 3], "other");
            other.acquire(Wait::No, None).unwrap();
        }
        let absent = &alone[round % 3];
        absent.acquire(Wait::No, None).unwrap();
        let fence = quorum.acquire(Wait::No, None).unwrap().fence.unwrap();
        assert!(fence > last, "round {round}: {fence} after {last}");
        last = fence;
        quorum.release().unwrap();
        absent.release().unwrap();
    }
}

/// A Redis that has forgotten its counter begins at its clock, hours ahead of those that have not.
#[test]
fn tokens_grow_though_a_member_began_to_count_long_after_the_others() {
    const THREE_HOURS: u64 = 3 * 3600 * 1_000_000;
    let servers = three();
    let (url, name) = (url(&servers, "", "fencing=1&cold_start=1"), unique("ahead"));
    let quorum = lock(&url, &name);
    let alone: Vec<Lock> = servers.iter().map(|one| lock(&one.url(), &name)).collect();
    let grant = |absent: usize| {
        alone[absent].acquire(Wait::For(SOON), None).unwrap();
        let fence = quorum.acquire(Wait::For(SOON), None).unwrap().fence;
        quorum.release().unwrap();
        alone[absent].release().unwrap();
        fence.unwrap()
    };
    let mut last = grant(0).max(grant(1));
    let counter = servers[2].command(&["KEYS", "synlock:*}f"]);
    servers[2].command(&["INCRBY", &counter, &THREE_HOURS.to_string()]);
    for round in 0..9 {
        let fence = grant(round % 3);
        assert!(fence > last, "round {round}: {fence} after {last}");
        last = fence;
    }
}

#[test]
fn a_quorum_of_quorums_is_one() {
    let inner = |n: u32| {
        let stem = unique("nested");
        format!("quorum:(memory:{stem}-{n}a,memory:{stem}-{n}b,memory:{stem}-{n}c)")
    };
    let url = format!("quorum:({},{},{})", inner(1), inner(2), inner(3));
    let (a, b) = (lock(&url, "n"), lock(&url, "n"));
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    a.release().unwrap();
    b.acquire(Wait::No, None).unwrap();
}

#[test]
fn what_is_no_quorum_is_refused() {
    let open = |url: &str| Store::open(url).unwrap_err();
    for (url, words) in [
        ("quorum:(memory:a)", "several members"),
        ("quorum:?strategy=majority", "several members"),
        ("quorum:(memory:a,memory:b,memory:a)", "are one"),
        ("quorum:(memory:a,memory:b)?strategy=some", "strategy"),
        ("quorum:(memory:a,memory:b)?stratgy=majority", "`strategy`"),
        ("quorum:(flock:/tmp/x,redis://h,redis://i)", "must all"),
        ("quorum:(memory:a?ttl=5,memory:b)", "no option `ttl`"),
        ("quorum:(memory:a,nosuch:b)", "no store has"),
        ("quorum:(memory:a,flock:/tmp/x)?fencing=1", "fencing"),
        ("quorum://h", "is written"),
    ] {
        let error = open(url);
        assert!(error.to_string().contains(words), "{url}: {error}");
    }
    let mut deep = "memory:x".to_owned();
    for n in 0..6 {
        deep = format!("quorum:({deep},memory:{n})");
    }
    assert_eq!(open(&deep).code(), Code::InvalidUrl);
    let secret = Store::open("quorum:(redis://u:canary@h,redis://u:canary@i)").unwrap();
    assert!(!secret.url().contains("canary") && !secret.fingerprint().contains("canary"));
    assert!(!format!("{secret:?}").contains("canary"));
}

#[test]
fn threads_are_made_on_first_use_alone() {
    let count = || {
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(entry.ok()?.path().join("comm")).ok()
        };
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(name);
        names
            .filter(|name| name.starts_with("synlock-quorum"))
            .count()
    };
    // In a process of its own, where no other test makes any.
    let url = "quorum:(redis://127.0.0.1:1,redis://127.0.0.1:2,redis://127.0.0.1:3)";
    // SAFETY: the child runs only this and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let before = count();
        let lock = Store::open(url).and_then(|store| store.lock("n"));
        let opened = count();
        let down = lock.map(|lock| code(lock.acquire(Wait::No, None)));
        let good =
            before == 0 && opened == 0 && down.ok() == Some(Code::Unavailable) && count() > 0;
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes; the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "see above");
}

#[test]
fn two_members_and_members_that_are_one_server_are_warned_of() {
    let servers = three();
    let told_by = |url: &str| {
        let store = Store::open(url).unwrap();
        let told = apart::cautions(&store);
        for _ in 0..2 {
            let lock = store.lock("n").unwrap();
            lock.acquire(Wait::For(ms(20_000)), None).unwrap();
        }
        (store, told)
    };
    let (_, told) = told_by(&url(&servers, "", "cold_start=1"));
    assert_eq!(told.lock().unwrap().len(), 0, "{told:?}");
    let (_, told) = told_by(&url(&servers[..2], "", "cold_start=1"));
    assert_eq!(apart::count(&told, "a quorum of two"), 1, "{told:?}");
    // Databases of one server, of which each is asked how long it has been up.
    std::thread::sleep(ms(3500));
    let [one, two, three] = [0, 0, 1].map(|number: usize| servers[number].url());
    let same = format!("quorum:({one}?db=1,{two}?db=2,{three})?max_ttl=2000&ttl=2000");
    // Known when the answers of both have come; whoever asks may have its majority before.
    let ((store, told), end) = (told_by(&same), Instant::now() + SOON);
    while apart::count(&told, "are one server") == 0 {
        assert!(Instant::now() < end, "{told:?}");
        let lock = store.lock("n").unwrap();
        lock.acquire(Wait::For(ms(20_000)), None).unwrap();
    }
    assert_eq!(apart::count(&told, "are one server"), 1, "{told:?}");
}
