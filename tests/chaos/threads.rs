//! Row 40: everything in one process that several threads share, on `memory:`, `shm:` and `flock:`. As a
//! program of its own, since the test harness of Rust is not visible to ThreadSanitizer, under which
//! `tests/chaos/tsan` runs it. `row40-threads race` is a race on purpose, to see that it would be told.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use synlock_core::{Cancel, Code, Dispatch, LockOptions, Mode, Op, Store, Wait};

fn load() -> u32 {
    if std::env::var("SYNLOCK_LOAD").as_deref() == Ok("full") {
        50
    } else {
        1
    }
}

/// Where the locks are; each part has a place of its own.
fn open(part: &str) -> Store {
    let place = PLACE.get().expect("it is set first");
    let url = match place.split_once(':') {
        Some(("memory", _)) => format!("memory:{part}"),
        _ => format!("{place}/{part}"),
    };
    Store::open(&url).expect("a store")
}

static PLACE: OnceLock<String> = OnceLock::new();

/// Side by side: the first would otherwise have ended before the last begins.
fn spawn_all(count: u32, work: impl Fn(u32) + Send + Sync + Clone + 'static) {
    let gate = Arc::new(Barrier::new(count as usize));
    let threads: Vec<JoinHandle<()>> = (0..count)
        .map(|number| {
            let (work, gate) = (work.clone(), gate.clone());
            thread::spawn(move || {
                gate.wait();
                work(number);
            })
        })
        .collect();
    for thread in threads {
        assert!(thread.join().is_ok(), "a thread panicked");
    }
}

fn contention() {
    let store = open("contention");
    let inside = Arc::new(AtomicU32::new(0));
    let rounds = 200 * load();
    spawn_all(8, move |number| {
        let lock = store.lock("x").expect("a lock");
        for round in 0..rounds {
            let wait = if (round + number) % 3 == 0 {
                Wait::For(Duration::from_millis(1))
            } else {
                Wait::Forever
            };
            match lock.acquire(wait, None) {
                Ok(_) => {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    // Somebody else comes by while it is held.
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release().expect("ours to release");
                }
                Err(error) => assert_eq!(error.code(), Code::Timeout),
            }
        }
    });
}

/// One handle, many threads: each call works or says that another one is under way.
fn one_handle() {
    let lock = Arc::new(open("handle").lock("x").expect("a lock"));
    let rounds = 500 * load();
    spawn_all(6, move |number| {
        for _ in 0..rounds {
            let code = match number % 3 {
                0 => lock.acquire(Wait::No, None).map(drop),
                1 => lock.release().map(drop),
                _ => lock.refresh(None),
            };
            let _ = (lock.state(), lock.remaining(), lock.fencing_token());
            if let Err(error) = code {
                let expected = [
                    Code::ConcurrentUse,
                    Code::AlreadyHeld,
                    Code::NotHeld,
                    Code::Lost,
                ];
                assert!(expected.contains(&error.code()), "{error:?}");
            }
        }
    });
}

fn watchdog_and_loss() {
    let store = open("watchdog");
    let lost = Arc::new(AtomicU32::new(0));
    let rounds = 20 * load();
    let counted = lost.clone();
    spawn_all(4, move |number| {
        let mut options = LockOptions::default();
        options.ttl = Some(Duration::from_millis(3));
        options.renew = Some(true);
        let name = format!("x{number}");
        let lock = store.lock_with(&name, options).expect("a lock");
        for round in 0..rounds {
            lock.acquire(Wait::Forever, None)
                .expect("nobody else wants it");
            let lost = counted.clone();
            lock.on_lost(move || {
                lost.fetch_add(1, Ordering::SeqCst);
            })
            .expect("a hook");
            if round % 2 == 0 {
                store.break_lock(&name).expect("breaks");
            }
            thread::sleep(Duration::from_millis(2));
            let _ = lock.release();
        }
    });
}

fn dispatch_and_cancel() {
    let store = open("dispatch");
    let rounds = 50 * load();
    let observed = Arc::new(AtomicU32::new(0));
    let counted = observed.clone();
    store.observe(Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    spawn_all(4, move |number| {
        let dispatch = Dispatch::new().expect("a queue");
        let locks: Vec<_> = (0..8).map(|_| store.lock("x").expect("a lock")).collect();
        for round in 0..rounds {
            let tickets: Vec<u64> = locks
                .iter()
                .map(|lock| {
                    dispatch
                        .submit(lock, Op::Acquire(Wait::For(Duration::from_millis(5))), 0)
                        .expect("idle")
                })
                .collect();
            if (round + number) % 2 == 0 {
                tickets.iter().for_each(|ticket| dispatch.cancel(*ticket));
            }
            let mut left = locks.len();
            while left > 0 {
                let reaped = dispatch.reap(8);
                left -= reaped.len();
                for lock in &locks {
                    let _ = lock.release();
                }
                thread::sleep(Duration::from_micros(200));
            }
            for lock in &locks {
                let _ = lock.release();
            }
        }
    });
    assert!(observed.load(Ordering::Relaxed) > 0);
}

fn cancels() {
    let store = open("cancel");
    let held = store.lock("x").expect("a lock");
    held.acquire(Wait::No, None).expect("free");
    for _ in 0..20 * load() {
        let cancel = Cancel::new();
        let thread = thread::spawn({
            let (store, cancel) = (store.clone(), cancel.clone());
            move || {
                let mut options = LockOptions::default();
                options.mode = Mode::Shared;
                let lock = store.lock_with("x", options).expect("a lock");
                lock.acquire(Wait::Forever, Some(&cancel))
                    .map(drop)
                    .map_err(|error| error.code())
            }
        });
        thread::yield_now();
        cancel.cancel();
        assert!(matches!(thread.join(), Ok(Err(Code::Cancelled))));
    }
}

/// Two threads write to one word, and no lock is between them.
fn race() {
    struct Word(UnsafeCell<u64>);
    // SAFETY: none: this is the fault that must be found.
    unsafe impl Sync for Word {}
    let word = Arc::new(Word(UnsafeCell::new(0)));
    spawn_all(2, move |number| {
        // SAFETY: none, as above; a torn word harms nobody.
        unsafe { *word.0.get() += u64::from(number) };
    });
}

fn main() {
    let place = std::env::args().nth(1).unwrap_or_else(|| "memory:".into());
    if place == "race" {
        return race();
    }
    PLACE.set(place.clone()).expect("once");
    let parts = [
        ("contention", contention as fn()),
        ("one_handle", one_handle),
        ("watchdog_and_loss", watchdog_and_loss),
        ("dispatch_and_cancel", dispatch_and_cancel),
        ("cancels", cancels),
    ];
    // A lock of `flock:` has no lease that could be renewed.
    let has_leases = open("leases").capabilities().ttl;
    let parts = parts
        .iter()
        .filter(|(name, _)| has_leases || *name != "watchdog_and_loss");
    let mut passed = 0;
    for (name, run) in parts {
        run();
        println!("threads::{name} on {place} ok");
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
}
