//! The keys of `redis:`.

use crate::{Modes, is_understood, take_turns, vector};
use synlock_core::Store;
use synlock_tests::load::patient;
use synlock_tests::redis::RedisServer;

#[test]
fn neighbours_take_turns() {
    let server = RedisServer::start();
    take_turns(
        &patient(&server.url()),
        ["|1|x|", "|2|x|"],
        Modes::Promotable,
        || {
            let key = server.command(&["KEYS", "synlock:*}:n"]);
            server.command(&["GET", &key])
        },
    );
}

#[test]
fn keys_of_the_first_release_are_understood() {
    let server = RedisServer::start();
    let store = Store::open(&patient(&server.url())).unwrap();
    for line in vector(include_str!("../vectors/redis-layout-1.txt")) {
        let [name, key, value, mode, label, adopts] = line.as_slice() else {
            panic!("{line:?}");
        };
        let value = value.replace("\\n", "\n");
        assert_eq!(server.command(&["SET", key, &value, "PX", "60000"]), "OK");
        let label = Some(label.as_str()).filter(|label| *label != "-");
        is_understood(&store, name, mode, label, adopts == "adopts");
    }
}
