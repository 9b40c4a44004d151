//! What the suite for every store does not ask of `tiered:`: what hand-overs inside of a host cost, and what holders
//! that die or freeze leave behind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Result, Store, Wait};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::process::{fork, is_stopped, signal, wait};
use synlock_tests::redis::RedisServer;

const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

/// A host, and the remote store.
struct Tiers {
    server: RedisServer,
    folder: TempDir,
    name: String,
}

impl Tiers {
    fn start() -> Self {
        Tiers {
            server: RedisServer::start(),
            folder: TempDir::within("/dev/shm", "synlock-tiered"),
            name: unique("n"),
        }
    }

    fn url(&self, options: &str) -> String {
        let folder = self.folder.path().display();
        format!(
            "tiered:(shm:{folder}/segment,{})?state={folder}/state&{options}",
            self.server.url()
        )
    }

    fn lock(&self, options: &str) -> Lock {
        Store::open(&self.url(options))
            .unwrap()
            .lock(&self.name)
            .unwrap()
    }

    fn leased(&self, options: &str, ms: u64) -> Lock {
        let mut lock_options = LockOptions::default();
        lock_options.ttl = Some(Duration::from_millis(ms));
        let store = Store::open(&self.url(options)).unwrap();
        store.lock_with(&self.name, lock_options).unwrap()
    }

    /// As another host sees it.
    fn elsewhere(&self) -> Lock {
        Store::open(&self.server.url())
            .unwrap()
            .lock(&self.name)
            .unwrap()
    }

    fn waiters(&self, url: &str) -> u32 {
        let found = Store::open(url).unwrap().inspect(&self.name).unwrap();
        found.waiters.unwrap()
    }

    fn wait_for_waiters(&self, url: &str, count: u32) {
        until("they wait", || self.waiters(url) == count);
        // A newcomer may pass those who have not waited for long.
        std::thread::sleep(Duration::from_millis(10));
    }

    fn scripts(&self) -> u64 {
        self.server.calls("evalsha") + self.server.calls("eval")
    }
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn fence(lock: &Lock) -> u64 {
    lock.acquire(PATIENCE, None).unwrap().fence.unwrap()
}

#[test]
fn a_hand_over_asks_the_remote_store_nothing_until_the_budget_is_spent() {
    let tiers = Tiers::start();
    let url = tiers.url("budget=3");
    let first = tiers.lock("budget=3");
    let before = fence(&first);
    std::thread::scope(|scope| {
        let (told, order) = std::sync::mpsc::channel();
        let (go, went) = std::sync::mpsc::channel::<()>();
        let went = std::sync::Arc::new(std::sync::Mutex::new(went));
        for number in 1..4 {
            let (told, went, tiers) = (told.clone(), went.clone(), &tiers);
            scope.spawn(move || {
                let lock = tiers.lock("budget=3");
                told.send((number, fence(&lock))).unwrap();
                went.lock().unwrap().recv().unwrap();
                lock.release().unwrap();
            });
            tiers.wait_for_waiters(&url, number);
        }
        // Another host waits, behind the one that holds there.
        scope.spawn({
            let (told, tiers) = (told.clone(), &tiers);
            move || {
                let lock = tiers.elsewhere();
                told.send((9, fence(&lock))).unwrap();
                lock.release().unwrap();
            }
        });
        tiers.wait_for_waiters(&url, 4);
        let asked = tiers.scripts();
        first.release().unwrap();
        let one = order.recv().unwrap();
        go.send(()).unwrap();
        let two = order.recv().unwrap();
        assert_eq!((one.0, two.0), (1, 2));
        assert_eq!(tiers.scripts(), asked, "hand-overs asked the remote store");
        go.send(()).unwrap();
        // The budget is spent: the other host's turn, then ours again.
        let (three, four) = (order.recv().unwrap(), order.recv().unwrap());
        assert_eq!((three.0, four.0), (9, 3));
        go.send(()).unwrap();
        let fences = [before, one.1, two.1, three.1, four.1];
        assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    });
    // Nobody waits any more: nothing is kept.
    assert_eq!(code(tiers.elsewhere().acquire(Wait::No, None)), Code::Ok);
}

#[test]
fn a_holder_that_dies_leaves_its_remote_hold_to_the_next_of_its_host() {
    let tiers = Tiers::start();
    let url = tiers.url("");
    let child = fork(|| {
        let lock = tiers.leased("", 60_000);
        lock.acquire(PATIENCE, None).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        0
    });
    let store = Store::open(&url).unwrap();
    until("the child holds", || {
        let found = store.inspect(&tiers.name).unwrap();
        found.holders.first().and_then(|one| one.pid) == u32::try_from(child).ok()
    });
    std::thread::scope(|scope| {
        let next = scope.spawn(|| tiers.lock("").acquire(PATIENCE, None).unwrap());
        tiers.wait_for_waiters(&url, 1);
        let asked = tiers.scripts();
        signal(child, libc::SIGKILL);
        wait(child);
        let acquired = next.join().unwrap();
        assert!(acquired.recovered, "the last one died inside");
        assert!(tiers.scripts() > asked, "the remote store was not asked");
    });
    assert_eq!(code(tiers.elsewhere().acquire(Wait::No, None)), Code::Ok);
}

#[test]
fn a_holder_that_dies_after_its_remote_hold_was_lost_leaves_nothing() {
    let mut tiers = Tiers::start();
    let child = fork(|| {
        let lock = tiers.leased("", 60_000);
        lock.acquire(PATIENCE, None).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        0
    });
    // The remote store is the last that it asks.
    let remote = Store::open(&tiers.server.url()).unwrap();
    until("the child holds", || {
        remote.is_locked(&tiers.name).is_ok_and(|held| held)
    });
    // The remote store forgets it, and another host takes it.
    tiers.server.restart();
    let elsewhere = tiers.elsewhere();
    elsewhere.acquire(PATIENCE, None).unwrap();
    signal(child, libc::SIGKILL);
    wait(child);
    let ours = tiers.lock("");
    assert_eq!(code(ours.acquire(Wait::No, None)), Code::Busy);
    elsewhere.ensure_held().unwrap();
    elsewhere.release().unwrap();
    ours.acquire(PATIENCE, None).unwrap();
}

#[test]
fn a_restart_of_the_remote_store_is_told_to_the_holder() {
    let mut tiers = Tiers::start();
    let ours = tiers.lock("");
    ours.acquire(PATIENCE, None).unwrap();
    tiers.server.restart();
    until("the loss is told", || {
        let told = ours.refresh(None);
        told.is_err_and(|error| error.code() == Code::Lost)
    });
    ours.acquire(PATIENCE, None).unwrap();
    ours.release().unwrap();
    assert_eq!(code(tiers.elsewhere().acquire(Wait::No, None)), Code::Ok);
}

/// Frozen for longer than its remote lease: another one of its host goes on, and it is told.
#[test]
fn a_holder_that_freezes_is_told_and_takes_nothing_away() {
    let tiers = Tiers::start();
    let child = fork(|| {
        let lock = tiers.leased("allowance=1", 1000);
        // On a slow machine a grant may come later than its lease lasts.
        while lock.acquire(PATIENCE, None).is_err() {}
        // Frozen here; then it believes itself at home.
        signal(std::process::id() as libc::pid_t, libc::SIGSTOP);
        let held = code(lock.ensure_held());
        let released = code(lock.release());
        i32::from(held == Code::Ok) + 2 * i32::from(released == Code::Ok)
    });
    assert!(is_stopped(child), "the child ended");
    let ours = tiers.leased("allowance=1", 60_000);
    ours.acquire(PATIENCE, None).unwrap();
    signal(child, libc::SIGCONT);
    let answer = synlock_tests::process::exit_status(wait(child));
    assert_eq!(answer, 0, "it held or released: {answer}");
    ours.ensure_held().unwrap();
    assert_eq!(code(tiers.elsewhere().acquire(Wait::No, None)), Code::Busy);
    ours.release().unwrap();
}

/// Frozen in the remote store's queue for longer than its local lease: another one of its host goes on.
#[test]
fn a_waiter_that_freezes_takes_nothing_away_and_queues_again() {
    let tiers = Tiers::start();
    let (url, far) = (tiers.url("allowance=1"), tiers.server.url());
    let elsewhere = tiers.elsewhere();
    elsewhere.acquire(PATIENCE, None).unwrap();
    let child = fork(|| {
        let lock = tiers.leased("allowance=1", 1000);
        // On a slow machine a grant may come later than its lease lasts.
        while lock.acquire(PATIENCE, None).is_err() {}
        0
    });
    until("it waits remotely", || tiers.waiters(&far) == 1);
    signal(child, libc::SIGSTOP);
    assert!(is_stopped(child), "the child ended");
    let ours = tiers.leased("allowance=1", 60_000);
    elsewhere.release().unwrap();
    ours.acquire(PATIENCE, None).unwrap();
    signal(child, libc::SIGCONT);
    until("it waits locally", || {
        ours.ensure_held().unwrap();
        tiers.waiters(&url) == 1
    });
    ours.ensure_held().unwrap();
    ours.release().unwrap();
    assert_eq!(synlock_tests::process::exit_status(wait(child)), 0);
}

#[test]
fn a_waiter_that_gives_up_keeps_nobody_out() {
    let tiers = Tiers::start();
    let elsewhere = tiers.elsewhere();
    elsewhere.acquire(PATIENCE, None).unwrap();
    let ours = tiers.lock("");
    let short = Wait::For(Duration::from_millis(200));
    assert_eq!(code(ours.acquire(short, None)), Code::Timeout);
    elsewhere.release().unwrap();
    assert_eq!(code(tiers.elsewhere().acquire(Wait::No, None)), Code::Ok);
    assert_eq!(code(tiers.lock("").acquire(PATIENCE, None)), Code::Ok);
}

/// Until a host asks the remote store again it goes on inside what that has forgotten: a resource tells by the
/// tokens, and the class says no more than that.
#[test]
fn tokens_of_a_remote_hold_that_was_forgotten_are_refused_by_a_resource() {
    // The remote lease lasts, and has time left for the next one's.
    const LONG: &str = "allowance=60000";
    let tiers = Tiers::start();
    let url = tiers.url(LONG);
    let first = tiers.leased(LONG, 600_000);
    let before = fence(&first);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let lock = tiers.leased(LONG, 600_000);
            let inside = fence(&lock);
            (lock, inside)
        });
        tiers.wait_for_waiters(&url, 1);
        tiers.server.command(&["FLUSHALL"]);
        let elsewhere = tiers.elsewhere();
        let newer = fence(&elsewhere);
        first.release().unwrap();
        let (lock, inside) = next.join().unwrap();
        assert_eq!(inside, before + 1);
        assert!(
            inside < newer,
            "a resource would take {inside} after {newer}"
        );
        assert_eq!(code(lock.refresh(None)), Code::Lost);
        elsewhere.ensure_held().unwrap();
    });
}

#[test]
fn a_store_without_tokens_says_so_and_is_refused_where_they_are_required() {
    let members = ["memory:a", "memory:b", "memory:c"].join(",");
    for (url, class) in [
        (format!("quorum:({members})"), "none"),
        (format!("quorum:({members})?fencing=1"), "E"),
        ("quorum:(redis://a,redis://b,redis://c)".to_owned(), "none"),
        (
            "quorum:(redis://a,redis://b,redis://c)?fencing=1".to_owned(),
            "H",
        ),
        ("tiered:(shm:x,redis://a)".to_owned(), "E"),
        #[cfg(feature = "etcd")]
        ("tiered:(shm:x,etcd://a)".to_owned(), "none"),
        #[cfg(feature = "memcached")]
        ("tiered:(shm:x,memcached://a)".to_owned(), "none"),
        #[cfg(feature = "postgres")]
        ("tiered:(shm:x,postgres://u@a/d)".to_owned(), "D"),
    ] {
        let required = |what: &str| {
            let mark = if url.contains('?') { '&' } else { '?' };
            let store = Store::open(&format!("{url}{mark}require={what}")).unwrap();
            code(store.lock("n"))
        };
        let found = Store::open(&url).unwrap().capabilities().fence.class();
        assert_eq!(found, class, "{url}");
        let refused = |is_refused| [Code::Ok, Code::Unsupported][usize::from(is_refused)];
        assert_eq!(required("fence"), refused(class == "none"), "{url}");
        assert_eq!(required("fence_durable"), refused(class != "D"), "{url}");
    }
}

/// Those that are behind could not be brought to the highest token: nobody would be granted anything.
#[test]
fn a_quorum_refuses_fencing_over_members_whose_tokens_cannot_be_reserved() {
    let refused = |member: fn(&str) -> String| {
        let members = ["a", "b", "c"].map(member).join(",");
        assert_eq!(code(Store::open(&format!("quorum:({members})"))), Code::Ok);
        let fenced = Store::open(&format!("quorum:({members})?fencing=1"));
        assert_eq!(code(fenced), Code::Unsupported, "{members}");
    };
    refused(|host| format!("tiered:(shm:{host},redis://{host})"));
    #[cfg(feature = "etcd")]
    refused(|host| format!("etcd://{host}"));
    #[cfg(feature = "zookeeper")]
    refused(|host| format!("zookeeper://{host}"));
    #[cfg(feature = "memcached")]
    refused(|host| format!("memcached://{host}"));
    #[cfg(feature = "postgres")]
    refused(|host| format!("postgres+advisory://u@{host}/d?fencing=1"));
}

/// A quorum's waiters ask again under other tokens; the host's own place must not be lost with the first.
#[test]
fn hosts_take_turns_on_a_remote_quorum() {
    let folder = TempDir::within("/dev/shm", "synlock-tiered");
    let servers = [(); 3].map(|()| RedisServer::start());
    let members: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let url = |host: usize| {
        let place = format!("{}/{host}", folder.path().display());
        format!(
            "tiered:(shm:{place}.segment,quorum:({})?cold_start=1)?state={place}.state&budget=2",
            members.join(",")
        )
    };
    let (inside, name) = (AtomicU32::new(0), unique("n"));
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (inside, name, url) = (&inside, &name, url(worker % 2));
            scope.spawn(move || {
                let lock = Store::open(&url).unwrap().lock(name).unwrap();
                for _ in 0..5 {
                    lock.acquire(PATIENCE, None).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release().unwrap();
                }
            });
        }
    });
}

#[test]
fn what_cannot_be_a_tier_is_refused() {
    let open = |text: &str| code(Store::open(text));
    assert_eq!(open("tiered:(redis://a,shm:x)"), Code::Unsupported);
    assert_eq!(open("tiered:(memory:,redis://a)"), Code::Unsupported);
    assert_eq!(open("tiered:(flock:/tmp,redis://a)"), Code::Unsupported);
    assert_eq!(open("tiered:(shm:x,memory:)"), Code::Unsupported);
    assert_eq!(open("tiered:?local=shm:x"), Code::InvalidUrl);
    assert_eq!(
        open("tiered:(shm:x,redis://a)?budget=0"),
        Code::InvalidArgument
    );
    let store = Store::open("tiered:?remote=redis://a&local=shm:x").unwrap();
    assert!(store.url().starts_with("tiered:(shm:"), "{}", store.url());
}
