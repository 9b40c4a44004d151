//! Options of a `redis:` URL.

use crate::codes::Code;
use crate::secret::Secret;
pub(super) use crate::store::net::{Address, Tls};
use crate::url::Url;
use crate::{Error, Result};
use std::fmt;
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

#[derive(Clone)]
pub(super) struct Config {
    pub address: Address,
    pub dialect: Dialect,
    pub tls: Option<Tls>,
    /// Hidden as well: a token may stand in its place.
    pub user: Option<Secret>,
    pub password: Option<Secret>,
    pub database: u32,
    pub prefix: String,
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
        let scheme = url.scheme.as_str();
        let wants_tls = matches!(scheme, "rediss" | "valkeys");
        let wants_unix = scheme == "unix" || scheme.ends_with("+unix");
        let bad = |words: &str| Error::new(Code::InvalidUrl, words);
        if url.has_raw_at {
            return Err(bad(
                "there is an `@` in the path: write `//` before a user, and in a password %2F for `/`",
            ));
        }
        let path = url.path.clone();
        let number = path.trim_start_matches('/');
        let is_socket = wants_unix
            || (url.host.is_empty()
                && path.starts_with('/')
                && number.parse::<u32>().is_err()
                && !number.is_empty());
        let (address, from_path) = if is_socket {
            if wants_tls {
                return Err(bad("TLS over a unix socket makes no sense"));
            }
            if number.is_empty() {
                return Err(bad("the URL lacks the path of the socket"));
            }
            (Address::Unix(path), None)
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
            (
                Address::Tcp {
                    host,
                    port: url.port.unwrap_or(6379),
                },
                database,
            )
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
        let user = url.take("username").or_else(|| url.user.take());
        Ok(Config {
            address,
            dialect,
            tls: wants_tls.then_some(Tls { ca_file, insecure }),
            user: user.map(Secret::new),
            password: url.take_password()?,
            database,
            prefix,
            connect_timeout: url
                .take_millis("connect_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            io_timeout: url
                .take_millis("io_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            url: url.redacted(),
        })
    }
}
