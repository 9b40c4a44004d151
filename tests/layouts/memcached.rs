//! The items of `memcached:`.

use crate::{Modes, take_turns};
use synlock_tests::load::patient;
use synlock_tests::memcached::MemcachedServer;

#[test]
fn neighbours_take_turns() {
    let server = MemcachedServer::start();
    take_turns(
        &patient(&server.url()),
        ["|1|", "|2|"],
        Modes::Exclusive,
        || server.say(b"mg synlock:n v\r\n"),
    );
}
