//! The waiters of this process: threads that sleep on the process' bell, and event loops that one
//! thread listens for.

use super::member::Member;
use crate::Result;
use crate::lease::BootTime;
use crate::signal::{Signal, Wake};
use crate::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long the event loops' thread sleeps at a time; it goes when nobody waits any more.
const TURN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Sleeper {
    bell: Arc<Signal>,
    record: u16,
}

/// Who waits in this process.
#[derive(Debug, Default)]
pub(in crate::store) struct Waits {
    sleepers: Mutex<Vec<Sleeper>>,
    bridged: AtomicBool,
}

impl Waits {
    /// Notes that word for `record` is to be brought to `bell`.
    pub(in crate::store) fn add(
        self: &Arc<Self>,
        member: &Arc<Member>,
        bell: &Arc<Signal>,
        record: u16,
    ) -> Result<()> {
        if self.record_of(bell) == Some(record) {
            return Ok(());
        }
        self.remove(record);
        let weak: Weak<Member> = Arc::downgrade(member);
        // A cancel rings the bell, on which nobody sleeps here.
        bell.also(move || {
            if let Some(member) = weak.upgrade() {
                member.ring_for(record);
            }
        });
        self.sleepers.lock().push(Sleeper {
            bell: bell.clone(),
            record,
        });
        if bell.has_hook() && !self.bridged.swap(true, Ordering::AcqRel) {
            let (waits, member) = (self.clone(), member.clone());
            let spawned =
                crate::service::spawn_quiet("synlock-bells", move || waits.bridge(&member));
            if let Err(error) = spawned {
                self.bridged.store(false, Ordering::Release);
                self.remove(record);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(in crate::store) fn remove(&self, record: u16) {
        self.sleepers
            .lock()
            .retain(|sleeper| sleeper.record != record);
    }

    fn record_of(&self, bell: &Arc<Signal>) -> Option<u16> {
        let sleepers = self.sleepers.lock();
        let found = sleepers
            .iter()
            .find(|sleeper| Arc::ptr_eq(&sleeper.bell, bell));
        found.map(|sleeper| sleeper.record)
    }

    /// Sleeps until there is word for the bell or its record.
    pub(in crate::store) fn park(
        &self,
        member: &Member,
        bell: &Arc<Signal>,
        until: BootTime,
    ) -> Wake {
        let Some(record) = self.record_of(bell) else {
            return bell.sleep(until);
        };
        loop {
            let heard = member.bell_now();
            if bell.take() | member.take_rung(record) {
                return Wake::Signalled;
            }
            let left = until.left();
            if left.is_zero() {
                return Wake::Elapsed;
            }
            if member.sleep(heard, Some(record), left) == Some(libc::EINTR) {
                return if bell.take() | member.take_rung(record) {
                    Wake::Signalled
                } else {
                    Wake::Interrupted
                };
            }
        }
    }

    /// Brings word to the bells of event loops, until none waits.
    fn bridge(&self, member: &Member) {
        loop {
            let heard = member.bell_now();
            let mut rung = Vec::new();
            {
                let sleepers = self.sleepers.lock();
                let mut hooked = sleepers
                    .iter()
                    .filter(|sleeper| sleeper.bell.has_hook())
                    .peekable();
                if hooked.peek().is_none() {
                    // Under the lock, so that nobody is added to a thread that goes.
                    self.bridged.store(false, Ordering::Release);
                    return;
                }
                for sleeper in hooked {
                    if member.take_rung(sleeper.record) {
                        rung.push(sleeper.bell.clone());
                    }
                }
            }
            for bell in rung {
                bell.ring();
            }
            let _ = member.sleep(heard, None, TURN);
        }
    }
}
