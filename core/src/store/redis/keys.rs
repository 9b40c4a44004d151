//! Keys on the server, as `core/FORMATS.md` says.

use crate::name::Name;
use sha2::{Digest, Sha256};

/// Names longer than this stand as a hash.
const LONGEST: usize = 1024;
const BUCKETS: u16 = 1024;

/// The four keys of one lock; they share a cluster slot.
#[derive(Debug)]
pub(super) struct Keys(pub [Vec<u8>; 4]);

impl Keys {
    pub fn of(prefix: &str, name: &Name) -> Self {
        let bytes = name.as_bytes();
        let tag = format!("{prefix}{{b{:04}}}", crc16(bytes) % BUCKETS);
        let key = |kind: &str| [tag.as_bytes(), kind.as_bytes(), &shown(bytes)].concat();
        Keys([
            key(":"),
            key("q:"),
            key("w:"),
            format!("{tag}f").into_bytes(),
        ])
    }
}

/// The name as it stands in a key: itself, or, if it is too long, its beginning, `~` and its SHA-256.
/// So does a name that looks like such a one, lest two names meet.
fn shown(name: &[u8]) -> Vec<u8> {
    if name.len() <= LONGEST && !may_be_long(name) {
        return name.to_vec();
    }
    // Canary of row 32.
    if cfg!(canary = "cut_long") {
        return name[..SHOWN].to_vec();
    }
    let hash = Sha256::digest(name)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    [&name[..SHOWN], b"~", hash.as_bytes()].concat()
}

/// The bytes of a long name that its key shows.
pub(super) const SHOWN: usize = 512;

/// Whether what a key shows may stand for a longer name.
pub(super) fn may_be_long(shown: &[u8]) -> bool {
    shown.len() == SHOWN + 65 && shown.get(SHOWN) == Some(&b'~')
}

/// CRC-16/XMODEM, the one that Redis Cluster hashes keys with.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

/// The name in a lock's key, if it is one of ours.
pub(super) fn name_in_key<'a>(prefix: &str, key: &'a [u8]) -> Option<&'a [u8]> {
    let rest = key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"{b")?;
    let (digits, rest) = (rest.get(..4)?, rest.get(4..)?);
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    rest.strip_prefix(b"}:").filter(|name| !name.is_empty())
}

/// A pattern for SCAN that matches these bytes alone.
pub(super) fn glob(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().fold(Vec::new(), |mut out, byte| {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pinned() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let keys = Keys::of("synlock:", &Name::new("invoice").unwrap());
        let bucket = crc16(b"invoice") % BUCKETS;
        assert_eq!(
            keys.0[0],
            format!("synlock:{{b{bucket:04}}}:invoice").into_bytes()
        );
        assert_eq!(name_in_key("synlock:", &keys.0[0]), Some(&b"invoice"[..]));
        assert_eq!(name_in_key("synlock:", &keys.0[1]), None);
        assert_eq!(glob(b"a*b"), b"a\\*b");
    }

    #[test]
    fn long_names_stay_distinct() {
        let (a, b) = (vec![b'x'; 2000], vec![b'x'; 2001]);
        assert_ne!(shown(&a), shown(&b));
        assert!(may_be_long(&shown(&a)) && !may_be_long(&a));
        assert_ne!(shown(&shown(&a)), shown(&a));
    }
}
