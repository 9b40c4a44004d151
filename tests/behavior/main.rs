//! One suite over every store, chosen by what the store claims: claimed is tested, unclaimed must be
//! refused, and no store may claim less than the table in `matrix.rs`.

mod acquire;
mod custom;
mod fork;
mod guards;
mod hold;
mod host;
mod manage;
mod matrix;
mod modes;
mod process;
mod reentry;
mod sessions;
mod sets;
mod sets_by_hand;
mod setups;
mod support;

use libtest_mimic::{Arguments, Trial};
use setups::Setup;

fn main() {
    // A test that forks a process runs this program again as the child.
    if let Some(code) = process::child_main() {
        std::process::exit(code);
    }
    synlock_tests::ipc::set_apart();
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for setup in Setup::all() {
        let mut list = support::List::new(setup);
        matrix::tests(&mut list);
        acquire::tests(&mut list);
        reentry::tests(&mut list);
        hold::tests(&mut list);
        modes::tests(&mut list);
        manage::tests(&mut list);
        guards::tests(&mut list);
        host::tests(&mut list);
        process::tests(&mut list);
        fork::tests(&mut list);
        sessions::tests(&mut list);
        sets::tests(&mut list);
        sets_by_hand::tests(&mut list);
        trials.extend(list.into_trials());
    }
    trials.push(Trial::test("suite::is_not_empty", || Ok(())));
    libtest_mimic::run(&arguments, trials).exit();
}
