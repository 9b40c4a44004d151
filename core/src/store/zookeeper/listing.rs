//! Looking from outside: who holds, which locks there are, when one is free, and breaking one.

use super::client::Zookeeper;
use super::config::Dialect;
use super::queue::{self, Contender};
use super::wire::{self, Stat};
use super::{names, record};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Holder, Inspection, Page};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long a wait goes on without asking.
const SAFETY_POLL: Duration = Duration::from_secs(5);

impl Zookeeper {
    /// The nodes of a lock that hold, and how many wait.
    fn holding(&self, node: &str, limit: BootTime) -> Result<(Vec<Contender>, usize)> {
        if self.config.dialect == Dialect::Symfony {
            let one = self.standing_single(node, limit)?.map(|_| Contender {
                node: String::new(),
                mode: Mode::Exclusive,
            });
            return Ok((one.into_iter().collect(), 0));
        }
        let mut line = queue::contenders(self.config.dialect, &self.fresh_children(node, limit)?);
        let waiters = line.split_off(queue::holders(&line)).len();
        Ok((line, waiters))
    }

    /// The record of Symfony's node, if somebody holds it.
    fn standing_single(&self, node: &str, limit: BootTime) -> Result<Option<Stat>> {
        Ok(self.fresh_stat(node, limit)?.filter(|stat| stat.owner != 0))
    }

    pub fn look_at(&self, name: &Name, limit: BootTime) -> Result<Inspection> {
        let node = names::node(&self.config, name)?;
        let (holding, waiters) = self.holding(&node, limit)?;
        let mut found = Inspection {
            name: name.as_bytes().to_vec(),
            holders: Vec::new(),
            waiters: u32::try_from(waiters).ok(),
        };
        if self.config.dialect == Dialect::Symfony {
            // Nobody knows who waits.
            found.waiters = None;
        }
        for one in holding {
            let path = if one.node.is_empty() {
                node.clone()
            } else {
                names::child(&node, &one.node)
            };
            if let Some((data, stat)) = self.get(&path, false, limit)? {
                found.holders.push(self.holder(&one, &data, &stat));
            }
        }
        Ok(found)
    }

    fn holder(&self, one: &Contender, data: &[u8], stat: &Stat) -> Holder {
        let fence = u64::try_from(stat.created_by).ok();
        if self.config.dialect == Dialect::Symfony {
            let token = String::from_utf8_lossy(data);
            return Holder {
                owner: token.chars().take(8).collect(),
                mode: one.mode.kind(),
                permits: 1,
                fence,
                ..Holder::default()
            };
        }
        let (host, pid, label) = record::read(data);
        Holder {
            owner: queue::owner(&one.node),
            mode: one.mode.kind(),
            permits: match one.mode {
                Mode::Permits { take, .. } => take,
                _ => 1,
            },
            host,
            pid,
            label,
            remaining: None,
            // It is known when it stood in line, by the server's clock; not since when it holds.
            held: None,
            fence,
            brand: queue::brand(&one.node),
        }
    }

    /// Locks in the folder that the prefix names, in the order of their nodes.
    pub fn page(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        count: usize,
        limit: BootTime,
    ) -> Result<Page> {
        if cursor.is_some_and(|cursor| cursor.is_empty() || cursor.contains('/')) {
            return Err(Error::invalid("this is no cursor of ours"));
        }
        let (folder, shown_folder) = self.folder_of(prefix)?;
        let mut nodes = self.fresh_children(&folder, limit)?;
        nodes.sort_unstable();
        let mut page = Page::default();
        for node in nodes {
            if cursor.is_some_and(|cursor| node.as_str() <= cursor) {
                continue;
            }
            if page.locks.len() >= count {
                return Ok(page);
            }
            let Some(name) = self.name_of(&folder, &node, &shown_folder, limit)? else {
                continue;
            };
            if !name.starts_with(prefix) {
                continue;
            }
            let found = self.look_at(&Name::new(&name)?, limit)?;
            if !found.holders.is_empty() {
                page.locks.push(found);
                page.cursor = Some(node);
            }
        }
        page.cursor = None;
        Ok(page)
    }

    /// The folder in which locks with this prefix lie, and how their names begin in it.
    fn folder_of(&self, prefix: &[u8]) -> Result<(String, String)> {
        let text = std::str::from_utf8(prefix);
        match (self.config.dialect, text) {
            (Dialect::Native | Dialect::Symfony, _) | (_, Err(_)) => {
                Ok((self.config.base.clone(), String::new()))
            }
            (_, Ok(text)) => {
                let shown = text.rfind('/').map_or("", |at| &text[..=at]);
                let path = [&self.config.base, "/", shown].concat();
                Ok((super::config::tidy(&path)?, shown.to_owned()))
            }
        }
    }

    /// The lock's name, if the node is one's.
    fn name_of(
        &self,
        folder: &str,
        node: &str,
        shown_folder: &str,
        limit: BootTime,
    ) -> Result<Option<Vec<u8>>> {
        if self.config.dialect != Dialect::Native {
            return Ok(Some([shown_folder, node].concat().into_bytes()));
        }
        if names::is_long(node) {
            let found = self.get(&names::child(folder, node), false, limit)?;
            return Ok(found.map(|(data, _)| data).filter(|name| !name.is_empty()));
        }
        Ok(names::unescape(node).filter(|name| !name.is_empty()))
    }

    pub fn break_holders(&self, name: &Name, limit: BootTime) -> Result<bool> {
        let node = names::node(&self.config, name)?;
        if self.config.dialect == Dialect::Symfony {
            return match self.standing_single(&node, limit)? {
                Some(stat) => self.delete(&node, Some(stat.created_by), limit),
                None => Ok(false),
            };
        }
        let (holding, _) = self.holding(&node, limit)?;
        let mut broken = false;
        for one in holding {
            broken |= self.delete(&names::child(&node, &one.node), None, limit)?;
        }
        Ok(broken)
    }

    /// The lock's own node, if who broke the lock can be noted in it: that of a long name has the name in it, and
    /// what peers keep in theirs is not known.
    fn noted_node(&self, name: &Name) -> Result<Option<String>> {
        if self.config.dialect != Dialect::Native {
            return Ok(None);
        }
        let node = names::node(&self.config, name)?;
        let is_long = node.rsplit('/').next().is_some_and(names::is_long);
        Ok((!is_long).then_some(node))
    }

    pub fn note_in_node(&self, name: &Name, label: &str, last: u64, limit: BootTime) -> Result<()> {
        let Some(node) = self.noted_node(name)? else {
            return Ok(());
        };
        let data = record::write_note(last, &self.process()?.who, label);
        self.read(&wire::set(&node, &data), limit).map(drop)
    }

    pub fn breaker_in_node(
        &self,
        name: &Name,
        fence: Option<u64>,
        limit: BootTime,
    ) -> Result<Option<Holder>> {
        let Some(node) = self.noted_node(name)? else {
            return Ok(None);
        };
        let found = self.fresh_get(&node, limit)?;
        let Some((last, rest)) = found.as_ref().and_then(|(data, _)| record::read_note(data))
        else {
            return Ok(None);
        };
        let (host, pid, label) = record::read(rest);
        let is_about = fence.is_none_or(|fence| fence <= last);
        Ok(is_about.then(|| Holder {
            host,
            pid,
            label,
            ..Holder::default()
        }))
    }

    /// True as soon as nobody holds, false at `until`. Watches the last of the line: before it is gone
    /// the lock is not free.
    pub fn wait_until_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let node = names::node(&self.config, name)?;
        let process = self.process()?;
        let token = OwnerToken::draw()?;
        let bell = Arc::new(Signal::new());
        loop {
            let last = match self.config.dialect {
                Dialect::Symfony => {
                    let stat = self.fresh_stat(&node, self.limit(None))?;
                    stat.map(|_| node.clone())
                }
                dialect => {
                    let line =
                        queue::contenders(dialect, &self.fresh_children(&node, self.limit(None))?);
                    line.last().map(|last| names::child(&node, &last.node))
                }
            };
            let Some(last) = last else { return Ok(true) };
            if until.has_passed() {
                return Ok(false);
            }
            process.session.watch(&last, token, &bell);
            let stands = self.get(&last, true, self.limit(None));
            if matches!(stands, Ok(Some(_))) {
                let mut next = BootTime::now().after(SAFETY_POLL).min(until);
                // A signal's handler may have run.
                while bell.sleep(next) == crate::signal::Wake::Interrupted {
                    next = next.min(until);
                }
            }
            process.session.unwatch(&last, token);
            stands?;
        }
    }
}
