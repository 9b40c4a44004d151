//! Row 34: no password in what synlock says: errors, events, `Debug`, the texts of the C ABI, panics,
//! and whatever else reaches descriptors 1 and 2.
//!
//! The program runs itself, so that its output can be read; `child` is the part that has secrets.

mod secret_urls;

use secret_urls::{Canary, Case, generate};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synlock_core::{Error, LockOptions, Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::names::TempDir;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::etcd::{self, EtcdServer};
use synlock_tests::services::free_port;
use synlock_tests::services::mariadb::{self, MariadbServer};
use synlock_tests::services::memcached::{self, MemcachedServer};
use synlock_tests::services::postgres::{self, PostgresServer};
use synlock_tests::torture::{Random, Verdict};

/// Counts the texts that were looked at and the secrets found in them.
struct Ear {
    canary: Canary,
    texts: u64,
    hits: u64,
    grants: u64,
    refusals: u64,
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
impl Ear {
    fn hear(&mut self, what: &str, text: &str) {
        self.texts += 1;
        if self.canary.is_in(text) {
            self.hits += 1;
            if self.hits <= 20 {
                println!(
                    "in {what}: {:.300}",
                    self.canary.mask(text).replace('\n', " ")
                );
            }
        }
    }

    fn debug(&mut self, what: &str, value: &impl Debug) {
        self.hear(what, &format!("{value:?}"));
        self.hear(what, &format!("{value:#?}"));
    }

    fn error(&mut self, error: &Error) {
        self.refusals += 1;
        self.hear("Display of an error", &error.to_string());
        self.debug("Debug of an error", error);
        self.hear("message of an error", error.message());
        self.hear("store of an error", error.store().unwrap_or_default());
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            self.hear("cause of an error", &format!("{cause} {cause:?}"));
            source = cause.source();
        }
    }

    /// Everything that a store and its locks say.
    fn store(&mut self, store: &Store) {
        self.debug("Debug of a store", store);
        self.debug("Debug of a backend", store.backend());
        self.debug("Debug of defaults", store.defaults());
        self.hear("url", store.url());
        self.hear("fingerprint", &store.fingerprint());
        match store.lock("n") {
            Ok(lock) => self.debug("Debug of a lock", &lock),
            Err(error) => self.error(&error),
        }
    }

    /// Talks to the server, if there is one.
    fn connect(&mut self, store: &Store) {
        let events = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&events);
        let observer = store.observe(Arc::new(move |event| {
            heard
                .lock()
                .expect("no panic before")
                .push_str(&format!("{event:?}\n"));
        }));
        let mut options = LockOptions::default();
        let leases = store.capabilities().ttl;
        options.ttl = leases.then_some(Duration::from_secs(60));
        let lock = store.lock_with("n", options).expect("a lock");
        if let Err(error) = store.ping(Wait::For(Duration::from_secs(2))) {
            self.error(&error);
        }
        match lock.try_acquire() {
            Err(error) => self.error(&error),
            Ok(acquired) => {
                self.grants += u64::from(acquired.is_some());
                self.debug("a grant", &acquired);
                self.debug("Debug of a held lock", &lock);
                self.hear("an export", &lock.export().unwrap_or_default());
                self.debug("an inspection", &store.inspect("n"));
                self.debug("a list", &store.list(b"", None, 10));
                let second = store.lock("n").expect("a lock");
                self.debug("a refusal", &second.try_acquire());
                let waited = second.acquire(Wait::For(Duration::from_millis(1)), None);
                waited
                    .as_ref()
                    .err()
                    .into_iter()
                    .for_each(|e| self.error(e));
                self.debug("a break", &store.break_lock("n"));
                for result in [lock.ensure_held().err(), lock.release().err()] {
                    result.iter().for_each(|error| self.error(error));
                }
            }
        }
        self.store(store);
        store.unobserve(observer);
        let events = std::mem::take(&mut *events.lock().expect("no panic before"));
        self.hear("events", &events);
    }

    fn open(&mut self, case: &Case, talk: bool) {
        let options: Vec<(&str, &str)> = case
            .options
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        match Store::open_with(&case.url, &options) {
            Ok(store) => {
                self.store(&store);
                if talk {
                    self.connect(&store);
                }
            }
            Err(error) => {
                self.error(&error);
                // What a host without a handler prints.
                if self.refusals.is_multiple_of(64) {
                    let _ = catch_unwind(AssertUnwindSafe(|| panic!("{error:?}")));
                }
            }
        }
        through_c::open(self, case);
    }
}

/// The same through the C ABI.
mod through_c {
    use super::{Case, Ear};
    use std::ffi::{CStr, CString, c_char};
    use std::ptr::null_mut;
    use synlock::error as e;
    use synlock::store as s;

    fn text(pointer: *const c_char) -> String {
        if pointer.is_null() {
            return String::new();
        }
        // SAFETY: NUL-terminated text of an error object that has not been freed.
        unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .into_owned()
    }

    pub(super) fn open(ear: &mut Ear, case: &Case) {
        let Ok(url) = CString::new(case.url.as_str()) else {
            return;
        };
        let c_texts = |of: fn(&(String, String)) -> &String| -> Option<Vec<CString>> {
            case.options
                .iter()
                .map(|pair| CString::new(of(pair).as_str()).ok())
                .collect()
        };
        let (Some(keys), Some(values)) = (c_texts(|pair| &pair.0), c_texts(|pair| &pair.1)) else {
            return;
        };
        let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (keys, values) = (pointers(&keys), pointers(&values));
        let (mut store, mut error) = (null_mut(), null_mut());
        // SAFETY: text is NUL-terminated, the arrays have as many elements as said, both places
        // may be written, and every handle is freed once and not used afterwards.
        unsafe {
            s::synlock_store_open(
                url.as_ptr(),
                keys.as_ptr(),
                values.as_ptr(),
                keys.len(),
                &raw mut store,
                &raw mut error,
            );
            for pointer in [
                e::synlock_error_message(error),
                e::synlock_error_store(error),
                e::synlock_error_resource(error),
                e::synlock_error_operation(error),
            ] {
                ear.hear("a text of the C ABI", &text(pointer));
            }
            let mut buffer = [0; 4096];
            for copy in [s::synlock_store_url, s::synlock_store_fingerprint] {
                if !store.is_null() {
                    copy(
                        store,
                        buffer.as_mut_ptr(),
                        buffer.len(),
                        null_mut(),
                        null_mut(),
                    );
                    ear.hear("a text of a C store", &text(buffer.as_ptr()));
                }
            }
            e::synlock_error_free(error);
            s::synlock_store_free(store);
        }
    }
}

/// Connections of every outcome: right, wrong password, none wanted, AUTH unknown, nobody there.
fn connections(ear: &mut Ear, words: &[String]) {
    let [
        port,
        tls_port,
        ca,
        socket,
        no_auth,
        open_port,
        file,
        others @ ..,
    ] = words
    else {
        panic!("the parent says where the servers are");
    };
    let canary = ear.canary.text();
    let wrong = format!("{canary}x");
    let closed = free_port();
    let mut urls = vec![
        format!("redis://:{wrong}@127.0.0.1:{port}"),
        format!("redis://nobody:{canary}@127.0.0.1:{port}"),
        format!("redis://127.0.0.1:{port}?password={wrong}"),
        format!("redis://127.0.0.1:{port}"),
        format!("redis://{canary}@127.0.0.1:{port}"),
        format!("redis://:{canary}@127.0.0.1:{open_port}"),
        format!("redis://:{canary}@127.0.0.1:{no_auth}"),
        format!("redis://u:{canary}@127.0.0.1:{no_auth}"),
        format!("redis://:{canary}@127.0.0.1:{closed}"),
        format!("redis://:{canary}@no-such-host.invalid:1"),
        format!("redis:/nowhere/{closed}.sock?password={canary}"),
        format!("rediss://:{canary}@localhost:{tls_port}"),
        format!("rediss://:{canary}@localhost:{port}?insecure=1"),
        format!("rediss://:{canary}@localhost:{tls_port}?ca_file={file}"),
        format!("rediss://:{wrong}@localhost:{tls_port}?ca_file={ca}"),
    ];
    let mut right = vec![
        format!("redis://:{canary}@127.0.0.1:{port}"),
        format!("redis://default:{canary}@127.0.0.1:{port}/3"),
        format!("redis://127.0.0.1:{port}?password={canary}&db=2"),
        format!("redis://127.0.0.1:{port}?password_file={file}"),
        format!("redis://127.0.0.1:{port}?password_env=SYNLOCK_SECRET"),
        format!("redis:{socket}?password={canary}"),
        format!("rediss://:{canary}@localhost:{tls_port}?ca_file={ca}"),
    ];
    // The others, whose logins are longer: in one place each, with the right password and another one.
    for (place, user) in others
        .iter()
        .zip(["postgres", "postgres", "locker", "locker", "root", "u"])
    {
        let (scheme, rest) = place.split_once("://").expect("a URL");
        urls.push(format!("{scheme}://{user}:{wrong}@{rest}"));
        urls.push(format!("{scheme}://nobody:{canary}@{rest}"));
        urls.push(format!("{scheme}://{user}:{canary}@127.0.0.1:{closed}"));
        right.push(format!("{scheme}://{user}:{canary}@{rest}"));
        // Outside the URL.
        right.push(format!("{scheme}://{user}@{rest}?password_file={file}"));
        let mark = format!("username={user}&password_env=SYNLOCK_SECRET");
        right.push(format!("{scheme}://{rest}?{mark}"));
    }
    urls.push(format!("zookeeper://u:{canary}@127.0.0.1:{closed}"));
    let tiers = |member: &str| format!("tiered:(shm:{file}-shm,{member})");
    for place in [port, no_auth] {
        let member = format!("redis://:{wrong}@127.0.0.1:{place}");
        let down = format!("redis://:{canary}@127.0.0.1:{closed}");
        urls.push(format!("quorum:({member},{member}/1,{down})?max_ttl=60000"));
        urls.push(tiers(&member));
    }
    let member = format!("redis://:{canary}@127.0.0.1:{port}");
    let of = |number| patient(&format!("{member}/{number}"));
    right.push(tiers(&of(0)));
    right.push(format!("quorum:({},{})?cold_start=1", of(1), of(2)));
    let expected = right.len() as u64;
    let cases = urls.into_iter().map(|url| (url, 300));
    // What opens may take its time.
    for (url, patience) in cases.chain(right.into_iter().map(|url| (url, 20_000))) {
        let options = match url.as_str() {
            several if several.starts_with(['q', 't']) => Vec::new(),
            _ => ["connect_timeout", "io_timeout"]
                .map(|key| (key.to_owned(), patience.to_string()))
                .into(),
        };
        ear.open(&Case { url, options }, true);
    }
    assert_eq!(
        ear.grants, expected,
        "the right passwords open the lock, and no other"
    );
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child(words: &[String]) -> ExitCode {
    let mut ear = Ear {
        canary: Canary::from_env(),
        texts: 0,
        hits: 0,
        grants: 0,
        refusals: 0,
    };
    connections(&mut ear, words);
    let file = &words[6];
    let mut random = Random(0x5eed_0034);
    let cases = if is_full_load() { 100_000 } else { 2_000 };
    for _ in 0..cases {
        let case = generate(&mut random, &ear.canary, file);
        let opened = catch_unwind(AssertUnwindSafe(|| ear.open(&case, false)));
        if opened.is_err() {
            println!("panicked: {}", ear.canary.mask(&case.url));
            return ExitCode::from(101);
        }
    }
    println!(
        "cases {cases}\ntexts {}\nrefusals {}\nhits {}",
        ear.texts, ear.refusals, ear.hits
    );
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "rows report on stdout")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.is_empty() {
        return child(&words);
    }
    let canary = Canary::new();
    let server = RedisServer::start_with(Options {
        password: Some(canary.text().to_owned()),
        tls: true,
        ..Options::default()
    });
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    // Repeats the words of commands that it does not know, as AUTH here.
    let no_auth = RedisServer::start_with(Options {
        extra: words(&["--rename-command", "AUTH", ""]),
        ..Options::default()
    });
    let open = RedisServer::start();
    let password = || Some(canary.text().to_owned());
    let postgres = PostgresServer::start_with(postgres::Options {
        password: password(),
        ..postgres::Options::default()
    });
    let mariadb = MariadbServer::start_with(mariadb::Options {
        password: password(),
        ..mariadb::Options::default()
    });
    let etcd = EtcdServer::start_with(etcd::Options {
        password: password(),
        ..etcd::Options::default()
    });
    let memcached = MemcachedServer::start_with(memcached::Options {
        login: Some(("u".to_owned(), canary.text().to_owned())),
        ..memcached::Options::default()
    });
    let (pg, my) = (postgres.port(), mariadb.port());
    let others = [
        format!("postgres://127.0.0.1:{pg}/postgres"),
        format!("postgres+advisory://127.0.0.1:{pg}/postgres"),
        format!("mysql://127.0.0.1:{my}/test"),
        format!("mysql+advisory://127.0.0.1:{my}/test"),
        format!("etcd://{}", etcd.host(0)),
        memcached.url(),
    ];
    let dir = TempDir::new("secrets");
    let file = dir.path().join("password");
    std::fs::write(&file, format!("{}\n", canary.text())).expect("a file");
    let done = Command::new(std::env::current_exe().expect("this program"))
        .args([server.port(), server.tls_port()].map(|port| port.to_string()))
        .args([server.file("ca.crt"), server.socket()])
        .args([no_auth.port(), open.port()].map(|port| port.to_string()))
        .arg(&file)
        .args(others)
        .env("SYNLOCK_SECRET", canary.text())
        .env("RUST_BACKTRACE", "full")
        .stdin(Stdio::null())
        .output()
        .expect("this program once more");
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    for line in out
        .lines()
        .chain(err.lines().filter(|_| !done.status.success()))
    {
        println!("    {}", canary.mask(line));
    }
    let figure = |name: &str| -> u64 {
        let number = out
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        number.unwrap_or(0)
    };
    let mut verdict = Verdict::default();
    verdict.claim(done.status.success(), "the child ended well", done.status);
    verdict.claim(
        done.status.success() && figure("hits") == 0,
        "secrets told",
        figure("hits"),
    );
    let least = if is_full_load() { 100_000 } else { 2_000 };
    verdict.claim(figure("cases") >= least, "URLs", figure("cases"));
    verdict.claim(
        figure("refusals") >= least / 4,
        "errors looked at",
        figure("refusals"),
    );
    verdict.claim(
        figure("texts") >= least * 8,
        "texts looked at",
        figure("texts"),
    );
    verdict.claim(
        !canary.is_in(&out),
        "secrets on descriptor 1",
        canary.is_in(&out),
    );
    verdict.claim(
        err.contains("panicked"),
        "panics printed",
        err.matches("panicked").count(),
    );
    verdict.claim(
        !canary.is_in(&err),
        "secrets on descriptor 2",
        canary.is_in(&err),
    );
    for server in [&server, &no_auth, &open] {
        let log = std::fs::read_to_string(server.file("log")).unwrap_or_default();
        verdict.claim(!log.is_empty(), "bytes of a server's log", log.len());
    }
    verdict.finish()
}
