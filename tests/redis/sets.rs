//! Redis on several servers: a Cluster's redirections, the sentinels' failover, grants that replicas have.

#[cfg(feature = "redis-tls")]
mod guarded;

use std::time::{Duration, Instant};
use synlock_core::store::Answer;
use synlock_core::{Code, Lock, LockOptions, Mode, Result, Store, Wait};
use synlock_tests::apart;
use synlock_tests::claims::held_claims;
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::{Act, Fake};
use synlock_tests::services::redis_sets::{Cluster, Sentinels, master_and_replica, until};

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

fn tried(lock: &Lock) -> Code {
    code(lock.acquire(Wait::No, None))
}

#[test]
fn a_clusters_locks_are_on_all_its_servers() {
    let cluster = Cluster::start();
    let store = Store::open(&cluster.url()).unwrap();
    store.ping(Wait::For(ms(5000))).unwrap();
    let stem = unique("spread");
    let names: Vec<_> = (0..60)
        .map(|number| format!("{stem}/{number:02}"))
        .collect();
    let locks: Vec<_> = names.iter().map(|name| store.lock(name).unwrap()).collect();
    for lock in &locks {
        assert_eq!(tried(lock), Code::Ok);
    }
    for node in &cluster.nodes {
        assert_ne!(node.command(&["DBSIZE"]), "0");
    }
    // Each page goes on where the last ended, on whichever server that was.
    let mut listed = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.list(stem.as_bytes(), cursor.as_deref(), 5).unwrap();
        listed.extend(page.locks.into_iter().map(|lock| lock.name));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    listed.sort();
    let expected: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(listed, expected);
    for lock in &locks {
        lock.release().unwrap();
    }
    // Database and path make no sense there.
    let port = cluster.nodes[0].port();
    for wrong in ["?db=1", "/1"] {
        let url = format!("redis+cluster://127.0.0.1:{port}{wrong}");
        assert_eq!(code(Store::open(&url)), Code::InvalidUrl);
    }
    let single = Store::open(&format!("redis://127.0.0.1:{port}")).unwrap();
    let told = names
        .iter()
        .find_map(|name| single.lock(name).unwrap().try_acquire().err());
    let told = told.expect("a server that has not all slots");
    assert!(told.message().contains("redis+cluster:"), "{told}");
}

#[test]
fn a_slot_that_moves_takes_its_locks_along() {
    let cluster = Cluster::start();
    let url = format!("{}?dialect=plain&io_timeout=300", cluster.url());
    let store = Store::open(&url).unwrap();
    // A lock with its helpers, and one that has none: the tag of theirs ends at the first brace.
    for name in ["job", "a}b"] {
        let (held, other) = (store.lock(name).unwrap(), store.lock(name).unwrap());
        assert_eq!(tried(&held), Code::Ok);
        let (from, slot) = cluster.owner(name);
        let to = (from + 1) % 3;
        let (slot, ids) = (slot.to_string(), [cluster.id(from), cluster.id(to)]);
        let set = |on: usize, words: &[&str]| {
            let words = [&["CLUSTER", "SETSLOT", &slot], words].concat();
            assert_eq!(cluster.nodes[on].command(&words), "OK");
        };
        // A Cluster serves no several keys at once while their slot is on its way.
        let on_its_way = if name == "job" {
            Code::Unavailable
        } else {
            Code::Ok
        };
        set(to, &["IMPORTING", &ids[0]]);
        set(from, &["MIGRATING", &ids[1]]);
        assert_eq!(code(held.ensure_held()), on_its_way);
        let port = cluster.nodes[to].port().to_string();
        let keys = cluster.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        for key in keys.lines() {
            let moved = ["MIGRATE", "127.0.0.1", &port, key, "0", "2000"];
            assert_eq!(cluster.nodes[from].command(&moved), "OK");
        }
        // ASK.
        assert_eq!(code(held.refresh(Some(ms(60_000)))), on_its_way);
        assert!(cluster.nodes[to].calls("asking") > 0);
        set(to, &["NODE", &ids[1]]);
        set(from, &["NODE", &ids[1]]);
        // MOVED; and nothing was lost.
        held.ensure_held().unwrap();
        assert_eq!(tried(&other), Code::Busy);
        held.release().unwrap();
        assert_eq!(tried(&other), Code::Ok);
        // Known now: no detour any more.
        let before = cluster.nodes[from].calls("evalsha");
        other.release().unwrap();
        assert_eq!(cluster.nodes[from].calls("evalsha"), before);
    }
}

/// One exchange with each server, that of a slot which has moved meanwhile too.
#[test]
fn leases_on_a_cluster_are_lengthened_together() {
    let cluster = Cluster::start();
    let store = Store::open(&cluster.url()).unwrap();
    store.ping(Wait::For(ms(5000))).unwrap();
    let names: Vec<_> = (0..60).map(|number| format!("job/{number}")).collect();
    let claims = held_claims(&store, &names);
    let wishes: Vec<_> = claims.iter().map(|claim| (claim, ms(90_000))).collect();
    let extend = || {
        let answers = store.backend().extend_many(&wishes);
        let is_done = |answer: &&Result<Answer>| matches!(answer, Ok(Answer::Done(_)));
        answers.iter().filter(is_done).count()
    };
    assert_eq!(extend(), 60);
    // A slot with one of them moves.
    let key = cluster.nodes[0].command(&["--scan", "--pattern", "*}:job/*"]);
    let key = key.lines().next().expect("a lock on the first server");
    let (from, slot) = cluster.owner(key);
    let (slot, to) = (slot.to_string(), (from + 1) % 3);
    let (port, ids) = (
        cluster.nodes[to].port().to_string(),
        [cluster.id(from), cluster.id(to)],
    );
    let set = |on: usize, words: &[&str]| {
        let words = [&["CLUSTER", "SETSLOT", &slot], words].concat();
        assert_eq!(cluster.nodes[on].command(&words), "OK");
    };
    set(to, &["IMPORTING", &ids[0]]);
    set(from, &["MIGRATING", &ids[1]]);
    let keys = cluster.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
    for key in keys.lines() {
        let moved = ["MIGRATE", "127.0.0.1", &port, key, "0", "2000"];
        assert_eq!(cluster.nodes[from].command(&moved), "OK");
    }
    set(to, &["NODE", &ids[1]]);
    set(from, &["NODE", &ids[1]]);
    assert_eq!(extend(), 60);
    for claim in &claims {
        assert!(store.backend().is_held(claim).unwrap());
        store.backend().release(claim).unwrap();
    }
}

#[test]
fn servers_that_point_to_one_another_are_left_in_time() {
    let fake = Fake::start(Act::Circle);
    let url = format!("{}?io_timeout=400", fake.url("redis+cluster"));
    let lock = Store::open(&url).unwrap().lock("x").unwrap();
    let start = Instant::now();
    assert_eq!(tried(&lock), Code::Unavailable);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let heard = String::from_utf8_lossy(&fake.heard()).into_owned();
    let asked = heard.matches("EVALSHA").count();
    assert!(asked < 100, "asked {asked} times");
}

#[test]
fn a_cluster_without_one_of_its_servers() {
    let mut cluster = Cluster::start();
    let url = format!("{}?io_timeout=500", cluster.url());
    let store = Store::open(&url).unwrap();
    let names: Vec<_> = (0..40).map(|number| format!("n{number}")).collect();
    let locks: Vec<_> = names.iter().map(|name| store.lock(name).unwrap()).collect();
    for lock in &locks {
        assert_eq!(tried(lock), Code::Ok);
    }
    cluster.nodes[2].pause();
    for lock in &locks {
        let start = Instant::now();
        let found = code(lock.ensure_held());
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        assert!(
            matches!(found, Code::Ok | Code::Unavailable | Code::Uncertain),
            "{found:?}"
        );
    }
    cluster.nodes[2].resume();
    until("a cluster again", || {
        cluster.nodes.iter().all(|node| {
            node.command(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
        })
    });
    // What it missed was no loss; what it forgets is one.
    for lock in &locks {
        lock.ensure_held().unwrap();
    }
    cluster.nodes[2].restart();
    until("a cluster again", || {
        cluster.nodes.iter().all(|node| {
            node.command(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
        })
    });
    let lost: Vec<_> = locks.iter().map(|lock| code(lock.ensure_held())).collect();
    assert!(
        lost.contains(&Code::Lost) && lost.contains(&Code::Ok),
        "{lost:?}"
    );
    for lock in &locks {
        let _ = lock.release();
        assert_eq!(tried(lock), Code::Ok);
    }
}

#[test]
fn keys_of_one_name_on_several_servers_of_a_cluster_are_a_lock_without_queue() {
    let cluster = Cluster::start();
    let store = Store::open(&format!("{}?dialect=plain", cluster.url())).unwrap();
    // The tag of the helpers ends at the first brace; the key has none.
    let (one, two) = (store.lock("a}b").unwrap(), store.lock("a}b").unwrap());
    assert_eq!(tried(&one), Code::Ok);
    assert_eq!(tried(&two), Code::Busy);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| two.acquire(Wait::For(ms(20_000)), None).map(drop));
        std::thread::sleep(ms(50));
        one.release().unwrap();
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_failover_is_followed_and_what_a_replica_has_is_held_on() {
    let mut set = Sentinels::start();
    let store = Store::open(&format!("{}?min_acks=1&ack_timeout=1000", set.url())).unwrap();
    let (held, waiting) = (store.lock("held").unwrap(), store.lock("held").unwrap());
    let fence = held.acquire(Wait::No, None).unwrap().fence;
    std::thread::scope(|scope| {
        // With one replica promoted and none left, no grant can be acknowledged any more.
        let plain = Store::open(&set.url()).unwrap();
        let waiter = {
            let lock = plain.lock("held").unwrap();
            scope.spawn(move || {
                let end = Instant::now() + Duration::from_secs(40);
                loop {
                    match lock.acquire(Wait::For(ms(20_000)), None) {
                        // While there is no master.
                        Err(error)
                            if matches!(error.code(), Code::Unavailable | Code::Uncertain)
                                && Instant::now() < end =>
                        {
                            std::thread::sleep(ms(20));
                        }
                        result => return result.map(|acquired| (acquired.fence, lock)),
                    }
                }
            })
        };
        while plain.inspect("held").unwrap().waiters != Some(1) {
            std::thread::sleep(ms(1));
        }
        set.servers[0].kill();
        let promoted = set.servers[1].port();
        until("a new master", || set.master_port() == promoted);
        until("a store that serves", || held.ensure_held().is_ok());
        assert_eq!(tried(&waiting), Code::Busy);
        held.release().unwrap();
        let (later, lock) = waiter.join().unwrap().unwrap();
        assert!(later > fence, "{later:?} after {fence:?}");
        assert_eq!(
            code(store.lock("other").unwrap().try_acquire()),
            Code::Unavailable
        );
        assert!(!store.is_locked("other").unwrap());
        lock.release().unwrap();
    });
}

#[test]
fn a_replica_is_never_used() {
    let servers = master_and_replica();
    let sentinel = Fake::start(Act::Master(servers[1].port()));
    let url = format!("{}/main?io_timeout=400", sentinel.url("redis+sentinel"));
    let store = Store::open(&url).unwrap();
    let start = Instant::now();
    assert_eq!(tried(&store.lock("x").unwrap()), Code::Unavailable);
    assert_eq!(code(store.inspect("x")), Code::Unavailable);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(servers[1].calls("evalsha"), 0);
    // As soon as the sentinel knows better, it works.
    sentinel.set(Act::Master(servers[0].port()));
    assert_eq!(tried(&store.lock("x").unwrap()), Code::Ok);
}

#[test]
fn sentinels_that_do_not_help_are_unavailable_in_time() {
    let down = format!(
        "redis+sentinel://127.0.0.1:{},127.0.0.1:{}/main?io_timeout=300",
        free_port(),
        free_port()
    );
    let mute = Fake::start(Act::Mute);
    let none = Fake::start(Act::Say(b"*-1\r\n".to_vec()));
    let server = RedisServer::start();
    for url in [
        down,
        format!("{}/main?io_timeout=300", mute.url("redis+sentinel")),
        format!("{}/main?io_timeout=300", none.url("redis+sentinel")),
    ] {
        let start = Instant::now();
        let store = Store::open(&url).unwrap();
        assert_eq!(tried(&store.lock("x").unwrap()), Code::Unavailable, "{url}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    // No sentinel at all.
    let plain = format!("{}/main", server.url().replace("redis:", "redis+sentinel:"));
    let store = Store::open(&plain).unwrap();
    assert_eq!(tried(&store.lock("x").unwrap()), Code::Protocol);
    for wrong in [
        "redis+sentinel://h",
        "redis+sentinel:/main",
        "redis+sentinel://h/a/b",
    ] {
        assert_eq!(code(Store::open(wrong)), Code::InvalidUrl, "{wrong}");
    }
}

#[test]
fn failover_forgets_no_grant_that_a_replica_has() {
    let mut granted = 0;
    for round in 0..if is_full_load() { 200 } else { 6 } {
        let mut servers = master_and_replica();
        // A replica that is cut off has nothing; one that is deaf may find it in its socket later. Another
        // may be slow on a busy machine.
        let deaf = round % 2 == 1;
        let patience = if deaf { 200 } else { 8000 };
        let url = format!(
            "{}?min_acks=1&ack_timeout={patience}&io_timeout=20000",
            servers[0].url()
        );
        let lock = Store::open(&url).unwrap().lock("n").unwrap();
        match round % 4 {
            1 => assert_eq!(servers[1].command(&["REPLICAOF", "127.0.0.1", "1"]), "OK"),
            3 => servers[1].pause(),
            _ => {}
        }
        let answer = lock.acquire(Wait::No, None);
        // Nobody is left to give it back to.
        lock.set_auto_release(false);
        servers[0].kill();
        servers[1].resume();
        assert_eq!(servers[1].command(&["REPLICAOF", "NO", "ONE"]), "OK");
        let found = Store::open(&servers[1].url())
            .unwrap()
            .inspect("n")
            .unwrap();
        match answer {
            Ok(acquired) => {
                granted += 1;
                assert_eq!(
                    found.holders.len(),
                    1,
                    "round {round}: a grant is forgotten"
                );
                assert_eq!(found.holders[0].fence, acquired.fence);
            }
            Err(error) => {
                assert!(deaf, "{error}");
                assert_eq!(error.code(), Code::Unavailable, "{error}");
            }
        }
    }
    assert!(
        granted >= if is_full_load() { 90 } else { 3 },
        "{granted} grants"
    );
}

#[test]
fn tokens_grow_over_a_failover_to_a_replica_that_lags() {
    let mut servers = master_and_replica();
    let draw = |server: &RedisServer| {
        let lock = Store::open(&server.url()).unwrap().lock("n").unwrap();
        let fence = lock.try_acquire().unwrap().unwrap().fence.unwrap();
        lock.release().unwrap();
        fence
    };
    let first = draw(&servers[0]);
    until("the counter, and a lock that is free", || {
        let keys = servers[1].command(&["KEYS", "synlock:{*"]);
        keys.ends_with('f') && keys.lines().count() == 1
    });
    assert_eq!(servers[1].command(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
    let last = (0..100).map(|_| draw(&servers[0])).max().unwrap();
    assert_eq!(last, first + 100);
    servers[0].kill();
    // Whoever asks it before it is a master finds it one later.
    let early = |query: &str| {
        let url = format!("{}?io_timeout={query}", servers[1].url());
        Store::open(&url).unwrap().lock("n").unwrap()
    };
    let (refused, reader) = (early("20000"), early("20001"));
    assert_eq!(code(refused.try_acquire()), Code::Unavailable);
    assert!(!reader.store().is_locked("n").unwrap());
    assert_eq!(servers[1].command(&["REPLICAOF", "NO", "ONE"]), "OK");
    for early in [refused, reader] {
        let fence = early.try_acquire().unwrap().unwrap().fence.unwrap();
        assert!(fence > last, "{fence} after {last}");
        early.release().unwrap();
        assert!(draw(&servers[1]) > fence);
        // The other one would find the counters raised.
        let counter = servers[1].command(&["KEYS", "*f"]);
        servers[1].command(&["SET", &counter, &first.to_string()]);
        servers[1].command(&["DEL", "synlock:life"]);
    }
}

#[test]
fn replicas_are_warned_of() {
    let alone = RedisServer::start();
    let servers = master_and_replica();
    for (server, query, times) in [
        (&alone, "", 0),
        (&servers[0], "", 1),
        (&servers[0], "&min_acks=1", 0),
        (&servers[0], "&cautions=0", 0),
    ] {
        let url = format!("{}?io_timeout=20000{query}", server.url());
        let store = Store::open(&url).unwrap();
        let told = apart::cautions(&store);
        for name in ["a", "b"] {
            let lock = store.lock(name).unwrap();
            lock.acquire(Wait::For(SOON), None).unwrap();
            lock.release().unwrap();
        }
        assert_eq!(
            apart::count(&told, "replicas (1)"),
            times,
            "{query}: {told:?}"
        );
    }
}

#[test]
fn a_grant_that_too_few_replicas_have_is_given_back() {
    let server = RedisServer::start();
    let store = Store::open(&format!("{}?min_acks=1&ack_timeout=50", server.url())).unwrap();
    for round in 0..3 {
        let error = store.lock("n").unwrap().try_acquire().unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("0 of the 1 replicas"), "{error}");
        assert!(!store.is_locked("n").unwrap(), "round {round}");
    }
    let plain = Store::open(&server.url()).unwrap();
    let (held, waiting) = (plain.lock("n").unwrap(), store.lock("n").unwrap());
    assert_eq!(tried(&held), Code::Ok);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| code(waiting.acquire(Wait::For(ms(10_000)), None)));
        while plain.inspect("n").unwrap().waiters != Some(1) {
            std::thread::sleep(ms(1));
        }
        held.release().unwrap();
        assert_eq!(waiter.join().unwrap(), Code::Unavailable);
    });
    assert!(!plain.is_locked("n").unwrap());
    assert_eq!(
        code(Store::open(&format!("{}?min_acks=x", server.url()))),
        Code::InvalidArgument
    );
}

/// A replica that knows of a reader only would let others in.
#[test]
fn a_promotion_that_too_few_replicas_have_is_not_believed() {
    let servers = master_and_replica();
    let url = format!(
        "{}?min_acks=1&ack_timeout=3000&io_timeout=20000",
        servers[0].url()
    );
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    let store = Store::open(&url).unwrap();
    let held = store.lock_with("n", options).unwrap();
    held.acquire(Wait::For(SOON), None).unwrap();
    servers[1].pause();
    assert_eq!(code(held.promote(Wait::No)), Code::Uncertain);
    servers[1].resume();
    held.promote(Wait::For(SOON)).unwrap();
    held.release().unwrap();
}

#[test]
fn redissons_waiters_on_a_cluster_hear_a_sharded_channel() {
    let cluster = Cluster::start();
    let store = Store::open(&format!("{}?dialect=redisson", cluster.url())).unwrap();
    let lock = store.lock("job").unwrap();
    let (owner, _) = cluster.owner("job");
    for round in 0..2 {
        assert_eq!(tried(&lock), Code::Ok);
        assert_eq!(cluster.nodes[owner].calls("spublish"), round);
        lock.release().unwrap();
        assert_eq!(cluster.nodes[owner].calls("spublish"), round + 1);
    }
}

#[test]
fn waiters_of_a_demoted_master_listen_to_the_new_one() {
    let servers = master_and_replica();
    let sentinel = Fake::start(Act::Master(servers[0].port()));
    let url = format!("{}/main?io_timeout=2000", sentinel.url("redis+sentinel"));
    let store = Store::open(&url).unwrap();
    let (held, waiting) = (store.lock("n").unwrap(), store.lock("n").unwrap());
    assert_eq!(tried(&held), Code::Ok);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            waiting.acquire(Wait::For(ms(20_000)), None).unwrap();
            Instant::now()
        });
        until("a waiter", || {
            store.inspect("n").unwrap().waiters == Some(1)
        });
        until("a replica that has it", || {
            !servers[1].command(&["KEYS", "*}q:n"]).is_empty()
        });
        let port = servers[1].port();
        servers[1].command(&["REPLICAOF", "NO", "ONE"]);
        servers[0].command(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
        sentinel.set(Act::Master(port));
        // The connections to the old one stand, and so does its subscription.
        held.release().unwrap();
        let released = Instant::now();
        let woken = waiter.join().unwrap();
        // Before its safety poll.
        assert!(woken < released + ms(3000), "{:?}", woken - released);
        waiting.release().unwrap();
    });
}
