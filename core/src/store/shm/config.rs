//! Options of `shm:`.

use crate::codes::Code;
use crate::store::files::{take_group, take_mode};
pub(super) use crate::store::segment::config::Config;
use crate::store::segment::folder::HOST_DIR;
use crate::store::segment::layout::Kind;
use crate::url::Url;
use crate::{Error, Result};
use std::path::{Component, Path};

const LONGEST_NAME: usize = 200;

impl Config {
    pub(super) fn take(url: &mut Url) -> Result<Self> {
        let bad = |why: &str| Err(Error::new(Code::InvalidUrl, why));
        if url.has_server() {
            return bad("`shm:` has no host: write `shm:NAME` or `shm:/path/to/file`");
        }
        let name = url.path.as_str();
        if name.as_bytes().contains(&0) {
            return bad("the segment's name contains a NUL");
        }
        let path = if name.starts_with('/') {
            let path = Path::new(name);
            let climbs = path.components().any(|part| part == Component::ParentDir);
            if climbs || path.file_name().is_none() {
                return bad("the segment's path must lead to a file, without `..`");
            }
            path.components().collect()
        } else if name.is_empty() {
            return bad("`shm:` needs a name: `shm:NAME`, the same in every process");
        } else if name.contains('/') || name.len() > LONGEST_NAME {
            return bad("a segment's name has no slashes and at most 200 bytes");
        } else {
            Path::new(HOST_DIR).join(format!("synlock-{name}"))
        };
        let group = take_group(url)?;
        let mode = take_mode(url, group)?;
        let slots = match url.take("slots").map(|text| text.parse::<u32>()) {
            None => None,
            Some(Ok(slots)) if (1..=65_536).contains(&slots) => Some(slots),
            Some(_) => {
                return Err(Error::invalid(
                    "the option `slots` is a number from 1 to 65536",
                ));
            }
        };
        Ok(Config {
            kind: Kind::Locks,
            path,
            mode,
            group,
            slots,
        })
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
    fn names_and_paths() {
        for (url, path) in [
            ("shm:app", "/dev/shm/synlock-app"),
            ("shm:a%20b", "/dev/shm/synlock-a b"),
            ("shm:..", "/dev/shm/synlock-.."),
            ("shm:/run/x//y", "/run/x/y"),
        ] {
            assert_eq!(take(url).unwrap().path, Path::new(path), "{url}");
        }
        for url in [
            "shm:",
            "shm:a/b",
            "shm:/",
            "shm:/a/../b",
            "shm:a%00",
            "shm://host/x",
        ] {
            assert_eq!(take(url).unwrap_err().code(), Code::InvalidUrl, "{url}");
        }
        for url in ["shm:a?slots=0", "shm:a?slots=x", "shm:a?mode=0666"] {
            assert_eq!(
                take(url).unwrap_err().code(),
                Code::InvalidArgument,
                "{url}"
            );
        }
    }

    #[test]
    fn every_geometry_is_legal() {
        for slots in [1, 4096, 65_536] {
            let config = take(&format!("shm:x?slots={slots}")).unwrap();
            config.geometry().check().unwrap();
        }
    }
}
