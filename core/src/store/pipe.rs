//! Requests of event loops, many under way on one connection: each is written when it is made, and answers are
//! read as they come.

use crate::lease::BootTime;
use crate::signal::Signal;
use crate::store::poller::Poller;
use crate::store::{Answer, Attempt, Claim};
use crate::{Error, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Which verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// An attempt that leaves nothing behind.
    Try,
    /// An attempt that queues.
    Queue,
    /// As `Backend::confirm`.
    Confirm,
    /// A release.
    Release,
}

/// What came of a request.
#[derive(Debug)]
pub enum Arrived {
    /// The answer to an attempt.
    Attempt(Result<Attempt>),
    /// The answer to a release.
    Answer(Result<Answer>),
    /// To be asked for in the ordinary way, on a thread that may block. The server did nothing; or the reply
    /// was lost of what may have been carried out, which had until then.
    Unserved(Option<BootTime>),
}

impl Arrived {
    /// The answer to this request, where there was trouble only.
    pub fn trouble(ask: Ask, error: Error) -> Self {
        match ask {
            Ask::Release => Arrived::Answer(Err(error)),
            Ask::Try | Ask::Queue | Ask::Confirm => Arrived::Attempt(Err(error)),
        }
    }
}

/// Called once, on the thread that reads: the store's service thread, or a loop of the host, which must not be
/// blocked.
pub type Then = Box<dyn FnOnce(Arrived) + Send>;

/// A request.
pub struct Letter {
    /// Which verb.
    pub ask: Ask,
    /// For whom.
    pub claim: Claim,
    /// Who is to be woken, of one who queues.
    pub bell: Option<Arc<Signal>>,
    /// The loop that asks, if it reads answers itself.
    pub poller: Option<Arc<Poller>>,
    /// Who is to be told.
    pub then: Then,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter")
            .field("ask", &self.ask)
            .finish_non_exhaustive()
    }
}

/// What whoever reads has to watch.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The socket.
    pub fd: RawFd,
    /// Answers are to be read.
    pub reads: bool,
    /// Something was asked since the last look.
    pub is_used: bool,
    /// Something waits to be written.
    pub writes: bool,
    /// When to look again unasked, at the latest.
    pub until: Option<BootTime>,
}

/// The pipelined connection of a store; written by any thread, opened and closed by the store's service thread
/// alone. A loop of the host reads it, if one does; the service thread reads if none does, or it is late.
pub trait Pipe {
    /// Connects, if need be, and for one who `queues` listens for wake-ups; blocks.
    ///
    /// # Errors
    /// As any verb.
    fn open(&self, queues: bool) -> Result<()>;

    /// Whether that is done.
    fn is_open(&self, queues: bool) -> bool;

    /// Sends without blocking; true if the reader must look what it has to watch. Whoever is refused asks in
    /// the ordinary way.
    ///
    /// # Errors
    /// The letter, if there is no connection, or this cannot be asked over it.
    fn send(&self, letter: Box<Letter>) -> std::result::Result<bool, Box<Letter>>;

    /// Reads and writes what can be without blocking, and tells whom the answers are for. After trouble all
    /// that was under way is `Unserved`, and there is no connection.
    fn pump(&self);

    /// Reads for the loop that watches the connection, and tells whom the answers are for; true if the service
    /// thread must look what it has to watch, to which trouble is left.
    fn read_by(&self, poller: &Arc<Poller>) -> bool;

    /// Writes what was held back; true if the service thread must look what it has to watch.
    fn flush(&self) -> bool;

    /// What to watch, while there is a connection.
    fn watched(&self) -> Option<Watched>;

    /// Closes the connection, unless something is under way.
    fn close(&self) -> bool;

    /// Asks again what was `lost`, in the ordinary way; blocks.
    fn repeat(&self, ask: Ask, claim: &Claim, bell: Option<&Arc<Signal>>) -> Arrived;

    /// How many operations are on their way to the service thread: what comes after them must not overtake
    /// them.
    fn ahead(&self) -> &AtomicUsize;
}
