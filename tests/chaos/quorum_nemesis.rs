//! Row 18: a quorum (`3` or `5` members) while everything happens to its members at once: every 200 ms one
//! is killed, starts again with nothing, stops, goes on, is cut off, or its wall clock jumps. Eight processes
//! take its locks all the while. No two believe to hold one at a time, and tokens grow; afterwards each member hears
//! of each release, though it was away.
//!
//! What a member forgets at its end is made up for by its not voting until all that it granted is over
//! (`max_ttl`): without that rule this program fails.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, Error, Lock, LockOptions, Store, Wait};
use synlock_tests::history::{Answer, Judgement, Kind, Orphans, Tapes, judge};
use synlock_tests::load::{SOON, Stretch};
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, wait};
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::redis_fake::{Fault, Proxy};
use synlock_tests::services::wall::Wall;
use synlock_tests::torture::{Random, Verdict};

const NAMES: usize = 4;
const WORKERS: usize = 8;
const MOST_MEMBERS: usize = 5;
/// Also how long a member that has started must wait to vote.
const TTL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(200);
/// For a thread that sets a clock and is late with it.
const SLACK: Duration = Duration::from_millis(100);
/// Rounds in which no member forgets.
const GENTLE: usize = 8;

struct Page {
    ports: [AtomicU64; MOST_MEMBERS],
    go: AtomicU64,
    ready: AtomicU64,
    stop: AtomicU64,
    grants: AtomicU64,
    bare: AtomicU64,
    unexpected: AtomicU64,
}

struct World {
    page: SharedPage<Page>,
    tapes: [Tapes<{ WORKERS + 2 }, { 1 << 16 }>; NAMES],
}

fn quorum(ports: impl Iterator<Item = u64>, options: &str) -> String {
    let members: Vec<String> = ports
        .map(|port| format!("redis://127.0.0.1:{port}?io_timeout=200&connect_timeout=200"))
        .collect();
    format!("quorum:({})?fencing=1&{options}", members.join(","))
}

fn leased(store: &Store, name: &str, ttl: Duration) -> Lock {
    let mut options = LockOptions::default();
    options.ttl = Some(ttl);
    store.lock_with(name, options).expect("a lock")
}

impl World {
    fn is_over(&self) -> bool {
        self.page.stop.load(SeqCst) != 0
    }

    fn ports(&self) -> impl Iterator<Item = u64> {
        let ports = self.page.ports.iter().map(|port| port.load(SeqCst));
        ports.filter(|port| *port != 0)
    }

    fn work(&self, me: u64) -> i32 {
        while self.page.go.load(SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let url = quorum(self.ports(), &format!("max_ttl={}", TTL.as_millis()));
        let store = Store::open(&url).expect("a store");
        self.meet_all(&store, me);
        let names = (0..NAMES).map(|number| leased(&store, &format!("n{number}"), TTL));
        let locks: Vec<Lock> = names.collect();
        let mut random = Random(nanos() | 1);
        while !self.is_over() {
            let name = random.below(NAMES);
            self.take(&locks[name], name, me, &mut random);
        }
        0
    }

    /// Has a vote of every member: only who knows a member can tell that its clock has jumped.
    fn meet_all(&self, store: &Store, me: u64) {
        let name = format!("w{me}");
        let own = leased(store, &name, TTL);
        for port in self.ports() {
            let member = Store::open(&format!("redis://127.0.0.1:{port}")).expect("a store");
            loop {
                let _ = own.acquire(Wait::For(SOON), None);
                std::thread::sleep(Duration::from_millis(100));
                let has_voted = member.is_locked(&name).unwrap_or(false);
                let _ = own.release();
                if has_voted {
                    break;
                }
            }
        }
        self.page.ready.fetch_add(1, SeqCst);
    }

    fn take(&self, lock: &Lock, name: usize, me: u64, random: &mut Random) {
        let tape = self.tapes[name].of(me);
        tape.begin(Kind::Acquire, nanos());
        let acquired = lock.acquire(Wait::For(PATIENCE), None);
        let now = nanos();
        let acquired = match acquired {
            Ok(acquired) => acquired,
            // Not even a refusal says that somebody holds: a member's clock may have gone back.
            Err(error) => return self.note(&error),
        };
        let until = now + lock.remaining().map_or(0, |left| left.as_nanos() as u64);
        // What comes after its end is no grant.
        if until > now {
            tape.end(Answer::Done, acquired.fence.unwrap_or(0), now);
            self.page.grants.fetch_add(1, SeqCst);
            let is_bare = acquired.fence.is_none();
            self.page.bare.fetch_add(u64::from(is_bare), SeqCst);
        }
        // Now and then so long that members come and go meanwhile.
        if random.below(8) == 0 {
            let part = 50 + random.below(350);
            std::thread::sleep(Duration::from_millis(part as u64));
        }
        tape.begin(Kind::Release, nanos().min(until));
        match lock.release() {
            Ok(_) => tape.end(Answer::Done, 0, nanos()),
            Err(error) => self.note(&error),
        }
    }

    fn note(&self, error: &Error) {
        let is_expected = matches!(
            error.code(),
            Code::Busy | Code::Timeout | Code::Lost | Code::Unavailable | Code::Uncertain
        );
        if !is_expected {
            eprintln!("FAIL {error:?}");
            self.page.unexpected.fetch_add(1, SeqCst);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Well,
    Down,
    Stopped,
    Cut,
}

struct Member {
    server: RedisServer,
    wall: Wall,
    /// What its clock is ahead of the right time, in ms.
    ahead: i64,
    /// When it went back.
    back: Option<Instant>,
    proxy: Proxy,
    state: State,
    lives: usize,
}

impl Member {
    fn kill(&mut self) {
        self.server.kill();
        self.state = State::Down;
    }

    /// Nothing is left of before, and its clock is right.
    fn restart(&mut self) {
        // First: it is not to see its clock set right.
        self.server.kill();
        self.ahead = 0;
        self.set_wall();
        self.server.restart();
        self.proxy.heal();
        self.back = None;
        self.lives += 1;
        self.begin_to_count();
        self.state = State::Well;
    }

    /// A server that has forgotten its counters begins them at its clock, at their first use: while it is right.
    /// Tokens of class H are no better than that.
    fn begin_to_count(&self) {
        let alone = Store::open(&self.server.socket_url()).expect("a store");
        for number in 0..NAMES {
            let lock = leased(&alone, &format!("n{number}"), TTL);
            if lock.try_acquire().is_ok_and(|got| got.is_some()) {
                let _ = lock.release();
            }
        }
    }

    fn stop(&mut self) {
        self.server.pause();
        self.state = State::Stopped;
    }

    fn cut(&mut self) {
        self.proxy.fail(1, Fault::Silence);
        self.state = State::Cut;
    }

    fn heal(&mut self) {
        match self.state {
            State::Well => {}
            State::Down => self.restart(),
            State::Stopped => self.server.resume(),
            State::Cut => self.proxy.heal(),
        }
        self.state = State::Well;
    }

    fn jump(&mut self, by: i64) {
        if by < 0 {
            self.back.get_or_insert_with(Instant::now);
        }
        self.ahead += by;
        self.set_wall();
    }

    /// Whether nobody can be deceived if its clock goes ahead. Who meets a server after that cannot know; nor can
    /// who has not looked since it went back, unless that was so lately that it has no vote of those who have.
    fn may_go_ahead(&self) -> bool {
        self.lives == 0 && self.back.is_none_or(|back| back.elapsed() < TTL - SLACK)
    }

    fn set_wall(&self) {
        let step = Duration::from_millis(self.ahead.unsigned_abs());
        if self.ahead < 0 {
            self.wall.back(step);
        } else {
            self.wall.ahead(step);
        }
    }
}

/// What has been done so far.
#[derive(Default)]
struct Nemesis {
    rounds: usize,
    kinds: [usize; 7],
}

const KINDS: [&str; 7] = [
    "blackouts",
    "kills",
    "restarts",
    "stops",
    "partitions",
    "jumps",
    "recoveries",
];

impl Nemesis {
    /// Lets one recover, more often the more are away: what is out of reach for long shows nothing.
    fn ease(&mut self, members: &mut [Member], random: &mut Random) {
        let of = members.len();
        let mut away: Vec<_> = members
            .iter_mut()
            .filter(|one| one.state != State::Well)
            .collect();
        if !away.is_empty() && random.below(of) <= away.len() {
            let at = random.below(away.len());
            away[at].heal();
            self.kinds[6] += 1;
        }
    }

    fn strike(&mut self, members: &mut [Member], random: &mut Random) {
        self.rounds += 1;
        let kind = if self.rounds < GENTLE {
            3 + random.below(3)
        } else if self.rounds.is_multiple_of(5) {
            0
        } else {
            1 + random.below(5)
        };
        self.kinds[kind] += 1;
        let at = random.below(members.len());
        if kind == 0 {
            // A majority forgets at once, as where they share their power.
            for next in 0..members.len() / 2 + 1 {
                members[(at + next) % members.len()].restart();
            }
            return;
        }
        let member = &mut members[at];
        match kind {
            1 => member.kill(),
            2 => member.restart(),
            _ if member.state != State::Well => member.heal(),
            3 => member.stop(),
            4 => member.cut(),
            _ => {
                let by = [5, 1000, 3_600_000][random.below(3)];
                let is_ahead = member.may_go_ahead() && random.below(2) == 0;
                member.jump(if is_ahead { by } else { -by });
                // It was wrong for a moment.
                if !is_ahead && random.below(2) == 0 {
                    std::thread::sleep(EVERY / 2);
                    if member.may_go_ahead() {
                        member.jump(by);
                    }
                }
            }
        }
    }
}

/// Each member hears of each release, though it was away meanwhile; not only when the lease ends.
fn releases_reach_all(members: &mut [Member], verdict: &mut Verdict) {
    let ports: Vec<u64> = members
        .iter()
        .map(|one| u64::from(one.proxy.port()))
        .collect();
    let store = Store::open(&quorum(ports.into_iter(), "cold_start=1")).expect("a store");
    let lock = leased(&store, "everywhere", Duration::from_secs(60));
    let has = |member: &Member| {
        let alone = Store::open(&member.server.socket_url()).expect("a store");
        alone.is_locked("everywhere").unwrap_or(true)
    };
    let soon = |mut is_so: Box<dyn FnMut() -> bool + '_>| {
        let end = Instant::now() + SOON;
        while !is_so() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    };
    let (mut heard, mut rounds) = (0, 0);
    for at in 0..members.len() {
        for away in [Member::stop as fn(&mut Member), Member::cut] {
            let got = soon(Box::new(|| lock.acquire(Wait::For(SOON), None).is_ok()));
            let all = soon(Box::new(|| members.iter().all(has)));
            away(&mut members[at]);
            let released = lock.release();
            members[at].heal();
            let none = soon(Box::new(|| !members.iter().any(has)));
            rounds += 1;
            let is_told = released
                .as_ref()
                .err()
                .is_none_or(|error| error.code() == Code::Uncertain);
            if got && all && none && is_told {
                heard += 1;
            } else {
                eprintln!("FAIL member {at}: {got} {all} {released:?} {none}");
            }
        }
    }
    verdict.claim(
        heard == rounds,
        "releases that reach all members, one of them away meanwhile",
        heard,
    );
}

fn main() -> ExitCode {
    let count: usize = match std::env::args().nth(1).as_deref() {
        Some("5") => 5,
        _ => 3,
    };
    let full = is_full_load();
    let (least, rounds) = if full { (20_000, 1000) } else { (250, 20) };
    let world = World {
        // SAFETY: atomics, for which zero is a value.
        page: unsafe { SharedPage::new() },
        tapes: std::array::from_fn(|_| Tapes::new()),
    };
    let walls: Vec<Wall> = (0..count).map(|_| Wall::new()).collect();
    let servers = walls.iter().map(|wall| {
        RedisServer::start_with(Options {
            environment: wall.environment(),
            ..Options::default()
        })
    });
    let servers: Vec<RedisServer> = servers.collect();
    // Before there are threads.
    let workers: Vec<_> = (0..WORKERS as u64)
        .map(|me| fork(|| world.work(me)))
        .collect();
    let members = servers.into_iter().zip(walls).map(|(server, wall)| Member {
        proxy: Proxy::start(server.port()),
        server,
        wall,
        ahead: 0,
        back: None,
        state: State::Well,
        lives: 0,
    });
    let mut members: Vec<Member> = members.collect();
    for (member, port) in members.iter().zip(&world.page.ports) {
        port.store(u64::from(member.proxy.port()), SeqCst);
    }
    members.iter().for_each(Member::begin_to_count);
    world.page.go.store(1, SeqCst);
    while world.page.ready.load(SeqCst) < WORKERS as u64 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seed = nanos() | 1;
    let (mut random, mut nemesis) = (Random(seed), Nemesis::default());
    let stretch = Stretch::of(Duration::from_millis(if full { 300_000 } else { 4_000 }));
    let grants = || world.page.grants.load(SeqCst);
    while stretch.goes_on(|| grants() >= least && nemesis.rounds >= rounds) {
        std::thread::sleep(EVERY / 2);
        nemesis.ease(&mut members, &mut random);
        std::thread::sleep(EVERY / 2);
        nemesis.strike(&mut members, &mut random);
    }
    world.page.stop.store(1, SeqCst);
    members.iter_mut().for_each(Member::heal);
    let crashed = workers
        .iter()
        .filter(|pid| exit_status(wait(**pid)) != 0)
        .count();
    let judged = world.tapes.iter().fold(Judgement::default(), |sum, tapes| {
        sum.and(&judge(&tapes.read(|_| None), Orphans::End))
    });
    let mut verdict = Verdict::default();
    verdict.claim_history(&judged, least as usize);
    verdict.claim(grants() >= least, "grants", grants());
    let bare = world.page.bare.load(SeqCst);
    verdict.claim(bare == 0, "grants without a token", bare);
    let unexpected = world.page.unexpected.load(SeqCst);
    verdict.claim(unexpected == 0, "unexpected errors", unexpected);
    verdict.claim(crashed == 0, "crashed workers", crashed);
    let kinds = KINDS.iter().zip(nemesis.kinds);
    let kinds: Vec<String> = kinds
        .map(|(what, times)| format!("{times} {what}"))
        .collect();
    verdict.claim(
        nemesis.rounds >= rounds,
        &format!("what happened to the members (seed {seed})"),
        kinds.join(", "),
    );
    // What is left of the storm, clocks that went back among it, is not theirs to end.
    members.iter_mut().for_each(Member::restart);
    releases_reach_all(&mut members, &mut verdict);
    verdict.finish()
}
