//! What a store has to say of the place where its locks are, before or at its first use. Each thing
//! is told once; what cannot be looked at is not spoken of.

mod folder;
mod host;
mod server;

pub(super) use folder::of_folder;
pub(super) use host::{of_namespace, of_semaphores};
pub(super) use server::of_addresses;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(super) use server::of_clocks;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use server::of_galera;

use crate::fork::PerProcess;
use crate::sync::Mutex;
use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Words of a server, each told once in a process.
#[derive(Debug, Default)]
pub(super) struct Cautions(PerProcess<Found>);

#[derive(Debug, Default)]
struct Found {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    has_looked: AtomicBool,
    is_due: AtomicBool,
    words: Mutex<Words>,
}

#[derive(Debug, Default)]
struct Words {
    all: Vec<String>,
    told: usize,
}

impl Cautions {
    pub fn add(&self, words: impl IntoIterator<Item = String>) {
        for text in words {
            let found = self.0.get_or_init(Found::default);
            let mut words = found.words.lock();
            if !words.all.contains(&text) {
                words.all.push(text);
                found.is_due.store(true, Ordering::Release);
            }
        }
    }

    /// Whether this process has looked at the server.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn has_looked(&self) -> &AtomicBool {
        &self.0.get_or_init(Found::default).has_looked
    }

    /// The next words that were not told.
    pub fn take(&self) -> Option<String> {
        let found = self.0.get()?;
        if !found.is_due.load(Ordering::Acquire) {
            return None;
        }
        let mut words = found.words.lock();
        let next = words.all.get(words.told).cloned();
        words.told += usize::from(next.is_some());
        found
            .is_due
            .store(words.told < words.all.len(), Ordering::Release);
        next
    }
}

/// Whether the place of a store of this host was looked at, and what was found there. No lock: a fork
/// may come at any time.
#[derive(Debug, Default)]
pub(super) struct Looked {
    begun: AtomicBool,
    found: OnceBox<Vec<String>>,
    told: AtomicUsize,
}

impl Looked {
    /// The next words; looks the first time.
    pub fn next(&self, look: impl FnOnce() -> Vec<String>) -> Option<String> {
        if !self.begun.load(Ordering::Relaxed) && !self.begun.swap(true, Ordering::Relaxed) {
            let _ = self.found.set(Box::new(look()));
        }
        let found = self.found.get()?;
        if self.told.load(Ordering::Relaxed) >= found.len() {
            return None;
        }
        found
            .get(self.told.fetch_add(1, Ordering::Relaxed))
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_told_once() {
        let words = Cautions::default();
        assert_eq!(words.take(), None);
        words.add(["a".to_owned(), "b".to_owned()]);
        assert_eq!(words.take().as_deref(), Some("a"));
        words.add(["a".to_owned(), "c".to_owned()]);
        assert_eq!(words.take().as_deref(), Some("b"));
        assert_eq!(words.take().as_deref(), Some("c"));
        assert_eq!(words.take(), None);
        let looked = Looked::default();
        assert_eq!(looked.next(|| vec!["x".to_owned()]).as_deref(), Some("x"));
        assert_eq!(looked.next(|| vec!["y".to_owned()]), None);
    }
}
