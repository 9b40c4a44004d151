//! Looking from outside: who holds, which locks there are, when one is free, and breaking one.

use super::client::Etcd;
use super::leases::LOOK;
use super::stand::Folder;
use super::wire::{self, Kv};
use super::{names, record};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::signal::{Signal, Wake};
use crate::store::line;
use crate::store::{Holder, Inspection, Page};
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::sync::Arc;
use std::time::Duration;

/// Keys that are read at once for a listing.
const AT_ONCE: usize = 1000;

impl Etcd {
    /// The keys of a lock that hold, all of them, and the revision at which it was so.
    fn holding(&self, folder: &Folder, limit: BootTime) -> Result<(Vec<Kv>, usize, i64)> {
        let (mut kvs, revision) = self.keys(folder, limit)?;
        kvs.retain(|kv| folder.has(&kv.key));
        let waiters = kvs.split_off(line::holders(&folder.line(&kvs))).len();
        Ok((kvs, waiters, revision))
    }

    pub fn look_at(&self, name: &Name, limit: BootTime) -> Result<Inspection> {
        let (holding, waiters, _) = self.holding(&self.folder(name), limit)?;
        Ok(Inspection {
            name: name.as_bytes().to_vec(),
            holders: holding
                .iter()
                .map(|kv| self.holder(kv, limit))
                .collect::<Result<_>>()?,
            waiters: u32::try_from(waiters).ok(),
        })
    }

    fn holder(&self, kv: &Kv, limit: BootTime) -> Result<Holder> {
        let record = record::read(&kv.value);
        let owner = match record.token {
            Some(token) => token.to_hex(),
            // A peer's: its lease, which is the last part of its key.
            None => format!("{:x}", kv.lease),
        };
        let remaining = if kv.lease == 0 {
            None
        } else {
            let value = self.read(wire::TIME_TO_LIVE, &wire::lease(kv.lease), limit)?;
            let left = wire::number(&value, "TTL");
            Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
        };
        Ok(Holder {
            owner: owner.chars().take(8).collect(),
            mode: record.mode.kind(),
            permits: match record.mode {
                Mode::Permits { take, .. } => take,
                _ => 1,
            },
            host: record.host,
            pid: record.pid,
            label: record.label,
            remaining,
            // It is known in which revision it stood in line; not since when it holds.
            held: None,
            fence: u64::try_from(kv.created).ok(),
            brand: record.token.and_then(|token| token.brand()),
        })
    }

    /// Locks in the order of their keys.
    pub fn page(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        count: usize,
        limit: BootTime,
    ) -> Result<Page> {
        let base = self.config.prefix.as_bytes();
        // Of a long name its keys show the beginning.
        let shown = names::escape(prefix.get(..names::SHOWN).unwrap_or(prefix));
        let start = [base, &shown].concat();
        let end = names::end(&start);
        let mut from = match cursor {
            None => start.clone(),
            Some(cursor) => BASE64
                .decode(cursor)
                .ok()
                .filter(|key| key.starts_with(&start))
                .ok_or_else(|| Error::invalid("this is no cursor of ours"))?,
        };
        let mut page = Page::default();
        loop {
            let value = self.read(wire::RANGE, &wire::page(&from, &end, AT_ONCE), limit)?;
            let kvs = wire::kvs(&value)?;
            let Some(last) = kvs.last() else {
                return Ok(page);
            };
            for (at, kv) in kvs.iter().enumerate() {
                let Some(folder) = folder_of(&kv.key).filter(|part| part.len() > base.len()) else {
                    continue;
                };
                if at > 0 && kvs.get(at - 1).and_then(|kv| folder_of(&kv.key)) == Some(folder) {
                    continue;
                }
                if page.locks.len() >= count {
                    page.cursor = Some(BASE64.encode(&kv.key));
                    return Ok(page);
                }
                let part = &folder[base.len()..];
                let name = match record::read(&kv.value).name {
                    Some(name) if names::shows_hash(part) => name,
                    _ if names::shows_hash(part) || part.contains(&b'/') => continue,
                    _ => names::unescape(part),
                };
                let is_new = page.locks.last().is_none_or(|lock| lock.name != name);
                if name.starts_with(prefix) && is_new {
                    let found = self.look_at(&Name::new(&name)?, limit)?;
                    if !found.holders.is_empty() {
                        page.locks.push(found);
                    }
                }
            }
            if kvs.len() < AT_ONCE {
                return Ok(page);
            }
            from = [last.key.as_slice(), b"\0"].concat();
        }
    }

    pub fn break_holders(&self, name: &Name, limit: BootTime) -> Result<bool> {
        let (holding, _, _) = self.holding(&self.folder(name), limit)?;
        let mut broken = false;
        for kv in holding {
            broken |= self.delete(&kv.key, kv.created, &kv.value, limit)?;
        }
        Ok(broken)
    }

    /// True as soon as nobody holds, false at `until`. Watches the last of the line: before it is gone the
    /// lock is not free.
    pub fn wait_until_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let process = self.process()?;
        let folder = self.folder(name);
        let bell = Arc::new(Signal::new());
        loop {
            let (mut kvs, revision) = self.keys(&folder, self.limit(None))?;
            kvs.retain(|kv| folder.has(&kv.key));
            let Some(last) = kvs.last() else {
                return Ok(true);
            };
            if until.has_passed() {
                return Ok(false);
            }
            let watch = process
                .watches
                .watch(&last.key, None, revision, false, &bell)?;
            let next = BootTime::now().after(LOOK).min(until);
            // A signal's handler may have run.
            while bell.sleep(next) == Wake::Interrupted {}
            process.watches.unwatch(watch);
        }
    }
}

/// A key without the part that is its claim's.
fn folder_of(key: &[u8]) -> Option<&[u8]> {
    let slash = key.iter().rposition(|byte| *byte == b'/')?;
    key.get(..slash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_folder_ends_at_its_last_slash() {
        assert_eq!(folder_of(b"synlock:a/18"), Some(&b"synlock:a"[..]));
        assert_eq!(folder_of(b"plain"), None);
    }
}
