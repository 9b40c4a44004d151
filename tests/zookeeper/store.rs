//! What the suites for every store do not ask of `zookeeper:`: its faults, its sessions, its peers.

mod proxy;

use proxy::Proxy;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, Mode, Result, State, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::process::{is_full_load, signal};
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::Fault;
use synlock_tests::services::zookeeper::ZookeeperServer;
use synlock_tests::taker::Taker;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

/// A session of its own, unlike other stores of this process.
fn store(url: &str) -> Store {
    let label = unique("session");
    let url = match url {
        url if url.contains("io_timeout") => url.to_owned(),
        url => patient(url),
    };
    Store::open_with(&url, &[("label", &label)]).unwrap()
}

fn lock(url: &str, name: &str) -> Lock {
    store(url).lock(name).unwrap()
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

fn readable(fd: i32) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(ms(2));
    }
}

#[test]
fn a_server_that_is_down_or_deaf_is_unavailable_in_time() {
    let down = format!("zookeeper://127.0.0.1:{}?io_timeout=300", free_port());
    let start = Instant::now();
    assert_eq!(tried(&lock(&down, "x")), Code::Unavailable);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let url = format!("zookeeper://127.0.0.1:{port}?io_timeout=300");
    let start = Instant::now();
    assert_eq!(tried(&lock(&url, "x")), Code::Unavailable);
    // The caller's own deadline counts, if it is nearer.
    let url = format!("zookeeper://127.0.0.1:{port}?io_timeout=60000");
    assert!(lock(&url, "x").acquire(Wait::For(ms(200)), None).is_err());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn what_answers_and_is_no_zookeeper_is_told() {
    use std::io::{Read, Write};
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in web.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let url = format!("zookeeper://127.0.0.1:{port}?io_timeout=20000");
    assert_eq!(tried(&lock(&url, "x")), Code::Protocol);
}

#[test]
fn a_node_of_another_user_is_refused() {
    let server = ZookeeperServer::start();
    let url = |user: &str| {
        let url = server.url();
        url.replace("//", &format!("//{user}@"))
    };
    let (ours, theirs) = (url("a:secret"), url("b:geheim"));
    let one = lock(&ours, "n");
    one.try_acquire().unwrap().unwrap();
    let error = lock(&theirs, "n").try_acquire().unwrap_err();
    assert_eq!(error.code(), Code::Permission, "{error:?}");
    assert!(!format!("{error:?}").contains("geheim"));
    // The login may stand outside the URL.
    let folder = TempDir::new("synlock-zookeeper");
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let outside = |user| {
        format!(
            "{}&username={user}&password_file={}",
            server.url(),
            file.display()
        )
    };
    assert_eq!(tried(&lock(&outside("a"), "n")), Code::Busy);
    assert_eq!(tried(&lock(&outside("b"), "n")), Code::Permission);
    one.release().unwrap();
}

#[test]
fn a_folder_in_which_nobody_may_create_is_told() {
    let server = ZookeeperServer::start();
    server.tool(&["create", "/app", "", "world:anyone:ra"]);
    let (url, query) = server.url().split_once('?').map(own).unwrap();
    let error = lock(&format!("{url}/app?{query}"), "n")
        .try_acquire()
        .unwrap_err();
    assert_eq!(error.code(), Code::Permission, "{error:?}");
    server.tool(&["setAcl", "/app", "world:anyone:crdwa"]);
    assert_eq!(tried(&lock(&format!("{url}/app?{query}"), "n")), Code::Ok);
}

/// kazoo makes a lock's node once, and fails if the server clears it away. Curator makes such as we do, and makes
/// them anew.
#[test]
fn the_node_of_kazoos_locks_stays() {
    let server = ZookeeperServer::start_that_clears();
    let nodes = || server.counter("zk_znode_count");
    let at = |dialect: &str| format!("{}&root=locks&dialect={dialect}", server.url());
    let before = nodes();
    assert_eq!(tried(&lock(&at("kazoo"), "k")), Code::Ok);
    // The root and the lock.
    assert_eq!(nodes(), before + 2);
    for dialect in ["native", "curator"] {
        assert_eq!(tried(&lock(&at(dialect), dialect)), Code::Ok, "{dialect}");
    }
    until("the others are cleared away", || nodes() == before + 2);
    // They come back when they are needed.
    for dialect in ["native", "curator", "kazoo"] {
        assert_eq!(tried(&lock(&at(dialect), dialect)), Code::Ok, "{dialect}");
    }
}

fn own((first, second): (&str, &str)) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

#[test]
fn a_chroot_is_a_place_of_its_own() {
    let server = ZookeeperServer::start();
    let (url, query) = server.url().split_once('?').map(own).unwrap();
    let at = |path: &str, root: &str| format!("{url}{path}?{query}&root={root}");
    let held = lock(&at("/app/one", "locks"), "n");
    assert_eq!(tried(&held), Code::Ok);
    assert_eq!(tried(&lock(&at("/app", "one/locks"), "n")), Code::Busy);
    assert_eq!(tried(&lock(&at("", "app/one/locks"), "n")), Code::Busy);
    for (path, root) in [("/app/two", "locks"), ("/app", "locks"), ("", "one/locks")] {
        assert_eq!(
            tried(&lock(&at(path, root), "n")),
            Code::Ok,
            "{path} {root}"
        );
    }
}

#[test]
fn an_ensemble_without_most_is_trouble_until_they_are_back() {
    let mut servers = ZookeeperServer::start_ensemble(3);
    let url = servers.url();
    let (held, other) = (lock(&url, "held"), lock(&url, "other"));
    held.try_acquire().unwrap().unwrap();
    servers.kill(0);
    servers.kill(1);
    let quick = format!("{url}&io_timeout=500");
    for name in ["held", "free"] {
        let answer = tried(&lock(&quick, name));
        assert!(
            matches!(answer, Code::Unavailable | Code::Uncertain),
            "{name}: {answer:?}"
        );
    }
    // Its session cannot be kept: that is a loss, at the latest when it may have ended.
    until("a loss", || held.state() == State::Lost);
    servers.launch(0);
    servers.launch(1);
    until("most are back", || tried(&other) == Code::Ok);
    until("the lost hold has gone", || {
        tried(&lock(&url, "held")) == Code::Ok
    });
}

/// Row 26: the server's silence is a loss by our own clock, before anybody else can hold.
#[test]
fn a_session_that_may_be_over_is_a_loss_at_once() {
    let server = ZookeeperServer::start();
    let proxy = Proxy::start(server.port());
    let (ours, theirs) = (lock(&proxy.url(), "n"), lock(&server.url(), "n"));
    ours.try_acquire().unwrap().unwrap();
    let fd = ours.lost_fd().unwrap();
    let told = std::sync::Arc::new(AtomicBool::new(false));
    ours.on_lost({
        let told = told.clone();
        move || told.store(true, SeqCst)
    })
    .unwrap();
    assert_eq!(ours.state(), State::Held);
    proxy.silence(true);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            theirs.acquire(PATIENCE, None).unwrap();
            // Whoever may hold now finds the other told.
            assert_eq!(ours.state(), State::Lost);
        });
        until("a loss", || ours.state() == State::Lost);
        until("the alarm", || readable(fd) && told.load(SeqCst));
        next.join().unwrap();
    });
    proxy.silence(false);
    // What comes late revives nothing.
    std::thread::sleep(ms(100));
    assert_eq!(ours.state(), State::Lost);
    assert_eq!(code(ours.release()), Code::Lost);
    theirs.ensure_held().unwrap();
    theirs.release().unwrap();
    ours.acquire(PATIENCE, None).unwrap();
    assert!(!readable(fd));
    ours.release().unwrap();
}

/// Row 26: the leader ends the sessions of a follower that it does not hear of; the follower answers its clients for a
/// while all the same.
#[test]
fn a_follower_apart_from_its_leader_keeps_no_session() {
    let (servers, relays) = ZookeeperServer::start_with_a_follower_behind_relays();
    let (follower, others) = servers.hosts().split_once(',').map(own).unwrap();
    let url = |hosts: &str| format!("zookeeper://{hosts}?session_timeout=5000");
    let (ours, theirs) = (lock(&url(&follower), "n"), lock(&url(&others), "n"));
    ours.acquire(PATIENCE, None).unwrap();
    // It is kept for longer than a session lasts by itself.
    std::thread::sleep(ms(7500));
    ours.ensure_held().unwrap();
    for relay in &relays {
        relay.fail(1, Fault::Silence);
    }
    theirs.acquire(PATIENCE, None).unwrap();
    assert_eq!(ours.state(), State::Lost);
    theirs.release().unwrap();
}

/// A server that is started with another limit grants a session less when its client comes back.
#[test]
fn a_session_that_is_shortened_is_believed_in_for_less() {
    let mut server = ZookeeperServer::start();
    let proxy = Proxy::start(server.port());
    let (url, _) = proxy.url().split_once('?').map(own).unwrap();
    let ours = lock(&format!("{url}?session_timeout=60000"), "n");
    let theirs = lock(&server.url(), "n");
    ours.acquire(PATIENCE, None).unwrap();
    server.kill(0);
    server.limit_sessions(4000);
    server.start_again(0);
    ours.ensure_held().unwrap();
    proxy.silence(true);
    theirs.acquire(PATIENCE, None).unwrap();
    assert_eq!(ours.state(), State::Lost);
    proxy.silence(false);
    theirs.release().unwrap();
}

#[test]
fn a_loss_of_before_is_told_to_who_comes_to_listen() {
    let server = ZookeeperServer::start();
    for query in ["", "&dialect=symfony"] {
        let url = format!("{}{query}", server.url());
        for hooked in [false, true] {
            let name = unique("broken");
            let (ours, theirs) = (lock(&url, &name), store(&url));
            ours.acquire(PATIENCE, None).unwrap();
            assert!(theirs.break_lock(&name).unwrap());
            if hooked {
                let told = std::sync::Arc::new(AtomicBool::new(false));
                let tells = told.clone();
                ours.on_lost(move || tells.store(true, SeqCst)).unwrap();
                until("the hook", || told.load(SeqCst));
            } else {
                let fd = ours.lost_fd().unwrap();
                until("the descriptor", || readable(fd));
            }
            assert_eq!(code(ours.release()), Code::Lost);
        }
    }
}

/// Row 26: a client that is stopped for longer than its session lasts.
#[test]
fn a_session_that_ends_while_its_client_is_frozen_is_a_loss_before_any_success() {
    let server = ZookeeperServer::start();
    let look = store(&server.url());
    let frozen = |name: &str, ask: &str| {
        let theirs = lock(&server.url(), name);
        let mut frozen = Taker::start(env!("CARGO_BIN_EXE_flock-taker"), &patient(&server.url()));
        frozen.ok(&format!("lock 1 {name}"));
        frozen.ok(&format!("lock 2 {name}"));
        frozen.ok("acquire 1 0");
        let pid = i32::try_from(frozen.pid()).unwrap();
        signal(pid, libc::SIGSTOP);
        theirs.acquire(PATIENCE, None).unwrap();
        signal(pid, libc::SIGCONT);
        // Whatever it asks first, it has nothing.
        let told = frozen.code(ask);
        let (is_told, again) = match ask {
            "release 1" => (told == "LOST", "NOT_HELD"),
            "check 1" => (told == "LOST", "LOST"),
            _ => (told == "BUSY" || told == "UNAVAILABLE", "LOST"),
        };
        assert!(is_told, "{ask}: {told}");
        assert_eq!(frozen.code("check 1"), again, "after {ask}");
        theirs.ensure_held().unwrap();
        theirs.release().unwrap();
        until("a new session", || {
            ["OK", "ALREADY_HELD"].contains(&frozen.code("acquire 2 1000").as_str())
        });
        frozen.ok("release 2");
        assert!(look.inspect(name).unwrap().holders.is_empty());
        assert_eq!(frozen.quit(), Some(0));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| frozen("a", "check 1"));
        scope.spawn(|| frozen("b", "release 1"));
        scope.spawn(|| frozen("c", "acquire 2 0"));
    });
    until("no node of an ended session", || {
        server.counter("zk_ephemerals_count") == 0
    });
}

#[test]
fn a_waiter_whose_session_ends_stands_in_line_anew() {
    let server = ZookeeperServer::start();
    let proxy = Proxy::start(server.port());
    let (held, waiting) = (lock(&server.url(), "n"), lock(&proxy.url(), "n"));
    held.try_acquire().unwrap().unwrap();
    let look = store(&server.url());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| waiting.acquire(PATIENCE, None));
        until("a waiter", || look.inspect("n").unwrap().waiters == Some(1));
        // It has its watch by then, and asks nothing more.
        std::thread::sleep(ms(200));
        proxy.silence(true);
        until("its end", || look.inspect("n").unwrap().waiters == Some(0));
        proxy.silence(false);
        until("it again", || look.inspect("n").unwrap().waiters == Some(1));
        held.release().unwrap();
        waiter.join().unwrap().unwrap();
    });
    waiting.ensure_held().unwrap();
    waiting.release().unwrap();
    assert_eq!(server.counter("zk_ephemerals_count"), 0);
}

#[test]
fn holds_outlive_a_restart_and_a_server_that_forgets_is_a_loss() {
    let mut server = ZookeeperServer::start();
    // A server that has just begun may take a connection and never answer: that costs a connect_timeout.
    let one = lock(&format!("{}0&io_timeout=20000", server.url()), "n");
    let first = one.try_acquire().unwrap().unwrap().fence.unwrap();
    server.kill(0);
    server.start_again(0);
    one.ensure_held().unwrap();
    assert_eq!(tried(&lock(&server.url(), "n")), Code::Busy);
    one.release().unwrap();
    let second = one.try_acquire().unwrap().unwrap().fence.unwrap();
    assert!(second > first, "{second} after {first}");
    one.release().unwrap();
    // A server that knows of less than its client has seen hangs up without a word: the loss is told when
    // the session may be over.
    let short = lock(&server.url(), "m");
    assert_eq!(tried(&short), Code::Ok);
    server.restart_empty();
    until("a loss", || short.state() == State::Lost);
    assert_eq!(code(short.release()), Code::Lost);
    short.acquire(PATIENCE, None).unwrap();
    short.release().unwrap();
}

#[test]
fn a_paused_server_is_trouble_in_time_and_leaves_nothing_behind() {
    let server = ZookeeperServer::start();
    let url = format!(
        "zookeeper://{}?session_timeout=20000&io_timeout=300",
        server.hosts()
    );
    let one = lock(&url, "n");
    // A server that has just started may not answer in as little time.
    until("a hold", || {
        one.try_acquire().is_ok_and(|got| got.is_some())
    });
    one.release().unwrap();
    server.pause(0);
    for _ in 0..3 {
        let start = Instant::now();
        let code = tried(&one);
        assert!(
            matches!(code, Code::Unavailable | Code::Uncertain),
            "{code:?}"
        );
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    server.resume(0);
    until("a hold again", || one.acquire(PATIENCE, None).is_ok());
    one.release().unwrap();
    // What was asked for in vain is taken back in the background.
    until("no claim", || server.counter("zk_ephemerals_count") == 0);
}

/// Row 16.
#[test]
fn a_lost_reply_is_made_good_or_uncertain() {
    let server = ZookeeperServer::start();
    let allowed = |code: Code| matches!(code, Code::Ok | Code::Busy | Code::Uncertain);
    let mut lost = 0;
    let queries = [
        "",
        "",
        "?dialect=kazoo",
        "?dialect=curator",
        "?dialect=symfony",
    ];
    for round in 0..if is_full_load() { 100 } else { queries.len() } {
        let query = queries[round % queries.len()];
        let with = |url: String| match url.split_once('?') {
            Some((url, rest)) if !query.is_empty() => format!("{url}{query}&{rest}"),
            _ => format!("{url}{query}"),
        };
        let other = store(&with(server.url()));
        for k in 1..=10 {
            // A new proxy, so that the store begins without a connection.
            let proxy = Proxy::start(server.port());
            let name = unique("lost");
            let ours = lock(&with(proxy.url()), &name);
            proxy.lose(k);
            let acquired = if round % 2 == 0 {
                tried(&ours)
            } else {
                code(ours.acquire(PATIENCE, None))
            };
            assert!(allowed(acquired), "reply {k}: acquire {acquired:?}");
            if acquired == Code::Ok {
                let found = other.inspect(&name).unwrap();
                let seen = (found.holders.len(), found.waiters.unwrap_or(0));
                assert_eq!(seen, (1, 0), "reply {k}{query}");
                assert_eq!(ours.fencing_token(), found.holders[0].fence);
                assert_eq!(tried(&other.lock(&name).unwrap()), Code::Busy);
                let released = code(ours.release());
                assert!(allowed(released), "reply {k}: release {released:?}");
            }
            lost += u32::from(proxy.has_lost());
            until("a free lock", || {
                let found = other.inspect(&name).unwrap();
                found.holders.is_empty() && found.waiters.unwrap_or(0) == 0
            });
        }
    }
    assert!(lost > 10, "only {lost} replies were lost");
}

/// The kind of a request that deletes a node.
const DELETE: i32 = 2;

/// The node of Symfony's locks has one name, whoever holds: a delete whose reply was lost, asked again, would be
/// the next holder's.
#[test]
fn a_lost_reply_to_a_delete_costs_the_next_holder_of_symfonys_node_nothing() {
    let server = ZookeeperServer::start();
    for breaks in [false, true] {
        let proxy = Proxy::start(server.port());
        let with = |url: String| format!("{url}&dialect=symfony");
        let name = unique("next");
        let (ours, theirs) = (store(&with(proxy.url())), lock(&with(server.url()), &name));
        let held = ours.lock(&name).unwrap();
        assert_eq!(tried(&held), Code::Ok);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| theirs.acquire(PATIENCE, None).unwrap());
            proxy.lose_reply_to(DELETE);
            let gives = scope.spawn(|| {
                if breaks {
                    ours.break_lock(&name).map(|broken| assert!(broken))
                } else {
                    held.release().map(drop)
                }
            });
            next.join().unwrap();
            until("a lost reply", || proxy.is_shut());
            proxy.open();
            let given = gives.join().unwrap();
            assert!(given.is_ok(), "breaks {breaks}: {given:?}");
        });
        let still = theirs.ensure_held();
        assert!(still.is_ok(), "breaks {breaks}: {still:?}");
        theirs.release().unwrap();
    }
}

/// A server may be behind its leader, and the one that a lost connection is made to again, too.
#[test]
fn a_node_whose_making_is_in_doubt_is_looked_for_after_a_sync() {
    const CREATE: i32 = 15;
    const CHILDREN: i32 = 8;
    const SYNC: i32 = 9;
    const EXISTS: i32 = 3;
    let server = ZookeeperServer::start();
    let proxy = Proxy::start(server.port());
    // Nothing is asked for the session's sake meanwhile.
    let (url, _) = proxy.url().split_once('?').map(own).unwrap();
    let ours = lock(&format!("{url}?session_timeout=100000"), "n");
    assert_eq!(tried(&ours), Code::Ok);
    ours.release().unwrap();
    proxy.lose_reply_to(CREATE);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| ours.acquire(PATIENCE, None));
        until("a lost reply", || proxy.is_shut());
        let _ = proxy.kinds();
        proxy.lose_reply_to(CHILDREN);
        proxy.open();
        until("another lost reply", || proxy.is_shut());
        proxy.open();
        taken.join().unwrap().unwrap();
    });
    let kinds = proxy.kinds();
    let wanted = [SYNC, CHILDREN, SYNC, CHILDREN, EXISTS];
    assert!(kinds.starts_with(&wanted), "{kinds:?}");
    ours.release().unwrap();
}

#[test]
fn a_lost_reply_to_a_delete_that_cannot_be_asked_again_is_uncertain() {
    let server = ZookeeperServer::start();
    for breaks in [false, true] {
        let proxy = Proxy::start(server.port());
        let name = unique("shut");
        let (url, look) = (
            format!("{}&io_timeout=1500", proxy.url()),
            store(&server.url()),
        );
        let ours = store(&url);
        let held = ours.lock(&name).unwrap();
        // A server that has just started may not answer in as little time.
        until("a hold", || held.acquire(PATIENCE, None).is_ok());
        proxy.lose_reply_to(DELETE);
        let given = if breaks {
            ours.break_lock(&name).map(drop)
        } else {
            held.release().map(drop)
        };
        assert_eq!(code(given), Code::Uncertain, "breaks {breaks}");
        assert!(proxy.is_shut());
        proxy.open();
        until("a free lock", || {
            look.inspect(&name).unwrap().holders.is_empty()
        });
    }
}

/// Row 26: a release wakes one waiter, not all.
#[test]
fn a_release_wakes_one_of_many_waiters() {
    let server = ZookeeperServer::start();
    for permits in [false, true] {
        let name = unique("herd");
        let proxy = Proxy::start(server.port());
        let shared = store(&proxy.url());
        let made = || {
            let mut options = shared.defaults().clone();
            if permits {
                options.mode = Mode::Permits { take: 1, of: 3 };
            }
            shared.lock_with(&name, options).unwrap()
        };
        const COUNT: u32 = 64;
        let holders: Vec<Lock> = (0..if permits { 3 } else { 1 }).map(|_| made()).collect();
        for lock in &holders {
            lock.try_acquire().unwrap().unwrap();
        }
        let releases = AtomicU64::new(0);
        let received = || server.counter("zk_packets_received");
        std::thread::scope(|scope| {
            for _ in 0..COUNT {
                let lock = made();
                let releases = &releases;
                scope.spawn(move || {
                    lock.acquire(Wait::For(Duration::from_secs(240)), None)
                        .unwrap();
                    releases.fetch_add(1, SeqCst);
                    lock.release().unwrap();
                });
            }
            until("all waiters", || {
                shared.inspect(&name).unwrap().waiters == Some(COUNT)
            });
            let (before, requests) = (proxy.events(), received());
            for lock in &holders {
                releases.fetch_add(1, SeqCst);
                lock.release().unwrap();
            }
            until("the end of it", || {
                releases.load(SeqCst) == u64::from(COUNT) + holders.len() as u64
            });
            let events = proxy.events() - before;
            let most = 2 * releases.load(SeqCst);
            assert!(
                events <= most,
                "{events} events for {} releases",
                releases.load(SeqCst)
            );
            assert!(events > 0);
            // A session has one event for all of its watches on a node: what tells a herd is what it asks.
            let requests = received() - requests;
            assert!(
                requests <= 3 * most,
                "{requests} requests for {} releases",
                releases.load(SeqCst)
            );
        });
    }
}

#[test]
fn a_store_that_goes_closes_its_session() {
    let server = ZookeeperServer::start();
    let before = server.counter("zk_global_sessions");
    // Kept by nobody else: a backend of its own.
    let mut url = synlock_core::url::Url::parse(&server.url(), &[]).unwrap();
    let backend = synlock_core::store::zookeeper::open(&mut url).unwrap();
    backend.ping(None).unwrap();
    until("a session", || {
        server.counter("zk_global_sessions") > before
    });
    drop(backend);
    until("none", || server.counter("zk_global_sessions") == before);
}

/// Row 26: three servers, of which the one that leads is killed again and again.
#[test]
fn leaders_die_and_nobody_overlaps() {
    const WORKERS: usize = 6;
    let mut servers = ZookeeperServer::start_ensemble(3);
    let url = servers.url().replace("=2000", "=5000");
    let stores: Vec<Store> = (0..WORKERS).map(|_| store(&url)).collect();
    let locks: Vec<Lock> = stores
        .iter()
        .map(|store| store.lock("n").unwrap())
        .collect();
    let (stop, holder) = (AtomicBool::new(false), AtomicU64::new(0));
    let (grants, overlaps, last, odd) = (
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let locks = &locks;
    let work = |me: usize| {
        while !stop.load(SeqCst) {
            match locks[me].acquire(Wait::For(ms(3000)), None) {
                Ok(acquired) => {
                    let before = holder.swap(me as u64 + 1, SeqCst) as usize;
                    if before != 0 && locks[before - 1].state() == State::Held {
                        overlaps.fetch_add(1, SeqCst);
                    }
                    let fence = acquired.fence.unwrap();
                    if last.swap(fence, SeqCst) >= fence {
                        overlaps.fetch_add(1, SeqCst);
                    }
                    grants.fetch_add(1, SeqCst);
                    std::thread::sleep(ms(1));
                    let me = me as u64 + 1;
                    let _ = holder.compare_exchange(me, 0, SeqCst, SeqCst);
                }
                Err(error) => match error.code() {
                    Code::Timeout | Code::Busy | Code::Unavailable | Code::Uncertain => {}
                    code => {
                        eprintln!("{code:?}: {error:?}");
                        odd.fetch_add(1, SeqCst);
                    }
                },
            }
            let _ = locks[me].release();
        }
    };
    std::thread::scope(|scope| {
        for me in 0..WORKERS {
            scope.spawn({
                let work = &work;
                move || work(me)
            });
        }
        for _ in 0..if is_full_load() { 60 } else { 2 } {
            until("grants", {
                let before = grants.load(SeqCst);
                let grants = &grants;
                move || grants.load(SeqCst) > before + 20
            });
            let Some(leader) = servers.leader() else {
                continue;
            };
            servers.kill(leader);
            std::thread::sleep(ms(500));
            servers.launch(leader);
        }
        let before = grants.load(SeqCst);
        until("grants afterwards", || grants.load(SeqCst) > before + 20);
        stop.store(true, SeqCst);
    });
    assert_eq!((overlaps.load(SeqCst), odd.load(SeqCst)), (0, 0));
    drop(stores);
    let look = store(&url);
    until("no claim", || {
        look.inspect("n")
            .is_ok_and(|found| found.holders.is_empty() && found.waiters == Some(0))
    });
}
