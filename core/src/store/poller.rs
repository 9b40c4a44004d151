//! What an event loop of the host polls: a bell of its own, and the pipelined connections whose answers it reads,
//! so that no other thread is woken for them.

use crate::fork::{self, ProcessFd};
use crate::service::{self, Place};
use crate::store::Backend;
use crate::store::pipe::Pipe;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

/// Nothing is held back; something is; and the host knows.
const NOTHING: u8 = 0;
const HELD: u8 = 1;
const TOLD: u8 = 2;

/// One event loop's set of descriptors. Usable from any thread; belongs to the process that made it.
pub struct Poller {
    set: ProcessFd,
    bell: ProcessFd,
    /// Stores with a connection that this loop may read.
    stores: Mutex<Vec<Weak<dyn Backend>>>,
    /// Whether requests may wait for `flush`, so that those of one turn of the loop are written together.
    gathers: bool,
    owes: AtomicU8,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller")
            .field("fd", &self.fd())
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// For a loop that calls `read` when the descriptor is readable; and, if it `gathers`, `flush` at the end of a
    /// turn for which `owes` was true.
    ///
    /// # Errors
    /// `Exhausted` if there is no descriptor to be had.
    pub fn new(gathers: bool) -> Result<Self> {
        let poller = Poller {
            set: fork::epoll()?,
            bell: fork::eventfd()?,
            stores: Mutex::default(),
            gathers,
            owes: AtomicU8::new(NOTHING),
        };
        if poller.add(poller.bell.as_raw_fd()) {
            Ok(poller)
        } else {
            let error = std::io::Error::last_os_error();
            Err(Error::from_io(error, "no descriptor for an event loop"))
        }
    }

    /// Readable after a ring, and when an answer has arrived.
    pub fn fd(&self) -> RawFd {
        self.set.as_raw_fd()
    }

    /// Whether this is the process that made it.
    pub fn is_ours(&self) -> bool {
        self.set.is_ours()
    }

    /// Makes the descriptor readable, until `quiet`.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that lives as long as `self`.
        unsafe { libc::write(self.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes the ring back.
    pub fn quiet(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes from a non-blocking eventfd of ours.
        unsafe { libc::read(self.bell.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    /// Reads the answers that have arrived, and tells whom they are for; never blocks.
    pub fn read(self: &Arc<Self>) {
        self.each(|pipe| pipe.read_by(self));
    }

    /// Writes what was held back.
    pub fn flush(self: &Arc<Self>) {
        self.owes.store(NOTHING, Ordering::Release);
        self.each(|pipe| pipe.flush());
    }

    /// Whether requests are held back, and nobody was told of it yet.
    pub fn owes(&self) -> bool {
        self.owed(HELD, TOLD)
    }

    /// Rings for the service thread of a store where the answer is true.
    fn each(&self, ask: impl Fn(&dyn Pipe) -> bool) {
        if !self.is_ours() {
            return;
        }
        let mut at = 0;
        // One by one: whoever is told may begin something on another store.
        loop {
            let Some(store) = self.stores.lock().get(at).map(Weak::upgrade) else {
                return;
            };
            at += 1;
            if let Some(store) = store
                && store.pipe().is_some_and(&ask)
            {
                service::ring(Place::of_far(&store));
            }
        }
    }

    /// This loop may read the answers of the store.
    pub(crate) fn know(&self, backend: &Arc<dyn Backend>) {
        let mut stores = self.stores.lock();
        let known = Arc::downgrade(backend);
        if !stores.iter().any(|store| store.ptr_eq(&known)) {
            stores.retain(|store| store.strong_count() > 0);
            stores.push(known);
        }
    }

    /// Whether a request may wait for those that follow it in this turn of the loop.
    pub(crate) fn holds_back(&self) -> bool {
        if self.gathers {
            self.owed(NOTHING, HELD);
        }
        self.gathers
    }

    fn owed(&self, from: u8, to: u8) -> bool {
        let (done, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        self.owes.compare_exchange(from, to, done, failed).is_ok()
    }

    /// Watches a connection; false if that cannot be.
    pub(crate) fn add(&self, fd: RawFd) -> bool {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        let set = self.set.as_raw_fd();
        // In a child the set would be the parent's.
        // SAFETY: `event` is valid during the call.
        self.is_ours()
            && unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &raw mut event) } == 0
    }

    /// No longer; before it is closed.
    pub(crate) fn remove(&self, fd: RawFd) {
        if self.is_ours() {
            let set = self.set.as_raw_fd();
            // SAFETY: no pointer is used.
            unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
        }
    }
}
