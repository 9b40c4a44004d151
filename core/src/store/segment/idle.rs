//! The records that a process has and does not use.

use super::layout::GROUP;
use std::collections::BTreeMap;

/// How many groups of which no record is used a process keeps: the others may be wanted elsewhere.
const MOST_WHOLE: usize = 4;
/// All records of a group.
const WHOLE: u8 = u8::MAX;
const _: () = assert!(GROUP == 8, "a bit for each record of a group");

/// By group, a bit for each of its idle records.
#[derive(Debug, Default)]
pub(super) struct Idle {
    groups: BTreeMap<u16, u8>,
    whole: usize,
}

impl Idle {
    /// A group of which nothing is used yet; false if there are enough.
    pub(super) fn add(&mut self, group: u16) -> bool {
        let wanted = self.whole < MOST_WHOLE;
        if wanted {
            self.groups.insert(group, WHOLE);
            self.whole += 1;
        }
        wanted
    }

    /// A record, if there is one. From the first groups, so that the others become idle as a whole.
    pub(super) fn take(&mut self) -> Option<u16> {
        let mut first = self.groups.first_entry()?;
        let (group, idle) = (*first.key(), *first.get());
        let place = idle.trailing_zeros() as u16;
        self.whole -= usize::from(idle == WHOLE);
        // Without its lowest bit.
        let rest = idle & (idle - 1);
        if rest == 0 {
            first.remove();
        } else {
            first.insert(rest);
        }
        Some(group * GROUP + place)
    }

    /// A record that is not used any more; its group if that is not needed either.
    pub(super) fn give(&mut self, record: u16) -> Option<u16> {
        let group = record / GROUP;
        let idle = self.groups.entry(group).or_default();
        *idle |= 1 << (record % GROUP);
        if *idle != WHOLE {
            return None;
        }
        if self.whole < MOST_WHOLE {
            self.whole += 1;
            return None;
        }
        self.groups.remove(&group);
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_not_needed_go() {
        let mut idle = Idle::default();
        let mut taken = Vec::new();
        for group in 0..100 {
            assert!(idle.add(group));
            taken.extend((0..GROUP).map(|_| idle.take().unwrap()));
            assert_eq!(idle.take(), None);
        }
        let mut all = taken.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 800, "each of them once");
        let gone: Vec<u16> = taken
            .into_iter()
            .filter_map(|record| idle.give(record))
            .collect();
        assert_eq!(gone.len(), 100 - MOST_WHOLE);
        assert!(!idle.add(100), "there are enough");
        let left: Vec<u16> = std::iter::from_fn(|| idle.take()).collect();
        assert_eq!(left.len(), MOST_WHOLE * usize::from(GROUP));
        assert!(left.iter().all(|record| !gone.contains(&(record / GROUP))));
    }
}
