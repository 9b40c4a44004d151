//! Fencing tokens over the lives of a server: what comes back with an older state goes on from the clock.

use crate::{code, lock, ms};
use std::time::Instant;
use synlock_core::{Code, Lock, Wait};
use synlock_tests::load::SOON;
use synlock_tests::redis::{Options, RedisServer};

fn draw(one: &Lock) -> u64 {
    let fence = one.try_acquire().unwrap().unwrap().fence.unwrap();
    one.release().unwrap();
    fence
}

/// Of a lock, and of another one whose counter nobody has asked for since.
fn fences(server: &RedisServer, names: [&str; 2]) -> [u64; 2] {
    names.map(|name| draw(&lock(&server.url(), name)))
}

#[test]
fn tokens_grow_over_an_older_snapshot() {
    let mut server = RedisServer::start();
    let names = ["n", "another"];
    fences(&server, names);
    for round in 0..3 {
        assert_eq!(server.command(&["SAVE"]), "OK");
        let one = lock(&server.url(), "n");
        let last = (0..100).map(|_| draw(&one)).max().unwrap();
        let [_, other] = fences(&server, names);
        server.restart();
        // The counters are those of the snapshot.
        let counters = server.command(&["KEYS", "*f"]);
        assert_eq!(counters.lines().count(), 2, "{counters}");
        // A process that stays, in the first round, and one that comes.
        let next = if round == 0 {
            draw(&one)
        } else {
            fences(&server, names)[0]
        };
        assert!(next > last, "round {round}: {next} after {last}");
        let [_, next] = fences(&server, names);
        assert!(next > other, "round {round}: {next} after {other}");
        // Once for each life: a counter that is ahead stays as it is.
        let before = server.calls("set");
        fences(&server, names);
        assert!(server.calls("set") < before + 10);
    }
}

#[test]
fn a_counter_that_is_ahead_of_the_clock_stays_ahead() {
    let mut server = RedisServer::start();
    fences(&server, ["n", "n"]);
    let counter = server.command(&["KEYS", "*f"]);
    let far = 4_000_000_000_000_000_u64;
    assert_eq!(server.command(&["SET", &counter, &far.to_string()]), "OK");
    assert_eq!(server.command(&["SAVE"]), "OK");
    server.restart();
    assert_eq!(fences(&server, ["n", "n"]), [far + 1, far + 2]);
}

/// Draws as soon as a server serves that was stopped; whether it was heard to be loading.
fn draw_early(server: &mut RedisServer) -> (u64, bool) {
    server.kill();
    let url = format!("{}?io_timeout=300", server.url());
    std::thread::scope(|scope| {
        let hasty = scope.spawn(|| {
            let one = lock(&url, "n");
            let (end, mut loads) = (Instant::now() + SOON, false);
            loop {
                match one.try_acquire() {
                    Ok(Some(found)) => break (found.fence.unwrap(), loads),
                    // A grant that was answered too late is given back in the background.
                    Ok(None) => {}
                    Err(error) => loads |= error.message().contains("loading"),
                }
                assert!(Instant::now() < end, "it never serves");
                std::thread::sleep(ms(2));
            }
        });
        server.restart();
        hasty.join().unwrap()
    })
}

/// It answers what it is like, but not yet what it has.
#[test]
fn tokens_grow_over_a_snapshot_that_is_long_in_loading() {
    let words = "--key-load-delay 20000 --loading-process-events-interval-bytes 1024";
    let mut server = RedisServer::start_with(Options {
        extra: words.split(' ').map(str::to_owned).collect(),
        ..Options::default()
    });
    let one = lock(&server.url(), "n");
    for number in 0..50 {
        let key = format!("filler{number}");
        assert_eq!(server.command(&["SET", &key, &"x".repeat(2000)]), "OK");
    }
    // On a busy machine it may have loaded before anybody asks.
    for _ in 0..20 {
        // The hasty one's may be let go in the background, too.
        one.acquire(Wait::For(SOON), None).unwrap();
        one.release().unwrap();
        assert_eq!(server.command(&["SAVE"]), "OK");
        let last = (0..100).map(|_| draw(&one)).max().unwrap();
        let (fence, was_loading) = draw_early(&mut server);
        assert!(fence > last, "{fence} after {last}");
        if was_loading {
            return;
        }
    }
    panic!("it was never heard to be loading");
}

#[test]
fn a_server_that_begins_anew_and_cannot_write_takes_holds_back() {
    let mut server = RedisServer::start();
    let (held, one) = (lock(&server.url(), "held"), lock(&server.url(), "n"));
    held.try_acquire().unwrap().unwrap();
    draw(&one);
    assert_eq!(server.command(&["SAVE"]), "OK");
    let last = (0..100).map(|_| draw(&one)).max().unwrap();
    server.restart();
    assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert_eq!(code(one.try_acquire()), Code::Unavailable);
    held.ensure_held().unwrap();
    held.release().unwrap();
    assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    let fence = draw(&one);
    assert!(fence > last, "{fence} after {last}");
}
