//! What each process has: the shared session, the table, and the sleepers' common ear.

use super::alarms::Alarms;
use super::config::Config;
use super::keys::Key;
use super::session::{Session, number};
use super::sql::{NO, Sql};
use super::table::{Hold, On, Table};
use crate::fork::ProcessFd;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::Claim;
use crate::store::turns::{Next, Vacancy};
use crate::sync::Mutex;
use crate::{Code, Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::time::Duration;

/// What the late answer of the shared session will be about.
#[derive(Debug)]
pub(super) enum Owed {
    /// `beside`: beside another hold of the same session.
    Try {
        key: Key,
        hold: Hold,
        beside: bool,
    },
    Unlock(Key, OwnerToken),
    Change(Key, OwnerToken),
    Nothing,
}

#[derive(Debug, Default)]
struct Shared {
    session: Option<Box<Session>>,
    owed: Option<Owed>,
    taken: bool,
}

#[derive(Debug)]
pub(super) struct Process {
    shared: std::sync::Mutex<Shared>,
    freed: Condvar,
    /// The session of a hold was put back, or is gone with it.
    returned: Condvar,
    pub table: Mutex<Table>,
    pub alarms: Arc<Alarms>,
    /// Readable when a session that waits has been answered.
    ear: ProcessFd,
    /// Whoever has it listens for all.
    listener: Mutex<()>,
    vacancy: Vacancy,
}

/// The use of the shared session, by one thread at a time.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    process: &'a Process,
    session: Option<Box<Session>>,
    pub owed: Option<Owed>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut shared = self.process.shared();
        shared.session = self.session.take();
        shared.owed = self.owed.take();
        shared.taken = false;
        drop(shared);
        self.process.freed.notify_one();
    }
}

impl Turn<'_> {
    /// The session, opened if there is none, with nothing owed.
    pub fn session(&mut self, config: &Config, limit: BootTime) -> Result<&mut Session> {
        if self.session.as_ref().is_some_and(|session| session.owes()) {
            self.settle(config, limit)?;
        }
        if !self
            .session
            .as_mut()
            .is_some_and(|session| session.is_fit())
        {
            self.lose();
        }
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(Box::new(Session::open(config, limit)?))),
        }
    }

    /// Takes in a late answer; an error if it is later still.
    fn settle(&mut self, config: &Config, limit: BootTime) -> Result<()> {
        let answer = self.session.as_mut().map(|session| session.settle(limit));
        match answer {
            None => {}
            // What the session holds it still holds.
            Some(Err(fault)) if fault.late => return Err(still_owed()),
            Some(Err(fault)) if fault.usable => match self.owed.take() {
                // The lock may have been taken before the token failed.
                Some(Owed::Try {
                    key,
                    hold,
                    beside: false,
                }) => self.undo(config, key, &hold, limit)?,
                Some(Owed::Change(key, token)) => {
                    self.process.table.lock().end_change(&key, token, NO);
                }
                _ => {}
            },
            Some(Err(_)) => self.lose(),
            Some(Ok(rows)) => self.take_in(number(&rows)),
        }
        Ok(())
    }

    fn undo(&mut self, config: &Config, key: Key, hold: &Hold, limit: BootTime) -> Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let sql = Sql::of(config, &key);
        let (text, mark) = (sql.unlock(hold.mode), session.mark().to_owned());
        match session.number(&text, &sql.params(&mark), limit) {
            Err(fault) if fault.late => {
                self.owed = Some(Owed::Unlock(key, hold.token));
                Err(still_owed())
            }
            Err(fault) if !fault.usable => {
                self.lose();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_in(&mut self, answer: i64) {
        let mut table = self.process.table.lock();
        match self.owed.take() {
            Some(Owed::Try { key, mut hold, .. }) if answer > NO => {
                hold.fence = hold.fence.and(u64::try_from(answer).ok());
                table.add(&key, hold);
            }
            Some(Owed::Unlock(key, token)) => drop(table.remove(&key, token)),
            Some(Owed::Change(key, token)) => table.end_change(&key, token, answer),
            _ => {}
        }
    }

    /// The session is gone, and with it what it held.
    pub fn lose(&mut self) {
        self.session = None;
        self.owed = None;
        self.process.table.lock().forget_shared();
    }
}

/// Until it is woken, a second at most: an error if the time is over.
fn sleep<'a>(
    until: &Condvar,
    shared: MutexGuard<'a, Shared>,
    limit: BootTime,
) -> Result<MutexGuard<'a, Shared>> {
    let left = limit.left();
    if left.is_zero() {
        return Err(Error::new(
            Code::Unavailable,
            "the server has not answered another thread of this process yet",
        ));
    }
    let woken = until.wait_timeout(shared, left.min(Duration::from_secs(1)));
    Ok(woken.unwrap_or_else(PoisonError::into_inner).0)
}

fn still_owed() -> Error {
    Error::new(
        Code::Unavailable,
        "the server still owes the answer to an earlier statement",
    )
}

impl Process {
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers; the descriptor is owned below.
        let ear = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if ear < 0 {
            let error = std::io::Error::last_os_error();
            return Err(Error::from_io(error, "no descriptor for those who wait"));
        }
        // SAFETY: just made, owned by nobody else.
        let ear = ProcessFd::new(unsafe { OwnedFd::from_raw_fd(ear) });
        Ok(Process {
            shared: std::sync::Mutex::default(),
            freed: Condvar::new(),
            returned: Condvar::new(),
            table: Mutex::default(),
            alarms: Alarms::new()?,
            ear,
            listener: Mutex::new(()),
            vacancy: Vacancy::new()?,
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the use of the shared session.
    pub fn turn(&self, limit: BootTime) -> Result<Turn<'_>> {
        let mut shared = self.shared();
        while shared.taken {
            shared = sleep(&self.freed, shared, limit)?;
        }
        shared.taken = true;
        Ok(Turn {
            process: self,
            session: shared.session.take(),
            owed: shared.owed.take(),
        })
    }

    /// The session that a hold has to itself, to be put back; waits while another handle of the hold speaks over it.
    /// Nothing if there is no such hold, or on the shared one.
    pub fn take_own(
        &self,
        key: &Key,
        token: OwnerToken,
        limit: BootTime,
    ) -> Result<Option<Box<Session>>> {
        let mut shared = self.shared();
        loop {
            match self
                .table
                .lock()
                .hold_mut(key, token)
                .map(|hold| &mut hold.on)
            {
                Some(On::Own(None)) => {}
                Some(On::Own(session)) => return Ok(session.take()),
                _ => return Ok(None),
            }
            shared = sleep(&self.returned, shared, limit)?;
        }
    }

    /// Another one may speak over the session of a hold.
    pub fn tell_returned(&self) {
        // Whoever has looked for it sleeps before this gets in.
        drop(self.shared());
        self.returned.notify_all();
    }

    /// The mode in which a claim holds, once nothing is owed that would change it.
    pub fn mode_of(&self, key: &Key, claim: &Claim) -> Mode {
        let table = self.table.lock();
        let hold = table.hold(key, claim.token);
        hold.map_or(claim.mode, |hold| hold.mode)
    }

    /// Readable when somebody's wait has been answered.
    pub fn ear(&self) -> RawFd {
        self.ear.as_raw_fd()
    }

    /// Listens to a session that waits.
    pub fn listen(&self, fd: RawFd) {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32,
            u64: 0,
        };
        // SAFETY: both descriptors are open, and `event` is valid during the call.
        unsafe { libc::epoll_ctl(self.ear(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    }

    /// Listens to it no more: before it is closed, or a child that has a copy would keep it.
    pub fn ignore(&self, fd: RawFd) {
        // SAFETY: takes no pointer; a descriptor that is not there is an error that does not matter.
        unsafe { libc::epoll_ctl(self.ear(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Reads what has arrived, and rings for whom it is; never blocks.
    pub fn pump(&self) {
        let bells = self.table.lock().read(|fd| self.ignore(fd));
        bells.iter().for_each(|bell| bell.ring());
    }

    /// Rings for those who could wait in the server now.
    pub fn ring_next(&self, config: &Config) {
        let bells = self.table.lock().next_in_line(config.most_waits);
        bells.iter().for_each(|bell| bell.ring());
    }

    /// Sleeps on the bell, listening for everybody if nobody else does.
    pub fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let take = || Some((self.listener.try_lock()?, self.ear()));
        self.vacancy.park(bell, until, take, |_listener| {
            self.pump();
            Next::Sleep
        })
    }
}
