//! The items of `memcached:`.

use crate::THIS;
use synlock_tests::memcached::MemcachedServer;
use synlock_tests::taker::{Taker, next_release};

#[test]
fn neighbours_take_turns() {
    let server = MemcachedServer::start();
    let mut this = Taker::start(THIS, &server.url());
    let mut next = Taker::start(next_release(THIS), &server.url());
    let mut last = 0;
    for taker in [&mut this, &mut next] {
        taker.ok("lock h n");
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
        let item = server.say(b"mg synlock:n v\r\n");
        let layout = if round % 2 == 0 { "|1|" } else { "|2|" };
        assert!(item.contains(layout), "{item}");
        assert_eq!(two.code("acquire h 0"), "BUSY");
        assert_eq!(two.ok("inspect n"), "1");
        one.ok("check h");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| two.ok("acquire h 4000").parse::<u64>().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            one.ok("release h");
            last = waiter.join().unwrap().max(last);
        });
        assert_eq!(one.ok("break n"), "true");
        assert_eq!(two.code("release h"), "LOST");
    }
}
