//! Tests that need another host than this one: run again in namespaces of their own. That takes the right
//! to make them: root, or user namespaces for everybody.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use synlock_core::Store;
use synlock_core::event::EventKind;

const FOLDER: &str = "SYNLOCK_TEST_APART";

/// The folder that was given to the test, if it runs apart.
pub fn folder() -> Option<String> {
    std::env::var(FOLDER).ok()
}

/// Runs the test of this name again, apart, after a shell has run `prepare` in `folder`. `kinds` are
/// options of unshare(1).
pub fn again(test: &str, kinds: &[&str], folder: &Path, prepare: &str) {
    let script = format!("cd \"$1\" && {prepare} && exec \"$0\" --exact {test}");
    let done = Command::new("unshare")
        .args(kinds)
        .args(["--map-root-user", "sh", "-c", &script])
        .args([&std::env::current_exe().expect("this program"), folder])
        .env(FOLDER, folder)
        .output()
        .expect("unshare(1)");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{done:?}"
    );
}

/// What a store has warned of since.
pub fn cautions(store: &Store) -> Arc<Mutex<Vec<String>>> {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = told.clone();
    store.observe(Arc::new(move |event| {
        if event.kind == EventKind::Warning {
            heard.lock().expect("no panic").push(event.message.clone());
        }
    }));
    told
}

/// How many of the words contain these.
pub fn count(told: &Mutex<Vec<String>>, words: &str) -> usize {
    let told = told.lock().expect("no panic");
    told.iter().filter(|said| said.contains(words)).count()
}
