//! What members remember: one that has come up lately, or whose clock has stepped, does not vote.

use super::{code, leased, lock, ms, three, url};
use std::time::{Duration, Instant};
use synlock_core::{Code, LockOptions, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::wall::Wall;

#[test]
fn members_that_may_have_forgotten_do_not_vote() {
    let mut servers = three();
    let url = url(&servers, "?io_timeout=500", "max_ttl=3000");
    let a = leased(&url, "n", ms(3000));
    let error = a.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("has been up"), "{error}");
    std::thread::sleep(ms(3100));
    // On two of three.
    servers[2].kill();
    a.acquire(Wait::No, None).unwrap();
    // The third is asked no more.
    std::thread::sleep(ms(700));
    // One of the two forgets it, and the third comes back.
    servers[1].restart();
    servers[2].restart();
    let b = leased(&url, "n", ms(3000));
    let error = b.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    a.ensure_held().unwrap_err();
    std::thread::sleep(ms(3100));
    b.acquire(Wait::No, None).unwrap();
    b.ensure_held().unwrap();
    assert_eq!(code(a.refresh(None)), Code::Lost);
}

/// As if the lease had never been: what it keeps runs out at once, and it looks old enough to know better.
#[test]
fn members_that_have_skipped_time_do_not_vote() {
    let wall = Wall::new();
    let mut servers = three();
    servers[1] = RedisServer::start_with(synlock_tests::redis::Options {
        environment: wall.environment(),
        ..Default::default()
    });
    let url = url(&servers, "?io_timeout=20000", "max_ttl=10000");
    let (a, b) = (leased(&url, "n", ms(10_000)), leased(&url, "n", ms(10_000)));
    let end = Instant::now() + SOON * 2;
    // They know all three, and nobody is away.
    let has_voted = |server: &RedisServer| Store::open(&server.url()).unwrap().is_locked("n");
    for lock in [&a, &b] {
        loop {
            assert!(Instant::now() < end, "they never vote");
            let is_granted = lock.acquire(Wait::No, None).is_ok();
            // One that still had the vote of a round before is busy, and is asked no more.
            std::thread::sleep(ms(200));
            let all = servers.iter().all(|server| has_voted(server).unwrap());
            let _ = lock.release();
            if is_granted && all {
                break;
            }
        }
    }
    // On two of three, since a stranger has the third.
    let stranger = lock(&servers[2].url(), "n");
    stranger.acquire(Wait::For(SOON), None).unwrap();
    a.acquire(Wait::For(SOON), None).unwrap();
    stranger.release().unwrap();
    let left = a.remaining().unwrap();
    wall.ahead(Duration::from_secs(3600));
    let taken = b.acquire(Wait::No, None);
    // On a machine that has not let the lease run out meanwhile.
    if left > ms(5000) && a.remaining().unwrap() > ms(1000) {
        assert_eq!(code(taken), Code::Busy);
    }
}

#[test]
fn a_lease_is_no_longer_than_members_remember() {
    let servers = three();
    let store = Store::open(&url(&servers, "", "")).unwrap();
    let mut options = LockOptions::default();
    options.ttl = Some(Duration::from_secs(61));
    let error = store.lock_with("n", options).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("max_ttl"), "{error}");
}
