//! What the suites for every store do not ask of `etcd:`: its faults, its leases, and `etcdctl` beside it.

mod hostile;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Mode, Result, State, Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::services::etcd::{EtcdServer, Options};
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::{Fault, Late, Proxy};

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

/// With connections of its own, unlike other stores of this process.
fn store(url: &str) -> Store {
    let label = unique("client");
    let url = match url {
        url if url.contains("io_timeout") => url.to_owned(),
        url => patient(url),
    };
    Store::open_with(&url, &[("label", &label)]).unwrap()
}

fn lock(url: &str, name: &str) -> Lock {
    store(url).lock(name).unwrap()
}

fn leased(url: &str, name: &str, ttl: Duration) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    store(url).lock_with(name, options).unwrap()
}

fn code<T>(result: Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

fn tried(lock: &Lock) -> Code {
    match lock.try_acquire() {
        Ok(None) => Code::Busy,
        result => code(result),
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(ms(5));
    }
}

/// The proxy in front of a server.
fn proxied(server: &EtcdServer) -> (Proxy, String) {
    let host = server.host(0);
    let port = host.rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port);
    let url = proxy.url().replace("redis:", "etcd:");
    (proxy, url)
}

fn waiters(url: &str, name: &str) -> u32 {
    let found = store(url).inspect(name).unwrap();
    found.waiters.unwrap()
}

#[test]
fn a_server_that_is_down_or_deaf_is_unavailable() {
    let down = format!("etcd://127.0.0.1:{}?io_timeout=300", free_port());
    assert_eq!(tried(&lock(&down, "x")), Code::Unavailable);
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let url = format!("etcd://127.0.0.1:{port}?io_timeout=300");
    assert_eq!(tried(&lock(&url, "x")), Code::Unavailable);
    // The caller's own deadline counts, if it is nearer.
    let url = format!("etcd://127.0.0.1:{port}?io_timeout=600000");
    let waits = lock(&url, "x").acquire(Wait::For(ms(200)), None);
    assert_eq!(code(waits), Code::Unavailable);
}

#[test]
fn what_answers_and_is_no_etcd_is_told() {
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in web.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>");
        }
    });
    let url = format!("etcd://127.0.0.1:{port}?io_timeout=20000");
    assert_eq!(code(store(&url).ping(Wait::Forever)), Code::Protocol);
}

#[test]
fn a_wrong_login_is_refused_without_its_words() {
    let server = EtcdServer::start_with(Options {
        password: Some("geheim".into()),
        ..Options::default()
    });
    lock(&server.url(), "n").acquire(PATIENCE, None).unwrap();
    for bad in ["root:canary@", ""] {
        let url = server.url().replace("root:geheim@", bad);
        let error = lock(&url, "n").try_acquire().unwrap_err();
        assert_eq!(error.code(), Code::Permission, "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[test]
fn who_may_only_read_is_refused_and_leaves_nothing() {
    let server = EtcdServer::start_with(Options {
        password: Some("geheim".into()),
        ..Options::default()
    });
    for words in [
        &["role", "add", "reader"][..],
        &["role", "grant-permission", "reader", "read", "", "--prefix"],
        &["user", "add", "looker:secret"],
        &["user", "grant-role", "looker", "reader"],
    ] {
        server.told(words);
    }
    let held = lock(&server.url(), "held");
    held.acquire(PATIENCE, None).unwrap();
    let keys = || server.told(&["get", "", "--prefix", "--keys-only"]);
    let before = keys();
    let url = server.url().replace("root:geheim", "looker:secret");
    let looker = store(&url);
    let barred = looker.lock("free").unwrap();
    for what in [&barred, &looker.lock("held").unwrap()] {
        let error = what.try_acquire().unwrap_err();
        assert_eq!(error.code(), Code::Permission, "{error:?}");
    }
    assert!(!looker.inspect("held").unwrap().holders.is_empty());
    assert_eq!(keys(), before);
    server.told(&[
        "role",
        "grant-permission",
        "reader",
        "readwrite",
        "",
        "--prefix",
    ]);
    assert_eq!(tried(&barred), Code::Ok);
    held.release().unwrap();
}

/// Without room no lock is granted, and those that are held can be kept and left.
#[test]
fn a_server_without_room_says_so_and_works_again() {
    let server = EtcdServer::start_with(Options {
        extra: vec!["--quota-backend-bytes=20000000".into()],
        ..Options::default()
    });
    let url = server.url();
    let held = leased(&url, "held", Duration::from_secs(60));
    held.acquire(PATIENCE, None).unwrap();
    let names = synlock_tests::names::TempDir::new("synlock-etcd-room");
    let file = names.path().join("much");
    std::fs::write(&file, vec![b'x'; 1_000_000]).unwrap();
    until("no room", || {
        let much = std::fs::File::open(&file).unwrap();
        let mut put = server.ctl(&["put", "much"]);
        !put.stdin(much).output().unwrap().status.success()
    });
    let free = leased(&url, "free", Duration::from_secs(60));
    let error = free.try_acquire().unwrap_err();
    assert_eq!(error.code(), Code::Exhausted, "{error:?}");
    assert_eq!(code(held.refresh(None)), Code::Ok);
    assert_eq!(code(held.ensure_held()), Code::Ok);
    held.release().unwrap();
    let status = server.told(&["endpoint", "status", "--write-out=json"]);
    let at = status.find("\"revision\":").unwrap() + "\"revision\":".len();
    let revision: String = status[at..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    server.told(&["compact", &revision]);
    server.told(&["defrag"]);
    server.told(&["alarm", "disarm"]);
    assert_eq!(tried(&free), Code::Ok);
    // The try without room left nothing in the line.
    assert_eq!(waiters(&url, "free"), 0);
    assert_eq!(tried(&lock(&url, "held")), Code::Ok);
}

/// Row 16.
#[test]
fn a_lost_reply_leaves_nothing_behind() {
    let server = EtcdServer::start();
    let name = unique("n");
    let mut lost = 0;
    for _ in 0..if is_full_load() { 100 } else { 2 } {
        for count in 1..10 {
            // A new proxy, so that the store begins without a connection.
            let (proxy, url) = proxied(&server);
            let one = leased(&url, &name, Duration::from_secs(60));
            proxy.lose(count);
            let taken = tried(&one);
            assert!(
                matches!(taken, Code::Ok | Code::Uncertain | Code::Unavailable),
                "{count}: {taken:?}"
            );
            if taken == Code::Ok {
                // Or it acted on nothing that is there.
                let found = store(&server.url()).inspect(&name).unwrap();
                assert_eq!((found.holders.len(), found.waiters), (1, Some(0)));
                assert_eq!(one.fencing_token(), found.holders[0].fence, "{count}");
                one.ensure_held().unwrap();
                one.refresh(Some(Duration::from_secs(90))).unwrap();
                let released = code(one.release());
                assert!(
                    matches!(released, Code::Ok | Code::Uncertain),
                    "{count}: {released:?}"
                );
            }
            lost += u32::from(proxy.has_lost());
            proxy.heal();
            drop(one);
            until("the key goes", || {
                server
                    .told(&["get", "--prefix", "synlock:", "--keys-only"])
                    .trim()
                    .is_empty()
            });
        }
    }
    assert!(lost >= 10, "{lost} replies were lost");
}

#[test]
fn silence_is_uncertain_and_a_refresh_after_it_holds() {
    let server = EtcdServer::start();
    let (proxy, url) = proxied(&server);
    let url = format!("{url}?io_timeout=500");
    let name = unique("n");
    let ours = leased(&url, &name, Duration::from_secs(60));
    // A server that has just started may not answer in as little time.
    until("a hold", || ours.acquire(PATIENCE, None).is_ok());
    proxy.fail(1, Fault::OneWay);
    // The first reply is awaited in vain, and nobody answers on another connection.
    assert!(matches!(
        code(ours.refresh(Some(Duration::from_secs(90)))),
        Code::Uncertain | Code::Unavailable
    ));
    proxy.heal();
    until("a refresh", || {
        ours.refresh(Some(Duration::from_secs(90))).is_ok()
    });
    ours.release().unwrap();
    assert_eq!(tried(&lock(&server.url(), &name)), Code::Ok);
}

/// A refresh for longer whose answer is lost, or that comes late, may hang the key on another lease: whoever
/// refreshes it afterwards keeps that in mind.
#[test]
fn a_refresh_after_one_in_doubt_keeps_the_key() {
    let server = EtcdServer::start();
    let kept = |is_late: bool| {
        let (proxy, url) = proxied(&server);
        let name = unique("n");
        let ours = leased(&format!("{url}?io_timeout=1000"), &name, ms(5000));
        // A server that has just started may not answer in as little time.
        until("a hold", || ours.acquire(PATIENCE, None).is_ok());
        if is_late {
            proxy.keep_next_with("/v3/kv/txn");
        } else {
            // The lease is granted, and the transaction is carried out.
            proxy.fail(2, Fault::OneWay);
        }
        assert_eq!(code(ours.refresh(Some(ms(7000)))), Code::Uncertain);
        proxy.heal();
        until("a refresh", || ours.refresh(None).is_ok());
        proxy.send_late();
        let theirs = lock(&server.url(), &name);
        let end = Instant::now() + ms(11_000);
        while Instant::now() < end {
            let refreshed = code(ours.refresh(None));
            let taken = tried(&theirs);
            assert_ne!((refreshed, taken), (Code::Ok, Code::Ok), "late {is_late}");
            assert_ne!(
                (ours.state(), taken),
                (State::Held, Code::Ok),
                "late {is_late}"
            );
            std::thread::sleep(ms(200));
        }
        // Where its answer is late, the background has released before.
        let released = code(ours.release());
        assert!(
            matches!(released, Code::Ok | Code::Uncertain | Code::Unavailable),
            "late {is_late}: {released:?}"
        );
        until("the lock is free", || tried(&theirs) == Code::Ok);
        if is_late {
            assert_eq!(proxy.late(), Late::Answered);
        }
    };
    std::thread::scope(|scope| {
        for is_late in [false, true] {
            scope.spawn(move || kept(is_late));
        }
    });
}

#[test]
fn holds_outlive_a_restart_and_end_with_an_empty_one() {
    let mut server = EtcdServer::start();
    let name = unique("n");
    let ours = leased(&server.url(), &name, Duration::from_secs(60));
    let first = ours.acquire(PATIENCE, None).unwrap().fence.unwrap();
    server.kill(0);
    assert_eq!(code(ours.refresh(None)), Code::Unavailable);
    server.start_again(0);
    ours.refresh(None).unwrap();
    assert_eq!(tried(&lock(&server.url(), &name)), Code::Busy);
    ours.release().unwrap();
    let theirs = lock(&server.url(), &name);
    let second = theirs.acquire(PATIENCE, None).unwrap().fence.unwrap();
    assert!(second > first, "{second} after {first}");
    server.restart_empty();
    assert_eq!(code(theirs.refresh(None)), Code::Lost);
}

#[test]
fn what_the_server_takes_away_is_a_loss() {
    let server = EtcdServer::start();
    let name = unique("n");
    let key = format!("synlock:{name}/");
    let ours = lock(&server.url(), &name);
    ours.acquire(PATIENCE, None).unwrap();
    server.told(&["del", "--prefix", &key]);
    assert_eq!(code(ours.refresh(None)), Code::Lost);
    ours.acquire(PATIENCE, None).unwrap();
    let found = server.told(&["get", "--prefix", &key, "--keys-only"]);
    let lease = found.trim().rsplit('/').next().unwrap();
    server.told(&["lease", "revoke", lease]);
    assert_eq!(code(ours.refresh(None)), Code::Lost);
    ours.acquire(PATIENCE, None).unwrap();
    ours.release().unwrap();
}

/// Row 27: a grant is none without its key, however long it was waited for.
#[test]
fn who_waits_longer_than_its_lease_holds_a_key() {
    let server = EtcdServer::start();
    let url = server.url();
    let name = unique("n");
    let key = format!("synlock:{name}/");
    let first = lock(&url, &name);
    first.acquire(PATIENCE, None).unwrap();
    let is_held = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let waiter = leased(&url, &name, Duration::from_secs(1));
            loop {
                let fence = waiter.acquire(PATIENCE, None).unwrap().fence.unwrap();
                assert!(!is_held.load(Ordering::SeqCst), "two holders");
                let keys = server.told(&["get", "--prefix", &key, "--write-out=fields"]);
                // Or its second was over before anybody could look.
                if code(waiter.release()) == Code::Ok {
                    let revision = format!("\"CreateRevision\" : {fence}\n");
                    assert!(keys.contains(&revision), "{fence} is not in {keys}");
                    break;
                }
            }
        });
        until("somebody waits", || waiters(&url, &name) == 1);
        // Longer than any lease of a second lasts there.
        std::thread::sleep(ms(4200));
        assert_eq!(waiters(&url, &name), 1);
        // Its place is taken away, as if its process had slept: it stands in line anew.
        let keys = server.told(&["get", "--prefix", &key, "--sort-by=CREATE", "--keys-only"]);
        let last = keys.split_whitespace().last().unwrap().to_owned();
        server.told(&["del", &last]);
        until("it is back", || {
            waiters(&url, &name) == 1 || waiter.is_finished()
        });
        is_held.store(false, Ordering::SeqCst);
        first.release().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn waiters_outlive_compaction_and_a_restart() {
    let mut server = EtcdServer::start();
    let url = server.url();
    let name = unique("n");
    let first = lock(&url, &name);
    first.acquire(PATIENCE, None).unwrap();
    let waits = {
        let (url, name) = (url.clone(), name.clone());
        std::thread::spawn(move || {
            let waiter = lock(&url, &name);
            loop {
                match waiter.acquire(PATIENCE, None) {
                    Ok(_) => return,
                    // The server is away.
                    Err(error) => assert!(error.is_retriable(), "{error}"),
                }
            }
        })
    };
    until("somebody waits", || waiters(&url, &name) == 1);
    let revision = server.told(&["put", "x", "y", "--write-out=fields"]);
    let revision = revision
        .lines()
        .find_map(|line| line.strip_prefix("\"Revision\" : "))
        .unwrap()
        .to_owned();
    server.told(&["compact", &revision]);
    server.kill(0);
    server.start_again(0);
    until("it waits again", || waiters(&url, &name) == 1);
    first.release().unwrap();
    waits.join().unwrap();
}

#[test]
fn a_cluster_goes_on_without_its_leader_and_not_without_most() {
    let mut server = EtcdServer::start_with(Options {
        members: 3,
        ..Options::default()
    });
    let url = format!("{}?connect_timeout=2000&io_timeout=8000", server.url());
    let name = unique("n");
    let ours = leased(&url, &name, Duration::from_secs(60));
    let first = ours.acquire(PATIENCE, None).unwrap().fence.unwrap();
    let leader = server.leader().expect("a leader");
    server.pause(leader);
    until("the others elect one", || ours.refresh(None).is_ok());
    assert_eq!(tried(&lock(&url, &name)), Code::Busy);
    server.resume(leader);
    for number in 0..2 {
        server.kill((leader + number) % 3);
    }
    let answer = tried(&leased(&url.replace("8000", "500"), "other", ms(1000)));
    assert!(
        matches!(answer, Code::Unavailable | Code::Uncertain),
        "{answer:?}"
    );
    for number in 0..2 {
        server.launch_again((leader + number) % 3);
    }
    until("most are back", || ours.refresh(None).is_ok());
    ours.release().unwrap();
    let second = lock(&url, &name).acquire(PATIENCE, None).unwrap();
    assert!(second.fence.unwrap() > first);
}

/// `etcdctl lock`, which holds as long as it runs.
struct Ctl(Child);

impl Ctl {
    fn start(server: &EtcdServer, name: &str) -> Self {
        let mut command = server.ctl(&["lock", name]);
        Ctl(command.stdout(Stdio::piped()).spawn().expect("etcdctl"))
    }

    /// Returns once it holds.
    fn wait(&mut self) {
        let mut line = String::new();
        let out = self.0.stdout.as_mut().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert!(line.contains('/'), "{line}");
    }

    fn release(mut self) {
        let pid = libc::pid_t::try_from(self.0.id()).expect("a pid");
        // SAFETY: sends a signal to a child of ours that has not been waited for.
        unsafe { libc::kill(pid, libc::SIGINT) };
        self.0.wait().expect("its end");
    }
}

#[test]
fn etcdctl_and_we_take_turns() {
    let server = EtcdServer::start();
    let url = server.url();
    let name = unique("n");
    let full = format!("synlock:{name}");
    let (ours, shared) = (lock(&url, &name), {
        let mut options = LockOptions::default();
        options.mode = Mode::Shared;
        store(&url).lock_with(&name, options).unwrap()
    });
    for _ in 0..5 {
        let mut theirs = Ctl::start(&server, &full);
        theirs.wait();
        assert_eq!((tried(&ours), tried(&shared)), (Code::Busy, Code::Busy));
        let found = store(&url).inspect(&name).unwrap();
        assert!(found.holders.len() == 1 && found.holders[0].fence.is_some());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| ours.acquire(PATIENCE, None).unwrap());
            until("we wait", || waiters(&url, &name) == 1);
            let mut next = Ctl::start(&server, &full);
            until("both wait", || waiters(&url, &name) == 2);
            theirs.release();
            waits.join().unwrap();
            assert_eq!(waiters(&url, &name), 1);
            ours.release().unwrap();
            next.wait();
            next.release();
        });
    }
    // A killed one's lock comes free with its lease.
    let mut theirs = Ctl::start(&server, &full);
    theirs.wait();
    theirs.0.kill().unwrap();
    theirs.0.wait().unwrap();
    assert_eq!(tried(&ours), Code::Busy);
    ours.acquire(PATIENCE, None).unwrap();
}

#[test]
fn a_lock_below_another_one_s_name_is_another_one() {
    let server = EtcdServer::start();
    let url = server.url();
    let (a, below) = (lock(&url, "a"), lock(&url, "a/b"));
    a.acquire(PATIENCE, None).unwrap();
    below.acquire(PATIENCE, None).unwrap();
    let mut theirs = Ctl::start(&server, "synlock:c/d");
    theirs.wait();
    let c = lock(&url, "c");
    assert_eq!(tried(&c), Code::Ok);
    c.release().unwrap();
    c.acquire(PATIENCE, None).unwrap();
    theirs.release();
    let page = store(&url).list(b"a", None, 10).unwrap();
    let names: Vec<&[u8]> = page.locks.iter().map(|lock| lock.name.as_slice()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&b"a".as_slice()) && names.contains(&b"a/b".as_slice()));
}

#[test]
fn a_ttl_that_etcd_cannot_keep_is_refused_in_words() {
    let mut options = LockOptions::default();
    options.ttl = Some(ms(999));
    let error = store("etcd:").lock_with("n", options).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("whole seconds"), "{error}");
}

/// What an older release wrote is honoured.
#[test]
fn keys_of_the_vectors_are_read() {
    let server = EtcdServer::start();
    let text = include_str!("../vectors/etcd-layout-1.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [name, key, value, mode] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        server.told(&["put", key, value]);
        let store = store(&server.url());
        let found = store.inspect(name).unwrap();
        assert_eq!(found.holders.len(), 1, "{line}");
        assert_eq!(found.holders[0].mode, mode, "{line}");
        assert_eq!(tried(&lock(&server.url(), name)), Code::Busy);
    }
}
