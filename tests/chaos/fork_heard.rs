//! Part of row 7: threads begin and cease to listen to a store while another forks. Each child can do so too,
//! hears of its own lock, and nobody's end is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::event::Event;
use synlock_core::{Store, Wait};
use synlock_tests::load::Stretch;
use synlock_tests::names::unique;
use synlock_tests::process::{fork, is_full_load, signal, wait, wait_for};
use synlock_tests::torture::Verdict;

/// After which a child is taken to hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a child does: 0 if all of it works.
fn listens_too(store: &Store) -> i32 {
    let heard = Arc::new(AtomicU64::new(0));
    let mine = {
        let heard = heard.clone();
        store.observe(Arc::new(move |_: &Event| {
            heard.fetch_add(1, Ordering::Relaxed);
        }))
    };
    let lock = store.lock(unique("heard")).expect("a lock");
    if lock.acquire(Wait::No, None).is_err() || lock.release().is_err() {
        return 1;
    }
    store.unobserve(mine);
    i32::from(heard.load(Ordering::Relaxed) < 2) * 2
}

pub(super) fn run(verdict: &mut Verdict) {
    let store = Store::open(&format!("memory:{}", unique("heard"))).expect("a store");
    let stop = Arc::new(AtomicBool::new(false));
    let listeners: Vec<_> = (0..2)
        .map(|_| {
            let (store, stop) = (store.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let id = store.observe(Arc::new(|_: &Event| {}));
                    store.unobserve(id);
                }
            })
        })
        .collect();
    let full = is_full_load();
    let enough = if full { 5_000 } else { 300 };
    let stretch = Stretch::of(Duration::from_secs(if full { 20 } else { 1 }));
    let (mut children, mut hung, mut wrong) = (0, 0, 0);
    while hung == 0 && stretch.goes_on(|| children >= enough) {
        let pid = fork(|| listens_too(&store));
        children += 1;
        match wait_for(pid, PATIENCE) {
            Some(status) => wrong += i32::from(status != 0),
            None => {
                hung += 1;
                signal(pid, libc::SIGKILL);
                wait(pid);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    listeners
        .into_iter()
        .for_each(|thread| thread.join().expect("a listener"));
    verdict.claim(
        children >= enough && hung == 0 && wrong == 0,
        "children of a process whose threads begin to listen",
        format!("{children}: {hung} hung, {wrong} wrong"),
    );
}
