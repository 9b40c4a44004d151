//! A quorum of other members, or of other rules, is told so where the two meet.

use super::{code, lock, ms, three, url};
use std::time::Instant;
use synlock_core::{Code, Lock, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::places::place;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;

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
