//! Where word is left that a waiter should look again.

use crate::fork::{self, PerProcess, ProcessFd};
use crate::lease::BootTime;
use crate::sync::Mutex;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

/// Why a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Somebody left word.
    Signalled,
    /// The time came.
    Elapsed,
    /// A signal handler of the host ran.
    Interrupted,
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// One waiter's bell: rung from any thread, heard by one. A ring before the sleep is not lost.
pub struct Signal {
    word: AtomicU32,
    /// Of this process: what a child inherits of it is a number that may be somebody else's by then.
    fd: PerProcess<ProcessFd>,
    hook: Option<Hook>,
    also: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal")
            .field("rung", &self.word.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signal {
    /// A bell for a thread that sleeps on it.
    pub fn new() -> Self {
        Signal {
            word: AtomicU32::new(0),
            fd: PerProcess::new(),
            hook: None,
            also: Mutex::new(None),
        }
    }

    /// A bell that calls `hook` from the ringing thread; the hook must be short and take no lock
    /// that a store may hold.
    pub fn with_hook(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Signal {
            hook: Some(Box::new(hook)),
            ..Self::new()
        }
    }

    /// Whether a hook hears this bell, so that nobody sleeps on it.
    pub fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Calls `hook` too, in place of the last one: for a store whose sleepers sleep elsewhere.
    pub fn also(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.also.lock() = Some(Arc::new(hook));
    }

    /// Leaves word.
    pub fn ring(&self) {
        if self.word.swap(1, Ordering::SeqCst) == 0 {
            // SAFETY: wakes sleepers on a word that lives as long as `self`.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.word.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                )
            };
            // Against `fd`, which makes the descriptor and then looks at the word.
            fence(Ordering::SeqCst);
            if let Some(fd) = self.fd.get() {
                let one = 1u64;
                // SAFETY: writes eight bytes to an eventfd of ours.
                unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
            }
            if let Some(hook) = &self.hook {
                hook();
            }
            let also = self.also.lock().clone();
            if let Some(also) = also {
                also();
            }
        }
    }

    /// Takes the word, if there is one.
    pub fn take(&self) -> bool {
        if !self.is_rung() {
            return false;
        }
        // In this order: what rings after the word is taken makes the descriptor readable.
        self.hush();
        self.word.swap(0, Ordering::SeqCst) != 0
    }

    /// Makes the descriptor unreadable. It may have become readable after the word was taken, by the ring that left
    /// it; whoever found it so looks for word once more afterwards.
    pub fn hush(&self) {
        if let Some(fd) = self.fd.get() {
            let mut count = 0u64;
            // SAFETY: reads eight bytes from a non-blocking eventfd of ours.
            unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
    }

    /// Whether there is word, without taking it.
    pub fn is_rung(&self) -> bool {
        self.word.load(Ordering::SeqCst) != 0
    }

    /// A descriptor that is readable while there is word, for waiters that also watch a socket.
    ///
    /// # Errors
    /// `Exhausted` if there is no descriptor to be had.
    pub fn fd(&self) -> crate::Result<RawFd> {
        if let Some(fd) = self.fd.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = self.fd.get_or_try_init(fork::eventfd)?.as_raw_fd();
        fence(Ordering::SeqCst);
        if self.is_rung() {
            let one = 1u64;
            // SAFETY: writes eight bytes to an eventfd of ours.
            unsafe { libc::write(fd, (&raw const one).cast(), 8) };
        }
        Ok(fd)
    }

    /// Sleeps until there is word (and takes it), until `until`, or until a signal handler ran.
    pub fn sleep(&self, until: BootTime) -> Wake {
        loop {
            if self.take() {
                return Wake::Signalled;
            }
            let left = until.left();
            if left.is_zero() {
                return Wake::Elapsed;
            }
            if self.futex_wait(left) == Some(libc::EINTR) {
                return if self.take() {
                    Wake::Signalled
                } else {
                    Wake::Interrupted
                };
            }
        }
    }

    fn futex_wait(&self, left: Duration) -> Option<i32> {
        let time = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(left.subsec_nanos()),
        };
        // SAFETY: the word lives as long as `self`, and `time` as long as the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                0,
                &raw const time,
            )
        };
        (done < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Whether the descriptor becomes readable in time.
    fn waits(fd: RawFd) -> bool {
        let mut polled = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut polled, 1, 20_000) > 0 }
    }

    #[test]
    fn what_rings_while_the_word_is_taken_is_heard() {
        const RINGS: u32 = 60_000;
        let (signal, rung, ends) = (Signal::new(), AtomicU32::new(0), AtomicBool::new(false));
        let fd = signal.fd().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for ring in 1..=RINGS {
                    rung.store(ring, Ordering::SeqCst);
                    signal.ring();
                    // Until it is heard, now and then: that is when the waiter goes back to sleep.
                    while ring % 4 == 0 && signal.is_rung() && !ends.load(Ordering::SeqCst) {
                        std::hint::spin_loop();
                    }
                }
            });
            let mut seen = 0;
            while seen < RINGS {
                let is_heard = waits(fd);
                ends.store(!is_heard, Ordering::SeqCst);
                assert!(is_heard, "no word after {seen}");
                if !signal.take() {
                    signal.hush();
                }
                seen = rung.load(Ordering::SeqCst);
            }
        });
    }
}
