//! Which server a request goes to: the only one, the master that sentinels name, or the one of a Cluster
//! that has the key's slot.

use super::config::{Address, Config, Place};
use super::connection::{Connection, Kind, check, pack, protocol};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::sync::Mutex;
use crate::{Error, Result};
use redis::Value;
use std::sync::Arc;

/// A server.
pub(super) type Node = Arc<Address>;

/// Slots of a Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// What a process knows of the servers.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The sentinels' master.
    master: Option<Node>,
    /// Of a Cluster: its masters, by address, and for each slot which of them has it.
    masters: Vec<Node>,
    slots: Vec<Option<u16>>,
    /// The map is out of date.
    stale: bool,
}

/// Where an answer sends its request.
#[derive(Debug)]
pub(super) enum Next {
    /// It is an answer.
    Stay,
    /// To another server.
    Move,
    /// To another server, once.
    Ask(Node),
    /// This server does not serve; another may.
    Elsewhere,
    /// This server does not serve now, but soon.
    Later,
}

fn unavailable(words: &str) -> Error {
    Error::new(Code::Unavailable, words)
}

impl Nodes {
    /// The server for a slot.
    pub fn target(&self, config: &Config, slot: u16, limit: BootTime) -> Result<Node> {
        match &config.place {
            Place::One(node) => Ok(node.clone()),
            Place::Sentinel { sentinels, master } => {
                if let Some(node) = &self.0.lock().master {
                    return Ok(node.clone());
                }
                let node = ask_sentinels(config, sentinels, master, limit)?;
                self.0.lock().master = Some(node.clone());
                Ok(node)
            }
            Place::Cluster(_) => {
                self.refresh(config, limit)?;
                let mut known = self.0.lock();
                let number = known.slots.get(usize::from(slot)).copied().flatten();
                let node =
                    number.and_then(|number| known.masters.get(usize::from(number)).cloned());
                // The next look may find it.
                known.stale |= node.is_none();
                node.ok_or_else(|| {
                    unavailable("no server of the cluster has the slot of this name")
                })
            }
        }
    }

    /// Every server that has locks, in an order that stays.
    pub fn all(&self, config: &Config, limit: BootTime) -> Result<Vec<Node>> {
        if !matches!(config.place, Place::Cluster(_)) {
            return Ok(vec![self.target(config, 0, limit)?]);
        }
        self.refresh(config, limit)?;
        Ok(self.0.lock().masters.clone())
    }

    /// This server failed, or says that it is none to write to: look again who is.
    pub fn distrust(&self, node: &Node) {
        let mut known = self.0.lock();
        if known.master.as_ref() == Some(node) {
            known.master = None;
        }
        known.stale = true;
    }

    /// What an error in place of an answer means for the way of the request.
    pub fn next(&self, config: &Config, value: &Value, from: &Node, slot: u16) -> Next {
        let Value::ServerError(error) = value else {
            return Next::Stay;
        };
        let detail = error.details().unwrap_or_default();
        match (&config.place, error.code()) {
            (Place::One(_), _) => Next::Stay,
            (_, "READONLY" | "MASTERDOWN" | "CLUSTERDOWN") => Next::Elsewhere,
            (_, "TRYAGAIN" | "LOADING") => Next::Later,
            (Place::Cluster(_), "MOVED") => match redirected(detail, from) {
                Some(node) => {
                    self.move_slot(slot, node);
                    Next::Move
                }
                None => Next::Stay,
            },
            (Place::Cluster(_), "ASK") => redirected(detail, from).map_or(Next::Stay, Next::Ask),
            _ => Next::Stay,
        }
    }

    fn move_slot(&self, slot: u16, node: Node) {
        let mut known = self.0.lock();
        let number = known.masters.iter().position(|known| *known == node);
        let number = number.unwrap_or_else(|| {
            known.masters.push(node);
            known.masters.len() - 1
        });
        if let Some(entry) = known.slots.get_mut(usize::from(slot)) {
            *entry = u16::try_from(number).ok();
        }
    }

    /// Reads the map of a Cluster, if there is none or it is out of date.
    fn refresh(&self, config: &Config, limit: BootTime) -> Result<()> {
        let Place::Cluster(seeds) = &config.place else {
            return Ok(());
        };
        let mut ask: Vec<Node> = {
            let known = self.0.lock();
            if !known.slots.is_empty() && !known.stale {
                return Ok(());
            }
            known.masters.clone()
        };
        ask.extend(seeds.iter().cloned());
        let mut last = unavailable("the cluster has no servers");
        for (done, node) in ask.iter().enumerate() {
            match read_map(config, node, share(limit, ask.len() - done)) {
                Ok((masters, slots)) => {
                    *self.0.lock() = Known {
                        master: None,
                        masters,
                        slots,
                        stale: false,
                    };
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The time for one of so many servers that are asked in turn.
pub(super) fn share(limit: BootTime, servers: usize) -> BootTime {
    let now = BootTime::now();
    let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
    limit.min(now.after(limit.since(now) / servers))
}

/// `slot host:port`; without a host it is the one that answers.
fn redirected(detail: &str, from: &Node) -> Option<Node> {
    let (_, address) = detail.trim().split_once(' ')?;
    node_at(address, from)
}

fn node_at(address: &str, from: &Node) -> Option<Node> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match (host.is_empty() || host == "?", &**from) {
        (false, _) => host.to_owned(),
        (true, Address::Tcp { host, .. }) => host.clone(),
        (true, Address::Unix(_)) => return None,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(Arc::new(Address::Tcp { host, port }))
}

fn ask_sentinels(
    config: &Config,
    sentinels: &[Node],
    master: &str,
    limit: BootTime,
) -> Result<Node> {
    let mut last = unavailable("there are no sentinels");
    for (done, sentinel) in sentinels.iter().enumerate() {
        match ask_sentinel(
            config,
            sentinel,
            master,
            share(limit, sentinels.len() - done),
        ) {
            Ok(node) => return Ok(node),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask_sentinel(config: &Config, sentinel: &Node, master: &str, limit: BootTime) -> Result<Node> {
    let mut connection = Connection::open(config, sentinel, Kind::Sentinel, limit)?;
    let request = pack(&[b"SENTINEL", b"get-master-addr-by-name", master.as_bytes()]);
    let reply = connection
        .exchange(&request, limit)
        .map_err(|broken| broken.error)?;
    match check(reply)? {
        Value::Nil => Err(unavailable("the sentinels know no master of this name")),
        Value::Array(parts) => match parts.as_slice() {
            [Value::BulkString(host), Value::BulkString(port)] => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
                match (text(host), text(port).and_then(|port| port.parse().ok())) {
                    (Some(host), Some(port)) => Ok(Arc::new(Address::Tcp { host, port })),
                    _ => Err(protocol("an odd address of the master")),
                }
            }
            _ => Err(protocol("an odd address of the master")),
        },
        _ => Err(protocol("an odd address of the master")),
    }
}

type Map = (Vec<Node>, Vec<Option<u16>>);

fn read_map(config: &Config, node: &Node, limit: BootTime) -> Result<Map> {
    let mut connection = Connection::open(config, node, Kind::Listener, limit)?;
    let reply = connection
        .exchange(&pack(&[b"CLUSTER", b"NODES"]), limit)
        .map_err(|broken| broken.error)?;
    match check(reply)? {
        Value::BulkString(text) => parse_map(&String::from_utf8_lossy(&text), node),
        _ => Err(protocol("an odd map of the cluster")),
    }
}

/// `id host:port@bus,name flags master ping pong epoch link slot from-to …`, a line for each server.
pub(super) fn parse_map(text: &str, from: &Node) -> Result<Map> {
    let odd = || protocol("an odd map of the cluster");
    let mut found: Vec<(Node, Vec<(u16, u16)>)> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, address, flags, _, _, _, _, _, slots @ ..] = fields.as_slice() else {
            return Err(odd());
        };
        let flags: Vec<&str> = flags.split(',').collect();
        // One that has failed keeps its slots until another has them.
        if !flags.contains(&"master") || slots.is_empty() {
            continue;
        }
        let address = address.split('@').next().unwrap_or_default();
        let node = node_at(address, from).ok_or_else(odd)?;
        // In brackets: on its way to another server.
        let ranges = slots.iter().filter(|slots| !slots.starts_with('['));
        let ranges = ranges.map(|slots| {
            let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) if first <= last && last < SLOTS => Ok((first, last)),
                _ => Err(odd()),
            }
        });
        found.push((node, ranges.collect::<Result<_>>()?));
    }
    if found.is_empty() {
        return Err(unavailable("no server of the cluster has slots"));
    }
    found.sort_by_cached_key(|(node, _)| format!("{node:?}"));
    let mut slots = vec![None; usize::from(SLOTS)];
    for (number, (_, ranges)) in found.iter().enumerate() {
        for (first, last) in ranges {
            for slot in slots
                .get_mut(usize::from(*first)..=usize::from(*last))
                .unwrap_or_default()
            {
                *slot = u16::try_from(number).ok();
            }
        }
    }
    Ok((found.into_iter().map(|(node, _)| node).collect(), slots))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Arc::new(Address::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    #[test]
    fn a_map_is_read_and_a_broken_one_refused() {
        let text = "a 10.0.0.2:7001@17001,name master - 0 1 2 connected 0-2 9\n\
                    b :7000@17000 myself,master - 0 1 1 connected 5-8 [9->-a]\n\
                    c 10.0.0.3:7002@17002 slave a 0 1 2 connected\n\
                    d 10.0.0.4:7003@17003 master,fail - 0 1 2 connected 3-4\n";
        let (masters, slots) = parse_map(text, &node("here", 1)).unwrap();
        let expected = [("10.0.0.2", 7001), ("10.0.0.4", 7003), ("here", 7000)];
        assert_eq!(masters, expected.map(|(host, port)| node(host, port)));
        let first: Vec<_> = slots[..11].to_vec();
        let [a, b, c] = [0, 1, 2].map(Some);
        assert_eq!(first, [a, a, a, b, b, c, c, c, c, a, None]);
        assert_eq!(slots.len(), usize::from(SLOTS));
        for bad in [
            "",
            "x",
            "a h:0@1 master - 0 1 2 connected 1\n",
            "a h:1@1 master - 0 1 2 connected 1-99999\n",
            "a h:1@1 master - 0 1 2 connected 5-1\n",
        ] {
            assert!(parse_map(bad, &node("here", 1)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn redirections_are_read() {
        let from = node("h", 1);
        assert_eq!(
            redirected("3999 10.0.0.1:6381", &from),
            Some(node("10.0.0.1", 6381))
        );
        assert_eq!(redirected("3999 :6381", &from), Some(node("h", 6381)));
        assert_eq!(redirected("3999 ::1:6381", &from), Some(node("::1", 6381)));
        assert_eq!(redirected("3999", &from), None);
    }
}
