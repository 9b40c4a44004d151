use super::*;
use crate::event::Observer;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(0);

fn store() -> Store {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Store::open(&format!("memory:manager-{number}")).unwrap()
}

fn key(json: &str) -> Key {
    Key::from_json(json.as_bytes()).unwrap()
}

fn manager(store: &Store, change: impl FnOnce(&mut ManagerOptions)) -> Manager {
    let mut options = ManagerOptions::default();
    change(&mut options);
    Manager::new(store, options).unwrap()
}

/// Tries once.
fn at_once(options: &mut ManagerOptions) {
    options.sleep = Duration::ZERO;
}

fn heard(manager: &Manager) -> Arc<Mutex<Vec<Event>>> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let list = events.clone();
    let hear: Observer = Arc::new(move |event: &Event| list.lock().push(event.clone()));
    manager.store().observe(hear);
    events
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}

#[test]
fn the_defaults_are_the_originals() {
    let manager = manager(&store(), |_| {});
    assert_eq!(manager.patience(), Duration::from_secs(120));
    let Asked::Ticket(ticket) = manager.ask(&key("\"a\""), None, None).unwrap() else {
        panic!("nothing is held")
    };
    assert_eq!(ticket.lock().ttl(), Some(Duration::from_secs(60)));
    assert_eq!(ticket.lock().options().renew, Some(false));
    assert_eq!(ticket.lock().name().as_bytes(), b"lock_a");
}

#[test]
fn jitter_lengthens_the_wait_and_no_more_than_it_says() {
    let manager = manager(&store(), |options| {
        options.tries = 10;
        options.jitter = Duration::from_millis(100);
    });
    let waits: Vec<_> = (0..50).map(|_| manager.patience()).collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*least >= Duration::from_secs(5) && *most <= Duration::from_secs(6));
    assert!(least < most, "{waits:?}");
}

#[test]
fn two_managers_of_two_owners_exclude_each_other() {
    let store = store();
    let one = manager(&store, at_once);
    one.acquire(&key("[\"k\",1]"), None, None, None).unwrap();
    // A foreign owner: what the manager holds is an ordinary lock.
    let name = one.name(&key("[\"k\",1]")).unwrap();
    let other = store.lock(name.as_bytes()).unwrap();
    assert_eq!(code(other.acquire(Wait::No, None)), Code::Busy);
    assert_eq!(one.list(), [(name, None)]);
    one.release(&key("[\"k\",1]"), None).unwrap();
    other.acquire(Wait::No, None).unwrap();
    assert_eq!(
        code(one.acquire(&key("[\"k\",1]"), None, None, None)),
        Code::Busy
    );
}

#[test]
fn a_repetition_is_an_error_that_names_the_holder() {
    let store = store();
    let one = manager(&store, |_| {});
    let events = heard(&one);
    one.acquire(&key("[\"k\",1]"), Some("A::first"), None, None)
        .unwrap();
    let error = one.acquire(&key("[\"k\",1]"), Some("B::second"), None, None);
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Reentered);
    assert!(error.message().contains("A::first"), "{error}");
    let told = events.lock().last().unwrap().clone();
    assert_eq!(
        (told.kind, told.level, told.code),
        (EventKind::Refused, "error", Code::Reentered)
    );
    assert!(
        told.line().contains("B::second->acquire: "),
        "{}",
        told.line()
    );
    // The first hold stands.
    assert!(one.is_acquired(&key("[\"k\",1]")).unwrap());
    // So it is through another manager of this process.
    let other = manager(&store, |_| {});
    let events = heard(&other);
    assert_eq!(
        code(other.acquire(&key("[\"k\",1]"), None, None, None)),
        Code::Reentered
    );
    assert_eq!(events.lock().last().unwrap().code, Code::Reentered);
}

#[test]
fn a_repetition_extends_where_that_was_chosen() {
    let store = store();
    let one = manager(&store, |options| options.repeat = Repeat::Extend);
    let events = heard(&one);
    let short = Some(Duration::from_secs(10));
    let first = one.acquire(&key("\"k\""), Some("a"), short, None).unwrap();
    let long = Some(Duration::from_secs(50));
    let again = one.acquire(&key("\"k\""), Some("b"), long, None).unwrap();
    assert!(!first.extended && again.extended);
    let left = one.lock(&key("\"k\"")).unwrap().remaining().unwrap();
    assert!(left > Duration::from_secs(20), "{left:?}");
    assert!(events.lock().iter().any(|event| event.level == "warning"));
    // Another manager of the process lengthens the same hold.
    let two = manager(&store, |options| options.repeat = Repeat::Extend);
    let shared = two.acquire(&key("\"k\""), Some("c"), long, None).unwrap();
    assert!(shared.extended);
    one.release(&key("\"k\""), None).unwrap();
    assert!(!store.is_locked("lock_k").unwrap());
}

#[test]
fn a_release_by_somebody_else_is_an_error() {
    let store = store();
    let one = manager(&store, at_once);
    let events = heard(&one);
    assert_eq!(
        code(one.release(&key("\"k\""), Some("C::c"))),
        Code::NotHeld
    );
    let told = events.lock().last().unwrap().clone();
    assert_eq!((told.level, told.operation), ("error", "release"));
    assert_eq!(told.caller.as_deref(), Some("C::c"));
    // One that was broken and taken by another is left alone.
    one.acquire(&key("\"k\""), None, None, None).unwrap();
    store.break_lock("lock_k").unwrap();
    let other = store.lock("lock_k").unwrap();
    other.acquire(Wait::No, None).unwrap();
    assert_eq!(code(one.release(&key("\"k\""), None)), Code::Lost);
    other.ensure_held().unwrap();
    assert_eq!(code(one.release(&key("\"k\""), None)), Code::NotHeld);
}

#[test]
fn an_expired_key_may_be_acquired_again_and_its_loss_is_told() {
    let store = store();
    let one = manager(&store, at_once);
    let events = heard(&one);
    one.acquire(
        &key("\"k\""),
        Some("a"),
        Some(Duration::from_millis(30)),
        None,
    )
    .unwrap();
    let lock = one.lock(&key("\"k\"")).unwrap();
    while lock.state() != State::Lost {
        thread::sleep(Duration::from_millis(5));
    }
    drop(lock);
    // Told by the service thread, perhaps a moment after the state is seen.
    while !events
        .lock()
        .iter()
        .any(|event| event.kind == EventKind::Lost)
    {
        thread::sleep(Duration::from_millis(5));
    }
    one.acquire(&key("\"k\""), Some("b"), None, None).unwrap();
    one.release(&key("\"k\""), None).unwrap();
}

#[test]
fn of_two_threads_each_releases_its_own() {
    let store = store();
    let one = manager(&store, at_once);
    one.acquire(
        &key("\"k\""),
        Some("a"),
        Some(Duration::from_millis(20)),
        None,
    )
    .unwrap();
    let lost = one.lock(&key("\"k\"")).unwrap();
    while !lost.is_expired() {
        thread::sleep(Duration::from_millis(5));
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| one.acquire(&key("\"k\""), Some("b"), None, None));
        other.join().unwrap().unwrap();
    });
    drop(lost);
    // Ours was lost, and theirs is theirs.
    assert_eq!(code(one.release(&key("\"k\""), None)), Code::Lost);
    assert!(store.is_locked("lock_k").unwrap());
    one.release(&key("\"k\""), None).unwrap();
    assert!(!store.is_locked("lock_k").unwrap());
}

#[test]
fn what_is_forgotten_is_told_and_released() {
    let store = store();
    let one = manager(&store, at_once);
    let events = heard(&one);
    one.acquire(&key("[\"k\",\"é\"]"), Some("Job::run"), None, None)
        .unwrap();
    drop(one);
    let told = events.lock().last_chunk::<2>().unwrap().clone();
    assert_eq!(
        (told[0].kind, told[0].level),
        (EventKind::Forgotten, "error")
    );
    let line = told[0].line();
    assert!(
        line.starts_with(&format!("[{}] Job::run->end: ", std::process::id())),
        "{line}"
    );
    assert!(line.contains(" Key: lock_k"), "{line}");
    assert!(line.contains(" [\"k\",\"é\"] (store memory:"), "{line}");
    assert_eq!(told[1].kind, EventKind::Released);
    let page = store.list(b"", None, 10).unwrap();
    assert!(page.locks.is_empty());
}

#[test]
fn a_demo_tells_all_and_does_nothing() {
    let store = store();
    store
        .lock("lock_k")
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap();
    let holder = store.lock("lock_k2").unwrap();
    holder.acquire(Wait::No, None).unwrap();
    let one = manager(&store, |options| options.demo = true);
    let events = heard(&one);
    for _ in 0..2 {
        one.acquire(&key("\"k2\""), Some("a"), None, None).unwrap();
    }
    one.release(&key("\"k2\""), Some("a")).unwrap();
    one.release(&key("\"never\""), Some("a")).unwrap();
    let kinds: Vec<_> = events.lock().iter().map(|event| event.kind).collect();
    use EventKind::{Acquired, Released};
    assert_eq!(kinds, [Acquired, Acquired, Released, Released]);
    holder.ensure_held().unwrap();
    // Names and settings are looked at all the same.
    assert_eq!(
        code(one.acquire(&key("[]"), None, None, None)),
        Code::InvalidArgument
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    for change in [
        (|options| options.tries = 0) as fn(&mut ManagerOptions),
        |options| options.ttl = Duration::ZERO,
    ] {
        let mut options = ManagerOptions::default();
        change(&mut options);
        assert_eq!(code(Manager::new(&store(), options)), Code::InvalidArgument);
    }
    let one = manager(&store(), |_| {});
    assert_eq!(
        code(one.acquire(&key("\"k\""), None, Some(Duration::ZERO), None)),
        Code::InvalidArgument
    );
}

#[cfg(feature = "flock")]
#[test]
fn a_ttl_is_lenient_where_there_are_no_leases() {
    let folder = std::env::temp_dir().join(format!("synlock-manager-{}", std::process::id()));
    let url = format!("flock:{}", folder.display());
    let one = manager(&Store::open(&url).unwrap(), |_| {});
    one.acquire(&key("\"k\""), None, Some(Duration::from_secs(5)), None)
        .unwrap();
    one.refresh(&key("\"k\""), Some(Duration::from_secs(5)))
        .unwrap();
    one.release(&key("\"k\""), None).unwrap();
    let strict = Store::open(&format!("{url}?strict=1")).unwrap();
    let strict = manager(&strict, |_| {});
    assert_eq!(
        code(strict.acquire(&key("\"k\""), None, None, None)),
        Code::Unsupported
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_waiter_is_woken_long_before_its_time_is_over() {
    let store = store();
    let holder = store.lock("lock_k").unwrap();
    holder.acquire(Wait::No, None).unwrap();
    let one = manager(&store, |options| options.sleep = Duration::from_secs(3600));
    let events = heard(&one);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| one.acquire(&key("\"k\""), Some("w"), None, None));
        while !events
            .lock()
            .iter()
            .any(|event| event.kind == EventKind::Waiting)
        {
            thread::sleep(Duration::from_millis(2));
        }
        holder.release().unwrap();
        assert!(waiter.join().unwrap().unwrap().contended);
    });
}

#[test]
fn an_interrupted_acquire_goes_on_where_it_was() {
    let store = store();
    let holder = store.lock("lock_k").unwrap();
    holder.acquire(Wait::No, None).unwrap();
    let one = manager(&store, |options| options.interruptible = true);
    let k = key("\"k\"");
    assert_eq!(code(one.acquire(&k, None, None, None)), Code::Interrupted);
    assert_eq!(code(one.acquire(&k, None, None, None)), Code::Interrupted);
    assert_eq!(store.inspect("lock_k").unwrap().waiters, Some(1));
    one.abandon(&k).unwrap();
    assert_eq!(store.inspect("lock_k").unwrap().waiters, Some(0));
    assert_eq!(code(one.acquire(&k, None, None, None)), Code::Interrupted);
    holder.release().unwrap();
    one.acquire(&k, None, None, None).unwrap();
}

#[test]
fn numbers_are_counted_where_that_was_asked_for() {
    let store = store();
    let one = manager(&store, at_once);
    let count = |name: &str, more: &str| -> u64 {
        let wanted = format!("{name}{{store=\"{}\"{more}}} ", one.store().url());
        let text = crate::metrics::text();
        let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
        line.map_or(0, |number| number.parse().unwrap())
    };
    let k = key("\"k\"");
    one.acquire(&k, None, None, None).unwrap();
    one.release(&k, None).unwrap();
    assert_eq!(count("synlock_acquires_total", ",outcome=\"granted\""), 0);
    one.store().measure(true);
    one.acquire(&k, None, None, None).unwrap();
    assert_eq!(code(one.acquire(&k, None, None, None)), Code::Reentered);
    one.release(&k, None).unwrap();
    let holder = store.lock("lock_k").unwrap();
    holder.acquire(Wait::No, None).unwrap();
    assert_eq!(code(one.acquire(&k, None, None, None)), Code::Busy);
    for (outcome, wanted) in [
        ("granted", 1),
        ("reentered", 1),
        ("busy", 1),
        ("timeout", 0),
    ] {
        let label = format!(",outcome=\"{outcome}\"");
        assert_eq!(count("synlock_acquires_total", &label), wanted, "{outcome}");
    }
    assert_eq!(count("synlock_releases_total", ""), 1);
    assert_eq!(count("synlock_held_seconds_count", ""), 1);
    one.store().measure(false);
    holder.release().unwrap();
    one.acquire(&k, None, None, None).unwrap();
    assert_eq!(count("synlock_acquires_total", ",outcome=\"granted\""), 1);
}

/// Two managers share a hold; what one has released is asked for anew by the other.
#[test]
fn a_shared_hold_that_the_other_manager_released_is_no_hold() {
    let store = store();
    let make = || {
        manager(&store, |options| {
            at_once(options);
            options.repeat = Repeat::Extend;
        })
    };
    let (one, two) = (make(), make());
    let key = key("\"k\"");
    one.acquire(&key, None, None, None).unwrap();
    assert!(two.acquire(&key, None, None, None).unwrap().extended);
    one.release(&key, None).unwrap();
    assert!(!store.is_locked(one.name(&key).unwrap().as_bytes()).unwrap());
    assert!(!two.acquire(&key, None, None, None).unwrap().extended);
    assert!(store.is_locked(one.name(&key).unwrap().as_bytes()).unwrap());
    two.release(&key, None).unwrap();
}
