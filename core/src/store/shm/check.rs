//! The consistency check: looks at a segment from outside, as somebody who is not in it, and changes
//! nothing. What living processes are in the middle of is not a finding; what the dead left is,
//! until somebody clears it away, and so is whatever cannot be.

use super::bytes::is_byte_locked;
use super::config::Config;
use super::file::Segment;
use super::layout::{GROUP, Geometry, NAME_BYTES, Word, entry, header};
use super::member::GENERATION;
use super::names;
use super::protocol::Protocol;
use super::view::View;
use super::words::{Grant, Kind, Life, ModeWord, NOBODY, Place, Role, SOMEBODY, WATCHER};
use crate::Result;
use crate::fork::ProcessFd;
use crate::lease::BootTime;
use crate::name::MAX_NAME;
use crate::store::Check;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Acquire;

/// How often a slot that changes all the time is looked at again.
const MOST_LOOKS: u32 = 100;

/// Checks the segment that stands there; none, or one of before the host's last start, is sound.
pub(super) fn check(config: &Config) -> Result<Check> {
    let Some(segment) = Segment::open_existing(config)? else {
        return Ok(Check::default());
    };
    let byte = ProcessFd::new(segment.reopen()?);
    // Nobody changes names meanwhile, and whoever had sealed a slot is dead.
    let _lock = names::lock_shared(&segment)?;
    let mut checker = Checker {
        geometry: segment.geometry,
        records: 0,
        byte,
        lives: HashMap::new(),
        found: Check::default(),
        segment: &segment,
    };
    checker.header();
    checker.all_records();
    checker.all_slots();
    checker.all_names();
    Ok(checker.found)
}

struct Checker<'a> {
    segment: &'a Segment,
    geometry: Geometry,
    /// How many records were ever used.
    records: u16,
    byte: ProcessFd,
    /// Processes that have been asked about.
    lives: HashMap<u64, bool>,
    found: Check,
}

/// Who has a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Lives,
    Died,
    Impossible,
}

impl Checker<'_> {
    fn slot_word(&self, slot: u16, at: u64) -> u64 {
        let at = self.geometry.slot(slot) + at;
        self.segment.word(at).load(Acquire)
    }

    fn grant(&self, slot: u16) -> Grant {
        Grant(self.slot_word(slot, entry::GRANT))
    }

    fn word(&self, word: Word, record: u16) -> u64 {
        let at = self.geometry.word(word, record);
        self.segment.word(at).load(Acquire)
    }

    fn place(&self, record: u16) -> Place {
        Place(self.word(Word::Place, record))
    }

    fn life(&self, record: u16) -> Life {
        Life(self.word(Word::Life, record))
    }

    fn owner_word(&self, record: u16) -> u64 {
        let at = self.geometry.group(record / GROUP);
        self.segment.word(at).load(Acquire)
    }

    fn owner(&mut self, record: u16) -> Owner {
        let owner = self.owner_word(record);
        let process = owner >> 48;
        if owner == 0 {
            return Owner::Nobody;
        }
        if process >= u64::from(self.geometry.processes) {
            return Owner::Impossible;
        }
        let at = self.geometry.process(process as u16) + entry::GENERATION;
        let newest = self.segment.word(at).load(Acquire) & GENERATION;
        if newest != owner & GENERATION {
            // Greater than any process has been given: damage, or a process that died.
            return if newest < owner & GENERATION {
                Owner::Impossible
            } else {
                Owner::Died
            };
        }
        let byte = &self.byte;
        let lives = self
            .lives
            .entry(owner)
            .or_insert_with(|| is_byte_locked(byte, process as u16));
        if *lives { Owner::Lives } else { Owner::Died }
    }

    fn header(&mut self) {
        let used = self.segment.word(header::GROUPS_USED).load(Acquire);
        let most = u64::from(self.geometry.groups());
        if used > most {
            let text = format!("word: {used} groups of records are used, of {most}");
            self.found.add(text);
        }
        self.records = (used.min(most) as u16) * GROUP;
    }

    // ---- records

    fn all_records(&mut self) {
        for record in 0..self.records {
            let before = self.owner_word(record);
            let owner = self.owner(record);
            let (place, life) = (self.place(record), self.life(record));
            let mode = ModeWord(self.word(Word::Mode, record));
            let text = match owner {
                Owner::Lives => self.odd_place(record, place, mode),
                Owner::Impossible => Some(format!(
                    "word: record {record} belongs to a process that cannot be"
                )),
                Owner::Nobody | Owner::Died => {
                    let holds = life.is_begun() && self.is_holder(record, place);
                    left_behind(record, owner, place, life, holds)
                }
            };
            // Not if somebody took it over while we looked.
            if let Some(text) = text.filter(|_| self.owner_word(record) == before) {
                self.found.add(text);
            }
        }
    }

    fn is_holder(&self, record: u16, place: Place) -> bool {
        let slot = place.slot();
        if u32::from(slot) >= self.geometry.slots {
            return false;
        }
        let grant = self.grant(slot);
        if grant.kind() == Kind::Exclusive {
            let joined = place.role() == Role::Joining && place.number() == grant.epoch();
            return grant.record() == record && (joined || place.role() == Role::Member);
        }
        Protocol::<View<'_>>::is_member(slot, grant, record, place)
    }

    /// What a living process cannot have written.
    fn odd_place(&self, record: u16, place: Place, mode: ModeWord) -> Option<String> {
        if place == Place::NONE {
            return None;
        }
        let odd = |what: &str| Some(format!("word: record {record} {what}"));
        if place.role() == Role::None || u32::from(place.slot()) >= self.geometry.slots {
            return odd("has an impossible place");
        }
        let slot = place.slot();
        let late = match place.role() {
            Role::Waiting => {
                let tail = self.slot_word(slot, entry::TAIL) % WATCHER;
                place.number() != WATCHER && place.number() > tail
            }
            Role::Member => place.number() > self.grant(slot).epoch(),
            _ => false,
        };
        if late && self.place(record) == place {
            return odd("has a number that was never given out");
        }
        let fits = match mode.as_permits() {
            Some((take, of)) => take > 0 && take <= of,
            None => mode == ModeWord::EXCLUSIVE || mode == ModeWord::SHARED,
        };
        (!fits).then(|| format!("word: record {record} has an impossible mode"))
    }

    // ---- slots

    fn all_slots(&mut self) {
        for slot in 0..self.geometry.slots {
            let slot = slot as u16;
            // The same word before and after says that nobody joined meanwhile.
            for _ in 0..MOST_LOOKS {
                let grant = self.grant(slot);
                let texts = self.slot(slot, grant);
                if self.grant(slot) == grant {
                    texts.into_iter().for_each(|text| self.found.add(text));
                    break;
                }
            }
        }
    }

    fn slot(&mut self, slot: u16, grant: Grant) -> Vec<String> {
        let record = grant.record();
        if grant.kind() == Kind::Sealed {
            return vec![format!("seal: slot {slot} was left sealed")];
        }
        if !matches!(record, NOBODY | SOMEBODY) && record >= self.records {
            return vec![format!(
                "word: slot {slot} names record {record}, of {}",
                self.records
            )];
        }
        if matches!(record, NOBODY | SOMEBODY) {
            if grant.kind() != Kind::Open {
                return vec![format!("word: slot {slot} is granted to nobody")];
            }
        } else if self.counts(slot, grant) && self.owner(record) == Owner::Died {
            return vec![format!(
                "slot: slot {slot} names record {record} of a process that has ended"
            )];
        }
        self.overlap(slot, grant).into_iter().collect()
    }

    /// Whether the word's record has something to do with the slot; an open word also names whoever
    /// came last, and may have gone.
    fn counts(&self, slot: u16, grant: Grant) -> bool {
        let place = self.place(grant.record());
        grant.kind() != Kind::Open || place == Place::new(Role::Joining, slot, grant.epoch())
    }

    /// Two who hold the slot and do not go together.
    fn overlap(&mut self, slot: u16, grant: Grant) -> Option<String> {
        let now = BootTime::now().as_nanos();
        let mut modes = Vec::new();
        for record in 0..self.records {
            let place = self.place(record);
            let named = grant.kind() == Kind::Exclusive && grant.record() == record;
            let joined = place.slot() == slot
                && place.role() == Role::Joining
                && place.number() == grant.epoch();
            if !(Protocol::<View<'_>>::is_member(slot, grant, record, place) || named && joined) {
                continue;
            }
            let mode = ModeWord(self.word(Word::Mode, record));
            let life = self.life(record);
            if !life.is_begun() || life.is_over(now) || self.owner(record) != Owner::Lives {
                continue;
            }
            // Still the same hold: its mode was not of the record's next.
            if self.place(record) == place && self.life(record) == life {
                modes.push(if named { ModeWord::EXCLUSIVE } else { mode });
            }
        }
        let permits: Vec<_> = modes.iter().filter_map(|mode| mode.as_permits()).collect();
        let taken: u64 = permits.iter().map(|(take, _)| u64::from(*take)).sum();
        let shared = modes.iter().all(|mode| *mode == ModeWord::SHARED);
        let counted = permits.len() == modes.len()
            && permits
                .iter()
                .all(|(_, of)| *of == permits[0].1 && taken <= u64::from(*of));
        (modes.len() > 1 && !shared && !counted).then(|| {
            format!(
                "overlap: slot {slot} has {} holders that do not go together",
                modes.len()
            )
        })
    }

    // ---- names

    fn all_names(&mut self) {
        let mut seen = HashMap::new();
        for slot in 0..self.geometry.slots {
            let slot = slot as u16;
            let Some(tag) = names::tag_at(self.segment, slot) else {
                continue;
            };
            if self.grant(slot).kind() == Kind::Sealed {
                continue; // reported, and half done
            }
            let length = names::length_at(self.segment, slot);
            if length == 0 || length > MAX_NAME as u64 {
                let text = format!("word: the name of slot {slot} has {length} bytes");
                self.found.add(text);
                continue;
            }
            let kept = names::kept_at(self.segment, slot);
            if length <= NAME_BYTES as u64 && names::tag_of(&kept) != tag {
                let text = format!("name: slot {slot} is tagged for another name");
                self.found.add(text);
            } else if !names::is_reachable(self.segment, slot, tag) {
                let text = format!("name: no search for its name comes to slot {slot}");
                self.found.add(text);
            } else if let Some(other) = seen.insert((length, kept), slot) {
                let text = format!("name: slots {other} and {slot} have the same name");
                self.found.add(text);
            }
        }
    }
}

/// What is left in a record of a process that has ended, or of none.
fn left_behind(record: u16, owner: Owner, place: Place, life: Life, holds: bool) -> Option<String> {
    let whose = match owner {
        Owner::Nobody => "nobody",
        _ => "a process that has ended",
    };
    let what = match place.role() {
        Role::Waiting => "waiter: record N waits",
        _ if holds => "holder: record N holds",
        Role::Joining | Role::Member => "record: record N has a place",
        Role::None if life.is_begun() => "record: record N lives",
        // Its process ended: the group is free for the next taker, and empty.
        Role::None => return None,
    };
    let what = what.replace('N', &record.to_string());
    Some(format!("{what}, of {whose}"))
}
