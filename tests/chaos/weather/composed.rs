//! Rows 16 and 17 for stores made of others: a quorum with a member or two in trouble, two tiers whose remote store
//! is; and the loss of each reply.

use crate::calls::TIMEOUT;
use crate::network::insist;
use crate::{code, leased, let_sigpipe_kill, ms};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::TempDir;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::{Fault, Proxy};

/// As long as a member remembers. Nothing may depend on its end but what is left by a call that was lost.
const LEASE: Duration = Duration::from_secs(60);
const PATIENCE: Wait = Wait::For(SOON);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    Stopped,
    Killed,
    Silence,
    OneWay,
    Reset,
    Password,
    ReadOnly,
    Memory,
}

impl Trouble {
    const ALL: [Trouble; 8] = [
        Trouble::Stopped,
        Trouble::Killed,
        Trouble::Silence,
        Trouble::OneWay,
        Trouble::Reset,
        Trouble::Password,
        Trouble::ReadOnly,
        Trouble::Memory,
    ];

    /// Whether the server knows afterwards who held.
    fn is_remembered(self) -> bool {
        self != Trouble::Killed
    }

    /// Whether it says so all the while.
    fn is_told(self) -> bool {
        matches!(self, Trouble::ReadOnly | Trouble::Memory)
    }
}

/// A server, and the way to it.
struct Member {
    server: RedisServer,
    proxy: Proxy,
}

impl Member {
    fn start() -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        Member { server, proxy }
    }

    fn url(&self) -> String {
        let ms = TIMEOUT.as_millis();
        format!("{}?io_timeout={ms}&connect_timeout={ms}", self.proxy.url())
    }

    /// The server, whatever the network does.
    fn direct(&self) -> Store {
        Store::open(&self.server.socket_url()).unwrap()
    }

    fn begin(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Stopped => self.server.pause(),
            Trouble::Killed => self.server.kill(),
            Trouble::Silence => self.proxy.fail(1, Fault::Silence),
            Trouble::OneWay => self.proxy.fail(1, Fault::OneWay),
            Trouble::Reset => self.proxy.fail(1, Fault::Reset),
            Trouble::Password => {
                self.tell(&["CONFIG", "SET", "requirepass", "another"]);
                // Who is in has shown its password.
                let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
                self.server
                    .command(&[&["-a", "another"], &kill[..]].concat());
            }
            Trouble::ReadOnly => self.tell(&["REPLICAOF", "127.0.0.1", "1"]),
            Trouble::Memory => self.tell(&["CONFIG", "SET", "maxmemory", "1"]),
        }
    }

    fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Stopped => self.server.resume(),
            Trouble::Killed => self.server.restart(),
            Trouble::Silence | Trouble::OneWay | Trouble::Reset => self.proxy.heal(),
            Trouble::Password => {
                self.tell(&["-a", "another", "CONFIG", "SET", "requirepass", ""]);
            }
            Trouble::ReadOnly => self.tell(&["REPLICAOF", "NO", "ONE"]),
            Trouble::Memory => self.tell(&["CONFIG", "SET", "maxmemory", "0"]),
        }
    }

    fn tell(&self, words: &[&str]) {
        let answer = self.server.command(words);
        assert!(answer.ends_with("OK"), "{words:?}: {answer}");
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    // What nobody could take back lasts as long as its lease.
    let end = Instant::now() + LEASE * 2 + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(ms(5));
    }
}

/// Never a grant: what it says instead.
fn refused(lock: &Lock, what: &str) -> Code {
    let found = match lock.try_acquire() {
        Ok(None) => Code::Busy,
        result => code(result),
    };
    assert!(
        matches!(
            found,
            Code::Busy | Code::Unavailable | Code::Uncertain | Code::Permission
        ),
        "{what}: {found:?}"
    );
    found
}

/// Until it says that somebody holds: the others may be late on a slow machine.
fn is_busy(lock: &Lock, what: &str) {
    until(what, || refused(lock, what) == Code::Busy);
}

fn is_over(lock: &Lock, what: &str) {
    let released = code(lock.release());
    assert!(
        matches!(
            released,
            Code::Ok | Code::Uncertain | Code::Unavailable | Code::Permission
        ),
        "{what}: {released:?}"
    );
    // What is left of it is the service's.
    let _ = lock.abandon();
}

struct Three([Member; 3]);

impl Three {
    fn start() -> Self {
        Three([(); 3].map(|()| Member::start()))
    }

    fn store(&self) -> Store {
        let members = self.0.each_ref().map(Member::url).join(",");
        Store::open(&format!("quorum:({members})?cold_start=1&fencing=1")).unwrap()
    }

    fn none_has(&self, name: &str, what: &str) {
        let has = |member: &Member| member.direct().is_locked(name).unwrap_or(true);
        until(what, || !self.0.iter().any(has));
    }

    fn held(&self, lock: &Lock, name: &str, what: &str) -> u64 {
        // A member that was slow has no vote: then once more.
        loop {
            let fence = insist(|| lock.acquire(PATIENCE, None)).fence.unwrap();
            let has = |member: &Member| member.direct().is_locked(name).unwrap_or(false);
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                if self.0.iter().all(has) {
                    return fence;
                }
                std::thread::sleep(ms(5));
            }
            is_over(lock, what);
        }
    }
}

/// It goes on, grants nothing twice, and counts on the member again afterwards.
fn one_of_three(three: &mut Three, trouble: Trouble, place: usize) {
    let what = &*format!("{trouble:?} at {place}");
    let (store, name) = (three.store(), unique("one"));
    let [a, b] = [(); 2].map(|()| leased(&store, &name, LEASE));
    let first = three.held(&a, &name, what);
    three.0[place].begin(trouble);
    is_busy(&b, what);
    insist(|| a.ensure_held());
    insist(|| a.refresh(None));
    is_over(&a, what);
    let second = insist(|| b.acquire(PATIENCE, None)).fence.unwrap();
    assert!(second > first, "{what}: {second} after {first}");
    is_busy(&a, what);
    insist(|| b.refresh(None));
    three.0[place].end(trouble);
    is_over(&b, what);
    // Now it takes its vote.
    let alone = three.0[(place + 1) % 3].direct();
    let stranger = leased(&alone, &name, LEASE);
    insist(|| stranger.acquire(PATIENCE, None));
    // A waiter would stand in line where the stranger may be.
    let mut third = None;
    until(what, || {
        third = a.try_acquire().ok().flatten().and_then(|got| got.fence);
        third.is_some()
    });
    assert!(third > Some(second), "{what}: {third:?} after {second}");
    is_busy(&b, what);
    stranger.release().unwrap();
    is_over(&a, what);
    three.none_has(&name, what);
}

/// It grants nothing, and loses nothing that the members remember.
fn two_of_three(three: &mut Three, trouble: Trouble, place: usize) {
    let what = &*format!("{trouble:?} everywhere but at {place}");
    let (store, name, other) = (three.store(), unique("two"), unique("new"));
    let [a, b] = [(); 2].map(|()| leased(&store, &name, LEASE));
    let new = leased(&store, &other, LEASE);
    three.held(&a, &name, what);
    let bad = [(place + 1) % 3, (place + 2) % 3];
    bad.iter().for_each(|at| three.0[*at].begin(trouble));
    assert_ne!(refused(&new, what), Code::Busy, "{what}");
    let waited = code(new.acquire(Wait::For(TIMEOUT), None));
    assert_ne!(waited, Code::Ok, "{what}");
    refused(&b, what);
    let found = code(a.ensure_held());
    assert!(
        matches!(found, Code::Unavailable | Code::Uncertain)
            || (found == Code::Ok && trouble.is_told()),
        "{what}: {found:?}"
    );
    bad.iter().for_each(|at| three.0[*at].end(trouble));
    if trouble.is_remembered() {
        insist(|| a.ensure_held());
        is_busy(&b, what);
        insist(|| a.refresh(None));
    }
    let released = code(a.release());
    let may_be_lost = released == Code::Lost && !trouble.is_remembered();
    assert!(
        matches!(released, Code::Ok | Code::Uncertain | Code::Unavailable) || may_be_lost,
        "{what}: {released:?}"
    );
    for lock in [&b, &new] {
        insist(|| lock.acquire(PATIENCE, None));
        is_over(lock, what);
    }
    three.none_has(&name, what);
    three.none_has(&other, what);
}

/// Each kind of trouble on servers of its own, side by side: nearly all of the time goes by in waiting.
fn each(round: fn(&mut Three, Trouble, usize)) {
    let_sigpipe_kill();
    std::thread::scope(|scope| {
        for trouble in Trouble::ALL {
            scope.spawn(move || {
                let mut three = Three::start();
                let rounds = if is_full_load() { 4 } else { 1 };
                for place in (0..3).cycle().take(3 * rounds) {
                    round(&mut three, trouble, place);
                }
            });
        }
    });
}

#[test]
fn a_quorum_goes_on_with_one_member_in_trouble() {
    each(one_of_three);
}

#[test]
fn a_quorum_grants_nothing_with_two_members_in_trouble() {
    each(two_of_three);
}

/// Row 16, with one member whose replies are lost one by one.
#[test]
fn a_quorum_takes_no_harm_from_lost_replies() {
    let servers = [(); 3].map(|()| RedisServer::start());
    // The proxy's address is no other server.
    let open = |members: &[String; 3]| {
        let members = members.each_ref().map(|url| patient(url)).join(",");
        let options = "cold_start=1&fencing=1&config=lossy";
        Store::open(&format!("quorum:({members})?{options}")).unwrap()
    };
    let (mut lost, mut last) = (0, 0);
    let name = unique("lost");
    for _ in 0..if is_full_load() { 100 } else { 1 } {
        for (place, k) in (0..3).flat_map(|place| (1..=12).map(move |k| (place, k))) {
            let what = format!("reply {k} of member {place}");
            let proxy = Proxy::start(servers[place].port());
            let mut members = servers.each_ref().map(RedisServer::url);
            let other = leased(&open(&members), &name, LEASE);
            members[place] = proxy.url();
            let ours = leased(&open(&members), &name, LEASE);
            proxy.lose(k);
            let mut grow = |fence: Option<u64>| {
                let fence = fence.unwrap();
                assert!(fence > last, "{what}: {fence} after {last}");
                last = fence;
            };
            // One of two votes whose release is sent twice is no majority of those that say that it was ours.
            let release = |lock: &Lock| {
                let before = proxy.has_lost();
                let released = code(lock.release());
                let lost = proxy.has_lost() && !before;
                assert!(
                    released == Code::Ok || lost && released == Code::Uncertain,
                    "{what}: {released:?}"
                );
            };
            grow(ours.acquire(PATIENCE, None).unwrap().fence);
            assert!(other.try_acquire().unwrap().is_none(), "{what}");
            ours.refresh(None).unwrap();
            release(&ours);
            grow(other.acquire(PATIENCE, None).unwrap().fence);
            // In line at the first member.
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| ours.acquire(PATIENCE, None).unwrap().fence);
                std::thread::sleep(ms(10));
                other.release().unwrap();
                grow(waiter.join().unwrap());
            });
            assert!(other.try_acquire().unwrap().is_none(), "{what}");
            ours.ensure_held().unwrap();
            release(&ours);
            lost += u32::from(proxy.has_lost());
            for server in &servers {
                let alone = Store::open(&server.socket_url()).unwrap();
                until(&what, || !alone.is_locked(&name).unwrap());
            }
        }
    }
    assert!(lost >= 20, "{lost} replies lost");
}

mod tiers {
    use super::*;
    use synlock_tests::process::{fork, signal, wait};

    /// A remote store, and the near stores of two hosts.
    struct Tiers {
        far: Member,
        folder: TempDir,
    }

    impl Tiers {
        fn start() -> Self {
            Tiers {
                far: Member::start(),
                folder: TempDir::within("/dev/shm", "synlock-weather"),
            }
        }

        fn store(&self, host: &str, far: &str) -> Store {
            let place = format!("{}/{host}", self.folder.path().display());
            // Time left for the next of the host on a slow machine, too.
            let options = format!("state={place}.state&allowance=30000");
            let url = format!("tiered:?local=shm:{place}.segment&remote={far}&{options}");
            Store::open(&url).unwrap()
        }

        fn here(&self) -> Store {
            let escaped = |url: String| {
                url.replace('?', "%3F")
                    .replace('&', "%26")
                    .replace('=', "%3D")
            };
            self.store("here", &escaped(self.far.url()))
        }

        fn there(&self) -> Store {
            self.store("there", &self.far.server.url())
        }

        fn wait_for_waiter(store: &Store, name: &str) {
            until("nobody waits", || {
                let found = store.inspect(name);
                found.is_ok_and(|found| found.waiters == Some(1))
            });
        }
    }

    fn round(tiers: &mut Tiers, trouble: Trouble) {
        let what = &*format!("{trouble:?}");
        let (store, name, other) = (tiers.here(), unique("tiers"), unique("new"));
        let [a, b, c] = [(); 3].map(|()| leased(&store, &name, LEASE));
        let (new, elsewhere) = (
            leased(&store, &other, LEASE),
            leased(&tiers.there(), &name, LEASE),
        );
        let first = insist(|| a.acquire(PATIENCE, None)).fence.unwrap();
        let next = std::thread::scope(|scope| {
            let next = scope.spawn(|| b.acquire(PATIENCE, None));
            Tiers::wait_for_waiter(&store, &name);
            tiers.far.begin(trouble);
            assert_ne!(refused(&new, what), Code::Busy, "{what}");
            let found = code(a.ensure_held());
            assert!(
                matches!(
                    found,
                    Code::Unavailable | Code::Uncertain | Code::Permission
                ) || (found == Code::Ok && trouble.is_told()),
                "{what}: {found:?}"
            );
            // Inside of what the remote store has granted: it is not asked.
            let released = code(a.release());
            assert_eq!(released, Code::Ok, "{what}");
            next.join().unwrap()
        });
        let second = next.unwrap().fence.unwrap();
        assert!(second > first, "{what}: {second} after {first}");
        refused(&c, what);
        // Nobody waits: it is given back, or its lease runs out.
        is_over(&b, what);
        refused(&c, what);
        tiers.far.end(trouble);
        let third = insist(|| c.acquire(Wait::For(LEASE * 2 + SOON), None))
            .fence
            .unwrap();
        assert!(third > second, "{what}: {third} after {second}");
        refused(&elsewhere, what);
        c.release().unwrap();
        for lock in [&elsewhere, &new] {
            insist(|| lock.acquire(PATIENCE, None));
            is_over(lock, what);
        }
        let alone = tiers.far.direct();
        until(what, || !alone.is_locked(&name).unwrap());
        until(what, || !alone.is_locked(&other).unwrap());
    }

    #[test]
    fn two_tiers_grant_nothing_anew_while_the_remote_store_is_in_trouble() {
        let_sigpipe_kill();
        std::thread::scope(|scope| {
            for trouble in Trouble::ALL {
                scope.spawn(move || {
                    let mut tiers = Tiers::start();
                    for _ in 0..if is_full_load() { 4 } else { 1 } {
                        round(&mut tiers, trouble);
                    }
                });
            }
        });
    }

    /// The remote store confirms the lease first.
    #[test]
    fn who_follows_a_dead_holder_waits_for_a_remote_store_that_has_stopped() {
        let mut tiers = Tiers::start();
        let name = unique("dead");
        let child = fork(|| {
            let lock = leased(&tiers.here(), &name, LEASE);
            insist(|| lock.acquire(PATIENCE, None));
            std::thread::sleep(Duration::from_secs(600));
            0
        });
        let store = tiers.here();
        until("the child does not hold", || {
            let found = store.inspect(&name);
            found.is_ok_and(|found| !found.holders.is_empty())
        });
        tiers.far.begin(Trouble::Stopped);
        signal(child, libc::SIGKILL);
        wait(child);
        let next = leased(&store, &name, LEASE);
        for _ in 0..3 {
            refused(&next, "after a death");
        }
        tiers.far.end(Trouble::Stopped);
        let acquired = insist(|| next.acquire(PATIENCE, None));
        assert!(acquired.recovered, "the last one died inside");
        next.ensure_held().unwrap();
        next.release().unwrap();
    }

    #[test]
    fn two_tiers_take_no_harm_from_lost_replies() {
        let mut lost = 0;
        let mut tiers = Tiers::start();
        let name = unique("lost");
        let other = leased(&tiers.there(), &name, LEASE);
        for k in (1..=6).cycle().take(if is_full_load() { 600 } else { 6 }) {
            let what = format!("reply {k}");
            tiers.far.proxy = Proxy::start(tiers.far.server.port());
            let store = tiers.store("here", &tiers.far.proxy.url());
            let ours = leased(&store, &name, LEASE);
            tiers.far.proxy.lose(k);
            let found = match ours.try_acquire() {
                Ok(None) => Code::Busy,
                result => code(result),
            };
            assert!(
                matches!(
                    found,
                    Code::Ok | Code::Busy | Code::Uncertain | Code::Unavailable
                ),
                "{what}: {found:?}"
            );
            if found == Code::Ok {
                refused(&other, &what);
                let kept = code(ours.refresh(None));
                assert!(
                    matches!(kept, Code::Ok | Code::Uncertain),
                    "{what}: {kept:?}"
                );
                let released = code(ours.release());
                assert!(
                    matches!(released, Code::Ok | Code::Uncertain),
                    "{what}: {released:?}"
                );
            }
            lost += u32::from(tiers.far.proxy.has_lost());
            other.acquire(PATIENCE, None).unwrap();
            other.release().unwrap();
            let again = leased(&store, &name, LEASE);
            insist(|| again.acquire(PATIENCE, None));
            refused(&other, &what);
            is_over(&again, &what);
        }
        assert!(lost >= 3, "{lost} replies lost");
    }
}
