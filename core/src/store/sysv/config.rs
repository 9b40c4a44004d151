//! Options of `sysv:`.

use super::keys::Generation;
use crate::codes::Code;
use crate::store::files::{take_group, take_mode};
use crate::url::Url;
use crate::{Error, Result};

/// Whose sets they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// Sets as `core/FORMATS.md` says.
    Native,
    /// PHP's `sem_get`: the name is the integer key.
    Php,
    /// Symfony's `SemaphoreStore`.
    Symfony(Generation),
}

/// What the URL says.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Native locks of different spaces do not meet.
    pub(super) space: String,
    pub(super) dialect: Dialect,
    /// Permissions of new sets.
    pub(super) mode: u32,
    /// Group of new sets.
    pub(super) group: Option<u32>,
}

impl Config {
    pub(super) fn take(url: &mut Url) -> Result<Self> {
        if url.has_server() {
            return Err(Error::new(
                Code::InvalidUrl,
                "`sysv:` has no host: write `sysv:` or `sysv:space`",
            ));
        }
        let dialect = match url.take("dialect").as_deref() {
            None | Some("native") => Dialect::Native,
            Some("php") => Dialect::Php,
            Some("symfony") => Dialect::Symfony(Generation::take(url)?),
            Some(_) => {
                return Err(Error::invalid(
                    "the option `dialect` is one of native, php, symfony",
                ));
            }
        };
        let space = url.path.trim_start_matches('/').to_owned();
        if dialect != Dialect::Native && !space.is_empty() {
            return Err(Error::new(
                Code::InvalidUrl,
                "a dialect's keys are the peer's: they have no space of their own",
            ));
        }
        let group = take_group(url)?;
        let mode = match dialect {
            Dialect::Native => take_mode(url, group)?,
            _ => take_peers_mode(url)?,
        };
        Ok(Config {
            space,
            dialect,
            mode,
            group,
        })
    }

    /// The URL that is shown, and tells stores apart.
    pub(super) fn url(&self) -> String {
        let dialect = match self.dialect {
            Dialect::Native => "",
            Dialect::Php => "?dialect=php",
            Dialect::Symfony(Generation::Crc32) => "?dialect=symfony&keys=crc32",
            Dialect::Symfony(Generation::Md5) => "?dialect=symfony&keys=md5",
            Dialect::Symfony(Generation::Xxh128) => "?dialect=symfony&keys=xxh128",
        };
        format!(
            "sysv:{}{dialect}",
            crate::error::printable(self.space.as_bytes())
        )
    }
}

/// PHP makes its sets for everybody unless it is told otherwise.
fn take_peers_mode(url: &mut Url) -> Result<u32> {
    let Some(mode) = url.take("mode") else {
        return Ok(0o666);
    };
    match u32::from_str_radix(&mode, 8) {
        Ok(mode @ (0o600 | 0o660 | 0o666)) => Ok(mode),
        _ => Err(Error::invalid(
            "the option `mode` of a dialect is one of 0600, 0660, 0666",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(url: &str) -> Result<Config> {
        let mut url = Url::parse(url, &[])?;
        let config = Config::take(&mut url)?;
        url.finish().map(|()| config)
    }

    #[test]
    fn spellings() {
        for url in ["sysv:", "sysv://", "semaphore", "semaphore://"] {
            let config = take(url).unwrap();
            assert_eq!((config.space.as_str(), config.mode), ("", 0o600), "{url}");
            assert_eq!(config.url(), "sysv:");
        }
        assert_eq!(take("sysv:app").unwrap().space, "app");
        assert_eq!(take("sysv:?dialect=php").unwrap().mode, 0o666);
        let symfony = take("semaphore:?dialect=symfony").unwrap();
        assert_eq!(symfony.dialect, Dialect::Symfony(Generation::Xxh128));
    }

    #[test]
    fn bad_urls_are_refused() {
        for (url, code) in [
            ("sysv://host/a", Code::InvalidUrl),
            ("sysv:app?dialect=php", Code::InvalidUrl),
            ("sysv:?dialect=perl", Code::InvalidArgument),
            ("sysv:?dialect=symfony&keys=sha1", Code::InvalidArgument),
            ("sysv:?dialect=php&keys=md5", Code::UnknownOption),
            ("sysv:?mode=0666", Code::InvalidArgument),
            ("sysv:?dialect=php&mode=0777", Code::InvalidArgument),
        ] {
            assert_eq!(take(url).unwrap_err().code(), code, "{url}");
        }
    }
}
