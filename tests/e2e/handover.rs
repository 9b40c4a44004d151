//! A hold that goes from language to language.

use crate::Setup;
use crate::command::Running;
use crate::script::{can, hex};
use libtest_mimic::Failed;
use synlock_tests::names::unique;

/// A PHP request acquires, a Python worker adopts and refreshes, a Node process releases; whoever else
/// adopts is refused, and nobody gets in between.
pub(crate) fn run(setup: &Setup) -> Result<(), Failed> {
    let mut request = Running::start("php", &setup.url);
    let mut worker = Running::start("python", &setup.url);
    let mut server = Running::start("node", &setup.url);
    let mut other = Running::start("c", &setup.url);
    let name = hex(unique("handover"));
    let can = can(&mut other);
    if !can("export") {
        request.expect(&format!("take h s {name} 0"), "0");
        request.expect("export h", "106");
        return Ok(());
    }
    let export = |from: &mut Running| {
        let text = from.ask("export h");
        text.strip_prefix("0 ").expect("an export").to_owned()
    };
    let is_held = |other: &mut Running| other.expect(&format!("take h s {name} 0"), "1");

    let lease = if can("ttl") { " ttl=60000" } else { "" };
    request.expect(&format!("take h s {name} 0{lease}"), "0");
    let text = export(&mut request);
    request.expect("release h", "4");
    // Where a hold ends with its process, that of the request lives on until somebody adopts, as a worker of FPM.
    let outlives = !can("frees_on_death");
    let mut end = || assert_eq!(request.finish(), Some(0), "the request ended badly");
    if outlives {
        end();
    }
    is_held(&mut other);
    worker.expect(&format!("adopt h s {text}"), "0");
    if !outlives {
        end();
    }
    is_held(&mut other);
    // The text is used up: there is one heir.
    server.expect(&format!("adopt h s {text}"), "3");
    other.expect(&format!("adopt h s {text}"), "3");
    worker.expect("held h", "0 1");
    let lengthens = if can("ttl") { 120_000 } else { 0 };
    worker.expect(&format!("refresh h {lengthens}"), "0");
    if can("ttl") {
        let left = worker.number("remaining h");
        assert!(left > 60_000, "the refreshed lease lasts for {left} ms");
    }
    is_held(&mut other);

    let text = export(&mut worker);
    server.expect(&format!("adopt h s {text}"), "0");
    worker.expect(&format!("adopt i s {text}"), "3");
    worker.expect("release h", "4");
    assert_eq!(worker.finish(), Some(0), "the worker ended badly");
    is_held(&mut other);
    server.expect("release h", "0");
    server.expect("release h", "4");
    other.expect(&format!("take h s {name} 0"), "0");
    Ok(())
}
