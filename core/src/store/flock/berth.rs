//! A place of a handle's own for its descriptor, and for its hold while it has one: a pair finds both
//! by the handle's seat, and the books are not asked.

use super::books::{Books, Held};
use super::file::LockFile;
use super::queue::Line;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::sync::{Mutex, MutexGuard};
use std::sync::Arc;

/// What lies in a berth.
#[derive(Debug, Default)]
pub(super) enum Inside {
    #[default]
    Nothing,
    /// A descriptor that holds nothing.
    Idle(Arc<LockFile>),
    Held(OwnerToken, Held),
}

/// Entered in the books, where those who inspect, and those who only know a token, find it. Whoever
/// has the books locked may lock a berth, never the other way round.
#[derive(Debug, Default)]
pub(super) struct Berth(Mutex<Inside>);

impl Berth {
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock()
    }

    /// Takes the descriptor out if nothing is done with it at this moment.
    pub(super) fn give_up_idle(&self) -> Option<Arc<LockFile>> {
        self.0.try_lock()?.take_idle()
    }

    pub(super) fn held(&self) -> Option<(OwnerToken, Held)> {
        match &*self.lock() {
            Inside::Held(token, held) => Some((*token, held.clone())),
            _ => None,
        }
    }
}

impl Inside {
    /// Puts something in where nothing is.
    #[inline]
    pub(super) fn fill(&mut self, with: Inside) {
        match std::mem::replace(self, with) {
            // Not looked through once more, since nothing is in it.
            empty @ Inside::Nothing => std::mem::forget(empty),
            last => drop(last),
        }
    }

    pub(super) fn take_idle(&mut self) -> Option<Arc<LockFile>> {
        match std::mem::take(self) {
            Inside::Idle(file) => Some(file),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The hold of this token.
    #[inline]
    pub(super) fn of(&mut self, token: OwnerToken) -> Option<&mut Held> {
        match self {
            Inside::Held(of, held) if *of == token => Some(held),
            _ => None,
        }
    }

    /// Gives the hold of one token another; false if there is none.
    pub(super) fn rename(&mut self, before: OwnerToken, token: OwnerToken) -> bool {
        match self {
            Inside::Held(of, _) if *of == before => {
                *of = token;
                true
            }
            _ => false,
        }
    }

    /// Takes the hold of this token out.
    #[inline]
    pub(super) fn take(&mut self, token: OwnerToken) -> Option<Held> {
        self.of(token)?;
        match std::mem::take(self) {
            Inside::Held(_, held) => Some(held),
            _ => None,
        }
    }
}

/// A handle's claim to its berth, which ends with it: what lies inside goes over to the books.
#[derive(Debug)]
pub(super) struct Lodger {
    pub(super) berth: Arc<Berth>,
    pub(super) books: Arc<Mutex<Books>>,
    pub(super) name: Name,
    pub(super) line: Line,
}

impl Drop for Lodger {
    fn drop(&mut self) {
        let mut books = self.books.lock();
        books
            .berths
            .retain(|berth| !Arc::ptr_eq(berth, &self.berth));
        let inside = std::mem::take(&mut *self.berth.lock());
        let closed = match inside {
            Inside::Nothing => Vec::new(),
            Inside::Idle(file) => books.keep(&self.name, self.line, file),
            Inside::Held(token, held) => {
                // The hold goes on without its handle.
                books.held.insert(token, held);
                Vec::new()
            }
        };
        drop(books);
        drop(closed);
    }
}
