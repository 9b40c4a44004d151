//! Options of `flock:`.

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
    /// Permissions of new lock files: 0600 or 0660.
    pub(super) mode: u32,
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
        if !url.host.is_empty() || url.port.is_some() || url.user.is_some() {
            return Err(bad(
                "`flock:` has no host: write `flock:/dir` or `flock:///dir`",
            ));
        }
        let dir = match url.path.as_str() {
            "" => default_dir()?,
            path => clean(Path::new(path))?,
        };
        let group = take_group(url)?;
        let mode = take_mode(url, group)?;
        Ok(Config {
            dir,
            mode,
            group,
            fencing: url.take_bool("fencing")?.unwrap_or(false),
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

fn default_dir() -> Result<PathBuf> {
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
    fn a_group_implies_its_mode() {
        let config = take("flock:/a?group=0").unwrap();
        assert_eq!((config.mode, config.group), (0o660, Some(0)));
        assert_eq!(take("flock:/a").unwrap().mode, 0o600);
    }
}
