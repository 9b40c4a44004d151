//! The records of this process: who asks or holds with which.

use super::layout::Word;
use super::member::Member;
use super::names;
use super::words::Life;
use crate::Result;
use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::Grant;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// A record that is given back when nobody in this process can touch it any more: a late caller must
/// not meet the record's next hold.
#[derive(Debug)]
pub(super) struct Record {
    member: Arc<Member>,
    pub(super) number: u16,
    uses: AtomicU64,
}

impl Record {
    pub(super) fn take(member: &Arc<Member>) -> Result<Arc<Self>> {
        Ok(Arc::new(Record {
            member: member.clone(),
            number: member.take_record()?,
            // Later than any count that began at an earlier time: no use takes less than a nanosecond.
            uses: AtomicU64::new(BootTime::now().as_nanos()),
        }))
    }

    /// A number that no life of the record had before.
    pub(super) fn next_use(&self) -> u64 {
        // Not one step: of two threads that extend one hold at once, the life itself lets one win.
        let next = self.uses.load(Relaxed) + 1;
        self.uses.store(next, Relaxed);
        next
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.member.give_record(self.number);
    }
}

/// One claim's record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) member: Arc<Member>,
    pub(super) slot: u16,
    /// How often the slot had been given a name when this one was found in it.
    pub(super) naming: u64,
    pub(super) record: u16,
    /// Where the record's words for people stand.
    pub(super) info: u64,
    /// Whether its owner's token is written there.
    pub(super) named: bool,
    pub(super) fence: Option<u64>,
    pub(super) looks: u32,
    pub(super) owned: Arc<Record>,
}

impl Entry {
    pub(super) fn new(member: Arc<Member>, slot: u16) -> Result<Self> {
        let owned = Record::take(&member)?;
        Ok(Entry {
            naming: names::naming(&member.segment, slot),
            info: member.segment.geometry.info(owned.number),
            record: owned.number,
            member,
            slot,
            named: false,
            fence: None,
            looks: 0,
            owned,
        })
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.fence.is_none()
    }

    /// When the hold ends; long ago if somebody else has ended it, which must not look like no lease.
    pub(super) fn lease(&self) -> Option<BootTime> {
        let life = Life(self.member.word(Word::Life, self.record).load(Acquire));
        let until = if life.is_begun() {
            life.until()
        } else {
            Some(0)
        };
        until.map(BootTime::from_nanos)
    }

    pub(super) fn grant(&self, recovered: bool) -> Grant {
        Grant {
            lease: self.lease(),
            fence: self.fence,
            recovered,
        }
    }
}

/// What belongs to no handle's seat.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Claims without a seat.
    pub(super) of: ByToken<Entry>,
    /// Holds that go on without their handle: exported, forgotten, lost by the clock.
    left: Vec<Entry>,
    /// At how many entries to look for those that nobody will ask for again.
    sweep_at: usize,
}

impl Entries {
    pub(super) fn keep(&mut self, token: OwnerToken, entry: Entry) {
        self.of.insert(token, entry);
        self.sweep_if_many();
    }

    pub(super) fn leave(&mut self, entry: Entry) {
        self.left.push(entry);
        self.sweep_if_many();
    }

    fn sweep_if_many(&mut self) {
        if self.of.len() + self.left.len() >= self.sweep_at.max(256) {
            self.sweep();
        }
    }

    /// Drops holds that ended without a release.
    fn sweep(&mut self) {
        let now = BootTime::now().as_nanos();
        self.of
            .retain(|_, entry| entry.is_waiting() || entry.goes_on(now));
        self.left.retain(|entry| entry.goes_on(now));
        self.sweep_at = (self.of.len() + self.left.len()) * 2;
    }
}

impl Entry {
    fn goes_on(&self, now: u64) -> bool {
        let word = self.member.word(Word::Life, self.record);
        let life = Life(word.load(Acquire));
        // One that has run out may be extended at this moment: one of the two wins.
        life.is_begun()
            && !(life.is_over(now)
                && word
                    .compare_exchange(life.0, Life::ENDED.0, AcqRel, Acquire)
                    .is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::protocol::{Answer, Protocol, Want};
    use super::super::view::View;
    use super::super::words::ModeWord;
    use super::*;
    use crate::name::Name;
    use crate::store::segment::layout::Kind;
    use std::time::Duration;

    fn grant(entry: &mut Entry, key: &names::Key, until: Option<BootTime>) {
        let want = Want {
            mode: ModeWord::EXCLUSIVE,
            life: Life::new(until.map(BootTime::as_nanos), entry.owned.next_use()),
            fair: true,
            step: 1,
        };
        let member = entry.member.clone();
        let view = View::of(&member, key);
        let answer = Protocol(&view).try_now(entry.slot, entry.record, &want);
        assert!(matches!(answer, Answer::Granted { .. }), "{answer:?}");
        entry.fence = Some(1);
    }

    /// The next owner may come before the first has read what it was granted.
    #[test]
    fn a_grant_that_was_ended_before_it_is_told_is_told_as_over() {
        let name = format!("synlock-records-{}", std::process::id());
        let config = Config {
            kind: Kind::Locks,
            path: std::env::temp_dir().join(name),
            mode: 0o600,
            group: None,
            slots: Some(4),
        };
        let member = Arc::new(Member::attach(&config).unwrap());
        let key = names::Key::new(&Name::new("n").unwrap());
        let slot = names::find_or_put(&member, &key).unwrap();
        let [mut first, mut next] = [(); 2].map(|()| Entry::new(member.clone(), slot).unwrap());
        grant(&mut first, &key, Some(BootTime::now()));
        std::thread::sleep(Duration::from_millis(1));
        grant(&mut next, &key, None);
        let lease = first.grant(false).lease;
        assert!(lease.is_some_and(BootTime::has_passed), "{lease:?}");
        assert_eq!(next.grant(false).lease, None);
        std::fs::remove_file(&config.path).unwrap();
    }
}
