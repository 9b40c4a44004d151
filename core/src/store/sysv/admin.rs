//! For whoever looks after the locks: inspect, list, break, wait, clean up.

use super::config::Config;
use super::hold::{Gate, Held};
use super::kernel::{self, Done, MAX};
use super::layout::{self, FREE, LABEL, TAKEN, TAKERS};
use super::native::{self, Set};
use super::peer;
use super::store::Sysv;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::store::{Backend, Holder, Inspection, Page, this_host};
use crate::url::Url;
use crate::{Error, Result};

/// Removes the sets of locks that nobody holds or waits for; how many were removed. Safe at any time:
/// a set goes only while all of it is ours, and whoever knew it finds the next one.
///
/// # Errors
/// As [`super::open`], and trouble with the kernel.
pub fn clean_up(url: &str) -> Result<u64> {
    let mut url = Url::parse(url, &[])?;
    let config = Config::take(&mut url)?;
    url.finish()?;
    let store = Sysv::new(config);
    if !store.is_native() {
        return Err(Error::unsupported(
            "the peers of a dialect look after their sets themselves",
        ));
    }
    native::clean(&store.config)
        .map_err(|error| error.with_operation("clean up").with_store(store.url()))
}

/// A holder as the kernel knows it.
fn stranger(pid: i32, mode: &'static str, permits: u32) -> Holder {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0);
    Holder {
        owner: pid.map_or_else(|| "unknown".to_owned(), |pid| format!("pid {pid}")),
        mode,
        permits,
        host: this_host(),
        pid,
        ..Holder::default()
    }
}

/// What a set says of its holders.
struct Seen {
    free: u32,
    fence: u64,
    label: Option<String>,
    taken: Vec<u32>,
}

fn seen(values: &[u16]) -> Seen {
    let taken = &values[usize::from(TAKEN)..][..usize::from(TAKERS)];
    Seen {
        free: u32::from(values[usize::from(FREE)]),
        fence: layout::fence_in(values),
        label: layout::label_in(values),
        taken: taken.iter().map(|take| u32::from(*take)).collect(),
    }
}

impl Sysv {
    /// The set of a name, if there is one: nothing is made, and nobody is counted.
    fn find(&self, name: &Name) -> Result<Option<Gate>> {
        if self.is_native() {
            let found = native::find(&self.config, name.as_bytes())?;
            return Ok(found.map(Gate::Native));
        }
        let found = kernel::find(peer::key(&self.config, name)?)?;
        Ok(found.map(Gate::Peer))
    }

    pub(super) fn inspect_name(&self, name: &Name) -> Result<Inspection> {
        let mut found = Inspection {
            name: name.as_bytes().to_vec(),
            ..Inspection::default()
        };
        let process = self.process();
        let (queued, threads) = process.lines.waiting(name);
        let mut sleeping = 0;
        if let Some(gate) = self.find(name)? {
            found.holders = self.holders(gate)?;
            sleeping = kernel::waiters(gate.id(), gate.free())?.unwrap_or(0);
        }
        let unseen = queued.saturating_sub(threads);
        found.waiters = Some(sleeping.unsigned_abs() + unseen as u32);
        Ok(found)
    }

    fn holders(&self, gate: Gate) -> Result<Vec<Holder>> {
        let own = self.own_holders(gate);
        let others = match gate {
            Gate::Native(set) => native_holders(set, &own)?,
            Gate::Peer(id) => peer_holders(id, &own)?,
        };
        Ok(own.into_iter().chain(others).collect())
    }

    /// Holds of this process, about which more is known.
    fn own_holders(&self, gate: Gate) -> Vec<Holder> {
        let now = BootTime::now();
        let held = self.process().held.lock();
        let own = held.iter().filter(|(_, held)| held.gate.id() == gate.id());
        own.map(|(token, held)| Holder {
            owner: token.to_hex()[..8].to_owned(),
            mode: held.mode.kind(),
            permits: permits(held),
            host: this_host(),
            pid: Some(std::process::id()),
            label: held.label.as_deref().map(str::to_owned),
            remaining: None,
            held: Some(now.since(held.since)),
            fence: held.fence,
            brand: token.brand(),
        })
        .collect()
    }

    pub(super) fn list_page(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        if !self.is_native() {
            return Err(Error::unsupported(
                "a key does not say the name that it was made of",
            ));
        }
        let from = match cursor {
            None => 0,
            Some(cursor) => cursor
                .parse::<u32>()
                .ok()
                .and_then(|from| i32::try_from(from).ok())
                .ok_or_else(|| Error::invalid("this is no cursor of ours"))?,
        };
        let mut page = Page::default();
        native::each(&self.config, from, |place, set, name| {
            if page.locks.len() >= limit {
                page.cursor = Some(place.to_string());
                return Ok(false);
            }
            if name.starts_with(prefix) {
                let holders = self.holders(Gate::Native(set))?;
                if !holders.is_empty() {
                    page.locks.push(Inspection {
                        name,
                        holders,
                        waiters: None,
                    });
                }
            }
            Ok(true)
        })?;
        Ok(page)
    }

    pub(super) fn wait_until_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        loop {
            let Some(gate) = self.find(name)? else {
                return Ok(true);
            };
            if let Gate::Peer(id) = gate
                && kernel::value(id, peer::USERS)? == Some(0)
            {
                // Nobody has it open; what its first semaphore says is set anew by who comes.
                return Ok(true);
            }
            match kernel::wait(gate.id(), &gate.watch(), until)? {
                Done::Yes => return Ok(true),
                Done::Busy if until.has_passed() => return Ok(false),
                Done::Busy | Done::Interrupted | Done::Overflow | Done::Gone => {}
            }
        }
    }

    pub(super) fn break_name(&self, name: &Name) -> Result<bool> {
        if self.is_native() {
            return native::replace(&self.config, name.as_bytes());
        }
        let Some(gate) = self.find(name)? else {
            return Ok(false);
        };
        if peer_holders(gate.id(), &[])?.is_empty() {
            return Ok(false);
        }
        Ok(kernel::remove(gate.id())?.is_some())
    }
}

/// The set in which it is noted who broke a lock.
fn note_of(name: &Name) -> Vec<u8> {
    [b"broken:", name.as_bytes()].concat()
}

impl Sysv {
    /// In a set of its own, which nobody holds: its label is the breaker's, its counter the last that was broken.
    pub(super) fn note_in_set(&self, name: &Name, label: &str, last: u64) -> Result<()> {
        if !self.is_native() {
            return Ok(());
        }
        let Some(set) = native::find(&self.config, name.as_bytes())? else {
            return Ok(());
        };
        // Those of permits are not all known; none that was broken is above this.
        let newest = set.values(layout::fence_in)?.unwrap_or(0);
        native::note(&self.config, &note_of(name), last.min(newest), label)
    }

    pub(super) fn breaker_in_set(&self, name: &Name, fence: Option<u64>) -> Result<Option<Holder>> {
        if !self.is_native() {
            return Ok(None);
        }
        let Some(set) = native::find(&self.config, &note_of(name))? else {
            return Ok(None);
        };
        let Some(seen) = set.values(seen)? else {
            return Ok(None);
        };
        if seen.label.is_none() || fence.is_some_and(|fence| fence > seen.fence) {
            return Ok(None);
        }
        let pid = kernel::last_process(set.id, LABEL)?.unwrap_or(0);
        Ok(Some(Holder {
            label: seen.label,
            ..stranger(pid, "exclusive", 1)
        }))
    }
}

fn permits(held: &Held) -> u32 {
    match held.mode {
        Mode::Permits { take, .. } => take,
        _ => 1,
    }
}

/// Holders of a native set beside those of this process.
fn native_holders(set: Set, own: &[Holder]) -> Result<Vec<Holder>> {
    let Some(seen) = set.values(seen)? else {
        return Ok(Vec::new());
    };
    let me = std::process::id();
    if seen.free == 0 {
        if !own.is_empty() {
            return Ok(Vec::new());
        }
        let pid = kernel::last_process(set.id, FREE)?.unwrap_or(0);
        return Ok(vec![Holder {
            label: seen.label,
            fence: Some(seen.fence),
            ..stranger(pid, "exclusive", 1)
        }]);
    }
    let mut unknown = (MAX as u32).saturating_sub(seen.free);
    unknown = unknown.saturating_sub(own.iter().map(|holder| holder.permits).sum());
    let mut holders = Vec::new();
    for (place, take) in (TAKEN..).zip(seen.taken) {
        if take == 0 {
            continue;
        }
        let pid = kernel::last_process(set.id, place)?.unwrap_or(0);
        if u32::try_from(pid) != Ok(me) {
            unknown = unknown.saturating_sub(take);
            holders.push(stranger(pid, "permits", take));
        }
    }
    if unknown > 0 {
        holders.push(stranger(0, "permits", unknown));
    }
    Ok(holders)
}

/// The holder of a peer's set, if it is not this process.
fn peer_holders(id: i32, own: &[Holder]) -> Result<Vec<Holder>> {
    let users = kernel::value(id, peer::USERS)?.unwrap_or(0);
    let free = kernel::value(id, peer::FREE)?;
    if users == 0 || free != Some(0) || !own.is_empty() {
        return Ok(Vec::new());
    }
    let pid = kernel::last_process(id, peer::FREE)?.unwrap_or(0);
    Ok(vec![stranger(pid, "exclusive", 1)])
}
