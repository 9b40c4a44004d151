//! The nodes of `zookeeper:`.

use crate::{Modes, TOKEN, is_understood, kazoo, take_turns, vector};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use synlock_core::Store;
use synlock_tests::load::patient;
use synlock_tests::services::zookeeper::ZookeeperServer;

#[test]
fn neighbours_take_turns() {
    let server = ZookeeperServer::start();
    let look = || {
        let script = "for child in zk.get_children('/synlock/n'):\n    \
                      print('data:', zk.get('/synlock/n/' + child)[0].decode())";
        let done = kazoo(&server.hosts(), script).output().expect("python3");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    take_turns(
        &patient(&server.url()),
        ["data: 1 ", "data: 2 "],
        Modes::Shared,
        look,
    );
}

/// Nodes live as long as who made them.
#[test]
fn nodes_of_the_first_release_are_understood() {
    let server = ZookeeperServer::start();
    let store = Store::open(&patient(&server.url())).unwrap();
    let lines = vector(include_str!("../vectors/zookeeper-layout-1.txt"));
    let mut script = String::new();
    for line in &lines {
        let [_, path, data, ..] = line.as_slice() else {
            panic!("{line:?}");
        };
        script += &format!(
            "zk.create({path:?}, {data:?}.encode(), makepath=True, ephemeral=True, sequence=True)\n"
        );
    }
    script += "print('made', flush=True)\nsys.stdin.read()";
    let mut python = kazoo(&server.hosts(), &script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut said = String::new();
    let output = python.stdout.as_mut().expect("a pipe");
    BufReader::new(output).read_line(&mut said).expect("a line");
    assert_eq!(said, "made\n");
    for line in &lines {
        let [name, path, _, mode, label] = line.as_slice() else {
            panic!("{line:?}");
        };
        assert!(path.contains(TOKEN));
        let label = Some(label.as_str()).filter(|label| *label != "-");
        is_understood(&store, name, mode, label, false);
    }
    drop(python.stdin.take());
    python.wait().expect("it ends");
}
