//! Slots that are found by a checked number, never by an address.
//!
//! Slots live in chunks that never move. A call pins the slot; freeing clears its live bit, and
//! whoever unpins last destroys what is in it. Nothing here is locked across a fork: the list of free
//! slots belongs to one process.

use super::sync::{
    AtomicPtr, AtomicU32, AtomicU64, CHUNK, CHUNKS, FreeList, GENERATIONS, Ordering, UnsafeCell,
};

const LIVE: u64 = 1 << 31;
const PINS: u64 = LIVE - 1;

/// What stands in a slot.
pub(crate) trait Entry: Send + Sync {
    /// Before it goes, while others may still use it.
    fn end(&self);
    /// Nobody uses it any more.
    fn destroy(self);
}

/// Generation in the high half; live bit and number of pins in the low one.
pub(crate) struct Slot<T> {
    word: AtomicU64,
    entry: UnsafeCell<Option<T>>,
}

// SAFETY: the entry is written only while nobody can pin the slot, and read only under a pin;
// entries are Send and Sync.
unsafe impl<T: Entry> Sync for Slot<T> {}

pub(crate) type Chunk<T> = [Slot<T>; CHUNK];

/// The table.
pub(crate) struct Table<T: 'static> {
    pub(crate) chunks: [AtomicPtr<Chunk<T>>; CHUNKS],
    /// Slots that were ever used.
    pub(crate) next: AtomicU32,
    pub(crate) free: FreeList,
}

/// Where a slot is, and which of its uses is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) index: u32,
    pub(crate) generation: u64,
}

fn fresh_chunk<T>() -> *mut Chunk<T> {
    // On the heap from the start: a chunk is larger than some stacks have room for.
    let slots: Box<[Slot<T>]> = (0..CHUNK)
        .map(|_| Slot {
            word: AtomicU64::new(1 << 32),
            entry: UnsafeCell::new(None),
        })
        .collect();
    Box::into_raw(slots).cast()
}

impl<T: Entry> Table<T> {
    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let chunk = self
            .chunks
            .get(index as usize / CHUNK)?
            .load(Ordering::Acquire);
        // SAFETY: chunks are published whole and never freed.
        unsafe { chunk.as_ref() }?.get(index as usize % CHUNK)
    }

    fn make_chunk(&self, index: u32) -> Option<()> {
        let place = self.chunks.get(index as usize / CHUNK)?;
        if place.load(Ordering::Acquire).is_null() {
            let fresh = fresh_chunk();
            let put = place.compare_exchange(
                std::ptr::null_mut(),
                fresh,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if put.is_err() {
                // SAFETY: another thread was first; ours was never shared.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
        Some(())
    }

    /// Puts an entry in; nothing if the table is full.
    pub(crate) fn insert(&self, entry: T) -> Option<Place> {
        let free = self.free.with(Vec::pop);
        let index = match free {
            Some(index) => index,
            None => {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if self.make_chunk(index).is_none() {
                    self.next.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                index
            }
        };
        let slot = self.slot(index)?;
        let generation = slot.word.load(Ordering::Acquire) >> 32;
        // SAFETY: the slot is not live and in nobody's list: only we know of it.
        slot.entry.with_mut(|place| unsafe { *place = Some(entry) });
        slot.word.store(generation << 32 | LIVE, Ordering::Release);
        Some(Place { index, generation })
    }

    /// Pins an entry, if it is still there.
    #[inline]
    pub(crate) fn pin(&self, place: Place) -> Option<Pin<'_, T>> {
        let slot = self.slot(place.index)?;
        let mut word = slot.word.load(Ordering::Acquire);
        loop {
            // Canary of rows 37 and 41: a slot is taken for what it was.
            let stale = word >> 32 != place.generation && !cfg!(canary = "any_generation");
            if stale || word & LIVE == 0 || word & PINS == PINS {
                return None;
            }
            match slot.word.compare_exchange_weak(
                word,
                word + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        Some(Pin {
            table: self,
            slot,
            index: place.index,
        })
    }

    /// How many slots were ever used.
    pub(crate) fn used(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// What can be pinned at an index now.
    pub(crate) fn live(&self, index: u32) -> Option<Place> {
        let word = self.slot(index)?.word.load(Ordering::Acquire);
        (word & LIVE != 0).then_some(Place {
            index,
            generation: word >> 32,
        })
    }

    #[cold]
    fn destroy(&self, slot: &Slot<T>, index: u32) {
        // SAFETY: not live and the last pin is gone: nobody else gets here, or can pin it.
        let entry = slot.entry.with_mut(|place| unsafe { (*place).take() });
        let generation = (slot.word.load(Ordering::Acquire) >> 32) + 1;
        // A generation is never used twice: a slot that has run through them all stays empty.
        if generation < GENERATIONS {
            slot.word.store(generation << 32, Ordering::Release);
            self.free.with(|free| free.push(index));
        }
        if let Some(entry) = entry {
            entry.destroy();
        }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            let chunk = chunk.load(Ordering::Acquire);
            if !chunk.is_null() {
                // SAFETY: made by `fresh_chunk`; exclusive access, so nobody has a pin.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
    }
}

/// A use of an entry, which lives at least as long.
pub(crate) struct Pin<'a, T: Entry + 'static> {
    table: &'a Table<T>,
    slot: &'a Slot<T>,
    index: u32,
}

impl<T: Entry> Pin<'_, T> {
    /// The entry.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: pinned, so nobody writes to it.
        self.slot.entry.with(|place| unsafe { (*place).as_ref() })
    }

    /// Frees the entry: nobody pins it any more, and whoever unpins last destroys it. Of two that
    /// try, one succeeds.
    pub(crate) fn free(self) -> bool {
        let mut word = self.slot.word.load(Ordering::Acquire);
        loop {
            if word & LIVE == 0 {
                return false;
            }
            match self.slot.word.compare_exchange_weak(
                word,
                word & !LIVE,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if let Some(entry) = self.get() {
            entry.end();
        }
        true
    }
}

impl<T: Entry> Drop for Pin<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let before = self.slot.word.fetch_sub(1, Ordering::AcqRel);
        let is_last = before & PINS == 1 || cfg!(canary = "any_pin_is_last");
        if before & LIVE == 0 && is_last {
            self.table.destroy(self.slot, self.index);
        }
    }
}
