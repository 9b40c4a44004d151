//! Who stands where in the line of a lock whose claims the server has put in order: the first hold, as many
//! as fit with each other. Knows no server.

use crate::mode::Mode;

/// One node of the queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Contender {
    pub node: String,
    pub mode: Mode,
}

/// Where a contender stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It holds.
    Holds,
    /// It comes after this node is gone at the earliest.
    Behind(String),
    /// It waits for permits and is the next: when any node goes, it may be its turn.
    Next,
    /// It waits for permits after this node, which waits too.
    Follows(String),
    /// Somebody before it counts with another number of permits.
    Disagrees(u32),
    /// It is not among them.
    Missing,
}

/// Where the node stands in the line.
pub(super) fn standing(line: &[Contender], node: &str) -> Standing {
    match line.iter().position(|one| one.node == node) {
        Some(at) => standing_at(line, at),
        None => Standing::Missing,
    }
}

/// Where a newcomer would stand, at the end of the line.
pub(super) fn newcomer(line: &[Contender], mode: Mode) -> Standing {
    let mut longer = line.to_vec();
    longer.push(Contender {
        node: String::new(),
        mode,
    });
    standing_at(&longer, line.len())
}

fn standing_at(line: &[Contender], at: usize) -> Standing {
    let (before, Some(own)) = (&line[..at], line.get(at)) else {
        return Standing::Missing;
    };
    let last_of = |blocks: fn(Mode) -> bool| before.iter().rev().find(|one| blocks(one.mode));
    let behind = |one: Option<&Contender>| match one {
        Some(one) => Standing::Behind(one.node.clone()),
        None => Standing::Holds,
    };
    match own.mode {
        // Canary of row 10.
        Mode::Exclusive if cfg!(canary = "always_fits") => Standing::Holds,
        Mode::Exclusive => behind(before.last()),
        Mode::Shared => behind(last_of(|mode| mode != Mode::Shared)),
        Mode::Permits { take, of } => {
            let disagrees = before.iter().find_map(|one| match one.mode {
                Mode::Permits { of: other, .. } if other != of => Some(other),
                _ => None,
            });
            if let Some(other) = disagrees {
                return Standing::Disagrees(other);
            }
            if let Some(one) = last_of(|mode| !matches!(mode, Mode::Permits { .. })) {
                return Standing::Behind(one.node.clone());
            }
            let taken = |nodes: &[Contender]| nodes.iter().map(permits).sum::<u64>();
            if taken(before) + u64::from(take) <= u64::from(of) {
                return Standing::Holds;
            }
            match before.last() {
                Some(last) if taken(before) > u64::from(of) => Standing::Follows(last.node.clone()),
                _ => Standing::Next,
            }
        }
    }
}

fn permits(one: &Contender) -> u64 {
    match one.mode {
        Mode::Permits { take, .. } => take.into(),
        _ => 1,
    }
}

/// How many at the front of the line hold.
pub(super) fn holders(line: &[Contender]) -> usize {
    (0..line.len())
        .take_while(|at| standing_at(line, *at) == Standing::Holds)
        .count()
}
