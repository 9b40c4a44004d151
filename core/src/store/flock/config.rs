//! Options of `flock:`.

use super::dialect::Dialect;
use crate::codes::Code;
use crate::store::files::{take_group, take_mode};
use crate::url::Url;
use crate::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// What the URL says.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Absolute, without `.`, `..` and trailing slashes.
    pub(super) dir: PathBuf,
    /// Whose files they are.
    pub(super) dialect: Dialect,
    /// Permissions of new lock files.
    pub(super) mode: u32,
    /// Whether new lock files have just these permissions, whatever the umask is.
    pub(super) exact_mode: bool,
    /// An exclusive hold removes its file when it ends, as Symfony 8.2 can.
    pub(super) remove: bool,
    /// Group of new lock files, whose members are trusted with the directory.
    pub(super) group: Option<u32>,
    /// Fencing tokens from a counter in each lock file.
    pub(super) fencing: bool,
    /// Network file systems are not refused.
    pub(super) allow_network_fs: bool,
}

impl Config {
    pub(super) fn take(url: &mut Url) -> Result<Self> {
        let bad = |why: &str| Error::new(Code::InvalidUrl, why);
        if url.has_server() {
            return Err(bad(
                "`flock:` has no host: write `flock:/dir` or `flock:///dir`",
            ));
        }
        let dialect = Dialect::take(url)?;
        let dir = match url.path.as_str() {
            "" => default_dir(dialect)?,
            path => clean(Path::new(path))?,
        };
        let group = take_group(url)?;
        let (mode, exact_mode) = match dialect {
            Dialect::Native => (take_mode(url, group)?, true),
            _ => take_peers_mode(url, dialect, group)?,
        };
        let fencing = url.take_bool("fencing")?.unwrap_or(false);
        if fencing && !dialect.is_native() {
            return Err(Error::unsupported(
                "nothing is written to a dialect's files, so there is no place for a fencing counter",
            ));
        }
        let removes = dialect == Dialect::Symfony;
        let remove = if removes {
            url.take_bool("remove")?
        } else {
            None
        };
        Ok(Config {
            dir,
            dialect,
            mode,
            exact_mode,
            remove: remove.unwrap_or(url.scheme == "flock+remove"),
            group,
            fencing,
            allow_network_fs: url.take_bool("allow_network_fs")?.unwrap_or(false),
        })
    }
}

/// The path must mean the same directory in every process, whatever its working directory.
fn clean(path: &Path) -> Result<PathBuf> {
    let bad = |why: &str| Err(Error::new(Code::InvalidUrl, why));
    if !path.is_absolute() {
        return bad(
            "the directory must be an absolute path: processes with other working directories would not meet",
        );
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return bad("the directory's path contains a NUL");
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return bad("the directory's path contains `..`");
    }
    Ok(path.components().collect())
}

/// The permissions that peers give to new files, or those that the URL says.
fn take_peers_mode(url: &mut Url, dialect: Dialect, group: Option<u32>) -> Result<(u32, bool)> {
    let Some(mode) = url.take("mode") else {
        let exact = dialect == Dialect::Symfony || group.is_some();
        return Ok((if group.is_some() { 0o660 } else { 0o666 }, exact));
    };
    match u32::from_str_radix(&mode, 8) {
        Ok(mode @ (0o600 | 0o640 | 0o644 | 0o660 | 0o664 | 0o666)) => Ok((mode, true)),
        _ => Err(Error::invalid(
            "the option `mode` of a dialect is one of 0600, 0640, 0644, 0660, 0664, 0666",
        )),
    }
}

fn default_dir(dialect: Dialect) -> Result<PathBuf> {
    match dialect {
        Dialect::Native => {}
        // As PHP's `sys_get_temp_dir()`.
        Dialect::Symfony => {
            let dir = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
            return clean(Path::new(&dir.unwrap_or_else(|| "/tmp".into())));
        }
        Dialect::File => {
            return Err(Error::new(
                Code::InvalidUrl,
                "with `dialect=file` the URL says the directory: `flock:/dir?dialect=file`",
            ));
        }
    }
    if nix::unistd::geteuid().is_root() {
        return Ok("/run/lock/synlock".into());
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => clean(&dir.join("synlock")),
        _ => Err(Error::new(
            Code::InvalidUrl,
            "no directory is given, and XDG_RUNTIME_DIR is not set",
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
    fn spellings_of_a_directory() {
        for url in [
            "flock:/a/b",
            "flock:///a/b",
            "flock:/a/b/",
            "flock:/a/./b//",
        ] {
            assert_eq!(take(url).unwrap().dir, Path::new("/a/b"), "{url}");
        }
        assert_eq!(
            take("flock:/a%20b?mode=0660").unwrap().dir,
            Path::new("/a b")
        );
    }

    #[test]
    fn no_directory_means_the_users_own() {
        let expected = if nix::unistd::geteuid().is_root() {
            Some("/run/lock/synlock".into())
        } else {
            std::env::var_os("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("synlock"))
        };
        for url in ["flock:", "flock://", "flock"] {
            assert_eq!(take(url).ok().map(|config| config.dir), expected, "{url}");
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        for (url, code) in [
            ("flock:a/b", Code::InvalidUrl),
            ("flock://host/a", Code::InvalidUrl),
            ("flock:/a/../b", Code::InvalidUrl),
            ("flock:/a%00b", Code::InvalidUrl),
            ("flock:/a?mode=0666", Code::InvalidArgument),
            ("flock:/a?mode=rw", Code::InvalidArgument),
            ("flock:/a?group=no-such-group-here", Code::InvalidArgument),
            ("flock:/a?fencing=2", Code::InvalidArgument),
            ("flock:/a?fence=1", Code::UnknownOption),
        ] {
            assert_eq!(take(url).unwrap_err().code(), code, "{url}");
        }
    }

    #[test]
    fn dialects_have_their_peers_directories_and_modes() {
        let symfony = take("flock:?dialect=symfony").unwrap();
        let tmp = std::env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into());
        assert_eq!(symfony.dir, Path::new(&tmp));
        assert_eq!((symfony.mode, symfony.exact_mode), (0o666, true));
        assert!(!symfony.remove && take("flock+remove:").unwrap().remove);
        assert!(take("flock:/a?dialect=symfony&remove=1").unwrap().remove);
        let file = take("flock:/a?dialect=file").unwrap();
        assert_eq!((file.mode, file.exact_mode), (0o666, false));
        assert_eq!(take("flock:/a?dialect=file&mode=0644").unwrap().mode, 0o644);
        for (url, code) in [
            ("flock:?dialect=file", Code::InvalidUrl),
            ("flock:/a?dialect=nfs", Code::InvalidArgument),
            ("flock:/a?remove=1", Code::UnknownOption),
            ("flock:/a?dialect=file&remove=1", Code::UnknownOption),
            ("flock+remove:/a?dialect=file", Code::InvalidUrl),
            ("flock:/a?dialect=symfony&fencing=1", Code::Unsupported),
            ("flock:/a?dialect=symfony&mode=0777", Code::InvalidArgument),
        ] {
            assert_eq!(take(url).unwrap_err().code(), code, "{url}");
        }
    }

    #[test]
    fn a_group_implies_its_mode() {
        let config = take("flock:/a?group=0").unwrap();
        assert_eq!((config.mode, config.group), (0o660, Some(0)));
        assert_eq!(take("flock:/a").unwrap().mode, 0o600);
    }
}
