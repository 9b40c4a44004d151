//! Row 12 for the other stores with a server: its wall clock and ours are stepped, an hour at most, while a lock
//! is held and waited for. Whoever has lost is told at the next check and fenced off.

use crate::remote::Remote;
use crate::{code, leased, ms};
use std::process::Command;
use std::time::{Duration, SystemTime};
use synlock_core::{Code, Lock, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::{TempDir, unique};
use synlock_tests::page::FencedResource;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::wall::Wall;

const TTL: Duration = Duration::from_secs(10);
/// Of our clock and of the server's, in ms.
const STEPS: [(i64, i64); 8] = [
    (0, 1_000),
    (0, -1_000),
    (0, 10_001),
    (0, 3_600_000),
    (0, -3_600_000),
    (3_600_000, 0),
    (-3_600_000, 0),
    (3_600_000, -3_600_000),
];

/// The clocks of this program and of the servers that it starts.
struct Walls {
    ours: Wall,
    servers: Wall,
}

/// The clocks, in a program of its own in which the test of this name runs: nothing where that has run.
fn walls(test: &str) -> Option<Walls> {
    const OURS: &str = "SYNLOCK_TEST_WALL";
    if let Some(folder) = std::env::var_os(OURS) {
        let servers = Wall::new();
        for (name, value) in servers.environment() {
            // SAFETY: the only test of this program, before it has started anything.
            unsafe { std::env::set_var(name, value) };
        }
        let ours = Wall::of(folder.into());
        let before = SystemTime::now();
        ours.ahead(TTL * 10);
        let passed = before.elapsed().unwrap_or_default();
        assert!(passed >= TTL * 10, "the clock is the test's");
        return Some(Walls { ours, servers });
    }
    let wall = Wall::new();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("clocks::{test}")])
        .envs(wall.environment())
        .env(OURS, wall.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    None
}

fn step(wall: &Wall, by: i64) {
    let time = ms(by.unsigned_abs());
    if by < 0 {
        wall.back(time)
    } else {
        wall.ahead(time)
    }
}

/// What people and programs see of it: no time is below nothing or far above what it was granted for.
fn times_are_sane(store: &Store, held: &Lock, jump: Duration, what: &str) {
    if let Some(left) = held.remaining() {
        assert!(left <= TTL, "{what}: {left:?}");
    }
    for holder in store.inspect(held.name().as_bytes()).unwrap().holders {
        let left = holder.remaining.unwrap_or_default();
        // Some formats have whole seconds, rounded up.
        assert!(left <= TTL + jump + ms(2_000), "{what}: {holder:?}");
        let since = holder.held.unwrap_or_default();
        assert!(since <= jump + SOON * 2, "{what}: {holder:?}");
    }
}

/// One step while `one` holds and another waits, each on a store of its own. `by_wall`: leases end by the server's
/// wall clock.
fn jump(stores: [&Store; 2], walls: [(&Wall, i64); 2], by_wall: bool, last: &mut u64) {
    let store = stores[0];
    let [(_, ours), (_, servers)] = walls;
    let what = format!("ours {ours} ms, the server's {servers} ms");
    let time = ms(ours.unsigned_abs().max(servers.unsigned_abs()));
    let name = unique("jump");
    let [one, two] = stores.map(|store| leased_or_not(store, &name));
    let resource = FencedResource::default();
    // Each token is above all before it, whatever the clocks say.
    let mut grows = |lock: &Lock| {
        let token = lock.fencing_token()?;
        assert!(token > *last || !by_wall, "{what}: {token} after {last}");
        *last = token;
        Some(token)
    };
    one.acquire(Wait::For(SOON), None).unwrap();
    let token = grows(&one);
    assert!(token.is_none_or(|token| resource.write(1, token)), "{what}");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| two.acquire(Wait::For(SOON), None).map(drop));
        while stores[1].inspect(&name).unwrap().waiters == Some(0) {
            std::thread::sleep(ms(2));
        }
        for (wall, by) in walls {
            step(wall, by);
        }
        times_are_sane(store, &one, time, &what);
        if by_wall && ms(servers.max(0).unsigned_abs()) >= TTL {
            // For the server its time is over: the other has it before we let go.
            waiter.join().unwrap().unwrap();
            let fresh = two.fencing_token();
            assert!(fresh.is_none_or(|fresh| resource.write(2, fresh)), "{what}");
            let stale = token.is_some_and(|token| resource.write(1, token));
            assert!(!stale, "{what}: a stale write");
            assert_eq!(code(one.ensure_held()), Code::Lost, "{what}");
            assert_eq!(code(one.release()), Code::Lost, "{what}");
        } else {
            one.ensure_held()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            if store.capabilities().ttl {
                one.refresh(None)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            times_are_sane(store, &one, time, &what);
            assert!(!waiter.is_finished(), "{what}: granted twice");
            assert!(token.is_none_or(|token| resource.write(1, token)), "{what}");
            one.release().unwrap();
            waiter
                .join()
                .unwrap()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        times_are_sane(stores[1], &two, time, &what);
        two.ensure_held().unwrap();
        grows(&two);
        // A statement that had begun before the clock went back has granted by the right time.
        let holders = store.inspect(name.as_bytes()).unwrap().holders;
        let granted_before = holders[0].remaining.is_some_and(|left| left > TTL * 2);
        // The clocks are put right while it is held: where that is a step ahead, it ends too.
        for (wall, _) in walls {
            step(wall, 0);
        }
        let ends = by_wall && ms(servers.min(0).unsigned_abs()) >= TTL && !granted_before;
        let kept = code(two.ensure_held());
        assert_eq!(
            kept,
            if ends { Code::Lost } else { Code::Ok },
            "{what}, put right"
        );
        assert_eq!(code(two.release()), kept, "{what}, put right");
    });
}

fn leased_or_not(store: &Store, name: &str) -> Lock {
    if store.capabilities().ttl {
        leased(store, name, TTL)
    } else {
        store.lock(name).unwrap()
    }
}

fn jumps(test: &str, queries: &[&str], by_wall: bool, start: impl Fn() -> Remote) {
    let Some(walls) = walls(test) else { return };
    let remote = start();
    for query in queries {
        let (store, mut last) = (remote.store(query), 0);
        for _ in 0..if is_full_load() { 10 } else { 1 } {
            for (ours, servers) in STEPS {
                let steps = [(&walls.ours, ours), (&walls.servers, servers)];
                jump([&store, &store], steps, by_wall, &mut last);
            }
        }
    }
}

macro_rules! clocks {
    ($($feature:literal $name:ident $by_wall:literal $queries:expr, $remote:expr;)*) => {
        $(
            #[cfg(feature = $feature)]
            #[test]
            fn $name() {
                jumps(stringify!($name), &$queries, $by_wall, || $remote);
            }
        )*
    };
}

// Leases in a table end by the database's wall clock; the others count what has gone by. etcd asks the kernel without
// the library of a preloaded clock: there only ours is stepped.
clocks! {
    "memcached" clock_jumps_of_memcached false [""], Remote::memcached();
    "postgres" clock_jumps_of_postgres true ["", "dialect=symfony"], Remote::postgres("postgres");
    "postgres" clock_jumps_of_postgres_advisory false [""], Remote::postgres("postgres+advisory");
    "mysql" clock_jumps_of_mysql true ["", "dialect=symfony"], Remote::mysql("mysql");
    "mysql" clock_jumps_of_mysql_advisory false [""], Remote::mysql("mysql+advisory");
    "zookeeper" clock_jumps_of_zookeeper false [""], Remote::zookeeper();
    "etcd" clock_jumps_of_etcd false [""], Remote::etcd();
}

/// A table ends its leases early when its clock goes ahead: in a quorum it has forgotten then.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn no_vote_after_a_jump(test: &str, start: impl Fn() -> Remote) {
    let Some(walls) = walls(test) else { return };
    let remote = start();
    let near = ["a", "b"].map(|one| format!("memory:{}", unique(one)));
    let members = [&remote.url, &near[0], &near[1]].map(|url| format!("member={url}"));
    let store = Store::open(&format!(
        "quorum:?{}&max_ttl={}",
        members.join("&"),
        TTL.as_millis()
    ))
    .unwrap();
    let stranger = Store::open(&near[1]).unwrap().lock("n").unwrap();
    let [one, two] = [(), ()].map(|()| leased(&store, "n", TTL));
    // On the table and one more.
    stranger.acquire(Wait::No, None).unwrap();
    one.acquire(Wait::For(SOON), None).unwrap();
    stranger.release().unwrap();
    step(&walls.servers, 3_600_000);
    assert!(
        remote
            .store("")
            .lock("n")
            .unwrap()
            .try_acquire()
            .unwrap()
            .is_some(),
        "the lease has ended there"
    );
    step(&walls.servers, 7_200_000);
    let taken = two.acquire(Wait::No, None);
    assert!(taken.is_err(), "two holders");
}

#[cfg(feature = "postgres")]
#[test]
fn a_table_of_postgres_that_skips_time_does_not_vote() {
    let test = "a_table_of_postgres_that_skips_time_does_not_vote";
    no_vote_after_a_jump(test, || Remote::postgres("postgres"));
}

#[cfg(feature = "mysql")]
#[test]
fn a_table_of_mariadb_that_skips_time_does_not_vote() {
    let test = "a_table_of_mariadb_that_skips_time_does_not_vote";
    no_vote_after_a_jump(test, || Remote::mysql("mysql"));
}

/// Of two hosts: the near stores go by what has gone by, the far one's leases end by its wall clock.
#[test]
fn clock_jumps_of_two_tiers() {
    let Some(walls) = walls("clock_jumps_of_two_tiers") else {
        return;
    };
    let (server, folder) = (
        RedisServer::start(),
        TempDir::within("/dev/shm", "synlock-clocks"),
    );
    let stores = ["here", "there"].map(|host| {
        let place = format!("{}/{host}", folder.path().display());
        // A far lease as long as the hold's own.
        let options = format!("state={place}.state&allowance=1");
        let (near, far) = (format!("shm:{place}.segment"), server.url());
        Store::open(&format!("tiered:?local={near}&remote={far}&{options}")).unwrap()
    });
    for _ in 0..if is_full_load() { 10 } else { 1 } {
        for (ours, servers) in STEPS {
            let steps = [(&walls.ours, ours), (&walls.servers, servers)];
            // Each name has tokens of its own.
            jump([&stores[0], &stores[1]], steps, true, &mut 0);
        }
    }
}
