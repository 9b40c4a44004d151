//! `flock:` beside those who call `flock(2)`.

use crate::pair::{Pair, php, python, shell, turns};
use std::sync::Arc;
use synlock_tests::names::TempDir;

/// Peers on a folder of their own each.
pub(crate) fn pairs() -> Vec<Pair> {
    type Peer = fn(folder: &str, lock: &str) -> Vec<String>;
    let all: [(&'static str, &str, &str, Peer); 5] = [
        ("flock-native+flock(1)", "", "a.lock", |folder, lock| {
            shell("flock.sh", &[&format!("{folder}/{lock}")])
        }),
        (
            "flock-file+flock(1)",
            "?dialect=file",
            "a.lock",
            |folder, lock| shell("flock.sh", &[&format!("{folder}/{lock}")]),
        ),
        (
            "flock-file+filelock",
            "?dialect=file",
            "b.lock",
            |folder, lock| python("filelock_peer.py", &[&format!("{folder}/{lock}")]),
        ),
        (
            "flock-symfony+FlockStore",
            "?dialect=symfony",
            "import é/1",
            |folder, lock| php("symfony.php", &["flock", lock, folder]),
        ),
        ("flock-native+filelock", "", "c.lock", |folder, lock| {
            python("filelock_peer.py", &[&format!("{folder}/{lock}")])
        }),
    ];
    all.into_iter()
        .map(|(name, query, lock, peer)| {
            let folder = TempDir::new("synlock-interop");
            let path = folder.path().display().to_string();
            Pair {
                name,
                url: format!("flock:{path}{query}"),
                lock: lock.to_owned(),
                peer: peer(&path, lock),
                frees_on_death: true,
                _keep: Arc::new(folder),
            }
        })
        .collect()
}

/// Two that lock different files lose turns: what shows that the counter would tell.
pub(crate) fn unprotected() {
    let folder = TempDir::new("synlock-interop");
    let path = folder.path().display().to_string();
    let pair = Pair {
        name: "unprotected",
        url: format!("flock:{path}"),
        lock: "mine".to_owned(),
        peer: shell("flock.sh", &[&format!("{path}/yours")]),
        frees_on_death: true,
        _keep: Arc::new(folder),
    };
    let lost = (0..20).any(|_| pair.count() < turns());
    assert!(lost, "nothing was lost without a common lock");
}
