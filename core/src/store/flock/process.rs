//! What a process makes for itself, and where in it the hold of a claim is: in the handle's berth, or in
//! the books.

use super::berth::{Berth, Inside};
use super::books::{Books, Held, Waiting};
use super::companion::Companion;
use super::directory::Directory;
use super::file::LockFile;
use super::kept::{Kept, Seated};
use crate::owner::OwnerToken;
use crate::store::{Claim, Grant};
use crate::sync::Mutex;
use std::sync::Arc;

/// What a process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) books: Arc<Mutex<Books>>,
    pub(super) waiting: Waiting,
    pub(super) companion: Companion,
    pub(super) directory: Mutex<Option<Arc<Directory>>>,
}

impl Process {
    /// Enters a new hold: in the handle's berth, or in the books.
    pub(super) fn note(&self, claim: &Claim, held: Held) {
        let mut held = Some(held);
        Seated::in_berth(claim, |inside| {
            if matches!(inside, Inside::Nothing)
                && let Some(held) = held.take()
            {
                *inside = Inside::Held(claim.token, held);
            }
        });
        if let Some(held) = held {
            self.books.lock().held.insert(claim.token, held);
        }
    }

    /// Keeps an unlocked file for the next time.
    pub(super) fn keep(&self, claim: &Claim, kept: Kept, file: Arc<LockFile>) {
        let mut file = Some(file);
        Seated::in_berth(claim, |inside| {
            if matches!(inside, Inside::Nothing)
                && let Some(file) = file.take()
            {
                *inside = Inside::Idle(file);
            }
        });
        if let Some(file) = file {
            let closed = self.books.lock().keep(&claim.name, kept.line, file);
            drop(closed);
        }
    }

    fn berths(&self) -> Vec<Arc<Berth>> {
        self.books.lock().berths.clone()
    }

    /// Works on the hold of a claim, wherever it is noted. A copy of a claim has no seat, but may have
    /// been made of one that has.
    pub(super) fn with_held<T>(&self, claim: &Claim, work: impl Fn(&mut Held) -> T) -> Option<T> {
        let token = claim.token;
        let own = Seated::in_berth(claim, |inside| inside.of(token).map(&work)).flatten();
        let in_berths = || {
            let mut all = self.berths().into_iter();
            all.find_map(|berth| berth.lock().of(token).map(&work))
        };
        // Twice, since a handle that goes leaves its hold to the books.
        own.or_else(|| self.books.lock().held.get_mut(&token).map(&work))
            .or_else(in_berths)
            .or_else(|| self.books.lock().held.get_mut(&token).map(&work))
    }

    /// The grant of a claim that asks again.
    pub(super) fn granted_before(&self, claim: &Claim) -> Option<Grant> {
        if !claim.seat.keeps() {
            return self.with_held(claim, |held| held.grant());
        }
        let token = claim.token;
        let own = Seated::in_berth(claim, |inside| inside.of(token).map(|held| held.grant()));
        own.flatten()
            .or_else(|| self.books.lock().held.get(&token).map(Held::grant))
    }

    pub(super) fn take_held(&self, claim: &Claim) -> Option<Held> {
        let token = claim.token;
        let own = Seated::in_berth(claim, |inside| inside.take(token)).flatten();
        let in_berths = || {
            let mut all = self.berths().into_iter();
            all.find_map(|berth| berth.lock().take(token))
        };
        own.or_else(|| self.books.lock().held.remove(&token))
            .or_else(in_berths)
            .or_else(|| self.books.lock().held.remove(&token))
    }

    /// A hold has got its token: in the handle's berth, or in the books. Only its handle asks for that.
    pub(super) fn rename(&self, claim: &Claim, before: OwnerToken) {
        let token = claim.token;
        let in_berth = Seated::in_berth(claim, |inside| inside.rename(before, token));
        if in_berth != Some(true) {
            let mut books = self.books.lock();
            if let Some(held) = books.held.remove(&before) {
                books.held.insert(token, held);
            }
        }
    }

    /// All holds of this process. One that a handle leaves behind meanwhile is not missed.
    pub(super) fn all_held(&self) -> Vec<(OwnerToken, Held)> {
        let mut all: Vec<_> = self
            .berths()
            .iter()
            .filter_map(|berth| berth.held())
            .collect();
        let in_berths: Vec<OwnerToken> = all.iter().map(|(token, _)| *token).collect();
        let books = self.books.lock();
        let others = books.held.iter();
        let others = others.filter(|(token, _)| !in_berths.contains(token));
        all.extend(others.map(|(token, held)| (*token, held.clone())));
        all
    }
}
