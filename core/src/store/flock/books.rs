//! What one process has open: holds by token, idle descriptors and waiters by name.

use super::file::LockFile;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Claim, Grant};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Descriptors kept open for names that nobody holds.
const MOST_IDLE: usize = 64;

/// A hold of this process.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) file: Arc<LockFile>,
    pub(super) mode: Mode,
    pub(super) fence: Option<u64>,
    pub(super) since: BootTime,
    pub(super) label: Option<Arc<str>>,
}

impl Held {
    pub(super) fn grant(&self) -> Grant {
        Grant {
            lease: None,
            fence: self.fence,
            recovered: false,
        }
    }
}

#[derive(Debug)]
struct Waiter {
    token: OwnerToken,
    bell: Arc<Signal>,
    asked: u32,
}

/// What this process has open.
#[derive(Debug, Default)]
pub(super) struct Books {
    idle: HashMap<Name, Vec<Arc<LockFile>>>,
    idle_files: usize,
    pub(super) held: HashMap<OwnerToken, Held>,
    waiting: HashMap<Name, VecDeque<Waiter>>,
}

impl Books {
    pub(super) fn take_idle(&mut self, name: &Name) -> Option<Arc<LockFile>> {
        let files = self.idle.get_mut(name)?;
        let file = files.pop();
        self.idle_files -= usize::from(file.is_some());
        file
    }

    /// Keeps an unlocked file for the next time; what comes back must be dropped without the mutex.
    pub(super) fn keep(&mut self, name: &Name, file: Arc<LockFile>) -> Vec<Arc<LockFile>> {
        let mut out = Vec::new();
        if self.idle_files >= MOST_IDLE || self.idle.len() > 2 * MOST_IDLE {
            self.idle.retain(|_, files| !files.is_empty());
            if let Some(victim) = self.idle.keys().next().cloned() {
                out = self.idle.remove(&victim).unwrap_or_default();
                self.idle_files -= out.len();
            }
        }
        if let Some(files) = self.idle.get_mut(name) {
            files.push(file);
        } else {
            self.idle.insert(name.clone(), vec![file]);
        }
        self.idle_files += 1;
        out
    }

    pub(super) fn drop_idle(&mut self) -> HashMap<Name, Vec<Arc<LockFile>>> {
        self.idle_files = 0;
        std::mem::take(&mut self.idle)
    }

    /// Notes a waiter; how often it has asked before.
    pub(super) fn wait(&mut self, claim: &Claim, bell: &Arc<Signal>) -> u32 {
        let queue = self.waiting.entry(claim.name.clone()).or_default();
        if let Some(known) = queue.iter_mut().find(|known| known.token == claim.token) {
            known.bell = bell.clone();
            known.asked += 1;
            return known.asked;
        }
        queue.push_back(Waiter {
            token: claim.token,
            bell: bell.clone(),
            asked: 0,
        });
        0
    }

    pub(super) fn stop_waiting(&mut self, claim: &Claim) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(queue) = self.waiting.get_mut(&claim.name) {
            queue.retain(|known| known.token != claim.token);
            if queue.is_empty() {
                self.waiting.remove(&claim.name);
            }
        }
    }

    pub(super) fn first_bell(&self, name: &Name) -> Option<Arc<Signal>> {
        if self.waiting.is_empty() {
            return None;
        }
        self.waiting
            .get(name)?
            .front()
            .map(|first| first.bell.clone())
    }
}
