//! Wake-ups that are read when whoever they are for has its answer already, and whom they must not harm.

use crate::{lock, ms, until};
use std::sync::Arc;
use synlock_core::signal::Signal;
use synlock_core::store::{Attempt, Cancelled, Claim};
use synlock_core::{BootTime, Lock, Store, Wait};
use synlock_tests::claims::claim;
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::{Late, Proxy};

/// A lock that another process has.
fn taken(server: &RedisServer) -> (String, Lock) {
    let name = unique("wake");
    let held = lock(&patient(&server.url()), &name);
    held.acquire(Wait::For(SOON), None).unwrap();
    (name, held)
}

/// Puts the claim in the queue.
fn queue(store: &Store, claim: &Claim) -> Arc<Signal> {
    let bell = Arc::new(Signal::new());
    let answer = store.backend().attempt(claim, Some(&bell)).unwrap();
    assert!(matches!(answer, Attempt::Busy(_)));
    bell
}

/// Has the store read all wake-ups that were sent before.
fn read_wake_ups(server: &RedisServer, store: &Store) {
    let (name, held) = taken(server);
    let last = claim(&name);
    let bell = queue(store, &last);
    held.release().unwrap();
    until(|| {
        store.backend().pump();
        bell.is_rung()
    });
    store.backend().release(&last).unwrap();
}

/// A claim whose last look failed, granted by the answer to its cancel; none if the machine was too slow for that.
fn granted_by_its_cancel(server: &RedisServer) -> Option<(Proxy, Store, Claim)> {
    let proxy = Proxy::start(server.port());
    let store = Store::open(&patient(&proxy.url())).unwrap();
    let (name, held) = taken(server);
    let mut ours = claim(&name);
    let bell = queue(&store, &ours);
    proxy.keep_next();
    ours.deadline = Some(BootTime::now().after(ms(50)));
    let looked = store.backend().attempt(&ours, Some(&bell));
    let was_late = proxy.late() == Late::Kept;
    held.release().unwrap();
    proxy.send_late();
    if !was_late || looked.is_ok() {
        return None;
    }
    ours.deadline = Some(BootTime::now().after(SOON));
    match store.backend().cancel(&ours) {
        Ok(Cancelled::Granted(_)) => Some((proxy, store, ours)),
        _ => None,
    }
}

#[test]
fn a_look_that_failed_makes_no_stray_of_its_wake_up() {
    let server = RedisServer::start();
    let (_proxy, store, ours) = (0..20)
        .find_map(|_| granted_by_its_cancel(&server))
        .expect("it was never granted");
    read_wake_ups(&server, &store);
    assert!(store.backend().is_held(&ours).unwrap());
    store.backend().release(&ours).unwrap();
}

#[test]
fn who_is_granted_the_lock_without_a_subscription_needs_no_wake_up() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = Store::open(&patient(&proxy.url())).unwrap();
    let backend = store.backend();
    let (name, held) = taken(&server);
    let ours = claim(&name);
    drop(queue(&store, &ours));
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until(|| {
        backend.pump();
        backend.pump_fd().is_none()
    });
    proxy.keep_next();
    let again = ours.clone();
    std::thread::scope(|scope| {
        let asked = scope.spawn(move || backend.attempt(&again, Some(&Arc::default())).unwrap());
        until(|| proxy.late() == Late::Kept);
        // Meanwhile another waiter subscribes.
        let (busy, _other) = taken(&server);
        let waiter = claim(&busy);
        queue(&store, &waiter);
        held.release().unwrap();
        proxy.send_late();
        assert!(matches!(asked.join().unwrap(), Attempt::Granted(_)));
        backend.release(&waiter).unwrap();
    });
    read_wake_ups(&server, &store);
    assert!(backend.is_held(&ours).unwrap());
    backend.release(&ours).unwrap();
}
