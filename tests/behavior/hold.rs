//! Holding: leases, the watchdog, loss, release, hand-over to another process.

use super::support::{Case, List, PATIENCE, code, ms};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use synlock_core::{BootTime, Code, Lock, LockOptions, Scope, State, Store, Wait};

pub fn tests(list: &mut List) {
    list.add("dropping_a_handle_releases", drops);
    list.add("auto_release_can_be_switched_off", keeps);
    list.add("another_hold_is_never_touched", not_ours);
    list.add("a_hold_outlives_the_deadline_of_its_acquire", outlives);
    list.add("owner_tokens_are_never_used_twice", tokens);
    list.add(
        "a_hold_stays_itself_when_its_token_is_asked_for",
        late_tokens,
    );
    if list.can.break_lock {
        list.add("a_broken_lock_is_lost", broken);
        list.add("loss_rings_the_descriptor_and_the_hook", alarms);
    }
    if list.can.ttl {
        list.add("a_lease_ends", lease_ends);
        list.add("refresh_prolongs", refresh);
        list.add("refresh_never_shortens", never_shortens);
        list.add("a_refresh_for_longer_lets_nobody_in", refresh_for_longer);
        list.add("refresh_after_loss_fails", refresh_after_loss);
        list.add("remaining_is_conservative", remaining);
        list.add("a_late_release_says_so_or_is_lost", late);
        if list.is_caller_thread_only {
            list.add("nobody_renews_in_the_background", no_watchdog);
        } else {
            list.add("the_watchdog_renews_until_release", watchdog);
        }
        list.add("a_waiter_waits_for_the_end_of_a_lease", waits_for_lease);
    }
    if !list.can.frees_on_death {
        list.add("an_omitted_ttl_is_a_renewed_lease", default_lease);
    } else {
        list.add("an_omitted_ttl_is_no_lease", no_lease);
    }
    if list.can.fence.class() != "none" {
        list.add("fencing_tokens_grow", fences);
    }
    if list.can.export {
        list.add("an_exported_hold_is_adopted_once", adopt);
    }
    let sees_death = list.can.frees_on_death || list.can.store == "tiered";
    if list.can.ttl && (!sees_death || list.can.scope == Scope::Process) {
        list.add("a_lock_delay_follows_an_unclean_end", delay);
    } else {
        list.add("a_lock_delay_is_refused", no_delay);
    }
    list.add("observers_hear_of_it", observers);
}

fn drops(case: &Case) {
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    drop(lock);
    case.lock().acquire(Wait::No, None).unwrap();
}

fn keeps(case: &Case) {
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    lock.set_auto_release(false);
    drop(lock);
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
}

fn outlives(case: &Case) {
    let lock = case.lock();
    // On a slow machine the answer may come later.
    let end = BootTime::now().after(Duration::from_secs(20));
    while let Err(error) = lock.acquire(Wait::For(ms(100)), None) {
        assert!(!end.has_passed(), "{error}");
    }
    std::thread::sleep(ms(500));
    lock.ensure_held().unwrap();
    lock.refresh(None).unwrap();
    lock.release().unwrap();
}

fn not_ours(case: &Case) {
    let (a, b) = (case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.release()), Code::NotHeld);
    // Even with a claim that names the resource, but another token.
    let stranger = synlock_core::store::Claim {
        name: a.name().clone(),
        mode: a.mode(),
        ttl: a.ttl(),
        ..synlock_tests::claims::claim("any")
    };
    let backend = case.store.backend();
    assert_eq!(
        backend.release(&stranger).unwrap(),
        synlock_core::store::Answer::NotOurs
    );
    if case.can.ttl {
        assert_eq!(
            backend.extend(&stranger, ms(1000)).unwrap(),
            synlock_core::store::Answer::NotOurs
        );
    }
    assert!(!backend.is_held(&stranger).unwrap());
    a.ensure_held().unwrap();
}

fn tokens(case: &Case) {
    let lock = case.lock();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        lock.acquire(Wait::No, None).unwrap();
        assert!(seen.insert(lock.owner_token().unwrap().to_hex()));
        lock.release().unwrap();
    }
}

/// Some stores draw it only then.
fn late_tokens(case: &Case) {
    let (lock, other) = (case.lock(), case.lock());
    for turn in 0..6 {
        lock.acquire(Wait::No, None).unwrap();
        if turn % 2 == 1 {
            let token = lock.owner_token().unwrap();
            assert_eq!(lock.owner_token(), Some(token));
        }
        lock.ensure_held().unwrap();
        assert!(other.try_acquire().unwrap().is_none());
        if turn < 4 {
            lock.release().unwrap();
            other.acquire(PATIENCE, None).unwrap();
        } else {
            std::thread::scope(|threads| {
                let waiter = threads.spawn(|| other.acquire(PATIENCE, None));
                std::thread::yield_now();
                lock.release().unwrap();
                waiter.join().unwrap().unwrap();
            });
            other.owner_token().unwrap();
        }
        other.ensure_held().unwrap();
        other.release().unwrap();
    }
}

fn broken(case: &Case) {
    let lock = case.lock();
    assert!(!case.store.break_lock(&case.name).unwrap());
    lock.acquire(Wait::No, None).unwrap();
    assert!(case.store.break_lock(&case.name).unwrap());
    let thief = case.lock();
    thief.acquire(PATIENCE, None).unwrap();
    assert_eq!(code(lock.ensure_held()), Code::Lost);
    assert!(!lock.is_acquired().unwrap());
    assert_eq!(lock.state(), State::Lost);
    assert!(lock.is_expired());
    assert_eq!(code(lock.refresh(None)), Code::Lost);
    assert_eq!(code(lock.release()), Code::Lost);
    assert_eq!(code(lock.release()), Code::NotHeld);
    thief.ensure_held().unwrap();
}

pub fn readable(fd: i32) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

fn alarms(case: &Case) {
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    let fd = lock.lost_fd().unwrap();
    let (sender, receiver) = mpsc::channel();
    lock.on_lost(move || sender.send(()).unwrap()).unwrap();
    assert!(!readable(fd));
    case.store.break_lock(&case.name).unwrap();
    assert_eq!(code(lock.ensure_held()), Code::Lost);
    receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(readable(fd));
    assert_eq!(code(lock.release()), Code::Lost);
    lock.acquire(PATIENCE, None).unwrap();
    assert!(!readable(fd));
}

fn lease_ends(case: &Case) {
    let b = case.lock();
    let (a, _) = case.briefly(ms(150), || match b.acquire(Wait::No, None) {
        Ok(_) => b.release().is_err(),
        Err(error) => error.code() == Code::Busy,
    });
    b.acquire(PATIENCE, None).unwrap();
    assert!(a.is_expired());
    let (id, events) = listen(case);
    assert_eq!(code(a.ensure_held()), Code::Lost);
    case.store.unobserve(id);
    let heard: Vec<_> = events.try_iter().collect();
    assert_eq!(heard, ["lost"]);
    b.ensure_held().unwrap();
}

fn delayed(case: &Case, ttl: Duration, delay: Duration) -> Lock {
    case.lock_with(|options| {
        options.ttl = Some(ttl);
        options.lock_delay = delay;
    })
}

fn delay(case: &Case) {
    // No longer than a member of a quorum that comes up waits before it votes.
    let long = Duration::from_secs(45);
    let (a, b) = (delayed(case, ms(400), long), case.lock());
    a.acquire(Wait::No, None).unwrap();
    assert!(a.remaining().unwrap() <= ms(400));
    std::thread::sleep(ms(450));
    // Its lease is over, and nobody may have the lock.
    assert!(a.is_expired());
    assert_eq!(code(a.ensure_held()), Code::Lost);
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    // A holder that says that it is done is no unclean end.
    assert!(case.store.break_lock(&case.name).is_ok() == case.can.break_lock);
    if case.can.break_lock {
        case.patiently(ms(600), |ttl| {
            let c = delayed(case, ttl, long);
            c.acquire(Wait::No, None).map_err(told)?;
            let longer = ttl * 4 / 3;
            let refreshed = c.refresh(Some(longer)).map_err(told);
            if refreshed.is_ok() {
                assert!(c.remaining().unwrap() <= longer);
                std::thread::sleep(longer + ms(50));
                assert!(c.release().unwrap().late);
            } else {
                case.store.break_lock(&case.name).unwrap();
            }
            b.acquire(PATIENCE, None).unwrap();
            b.release().unwrap();
            refreshed
        });
    }
    // The delay ends too.
    let name = format!("{}-ends", case.name);
    let mut options = LockOptions::default();
    options.ttl = Some(ms(400));
    options.lock_delay = ms(1600);
    let dead = case.store.lock_with(&name, options).unwrap();
    dead.acquire(Wait::No, None).unwrap();
    dead.set_auto_release(false);
    drop(dead);
    let heir = case
        .store
        .lock_with(&name, case.store.defaults().clone())
        .unwrap();
    heir.acquire(PATIENCE, None).unwrap();
}

fn no_delay(case: &Case) {
    let mut options = LockOptions::default();
    options.lock_delay = ms(100);
    options.ttl = case.can.ttl.then_some(ms(1000));
    let refused = case.store.lock_with(&case.name, options);
    assert_eq!(code(refused), Code::Unsupported);
}

fn refresh(case: &Case) {
    case.patiently(ms(900), |ttl| {
        let (a, b) = (case.leased(ttl), case.lock());
        a.acquire(Wait::No, None).map_err(told)?;
        for _ in 0..6 {
            std::thread::sleep(ttl / 3);
            a.refresh(None).map_err(told)?;
        }
        is_busy(&b)?;
        a.refresh(Some(Duration::from_secs(60))).map_err(told)?;
        assert!(a.remaining().unwrap() > Duration::from_secs(50));
        a.release().map(drop).map_err(told)
    });
}

fn told(error: synlock_core::Error) -> String {
    error.to_string()
}

fn is_busy(lock: &Lock) -> Result<(), String> {
    match code(lock.acquire(Wait::No, None)) {
        Code::Busy => Ok(()),
        other => Err(format!("{other:?} though somebody holds it")),
    }
}

fn refresh_for_longer(case: &Case) {
    let short = case.ttl(ms(1_500)).max(ms(1_500));
    for _ in 0..3 {
        let (held, next) = (case.leased(short), case.leased(short));
        held.acquire(PATIENCE, None).unwrap();
        held.refresh(Some(ms(20_000))).unwrap();
        assert_eq!(code(next.acquire(Wait::No, None)), Code::Busy);
        assert_eq!(code(next.acquire(Wait::For(ms(100)), None)), Code::Timeout);
        held.ensure_held().unwrap();
        held.release().unwrap();
    }
}

fn never_shortens(case: &Case) {
    let (a, b) = (case.leased(Duration::from_secs(60)), case.lock());
    a.acquire(Wait::No, None).unwrap();
    a.refresh(Some(case.ttl(ms(50)))).unwrap();
    assert!(a.remaining().unwrap() > Duration::from_secs(50));
    case.outlive(ms(50), ms(120));
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    a.ensure_held().unwrap();
}

fn refresh_after_loss(case: &Case) {
    let ((a, ttl), b) = (case.briefly(ms(60), || true), case.lock());
    case.outlive(ttl, 2 * ttl + ms(100));
    b.acquire(PATIENCE, None).unwrap();
    assert_eq!(code(a.refresh(None)), Code::Lost);
    assert_eq!(code(a.refresh(Some(Duration::from_secs(9)))), Code::Lost);
    b.ensure_held().unwrap();
}

fn remaining(case: &Case) {
    let before = Instant::now();
    let a = case.leased(Duration::from_secs(10));
    assert_eq!(a.remaining(), None);
    a.acquire(Wait::No, None).unwrap();
    let left = a.remaining().unwrap();
    assert!(
        left <= Duration::from_secs(10) && left + before.elapsed() > ms(9000),
        "{left:?}"
    );
    a.release().unwrap();
}

fn late(case: &Case) {
    let (a, ttl) = case.briefly(ms(40), || true);
    case.outlive(ttl, 2 * ttl + ms(100));
    match a.release() {
        Ok(released) => assert!(released.late && a.was_late()),
        Err(error) => assert_eq!(error.code(), Code::Lost),
    }
    assert_eq!(code(a.release()), Code::NotHeld);
}

fn watchdog(case: &Case) {
    case.patiently(ms(1500), |ttl| {
        let a = case.lock_with(|options| {
            options.ttl = Some(ttl);
            options.renew = Some(true);
        });
        a.acquire(Wait::No, None).map_err(told)?;
        let start = Instant::now();
        while start.elapsed() < ttl * 5 / 3 {
            is_busy(&case.lock())?;
            std::thread::sleep(ms(20));
        }
        a.ensure_held().map_err(told)?;
        a.release().map_err(told)?;
        let b = case.lock();
        b.acquire(Wait::No, None).map_err(told)?;
        std::thread::sleep(ttl / 3);
        // No renewal followed the release.
        b.ensure_held().map_err(told)?;
        assert_eq!(a.state(), State::Idle);
        Ok(())
    });
}

fn no_watchdog(case: &Case) {
    let mut options = LockOptions::default();
    options.ttl = Some(ms(900));
    options.renew = Some(true);
    let refused = case.store.lock_with(&case.name, options);
    assert_eq!(code(refused), Code::Unsupported);
}

fn waits_for_lease(case: &Case) {
    case.patiently(ms(200), |ttl| {
        let ((a, ttl), b) = (case.briefly(ttl, || true), case.lock());
        a.set_auto_release(false);
        drop(a);
        let waited = b.acquire(PATIENCE, None).unwrap().waited;
        b.release().unwrap();
        let most = ttl + Duration::from_secs(4);
        let poll = || format!("waited for the safety poll: {waited:?}");
        (waited < most).then_some(()).ok_or_else(poll)
    });
}

fn default_lease(case: &Case) {
    let lock = case.lock();
    assert_eq!(lock.ttl(), Some(synlock_core::lock::DEFAULT_LEASE));
    lock.acquire(Wait::No, None).unwrap();
    let left = lock.remaining().unwrap();
    assert!(
        left > Duration::from_secs(25) && left < Duration::from_secs(30),
        "{left:?}"
    );
}

fn no_lease(case: &Case) {
    let lock = case.lock();
    assert_eq!(lock.ttl(), None);
    lock.acquire(Wait::No, None).unwrap();
    assert_eq!(lock.remaining(), None);
    lock.refresh(None).unwrap();
    assert!(!lock.is_expired());
}

fn fences(case: &Case) {
    let mut last = 0;
    for _ in 0..30 {
        let lock = case.lock();
        let fence = lock.acquire(Wait::No, None).unwrap().fence.unwrap();
        assert!(
            fence > last && i64::try_from(fence).is_ok(),
            "{fence} after {last}"
        );
        last = fence;
    }
}

fn adopt(case: &Case) {
    let a = case.leased(Duration::from_secs(30));
    a.acquire(Wait::No, None).unwrap();
    let fence = a.fencing_token();
    let text = a.export().unwrap();
    assert!(text.starts_with("synlock1:"));
    assert_eq!(a.state(), State::Idle);
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    let options = || {
        let mut options = LockOptions::default();
        options.ttl = Some(Duration::from_secs(30));
        options
    };
    let winners = Arc::new(AtomicU32::new(0));
    let heirs: Vec<_> = (0..4)
        .map(|_| {
            let (store, text, winners, options) =
                (case.store.clone(), text.clone(), winners.clone(), options());
            std::thread::spawn(move || match store.adopt(&text, options) {
                Ok(lock) => {
                    winners.fetch_add(1, Ordering::SeqCst);
                    Some(lock)
                }
                Err(error) => {
                    assert_eq!(error.code(), Code::Lost);
                    None
                }
            })
        })
        .collect();
    let heirs: Vec<_> = heirs
        .into_iter()
        .filter_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(winners.load(Ordering::SeqCst), 1);
    assert_eq!(heirs[0].fencing_token(), fence);
    heirs[0].refresh(None).unwrap();
    heirs[0].release().unwrap();
    assert_eq!(code(case.store.adopt(&text, options())), Code::Lost);
    assert_eq!(
        code(case.store.adopt("synlock1:x:y", options())),
        Code::InvalidArgument
    );
    let elsewhere = Store::open("memory:elsewhere").unwrap();
    assert_eq!(
        code(elsewhere.adopt(&text, LockOptions::default())),
        Code::InvalidArgument
    );
}

/// The events of the case's name, from now on.
fn listen(case: &Case) -> (u64, mpsc::Receiver<&'static str>) {
    let (sender, receiver) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let name = case.name.clone();
    let id = case.store.observe(Arc::new(move |event| {
        if event.resource == name.as_bytes() {
            assert_eq!(event.pid, std::process::id());
            let _ = sender.lock().unwrap().send(event.kind.name());
        }
    }));
    (id, receiver)
}

fn observers(case: &Case) {
    let (id, receiver) = listen(case);
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    lock.release().unwrap();
    lock.acquire(Wait::No, None).unwrap();
    drop(lock);
    case.store.unobserve(id);
    let heard: Vec<_> = receiver.try_iter().collect();
    assert_eq!(
        heard,
        [
            "acquired",
            "refused",
            "released",
            "acquired",
            "forgotten",
            "released"
        ]
    );
}
