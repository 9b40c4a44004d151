//! Row 8: eight children use a store whose connection or session their parent had made; no reply goes astray.
//! Redis, or the kinds of stores that are named.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;
use synlock_core::{BootTime, Code, Dispatch, Lock, Op, Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::places::place;
use synlock_tests::process::{exit_status, fork, is_full_load, wait};
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::redis_sets::Cluster;
use synlock_tests::torture::Verdict;

const CHILDREN: i32 = 8;
/// Of each event loop.
const LOCKS: usize = 32;

/// How many replies were not about this child's own lock.
fn crossed(store: &Store, child: i32, rounds: u32) -> u32 {
    let name = format!("child-{child}");
    let lock = store.lock(&name).expect("a lock");
    let mut last = 0;
    let mut crossed = 0;
    for _ in 0..rounds {
        let fence = lock
            .try_acquire()
            .ok()
            .flatten()
            .and_then(|held| held.fence);
        let seen = store.inspect(&name).expect("an inspection");
        let [holder] = seen.holders.as_slice() else {
            crossed += 1;
            continue;
        };
        let owner = lock
            .owner_token()
            .map(|token| token.to_hex()[..8].to_owned());
        let sound = Some(&holder.owner) == owner.as_ref()
            && holder.fence == fence
            && holder.pid == Some(std::process::id())
            && fence > Some(last);
        last = fence.unwrap_or(last);
        crossed += u32::from(!sound || lock.release().is_err());
    }
    crossed
}

/// Redis in all its forms.
fn redis(verdict: &mut Verdict) {
    let server = RedisServer::start_with(Options {
        tls: cfg!(feature = "redis-tls"),
        ..Options::default()
    });
    let mut urls = vec![("TCP", server.url()), ("unix", server.socket_url())];
    let (symfony, cluster) = (
        format!("{}?dialect=symfony", server.url()),
        Cluster::start(),
    );
    urls.push(("Symfony's format", symfony));
    urls.push(("replies owed", format!("{}?release=async", server.url())));
    urls.push(("Cluster", cluster.url()));
    if cfg!(feature = "redis-tls") {
        urls.push(("TLS", server.tls_url()));
    }
    for (what, url) in &urls {
        share(what, url, verdict);
        loops(what, url, verdict);
    }
}

/// Locks that an event loop acquires and releases all at once.
struct Loop {
    dispatch: Dispatch,
    locks: Vec<Lock>,
}

impl Loop {
    fn new(store: &Store, stem: &str) -> Self {
        let made = |number| store.lock(format!("{stem}-{number}")).expect("a lock");
        Loop {
            dispatch: Dispatch::new().expect("a queue"),
            locks: (0..LOCKS).map(made).collect(),
        }
    }

    fn submit(&self, op: Op) {
        for (number, lock) in self.locks.iter().enumerate() {
            let submitted = self.dispatch.submit(lock, op, number as u64);
            submitted.expect("an operation");
        }
    }

    /// How many were not told of their own end, and of a good one.
    fn reap(&self) -> u32 {
        let end = BootTime::now().after(Duration::from_secs(60));
        let (mut told, mut good) = (0, HashSet::new());
        while told < LOCKS && !end.has_passed() {
            let mut ready = libc::pollfd {
                fd: self.dispatch.fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd.
            unsafe { libc::poll(&raw mut ready, 1, 1000) };
            for done in self.dispatch.reap(LOCKS) {
                told += 1;
                if done.result.is_ok() {
                    good.insert(done.user);
                }
            }
        }
        (LOCKS - good.len()) as u32
    }

    fn turns(&self, rounds: u32) -> u32 {
        let turn = |op| {
            self.submit(op);
            self.reap()
        };
        (0..rounds)
            .map(|_| turn(Op::Acquire(Wait::Forever)) + turn(Op::Release))
            .sum()
    }
}

/// A parent whose event loop has requests under way, and children with loops of their own on its store.
fn loops(what: &str, url: &str, verdict: &mut Verdict) {
    let rounds = if is_full_load() { 1_000 } else { 5 };
    let store = Store::open(url).expect("a store");
    let mine = Loop::new(&store, "loop");
    mine.turns(1);
    let mut bad = 0;
    let children: Vec<_> = (0..CHILDREN)
        .map(|child| {
            // Of these the child must hear nothing, nor take an answer away.
            mine.submit(Op::Acquire(Wait::Forever));
            let pid = fork(|| {
                let refused = mine.dispatch.submit(&mine.locks[0], Op::Release, 0);
                let is_refused = refused.is_err_and(|error| error.code() == Code::ForkedHandle);
                let is_quiet = mine.dispatch.reap(LOCKS).is_empty();
                let own = Loop::new(&store, &format!("loop-{child}"));
                i32::from(!is_refused || !is_quiet || own.turns(rounds) != 0)
            });
            bad += mine.reap();
            mine.submit(Op::Release);
            bad += mine.reap();
            pid
        })
        .collect();
    bad += mine.turns(rounds);
    let ended = children.into_iter().map(|pid| exit_status(wait(pid)));
    bad += ended.filter(|status| *status != 0).count() as u32;
    let words = format!("ends of an event loop's operations that went astray, {what}");
    verdict.claim(bad == 0, &words, bad);
}

/// A parent that holds a lock, and children that go on with its store.
fn share(what: &str, url: &str, verdict: &mut Verdict) {
    let rounds = if is_full_load() { 10_000 } else { 200 };
    let store = Store::open(url).expect("a store");
    let mine = store.lock("parent").expect("a lock");
    mine.try_acquire().expect("a lock");
    let last = store.lock("last").expect("a lock");
    let children: Vec<_> = (0..CHILDREN)
        .map(|child| {
            // Where releases are not waited for, this one's reply is the parent's to read.
            last.try_acquire().expect("a lock");
            last.release().expect("a release");
            fork(|| i32::from(crossed(&store, child, rounds) != 0))
        })
        .collect();
    let in_parent = crossed(&store, CHILDREN, rounds);
    let bad = children
        .into_iter()
        .filter(|pid| exit_status(wait(*pid)) != 0)
        .count();
    verdict.claim(
        bad == 0 && in_parent == 0,
        &format!("children with crossed replies, {what}"),
        bad,
    );
    verdict.claim(
        mine.release().is_ok(),
        &format!("the parent's hold stands, {what}"),
        rounds,
    );
}

fn main() -> ExitCode {
    let kinds: Vec<String> = std::env::args().skip(1).collect();
    let mut verdict = Verdict::default();
    if kinds.is_empty() {
        redis(&mut verdict);
    }
    for kind in kinds {
        let (url, _keep) = place(&kind);
        share(&kind, &patient(&url), &mut verdict);
    }
    verdict.finish()
}
