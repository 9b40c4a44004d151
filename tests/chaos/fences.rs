//! Row 28: fencing tokens grow in real-time order: the token of a grant is greater than those of all
//! grants of the name that had returned before it was asked for. `redis` (class H) while the server
//! is restarted empty, flushed, robbed of its scripts and counters, and clients are killed, and `quorum` while that
//! happens to one of three servers after the other; `sqlite`, `postgres` and `mysql` (D), and `tiered` (E) on two hosts,
//! while clients are killed; `shm` (H) while they are killed and its segment is removed; `memory` (E) by threads.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, Error, Lock, LockOptions, Store, Wait};
use synlock_tests::history::{Answer, Kind, Tapes, token_regressions};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::page::SharedPage;
use synlock_tests::places::{hosts, place};
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, signal, wait};
use synlock_tests::redis::RedisServer;
use synlock_tests::torture::Verdict;

const NAMES: usize = 3;
const WORKERS: usize = 6;
const CLIENTS: usize = 4096;
const OPS: usize = 1 << 16;
const HURRY: u32 = 200_000;

struct Page {
    stop: AtomicU64,
    grants: AtomicU64,
    unexpected: AtomicU64,
    /// Grants without a token.
    bare: AtomicU64,
}

struct World {
    page: SharedPage<Page>,
    tapes: [Tapes<CLIENTS, OPS>; NAMES],
    /// One for each host.
    urls: Vec<String>,
    /// A short lease where a killed client would else keep its lock for long.
    options: LockOptions,
    /// What the store's trouble may make of an operation.
    allowed: &'static [Code],
}

impl World {
    fn new(urls: Vec<String>, allowed: &'static [Code]) -> Self {
        World {
            // SAFETY: atomics, for which zero is a value.
            page: unsafe { SharedPage::new() },
            tapes: std::array::from_fn(|_| Tapes::new()),
            urls,
            options: LockOptions::default(),
            allowed,
        }
    }

    fn is_over(&self) -> bool {
        self.page.stop.load(SeqCst) != 0
    }

    fn work(&self, me: u64) -> i32 {
        let url = &self.urls[me as usize % self.urls.len()];
        let store = Store::open(url).expect("a store");
        let locks: Vec<Lock> = (0..NAMES)
            .map(|number| {
                store
                    .lock_with(format!("n{number}"), self.options.clone())
                    .expect("a lock")
            })
            .collect();
        let mut turn = me as usize;
        while !self.is_over() {
            turn += 1;
            self.take_once(&locks[turn % NAMES], turn % NAMES, me);
        }
        0
    }

    /// Draws many tokens of each name, alone.
    fn hurry(&self) -> i32 {
        let store = Store::open(&self.urls[0]).expect("a store");
        for number in 0..NAMES {
            let lock = store.lock(format!("n{number}")).expect("a lock");
            for _ in 0..HURRY {
                lock.acquire(Wait::No, None).expect("nobody else is here");
                lock.release().expect("held");
            }
        }
        0
    }

    fn take_once(&self, lock: &Lock, name: usize, me: u64) {
        let tape = self.tapes[name].of(me);
        tape.begin(Kind::Acquire, nanos());
        let acquired = lock.acquire(Wait::For(Duration::from_millis(300)), None);
        let now = nanos();
        match acquired {
            Ok(acquired) => {
                tape.end(Answer::Done, acquired.fence.unwrap_or(0), now);
                self.page.grants.fetch_add(1, SeqCst);
                self.page
                    .bare
                    .fetch_add(u64::from(acquired.fence.is_none()), SeqCst);
                self.note(lock.release().map(drop));
            }
            Err(error) => {
                tape.end(Answer::Unknown, 0, now);
                self.note(Err(error));
            }
        }
    }

    fn note(&self, result: Result<(), Error>) {
        if let Err(error) = result
            && !self.allowed.contains(&error.code())
        {
            eprintln!("FAIL {error:?}");
            self.page.unexpected.fetch_add(1, SeqCst);
        }
    }

    fn report(&self, least: u64, crashed: usize, mut verdict: Verdict) -> ExitCode {
        let class = Store::open(&self.urls[0])
            .expect("a store")
            .capabilities()
            .fence
            .class();
        let grants = self.page.grants.load(SeqCst);
        let histories: Vec<_> = self
            .tapes
            .iter()
            .map(|tapes| tapes.read(|_| None))
            .collect();
        let regressions: usize = histories.iter().map(|ops| token_regressions(ops)).sum();
        let judged: usize = histories.iter().map(Vec::len).sum();
        verdict.claim(
            regressions == 0,
            &format!("tokens that do not grow, class {class}"),
            format!("{regressions} in {judged} operations"),
        );
        verdict.claim(judged as u64 >= least, "operations judged", judged);
        verdict.claim(grants >= least, "grants", grants);
        let bare = self.page.bare.load(SeqCst);
        verdict.claim(bare == 0, "grants without a token", bare);
        let unexpected = self.page.unexpected.load(SeqCst);
        verdict.claim(unexpected == 0, "unexpected errors", unexpected);
        verdict.claim(crashed == 0, "crashed workers", crashed);
        verdict.finish()
    }
}

/// Forked workers, of which now and then one is killed.
struct Workers<'a> {
    world: &'a World,
    running: Vec<(u64, libc::pid_t)>,
    next: u64,
    kills: usize,
}

impl<'a> Workers<'a> {
    fn start(world: &'a World) -> Self {
        let mut workers = Workers {
            world,
            running: Vec::new(),
            next: 0,
            kills: 0,
        };
        for _ in 0..WORKERS {
            workers.add();
        }
        workers
    }

    fn add(&mut self) {
        let me = self.next;
        self.next += 1;
        self.running.push((me, fork(|| self.world.work(me))));
    }

    fn kill_one(&mut self) {
        let (_, pid) = self.running.remove(0);
        signal(pid, libc::SIGKILL);
        wait(pid);
        self.kills += 1;
        self.add();
    }

    /// How many ended badly.
    fn stop(self) -> usize {
        self.world.page.stop.store(1, SeqCst);
        self.running
            .iter()
            .filter(|(_, pid)| exit_status(wait(*pid)) != 0)
            .count()
    }
}

/// Runs until there are enough grants and enough rounds of trouble, or the time is over.
fn go_on(world: &World, least: u64, rounds: usize, enough: usize, since: Instant) -> bool {
    let wanted = world.page.grants.load(SeqCst) < least || rounds < enough;
    wanted && since.elapsed() < Duration::from_secs(240)
}

/// What the trouble of a server, or a slow machine, may make of an operation.
const TROUBLE: &[Code] = &[
    Code::Busy,
    Code::Timeout,
    Code::Lost,
    Code::Unavailable,
    Code::Uncertain,
];

/// Deletes the counters of fencing tokens, of either layout.
fn rob(server: &RedisServer) {
    let keys = server.command(&["KEYS", "*"]);
    let mut words = vec!["DEL"];
    let is_counter = |key: &&str| key.ends_with("}f") || key.starts_with("synlock:qf");
    words.extend(keys.lines().filter(is_counter));
    if words.len() > 1 {
        server.command(&words);
    }
}

/// One server, or the members of a quorum, each in its turn. On unix sockets: each restart would otherwise leave the
/// port to others.
fn redis(least: u64, mut servers: Vec<RedisServer>, url: String) -> ExitCode {
    let world = World::new(vec![url], TROUBLE);
    let mut workers = Workers::start(&world);
    let (start, enough) = (Instant::now(), if is_full_load() { 250 } else { 25 });
    let (mut rounds, of) = (0, servers.len());
    while go_on(&world, least, rounds, enough, start) {
        std::thread::sleep(Duration::from_millis(60));
        let server = &mut servers[rounds / 5 % of];
        match rounds % 5 {
            0 => server.restart(),
            1 => drop(server.command(&["FLUSHALL"])),
            2 => drop(server.command(&["SCRIPT", "FLUSH"])),
            3 => rob(server),
            _ => workers.kill_one(),
        }
        rounds += 1;
    }
    let kills = workers.kills;
    let crashed = workers.stop();
    let mut verdict = Verdict::default();
    verdict.claim(
        rounds >= enough && kills >= enough / 5,
        "restarts, flushes, lost counters and kills",
        rounds,
    );
    world.report(least, crashed, verdict)
}

fn one(least: u64, dialect: &str) -> ExitCode {
    let server = RedisServer::start();
    let url = format!("{}?dialect={dialect}", server.socket_url());
    redis(least, vec![server], url)
}

fn quorum(least: u64) -> ExitCode {
    let servers = vec![(); 3].into_iter().map(|()| RedisServer::start());
    let servers: Vec<RedisServer> = servers.collect();
    let members: Vec<String> = servers.iter().map(RedisServer::socket_url).collect();
    let url = format!("quorum:({})?fencing=1&cold_start=1", members.join(","));
    redis(least, servers, url)
}

/// A store whose tokens outlive its server, while clients are killed.
fn durable(least: u64, kind: &str) -> ExitCode {
    let (url, _keep) = place(kind);
    // On a slow machine an answer may come after the time that is left, or after the lease.
    let mut world = World::new(hosts(&url), TROUBLE);
    world.options.ttl = Some(Duration::from_millis(200));
    let mut workers = Workers::start(&world);
    let (start, enough) = (Instant::now(), if is_full_load() { 250 } else { 10 });
    while go_on(&world, least, workers.kills, enough, start) {
        std::thread::sleep(Duration::from_millis(60));
        // Each dead waiter that is handed a lock keeps it for a second.
        if workers.kills < enough {
            workers.kill_one();
        }
    }
    let kills = workers.kills;
    let crashed = workers.stop();
    let mut verdict = Verdict::default();
    verdict.claim(kills >= enough, "kills", kills);
    world.report(least, crashed, verdict)
}

/// A segment that is lost between two rounds, in each of which it gives more tokens than microseconds pass.
fn shm(least: u64) -> ExitCode {
    let dir = TempDir::within("/dev/shm", "fences");
    let path = dir.path().join("segment");
    let world = World::new(vec![format!("shm:{}", path.display())], TROUBLE);
    let (start, enough) = (Instant::now(), if is_full_load() { 50 } else { 5 });
    let (mut losses, mut crashed) = (0, 0);
    while go_on(&world, least, losses, enough, start) {
        crashed += usize::from(exit_status(wait(fork(|| world.hurry()))) != 0);
        let mut workers = Workers::start(&world);
        std::thread::sleep(Duration::from_millis(30));
        workers.kill_one();
        std::thread::sleep(Duration::from_millis(10));
        crashed += workers.stop();
        world.page.stop.store(0, SeqCst);
        // Nobody is left who could still give tokens of the old one.
        losses += usize::from(std::fs::remove_file(&path).is_ok());
    }
    let mut verdict = Verdict::default();
    verdict.claim(losses >= enough, "losses of the segment", losses);
    world.report(least, crashed, verdict)
}

fn memory(least: u64) -> ExitCode {
    let world = World::new(
        vec![format!("memory:{}", unique("fences"))],
        &[Code::Busy, Code::Timeout],
    );
    let crashed = std::thread::scope(|scope| {
        let world = &world;
        let threads: Vec<_> = (0..WORKERS as u64)
            .map(|me| scope.spawn(move || world.work(me)))
            .collect();
        let start = Instant::now();
        while go_on(world, least, 1, 1, start) {
            std::thread::sleep(Duration::from_millis(5));
        }
        world.page.stop.store(1, SeqCst);
        threads
            .into_iter()
            .filter_map(|thread| thread.join().err())
            .count()
    });
    world.report(least, crashed, Verdict::default())
}

fn main() -> ExitCode {
    let least = if is_full_load() { 100_000 } else { 2_000 };
    match std::env::args().nth(1).as_deref() {
        Some("redis") => {
            let dialect = std::env::args().nth(2).unwrap_or("native".to_owned());
            one(least, &dialect)
        }
        Some("memory") => memory(least),
        Some("shm") => shm(least),
        Some("quorum") => quorum(least / 5),
        Some(kind @ ("sqlite" | "postgres" | "mysql" | "tiered")) => durable(least / 20, kind),
        _ => ExitCode::from(2),
    }
}
