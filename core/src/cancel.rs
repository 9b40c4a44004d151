//! Ends any wait from any thread.

// By `super`: the model checker compiles this file among types of its own.
use super::signal::Signal;
use super::sync::{AtomicBool, Mutex};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// A switch that, once thrown, ends every wait that was given it, now and later.
///
/// Clones are the same switch. Usable from any thread; not from a signal handler.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    thrown: AtomicBool,
    /// Switches that count as this one.
    also: Vec<Cancel>,
    bells: Mutex<Vec<Weak<Signal>>>,
}

impl Cancel {
    /// Not thrown yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch that is thrown when either is.
    pub fn either(one: &Cancel, other: &Cancel) -> Self {
        Cancel(Arc::new(Inner {
            also: vec![one.clone(), other.clone()],
            ..Inner::default()
        }))
    }

    /// Throws the switch.
    pub fn cancel(&self) {
        self.0.thrown.store(true, Ordering::SeqCst);
        let bells = std::mem::take(&mut *self.0.bells.lock());
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }

    /// Whether it was thrown.
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::SeqCst) || self.0.also.iter().any(Cancel::is_cancelled)
    }

    /// Rings `bell` when the switch is thrown, or at once if it was.
    pub(crate) fn attach(&self, bell: &Arc<Signal>) {
        self.0.also.iter().for_each(|switch| switch.attach(bell));
        {
            let mut bells = self.0.bells.lock();
            bells.retain(|known| known.strong_count() > 0);
            bells.push(Arc::downgrade(bell));
        }
        if self.is_cancelled() {
            bell.ring();
        }
    }
}
