//! What a case works with, and how one is added.

use super::setups::Setup;
use libtest_mimic::{Failed, Trial};
use std::time::{Duration, Instant};
use synlock_core::{Capabilities, Code, Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::names::unique;

/// A name that nobody else uses. PHP's semaphores have numbers.
fn fresh_name(store: &str) -> String {
    let name = unique("case");
    if store == "sysv-php" {
        // FNV-1a, folded to what is a key.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        return ((hash >> 33) as u32 | 1).to_string();
    }
    name
}

/// What a case works with: a store, and a name that no other case uses.
#[derive(Clone)]
pub struct Case {
    pub store: Store,
    pub url: String,
    pub name: String,
    pub can: Capabilities,
    open: Setup,
}

impl Case {
    /// The same store, opened once more.
    pub fn open_again(&self) -> Store {
        self.open.open().unwrap()
    }

    /// Another name of this case alone.
    pub fn another(&self) -> String {
        fresh_name(self.can.store)
    }

    /// Whether the store takes the name: on some dialects it must be a key that the peer could have.
    pub fn accepts(&self, name: &[u8]) -> bool {
        match self.can.store {
            "flock-file" => name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0),
            // A path in UTF-8; Symfony's has its slashes replaced.
            "zookeeper-kazoo"
            | "zookeeper-curator"
            | "zookeeper-curator-rw"
            | "zookeeper-symfony" => std::str::from_utf8(name).is_ok_and(|text| {
                let mut parts = text.strip_prefix('/').unwrap_or(text).split('/');
                !text.chars().any(char::is_control)
                    && (self.can.store == "zookeeper-symfony"
                        || !parts.any(|part| matches!(part, "" | "." | "..")))
            }),
            "memcached-symfony" => {
                let plain = |byte: &u8| *byte > b' ' && *byte != 0x7f;
                // Keys outside ASCII travel in a longer form.
                name.iter().all(plain) && name.len() <= if name.is_ascii() { 250 } else { 187 }
            }
            "sysv-php" => std::str::from_utf8(name).is_ok_and(|text| text.parse::<i64>().is_ok()),
            _ => true,
        }
    }

    /// Whether a row is a key, an owner and an end, and nothing else.
    pub fn is_peers_table(&self) -> bool {
        let engines = ["sqlite-", "postgres-", "mysql-"];
        engines
            .iter()
            .any(|engine| self.can.store.starts_with(engine))
    }

    /// Whether the store's columns tell the name from others: some peers' tables take `a` for `A`, and a
    /// name for itself with a blank at its end, and what Drupal hands to PostgreSQL ends before a NUL.
    pub fn tells_apart(&self, name: &[u8]) -> bool {
        match self.can.store {
            "postgres-drupal" if name.contains(&0) => false,
            "sqlite-drupal" | "postgres-drupal" | "mysql-drupal" | "mysql-laravel" => {
                !name.ends_with(b"A") && !name.ends_with(b" ")
            }
            _ => true,
        }
    }

    pub fn lock(&self) -> Lock {
        self.lock_with(|_| {})
    }

    pub fn lock_with(&self, change: impl FnOnce(&mut LockOptions)) -> Lock {
        let mut options = self.store.defaults().clone();
        change(&mut options);
        self.store.lock_with(&self.name, options).unwrap()
    }

    pub fn shared(&self) -> Lock {
        self.lock_with(|options| options.mode = Mode::Shared)
    }

    /// `ttl`, or a second on stores that count whole ones.
    pub fn ttl(&self, ttl: Duration) -> Duration {
        match self.store.backend().check_ttl(ttl) {
            Ok(()) => ttl,
            Err(_) => Duration::from_secs(1),
        }
    }

    /// Sleeps, or long enough for a lease of a second to be over in the store where it is that long.
    pub fn outlive(&self, ttl: Duration, sleep: Duration) {
        let coarse = self.ttl(ttl) != ttl;
        std::thread::sleep(if coarse { ms(2100) } else { sleep });
    }

    /// A lock that was acquired for `ttl`, or for longer where the machine takes longer than that, and its TTL; `look`
    /// was true while it was held.
    pub fn briefly(&self, ttl: Duration, look: impl Fn() -> bool) -> (Lock, Duration) {
        let mut ttl = self.ttl(ttl);
        loop {
            let start = Instant::now();
            let lock = self.leased(ttl);
            let granted = lock.acquire(Wait::No, None);
            if granted.is_ok() && look() {
                return (lock, ttl);
            }
            let was_slow = start.elapsed() > ttl / 2 && ttl < Duration::from_secs(60);
            assert!(was_slow, "{granted:?} for {ttl:?}");
            ttl *= 3;
        }
    }

    /// What `attempt` says of leases of `ttl`, which must not run out under it; it is made again with longer ones, since
    /// a machine may take that long for anything. What is wrong stays wrong.
    pub fn patiently(&self, ttl: Duration, attempt: impl Fn(Duration) -> Result<(), String>) {
        let ttl = self.ttl(ttl);
        let done = attempt(ttl)
            .or_else(|_| attempt(ttl * 4))
            .or_else(|_| attempt(ttl * 16));
        assert_eq!(done, Ok(()));
    }

    /// With a lease of `ttl`, or the store's shortest.
    pub fn leased(&self, ttl: Duration) -> Lock {
        let ttl = self.ttl(ttl);
        self.lock_with(|options| options.ttl = Some(ttl))
    }

    pub fn permits(&self, take: u32, of: u32) -> Lock {
        self.lock_with(|options| options.mode = Mode::Permits { take, of })
    }

    /// Waits until so many waiters stand in the queue, on stores that know; a moment on others.
    pub fn wait_for_waiters(&self, count: u32) {
        let end = Instant::now() + Duration::from_secs(60);
        if !self.can.wakes || !self.can.fair {
            std::thread::sleep(Duration::from_millis(150));
            return;
        }
        while self.store.inspect(&self.name).unwrap().waiters != Some(count) {
            assert!(Instant::now() < end, "{count} waiters never came");
            std::thread::sleep(Duration::from_millis(1));
        }
        // A newcomer may pass those who have not waited for long.
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

pub fn code<T: std::fmt::Debug>(result: synlock_core::Result<T>) -> Code {
    match result {
        Ok(_) => Code::Ok,
        Err(error) => error.code(),
    }
}

/// Long enough for any machine.
pub const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

/// The cases of one store.
pub struct List {
    setup: Setup,
    pub can: Capabilities,
    /// Nothing may be done in the background.
    pub is_caller_thread_only: bool,
    trials: Vec<Trial>,
}

impl List {
    pub fn new(setup: Setup) -> Self {
        let store = setup.open().unwrap();
        List {
            setup,
            can: *store.capabilities(),
            is_caller_thread_only: store.is_caller_thread_only(),
            trials: Vec::new(),
        }
    }

    pub fn is_queued_by_the_kernel(&self) -> bool {
        ["sysv:", "semaphore:"]
            .iter()
            .any(|scheme| self.setup.url.starts_with(scheme))
    }

    pub fn add(&mut self, name: &'static str, case: fn(&Case)) {
        self.add_as(name.to_owned(), case);
    }

    /// A case under every name `module::case`.
    pub fn add_as(&mut self, name: String, case: impl Fn(&Case) + Send + Sync + 'static) {
        let setup = self.setup.clone();
        self.trials
            .push(Trial::test(format!("{}::{name}", setup.name), move || {
                // All of it, or the closure would take the URL alone and the server would end.
                let setup = &setup;
                let store = setup.open()?;
                let can = *store.capabilities();
                let input = Case {
                    store,
                    url: setup.url.clone(),
                    name: fresh_name(can.store),
                    can,
                    open: setup.clone(),
                };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&input))).map_err(
                    |panic| {
                        let words = panic.downcast_ref::<String>().cloned();
                        let words = words.or_else(|| {
                            panic
                                .downcast_ref::<&str>()
                                .map(|words| (*words).to_owned())
                        });
                        Failed::from(words.unwrap_or_default())
                    },
                )
            }));
    }

    pub fn into_trials(self) -> Vec<Trial> {
        self.trials
    }
}
