//! The keys of `redis:`.

use crate::{THIS, is_understood, vector};
use synlock_core::Store;
use synlock_tests::redis::RedisServer;
use synlock_tests::taker::{Taker, next_release};

#[test]
fn neighbours_take_turns_and_wake_each_other() {
    let server = RedisServer::start();
    let mut this = Taker::start(THIS, &server.url());
    let mut next = Taker::start(next_release(THIS), &server.url());
    let mut last = 0;
    for taker in [&mut this, &mut next] {
        taker.ok("lock h n");
        taker.ok("lock s n shared");
    }
    for round in 0..6 {
        let (one, two) = if round % 2 == 0 {
            (&mut this, &mut next)
        } else {
            (&mut next, &mut this)
        };
        let fence: u64 = one.ok("acquire h 0").parse().unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        let key = server.command(&["KEYS", "synlock:*}:n"]);
        let record = server.command(&["GET", &key]);
        let layout = if round % 2 == 0 { "|1|x|" } else { "|2|x|" };
        assert_eq!(record.find(layout), Some(32), "{record}");
        assert_eq!(two.code("acquire h 0"), "BUSY");
        assert_eq!(two.ok("inspect n"), "1");
        std::thread::scope(|scope| {
            // The other one's waiter is handed the lock by this one's release.
            let waiter = scope.spawn(|| two.ok("acquire h 4000").parse::<u64>().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(100));
            one.ok("release h");
            last = waiter.join().unwrap().max(last);
        });
        two.ok("release h");
        // Readers of both together; the writer stays out.
        one.ok("acquire s 0");
        two.ok("acquire s 0");
        assert_eq!(one.ok("inspect n"), "2");
        assert_eq!(one.code("acquire h 0"), "BUSY");
        assert_eq!(one.code("promote s 0"), "BUSY");
        one.ok("release s");
        two.ok("promote s 0");
        two.ok("release s");
    }
}

#[test]
fn keys_of_the_first_release_are_understood() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
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
