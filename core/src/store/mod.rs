//! The store contract: what a backend must answer, atomically, so that everything else can be
//! written once on top of it.
//!
//! A backend answers one question: *may this owner hold this resource in this mode now?* It never
//! loops and never waits for a lock to come free; `deadline` bounds every exchange with a server.
//! See `README.md` beside this file for how to add one.

use crate::capability::Capabilities;
use crate::lease::BootTime;
use crate::lock::DEFAULT_LEASE;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::{Brand, OwnerToken};
use crate::signal::{Signal, Wake};
use crate::{Error, Result};
use std::fmt::Debug;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub mod advisory;
#[cfg(all(any(feature = "flock", feature = "shm"), not(loom)))]
mod boot;
#[cfg_attr(
    not(all(
        feature = "flock",
        feature = "shm",
        feature = "sysv",
        feature = "redis"
    )),
    allow(dead_code, unused_imports, reason = "each needs a part of it")
)]
mod cautions;
mod check;
pub mod custom;
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[allow(
    dead_code,
    reason = "the tables and the advisory locks use different parts of it"
)]
mod db;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(
    feature = "sysv",
    all(any(feature = "flock", feature = "shm", feature = "sqlite"), not(loom))
))]
#[cfg_attr(
    not(any(feature = "flock", feature = "shm")),
    allow(dead_code, reason = "others need a part of it")
)]
mod files;
#[cfg(feature = "flock")]
pub mod flock;
#[cfg(any(feature = "etcd", feature = "zookeeper"))]
mod line;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod making;
#[cfg(feature = "memcached")]
pub mod memcached;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(any(
    feature = "redis",
    feature = "memcached",
    feature = "postgres",
    feature = "mysql",
    feature = "zookeeper",
    feature = "etcd"
))]
mod net;
pub mod null;
pub mod pipe;
#[cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "its connections are what loops read")
)]
pub mod poller;
pub mod quorum;
#[cfg(feature = "redis")]
pub mod redis;
mod seat;
#[cfg(any(feature = "flock", feature = "shm"))]
mod segment;
#[cfg(feature = "shm")]
pub mod shm;
#[cfg(all(
    any(feature = "sqlite", feature = "postgres", feature = "mysql"),
    not(loom)
))]
pub mod sql;
#[cfg(feature = "sysv")]
pub mod sysv;
#[cfg(all(feature = "shm", not(loom)))]
pub mod tiered;
#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
mod turns;
#[cfg(any(
    feature = "redis",
    feature = "sqlite",
    feature = "postgres",
    feature = "mysql"
))]
mod watches;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

pub use check::Check;
#[cfg(all(feature = "fuzz", feature = "mysql"))]
pub use db::read_mysql_noise;
#[cfg(all(feature = "fuzz", feature = "postgres"))]
pub use db::read_postgres_noise;
pub use seat::Seat;

/// One owner's wish, and later its hold. The same value goes through every verb of one hold's life.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The resource.
    pub name: Name,
    /// Who asks. On a store whose [`Tokens`] wait it may not have been drawn.
    pub token: OwnerToken,
    /// The token, or the heir's to whom this is handed over, may be that of a later hold, too, of this process or
    /// another. So a request for it is not sent again once it may have been carried out, unless the store tells that
    /// hold from later ones, and nothing is sent after the call, nor after `deadline`; nothing is noted of it, and an
    /// heir in place is no answer of its own.
    pub recurs: bool,
    /// In which way.
    pub mode: Mode,
    /// How long the store keeps the hold without a refresh; `None` on stores that see their
    /// owner die.
    pub ttl: Option<Duration>,
    /// Until when an exchange with a server may take. A backend also keeps its own I/O timeout.
    pub deadline: Option<BootTime>,
    /// How many fencing tokens to reserve, for stores built on others; 1 otherwise.
    pub fence_block: u32,
    /// What the last of them must be at least, for stores built on others that [raise](Backend::raises_fences)
    /// theirs; 0 otherwise.
    pub fence_least: u64,
    /// Words for whoever inspects the lock.
    pub label: Option<Arc<str>>,
    /// First come, first served; otherwise a newcomer may take a free lock before those who wait.
    pub fair: bool,
    /// The time, read just before `attempt`, `confirm`, `cancel` or `extend`: leases count from it,
    /// and a store need not read the clock again. May be older in other verbs.
    pub asked: BootTime,
    /// Where the store keeps what it knows of the handle that asks.
    pub seat: Seat,
}

impl Claim {
    /// An exclusive one, asked now, of no handle.
    pub fn exclusive(name: Name, token: OwnerToken, ttl: Duration) -> Self {
        Claim {
            name,
            token,
            recurs: false,
            mode: Mode::Exclusive,
            ttl: Some(ttl),
            deadline: None,
            fence_block: 1,
            fence_least: 0,
            label: None,
            fair: true,
            asked: BootTime::now(),
            seat: Seat::none(),
        }
    }
}

/// When holds get their owner tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tokens {
    /// Before they are asked for.
    Drawn,
    /// When somebody wants to see one. Until then a claim has a number that no other of this process
    /// has, for stores that keep their holds in its memory.
    Numbered,
    /// The same, without a number, if the seat keeps: the store finds its holds there.
    Seated,
}

/// What a grant brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// When the hold ends unless refreshed, counted from *before* the winning request was sent.
    pub lease: Option<BootTime>,
    /// The fencing token; with a `fence_block` of n, the first of n.
    pub fence: Option<u64>,
    /// The previous owner died inside: what it protected may be half done.
    pub recovered: bool,
}

/// Why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Busy {
    /// When the holder's lease can end, if known.
    pub until: Option<BootTime>,
    /// When to ask again even if nobody rings; `None` leaves it to the safety poll.
    pub poll: Option<BootTime>,
    /// Something was granted and is being given back: the claim asks again with another token, lest that
    /// be done behind its back.
    pub spent: bool,
}

/// The answer to an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// The claim's owner holds the lock.
    Granted(Grant),
    /// It does not.
    Busy(Busy),
}

/// The answer to `extend` and `release`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was done. After `extend`: until when the hold is sure now.
    Done(Option<BootTime>),
    /// The lock is not this owner's any more.
    NotOurs,
}

/// Told once, on any thread, what came of a release that nobody waited for, if it is anything but done.
pub type Told = Box<dyn FnOnce(Result<Answer>) + Send>;

/// The answer to `cancel`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancelled {
    /// The claim waits no more and holds nothing.
    Gone,
    /// It had been granted before the cancel arrived; the caller holds it.
    Granted(Grant),
}

/// One holder as `inspect` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// First 8 digits of the owner token, or what the store has in its place.
    pub owner: String,
    /// `exclusive`, `shared` or `permits`.
    pub mode: &'static str,
    /// Permits held; 1 otherwise.
    pub permits: u32,
    /// Host, if known.
    pub host: Option<String>,
    /// Process, if known.
    pub pid: Option<u32>,
    /// Label of the claim, if it had one.
    pub label: Option<String>,
    /// Time left until the hold ends unless refreshed; `None` without a lease.
    pub remaining: Option<Duration>,
    /// For how long it has been held, if known.
    pub held: Option<Duration>,
    /// Its fencing token, if it has one.
    pub fence: Option<u64>,
    /// Of which quorum it is, if of one.
    pub brand: Option<Brand>,
}

/// Where the holders are, on a store of one host.
#[cfg(any(
    feature = "memory",
    feature = "shm",
    feature = "flock",
    feature = "sysv"
))]
pub(crate) fn this_host() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// A lock as `inspect` and `list` show it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inspection {
    /// The resource.
    pub name: Vec<u8>,
    /// Who holds it; empty if nobody does.
    pub holders: Vec<Holder>,
    /// How many wait, if the store knows.
    pub waiters: Option<u32>,
}

/// One page of `list`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Locks that are held, in no particular order.
    pub locks: Vec<Inspection>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
}

/// One life of a server that forgets at its end, or the only one of one that does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    /// Differs from that of every other life.
    pub id: String,
    /// How long it has lasted at least, by the server's own word.
    pub up: Duration,
    /// What the server's wall clock shows, where leases end by it: time since 1970.
    pub clock: Option<Duration>,
}

/// The least that has gone by between two readings of a clock of whole seconds, which show so many.
pub fn whole_seconds(shown: u64) -> Duration {
    Duration::from_secs(shown.saturating_sub(1))
}

/// What a store must be able to say. Every method may be called from several threads at once.
///
/// Errors: `Unavailable` if the request surely did not act, `Uncertain` if its reply was lost.
/// Within one call a backend may retry with the same token; asking again with a token that was
/// granted is a grant.
pub trait Backend: Send + Sync + Debug {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Its URL without credentials.
    fn url(&self) -> &str;

    /// Tells whether two stores hold the same locks: equal in every process and language that
    /// shares them.
    fn fingerprint(&self) -> String {
        self.url().to_owned()
    }

    /// Whether a lock that its owner did not release stays taken until the lease is over, so that a delay may follow:
    /// where it does not wait for that, the delay would be promised in vain.
    fn keeps_delays(&self) -> bool {
        let can = self.capabilities();
        can.ttl && (!can.frees_on_death || can.scope == crate::capability::Scope::Process)
    }

    /// Whether a claim may ask for several fencing tokens at once (`fence_block`).
    fn reserves_fences(&self) -> bool {
        self.capabilities().fence != crate::capability::Fence::None
    }

    /// Whether a claim may ask for tokens above others that the store does not know of (`fence_least`). A store
    /// whose counters may begin anew must: one that has, and draws a block instead that was to bring it as far, comes to
    /// tokens that it will not know of when it begins anew the next time.
    fn raises_fences(&self) -> bool {
        false
    }

    /// When holds get their owner tokens. A store whose tokens nobody else sees may let them wait:
    /// drawing one costs more than the rest, and most are never looked at.
    fn tokens(&self) -> Tokens {
        Tokens::Drawn
    }

    /// Gives a token that was drawn for this store what the store wants to be seen in it.
    fn brand(&self, token: OwnerToken) -> OwnerToken {
        token
    }

    /// What other hosts call it too: the fingerprint without what is this host's alone.
    fn identity(&self) -> String {
        self.fingerprint()
    }

    /// Whether every verb answers without waiting for anybody: a host may then keep its interpreter
    /// meanwhile.
    fn answers_at_once(&self) -> bool {
        false
    }

    /// Tells a store whose tokens wait the one of a hold, from now on; `before` is what it had.
    fn name_owner(&self, claim: &Claim, before: OwnerToken) {
        let _ = (claim, before);
    }

    /// Whether it may be asked on its callers' threads alone: nobody renews its leases in the
    /// background, and event loops are refused.
    fn is_caller_thread_only(&self) -> bool {
        false
    }

    /// Takes charge of a release whose fate is unknown; false leaves it to the background.
    fn release_later(&self, claim: &Claim) -> bool {
        let _ = claim;
        false
    }

    /// Whether a request that was cut off may be carried out after a release that was sent later and answered: the
    /// background then releases again and again. Not where the release is sure to come behind it: on the connection
    /// of the request, or after it has put an end to that connection or to what the request needs.
    fn may_be_late(&self) -> bool {
        false
    }

    /// The host that keeps it is going: nothing is asked of it any more.
    fn abandon(&self) {}

    /// Whether the store can have a lock of that name; asked when one is made.
    fn check_name(&self, name: &Name) -> Result<()> {
        let _ = name;
        Ok(())
    }

    /// Which life of its server this is, for stores that forget when the server ends or when its wall clock goes
    /// ahead; nothing on the others.
    fn life(&self, deadline: Option<BootTime>) -> Result<Option<Life>> {
        let _ = deadline;
        Ok(None)
    }

    /// Whether the store can keep a hold for so long; asked when a lock is made and refreshed.
    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        let _ = ttl;
        Ok(())
    }

    /// The lease of a hold for which none was asked, on a store that cannot do without.
    fn default_lease(&self) -> Duration {
        DEFAULT_LEASE
    }

    /// What is said to whoever asks for permits where there are none.
    fn why_no_permits(&self) -> &'static str {
        "this store has no permits"
    }

    /// Connects, and says whether the store can serve.
    fn ping(&self, deadline: Option<BootTime>) -> Result<()>;

    /// May the claim's owner hold the resource now?
    ///
    /// Without a bell, a busy answer leaves nothing behind. With one, the claim is queued (again
    /// with the same token: keeps its place) and the bell rings when it is worth asking again.
    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt>;

    /// Asks again after the bell rang: takes up a hand-over, or queues anew.
    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        self.attempt(claim, Some(bell))
    }

    /// Leaves the queue; one step with finding out whether the claim was granted meanwhile.
    fn cancel(&self, claim: &Claim) -> Result<Cancelled>;

    /// The next words about the place where it keeps its locks, each to be told once, before the first
    /// of them.
    fn first_caution(&self) -> Option<String> {
        None
    }

    /// The next words about its server, or what it has to do without, each to be told once; asked when
    /// somebody begins to wait, and of remote stores after each grant.
    fn take_caution(&self) -> Option<String> {
        None
    }

    /// Sleeps on the bell. A store whose wake-ups arrive on a socket reads it here.
    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        Ok(bell.sleep(until))
    }

    /// The socket on which wake-ups arrive, for an event loop that watches it instead of `park`;
    /// when it is readable, `pump` is due.
    fn pump_fd(&self) -> Option<RawFd> {
        None
    }

    /// Rings the bells of all wake-ups that have arrived; never blocks.
    fn pump(&self) {}

    /// The pipelined connection of event loops, of a store that has one.
    fn pipe(&self) -> Option<&dyn pipe::Pipe> {
        None
    }

    /// Lengthens the hold to `ttl` from now; never shortens it.
    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer>;

    /// Whether `extend_many` takes fewer exchanges than one for each.
    fn extends_together(&self) -> bool {
        false
    }

    /// Lengthens several holds, each as `extend` would: as many answers, in this order. What one is told is
    /// true of that one alone.
    fn extend_many(&self, claims: &[(&Claim, Duration)]) -> Vec<Result<Answer>> {
        let each = claims.iter();
        each.map(|(claim, ttl)| self.extend(claim, *ttl)).collect()
    }

    /// Ends the hold or the place in the queue, and hands a free lock on to the first that waits.
    fn release(&self, claim: &Claim) -> Result<Answer>;

    /// Whether releases may be sent without waiting for their answers.
    fn leaves_releases(&self) -> bool {
        false
    }

    /// As `release`, but returns once the request is written: the store sees to the answer, and that its own
    /// process finds the lock free from now on. Gives `told` back if nothing was sent, to be released in the
    /// ordinary way.
    fn release_unanswered(&self, claim: &Claim, told: Told) -> Option<Told> {
        let _ = claim;
        Some(told)
    }

    /// Reads the answers to such releases, and sees through what came to nothing: what has arrived, or, if it
    /// `waits`, all of them, for the time of one exchange. When to look again.
    fn collect(&self, waits: bool) -> Option<BootTime> {
        let _ = waits;
        None
    }

    /// Whether `attempt_many` and `release_many` take fewer exchanges than one for each.
    fn takes_together(&self) -> bool {
        false
    }

    /// Several attempts, each as `attempt` without a bell would be: as many answers, in this order. What one is
    /// told is true of that one alone: whoever wants all or none gives back what was granted.
    fn attempt_many(&self, claims: &[&Claim]) -> Vec<Result<Attempt>> {
        let each = claims.iter();
        each.map(|claim| self.attempt(claim, None)).collect()
    }

    /// Several releases, each as `release` would be: as many answers, in this order.
    fn release_many(&self, claims: &[&Claim]) -> Vec<Result<Answer>> {
        claims.iter().map(|claim| self.release(claim)).collect()
    }

    /// Turns a hold of `claim.mode` into one of `to`, or leaves it as it is and says `Busy`.
    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let _ = (claim, to);
        Err(Error::unsupported(
            "this store cannot change the mode of a hold",
        ))
    }

    /// Whether this owner's hold is over, by this process' own knowledge: the session that kept it has
    /// ended. Asks nobody, and once true stays so. For stores without leases whose holds end with a session.
    fn has_lost(&self, token: OwnerToken) -> bool {
        let _ = token;
        false
    }

    /// Rings the bell once when the claim's hold may be over without a release; at once if it is. A store
    /// that is never told of it does nothing.
    fn alarm(&self, claim: &Claim, bell: &Arc<Signal>) {
        let _ = (claim, bell);
    }

    /// Whether the claim's owner holds the lock at this moment, by the store's own word.
    fn is_held(&self, claim: &Claim) -> Result<bool>;

    /// Returns true as soon as nobody holds the name, false at `until`; takes nothing.
    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let _ = (name, until);
        Err(Error::unsupported(
            "this store cannot wait for a lock without taking it",
        ))
    }

    /// Whether `inspect` works: a store may tell of a lock that it is asked about, though it cannot list them.
    fn inspects(&self) -> bool {
        true
    }

    /// Who holds and how many wait.
    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let _ = (name, deadline);
        Err(Error::unsupported(
            "this store cannot tell who holds a lock",
        ))
    }

    /// The locks whose names begin with `prefix`, about `limit` at a time.
    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        let _ = (prefix, cursor, limit, deadline);
        Err(Error::unsupported("this store cannot list its locks"))
    }

    /// Takes the lock from whoever holds it; false if nobody did. The victim finds it lost.
    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let _ = (name, deadline);
        Err(Error::unsupported("this store cannot break locks"))
    }

    /// Leaves word of who broke a lock for its former holders, whose fencing tokens are `last` at most. Only
    /// where it cannot be a lock of its own, for want of leases to end it (decision 90).
    fn note_breaker(&self, name: &Name, label: &str, last: u64) -> Result<()> {
        let _ = (name, label, last);
        Ok(())
    }

    /// Label, pid and host of who broke the lock under the hold with this fencing token, if `note_breaker` left word.
    fn breaker(&self, name: &Name, fence: Option<u64>) -> Result<Option<Holder>> {
        let _ = (name, fence);
        Ok(None)
    }

    /// Looks for what dead users left in the store, and for what cannot be; changes nothing.
    fn check(&self) -> Result<Check> {
        Err(Error::unsupported("this store has no check of its own"))
    }

    /// Makes the table that the store keeps its locks in, if it is not there.
    fn create_table(&self, deadline: Option<BootTime>) -> Result<()> {
        let _ = deadline;
        Err(no_table())
    }

    /// The statements that make the table on an engine (`sqlite`, `postgres`, `mysql`), on the store's
    /// own if none is named.
    fn ddl(&self, engine: Option<&str>) -> Result<String> {
        let _ = engine;
        Err(no_table())
    }

    /// The same store as the session `id` has it, where rows have room for an owner's name: all holds
    /// bear the session's, whatever their tokens are, and its `adopt` takes over a hold of this store.
    fn as_session(&self, id: &str) -> Option<Arc<dyn Backend>> {
        let _ = id;
        None
    }

    /// Ends every hold of the session that this store belongs to, and says how many there were.
    fn release_session(&self, deadline: Option<BootTime>) -> Result<u64> {
        let _ = deadline;
        Err(Error::unsupported("this store is no session's"))
    }

    /// Before a hold is handed over: what is still under way for it comes to an end, or to nothing.
    fn settle(&self, claim: &Claim) {
        let _ = claim;
    }

    /// Makes `heir` the owner in place of `claim.token`; exactly one of several heirs wins.
    /// `Ok(None)` if the hold is not `claim.token`'s any more. A grant without a fencing token leaves the hold the
    /// one that it was handed over with.
    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let _ = (claim, heir);
        Err(Error::unsupported(
            "holds of this store cannot be handed to another process",
        ))
    }
}

fn no_table() -> Error {
    Error::unsupported("this store keeps its locks in no table")
}
