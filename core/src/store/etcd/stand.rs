//! Standing in line: how a claim's key is made, looked at, taken up and taken away.

use super::client::{Entry, Etcd, Fault, Process};
use super::leases::{self, LOOK, Lease, WAITING};
use super::wire::{self, Kv};
use super::{names, record};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::line::{self, Contender, Standing};
use crate::store::{Attempt, Busy, Claim, Grant};
use crate::{Error, Result};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How often a key that vanishes is made again within one call.
const ROUNDS: usize = 4;

/// Where the keys of one lock lie.
pub(super) struct Folder {
    pub start: Vec<u8>,
    pub end: Vec<u8>,
}

/// What was seen of a line.
pub(super) struct View {
    /// In its order; perhaps its end alone.
    pub line: Vec<Contender>,
    /// The store's revision at that moment.
    pub revision: i64,
}

pub(super) fn ttl(claim: &Claim) -> Duration {
    claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)
}

fn disagree(of: u32) -> Error {
    Error::invalid(format!("others use this name with {of} permits"))
}

pub(super) fn vanishes() -> Error {
    let words = "the lock's key vanishes again and again";
    Error::new(Code::Unavailable, words)
}

/// A key, as the line knows it: hexadecimal, since keys are any bytes.
pub(super) fn node(key: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(key.len() * 2);
    for byte in key {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

impl Folder {
    /// Whether a key is a claim of this lock's: others may lie below it, by a peer's longer name.
    pub fn has(&self, key: &[u8]) -> bool {
        key.strip_prefix(self.start.as_slice())
            .is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'/'))
    }

    /// The claims among these keys, which come in their order.
    pub fn line(&self, kvs: &[Kv]) -> Vec<Contender> {
        let own = kvs.iter().filter(|kv| self.has(&kv.key));
        own.map(|kv| Contender {
            node: node(&kv.key),
            mode: record::read(&kv.value).mode,
        })
        .collect()
    }
}

impl Etcd {
    pub fn folder(&self, name: &Name) -> Folder {
        let start = names::folder(&self.config.prefix, name.as_bytes());
        let end = names::end(&start);
        Folder { start, end }
    }

    fn entry(&self, claim: &Claim, folder: &Folder, lease: Lease) -> Result<Entry> {
        let process = self.process()?;
        let mut key = folder.start.clone();
        key.extend(format!("{:x}", lease.id).into_bytes());
        Ok(Entry {
            key,
            value: record::write(claim, claim.token, &process.host, std::process::id()),
            created: None,
            changed: 0,
            adrift: false,
            lease,
            named: None,
            unsure: false,
            until: None,
            watch: None,
        })
    }

    /// What is asked of the line for a claim of this mode: the last two say enough to who is exclusive.
    fn question(folder: &Folder, mode: Mode, created: Option<i64>) -> Value {
        if wire::sees_by_two(mode) {
            wire::last_two(&folder.start, &folder.end, created)
        } else {
            wire::line(&folder.start, &folder.end)
        }
    }

    /// The line out of what was answered to `question`; the whole of it, if something else lies there.
    fn view(
        &self,
        folder: &Folder,
        mode: Mode,
        kvs: &[Kv],
        revision: i64,
        limit: BootTime,
    ) -> Result<View> {
        if !wire::sees_by_two(mode) {
            let line = folder.line(kvs);
            return Ok(View { line, revision });
        }
        if kvs.iter().all(|kv| folder.has(&kv.key)) {
            let mut line = folder.line(kvs);
            line.reverse();
            return Ok(View { line, revision });
        }
        let (kvs, revision) = self.keys(folder, limit)?;
        let line = folder.line(&kvs);
        Ok(View { line, revision })
    }

    /// All keys of a lock, and the revision at which they were so.
    pub fn keys(&self, folder: &Folder, limit: BootTime) -> Result<(Vec<Kv>, i64)> {
        let question = wire::line(&folder.start, &folder.end);
        let value = self.read(wire::RANGE, &question, limit)?;
        Ok((wire::kvs(&value)?, wire::revision(&value)))
    }

    /// The one way for everybody: takes a free lock in one step, stands in line otherwise.
    pub fn stand(
        &self,
        claim: &Claim,
        bell: Option<&Arc<Signal>>,
        limit: BootTime,
    ) -> Result<Attempt> {
        let process = self.process()?;
        let folder = self.folder(&claim.name);
        for _ in 0..ROUNDS {
            let asked = BootTime::now();
            let found = match process.known(claim.token) {
                Some(entry) => self.look(claim, &folder, &entry, limit)?,
                None => match self.take_free(claim, &folder, asked, bell.is_some(), limit)? {
                    Start::Granted(attempt) | Start::Busy(attempt) => return Ok(attempt),
                    Start::Joined(view) => Some(view),
                    Start::Vanished => None,
                },
            };
            let (Some(view), Some(entry)) = (found, process.known(claim.token)) else {
                continue;
            };
            match line::standing(&view.line, &node(&entry.key)) {
                Standing::Holds => {
                    if let Some(attempt) = self.take_up(claim, &entry, limit)? {
                        return Ok(attempt);
                    }
                }
                Standing::Missing if cfg!(canary = "trusts_place") => {
                    let created = entry.created.unwrap_or(1);
                    return self.granted(claim, created, asked.after(ttl(claim)));
                }
                // Deleted by somebody, or its lease has run out.
                Standing::Missing => self.lose(claim, &entry, limit)?,
                Standing::Disagrees(of) => {
                    self.withdraw(claim, limit)?;
                    return Err(disagree(of));
                }
                waits => match bell {
                    Some(bell) => return self.wait(claim, &folder, waits, &view, bell),
                    None => {
                        self.withdraw(claim, limit)?;
                        return Ok(Attempt::Busy(Busy::default()));
                    }
                },
            }
        }
        Err(vanishes())
    }

    /// Takes the lock if nobody is there; if somebody is, joins the line if that is asked for.
    fn take_free(
        &self,
        claim: &Claim,
        folder: &Folder,
        asked: BootTime,
        joins: bool,
        limit: BootTime,
    ) -> Result<Start> {
        let process = self.process()?;
        let lease = self.lease(leases::seconds(ttl(claim)), ttl(claim), limit)?;
        let entry = self.entry(claim, folder, lease)?;
        process.note(claim.token, entry.clone());
        let put = wire::put(&entry.key, &entry.value, entry.lease.id);
        let line = wire::ranged(wire::line(&folder.start, &folder.end));
        let body = wire::txn(
            &[wire::is_empty(&folder.start, &folder.end)],
            &[put],
            &[wire::ranged(wire::get(&entry.key)), line],
        );
        let Some(found) = self.make(claim, &body, limit)? else {
            return Ok(Start::Vanished);
        };
        if found.succeeded {
            process.made(claim.token, found.revision, found.revision);
            let until = asked.after(ttl(claim));
            return Ok(Start::Granted(self.granted(
                claim,
                found.revision,
                until,
            )?));
        }
        if let Some(own) = found.part(0).first()
            && !cfg!(canary = "no_replay")
        {
            if own.value != entry.value.as_bytes() {
                return self.avoid(claim);
            }
            // An earlier request of this call made it.
            process.made(claim.token, own.created, own.changed);
            let line = folder.line(found.part(1));
            let revision = found.revision;
            return Ok(Start::Joined(View { line, revision }));
        }
        let line = folder.line(found.part(1));
        let fits = match line::newcomer(&line, claim.mode) {
            Standing::Holds => true,
            Standing::Disagrees(of) => {
                self.withdraw(claim, limit)?;
                return Err(disagree(of));
            }
            _ => false,
        };
        if !fits && !joins {
            self.withdraw(claim, limit)?;
            return Ok(Start::Busy(Attempt::Busy(Busy::default())));
        }
        match self.queue_up(claim, folder, &entry, fits, limit) {
            // It comes too late for the caller, who is told what is known: somebody has it.
            Err(error) if !fits && error.is_trouble() && limit.has_passed() => {
                Ok(Start::Busy(Attempt::Busy(Busy::default())))
            }
            queued => queued,
        }
    }

    fn queue_up(
        &self,
        claim: &Claim,
        folder: &Folder,
        entry: &Entry,
        fits: bool,
        limit: BootTime,
    ) -> Result<Start> {
        if !fits && entry.lease.asked > WAITING + 1 {
            // Who waits has a short lease: if it dies, nobody waits for it for long.
            self.withdraw(claim, limit)?;
            let lease = self.lease(WAITING, LOOK, limit)?;
            let entry = self.entry(claim, folder, lease)?;
            self.process()?.note(claim.token, entry);
        }
        Ok(match self.join(claim, folder, limit)? {
            Some(view) => Start::Joined(view),
            None => Start::Vanished,
        })
    }

    /// Puts the claim's key at the end of the line, and reads the line.
    fn join(&self, claim: &Claim, folder: &Folder, limit: BootTime) -> Result<Option<View>> {
        let process = self.process()?;
        let Some(entry) = process.known(claim.token) else {
            return Ok(None);
        };
        let question = wire::ranged(Self::question(folder, claim.mode, None));
        let own = wire::ranged(wire::get(&entry.key));
        let body = wire::txn(
            &[wire::is_of(&entry.key, 0)],
            &[
                wire::put(&entry.key, &entry.value, entry.lease.id),
                own.clone(),
                question.clone(),
            ],
            // A later answer may show others behind it.
            &[
                own.clone(),
                own,
                wire::ranged(wire::line(&folder.start, &folder.end)),
            ],
        );
        let Some(found) = self.make(claim, &body, limit)? else {
            return Ok(None);
        };
        let Some(own) = found.part(1).first() else {
            return Ok(None);
        };
        if own.value != entry.value.as_bytes() {
            self.avoid(claim)?;
            return Ok(None);
        }
        process.made(claim.token, own.created, own.changed);
        if found.succeeded {
            self.view(folder, claim.mode, found.part(2), found.revision, limit)
                .map(Some)
        } else {
            let (line, revision) = (folder.line(found.part(2)), found.revision);
            Ok(Some(View { line, revision }))
        }
    }

    /// The claim's key has the name of another's, whose lease it was: it never uses that lease again.
    fn avoid(&self, claim: &Claim) -> Result<Start> {
        self.process()?.forget(claim.token);
        Ok(Start::Vanished)
    }

    /// A transaction that may make the claim's key; nothing if its lease has run out.
    fn make(&self, claim: &Claim, body: &Value, limit: BootTime) -> Result<Option<wire::Outcome>> {
        let process = self.process()?;
        match self.act(wire::TXN, body, limit) {
            Ok(reply) => {
                if reply.again {
                    process.change(claim.token, |entry| entry.unsure = true);
                }
                let found = wire::outcome(&reply.value);
                if found.is_err() {
                    process.change(claim.token, |entry| entry.unsure = true);
                }
                found.map(Some)
            }
            Err(Fault::LeaseGone) => {
                process.forget(claim.token);
                Ok(None)
            }
            Err(fault) => {
                let error = Error::from(fault);
                if error.code() == Code::Uncertain {
                    process.change(claim.token, |entry| entry.unsure = true);
                } else {
                    process.forget(claim.token);
                }
                Err(error)
            }
        }
    }

    /// The line as it is now, with the lease of who waits in it prolonged; nothing if the claim is not known
    /// any more.
    fn look(
        &self,
        claim: &Claim,
        folder: &Folder,
        entry: &Entry,
        limit: BootTime,
    ) -> Result<Option<View>> {
        let process = self.process()?;
        let Some(created) = entry.created else {
            // An earlier call's answer was lost. Its requests may come yet, but not after this.
            self.revoke(entry.lease.id, limit)?;
            process.forget(claim.token);
            return Ok(None);
        };
        let mut lease = entry.lease.clone();
        let spare = Duration::from_secs(lease.seconds.saturating_sub(1));
        if !self.prolong(&mut lease, spare, limit)? {
            self.lose(claim, entry, limit)?;
            return Ok(None);
        }
        process.change(claim.token, |entry| entry.lease = lease);
        let question = Self::question(folder, claim.mode, Some(created));
        let value = self.read(wire::RANGE, &question, limit)?;
        let kvs = wire::kvs(&value)?;
        self.view(folder, claim.mode, &kvs, wire::revision(&value), limit)
            .map(Some)
    }

    /// The first of the line comes to hold: its key gets a lease of the right length. Nothing if it is gone.
    pub fn take_up(
        &self,
        claim: &Claim,
        entry: &Entry,
        limit: BootTime,
    ) -> Result<Option<Attempt>> {
        let process = self.process()?;
        let Some(created) = entry.created else {
            return Ok(None);
        };
        let asked = BootTime::now();
        let until = asked.after(ttl(claim));
        let mut lease = entry.lease.clone();
        let long = Duration::from_secs(lease.seconds) >= ttl(claim);
        // Others learn by it that permits are taken.
        let tells = matches!(claim.mode, Mode::Permits { .. });
        if long {
            if !self.prolong(&mut lease, ttl(claim), limit)? {
                self.lose(claim, entry, limit)?;
                return Ok(None);
            }
        } else {
            lease = self.lease(leases::seconds(ttl(claim)), ttl(claim), limit)?;
        }
        let moves = !long || tells || entry.adrift;
        if moves && !self.hang(claim, &mut entry.clone(), &lease, limit)? {
            return Ok(None);
        }
        process.change(claim.token, |entry| entry.lease = lease);
        process.unwatch(claim.token);
        self.granted(claim, created, until).map(Some)
    }

    pub fn granted(&self, claim: &Claim, created: i64, until: BootTime) -> Result<Attempt> {
        self.process()?
            .change(claim.token, |entry| entry.until = Some(until));
        Ok(Attempt::Granted(Grant {
            lease: Some(until),
            fence: if cfg!(canary = "flat_count") {
                Some(1)
            } else {
                u64::try_from(created).ok()
            },
            recovered: false,
        }))
    }

    /// Has the bell rung when what stands in the way may be gone.
    fn wait(
        &self,
        claim: &Claim,
        folder: &Folder,
        waits: Standing,
        view: &View,
        bell: &Arc<Signal>,
    ) -> Result<Attempt> {
        let process = self.process()?;
        let poll = Attempt::Busy(Busy {
            until: None,
            poll: Some(BootTime::now().after(LOOK)),
            ..Busy::default()
        });
        let (key, end, puts) = match &waits {
            Standing::Behind(before) => (bytes(before), None, false),
            Standing::Follows(before) => (bytes(before), None, true),
            _ => (folder.start.clone(), Some(folder.end.as_slice()), false),
        };
        let known = process.known(claim.token).and_then(|entry| entry.watch);
        if known.is_some_and(|(watch, of)| of == key && process.watches.stands(watch)) {
            return Ok(poll);
        }
        process.unwatch(claim.token);
        let watch = process
            .watches
            .watch(&key, end, view.revision, puts, bell)?;
        process.change(claim.token, |entry| entry.watch = Some((watch, key)));
        Ok(poll)
    }

    /// The claim's key by the store's own word: of a hold of another process, or one that was forgotten.
    pub fn find(
        &self,
        name: &Name,
        token: OwnerToken,
        limit: BootTime,
    ) -> Result<Option<(Kv, Standing)>> {
        let folder = self.folder(name);
        let (kvs, _) = self.keys(&folder, limit)?;
        let is_it = |kv: &&Kv| folder.has(&kv.key) && record::read(&kv.value).token == Some(token);
        let Some(own) = kvs.iter().find(is_it) else {
            return Ok(None);
        };
        let standing = line::standing(&folder.line(&kvs), &node(&own.key));
        Ok(Some((own.clone(), standing)))
    }
}

/// How a claim begins.
enum Start {
    Granted(Attempt),
    Busy(Attempt),
    Joined(View),
    Vanished,
}

fn bytes(node: &str) -> Vec<u8> {
    let digits: Vec<u8> = node
        .bytes()
        .filter_map(|digit| char::from(digit).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|two| two[0] << 4 | two[1])
        .collect()
}

impl Process {
    /// Notes that a claim's key is there.
    fn made(&self, token: OwnerToken, created: i64, changed: i64) {
        self.change(token, |entry| {
            entry.created = Some(created);
            entry.changed = changed;
        });
    }

    /// Whether something may be left behind of a claim.
    pub fn knows(&self, token: OwnerToken) -> bool {
        self.known(token).is_some()
    }
}
