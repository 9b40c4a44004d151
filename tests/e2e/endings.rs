//! What a host sees through at its end.

use crate::command::Running;
use crate::script::hex;
use libtest_mimic::Failed;
use synlock_tests::load::patient;
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;

/// A release that nobody waited for, and that the server refuses, is sent again before the host is gone.
pub(crate) fn owed(language: &'static str) -> Result<(), Failed> {
    let server = RedisServer::start();
    let url = patient(&format!("{}?release=async", server.url()));
    for round in 0..3 {
        let mut it = Running::start(language, &url);
        let mut other = Running::start("rust", &patient(&server.url()));
        let name = hex(unique("owed"));
        let take = format!("take h s {name} 0 ttl=3600000 renew=0");
        // The first release of a connection waits.
        it.expect(&take, "0");
        it.expect("release h", "0");
        it.expect(&take, "0");
        server.command(&["SCRIPT", "FLUSH"]);
        it.expect("release h", "0");
        assert_eq!(it.finish(), Some(0), "{language}, round {round}");
        other.expect(&format!("locked s {name}"), "0 0");
    }
    Ok(())
}
