//! What this process has opened, by the whole URL: whoever asks for what is there gets that.
//!
//! Nothing is taken out again before the process ends, and a forked child begins with nothing. So there
//! is one thing that threads can do to each other here: open the same URL at once.

use super::{MOST_KEPT, Mutex, PerProcess};
use std::collections::HashMap;

#[derive(Debug)]
pub(super) struct Opened<T: 'static> {
    pub(super) kept: PerProcess<Mutex<HashMap<String, T>>>,
}

impl<T: Clone + Send + Sync> Opened<T> {
    /// What is kept under this key, or what `open` makes. It is called without the lock, since it may take
    /// long and open others: two threads may both call theirs; one result is kept, and both get it.
    pub(super) fn get_or_open<E>(
        &self,
        key: String,
        open: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = self.kept.get_or_init(Mutex::default);
        if let Some(known) = kept.lock().get(&key) {
            return Ok(known.clone());
        }
        let made = open()?;
        let mut kept = kept.lock();
        if let Some(known) = kept.get(&key)
            && !cfg!(canary = "look_once")
        {
            return Ok(known.clone());
        }
        if kept.len() < MOST_KEPT {
            kept.insert(key, made.clone());
        }
        Ok(made)
    }

    /// All that is kept now.
    pub(super) fn all(&self) -> Vec<T> {
        let kept = self.kept.get();
        kept.map_or_else(Vec::new, |kept| kept.lock().values().cloned().collect())
    }
}
