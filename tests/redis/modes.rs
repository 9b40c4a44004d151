//! Changes of mode whose answer is lost: the lesser of the two modes is believed.

use crate::{code, leased, ms};
use synlock_core::{Code, Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::{Fault, Proxy};

const FORMATS: [&str; 2] = ["native", "symfony"];

struct Setting {
    server: RedisServer,
    proxy: Proxy,
    query: String,
    name: String,
}

impl Setting {
    fn new(dialect: &str) -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        let query = format!("?dialect={dialect}");
        let setting = Setting {
            name: unique("known"),
            server,
            proxy,
            query,
        };
        // The scripts are known to the server.
        let known = setting.reader();
        known.acquire(Wait::For(SOON), None).unwrap();
        known.promote(Wait::For(SOON)).unwrap();
        known.release().unwrap();
        let name = unique("mode");
        Setting { name, ..setting }
    }

    fn reader_at(&self, url: &str) -> Lock {
        let mut options = LockOptions::default();
        (options.mode, options.ttl) = (Mode::Shared, Some(ms(60_000)));
        Store::open(url)
            .unwrap()
            .lock_with(&self.name, options)
            .unwrap()
    }

    /// Whose replies may be held back.
    fn far(&self) -> String {
        format!("{}{}&io_timeout=1000", self.proxy.url(), self.query)
    }

    fn reader(&self) -> Lock {
        self.reader_at(&format!("{}{}", self.server.url(), self.query))
    }

    /// The server does what it is asked, and is not heard.
    fn unheard(&self, work: impl FnOnce() -> Code) {
        self.proxy.fail(1, Fault::OneWay);
        assert_eq!(work(), Code::Uncertain, "{}", self.query);
        self.proxy.heal();
    }
}

#[test]
fn after_a_demotion_that_was_not_answered_nobody_believes_to_be_alone() {
    for dialect in FORMATS {
        let setting = Setting::new(dialect);
        let ours = leased(&setting.far(), &setting.name, ms(60_000));
        ours.acquire(Wait::For(SOON), None).unwrap();
        setting.unheard(|| code(ours.demote()));
        let other = setting.reader();
        other.acquire(Wait::For(SOON), None).unwrap();
        assert_eq!(code(ours.promote(Wait::No)), Code::Busy, "{dialect}");
        assert_eq!(code(ours.ensure_held()), Code::Ok, "{dialect}");
        other.release().unwrap();
        ours.promote(Wait::For(SOON)).unwrap();
        assert!(other.try_acquire().unwrap().is_none(), "{dialect}");
        ours.release().unwrap();
    }
}

#[test]
fn a_promotion_that_was_not_answered_can_be_taken_back() {
    for dialect in FORMATS {
        let setting = Setting::new(dialect);
        let (ours, other) = (setting.reader_at(&setting.far()), setting.reader());
        ours.acquire(Wait::For(SOON), None).unwrap();
        setting.unheard(|| code(ours.promote(Wait::No)));
        // It is alone there, and reads only.
        assert!(other.try_acquire().unwrap().is_none(), "{dialect}");
        ours.demote().unwrap();
        other.acquire(Wait::For(SOON), None).unwrap();
        ours.release().unwrap();
        other.release().unwrap();
    }
}

/// A server whose state is of before a promotion, as that of a replica may be, has a reader there.
#[test]
fn a_promotion_that_the_server_has_forgotten_is_found_lost() {
    let setting = Setting::new("native");
    let ours = setting.reader();
    ours.acquire(Wait::For(SOON), None).unwrap();
    let keys = setting.server.command(&["KEYS", "synlock:*"]);
    let key = keys
        .lines()
        .find(|key| key.ends_with(&setting.name))
        .unwrap();
    let before = setting.server.command(&["GET", key]);
    ours.promote(Wait::For(SOON)).unwrap();
    setting.server.command(&["SET", key, &before, "KEEPTTL"]);
    let other = setting.reader();
    other.acquire(Wait::For(SOON), None).unwrap();
    assert_eq!(code(ours.ensure_held()), Code::Lost);
    other.release().unwrap();
}
