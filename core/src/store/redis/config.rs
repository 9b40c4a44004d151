//! Options of a `redis:` URL.

use super::nodes::Node;
use crate::codes::Code;
use crate::secret::Secret;
use crate::store::net;
pub(super) use crate::store::net::{Address, Tls};
use crate::url::Url;
use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whose format the locks have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// Ours.
    Native,
    /// `SET key token NX PX`: redis-py, redlock, redsync, rslock, Symfony before 5.2 and many more.
    Plain,
    /// The sorted set of symfony/lock since 5.2.
    Symfony,
    /// python-redis-lock.
    PythonRedisLock,
    /// The mutex of redis-semaphore.
    RedisSemaphore,
    /// Redisson's lock.
    Redisson,
}

impl Dialect {
    pub const ALL: [Dialect; 6] = [
        Dialect::Native,
        Dialect::Plain,
        Dialect::Symfony,
        Dialect::PythonRedisLock,
        Dialect::RedisSemaphore,
        Dialect::Redisson,
    ];

    fn read(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.name() == text)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "the option `dialect` is one of {}",
                    Self::ALL.map(Dialect::name).join(", ")
                ))
            })
    }

    /// As the option `dialect` says it.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Native => "native",
            Dialect::Plain => "plain",
            Dialect::Symfony => "symfony",
            Dialect::PythonRedisLock => "python-redis-lock",
            Dialect::RedisSemaphore => "redis-semaphore",
            Dialect::Redisson => "redisson",
        }
    }

    /// Name of the store.
    pub fn store(self) -> &'static str {
        match self {
            Dialect::Native => "redis",
            Dialect::Plain => "redis-plain",
            Dialect::Symfony => "redis-symfony",
            Dialect::PythonRedisLock => "redis-python-redis-lock",
            Dialect::RedisSemaphore => "redis-redis-semaphore",
            Dialect::Redisson => "redis-redisson",
        }
    }
}

/// Where the locks are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// On one server.
    One(Node),
    /// On the master that these sentinels name.
    Sentinel {
        sentinels: Vec<Node>,
        master: String,
    },
    /// On a Cluster, some of whose servers these are.
    Cluster(Vec<Node>),
}

/// Equal for those who share locks, however they reach the servers; for a list, if it names the same.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |node: &Node| match &**node {
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.clone(),
        };
        let list = |nodes: &[Node]| {
            let mut texts: Vec<_> = nodes.iter().map(text).collect();
            texts.sort();
            texts.join(",")
        };
        match self {
            Place::One(node) => f.write_str(&text(node)),
            Place::Sentinel { sentinels, master } => {
                write!(f, "{}/{master}", list(sentinels))
            }
            Place::Cluster(nodes) => f.write_str(&list(nodes)),
        }
    }
}

#[derive(Clone)]
pub(super) struct Config {
    pub place: Place,
    pub dialect: Dialect,
    pub tls: Option<Tls>,
    /// Hidden as well: a token may stand in its place.
    pub user: Option<Secret>,
    pub password: Option<Secret>,
    pub sentinel_user: Option<Secret>,
    pub sentinel_password: Option<Secret>,
    /// How many replicas must have a grant.
    pub min_acks: u32,
    pub ack_timeout: Duration,
    pub database: u32,
    pub prefix: String,
    /// The answer to a release is not waited for.
    pub leaves_releases: bool,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
    /// For messages.
    pub url: String,
}

/// The URL alone: part of a password that was not escaped may stand in any other field.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Config");
        out.field("url", &self.url);
        if cfg!(canary = "loud_secret") {
            out.field("password", &self.password);
        }
        out.finish_non_exhaustive()
    }
}

impl Config {
    pub fn read(url: &mut Url) -> Result<Self> {
        let scheme = url.scheme.clone();
        let wants_tls = scheme.starts_with("rediss") || scheme.starts_with("valkeys");
        let wants_unix = scheme == "unix" || scheme.ends_with("+unix");
        let bad = |words: &str| Error::new(Code::InvalidUrl, words);
        if url.has_raw_at {
            return Err(bad(
                "there is an `@` in the path: write `//` before a user, and in a password %2F for `/`",
            ));
        }
        let (place, from_path) = if scheme.ends_with("+sentinel") {
            (Self::read_sentinels(url)?, None)
        } else if scheme.ends_with("+cluster") {
            (Self::read_cluster(url)?, None)
        } else {
            let (address, from_path) = Self::read_server(url, wants_tls, wants_unix)?;
            (Place::One(Arc::new(address)), from_path)
        };
        let database = match (url.take_int("db")?, from_path) {
            (Some(_), Some(_)) => return Err(bad("the database is given twice")),
            (Some(number), None) => u32::try_from(number)
                .map_err(|_| Error::invalid("the option `db` is negative or too large"))?,
            (None, number) => number.unwrap_or(0),
        };
        let dialect = url
            .take("dialect")
            .map_or(Ok(Dialect::Native), |text| Dialect::read(&text))?;
        let own = dialect == Dialect::Native;
        let prefix = url
            .take("prefix")
            .unwrap_or_else(|| if own { "synlock:" } else { "" }.to_owned());
        if own && prefix.contains(['{', '}']) || prefix.len() > 256 {
            return Err(Error::invalid(
                "the option `prefix` must not contain braces, and have at most 256 bytes",
            ));
        }
        let ca_file = url.take("ca_file");
        let insecure = url.take_bool("insecure")?.unwrap_or(false);
        if !wants_tls && (ca_file.is_some() || insecure) {
            return Err(bad("`ca_file` and `insecure` belong to rediss:"));
        }
        #[cfg(not(feature = "redis-tls"))]
        if wants_tls {
            return Err(Error::new(
                Code::NotInBuild,
                "this build has no TLS for redis",
            ));
        }
        if matches!(place, Place::Cluster(_)) && database != 0 {
            return Err(bad("a cluster has database 0 alone"));
        }
        let min_acks = url.take_int("min_acks")?.unwrap_or(0);
        let min_acks = u32::try_from(min_acks)
            .ok()
            .filter(|acks| *acks <= 100)
            .ok_or_else(|| Error::invalid("the option `min_acks` is a number from 0 to 100"))?;
        let (sentinel_user, sentinel_password) = if matches!(place, Place::Sentinel { .. }) {
            let keys = [
                "sentinel_password",
                "sentinel_password_file",
                "sentinel_password_env",
            ];
            (url.take("sentinel_username"), url.take_secret(None, keys)?)
        } else {
            (None, None)
        };
        let leaves_releases = match url.take("release").as_deref() {
            None | Some("sync") => false,
            Some("async") => true,
            Some(_) => {
                return Err(Error::invalid("the option `release` is one of sync, async"));
            }
        };
        if leaves_releases && !matches!(place, Place::One(_)) {
            return Err(bad(
                "`release=async` is of one server: behind sentinels and in a cluster each release waits for its answer, which may send it to another server",
            ));
        }
        let user = url.take("username").or_else(|| url.user.take());
        Ok(Config {
            place,
            sentinel_user: sentinel_user.map(Secret::new),
            sentinel_password,
            min_acks,
            ack_timeout: url
                .take_millis("ack_timeout")?
                .unwrap_or(Duration::from_secs(1)),
            dialect,
            tls: wants_tls.then_some(Tls { ca_file, insecure }),
            user: user.map(Secret::new),
            password: url.take_password()?,
            database,
            prefix,
            leaves_releases,
            connect_timeout: url
                .take_millis("connect_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            io_timeout: url
                .take_millis("io_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            url: url.redacted(),
        })
    }

    /// Host and port, or a socket; and the number of the database, if the path is one.
    fn read_server(url: &Url, wants_tls: bool, wants_unix: bool) -> Result<(Address, Option<u32>)> {
        let bad = |words: &str| Error::new(Code::InvalidUrl, words);
        let path = url.path.clone();
        let number = path.trim_start_matches('/');
        let is_socket = wants_unix
            || (url.host.is_empty()
                && path.starts_with('/')
                && number.parse::<u32>().is_err()
                && !number.is_empty());
        if is_socket {
            if wants_tls {
                return Err(bad("TLS over a unix socket makes no sense"));
            }
            if number.is_empty() {
                return Err(bad("the URL lacks the path of the socket"));
            }
            Ok((Address::Unix(path), None))
        } else {
            let host = if url.host.is_empty() {
                "localhost".to_owned()
            } else {
                url.host.clone()
            };
            let database = match number {
                "" => None,
                text => Some(text.parse().map_err(|_| {
                    bad("the path is neither a database number nor, without a host, a socket")
                })?),
            };
            Ok((
                Address::Tcp {
                    host,
                    port: url.port.unwrap_or(6379),
                },
                database,
            ))
        }
    }

    /// `host:port,host:port/MASTER`.
    fn read_sentinels(url: &Url) -> Result<Place> {
        let master = url.path.trim_start_matches('/').to_owned();
        if master.is_empty() || master.contains('/') {
            return Err(Error::new(
                Code::InvalidUrl,
                "the path is the name of the master that the sentinels watch, and nothing else",
            ));
        }
        Ok(Place::Sentinel {
            sentinels: hosts(url, 26_379)?,
            master,
        })
    }

    fn read_cluster(url: &Url) -> Result<Place> {
        if !url.path.trim_start_matches('/').is_empty() {
            return Err(Error::new(
                Code::InvalidUrl,
                "a cluster has one database, and no path",
            ));
        }
        Ok(Place::Cluster(hosts(url, 6379)?))
    }
}

/// A list of servers; each may have its port.
fn hosts(url: &Url, port: u16) -> Result<Vec<Node>> {
    if url.host.is_empty() {
        return Err(Error::new(
            Code::InvalidUrl,
            "the URL names no server: write `//host:port,host:port`",
        ));
    }
    Ok(net::hosts(url, port)?.into_iter().map(Arc::new).collect())
}
