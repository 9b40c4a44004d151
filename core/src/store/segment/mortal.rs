//! Words of the model checker, on which a process may die.

use loom::sync::atomic::Ordering;

/// A word on which a process may die: before each of its accesses the process that is marked as
/// mortal counts down, and ends when it comes to nought.
#[derive(Debug, Default)]
pub struct AtomicU64(pub loom::sync::atomic::AtomicU64);

/// How a process of the model dies.
#[derive(Debug)]
pub struct Death;

loom::thread_local! {
    /// After how many steps this process dies.
    pub static LEFT: std::cell::Cell<Option<u32>> = std::cell::Cell::new(None);
}

fn step() {
    LEFT.with(|left| match left.get() {
        None => {}
        Some(0) => std::panic::resume_unwind(Box::new(Death)),
        Some(more) => left.set(Some(more - 1)),
    });
}

impl AtomicU64 {
    /// A word.
    pub fn new(value: u64) -> Self {
        AtomicU64(loom::sync::atomic::AtomicU64::new(value))
    }
    /// As the standard library's.
    pub fn load(&self, order: Ordering) -> u64 {
        step();
        self.0.load(order)
    }
    /// As the standard library's.
    pub fn store(&self, value: u64, order: Ordering) {
        step();
        self.0.store(value, order);
    }
    /// As the standard library's.
    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.swap(value, order)
    }
    /// As the standard library's.
    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_add(value, order)
    }
    /// As the standard library's.
    pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_or(value, order)
    }
    /// As the standard library's.
    ///
    /// # Errors
    /// The word's value if it is not `from`.
    pub fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        good: Ordering,
        bad: Ordering,
    ) -> Result<u64, u64> {
        step();
        self.0.compare_exchange(from, to, good, bad)
    }
}
