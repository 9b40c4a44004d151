//! The waiters of this process: threads that sleep on the process' bell, and event loops that one
//! thread listens for.

use super::member::Member;
use crate::Result;
use crate::lease::BootTime;
use crate::signal::{Signal, Wake};
use crate::sync::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long the event loops' thread sleeps at a time; it goes when nobody waits any more.
const TURN: Duration = Duration::from_secs(1);

/// Sleeps in a segment that may have lost its place to another one since.
#[derive(Clone, Debug)]
struct Sleeper {
    bell: Arc<Signal>,
    member: Arc<Member>,
    record: u16,
}

impl Sleeper {
    fn has(&self, member: &Arc<Member>, record: u16) -> bool {
        self.record == record && Arc::ptr_eq(&self.member, member)
    }
}

#[derive(Debug, Default)]
struct All {
    sleepers: Vec<Sleeper>,
    /// Those whose bells a thread listens to for event loops.
    bridged: Vec<Arc<Member>>,
}

/// Who waits in this process.
#[derive(Debug, Default)]
pub(in crate::store) struct Waits(Mutex<All>);

impl Waits {
    /// Notes that word for `record` is to be brought to `bell`.
    pub(in crate::store) fn add(
        self: &Arc<Self>,
        member: &Arc<Member>,
        bell: &Arc<Signal>,
        record: u16,
    ) -> Result<()> {
        let known = self.sleeper(bell);
        if known.is_some_and(|sleeper| sleeper.has(member, record)) {
            return Ok(());
        }
        self.remove(member, record);
        let weak: Weak<Member> = Arc::downgrade(member);
        // A cancel rings the bell, on which nobody sleeps here.
        bell.also(move || {
            if let Some(member) = weak.upgrade() {
                member.ring_for(record);
            }
        });
        let sleeper = Sleeper {
            bell: bell.clone(),
            member: member.clone(),
            record,
        };
        let needs_bridge = {
            let mut all = self.0.lock();
            all.sleepers.push(sleeper);
            let needed =
                bell.has_hook() && !all.bridged.iter().any(|known| Arc::ptr_eq(known, member));
            if needed {
                all.bridged.push(member.clone());
            }
            needed
        };
        if needs_bridge {
            let (waits, listened) = (self.clone(), member.clone());
            let spawned =
                crate::service::spawn_quiet("synlock-bells", move || waits.bridge(&listened));
            if let Err(error) = spawned {
                self.0.lock().unbridge(member);
                self.remove(member, record);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(in crate::store) fn remove(&self, member: &Arc<Member>, record: u16) {
        self.0
            .lock()
            .sleepers
            .retain(|sleeper| !sleeper.has(member, record));
    }

    fn sleeper(&self, bell: &Arc<Signal>) -> Option<Sleeper> {
        let all = self.0.lock();
        let found = all
            .sleepers
            .iter()
            .find(|sleeper| Arc::ptr_eq(&sleeper.bell, bell));
        found.cloned()
    }

    /// Sleeps until there is word for the bell or its record.
    pub(in crate::store) fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Wake {
        let Some(Sleeper { member, record, .. }) = self.sleeper(bell) else {
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
    fn bridge(&self, member: &Arc<Member>) {
        loop {
            let heard = member.bell_now();
            let mut rung = Vec::new();
            {
                let mut all = self.0.lock();
                let mut hooked = all
                    .sleepers
                    .iter()
                    .filter(|sleeper| {
                        sleeper.bell.has_hook() && Arc::ptr_eq(&sleeper.member, member)
                    })
                    .peekable();
                if hooked.peek().is_none() {
                    // Under the lock, so that nobody is added to a thread that goes.
                    all.unbridge(member);
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

impl All {
    fn unbridge(&mut self, member: &Arc<Member>) {
        self.bridged.retain(|known| !Arc::ptr_eq(known, member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::segment::config::Config;
    use crate::store::segment::layout::Kind;
    use std::sync::mpsc::channel;

    /// Nobody polls here: what is not brought is not heard.
    #[test]
    fn word_in_the_next_segment_is_brought_too() {
        let path = format!("/dev/shm/synlock-waits-{}", std::process::id());
        let config = Config {
            kind: Kind::Queues,
            path: path.into(),
            mode: 0o600,
            group: None,
            slots: None,
        };
        let (waits, (tell, told)) = (Arc::new(Waits::default()), channel());
        let bell = Arc::new(Signal::with_hook(move || {
            let _ = tell.send(());
        }));
        let mut last = None;
        for _ in 0..2 {
            let member = Arc::new(Member::attach(&config).unwrap());
            let record = member.take_record().unwrap();
            waits.add(&member, &bell, record).unwrap();
            // As a claim does that looks again and finds its segment gone.
            if let Some((member, record)) = last.replace((member.clone(), record)) {
                waits.remove(&member, record);
            }
            member.wake(record);
            told.recv_timeout(Duration::from_secs(60)).expect("word");
            bell.take();
            std::fs::remove_file(&config.path).unwrap();
        }
    }
}
