//! Sessions: one script for every language, beside a session of Rust's in another process.

use crate::Setup;
use crate::command::Running;
use crate::script::{can, hex, lease};
use libtest_mimic::Failed;
use std::time::Duration;
use synlock_tests::names::unique;

/// Longer than [`WAIT`]: what ends a wait is a wake-up, or the holder's end. (A quorum's leases are of 120 s at most.)
const HOLD: u64 = 110_000;
const WAIT: u64 = 60_000;

/// The same requests, the same answers. What was let go just now may take a moment to be free: a quorum does not wait
/// for all of its members.
pub(crate) fn run(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let can = can(&mut it);
    let (a, b) = (hex(unique("session")), hex(unique("session")));
    it.expect("session m s", "0");
    it.expect("session o s", "0");
    let id = it.ask("s_id m");
    assert!(
        id.contains('.') && it.ask("s_id m") == id,
        "{language}: {id}"
    );
    assert_ne!(it.ask("s_id o"), id, "{language}");
    it.expect(&format!("s_free m {a}"), "0 1");
    it.expect(&format!("s_wait m {a} 0"), "0 0");
    it.expect(&format!("s_acquire m {a} {HOLD}"), "0 1");
    it.expect(&format!("s_acquire m {a} {HOLD}"), "0 1");
    it.expect(&format!("s_renew m {a} {HOLD}"), "0 1");
    it.expect(&format!("s_free m {a}"), "0 0");
    it.expect(&format!("s_acquire o {a} {HOLD}"), "0 0");
    it.expect(&format!("s_renew o {a} {HOLD}"), "0 0");
    it.expect(&format!("s_release o {a}"), "0 0");
    it.runs_out(|ms| format!("s_wait o {a} {ms}"), "0 1");
    it.expect(&format!("take h s {a} 0"), "1");
    it.expect(&format!("s_acquire m {b} {HOLD}"), "0 1");
    it.expect(&format!("s_release m {a}"), "0 1");
    it.expect(&format!("s_release m {a}"), "0 0");
    it.expect("s_release_all m", "0 1");
    it.expect("s_release_all m", "0 0");
    it.expect(&format!("s_wait o {b} {WAIT}"), "0 0");

    if can("ttl") {
        let brief = |ttl| format!("s_acquire m {a} {ttl}");
        it.leases(brief, "0 1", lease(setup, 80));
        it.expect(&format!("s_wait o {a} {WAIT}"), "0 0");
        it.comes_to(&format!("s_acquire o {a} {HOLD}"), "0 1");
        it.expect(&format!("s_acquire m {a} {HOLD}"), "0 0");
        it.expect(&format!("s_acquire m {a} {HOLD}"), "0 0");
        it.expect("s_release_all o", "0 1");
        it.comes_to(&format!("s_acquire m {a} {HOLD}"), "0 1");
        it.expect("s_release_all m", "0 1");
    }
    if can("ttl") && can("export") && !can("frees_on_death") {
        persistent(setup, &mut it, &a);
    } else {
        it.expect("session p s persistent", "106");
    }
    if setup.shared {
        beside(setup, &mut it, &a);
    }
    it.comes_to(&format!("s_acquire m {b} {HOLD}"), "0 1");
    assert_eq!(it.finish(), Some(0));
    if setup.shared {
        // Its end has released it, however the host ends.
        let mut rust = Running::start("rust", &setup.url);
        rust.expect("session o s", "0");
        rust.expect(&format!("s_wait o {b} {WAIT}"), "0 0");
    }
    Ok(())
}

fn persistent(setup: &Setup, it: &mut Running, name: &str) {
    let mut rust = Running::start("rust", &setup.url);
    let id = unique("kept");
    it.expect(&format!("session p s {id}"), "0");
    rust.expect(&format!("session p s {id}"), "0");
    it.expect("s_id p", &format!("0 {id}"));
    it.comes_to(&format!("s_acquire p {name} {HOLD}"), "0 1");
    it.expect(&format!("s_acquire p {name} {HOLD}"), "0 1");
    rust.expect(&format!("s_acquire p {name} {HOLD}"), "0 0");
    rust.expect(&format!("s_renew p {name} {HOLD}"), "0 1");
    rust.expect(&format!("s_release p {name}"), "0 1");
    it.expect(&format!("s_acquire p {name} {HOLD}"), "0 0");
    rust.comes_to(&format!("s_acquire p {name} {HOLD}"), "0 1");
    // It has lost its own, as it was told.
    it.expect(&format!("s_renew p {name} {HOLD}"), "0 0");
    it.expect(&format!("s_release p {name}"), "0 0");
    it.expect(&format!("s_release p {name}"), "0 1");
    it.comes_to(&format!("s_free p {name}"), "0 1");

    // One renews what the other one took, which goes on; and releases what was taken anew meanwhile.
    it.comes_to(&format!("s_acquire p {name} {HOLD}"), "0 1");
    rust.expect(&format!("s_renew p {name} {HOLD}"), "0 1");
    it.expect(&format!("s_renew p {name} {HOLD}"), "0 1");
    rust.expect(&format!("s_release p {name}"), "0 1");
    rust.comes_to(&format!("s_acquire p {name} {HOLD}"), "0 1");
    it.expect(&format!("s_release p {name}"), "0 1");
    it.comes_to(&format!("s_free p {name}"), "0 1");
}

fn beside(setup: &Setup, it: &mut Running, name: &str) {
    let mut rust = Running::start("rust", &setup.url);
    rust.expect("session o s", "0");
    it.comes_to(&format!("s_acquire m {name} {HOLD}"), "0 1");
    rust.expect(&format!("s_acquire o {name} {HOLD}"), "0 0");
    rust.send(&format!("s_wait o {name} {WAIT}"));
    it.expect(&format!("s_release m {name}"), "0 1");
    assert_eq!(rust.answer(), "0 0", "{}", it.language);
    rust.comes_to(&format!("s_acquire o {name} {HOLD}"), "0 1");
    it.expect(&format!("s_acquire m {name} {HOLD}"), "0 0");
    it.expect(&format!("s_free m {name}"), "0 0");
    it.send(&format!("s_wait m {name} {WAIT}"));
    // Most likely it waits by then.
    std::thread::sleep(Duration::from_millis(100));
    rust.expect(&format!("s_release o {name}"), "0 1");
    assert_eq!(it.answer(), "0 0", "{}", it.language);
    rust.expect("s_release_all o", "0 0");
}
