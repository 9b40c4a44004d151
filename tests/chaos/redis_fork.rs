//! Row 8: eight children use a store whose connection their parent had made; no reply goes astray. Redis,
//! or the kinds of stores that are named.

use std::process::ExitCode;
use synlock_core::Store;
use synlock_tests::places::place;
use synlock_tests::process::{exit_status, fork, is_full_load, wait};
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::redis_sets::Cluster;
use synlock_tests::torture::Verdict;

const CHILDREN: i32 = 8;

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
    urls.push(("Cluster", cluster.url()));
    if cfg!(feature = "redis-tls") {
        urls.push(("TLS", server.tls_url()));
    }
    urls.iter()
        .for_each(|(what, url)| share(what, url, verdict));
}

/// A parent that holds a lock, and children that go on with its store.
fn share(what: &str, url: &str, verdict: &mut Verdict) {
    let rounds = if is_full_load() { 10_000 } else { 200 };
    let store = Store::open(url).expect("a store");
    let mine = store.lock("parent").expect("a lock");
    mine.try_acquire().expect("a lock");
    let children: Vec<_> = (0..CHILDREN)
        .map(|child| fork(|| i32::from(crossed(&store, child, rounds) != 0)))
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
        share(&kind, &url, &mut verdict);
    }
    verdict.finish()
}
