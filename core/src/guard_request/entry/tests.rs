use super::*;
use crate::guard_request::{Guards, Policy, Request};
use crate::registry::Store;
use crate::store::custom::{Ask, Callbacks, Reply, Traits, Verb};
use crate::sync::Mutex;
use crate::{Cancel, Code, Fence, LockOptions, Scope};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Guards over one store of their own.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn guards() -> Guards {
    let mut guards = Guards::new();
    guards
        .add(
            "default",
            Store::open(&format!(
                "memory:guard-{}",
                NEXT.fetch_add(1, Ordering::Relaxed)
            ))
            .unwrap(),
        )
        .unwrap();
    guards
}

fn policy(mode: GuardMode) -> Policy {
    Policy {
        name: Some("order_{id}".into()),
        mode,
        ..Policy::default()
    }
}

fn enter(guards: &Guards, policy: &Policy) -> Entry {
    let request = Request {
        route: b"pay",
        path: b"/orders/17/pay",
        params: &[(b"id", b"17")],
        ..Request::default()
    };
    guards.plan(policy, &request).unwrap().enter(None).unwrap()
}

fn store(guards: &Guards) -> Store {
    let plan = guards.plan(
        &policy(GuardMode::Block),
        &Request {
            params: &[(b"id", b"17")],
            ..Request::default()
        },
    );
    plan.unwrap().store().clone()
}

/// What the store's URL says of one caller that asks twice is about no two requests.
#[test]
fn requests_of_one_process_are_strangers_whatever_the_store_says_of_reentry() {
    for reentry in ["extend", "error"] {
        let mut guards = Guards::new();
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        let url = format!("memory:guard-{place}?reentry={reentry}");
        guards.add("default", Store::open(&url).unwrap()).unwrap();
        let first = enter(&guards, &policy(GuardMode::Block));
        let second = enter(&guards, &policy(GuardMode::Block));
        assert!(first.is_admitted() && !second.is_admitted(), "{url}");
        let mut queue = policy(GuardMode::Queue);
        queue.max_wait = Duration::from_millis(1);
        assert!(!enter(&guards, &queue).is_admitted(), "{url}");
    }
}

#[test]
fn block_lets_one_in_and_the_lock_has_the_name_of_the_template() {
    let guards = guards();
    let first = enter(&guards, &policy(GuardMode::Block));
    assert!(first.is_admitted());
    assert!(store(&guards).is_locked("order_17").unwrap());
    let second = enter(&guards, &policy(GuardMode::Block));
    assert!(!second.is_admitted());
    assert_eq!((first.attempts(), second.attempts()), (1, 1));
    assert!(second.lock().is_none());
    let label = second.holders()[0].label.as_deref();
    assert_eq!(label, Some("request pay /orders/17/pay"));
    assert!(first.release().unwrap().is_some());
    assert!(first.release().unwrap().is_none(), "once is enough");
    assert!(enter(&guards, &policy(GuardMode::Block)).is_admitted());
}

#[test]
fn dropping_the_entry_releases_unless_that_is_switched_off() {
    let guards = guards();
    drop(enter(&guards, &policy(GuardMode::Block)));
    assert!(!store(&guards).is_locked("order_17").unwrap());
    let kept = Policy {
        auto_release: false,
        ttl: Some(Duration::from_secs(60)),
        ..policy(GuardMode::Block)
    };
    drop(enter(&guards, &kept));
    assert!(store(&guards).is_locked("order_17").unwrap());
}

#[test]
fn the_end_of_the_holders_lease_says_when_to_come_again() {
    let guards = guards();
    let held = enter(&guards, &policy(GuardMode::Block));
    let refused = enter(&guards, &policy(GuardMode::Block));
    assert_eq!(
        refused.retry_after_seconds(),
        None,
        "no lease: nobody knows"
    );
    held.release().unwrap();

    let leased = Policy {
        ttl: Some(Duration::from_secs(600)),
        ..policy(GuardMode::Block)
    };
    let held = enter(&guards, &leased);
    assert_eq!(held.retry_after_seconds(), None);
    let left = enter(&guards, &policy(GuardMode::Block))
        .retry_after_seconds()
        .unwrap();
    assert!((1..=600).contains(&left), "{left}");
    let left = enter(&guards, &policy(GuardMode::Check))
        .retry_after_seconds()
        .unwrap();
    assert!((1..=600).contains(&left), "{left}");
}

#[test]
fn check_acquires_nothing() {
    let guards = guards();
    let entry = enter(&guards, &policy(GuardMode::Check));
    assert!(entry.is_admitted());
    assert!(entry.lock().is_none());
    assert!(!store(&guards).is_locked("order_17").unwrap());
    let _held = enter(&guards, &policy(GuardMode::Block));
    let refused = enter(&guards, &policy(GuardMode::Check));
    assert!(!refused.is_admitted());
    assert_eq!(refused.holders().len(), 1);
}

#[test]
fn queue_serves_everybody_one_at_a_time() {
    let guards = guards();
    let queue = Policy {
        max_wait: Duration::from_secs(600),
        ..policy(GuardMode::Queue)
    };
    let inside = Arc::new(AtomicUsize::new(0));
    let held = enter(&guards, &queue);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (guards, queue, inside) = (guards.clone(), queue.clone(), inside.clone());
            std::thread::spawn(move || {
                let entry = enter(&guards, &queue);
                assert!(entry.is_admitted());
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                std::thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                entry.release().unwrap();
            })
        })
        .collect();
    held.release().unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn queue_is_bounded_and_can_be_cancelled() {
    let guards = guards();
    let _held = enter(&guards, &policy(GuardMode::Block));
    let bounded = Policy {
        max_wait: Duration::from_millis(20),
        ..policy(GuardMode::Queue)
    };
    let refused = enter(&guards, &bounded);
    assert!(!refused.is_admitted());
    assert!(refused.waited() >= Duration::from_millis(20));

    let cancel = Cancel::new();
    cancel.cancel();
    let request = Request {
        params: &[(b"id", b"17")],
        ..Request::default()
    };
    let plan = guards.plan(&policy(GuardMode::Queue), &request).unwrap();
    assert_eq!(
        plan.enter(Some(&cancel)).unwrap_err().code(),
        Code::Cancelled
    );
}

#[test]
fn force_takes_over_and_the_victim_is_told_by_whom() {
    let guards = guards();
    let victim = enter(&guards, &policy(GuardMode::Block));
    let force = Policy {
        label: Some("the boss".into()),
        ..policy(GuardMode::Force)
    };
    let entry = enter(&guards, &force);
    assert!(entry.is_admitted());
    assert_eq!(entry.holders().len(), 1, "from whom it was taken");
    for _ in 0..2 {
        let lost = victim.lock().unwrap().ensure_held().unwrap_err();
        assert_eq!(lost.code(), Code::Lost);
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let who = format!(
            "broken by the boss, pid {}, host {host}",
            std::process::id()
        );
        assert!(lost.message().starts_with(&who), "{lost}");
    }
    assert_eq!(
        victim.lock().unwrap().refresh(None).unwrap_err().code(),
        Code::Lost
    );
    assert!(entry.lock().unwrap().is_acquired().unwrap());
    entry.release().unwrap();

    // A free lock is simply taken, and from nobody.
    let entry = enter(&guards, &force);
    assert!(entry.is_admitted() && entry.holders().is_empty());
}

#[test]
fn a_refresh_tells_the_victim_as_well() {
    let guards = guards();
    let leased = Policy {
        ttl: Some(Duration::from_secs(600)),
        ..policy(GuardMode::Block)
    };
    let victim = enter(&guards, &leased);
    let _entry = enter(&guards, &policy(GuardMode::Force));
    let lost = victim.lock().unwrap().refresh(None).unwrap_err();
    assert_eq!(lost.code(), Code::Lost);
    let who = "broken by request pay /orders/17/pay, pid ";
    assert!(lost.message().starts_with(who), "{lost}");
}

#[test]
fn a_note_about_somebody_else_is_not_believed() {
    let guards = guards();
    let _first = enter(&guards, &policy(GuardMode::Block));
    let forced = enter(&guards, &policy(GuardMode::Force));
    forced.release().unwrap();
    // This hold began after that note, and is broken without one.
    let victim = enter(&guards, &policy(GuardMode::Block));
    assert!(store(&guards).break_lock("order_17").unwrap());
    let lost = victim.lock().unwrap().ensure_held().unwrap_err();
    assert_eq!(lost.code(), Code::Lost);
    assert!(!lost.message().contains("broken by"), "{lost}");
}

#[test]
fn a_second_note_takes_the_place_of_the_first() {
    let guards = guards();
    let mut holders = vec![enter(&guards, &policy(GuardMode::Block))];
    for label in ["one", "two"] {
        let force = Policy {
            label: Some(label.into()),
            ..policy(GuardMode::Force)
        };
        holders.push(enter(&guards, &force));
    }
    let lost = holders[1].lock().unwrap().ensure_held().unwrap_err();
    assert!(lost.message().starts_with("broken by two"), "{lost}");
}

#[test]
fn locks_outside_guards_ask_for_no_note() {
    let guards = guards();
    let store = store(&guards);
    let label = Some(Arc::from("plain"));
    let lock = store.lock_with(
        "order_17",
        LockOptions {
            label,
            ..LockOptions::default()
        },
    );
    let lock = lock.unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let _forced = enter(&guards, &policy(GuardMode::Force));
    let lost = lock.ensure_held().unwrap_err();
    assert_eq!(lost.message(), Code::Lost.text());
}

#[test]
fn force_gets_past_a_queue() {
    let guards = guards();
    let _held = enter(&guards, &policy(GuardMode::Block));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let guards = guards.clone();
            std::thread::spawn(move || enter(&guards, &policy(GuardMode::Queue)).is_admitted())
        })
        .collect();
    let waiting = || store(&guards).inspect("order_17").unwrap().waiters;
    while waiting() != Some(3) {
        std::thread::yield_now();
    }
    let forced = enter(&guards, &policy(GuardMode::Force));
    assert!(forced.is_admitted());
    forced.release().unwrap();
    for waiter in waiters {
        assert!(
            waiter.join().unwrap(),
            "each had its turn, or was broken in it"
        );
    }
}

#[test]
fn a_ttl_on_a_store_without_leases_is_the_owners_life_unless_strict() {
    let dir = std::env::temp_dir().join(format!("synlock-guard-{}", std::process::id()));
    let mut guards = Guards::new();
    guards
        .add(
            "files",
            Store::open(&format!("flock:{}", dir.display())).unwrap(),
        )
        .unwrap();
    let leased = Policy {
        ttl: Some(Duration::from_secs(1)),
        ..policy(GuardMode::Block)
    };
    assert!(enter(&guards, &leased).is_admitted());
    let strict = Policy {
        strict: true,
        ..leased
    };
    let request = Request {
        params: &[(b"id", b"17")],
        ..Request::default()
    };
    let refused = guards
        .plan(&strict, &request)
        .unwrap()
        .enter(None)
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unsupported);
    std::fs::remove_dir_all(dir).unwrap();
}

/// A store that gives, takes back and takes away one lock, and tells nobody who holds it.
struct Blind(Mutex<Option<String>>);

impl Callbacks for Blind {
    fn call(&self, verb: Verb, ask: &Ask<'_>) -> crate::Result<Reply> {
        let mut owner = self.0.lock();
        let is_ours = owner.as_ref() == Some(&ask.owner);
        Ok(Reply::of(match verb {
            Verb::Attempt if owner.is_some() && !is_ours => Code::Busy,
            Verb::Attempt => {
                *owner = Some(ask.owner.clone());
                Code::Ok
            }
            Verb::BreakLock if owner.is_some() => {
                *owner = None;
                Code::Ok
            }
            Verb::BreakLock => Code::NotHeld,
            Verb::Release if is_ours => {
                *owner = None;
                Code::Ok
            }
            Verb::Release | Verb::IsHeld if !is_ours => Code::Lost,
            _ => Code::Ok,
        }))
    }
}

#[test]
fn a_store_that_does_not_tell_who_holds_blocks_and_forces_and_does_not_check() {
    let can = Traits {
        shared: false,
        permits: false,
        ttl: false,
        frees_on_death: true,
        change_mode: false,
        inspect: false,
        list: false,
        break_lock: true,
        ping: false,
        survives_restart: false,
        fence: Fence::None,
        scope: Scope::Process,
    };
    let blind = Box::new(Blind(Mutex::new(None)));
    let mut guards = Guards::new();
    guards
        .add("default", Store::custom("blind", can, blind, &[]).unwrap())
        .unwrap();
    let victim = enter(&guards, &policy(GuardMode::Block));
    assert!(!enter(&guards, &policy(GuardMode::Block)).is_admitted());
    let request = Request {
        params: &[(b"id", b"17")],
        ..Request::default()
    };
    let refused = guards.plan(&policy(GuardMode::Check), &request);
    assert_eq!(refused.unwrap_err().code(), Code::Unsupported);
    let forced = enter(&guards, &policy(GuardMode::Force));
    assert!(forced.is_admitted() && forced.holders().is_empty());
    let lost = victim.lock().unwrap().ensure_held().unwrap_err();
    assert_eq!(lost.code(), Code::Lost);
    forced.release().unwrap();
}
