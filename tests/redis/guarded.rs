//! Sets of Redis servers that keep strangers out, by TLS and passwords.

use crate::tried;
use synlock_core::{Code, Store};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::services::redis_sets::{Cluster, Guard, Sentinels, until};

/// One word of a URL is another.
fn but(url: &str, right: &str, wrong: &str) -> String {
    assert!(url.contains(right), "{url}");
    url.replace(right, wrong)
}

fn try_code(url: &str) -> Code {
    // With connections of its own, unlike other stores of this process.
    let label = unique("client");
    let store = Store::open_with(url, &[("label", &label)]).unwrap();
    let found = (0..8).map(|number| tried(&store.lock(format!("n{number}")).unwrap()));
    // Of a cluster, each server is asked.
    found.fold(Code::Ok, |all, one| if one == Code::Ok { all } else { one })
}

#[test]
fn a_guarded_cluster_is_spoken_to_by_tls_and_password() {
    let cluster = Cluster::start_with(Guard::TlsAndPassword);
    let url = cluster.url();
    let store = Store::open(&url).unwrap();
    let names: Vec<_> = (0..24).map(|number| format!("n{number}")).collect();
    let locks: Vec<_> = names.iter().map(|name| store.lock(name).unwrap()).collect();
    for lock in &locks {
        assert_eq!(tried(lock), Code::Ok);
    }
    for node in &cluster.nodes {
        assert_ne!(node.command(&["DBSIZE"]), "0", "no lock came here");
    }
    for lock in &locks {
        lock.release().unwrap();
    }
    let ca = cluster.nodes[0].file("ca.crt").display().to_string();
    assert_eq!(try_code(&but(&url, "secret", "canary")), Code::Permission);
    assert_eq!(try_code(&but(&url, ":secret@", "")), Code::Permission);
    assert_eq!(
        try_code(&but(&url, &format!("ca_file={ca}"), "io_timeout=20000")),
        Code::Permission
    );
}

#[test]
fn guarded_sentinels_and_their_servers_have_a_password_each() {
    let mut set = Sentinels::start_with(Guard::TlsAndPassword);
    let url = set.url();
    let store = Store::open(&url).unwrap();
    let held = store.lock("held").unwrap();
    assert_eq!(tried(&held), Code::Ok);
    let ca = format!("ca_file={}", set.servers[0].file("ca.crt").display());
    for url in [
        but(&url, ":secret@", ":canary@"),
        but(&url, "=geheim", "=canary"),
        but(&url, "&sentinel_password=geheim", ""),
        but(&url, &ca, "io_timeout=20000"),
    ] {
        let error = Store::open(&url)
            .unwrap()
            .lock("x")
            .unwrap()
            .try_acquire()
            .unwrap_err();
        assert_eq!(error.code(), Code::Permission, "{url}: {error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    // Neither password need stand in the URL.
    let folder = TempDir::new("synlock-guarded");
    let outside = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("{text}\n")).unwrap();
        file.display().to_string()
    };
    let (own, others) = (outside("own", "secret"), outside("others", "geheim"));
    let with_files = but(&but(&url, ":secret@", ""), "sentinel_password=geheim", "");
    let with_files = |own: &str, others: &str| {
        format!("{with_files}password_file={own}&sentinel_password_file={others}")
    };
    assert_eq!(try_code(&with_files(&own, &others)), Code::Ok);
    assert_eq!(try_code(&with_files(&others, &others)), Code::Permission);
    assert_eq!(try_code(&with_files(&own, &own)), Code::Permission);
    // The new master is spoken to in the same way.
    set.servers[0].kill();
    let promoted = set.servers[1].tls_port();
    until("a new master", || set.master_port() == promoted);
    until("a store that serves", || {
        tried(&store.lock("after").unwrap()) == Code::Ok
    });
}
