//! Holds that are lost, replies that are lost, and requests and words that come late.

use crate::{code, leased, lock, ms, until};
use synlock_core::session::{Session, Taken};
use synlock_core::store::{Attempt, Claim};
use synlock_core::{Code, LockOptions, OwnerToken, Store, Wait};
use synlock_tests::claims::claim;
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::redis_fake::{Fault, Late, Proxy};

#[test]
fn losses_are_told_and_tokens_grow_over_flushes_and_restarts() {
    let mut server = RedisServer::start();
    let one = lock(&server.url(), "n");
    let mut last = 0;
    for round in 0..9 {
        let fence = one.try_acquire().unwrap().unwrap().fence.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        match round % 3 {
            0 => {
                server.command(&["FLUSHALL"]);
            }
            1 => server.restart(),
            _ => {
                server.command(&["SCRIPT", "FLUSH"]);
                one.ensure_held().unwrap();
                one.release().unwrap();
                continue;
            }
        }
        assert_eq!(code(one.ensure_held()), Code::Lost);
        assert_eq!(code(one.release()), Code::Lost);
        // Without asking before, too.
        one.try_acquire().unwrap().unwrap();
        server.restart();
        assert_eq!(code(one.release()), Code::Lost);
    }
}

/// For a quorum, whose members may have begun to count at different times.
#[test]
fn tokens_are_raised_as_far_as_asked_and_no_further() {
    let server = RedisServer::start();
    for dialect in ["native", "plain", "symfony", "redisson"] {
        let store = Store::open(&format!("{}?dialect={dialect}", server.url())).unwrap();
        let name = unique("raised");
        let draw = |least: u64| {
            let claim = Claim {
                fence_least: least,
                ..claim(&name)
            };
            let answer = store.backend().attempt(&claim, None).unwrap();
            store.backend().release(&claim).unwrap();
            match answer {
                Attempt::Granted(grant) => grant.fence.unwrap(),
                Attempt::Busy(busy) => panic!("{busy:?}"),
            }
        };
        let first = draw(0);
        let far = first + 3 * 3600 * 1_000_000;
        assert_eq!(draw(far), far, "{dialect}");
        assert_eq!(draw(0), far + 1, "{dialect}");
        assert_eq!(draw(first), far + 2, "{dialect}");
        // Nor is what was asked for added to a counter that begins anew.
        server.command(&["FLUSHALL"]);
        let fresh = draw(first);
        let clock = server.command(&["TIME"]);
        let parts: Vec<u64> = clock.lines().map(|part| part.parse().unwrap()).collect();
        let micros = parts[0] * 1_000_000 + parts[1];
        assert!(fresh <= micros, "{dialect}: {fresh} at {micros}");
    }
}

#[test]
fn a_wake_up_that_is_read_late_ends_no_hold() {
    let server = RedisServer::start();
    let (here, there) = (server.url(), format!("{}?io_timeout=1900", server.url()));
    let mut options = LockOptions::default();
    options.interruptible = true;
    let store = Store::open(&here).unwrap();
    let waiter = store.lock_with("a", options).unwrap();
    let holder = lock(&there, "a");
    holder.acquire(Wait::No, None).unwrap();
    // It stands in the queue, and nobody reads what is published for it.
    assert_eq!(code(waiter.acquire(Wait::Forever, None)), Code::Interrupted);
    holder.release().unwrap();
    // The lock has been handed over; it is found out by asking, as at the end of a wait.
    waiter.acquire(Wait::For(ms(0)), None).unwrap();
    // Somebody else's wait reads the word.
    let busy = lock(&there, "c");
    busy.acquire(Wait::No, None).unwrap();
    let other = store.lock("c").unwrap();
    assert_eq!(code(other.acquire(Wait::For(ms(300)), None)), Code::Timeout);
    waiter.ensure_held().unwrap();
    waiter.release().unwrap();
}

#[test]
fn a_lost_reply_is_made_good_or_uncertain() {
    let server = RedisServer::start();
    let direct = server.url();
    // The scripts are known to the server.
    let known = leased(&direct, "known", ms(5000));
    known.try_acquire().unwrap();
    known.refresh(None).unwrap();
    known.release().unwrap();
    let dialects = [
        "native",
        "plain",
        "symfony",
        "redisson",
        "python-redis-lock",
        "redis-semaphore",
    ];
    let lost: u32 = dialects
        .iter()
        .map(|dialect| lose_replies(&server, "", &format!("?dialect={dialect}"), 7))
        .sum();
    assert!(lost >= 24, "{lost} replies lost");
}

/// By commands alone a verb has several requests, each of which may be the one.
#[test]
fn a_lost_reply_of_a_command_is_made_good_or_uncertain() {
    let server = RedisServer::start_with(Options {
        valkey: true,
        ..Options::default()
    });
    let rules = "ACL SETUSER peer on >secret ~* &* +@all -@scripting";
    assert_eq!(server.command(&rules.split(' ').collect::<Vec<_>>()), "OK");
    let lost = lose_replies(&server, "peer:secret@", "?dialect=plain", 9);
    assert!(lost >= 14, "{lost} replies lost");
}

/// The token is the session's: a request that is sent again may be about another process's hold.
#[test]
fn what_a_session_may_have_done_is_not_done_again() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = Store::open(&proxy.url()).unwrap();
    let mine = Session::persistent(&store, "me").unwrap();
    let minute = ms(60_000);
    for lost in ["renew", "release"] {
        assert_eq!(mine.acquire("n", minute).unwrap(), Taken::New);
        // The server knows the script by then.
        assert!(mine.renew("n", minute).unwrap());
        let before = server.calls("evalsha");
        proxy.lose(1);
        let done = match lost {
            "renew" => mine.renew("n", minute),
            _ => mine.release("n"),
        };
        assert_eq!(code(done), Code::Uncertain, "{lost}");
        assert_eq!(server.calls("evalsha"), before + 1, "{lost}");
        assert_eq!(mine.may_be_available("n").unwrap(), lost == "release");
        mine.release("n").unwrap();
    }
}

/// It names no holder: sent again it would end the hold of whoever came next.
#[test]
fn a_break_is_not_sent_again() {
    let server = RedisServer::start_with(Options {
        valkey: true,
        ..Options::default()
    });
    let rules = "ACL SETUSER peer on >secret ~* &* +@all -@scripting";
    assert_eq!(server.command(&rules.split(' ').collect::<Vec<_>>()), "OK");
    for (user, query, command) in [
        ("", "", "evalsha"),
        ("peer:secret@", "?dialect=plain", "del"),
    ] {
        let at = |url: String| format!("{}{query}", url.replace("://", &format!("://{user}")));
        let proxy = Proxy::start(server.port());
        let store = Store::open(&patient(&at(proxy.url()))).unwrap();
        // The server knows the script, or the store the commands, by then.
        store.break_lock("n").unwrap();
        let held = leased(&at(server.url()), "n", ms(600_000));
        held.acquire(Wait::For(SOON), None).unwrap();
        let before = server.calls(command);
        proxy.lose(1);
        assert_eq!(code(store.break_lock("n")), Code::Uncertain, "{command}");
        assert_eq!(server.calls(command), before + 1);
        assert_eq!(code(held.ensure_held()), Code::Lost);
    }
}

/// A request that was carried out is sent again, for want of its reply, to a server that refuses it by then.
#[test]
fn a_refusal_of_the_second_request_says_nothing_of_the_first() {
    let server = RedisServer::start();
    let rights = ["ACL", "SETUSER", "default"];
    let refusals = [
        (
            &["REPLICAOF", "127.0.0.1", "1"][..],
            &["REPLICAOF", "NO", "ONE"][..],
        ),
        (
            &[&rights[..], &["-evalsha", "-eval"]].concat(),
            &[&rights[..], &["+evalsha", "+eval"]].concat(),
        ),
    ];
    for (refuse, allow) in refusals {
        let proxy = Proxy::start(server.port());
        let ours = leased(&patient(&proxy.url()), "n", ms(600_000));
        ours.acquire(Wait::For(SOON), None).unwrap();
        ours.release().unwrap();
        proxy.fail(1, Fault::OneWay);
        let direct = Store::open(&patient(&server.url())).unwrap();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| code(ours.try_acquire()));
            until(|| direct.is_locked("n").unwrap());
            server.command(refuse);
            proxy.heal();
            assert_eq!(asked.join().unwrap(), Code::Uncertain, "{refuse:?}");
        });
        server.command(allow);
        // It is released in the background, long before its lease ends.
        until(|| !direct.is_locked("n").unwrap());
    }
}

#[test]
fn a_session_takes_no_heir_in_place_for_its_own() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let heir = OwnerToken::draw().unwrap();
    for recurs in [false, true] {
        let name = unique("heir");
        let claim = Claim {
            recurs,
            ..claim(&name)
        };
        let adopt = || store.backend().adopt(&claim, heir).unwrap();
        store.backend().attempt(&claim, None).unwrap();
        assert!(adopt().is_some());
        assert_eq!(adopt().is_some(), !recurs);
    }
}

/// Loses each reply up to the last, and asks what had come of it; how many were lost.
fn lose_replies(server: &RedisServer, user: &str, query: &str, last: i64) -> u32 {
    let allowed = |code: Code| matches!(code, Code::Ok | Code::Busy | Code::Uncertain);
    let at = |url: String| format!("{}{query}", url.replace("://", &format!("://{user}")));
    let direct = at(server.url());
    let mut lost = 0;
    for _ in 0..if is_full_load() { 100 } else { 2 } {
        for k in 1..=last {
            // A new proxy, so that the store begins without a connection.
            let proxy = Proxy::start(server.port());
            let name = unique("lost");
            let ours = leased(&at(proxy.url()), &name, ms(60_000));
            let other = lock(&direct, &name);
            proxy.lose(k);
            let acquired = match ours.try_acquire() {
                Ok(None) => Code::Busy,
                result => code(result),
            };
            assert!(allowed(acquired), "reply {k}: acquire {acquired:?}");
            if acquired == Code::Ok {
                let store = Store::open(&direct).unwrap();
                assert_eq!(store.inspect(&name).unwrap().holders.len(), 1);
                assert!(other.try_acquire().unwrap().is_none());
                let refreshed = code(ours.refresh(None));
                assert!(allowed(refreshed), "reply {k}: refresh {refreshed:?}");
                let released = code(ours.release());
                assert!(allowed(released), "reply {k}: release {released:?}");
            }
            lost += u32::from(proxy.has_lost());
            // No ghost stays behind, not even for its TTL.
            other.acquire(Wait::For(SOON), None).unwrap();
            other.release().unwrap();
        }
    }
    lost
}

#[test]
fn a_request_that_was_given_up_does_nothing_after_its_release() {
    let server = RedisServer::start();
    let direct = Store::open(&server.url()).unwrap();
    let known = direct.lock("known").unwrap();
    known.try_acquire().unwrap();
    known.release().unwrap();
    for name in ["one", "two"] {
        let proxy = Proxy::start(server.port());
        let ours = leased(
            &format!("{}?io_timeout=200", proxy.url()),
            name,
            ms(600_000),
        );
        let calls = server.calls("evalsha");
        proxy.keep_next();
        assert_eq!(code(ours.try_acquire()), Code::Uncertain);
        assert_eq!(proxy.late(), Late::Kept);
        // It is released in the background, on another connection.
        until(|| server.calls("evalsha") > calls);
        proxy.send_late();
        until(|| !matches!(proxy.late(), Late::Kept | Late::Sent));
        assert!(direct.inspect(name).unwrap().holders.is_empty(), "{name}");
    }
}
