//! What the suite for every store does not ask of `quorum:`: members that are down, deaf, forgetful or
//! split, and tokens of members that count apart.

mod line;
mod tiered;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Result, Store, Wait};
use synlock_tests::apart;
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::places::place;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::wall::Wall;

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
fn members_that_may_have_forgotten_do_not_vote() {
    let mut servers = three();
    let url = url(&servers, "?io_timeout=500", "max_ttl=3000");
    let a = leased(&url, "n", ms(3000));
    let error = a.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("has been up"), "{error}");
    std::thread::sleep(ms(3100));
    // On two of three.
    servers[2].kill();
    a.acquire(Wait::No, None).unwrap();
    // The third is asked no more.
    std::thread::sleep(ms(700));
    // One of the two forgets it, and the third comes back.
    servers[1].restart();
    servers[2].restart();
    let b = leased(&url, "n", ms(3000));
    let error = b.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    a.ensure_held().unwrap_err();
    std::thread::sleep(ms(3100));
    b.acquire(Wait::No, None).unwrap();
    b.ensure_held().unwrap();
    assert_eq!(code(a.refresh(None)), Code::Lost);
}

/// As if the lease had never been: what it keeps runs out at once, and it looks old enough to know better.
#[test]
fn members_that_have_skipped_time_do_not_vote() {
    let wall = Wall::new();
    let mut servers = three();
    servers[1] = RedisServer::start_with(synlock_tests::redis::Options {
        environment: wall.environment(),
        ..Default::default()
    });
    let url = url(&servers, "?io_timeout=20000", "max_ttl=10000");
    let (a, b) = (leased(&url, "n", ms(10_000)), leased(&url, "n", ms(10_000)));
    let end = Instant::now() + SOON * 2;
    // They know all three, and nobody is away.
    let has_voted = |server: &RedisServer| Store::open(&server.url()).unwrap().is_locked("n");
    for lock in [&a, &b] {
        loop {
            assert!(Instant::now() < end, "they never vote");
            let is_granted = lock.acquire(Wait::No, None).is_ok();
            // One that still had the vote of a round before is busy, and is asked no more.
            std::thread::sleep(ms(200));
            let all = servers.iter().all(|server| has_voted(server).unwrap());
            let _ = lock.release();
            if is_granted && all {
                break;
            }
        }
    }
    // On two of three, since a stranger has the third.
    let stranger = lock(&servers[2].url(), "n");
    stranger.acquire(Wait::For(SOON), None).unwrap();
    a.acquire(Wait::For(SOON), None).unwrap();
    stranger.release().unwrap();
    let left = a.remaining().unwrap();
    wall.ahead(Duration::from_secs(3600));
    let taken = b.acquire(Wait::No, None);
    // On a machine that has not let the lease run out meanwhile.
    if left > ms(5000) && a.remaining().unwrap() > ms(1000) {
        assert_eq!(code(taken), Code::Busy);
    }
}

#[test]
fn a_lease_is_no_longer_than_members_remember() {
    let servers = three();
    let store = Store::open(&url(&servers, "", "")).unwrap();
    let mut options = LockOptions::default();
    options.ttl = Some(Duration::from_secs(61));
    let error = store.lock_with("n", options).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("max_ttl"), "{error}");
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
fn waiting_for_a_free_lock_asks_seldom_and_hears_of_it() {
    let servers = three();
    let url = url(&servers, "", "cold_start=1");
    let (holder, store) = (lock(&url, "n"), Store::open(&url).unwrap());
    let calls = || -> u64 {
        let scripts = |server: &RedisServer| server.calls("evalsha") + server.calls("eval");
        servers.iter().map(scripts).sum()
    };
    for stranger in [None, Some(lock(&servers[0].url(), "n"))] {
        // Also where the first member is not the holder's.
        if let Some(stranger) = &stranger {
            stranger.acquire(Wait::For(SOON), None).unwrap();
        }
        holder.acquire(Wait::For(SOON), None).unwrap();
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| store.wait_free("n", Wait::For(SOON)).unwrap());
            std::thread::sleep(ms(500));
            let before = calls();
            std::thread::sleep(ms(3000));
            let asked = calls() - before;
            // In tenths of a second it would be ninety at least.
            assert!(asked < 60, "{asked} requests");
            assert!(!watcher.is_finished());
            holder.release().unwrap();
            assert!(watcher.join().unwrap());
        });
    }
}

/// What comes of an acquire at the latest when it is looked at.
fn told(lock: &Lock) -> Code {
    let end = Instant::now() + SOON;
    let mut answer = lock.acquire(Wait::No, None).map(drop);
    while answer.is_ok() && Instant::now() < end {
        answer = lock.ensure_held();
    }
    code(answer)
}

#[test]
fn another_set_up_is_told() {
    let servers: Vec<RedisServer> = (0..5).map(|_| RedisServer::start()).collect();
    let members = |members: &[(usize, &str)]| -> Vec<String> {
        let of = |(at, option): &(usize, &str)| format!("{}{option}", servers[*at].url());
        members.iter().map(of).collect()
    };
    // Each with the members that have a vote of its holder in the end.
    let of = |list: &[(usize, &str)], options: &str| {
        let members = members(list);
        let url = format!("quorum:({})?cold_start=1{options}", members.join(","));
        (url, members)
    };
    let plain = [(0, ""), (1, ""), (2, "")];
    let one = of(&plain, "");
    let escaped = one.0.replace('?', "%3F").replace('=', "%3D");
    let nested = format!(
        "quorum:?member={escaped}&member={}&cold_start=1",
        servers[4].url()
    );
    let others = [
        of(&[(0, ""), (1, ""), (3, "")], ""),
        of(&[(0, ""), (1, "")], ""),
        of(&[(0, ""), (1, ""), (2, ""), (3, ""), (4, "")], ""),
        // Of these majorities only one member is in common.
        of(&[(2, ""), (3, ""), (4, "")], ""),
        of(&[(0, "?prefix=x:"), (1, "?prefix=x:"), (2, "")], ""),
        of(&[(0, "/1"), (1, ""), (2, "")], ""),
        of(&plain, "&max_ttl=50000"),
        of(&plain, "&strategy=unanimous"),
        of(&plain, "&config=x"),
        (nested, members(&[(0, ""), (1, ""), (2, ""), (4, "")])),
    ];
    for _ in 0..if is_full_load() { 300 } else { 3 } {
        for other in &others {
            for ((ours, votes), (theirs, _)) in [(&one, other), (other, &one)] {
                let name = unique("set-up");
                let (holder, intruder) = (lock(ours, &name), lock(theirs, &name));
                holder.acquire(Wait::No, None).unwrap();
                // A majority is enough; the rest comes as well, and must not meet the other's votes.
                let shows = |member: &String| Store::open(member).unwrap().is_locked(&name);
                while !votes.iter().all(|member| shows(member).unwrap()) {
                    std::thread::sleep(ms(1));
                }
                assert_eq!(told(&intruder), Code::InvalidUrl, "{theirs} beside {ours}");
                holder.ensure_held().unwrap();
                holder.release().unwrap();
                while votes.iter().any(|member| shows(member).unwrap()) {
                    std::thread::sleep(ms(1));
                }
                // Nothing of it stays to keep the others out.
                intruder.acquire(Wait::For(SOON), None).unwrap();
                intruder.release().unwrap();
            }
        }
    }
}

/// What each kind of member keeps of a hold says of which set-up it is.
#[test]
fn another_set_up_is_told_by_every_kind_of_member() {
    let kinds: [(&str, &str, bool); 6] = [
        ("memcached", "?prefix=", cfg!(feature = "memcached")),
        ("etcd", "?prefix=", cfg!(feature = "etcd")),
        ("postgres", "?table=", cfg!(feature = "postgres")),
        ("sqlite", "?table=", cfg!(feature = "sqlite")),
        ("zookeeper", "&root=/", cfg!(feature = "zookeeper")),
        ("memory", "-", true),
    ];
    std::thread::scope(|scope| {
        for (kind, mark, _) in kinds.into_iter().filter(|(.., is_built)| *is_built) {
            scope.spawn(move || {
                let (place, _keep) = match kind {
                    "memory" => (format!("memory:{}", unique("kinds")), Box::new(()) as _),
                    kind => place(kind),
                };
                let of = |members: [&str; 3]| {
                    let escaped = |text: String| {
                        let text = text.replace('%', "%25").replace('&', "%26");
                        text.replace('?', "%3F").replace('=', "%3D")
                    };
                    let members = members
                        .map(|one| format!("member={}", escaped(format!("{place}{mark}{one}"))));
                    format!("quorum:?{}&cold_start=1", members.join("&"))
                };
                let (ours, theirs) = (of(["a", "b", "c"]), of(["c", "d", "e"]));
                let (holder, intruder) = (lock(&ours, "n"), lock(&theirs, "n"));
                holder.acquire(Wait::No, None).unwrap();
                let common = Store::open(&format!("{place}{mark}c")).unwrap();
                while !common.is_locked("n").unwrap() {
                    std::thread::sleep(ms(1));
                }
                assert_eq!(told(&intruder), Code::InvalidUrl, "{kind}");
                holder.ensure_held().unwrap();
                assert_eq!(code(lock(&ours, "n").acquire(Wait::No, None)), Code::Busy);
                holder.release().unwrap();
            });
        }
    });
}

#[test]
fn the_same_set_up_is_busy_however_it_is_spelled() {
    let servers = three();
    let one = url(&servers, "", "cold_start=1");
    let spelled: Vec<String> = servers
        .iter()
        .rev()
        .map(|server| format!("{}/0?io_timeout=1700&prefix=synlock:", server.url()))
        .collect();
    let other = format!(
        "quorum:({})?fencing=1&cold_start=1&max_ttl=60000",
        spelled.join(",")
    );
    let by_name = |host: &str| {
        let url = url(&servers, "", "cold_start=1&config=ours");
        url.replace("127.0.0.1", host)
    };
    for (ours, theirs) in [
        (one.clone(), other),
        (
            one.replace("127.0.0.1", "localhost"),
            one.replace("127.0.0.1", "LocalHost"),
        ),
        (by_name("127.0.0.1"), by_name("localhost")),
    ] {
        let name = unique("spelled");
        let (holder, contender) = (lock(&ours, &name), lock(&theirs, &name));
        holder.acquire(Wait::No, None).unwrap();
        assert_eq!(code(contender.acquire(Wait::No, None)), Code::Busy);
        assert_eq!(
            code(contender.acquire(Wait::For(ms(50)), None)),
            Code::Timeout
        );
        holder.release().unwrap();
        contender.acquire(Wait::For(SOON), None).unwrap();
        // A lock that is no quorum's is a stranger's.
        contender.release().unwrap();
        let alone: Vec<Lock> = servers
            .iter()
            .map(|server| lock(&server.url(), &name))
            .collect();
        for stranger in &alone {
            stranger.acquire(Wait::For(SOON), None).unwrap();
        }
        assert_eq!(code(contender.acquire(Wait::No, None)), Code::Busy);
        for stranger in &alone {
            stranger.release().unwrap();
        }
    }
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
