//! Row 7, the rest of it: handles whose last call was uncertain when their process forked. What was not
//! answered is the parent's to see through; a child neither goes on with it nor disturbs it.

use super::fork_servers::{PATIENCE, connections, is_connected, leased, sockets};
use super::{FATES, Fate, Page, Tally, child, copy, is_forked, meets_its_fate, until};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use synlock_core::{Code, Error, Lock, Result, State, Store, Wait};
use synlock_tests::page::SharedPage;
use synlock_tests::process::{fork, nanos, wait_for};
use synlock_tests::services::redis_fake::{Fault, Proxy};
use synlock_tests::torture::Verdict;

/// No ghost may last for as long: the parent's background frees them.
const LEASE: Duration = Duration::from_secs(600);
/// How long a child lives on whose own acquire was given up: its background ends with it, and a server that is slow
/// may carry out that acquire after everything else.
const LINGERS: Duration = Duration::from_secs(5);
/// More replies than a verb has.
const REPLIES: i64 = 9;
/// Of the stores whose replies are lost, which ask for them again until then.
const HASTE: &str = "io_timeout=400";
const HEAL: i64 = -1;
/// A call of this process was given up.
static IS_UNSURE: AtomicBool = AtomicBool::new(false);

struct More {
    page: Page,
    /// What is to become of the replies, for the process that has the proxy: from which on the connections
    /// are reset, or `HEAL`; 0 once that is so.
    weather: AtomicI64,
    /// The child found what it inherited refused, and none of the parent's connections open.
    child_is_apart: AtomicBool,
    child_has_looked: AtomicBool,
    /// Replies pass again.
    is_healed: AtomicBool,
}

impl More {
    fn set(&self, weather: i64) {
        self.weather.store(weather, Ordering::SeqCst);
        while self.weather.load(Ordering::SeqCst) != 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes a call uncertain by the reset of its connection at one of its replies, and leaves it at that.
    fn lose_reply_of<T>(&self, lock: &Lock, held: bool, call: fn(&Lock) -> Result<T>) -> bool {
        let end = nanos() + PATIENCE.as_nanos() as u64;
        for reply in (1..=REPLIES).cycle() {
            if lock.state() == State::Releasing && !gives(lock) {
                return false;
            }
            let is_ready = match (held, lock.state()) {
                (true, State::Idle) => takes(lock),
                (false, State::Held) => gives(lock),
                _ => true,
            };
            if !is_ready {
                return false;
            }
            self.set(reply);
            if call(lock).is_err_and(|error| error.code() == Code::Uncertain) {
                return true;
            }
            self.set(HEAL);
            if nanos() > end {
                break;
            }
            // The background, which asks again for what was lost before, is to come first.
            std::thread::sleep(Duration::from_millis(30));
        }
        false
    }
}

fn is_trouble(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::Uncertain)
}

/// How a call ends that is asked again while the machine is too slow for the stores' short patience.
fn ends<T>(call: impl Fn() -> Result<T>) -> Code {
    let end = nanos() + PATIENCE.as_nanos() as u64;
    loop {
        match call() {
            Ok(_) => return Code::Ok,
            Err(error) if is_trouble(&error) && nanos() < end => {
                IS_UNSURE.fetch_or(error.code() == Code::Uncertain, Ordering::SeqCst);
            }
            Err(error) => return error.code(),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn takes(lock: &Lock) -> bool {
    ends(|| lock.acquire(Wait::For(PATIENCE), None)) == Code::Ok
}

/// Lost, too, is an end: the background may have been the one that found the hold.
fn gives(lock: &Lock) -> bool {
    matches!(ends(|| lock.release()), Code::Ok | Code::Lost)
}

/// The handles, by the call that was uncertain.
struct Handles {
    released: Lock,
    refreshed: Lock,
    asked: Lock,
}

impl Handles {
    fn new(store: &Store) -> Self {
        let lock = |name| {
            let mut options = store.defaults().clone();
            (options.ttl, options.renew) = (Some(LEASE), Some(false));
            store.lock_with(name, options).expect("a lock")
        };
        Handles {
            released: lock("released"),
            refreshed: lock("refreshed"),
            asked: lock("asked"),
        }
    }

    /// The last one's ghost is left behind: nobody can free it until the weather is fine.
    fn become_uncertain(&self, more: &More) -> bool {
        // The server knows the scripts, and there is a connection.
        let known = takes(&self.asked) && gives(&self.asked);
        let released = more.lose_reply_of(&self.released, true, Lock::release);
        more.set(HEAL);
        let refreshed = more.lose_reply_of(&self.refreshed, true, |lock| lock.refresh(None));
        more.set(HEAL);
        known && released && refreshed && more.lose_reply_of(&self.asked, false, Lock::try_acquire)
    }

    /// What they are, in the parent.
    fn are_as_they_were(&self) -> bool {
        [&self.released, &self.refreshed, &self.asked].map(Lock::state)
            == [State::Releasing, State::Held, State::Idle]
    }

    /// Each ends as it would have without a fork, and works again: 0, or a number for what does not.
    fn go_on(&self) -> i32 {
        if ends(|| self.refreshed.refresh(None)) != Code::Ok {
            return 10;
        }
        if !gives(&self.released) || !gives(&self.refreshed) {
            return 11;
        }
        let handles = [&self.released, &self.refreshed, &self.asked];
        let fails = |lock: &&Lock| !takes(lock) || !gives(lock);
        let failed = (12..).zip(handles).find(|(_, lock)| fails(lock));
        failed.map_or(0, |(number, _)| number)
    }
}

fn parent(url: &str, behind: &str, fate: Fate, more: &More) -> i32 {
    let others = sockets();
    let store = Store::open(behind).expect("a store");
    let handles = Handles::new(&store);
    // On a connection that nobody resets.
    let direct = Store::open(url).expect("a store");
    let (held, idle) = (leased(&direct, "x", LEASE), leased(&direct, "idle", LEASE));
    if !takes(&held) || !handles.become_uncertain(more) || !handles.are_as_they_were() {
        return 3;
    }
    let mine: Vec<_> = sockets()
        .into_iter()
        .filter(|(name, fd)| !others.contains_key(name) && is_connected(*fd))
        .map(|(name, _)| name)
        .collect();
    let pid = fork(|| {
        let keeps_none = || connections(|name| mine.iter().any(|one| one == name)) == 0;
        let is_apart = keeps_none()
            && [&handles.released, &handles.refreshed, &held]
                .into_iter()
                .all(is_forked)
            && keeps_none();
        more.child_is_apart.store(is_apart, Ordering::SeqCst);
        more.child_has_looked.store(true, Ordering::SeqCst);
        // An acquire that was uncertain has left its handle idle. Its ghost goes with the parent's release.
        IS_UNSURE.store(false, Ordering::SeqCst);
        let works = until(&more.is_healed) && takes(&handles.asked) && gives(&handles.asked);
        if IS_UNSURE.load(Ordering::SeqCst) {
            std::thread::sleep(LINGERS);
        }
        if !works {
            return 9;
        }
        let (released, idle) = (copy(&handles.released), copy(&idle));
        child(fate, released, idle, direct.clone(), &more.page)
    });
    if !until(&more.child_has_looked) {
        return 4;
    }
    more.set(HEAL);
    more.is_healed.store(true, Ordering::SeqCst);
    if !until(&more.page.child_done) {
        return 5;
    }
    if !meets_its_fate(pid, fate) {
        return 6;
    }
    if !handles.are_as_they_were() {
        return 7;
    }
    if held.ensure_held().is_err() || held.release().is_err() {
        return 8;
    }
    handles.go_on()
}

/// The port in a URL of a store on this host.
fn port(url: &str) -> &str {
    let place = url.split("127.0.0.1:").nth(1).expect("a port");
    let end = place.find(|one: char| !one.is_ascii_digit());
    &place[..end.unwrap_or(place.len())]
}

fn round(url: &str, fate: Fate, tally: &mut Tally) {
    // SAFETY: atomics, for which zero is a value.
    let more = unsafe { SharedPage::<More>::new() };
    let proxy = Proxy::start(port(url).parse().expect("a port"));
    let behind = url.replace(port(url), &proxy.port().to_string());
    let behind = behind.replace("io_timeout=20000", HASTE);
    let pid = fork(|| parent(url, &behind, fate, &more));
    let status = loop {
        if let Some(status) = wait_for(pid, Duration::ZERO) {
            break status;
        }
        let weather = more.weather.load(Ordering::SeqCst);
        match weather {
            0 => {}
            HEAL => proxy.heal(),
            reply => proxy.fail(reply, Fault::Reset),
        }
        if weather != 0 {
            more.weather.store(0, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    more.page.over.store(true, Ordering::SeqCst);
    let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
    tally.rounds += 1;
    tally.crashed += u32::from(status != 0);
    if status != 0 {
        tally.slowest = Duration::from_secs(status.unsigned_abs().into());
    }
    tally.wrong_in_child += u32::from(!is(&more.page.child_is_right) || !is(&more.child_is_apart));
    let store = Store::open(url).expect("a store");
    let is_free = |name: &str| {
        let is_free = store.lock(name).is_ok_and(|lock| takes(&lock));
        if !is_free {
            eprintln!("# {fate:?}, status {status}: {:?}", store.inspect(name));
        }
        is_free
    };
    let all_free = ["released", "refreshed", "asked"].into_iter().all(is_free);
    tally.late += u32::from(!all_free);
}

/// Every fate but the parent's own end, with which what it was to see through is left to the leases.
pub(super) fn on(kind: &str, url: &str, rounds: usize, verdict: &mut Verdict) {
    for fate in FATES {
        if fate == Fate::OutlivesParent {
            continue;
        }
        let mut tally = Tally::default();
        (0..rounds).for_each(|_| round(url, fate, &mut tally));
        tally.claim(&format!("{kind}, uncertain:"), fate, verdict);
    }
}
