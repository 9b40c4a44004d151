//! What a handle's seat keeps from verb to verb: what follows from its name.

use super::companion;
use super::dialect::Dialect;
use super::names;
use super::queue::Line;
use crate::store::Claim;

#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Which queue the name has; its key also finds the name's idle descriptors.
    pub(super) line: Line,
    /// Whether the file's name says the whole name.
    pub(super) is_plain: bool,
}

impl Kept {
    pub(super) fn of(dialect: Dialect, claim: &Claim) -> Self {
        let known = claim.seat.with(|kept: &mut Kept| *kept);
        known.unwrap_or_else(|| {
            let kept = Kept {
                line: companion::line(dialect, &claim.name),
                is_plain: !dialect.is_native() || names::is_plain(claim.name.as_bytes()),
            };
            claim.seat.put(kept);
            kept
        })
    }
}
