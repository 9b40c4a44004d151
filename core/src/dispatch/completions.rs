//! Completions that wait to be reaped, and the descriptor that says so.

use super::sync::Mutex;
use std::collections::VecDeque;

/// Oldest first.
#[derive(Debug)]
pub(crate) struct Completions<C>(Mutex<VecDeque<C>>);

impl<C> Completions<C> {
    pub(crate) fn new() -> Self {
        Completions(Mutex::new(VecDeque::new()))
    }

    /// Adds one; `ring` makes the descriptor readable.
    pub(crate) fn put(&self, completion: C, ring: impl FnOnce()) {
        let mut waiting = self.0.lock();
        waiting.push_back(completion);
        // Under the mutex, or a reap in between would leave it readable, or quiet, for ever.
        if cfg!(canary = "ring_unlocked") {
            drop(waiting);
            ring();
        } else if waiting.len() == 1 {
            ring();
        }
    }

    /// Takes up to `most`; `quiet` makes the descriptor unreadable again if that was all.
    pub(crate) fn reap(&self, most: usize, quiet: impl FnOnce()) -> Vec<C> {
        let mut waiting = self.0.lock();
        let count = most.min(waiting.len());
        let reaped: Vec<_> = waiting.drain(..count).collect();
        if waiting.is_empty() {
            quiet();
        }
        reaped
    }
}
