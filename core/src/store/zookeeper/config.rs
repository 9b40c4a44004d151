//! Options of a `zookeeper:` URL.

use crate::codes::Code;
use crate::secret::Secret;
use crate::store::net::Address;
use crate::url::Url;
use crate::{Error, Result};
use std::fmt;
use std::time::Duration;

/// Whose nodes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Native,
    /// `Lock`, `WriteLock` and `ReadLock` of Python's kazoo.
    Kazoo,
    /// Curator's `InterProcessMutex`.
    Curator,
    /// Curator's `InterProcessReadWriteLock`.
    CuratorReadWrite,
    /// Symfony's `ZookeeperStore`: one node.
    Symfony,
}

impl Dialect {
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Native => "native",
            Dialect::Kazoo => "kazoo",
            Dialect::Curator => "curator",
            Dialect::CuratorReadWrite => "curator-rw",
            Dialect::Symfony => "symfony",
        }
    }

    /// Name of the store in its capability record.
    pub const fn store(self) -> &'static str {
        match self {
            Dialect::Native => "zookeeper",
            Dialect::Kazoo => "zookeeper-kazoo",
            Dialect::Curator => "zookeeper-curator",
            Dialect::CuratorReadWrite => "zookeeper-curator-rw",
            Dialect::Symfony => "zookeeper-symfony",
        }
    }

    fn of(text: &str) -> Option<Self> {
        [
            Dialect::Native,
            Dialect::Kazoo,
            Dialect::Curator,
            Dialect::CuratorReadWrite,
            Dialect::Symfony,
        ]
        .into_iter()
        .find(|dialect| dialect.name() == text)
    }
}

#[derive(Clone)]
pub(super) struct Config {
    pub hosts: Vec<Address>,
    /// Where all nodes lie: chroot and root, `/` or without a slash at its end.
    pub base: String,
    pub dialect: Dialect,
    /// `user:password`, if both are given.
    pub credentials: Option<Secret>,
    pub session_timeout: Duration,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
    /// For messages.
    pub url: String,
}

/// The URL alone: part of a password may stand in any other field.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

const DEFAULT_PORT: u16 = 2181;

impl Config {
    pub fn read(url: &mut Url) -> Result<Self> {
        let bad = |words: &str| Error::new(Code::InvalidUrl, words);
        if url.has_raw_at {
            return Err(bad(
                "there is an `@` in the path: write `//` before a user, and in a password %2F for `/`",
            ));
        }
        let dialect = match url.take("dialect") {
            None => Dialect::Native,
            Some(text) => Dialect::of(&text).ok_or_else(|| {
                Error::invalid(
                    "the option `dialect` is one of native, kazoo, curator, curator-rw, symfony",
                )
            })?,
        };
        let root = url.take("root").unwrap_or_else(|| {
            // A peer's names are whole paths.
            let root = if dialect == Dialect::Native {
                "/synlock"
            } else {
                "/"
            };
            root.to_owned()
        });
        let base = [url.path.as_str(), "/", root.as_str()].concat();
        let user = url.take("username").or_else(|| url.user.take());
        let password = url.take_password()?;
        let credentials = match (user, password) {
            (Some(user), Some(password)) => {
                Some(Secret::new([&user, ":", password.reveal()].concat()))
            }
            (None, None) => None,
            _ => return Err(bad("a user and a password belong together")),
        };
        let session_timeout = url
            .take_millis("session_timeout")?
            .unwrap_or(Duration::from_secs(10));
        if i32::try_from(session_timeout.as_millis()).is_err() {
            return Err(Error::invalid("the option `session_timeout` is too long"));
        }
        Ok(Config {
            hosts: hosts(url)?,
            base: tidy(&base)?,
            dialect,
            credentials,
            session_timeout,
            connect_timeout: url
                .take_millis("connect_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            io_timeout: url
                .take_millis("io_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            url: url.redacted(),
        })
    }

    /// However the hosts are listed, the same nodes of the same servers.
    pub fn fingerprint(&self) -> String {
        let mut hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| match host {
                Address::Tcp { host, port } => format!("{host}:{port}"),
                Address::Unix(path) => path.clone(),
            })
            .collect();
        hosts.sort_unstable();
        format!(
            "zookeeper:{}{}#{}",
            hosts.join(","),
            self.base,
            self.dialect.name()
        )
    }
}

/// `a,b:2182`: a port that stands after the last host alone is that of all, as Symfony has it.
fn hosts(url: &Url) -> Result<Vec<Address>> {
    let bad = || Error::new(Code::InvalidUrl, "the list of hosts cannot be read");
    if url.host.is_empty() {
        return Ok(vec![Address::Tcp {
            host: "localhost".to_owned(),
            port: url.port.unwrap_or(DEFAULT_PORT),
        }]);
    }
    if !url.host.contains(',') {
        return Ok(vec![Address::Tcp {
            host: url.host.clone(),
            port: url.port.unwrap_or(DEFAULT_PORT),
        }]);
    }
    let parts: Vec<&str> = url.host.split(',').collect();
    let has_own = |part: &&str| part.contains(':');
    let common = if parts.iter().any(has_own) {
        DEFAULT_PORT
    } else {
        url.port.unwrap_or(DEFAULT_PORT)
    };
    let last = parts.len() - 1;
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let (host, port) = match part.split_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
                None if index == last => (*part, url.port.unwrap_or(common)),
                None => (*part, common),
            };
            if host.is_empty() {
                return Err(bad());
            }
            Ok(Address::Tcp {
                host: host.to_owned(),
                port,
            })
        })
        .collect()
}

/// A path without needless slashes; refuses what the server would.
pub(super) fn tidy(path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if !parts.iter().all(|part| is_legal(part)) {
        return Err(Error::invalid(
            "a part of the path is `.`, `..`, or has characters that ZooKeeper refuses",
        ));
    }
    Ok(["/", &parts.join("/")].concat())
}

/// Whether the server takes this as a part of a path.
fn is_legal(part: &str) -> bool {
    let refused = |c: char| matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
    part != "." && part != ".." && !part.contains(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let mut url = Url::parse(text, &[])?;
        let config = Config::read(&mut url)?;
        url.finish()?;
        Ok(config)
    }

    fn ports(text: &str) -> Vec<(String, u16)> {
        read(text)
            .unwrap()
            .hosts
            .into_iter()
            .map(|host| match host {
                Address::Tcp { host, port } => (host, port),
                Address::Unix(path) => (path, 0),
            })
            .collect()
    }

    #[test]
    fn hosts_have_their_ports() {
        let host = |name: &str, port| (name.to_owned(), port);
        assert_eq!(ports("zookeeper:"), [host("localhost", 2181)]);
        assert_eq!(ports("zookeeper://h"), [host("h", 2181)]);
        assert_eq!(ports("zookeeper://[::1]:9"), [host("::1", 9)]);
        assert_eq!(
            ports("zookeeper://a,b:9"),
            [host("a", 9), host("b", 9)],
            "as Symfony has it"
        );
        assert_eq!(
            ports("zookeeper://a:7,b,c:9"),
            [host("a", 7), host("b", 2181), host("c", 9)]
        );
        assert!(read("zookeeper://a,,b").is_err());
    }

    #[test]
    fn nodes_lie_under_chroot_and_root() {
        let base = |text| read(text).unwrap().base;
        assert_eq!(base("zookeeper://h"), "/synlock");
        assert_eq!(base("zookeeper://h/app//x/?root=locks/"), "/app/x/locks");
        assert_eq!(base("zookeeper://h/app?dialect=kazoo"), "/app");
        assert_eq!(base("zookeeper://h?dialect=symfony"), "/");
        assert!(read("zookeeper://h/a/../b").is_err());
        assert!(read("zookeeper://h?dialect=redlock").is_err());
        assert!(read("zookeeper://u@h").is_err());
        let same = read("zookeeper://b:1,a:2/x").unwrap().fingerprint();
        assert_eq!(read("zookeeper://a:2,b:1/x/").unwrap().fingerprint(), same);
    }
}
