//! Options of an `etcd:` URL.

use crate::codes::Code;
use crate::secret::Secret;
use crate::store::net::{self, Address, Tls};
use crate::url::Url;
use crate::{Error, Result};
use std::fmt;
use std::time::Duration;

const DEFAULT_PORT: u16 = 2379;

#[derive(Clone)]
pub(super) struct Config {
    pub endpoints: Vec<Address>,
    pub tls: Option<Tls>,
    /// User and password, if both are given.
    pub credentials: Option<(Secret, Secret)>,
    /// What stands before every name.
    pub prefix: String,
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

impl Config {
    pub fn read(url: &mut Url) -> Result<Self> {
        let bad = |words: &str| Error::new(Code::InvalidUrl, words);
        if url.has_raw_at {
            return Err(bad(
                "there is an `@` in the path: write `//` before a user, and in a password %2F for `/`",
            ));
        }
        if !matches!(url.path.as_str(), "" | "/") {
            return Err(bad(
                "an etcd has no path; what stands before the names is the option `prefix`",
            ));
        }
        let wants_tls = url.scheme == "etcds";
        let ca_file = url.take("ca_file");
        let insecure = url.take_bool("insecure")?.unwrap_or(false);
        if !wants_tls && (ca_file.is_some() || insecure) {
            return Err(bad("`ca_file` and `insecure` belong to etcds:"));
        }
        let prefix = url.take("prefix").unwrap_or_else(|| "synlock:".to_owned());
        if prefix.len() > 256 {
            return Err(Error::invalid(
                "the option `prefix` must have at most 256 bytes",
            ));
        }
        let user = url.take("username").or_else(|| url.user.take());
        let credentials = match (user, url.take_password()?) {
            (Some(user), Some(password)) => Some((Secret::new(user), password)),
            (None, None) => None,
            _ => return Err(bad("a user and a password belong together")),
        };
        let endpoints = if url.host.is_empty() {
            vec![Address::Tcp {
                host: "localhost".to_owned(),
                port: url.port.unwrap_or(DEFAULT_PORT),
            }]
        } else {
            net::hosts(url, DEFAULT_PORT)?
        };
        Ok(Config {
            endpoints,
            tls: wants_tls.then_some(Tls { ca_file, insecure }),
            credentials,
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

    /// However the servers are listed, the same keys of the same cluster.
    pub fn fingerprint(&self) -> String {
        let mut hosts: Vec<String> = self.endpoints.iter().map(shown).collect();
        hosts.sort_unstable();
        format!("etcd:{}#{}", hosts.join(","), self.prefix)
    }
}

/// As it stands in a URL and in the header `Host`.
pub(super) fn shown(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(path) => path.clone(),
    }
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

    #[test]
    fn endpoints_have_their_ports() {
        let shown = |text: &str| -> Vec<String> {
            read(text).unwrap().endpoints.iter().map(shown).collect()
        };
        assert_eq!(shown("etcd:"), ["localhost:2379"]);
        assert_eq!(shown("etcd://h:1"), ["h:1"]);
        assert_eq!(shown("etcd://[::1]"), ["[::1]:2379"]);
        assert_eq!(shown("etcd://a:7,b,c:9"), ["a:7", "b:2379", "c:9"]);
        assert!(read("etcd://a,,b").is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for bad in [
            "etcd://h/path",
            "etcd://u@h",
            "etcd://h?insecure=1",
            "etcd://h?root=x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let safe = read("etcds://user:canary@h?insecure=1").unwrap();
        assert!(safe.tls.is_some() && safe.credentials.is_some());
        assert!(!format!("{safe:?}").contains("canary"));
        let same = read("etcd://b:1,a:2?prefix=x").unwrap().fingerprint();
        assert_eq!(read("etcd://a:2,b:1?prefix=x").unwrap().fingerprint(), same);
    }
}
