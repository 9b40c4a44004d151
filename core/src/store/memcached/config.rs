//! Options of a `memcached:` URL.

use crate::codes::Code;
use crate::secret::Secret;
use crate::store::net::Address;
use crate::url::{Url, encode};
use crate::{Error, Result};
use std::fmt;
use std::time::Duration;

const PORT: u16 = 11211;
/// The longest prefix; half of a key at least is left for names.
const LONGEST_PREFIX: usize = 64;

/// Whose keys and values these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Native,
    /// `Symfony\Component\Lock\Store\MemcachedStore`.
    Symfony,
}

#[derive(Clone)]
pub(super) struct Config {
    pub address: Address,
    pub dialect: Dialect,
    pub prefix: String,
    pub user: Option<Secret>,
    pub password: Option<Secret>,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
    /// For messages.
    pub url: String,
}

/// The URL alone: part of a password that was not escaped may stand in any other field.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(Code::InvalidUrl, words)
}

impl Config {
    pub fn read(url: &mut Url) -> Result<Self> {
        if url.has_raw_at {
            return Err(bad(
                "there is an `@` in the path: write `//` before a user, and in a password %2F for `/`",
            ));
        }
        let address = address(url)?;
        let dialect = match url.take("dialect").as_deref() {
            None | Some("native") => Dialect::Native,
            Some("symfony") => Dialect::Symfony,
            Some(_) => {
                return Err(Error::invalid(
                    "the option `dialect` is one of native, symfony",
                ));
            }
        };
        let prefix = url.take("prefix").unwrap_or_else(|| match dialect {
            Dialect::Native => "synlock:".to_owned(),
            Dialect::Symfony => String::new(),
        });
        if prefix.len() > LONGEST_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(
                "the option `prefix` must have at most 64 bytes, without blanks and all of ASCII",
            ));
        }
        let user = url.take("username").or_else(|| url.user.take());
        let password = url.take_password()?;
        if user.is_some() != password.is_some() {
            return Err(bad("memcached wants a user and a password, or neither"));
        }
        let user = user.map(Secret::new);
        if [&user, &password]
            .into_iter()
            .flatten()
            .any(|word| word.reveal().contains([' ', '\r', '\n', '\0']))
        {
            return Err(bad(
                "memcached takes no blanks and line feeds in a user or password",
            ));
        }
        Ok(Config {
            address,
            dialect,
            prefix,
            user,
            password,
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

/// The one server. Symfony writes it `memcached://h:1` and `memcached:?host[h:1]`.
fn address(url: &mut Url) -> Result<Address> {
    let mut hosts = url.take_bracketed("host");
    if !url.host.is_empty() {
        // A port after a list belongs to its last host.
        let port = url.port.map(|port| format!(":{port}")).unwrap_or_default();
        hosts.extend(format!("{}{port}", url.host).split(',').map(str::to_owned));
    }
    match hosts.as_slice() {
        [] if url.path.starts_with('/') && url.path.len() > 1 => {
            return Ok(Address::Unix(url.path.clone()));
        }
        [] if url.path.is_empty() || url.path == "/" => {
            return Ok(Address::Tcp {
                host: "localhost".into(),
                port: url.port.unwrap_or(PORT),
            });
        }
        [] => return Err(bad("the path is no absolute path of a socket")),
        [_] => {}
        several => {
            let members: Vec<String> = several
                .iter()
                .map(|host| {
                    format!(
                        "member={}",
                        encode(format!("memcached://{host}").as_bytes())
                    )
                })
                .collect();
            return Err(bad(format!(
                "a lock lies on one server, not spread over {}; for a majority of several write quorum:?{}",
                several.len(),
                members.join("&")
            )));
        }
    }
    // Symfony puts a server's weight there.
    if !url
        .path
        .trim_start_matches('/')
        .bytes()
        .all(|byte| byte.is_ascii_digit())
    {
        return Err(bad("memcached has no databases: the path must be empty"));
    }
    let host = if url.host.is_empty() {
        hosts.remove(0)
    } else {
        return Ok(Address::Tcp {
            host: url.host.clone(),
            port: url.port.unwrap_or(PORT),
        });
    };
    if host.starts_with('/') {
        return Ok(Address::Unix(host));
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (
            host.to_owned(),
            port.parse()
                .map_err(|_| bad("the port is not a number from 1 to 65535"))?,
        ),
        None => (host, PORT),
    };
    Ok(Address::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let mut url = Url::parse(text, &[])?;
        let config = Config::read(&mut url)?;
        url.finish().map(|()| config)
    }

    #[test]
    fn servers_are_found() {
        let tcp = |host: &str, port| Address::Tcp {
            host: host.into(),
            port,
        };
        for (text, address) in [
            ("memcached:", tcp("localhost", 11211)),
            ("memcached://h", tcp("h", 11211)),
            ("memcached://h:1/50", tcp("h", 1)),
            ("memcached://[::1]:7", tcp("::1", 7)),
            ("memcached:?host[h]", tcp("h", 11211)),
            ("memcached:?host[h:5]=33", tcp("h", 5)),
            ("memcached:/run/m.sock", Address::Unix("/run/m.sock".into())),
            (
                "memcached:///run/m.sock",
                Address::Unix("/run/m.sock".into()),
            ),
        ] {
            assert_eq!(read(text).unwrap().address, address, "{text}");
        }
    }

    #[test]
    fn several_servers_are_refused_with_the_quorum() {
        for text in [
            "memcached://a:1,b:2,c",
            "memcached:?host[a:1]&host[b:2]&host[c]",
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidUrl);
            let quorum = "quorum:?member=memcached%3A%2F%2Fa%3A1&member=memcached%3A%2F%2Fb%3A2&member=memcached%3A%2F%2Fc";
            assert!(error.message().ends_with(quorum), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "memcached://h/db",
            "memcached:socket",
            "memcached://u@h",
            "memcached://u:p%20q@h",
            "memcached://h?prefix=a%20b",
            "memcached://h?dialect=other",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(!format!("{:?}", read("memcached://u:canary@h").unwrap()).contains("canary"));
    }
}
