//! Row 14: clients take locks by turns while their server forgets what it holds, is started anew and forgets its
//! scripts.

use crate::{code, lock, ms};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use synlock_core::{Code, Error, Lock, Wait};
use synlock_tests::load::{Stretch, patient};
use synlock_tests::process::{is_full_load, nanos};
use synlock_tests::redis::RedisServer;
use synlock_tests::torture::Random;

const CLIENTS: u64 = 4;
/// Two clients meet at each.
const NAMES: usize = 2;

/// What the server does to its clients, and what they find.
#[derive(Default)]
struct Storm {
    /// Wipes, of a flush or a restart, that have begun, and that are over.
    begun: AtomicU64,
    over: AtomicU64,
    /// The greatest token of each name.
    fences: [AtomicU64; NAMES],
    ends: AtomicBool,
    grants: AtomicU32,
    /// Holds that a wipe has ended, each told to its holder.
    told: AtomicU32,
    /// Holds without a wipe meanwhile, each let go as if there were none.
    kept: AtomicU32,
    wrong: Mutex<Vec<String>>,
}

impl Storm {
    fn wipe(&self, what: impl FnOnce()) {
        self.begun.fetch_add(1, SeqCst);
        what();
        self.over.fetch_add(1, SeqCst);
    }

    fn note(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn is_clean(&self) -> bool {
        self.wrong.lock().unwrap().is_empty()
    }

    /// What a call may say though its server goes or comes, never what is the store's own affair.
    fn bears(&self, what: &str, error: &Error, is_calm: bool) {
        let allowed = match error.code() {
            Code::Timeout => true,
            Code::Unavailable | Code::Uncertain => !is_calm,
            _ => false,
        };
        if !allowed || format!("{error} {error:?}").contains("NOSCRIPT") {
            self.note(format!("{what}, calm: {is_calm}: {error:?}"));
        }
    }

    /// One turn: take it, keep it for a while, which may be until a wipe, and let it go, asking before whether it is
    /// there or not.
    fn turn(&self, lock: &Lock, number: usize, pause: Option<Duration>, asks: bool) {
        let over = self.over.load(SeqCst);
        let least = self.fences[number].load(SeqCst);
        // Over before, and none begun since.
        let is_calm = || self.begun.load(SeqCst) == over;
        let grant = match lock.acquire(Wait::For(ms(500)), None) {
            Ok(grant) => grant,
            Err(error) => {
                self.bears("acquire", &error, is_calm());
                if error.code() == Code::Uncertain {
                    let _ = lock.release();
                }
                return;
            }
        };
        self.grants.fetch_add(1, SeqCst);
        let given = self.begun.load(SeqCst);
        let fence = grant.fence.expect("a token");
        if fence <= least {
            self.note(format!("token {fence} after {least}"));
        }
        self.fences[number].fetch_max(fence, SeqCst);
        match pause {
            Some(pause) => std::thread::sleep(pause),
            None => self.wait_for_wipe(given),
        }
        if asks {
            self.judge("check", given, is_calm, || code(lock.ensure_held()));
        }
        self.judge("release", given, is_calm, || code(lock.release()));
    }

    fn wait_for_wipe(&self, given: u64) {
        while self.over.load(SeqCst) <= given && !self.ends.load(SeqCst) {
            std::thread::sleep(ms(1));
        }
    }

    /// Whether a call about a hold tells what has become of it.
    fn judge(&self, what: &str, given: u64, calm: impl Fn() -> bool, call: impl FnOnce() -> Code) {
        let over = self.over.load(SeqCst);
        let is_gone = over > given;
        let found = call();
        let fits = match found {
            Code::Lost => is_gone || !calm(),
            Code::Ok => !is_gone,
            // The next one came meanwhile.
            Code::Unavailable | Code::Uncertain => self.begun.load(SeqCst) > over,
            _ => false,
        };
        if !fits {
            self.note(format!("{what}: {found:?}, wiped: {is_gone}"));
        }
        if is_gone && found == Code::Lost {
            self.told.fetch_add(1, SeqCst);
        } else if calm() {
            self.kept.fetch_add(1, SeqCst);
        }
    }

    fn is_enough(&self, strokes: u32) -> bool {
        let (all, least) = if is_full_load() { (290, 100) } else { (9, 5) };
        let count = |counter: &AtomicU32| counter.load(SeqCst);
        strokes >= all && count(&self.told) >= least && count(&self.kept) >= least
    }
}

/// Ends the clients, even where the server does not come again.
struct Calm<'a>(&'a AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn losses_are_told_to_clients_that_meet() {
    let mut server = RedisServer::start();
    let storm = Storm::default();
    let (time, every) = if is_full_load() {
        (Duration::from_secs(60), ms(200))
    } else {
        (ms(2_000), ms(50))
    };
    let seed = nanos() | 1;
    let mut strokes = 0;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            // Each with a store, and so a connection, of its own.
            let url = patient(&format!("{}?ttl={}", server.url(), 60_000 + client));
            let locks: [Lock; NAMES] = std::array::from_fn(|name| lock(&url, &format!("n{name}")));
            let storm = &storm;
            scope.spawn(move || {
                let mut random = Random(seed + client * 2);
                while !storm.ends.load(SeqCst) {
                    let number = random.below(NAMES);
                    let pause = every * random.below(16) as u32 / 10;
                    let pause = (random.below(3) != 0).then_some(pause);
                    storm.turn(&locks[number], number, pause, random.below(2) == 0);
                }
            });
        }
        let _end = Calm(&storm.ends);
        let stretch = Stretch::of(time);
        while storm.is_clean() && stretch.goes_on(|| storm.is_enough(strokes)) {
            let next = nanos() + every.as_nanos() as u64;
            match strokes % 3 {
                0 => storm.wipe(|| assert_eq!(server.command(&["FLUSHALL"]), "OK")),
                1 => storm.wipe(|| server.restart()),
                _ => assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "OK"),
            }
            strokes += 1;
            std::thread::sleep(Duration::from_nanos(next.saturating_sub(nanos())));
        }
    });
    let wrong = storm.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    let figures = [&storm.grants, &storm.told, &storm.kept].map(|count| count.load(SeqCst));
    assert!(storm.is_enough(strokes), "{strokes} strokes: {figures:?}");
}
