//! Keys on the server, as `core/FORMATS.md` says: at most 250 bytes, no blanks, no control bytes.

use super::config::{Config, Dialect};
use crate::name::Name;
use crate::{Error, Result};
use sha2::{Digest, Sha256};

/// memcached's own limit.
const LONGEST: usize = 250;
/// What is shown of a name that does not fit.
const SHOWN: usize = 100;

/// A lock's key, and whether it stands for the name as a whole.
pub(super) struct Key {
    pub bytes: Vec<u8>,
    pub is_whole: bool,
}

pub(super) fn key(config: &Config, name: &Name) -> Result<Key> {
    let prefix = config.prefix.as_bytes();
    if config.dialect == Dialect::Symfony {
        let bytes = [prefix, name.as_bytes()].concat();
        if bytes.len() > LONGEST || bytes.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(Error::invalid(
                "memcached's keys have at most 250 bytes, no blanks and no control characters, and on this dialect the name is the key",
            ));
        }
        return Ok(Key {
            bytes,
            is_whole: true,
        });
    }
    let mut shown = escape(name.as_bytes());
    let is_whole = prefix.len() + shown.len() <= LONGEST;
    if !is_whole {
        shown.truncate(SHOWN);
        shown.push(b'~');
        // Canary of row 32.
        if !cfg!(canary = "cut_long") {
            let hash = Sha256::digest(name.as_bytes());
            shown.extend(
                hash.iter()
                    .flat_map(|byte| format!("{byte:02x}").into_bytes()),
            );
        }
    }
    Ok(Key {
        bytes: [prefix, &shown].concat(),
        is_whole,
    })
}

/// Printable ASCII stands for itself, but `%` and `~`: so no name looks like one that was cut.
fn escape(name: &[u8]) -> Vec<u8> {
    name.iter()
        .fold(Vec::with_capacity(name.len()), |mut out, byte| {
            if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'~') {
                out.push(*byte);
            } else {
                out.extend(format!("%{byte:02X}").into_bytes());
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    fn of(url: &str, name: &[u8]) -> Result<Vec<u8>> {
        let config = Config::read(&mut Url::parse(url, &[]).unwrap()).unwrap();
        key(&config, &Name::new(name).unwrap()).map(|key| key.bytes)
    }

    #[test]
    fn keys_are_pinned() {
        let native = |name: &[u8]| of("memcached:", name).unwrap();
        assert_eq!(native(b"invoice/42"), b"synlock:invoice/42");
        assert_eq!(native(b"a b~\xff%"), b"synlock:a%20b%7E%FF%25");
        assert_eq!(native(&[b'x'; 242]).len(), 250);
        let long = native(&[b'x'; 243]);
        assert_eq!(long.len(), 8 + 100 + 1 + 64);
        assert_ne!(long, native(&[b'x'; 244]));
        assert_eq!(of("memcached:?dialect=symfony", b"a").unwrap(), b"a");
        for bad in [&b"a b"[..], b"a\n", &[b'x'; 251]] {
            assert!(of("memcached:?dialect=symfony", bad).is_err());
        }
    }
}
