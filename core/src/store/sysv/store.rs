//! The store: what one process holds and waits for, and the verbs.

use super::config::{Config, Dialect};
use super::hold::{self, Gate, Held, Look, Wish};
use super::kernel;
use super::native;
use super::peer;
use super::waits::{Lines, POLL, Parking, Standing, gate_left};
use crate::capability::{Capabilities, Fence, Scope};
use crate::fork::PerProcess;
use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::cautions::{Looked, of_namespace, of_semaphores};
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Holder, Inspection, Page};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a set may be removed between two looks before that is called trouble.
const MOST_TRIES: u32 = 10_000;
/// Sets whose numbers are kept.
const MOST_KNOWN: usize = 4096;

/// What a process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) config: Config,
    pub(super) held: Mutex<ByToken<Held>>,
    known: Mutex<HashMap<Name, native::Set>>,
    parking: Parking,
    pub(super) lines: Lines,
}

impl Process {
    /// The gate of a claim that is about to ask.
    pub(super) fn enter(&self, name: &Name) -> Result<Gate> {
        if self.config.dialect != Dialect::Native {
            let key = peer::key(&self.config, name)?;
            return peer::enter(&self.config, key).map(Gate::Peer);
        }
        if let Some(set) = self.known.lock().get(name) {
            return Ok(Gate::Native(*set));
        }
        let set = native::open(&self.config, name.as_bytes())?;
        let mut known = self.known.lock();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(name.clone(), set);
        Ok(Gate::Native(set))
    }

    /// The set that was known is gone.
    pub(super) fn forget(&self, name: &Name) {
        self.known.lock().remove(name);
    }

    pub(super) fn note(&self, token: OwnerToken, held: Held) {
        self.held.lock().insert(token, held);
    }

    fn held(&self, token: OwnerToken) -> Option<Held> {
        self.held.lock().get(&token).cloned()
    }

    /// Tries until the answer is one; the gate is still entered if it is busy.
    fn try_take(&self, wish: &Wish, mut known: Option<Gate>) -> Result<(Option<Held>, Gate)> {
        for _ in 0..MOST_TRIES {
            let gate = match known.take() {
                Some(gate) => gate,
                None => self.enter(&wish.name)?,
            };
            match hold::try_take(gate, wish) {
                Ok(Look::Held(held)) => return Ok((Some(held), gate)),
                Ok(Look::Gone) => self.forget(&wish.name),
                Ok(Look::Busy | Look::Woken(_)) => return Ok((None, gate)),
                Err(error) => {
                    gate_left(gate);
                    return Err(error);
                }
            }
        }
        Err(native::vanishing())
    }

    /// Ends a wait; what was granted meanwhile stays.
    fn stop_waiting(&self, claim: &Claim) {
        if let Some(gate) = self.parking.take(claim.token)
            && self.held(claim.token).is_none()
        {
            gate_left(gate);
        }
        self.lines.leave(&claim.name, claim.token);
    }
}

#[derive(Debug)]
pub(super) struct Sysv {
    url: String,
    pub(super) config: Config,
    process: PerProcess<Arc<Process>>,
    looked: Looked,
}

impl Sysv {
    pub(super) fn new(config: Config) -> Self {
        Sysv {
            url: config.url(),
            config,
            process: PerProcess::new(),
            looked: Looked::default(),
        }
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        self.process.get_or_init(|| {
            Arc::new(Process {
                config: self.config.clone(),
                held: Mutex::default(),
                known: Mutex::default(),
                parking: Parking::default(),
                lines: Lines::default(),
            })
        })
    }

    pub(super) fn is_native(&self) -> bool {
        self.config.dialect == Dialect::Native
    }

    /// A claim of an event loop waits in this process' line, and a thread in the kernel for the first.
    fn attempt_in_line(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        let process = self.process();
        let busy = |is_served: bool| {
            Attempt::Busy(Busy {
                until: None,
                poll: (!is_served).then(|| BootTime::now().after(POLL)),
                ..Busy::default()
            })
        };
        let wish = Wish::from(claim);
        let standing = process.lines.standing(&claim.name, claim.token);
        let tries = match standing {
            Standing::None | Standing::First => true,
            Standing::Behind => !claim.fair,
            Standing::Served | Standing::Unserved => false,
        };
        if tries {
            let (held, gate) = process.try_take(&wish, None)?;
            if let Some(held) = held {
                let grant = held.grant();
                process.lines.leave(&claim.name, claim.token);
                process.note(claim.token, held);
                return Ok(Attempt::Granted(grant));
            }
            gate_left(gate);
        }
        match standing {
            Standing::None | Standing::Behind => process.lines.join(process, &wish, bell).map(busy),
            Standing::Served => Ok(busy(true)),
            Standing::First | Standing::Unserved => Ok(busy(false)),
        }
    }
}

impl Backend for Sysv {
    fn capabilities(&self) -> Capabilities {
        let native = self.is_native();
        Capabilities {
            store: match self.config.dialect {
                Dialect::Native => "sysv",
                Dialect::Php => "sysv-php",
                Dialect::Symfony(_) => "sysv-symfony",
            },
            shared: false,
            promote: false,
            permits: native,
            ttl: false,
            frees_on_death: true,
            fence: if native { Fence::Hybrid } else { Fence::None },
            wakes: true,
            // The kernel's queue.
            fair: true,
            export: false,
            // A peer's key does not say its name.
            list: native,
            break_lock: true,
            survives_restart: false,
            clock: "none",
            scope: Scope::Host,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn first_caution(&self) -> Option<String> {
        self.looked.next(|| {
            let words = [of_namespace("semaphores"), of_semaphores()];
            words.into_iter().flatten().collect()
        })
    }

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        kernel::last_place().map(drop)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        hold::check_mode(self.is_native(), claim.mode)?;
        let process = self.process();
        if let Some(held) = process.held(claim.token) {
            process.parking.take(claim.token);
            return Ok(Attempt::Granted(held.grant()));
        }
        if let Some(bell) = bell.filter(|bell| bell.has_hook()) {
            return self.attempt_in_line(claim, bell);
        }
        let wish = Wish::from(claim);
        let known = process.parking.gate(claim.token);
        let tried = process.try_take(&wish, known);
        let (held, gate) = match tried {
            Ok(tried) => tried,
            Err(error) => {
                process.parking.take(claim.token);
                return Err(error);
            }
        };
        if let Some(held) = held {
            process.parking.take(claim.token);
            let grant = held.grant();
            process.note(claim.token, held);
            return Ok(Attempt::Granted(grant));
        }
        match bell {
            Some(_) if known == Some(gate) => {}
            Some(bell) => {
                process.parking.take(claim.token);
                process.parking.add(gate, wish, bell);
            }
            None if known.is_some() => {}
            None => gate_left(gate),
        }
        Ok(Attempt::Busy(Busy::default()))
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let process = self.process();
        Ok(process.parking.park(process, bell, until))
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let process = self.process();
        process.stop_waiting(claim);
        Ok(match process.held(claim.token) {
            Some(held) => Cancelled::Granted(held.grant()),
            None => Cancelled::Gone,
        })
    }

    fn extend(&self, _claim: &Claim, _ttl: Duration) -> Result<Answer> {
        Err(Error::unsupported(
            "this store has no leases: a lock is held until released or until its owner dies",
        ))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let process = self.process();
        process.stop_waiting(claim);
        let held = process.held.lock().remove(&claim.token);
        let Some(held) = held else {
            return Ok(Answer::NotOurs);
        };
        let let_go = match self.config.dialect {
            Dialect::Symfony(_) => remove(&held),
            Dialect::Native | Dialect::Php => held.give_back(),
        };
        match let_go {
            Ok(true) => Ok(Answer::Done(None)),
            Ok(false) => Ok(Answer::NotOurs),
            Err(error) => {
                // It is held still, and the release is asked for again.
                process.note(claim.token, held);
                Err(error)
            }
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let process = self.process();
        let Some(held) = process.held(claim.token) else {
            return Ok(false);
        };
        if held.is_there()? {
            return Ok(true);
        }
        process.held.lock().remove(&claim.token);
        held.forget();
        Ok(false)
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.wait_until_free(name, until)
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        self.inspect_name(name)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        _deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.list_page(prefix, cursor, limit)
    }

    fn break_lock(&self, name: &Name, _deadline: Option<BootTime>) -> Result<bool> {
        self.break_name(name)
    }

    fn note_breaker(&self, name: &Name, label: &str, last: u64) -> Result<()> {
        self.note_in_set(name, label, last)
    }

    fn breaker(&self, name: &Name, fence: Option<u64>) -> Result<Option<Holder>> {
        self.breaker_in_set(name, fence)
    }
}

/// Lets go as Symfony does, by removing the set. Where somebody waits, who would have to begin anew among
/// newcomers, or where that is not allowed, as PHP does: the kernel hands the set on, and its last holder
/// removes it.
fn remove(held: &Held) -> Result<bool> {
    if !held.is_there()? {
        held.forget();
        return Ok(false);
    }
    if kernel::waiters(held.gate.id(), peer::FREE)?.is_some_and(|waiters| waiters > 0) {
        return held.give_back();
    }
    match kernel::remove(held.gate.id()) {
        Ok(removed) => Ok(removed.is_some()),
        Err(_) => held.give_back(),
    }
}
