//! Row 7 on stores with servers, and on those made of others: the parent holds one lock and waits for
//! another. Its children keep none of its connections, and neither use nor end one.
//!
//! Each kind of store has a process of its own, so that they can wait side by side.

use super::{
    FATES, FREED, Fate, Page, Tally, child, copy, fork_uncertain, is_forked, meets_its_fate, until,
};
use nix::sys::socket::{SockaddrStorage, getpeername};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use synlock_core::{Lock, LockOptions, State, Store, Wait};
use synlock_tests::page::SharedPage;
use synlock_tests::places::place;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, signal, wait};
use synlock_tests::torture::Verdict;

/// Of the parent's hold, which is renewed.
const LEASE: Duration = Duration::from_secs(2);
/// Kinds whose holds outlive a connection, and whose server is at one port.
const LEASED: [&str; 4] = ["redis", "memcached", "postgres", "mysql"];
/// What comes at all comes by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

struct More {
    page: Page,
    /// The child found none of the parent's connections open.
    child_is_apart: AtomicBool,
    child_is_over: AtomicBool,
    connections_are_whole: AtomicBool,
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A hold of so long, renewed until then, where there are leases.
pub(super) fn leased(store: &Store, name: &str, lease: Duration) -> Lock {
    let mut options = LockOptions::default();
    let leases = store.capabilities().ttl;
    options.ttl = leases.then_some(lease);
    options.renew = leases.then_some(true);
    store.lock_with(name, options).expect("a lock")
}

/// The sockets of this process, by what the kernel calls them.
pub(super) fn sockets() -> BTreeMap<String, RawFd> {
    let all = std::fs::read_dir("/proc/self/fd").expect("a list");
    let named = all.flatten().filter_map(|entry| {
        let name = std::fs::read_link(entry.path()).ok()?;
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((name.to_str()?.to_owned(), fd))
    });
    named
        .filter(|(name, _)| name.starts_with("socket:"))
        .collect()
}

/// Whether nobody has ended the connection.
fn is_whole(fd: RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one element, valid during the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents == 0
}

/// What a child finds before and after it uses the store.
fn forked(
    fate: Fate,
    (held, idle, waiting): (Lock, Lock, &Lock),
    store: &Store,
    page: &More,
    theirs: &BTreeMap<String, RawFd>,
) -> i32 {
    let keeps_none = || connections(|name| theirs.contains_key(name)) == 0;
    let is_apart = keeps_none()
        && is_forked(waiting)
        && store.inspect("x").is_ok_and(|seen| seen.holders.len() == 1)
        && keeps_none();
    page.child_is_apart.store(is_apart, Ordering::SeqCst);
    child(fate, held, idle, store.clone(), &page.page)
}

fn parent(url: &str, fate: Fate, more: &More) -> i32 {
    let page = &more.page;
    let store = Store::open(url).expect("a store");
    let held = leased(&store, "x", LEASE);
    let idle = leased(&store, "idle", LEASE);
    let waiting = Arc::new(leased(&store, "y", LEASE));
    held.acquire(Wait::For(PATIENCE), None)
        .expect("the lock is free");
    page.held.store(true, Ordering::SeqCst);
    let waiter = waiting.clone();
    let waiter = std::thread::spawn(move || waiter.acquire(Wait::For(PATIENCE), None).is_ok());
    while waiting.state() != State::Acquiring {
        std::thread::sleep(ms(1));
    }
    // It has asked by then, mostly.
    std::thread::sleep(ms(20));
    let before = settled_sockets();
    let handles = || (copy(&held), copy(&idle), &*waiting);
    let pid = fork(|| forked(fate, handles(), &store, more, &before));
    if !until(&page.child_done) {
        return 3;
    }
    if !meets_its_fate(pid, fate) {
        return 4;
    }
    let now = sockets();
    let whole = before
        .keys()
        .all(|name| now.get(name).is_some_and(|fd| is_whole(*fd)));
    more.connections_are_whole.store(whole, Ordering::SeqCst);
    if held.ensure_held().is_err() {
        return 5;
    }
    more.child_is_over.store(true, Ordering::SeqCst);
    if !waiter.join().is_ok_and(|got| got) || waiting.release().is_err() {
        return 7;
    }
    page.ending.store(true, Ordering::SeqCst);
    if fate == Fate::OutlivesParent {
        page.ended.store(nanos(), Ordering::SeqCst);
        signal(std::process::id() as libc::pid_t, libc::SIGKILL);
    }
    // The moment from which it may be free: nobody could say when the server does it.
    let released = held.release().is_ok();
    page.ended.store(nanos(), Ordering::SeqCst);
    i32::from(!released) * 6
}

/// How long after its end a lock may be refused.
fn patience(store: &Store, fate: Fate) -> Duration {
    if !is_full_load() {
        return PATIENCE;
    }
    let can = store.capabilities();
    match fate {
        Fate::OutlivesParent if can.store == "memcached" => LEASE + ms(2050),
        Fate::OutlivesParent if can.ttl || can.store == "zookeeper" => LEASE + ms(50),
        _ => FREED,
    }
}

fn round(url: &str, fate: Fate, tally: &mut Tally) {
    // SAFETY: atomics, for which zero is a value.
    let shared = unsafe { SharedPage::<More>::new() };
    let page = &shared.page;
    let store = Store::open(url).expect("a store");
    let (contender, theirs) = (leased(&store, "x", LEASE), leased(&store, "y", LEASE));
    let asked = theirs.acquire(Wait::For(PATIENCE), None);
    asked.expect("the lock is free");
    let pid = fork(|| parent(url, fate, &shared));
    let held = until(&page.held);
    let (mut freed, mut released) = (None, false);
    let end = nanos() + PATIENCE.as_nanos() as u64;
    while held && freed.is_none() && nanos() < end {
        if contender.try_acquire().is_ok_and(|got| got.is_some()) {
            freed = Some(nanos());
            if !page.ending.load(Ordering::SeqCst) {
                page.premature.store(true, Ordering::SeqCst);
            }
        }
        if !released && shared.child_is_over.load(Ordering::SeqCst) {
            released = theirs.release().is_ok();
        }
        std::thread::sleep(ms(5));
    }
    // Of a round that went wrong.
    if !released {
        let _ = theirs.release();
    }
    let status = exit_status(wait(pid));
    page.over.store(true, Ordering::SeqCst);
    let _ = contender.release();
    let expected = i32::from(fate == Fate::OutlivesParent) * -libc::SIGKILL;
    if status != expected || !held {
        tally.crashed += 1;
        tally.slowest = Duration::from_secs(status.unsigned_abs().into());
    }
    let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
    let right = is(&page.child_is_right) && is(&shared.child_is_apart);
    tally.rounds += 1;
    tally.premature += u32::from(is(&page.premature) || !is(&shared.connections_are_whole));
    tally.wrong_in_child += u32::from(!right);
    let waited = freed.map(|at| at.saturating_sub(page.ended.load(Ordering::SeqCst)));
    let waited = waited.map_or(Duration::MAX, Duration::from_nanos);
    tally.slowest = tally.slowest.max(waited);
    tally.late += u32::from(waited > patience(&store, fate));
}

/// Whether the socket leads to a server. A child may have one that was made at the moment of its fork: its
/// maker sees that, and leaves it before it connects.
pub(super) fn is_connected(fd: RawFd) -> bool {
    getpeername::<SockaddrStorage>(fd).is_ok()
}

/// The sockets of this process, when all of them are connected.
fn settled_sockets() -> BTreeMap<String, RawFd> {
    loop {
        let made = sockets();
        if made.values().all(|fd| is_connected(*fd)) {
            return made;
        }
        std::thread::sleep(ms(1));
    }
}

/// How many connections of those sockets this process has. A copy of one that its owner was about to make or to close
/// leads nowhere, soon.
pub(super) fn connections(is_meant: impl Fn(&str) -> bool) -> usize {
    let mut found = sockets();
    found.retain(|name, _| is_meant(name));
    if !found.is_empty() {
        std::thread::sleep(ms(500));
    }
    found.values().filter(|fd| is_connected(**fd)).count()
}

/// Children that are made while other threads connect: how many have a copy of a connection.
fn copies(url: &str, children: usize) -> i32 {
    let stop = AtomicBool::new(false);
    let mut copies = 0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let store = Store::open(url).expect("a store");
                    store.ping(Wait::For(PATIENCE)).expect("a server");
                }
            });
        }
        for _ in 0..children {
            // SAFETY: the child looks at its descriptors and leaves; glibc keeps its allocator usable after a fork.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(connections(|_| true).min(100) as i32) };
            }
            copies += exit_status(wait(pid));
        }
        stop.store(true, Ordering::Relaxed);
    });
    copies
}

/// Every fate on one store.
fn on(kind: &str, url: &str) -> ExitCode {
    let rounds = if is_full_load() { 100 } else { 1 };
    let mut verdict = Verdict::default();
    if kind == "redis" {
        let found = copies(url, 200 * rounds);
        verdict.claim(found == 0, "child with a connection made meanwhile", found);
    }
    for fate in FATES {
        let mut tally = Tally::default();
        (0..rounds).for_each(|_| round(url, fate, &mut tally));
        tally.claim(kind, fate, &mut verdict);
    }
    if LEASED.contains(&kind) {
        fork_uncertain::on(kind, url, rounds, &mut verdict);
    }
    verdict.finish()
}

/// On the kinds that are named, side by side; or, of a kind with a URL, there.
pub(super) fn run(words: &[String]) -> ExitCode {
    if let [flag, kind, url] = words
        && flag == "--at"
    {
        return on(kind, url);
    }
    let own = std::env::current_exe().expect("this program");
    let places: Vec<_> = words.iter().map(|kind| (kind, place(kind))).collect();
    // A slow machine's servers are slow to begin.
    let patient = |url: &str| {
        let mark = if url.contains('?') { '&' } else { '?' };
        match url.split_once("://") {
            Some((scheme, _)) if !scheme.contains('(') => {
                format!("{url}{mark}connect_timeout=20000&io_timeout=20000")
            }
            _ => url.to_owned(),
        }
    };
    let started: Vec<_> = places
        .iter()
        .map(|(kind, (url, _))| {
            let mut program = Command::new(&own);
            program
                .args(["--at", kind, &patient(url)])
                .stdout(Stdio::piped());
            (kind, program.spawn().expect("this program once more"))
        })
        .collect();
    let mut verdict = Verdict::default();
    for (kind, program) in started {
        let done = program.wait_with_output().expect("an end");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let fates: Vec<&str> = said.lines().filter(|line| line.contains("child")).collect();
        for line in &fates {
            let (holds, what) = line.split_at(5);
            verdict.claim(holds.starts_with("ok"), kind, what);
        }
        let whole = fates.len() >= FATES.len();
        verdict.claim(whole, kind, format!("{} kinds of children", fates.len()));
    }
    verdict.finish()
}
