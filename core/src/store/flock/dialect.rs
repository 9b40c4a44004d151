//! Whose files a store shares: synlock's own, Symfony's, or any program's that calls `flock(2)`.

use super::names;
use crate::codes::Code;
use crate::url::Url;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The most that file systems take.
const LONGEST_FILE_NAME: usize = 255;
/// How much of a name Symfony shows.
const SHOWN: usize = 50;
/// How much of the digest Symfony keeps, in base64 digits.
const DIGITS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// Files as `core/FORMATS.md` says.
    Native,
    /// Symfony's `FlockStore`.
    Symfony,
    /// The file of that name, whatever it holds: nothing is written to it.
    File,
}

impl Dialect {
    pub(super) fn take(url: &mut Url) -> Result<Self> {
        let removes = url.scheme == "flock+remove";
        match url.take("dialect").as_deref() {
            None if removes => Ok(Dialect::Symfony),
            None | Some("native") if !removes => Ok(Dialect::Native),
            Some("symfony") => Ok(Dialect::Symfony),
            Some("file") if !removes => Ok(Dialect::File),
            _ if removes => Err(Error::new(
                Code::InvalidUrl,
                "`flock+remove:` is Symfony's: its dialect is symfony",
            )),
            _ => Err(Error::invalid(
                "the option `dialect` is one of native, symfony, file",
            )),
        }
    }

    pub(super) fn is_native(self) -> bool {
        self == Dialect::Native
    }

    /// The store's name among capabilities.
    pub(super) fn store(self) -> &'static str {
        match self {
            Dialect::Native => "flock",
            Dialect::Symfony => "flock-symfony",
            Dialect::File => "flock-file",
        }
    }

    /// What follows the directory in the URL that is shown, and tells fingerprints apart.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Dialect::Native => "",
            Dialect::Symfony => "?dialect=symfony",
            Dialect::File => "?dialect=file",
        }
    }

    /// The file that a name is kept in.
    pub(super) fn file_name(self, name: &[u8]) -> Result<OsString> {
        match self {
            Dialect::Native => Ok(names::file_name(name).into()),
            Dialect::Symfony => Ok(symfony_file_name(name).into()),
            Dialect::File => {
                check_file_name(name)?;
                Ok(OsString::from_vec(name.to_vec()))
            }
        }
    }
}

/// A name that is a file's must be one path component, and none of synlock's own.
fn check_file_name(name: &[u8]) -> Result<()> {
    let why = if name.contains(&b'/') {
        "contains a `/`; the URL says the directory"
    } else if name.contains(&0) {
        "contains a NUL"
    } else if name == b"." || name == b".." {
        "is a directory's"
    } else if name.starts_with(b".synlock") {
        "is one of synlock's own files"
    } else if name.len() > LONGEST_FILE_NAME {
        "is longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "with `dialect=file` the name is the file's, and this one {why}"
    )))
}

/// The file in which Symfony's `FlockStore` (5.0 and later) keeps a lock: what can be shown of the
/// name, and 42 bits of its SHA-256.
pub fn symfony_file_name(name: &[u8]) -> String {
    let mut shown = String::new();
    let mut in_run = false;
    for byte in name {
        let legal = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if legal {
            shown.push(char::from(*byte));
        } else if !in_run {
            shown.push('-');
        }
        in_run = !legal;
        if shown.len() == SHOWN {
            break;
        }
    }
    let digest = Sha256::digest(name);
    // Eight bytes hold more digits than are kept.
    let bits = digest[..8]
        .iter()
        .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |place: usize| {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_";
        char::from(ALPHABET[(bits >> (58 - 6 * place)) as usize & 63])
    };
    let hash: String = (0..DIGITS).map(digit).collect();
    format!("sf.{shown}.{hash}.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symfonys_names() {
        for (name, file) in [
            ("pdf-creation", "sf.pdf-creation.hBWGDdp.lock"),
            ("a/b", "sf.a-b.wUzdwDP.lock"),
            (
                "Symfony\\Component\\Lock\\Tests\\x",
                "sf.Symfony-Component-Lock-Tests-x.BctGg2J.lock",
            ),
        ] {
            assert_eq!(symfony_file_name(name.as_bytes()), file);
        }
        assert!(symfony_file_name(&[b'/'; 60_000]).len() < 100);
    }

    #[test]
    fn names_that_are_no_file_are_refused() {
        for name in [&b"a/b"[..], b"a\0", b".", b"..", b".synlock", &[b'x'; 256]] {
            let error = Dialect::File.file_name(name).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        for name in [&b"x.lock"[..], b".hidden", b"...", b"\xff", &[b'x'; 255]] {
            assert_eq!(Dialect::File.file_name(name).unwrap().into_vec(), name);
        }
    }
}
