//! Two languages on one lock.

use crate::Setup;
use crate::command::Running;
use crate::script::{can, hex, lease};
use libtest_mimic::Failed;
use std::time::Duration;
use synlock_tests::names::unique;

/// Held in one, refused in the other, woken there, handed over, broken, and freed by an end.
pub(crate) fn run(setup: &Setup, one: &'static str, other: &'static str) -> Result<(), Failed> {
    let mut one = Running::start(one, &setup.url);
    let mut other = Running::start(other, &setup.url);
    let name = hex(unique("pair"));
    let can = can(&mut one);

    one.expect(&format!("take h s {name} 0"), "0");
    other.expect(&format!("take h s {name} 0"), "1");
    other.runs_out(|ms| format!("take h s {name} {ms}"), "2");
    other.expect(&format!("locked s {name}"), "0 1");
    // A server may see a waiter that has given up for a moment longer.
    let seen = format!("0 1 {}", if can("wakes") { 0 } else { -1 });
    other.comes_to(&format!("inspect s {name}"), &seen);

    let first = one.number("fence h");
    other.send(&format!("take h s {name} 60000"));
    assert!(other.is_silent(Duration::from_millis(100)), "two holders");
    one.expect("release h", "0");
    assert_eq!(other.answer(), "0", "{} was not woken", other.language);
    assert!(
        !can("fence") || other.number("fence h") > first,
        "the fencing token did not grow"
    );
    one.expect(&format!("take h s {name} 0"), "1");
    other.expect("release h", "0");

    if can("shared") {
        one.expect(&format!("take r s {name} 0 shared=1"), "0");
        other.expect(&format!("take r s {name} 0 shared=1"), "0");
        if can("promote") {
            other.expect("promote r 0", "1");
            one.expect("release r", "0");
            other.expect("promote r 0", "0");
            one.expect(&format!("take r s {name} 0 shared=1"), "1");
        } else {
            other.expect("promote r 0", "106");
            one.expect("release r", "0");
            one.expect(&format!("take r s {name} 0"), "1");
        }
        other.expect("release r", "0");
    } else {
        one.expect(&format!("take r s {name} 0 shared=1"), "106");
    }

    one.expect(&format!("take b s {name} 0"), "0");
    if can("break") {
        other.expect(&format!("break s {name}"), "0 1");
        one.expect("check b", "3");
        one.expect("release b", "3");
    } else {
        other.expect(&format!("break s {name}"), "106");
        one.expect("release b", "0");
    }

    one.expect(&format!("take x s {name} 0"), "0");
    if can("export") {
        let text = one.ask("export x");
        let text = text.strip_prefix("0 ").expect("an export");
        other.expect(&format!("adopt x s {text}"), "0");
        one.expect(&format!("adopt x s {text}"), "3");
        other.expect("held x", "0 1");
        other.expect("release x", "0");
    } else {
        one.expect("export x", "106");
        one.expect("release x", "0");
    }

    // An end without a release frees the lock, at once or with the lease.
    if can("frees_on_death") {
        one.expect(&format!("take k s {name} 0"), "0");
    } else {
        let brief = |ttl| format!("take k s {name} 0 ttl={ttl}");
        one.leases(brief, "0", lease(setup, 700));
    }
    one.kill();
    other.expect(&format!("take k s {name} 60000"), "0");
    assert_eq!(other.finish(), Some(0), "{} ended badly", other.language);
    let mut third = Running::start("rust", &setup.url);
    third.expect(&format!("take k s {name} 60000"), "0");
    Ok(())
}
