//! Stores that are made of others.

use crate::{Modes, take_turns};
use std::fs;
use std::path::Path;
use synlock_tests::load::patient;
use synlock_tests::names::TempDir;
use synlock_tests::redis::RedisServer;

/// All files below a folder.
fn texts(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            texts(&entry.path(), text);
        } else {
            *text += &fs::read_to_string(entry.path()).unwrap_or_default();
        }
    }
}

/// What the remote hold of one is, the other reads.
#[test]
fn neighbours_take_turns_on_two_tiers() {
    let server = RedisServer::start();
    let folder = TempDir::within("/dev/shm", "synlock-layouts");
    let state = folder.path().join("state");
    let url = format!(
        "tiered:(shm:{}/segment,{})?state={}",
        folder.path().display(),
        patient(&server.url()),
        state.display()
    );
    take_turns(
        &url,
        ["synlock-tiered-1 ", "synlock-tiered-2 "],
        Modes::Exclusive,
        || {
            let mut text = String::new();
            texts(&state, &mut text);
            text
        },
    );
}

#[test]
fn neighbours_take_turns_on_a_quorum() {
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start()).collect();
    let members: Vec<String> = servers
        .iter()
        .map(|server| patient(&server.url()))
        .collect();
    let url = format!("quorum:({})?cold_start=1", members.join(","));
    take_turns(&url, ["|1|x|", "|2|x|"], Modes::Shared, || {
        let key = servers[0].command(&["KEYS", "synlock:*}:n"]);
        servers[0].command(&["GET", &key])
    });
}
