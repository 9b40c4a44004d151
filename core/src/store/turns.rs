//! One connection on which wake-ups arrive for many threads of a process that wait.
//!
//! Whichever of them finds the reader's place free reads for all; when it leaves, it tells one of the
//! others.

use crate::Result;
use crate::fork::{self, ProcessFd};
use crate::lease::BootTime;
use crate::signal::{Signal, Wake};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Readable while the reader's place is free and somebody should take it.
#[derive(Debug)]
pub(super) struct Vacancy(ProcessFd);

/// Whether a sleep goes on after what was read.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    Sleep,
    Leave,
}

impl Vacancy {
    pub fn new() -> Result<Self> {
        fork::eventfd().map(Vacancy)
    }

    /// Sleeps on the bell, and reads for everybody if nobody else does: `take` tries for the place,
    /// and gives it with the descriptor to listen on (negative while there is none).
    pub fn park<P>(
        &self,
        bell: &Arc<Signal>,
        until: BootTime,
        take: impl Fn() -> Option<(P, RawFd)>,
        mut read: impl FnMut(P) -> Next,
    ) -> Result<Wake> {
        let own = bell.fd()?;
        // Whether nobody would read, were it not for this thread.
        let mut is_reader = false;
        let signalled_or = |wake| if bell.take() { Wake::Signalled } else { wake };
        let wake = loop {
            if bell.take() {
                break Wake::Signalled;
            }
            let left = until.left();
            if left.is_zero() {
                break Wake::Elapsed;
            }
            let place = take();
            is_reader = place.is_some();
            let other = place.as_ref().map_or(self.0.as_raw_fd(), |(_, fd)| *fd);
            let ready = poll([own, other], left);
            if ready == Err(libc::EINTR) {
                // Free before anybody is told of it.
                drop(place);
                break signalled_or(Wake::Interrupted);
            }
            let [is_rung, has_come] = ready.unwrap_or_default();
            if is_rung {
                bell.hush();
            }
            let next = match place {
                Some((place, _)) if has_come => read(place),
                None if has_come => {
                    self.drain();
                    is_reader = true;
                    Next::Sleep
                }
                _ => Next::Sleep,
            };
            if next == Next::Leave {
                break signalled_or(Wake::Elapsed);
            }
        };
        if is_reader {
            self.announce();
        }
        Ok(wake)
    }

    /// Tells one of those who sleep that nobody reads.
    fn announce(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that lives as long as `self`.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    fn drain(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes from a non-blocking eventfd that lives as long as `self`.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

fn poll(fds: [RawFd; 2], left: Duration) -> std::result::Result<[bool; 2], libc::c_int> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let ms = left.min(Duration::from_secs(1)).as_micros().div_ceil(1000) as libc::c_int;
    // SAFETY: two valid pollfds; a negative descriptor is passed over.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, ms) };
    if ready < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(polled.map(|fd| fd.revents != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn soon() -> BootTime {
        BootTime::now().after(Duration::from_millis(60))
    }

    fn is_announced(vacancy: &Vacancy) -> bool {
        let ready = poll([vacancy.0.as_raw_fd(), -1], Duration::ZERO);
        ready.unwrap()[0]
    }

    /// Its word is taken between the two steps of a ring.
    #[test]
    fn a_bell_that_is_readable_without_word_does_not_keep_a_thread_busy() {
        let (vacancy, bell) = (Vacancy::new().unwrap(), Arc::new(Signal::new()));
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that lives as long as `bell`.
        unsafe { libc::write(bell.fd().unwrap(), (&raw const one).cast(), 8) };
        let looks = Cell::new(0);
        let take = || {
            looks.set(looks.get() + 1);
            Some(((), -1))
        };
        let wake = vacancy.park(&bell, soon(), take, |()| Next::Sleep);
        assert_eq!(wake.unwrap(), Wake::Elapsed);
        assert!(looks.get() < 8, "{} looks", looks.get());
    }

    #[test]
    fn who_takes_the_word_of_a_vacancy_hands_it_on() {
        let (vacancy, bell) = (Vacancy::new().unwrap(), Arc::new(Signal::new()));
        bell.fd().unwrap();
        let take = || {
            vacancy.announce();
            bell.ring();
            None
        };
        let wake = vacancy.park(&bell, soon(), take, |()| Next::Sleep);
        assert_eq!(wake.unwrap(), Wake::Signalled);
        assert!(is_announced(&vacancy));
    }

    #[test]
    fn who_has_read_tells_of_it() {
        let (vacancy, bell) = (Vacancy::new().unwrap(), Arc::new(Signal::new()));
        let take = || Some(((), -1));
        vacancy.park(&bell, soon(), take, |()| Next::Sleep).unwrap();
        assert!(is_announced(&vacancy));
    }
}
