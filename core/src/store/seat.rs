//! Where a store keeps what it knows of one lock handle, from one verb to the next.

use crate::fork;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;

/// A store's own notes on one lock handle: the slot found for its name, a descriptor kept open, a
/// record that belongs to it. It travels in the handle's claim, through acquire and release and the
/// next acquire, so a store that finds everything there looks up nothing and counts no references.
///
/// Empty at first; the store puts in what it likes. No two verbs use one seat at the same time, so
/// it needs no lock. A copy of a claim has an empty seat *that keeps nothing*: holds that copies ask
/// for (a shared hold, a release in the background) must be found by their token.
///
/// In a forked child the parent's notes are neither used nor dropped.
pub struct Seat {
    keeps: bool,
    notes: RefCell<Option<Notes>>,
}

struct Notes {
    generation: u64,
    what: Box<dyn Any + Send>,
}

impl Seat {
    /// A seat that keeps what is put into it.
    pub fn new() -> Self {
        Seat {
            keeps: true,
            notes: RefCell::new(None),
        }
    }

    /// For claims that come once, or of which there are several copies.
    pub fn none() -> Self {
        Seat {
            keeps: false,
            notes: RefCell::new(None),
        }
    }

    /// Whether anything put in will be there at the next verb.
    #[inline]
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Works on what this process has put in, if it is a `T`. Not to be called from within itself.
    #[inline]
    pub fn with<T: Any, R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut notes = self.notes.borrow_mut();
        let notes = notes.as_mut()?;
        if notes.generation != fork::generation() {
            return None;
        }
        notes.what.downcast_mut().map(work)
    }

    /// Works on what this process has put in, if it is a `T`; else on what is made now, which is put in.
    #[inline]
    pub fn with_or_put<T: Any + Send, R>(
        &self,
        make: impl FnOnce() -> T,
        work: impl FnOnce(&mut T) -> R,
    ) -> R {
        let mut notes = self.notes.borrow_mut();
        if let Some(notes) = notes.as_mut()
            && notes.generation == fork::generation()
            && let Some(known) = notes.what.downcast_mut()
        {
            return work(known);
        }
        drop(notes);
        let mut made = make();
        let result = work(&mut made);
        self.put(made);
        result
    }

    /// Puts notes in, in place of the former ones.
    pub fn put<T: Any + Send>(&self, notes: T) {
        if self.keeps {
            let new = Notes {
                generation: fork::generation(),
                what: Box::new(notes),
            };
            let old = self.notes.borrow_mut().replace(new);
            drop(old.map(Notes::leave));
        }
    }

    /// Drops what the store put in.
    pub fn clear(&self) {
        let old = self.notes.borrow_mut().take();
        drop(old.map(Notes::leave));
    }
}

impl Notes {
    /// To be dropped, but for a parent's.
    fn leave(self) -> Option<Box<dyn Any + Send>> {
        if self.generation == fork::generation() {
            Some(self.what)
        } else {
            std::mem::forget(self.what);
            None
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Default for Seat {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Seat {
    fn clone(&self) -> Self {
        Seat::none()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.keeps { "Seat" } else { "Seat (none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_keeps_notes_and_its_copy_does_not() {
        let seat = Seat::new();
        assert_eq!(seat.with(|n: &mut u32| *n), None);
        seat.put(7u32);
        seat.with(|n: &mut u32| *n += 1);
        assert_eq!(seat.with(|n: &mut u32| *n), Some(8));
        assert_eq!(seat.with(|n: &mut u64| *n), None, "another store's");
        let add = |n: &mut u32| {
            *n += 1;
            *n
        };
        assert_eq!(seat.with_or_put(|| 1, add), 9);
        assert_eq!(Seat::none().with_or_put(|| 1, add), 2);
        assert_eq!(Seat::new().with_or_put(|| 1, add), 2);
        let copy = seat.clone();
        copy.put(9u32);
        assert_eq!(copy.with(|n: &mut u32| *n), None);
        seat.clear();
        assert_eq!(seat.with(|n: &mut u32| *n), None);
        seat.with_or_put(|| 1, add);
        assert_eq!(seat.with(|n: &mut u32| *n), Some(2));
    }

    #[test]
    fn a_child_leaves_the_parents_notes_alone() {
        struct Loud;
        impl Drop for Loud {
            fn drop(&mut self) {
                // SAFETY: ends the child, which must not drop this.
                unsafe { libc::_exit(9) };
            }
        }
        let seat = Seat::new();
        seat.put(Loud);
        // SAFETY: the child only touches the seat and leaves by `_exit`.
        unsafe {
            match libc::fork() {
                0 => {
                    let seen = seat.with(|_: &mut Loud| ()).is_some();
                    seat.put(1u32);
                    libc::_exit(i32::from(seen || seat.with(|n: &mut u32| *n) != Some(1)));
                }
                pid => {
                    let mut status = 0;
                    libc::waitpid(pid, &raw mut status, 0);
                    assert!(
                        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
                        "{status}"
                    );
                }
            }
        }
        assert!(seat.with(|_: &mut Loud| ()).is_some());
        std::mem::forget(seat);
    }
}
