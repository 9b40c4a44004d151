//! Completions that wait to be reaped, and the descriptor that says so.

use super::sync::Mutex;
use std::collections::VecDeque;

/// Oldest first.
#[derive(Debug)]
pub(crate) struct Completions<C>(Mutex<State<C>>);

#[derive(Debug)]
struct State<C> {
    waiting: VecDeque<C>,
    /// How many are about to take: for them nobody rings.
    takers: usize,
    /// Whether the descriptor is readable.
    is_rung: bool,
}

impl<C> Completions<C> {
    pub(crate) fn new() -> Self {
        Completions(Mutex::new(State {
            waiting: VecDeque::new(),
            takers: 0,
            is_rung: false,
        }))
    }

    /// Adds one; `ring` makes the descriptor readable.
    pub(crate) fn put(&self, completion: C, ring: impl FnOnce()) {
        let mut state = self.0.lock();
        state.waiting.push_back(completion);
        // Under the mutex, or a reap in between would leave it readable, or quiet, for ever.
        if cfg!(canary = "ring_unlocked") {
            drop(state);
            ring();
        } else if state.takers == 0 && !state.is_rung {
            state.is_rung = true;
            ring();
        }
    }

    /// Takes up to `most`. What `read` adds needs no ring; afterwards the descriptor is readable if not all was
    /// taken, and quiet otherwise.
    pub(crate) fn reap(
        &self,
        most: usize,
        read: impl FnOnce(),
        ring: impl FnOnce(),
        quiet: impl FnOnce(),
    ) -> Vec<C> {
        self.0.lock().takers += 1;
        read();
        let mut state = self.0.lock();
        state.takers -= 1;
        let count = most.min(state.waiting.len());
        let reaped: Vec<_> = state.waiting.drain(..count).collect();
        let is_left = !state.waiting.is_empty() && !cfg!(canary = "take_some");
        if is_left && !state.is_rung {
            ring();
        } else if !is_left && (state.is_rung || cfg!(canary = "ring_unlocked")) {
            quiet();
        }
        state.is_rung = is_left;
        reaped
    }
}
