//! Tells of sessions that end. One thread of the process hears of it for all whose holders listen; it takes
//! nothing from the sessions, so that whoever speaks over one is not disturbed.

use crate::fork::ProcessFd;
use crate::service::spawn_quiet;
use crate::signal::Signal;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};

/// How long the thread stays when it listens to no session.
const LINGER_MS: libc::c_int = 10_000;

/// The end of one session, and whom it concerns.
#[derive(Debug)]
pub(super) struct End {
    fd: RawFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    has_come: bool,
    bells: Vec<Weak<Signal>>,
    /// And under which number.
    heard_by: Option<(Arc<Alarms>, u64)>,
}

impl End {
    pub fn of(fd: RawFd) -> Arc<Self> {
        Arc::new(End {
            fd,
            state: Mutex::default(),
        })
    }

    pub fn has_come(&self) -> bool {
        self.state.lock().has_come
    }

    /// Rings for everybody. Before the session's descriptor is closed: its number may be another's then.
    pub fn comes(&self) {
        let bells = {
            let mut state = self.state.lock();
            state.has_come = true;
            if let Some((alarms, number)) = state.heard_by.take() {
                alarms.ignore(self.fd, number);
            }
            std::mem::take(&mut state.bells)
        };
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }

    /// Has the bell rung once it comes; at once if it has.
    pub fn tell(self: &Arc<Self>, alarms: &Arc<Alarms>, bell: &Arc<Signal>) {
        let mut state = self.state.lock();
        if !state.has_come {
            let is_it = |one: &Weak<Signal>| std::ptr::eq(one.as_ptr(), Arc::as_ptr(bell));
            state
                .bells
                .retain(|one| one.strong_count() > 0 && !is_it(one));
            state.bells.push(Arc::downgrade(bell));
            // Under the lock: the descriptor is open as long as the end has not come.
            if state.heard_by.is_some() {
                return;
            }
            if let Ok(number) = alarms.listen(self.fd, self) {
                state.heard_by = Some((alarms.clone(), number));
                return;
            }
        }
        drop(state);
        bell.ring();
    }
}

/// What the thread listens to.
#[derive(Debug)]
pub(super) struct Alarms {
    ear: ProcessFd,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    runs: bool,
    /// By numbers that are used once: a descriptor's may be another session's by the time that its end is told.
    ends: HashMap<u64, Weak<End>>,
    last: u64,
}

impl Heard {
    /// Those that have come, as far as they still are listened to.
    fn take(&mut self, come: impl Iterator<Item = u64>) -> Vec<Arc<End>> {
        come.filter_map(|number| self.ends.remove(&number)?.upgrade())
            .collect()
    }
}

impl Alarms {
    pub fn new() -> Result<Arc<Self>> {
        // SAFETY: no pointers; the descriptor is owned below.
        let ear = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if ear < 0 {
            let error = std::io::Error::last_os_error();
            return Err(Error::from_io(error, "no descriptor for those who hold"));
        }
        // SAFETY: just made, owned by nobody else.
        let ear = ProcessFd::new(unsafe { OwnedFd::from_raw_fd(ear) });
        Ok(Arc::new(Alarms {
            ear,
            heard: Mutex::default(),
        }))
    }

    fn listen(self: &Arc<Self>, fd: RawFd, end: &Arc<End>) -> Result<u64> {
        let mut heard = self.heard.lock();
        if !heard.runs {
            let alarms = self.clone();
            spawn_quiet("synlock-advisory", move || alarms.run())?;
            heard.runs = true;
        }
        heard.last += 1;
        let number = heard.last;
        heard.ends.insert(number, Arc::downgrade(end));
        // Not what it says, which is for whoever asked.
        let mut event = libc::epoll_event {
            events: (libc::EPOLLRDHUP | libc::EPOLLONESHOT) as u32,
            u64: number,
        };
        // SAFETY: both descriptors are open, and `event` is valid during the call.
        let done = unsafe {
            libc::epoll_ctl(
                self.ear.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd,
                &raw mut event,
            )
        };
        if done < 0 {
            heard.ends.remove(&number);
            let error = std::io::Error::last_os_error();
            return Err(Error::from_io(error, "a session cannot be listened to"));
        }
        Ok(number)
    }

    fn ignore(&self, fd: RawFd, number: u64) {
        self.heard.lock().ends.remove(&number);
        // SAFETY: takes no pointer; a descriptor that is not there is an error that does not matter.
        unsafe {
            libc::epoll_ctl(
                self.ear.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd,
                std::ptr::null_mut(),
            )
        };
    }

    fn run(&self) {
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
            // SAFETY: as many valid events as are said.
            let count = unsafe {
                libc::epoll_wait(
                    self.ear.as_raw_fd(),
                    events.as_mut_ptr(),
                    events.len() as libc::c_int,
                    LINGER_MS,
                )
            };
            let come: Vec<Arc<End>> = {
                let mut heard = self.heard.lock();
                if count == 0 && heard.ends.is_empty() {
                    heard.runs = false;
                    return;
                }
                let count = usize::try_from(count).unwrap_or(0);
                let come = events.iter().take(count).map(|event| event.u64);
                heard.take(come)
            };
            come.iter().for_each(|end| end.comes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_end_that_is_told_late_is_not_the_next_sessions() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let alarms = Alarms::new().unwrap();
        let bells: [Arc<Signal>; 2] = Default::default();
        let old = End::of(ours.as_raw_fd());
        old.tell(&alarms, &bells[0]);
        let number = alarms.heard.lock().last;
        // The session goes, and the next one gets its descriptor; the thread has an event of the first.
        old.comes();
        let new = End::of(ours.as_raw_fd());
        new.tell(&alarms, &bells[1]);
        assert!(alarms.heard.lock().take([number].into_iter()).is_empty());
        assert!(old.has_come() && !new.has_come());
        assert!(bells[0].is_rung() && !bells[1].is_rung());
    }

    #[test]
    fn who_listens_hears_of_an_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let alarms = Alarms::new().unwrap();
        let bell: Arc<Signal> = Arc::default();
        let end = End::of(ours.as_raw_fd());
        end.tell(&alarms, &bell);
        drop(theirs);
        while !bell.is_rung() {
            std::thread::yield_now();
        }
        assert!(end.has_come());
    }
}
