//! Request guards: the four modes, on every store that can do what they need, and a refusal on the rest.

use super::support::{Case, List, PATIENCE, code, ms};
use std::time::Duration;
use synlock_core::guard_request::{Entry, GuardMode, Guards, Policy, Request};
use synlock_core::{Code, Lock, Wait};

pub fn tests(list: &mut List) {
    list.add("a_guard_that_blocks_lets_one_in", block);
    list.add("a_guard_that_checks_takes_nothing", check);
    list.add("a_guard_that_queues_lets_everybody_in", queue);
    if list.can.break_lock {
        list.add("a_guard_that_forces_takes_over", force);
    } else {
        list.add("a_guard_cannot_force", no_force);
    }
}

fn policy(case: &Case, mode: GuardMode) -> Policy {
    Policy {
        name: Some(case.name.clone().into()),
        mode,
        label: Some(format!("the one that wants to {}", mode.word())),
        ..Policy::default()
    }
}

fn guards(case: &Case) -> Guards {
    let mut guards = Guards::new();
    guards.add("default", case.store.clone()).unwrap();
    guards
}

fn enter(case: &Case, policy: &Policy) -> synlock_core::Result<Entry> {
    let plan = guards(case).plan(policy, &Request::default())?;
    plan.enter(None)
}

fn let_in(case: &Case, mode: GuardMode) -> Entry {
    let entry = enter(case, &policy(case, mode)).unwrap();
    assert!(entry.is_admitted(), "{entry:?}");
    entry
}

fn refused(case: &Case, mode: GuardMode) -> Entry {
    let entry = enter(case, &policy(case, mode)).unwrap();
    assert!(!entry.is_admitted(), "{entry:?}");
    assert!(entry.lock().is_none());
    entry
}

/// Free, by somebody else's trial.
fn is_free(case: &Case) -> bool {
    let other = case.lock();
    let granted = other.acquire(Wait::No, None);
    granted.is_ok() && other.release().is_ok()
}

fn block(case: &Case) {
    let first = let_in(case, GuardMode::Block);
    assert!(!is_free(case));
    let second = refused(case, GuardMode::Block);
    assert_eq!(second.holders().len(), 1);
    first.release().unwrap();
    let third = let_in(case, GuardMode::Block);
    third.release().unwrap();
}

fn check(case: &Case) {
    let entry = let_in(case, GuardMode::Check);
    assert!(entry.lock().is_none());
    assert!(is_free(case));
    let held = let_in(case, GuardMode::Block);
    let entry = refused(case, GuardMode::Check);
    assert_eq!(entry.holders().len(), 1);
    held.release().unwrap();
    let_in(case, GuardMode::Check);
}

fn queue(case: &Case) {
    let waits = |max_wait| Policy {
        max_wait,
        ..policy(case, GuardMode::Queue)
    };
    let held = let_in(case, GuardMode::Queue);
    let late = enter(case, &waits(ms(20))).unwrap();
    assert!(!late.is_admitted() && late.waited() >= ms(20), "{late:?}");
    let next = std::thread::spawn({
        let (case, policy) = (case.clone(), waits(Duration::from_secs(600)));
        move || {
            let entry = enter(&case, &policy).unwrap();
            assert!(entry.is_admitted(), "{entry:?}");
            entry.release().unwrap();
        }
    });
    case.wait_for_waiters(1);
    held.release().unwrap();
    next.join().unwrap();
}

/// What a hold that was broken is told at its next look, and at its next refresh.
fn is_told(case: &Case, victim: &Lock, who: &str) {
    let mut answers = vec![victim.ensure_held().unwrap_err()];
    if case.can.ttl {
        answers.push(victim.refresh(None).unwrap_err());
    }
    for lost in answers {
        assert_eq!(lost.code(), Code::Lost, "{lost}");
        assert_eq!(lost.message().starts_with(who), keeps_notes(case), "{lost}");
    }
}

/// A note of who broke a lock is a lock with a label that ends by itself, or stands where its victim looks.
fn keeps_notes(case: &Case) -> bool {
    let keeps_labels = !case.is_peers_table() && case.can.store != "memcached-symfony";
    let has_a_place = matches!(case.can.store, "flock" | "sysv" | "zookeeper");
    (case.can.ttl && keeps_labels) || has_a_place
}

fn force(case: &Case) {
    // A free lock is simply taken, and from nobody.
    let victim = let_in(case, GuardMode::Force);
    assert!(victim.holders().is_empty());
    let entry = let_in(case, GuardMode::Force);
    assert_eq!(entry.holders().len(), 1, "from whom it was taken");
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let me = std::process::id();
    let mut who = format!("broken by the one that wants to force, pid {me}");
    // Which tells of no hosts.
    if case.can.store != "custom" {
        who += &format!(", host {host}");
    }
    is_told(case, victim.lock().unwrap(), &who);
    entry.lock().unwrap().ensure_held().unwrap();
    entry.release().unwrap();
    // That was about another hold; where ages tell, they may be rounded.
    if !case.can.ttl {
        let next = let_in(case, GuardMode::Force);
        assert!(case.store.break_lock(&case.name).unwrap());
        let lost = next.lock().unwrap().ensure_held().unwrap_err();
        assert_eq!(lost.code(), Code::Lost);
        assert!(!lost.message().contains("broken by"), "{lost}");
    }
    case.lock().acquire(PATIENCE, None).unwrap();
}

fn no_force(case: &Case) {
    let refused = enter(case, &policy(case, GuardMode::Force));
    assert_eq!(code(refused), Code::Unsupported);
    assert!(is_free(case));
}
