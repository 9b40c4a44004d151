//! From a lock's name to the keys of its claims, and back.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Names longer than this stand as a hash.
const LONGEST: usize = 1024;
/// The bytes of a long name that its keys show.
pub(super) const SHOWN: usize = 512;

/// What the keys of a lock's claims begin with, up to the slash: etcd's `pfx` and `/`.
pub(super) fn folder(prefix: &str, name: &[u8]) -> Vec<u8> {
    let mut out = prefix.as_bytes().to_vec();
    out.extend(shown(name));
    out.push(b'/');
    out
}

/// The first key after all that begin with these bytes.
pub(super) fn end(folder: &[u8]) -> Vec<u8> {
    let mut out = folder.to_vec();
    while let Some(last) = out.pop() {
        if last < 0xff {
            out.push(last + 1);
            return out;
        }
    }
    // There is none: etcd's word for "to the end".
    vec![0]
}

/// A name as part of a key: as it stands, but for `/`, `%` and `~`, which are `%2F`, `%25` and `%7E`, so that
/// no lock's keys lie among another's. A long one is its beginning, `~` and its SHA-256; no other has a `~`.
fn shown(name: &[u8]) -> Vec<u8> {
    if name.len() <= LONGEST {
        return escape(name);
    }
    let mut out = escape(name.get(..SHOWN).unwrap_or(name));
    let mut hash = String::from("~");
    // Canary of row 32.
    let cut = usize::from(!cfg!(canary = "cut_long")) * 32;
    for byte in Sha256::digest(name).into_iter().take(cut) {
        let _ = write!(hash, "{byte:02x}");
    }
    out.extend(hash.into_bytes());
    out
}

pub(super) fn is_long(name: &[u8]) -> bool {
    name.len() > LONGEST
}

pub(super) fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'/' => out.extend(b"%2F"),
            b'%' => out.extend(b"%25"),
            b'~' => out.extend(b"%7E"),
            byte => out.push(byte),
        }
    }
    out
}

/// Whether a part of a key shows a long name in part.
pub(super) fn shows_hash(part: &[u8]) -> bool {
    part.contains(&b'~')
}

/// The name that a part of a key shows. A peer's may have a `%` that is no escape.
pub(super) fn unescape(part: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.len());
    let mut at = 0;
    while let Some(&byte) = part.get(at) {
        let (plain, used) = match part.get(at..at + 3) {
            Some(b"%2F") => (b'/', 3),
            Some(b"%25") => (b'%', 3),
            Some(b"%7E") => (b'~', 3),
            _ => (byte, 1),
        };
        out.push(plain);
        at += used;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["plain", "a/b", "100%", "%2F", "~x~", "caf\u{e9} \0"] {
            assert_eq!(
                unescape(&escape(name.as_bytes())),
                name.as_bytes(),
                "{name}"
            );
            assert!(!escape(name.as_bytes()).contains(&b'/'));
        }
        assert_eq!(folder("synlock:", b"a/b"), b"synlock:a%2Fb/");
        let long = folder("", &[b'x'; 2000]);
        assert_eq!(long.len(), SHOWN + 1 + 64 + 1);
        assert!(shows_hash(&long) && !shows_hash(&folder("", b"~")));
    }

    #[test]
    fn a_range_ends_after_all_that_begin_so() {
        assert_eq!(end(b"a/"), b"a0");
        assert_eq!(end(b"a\xff"), b"b");
        assert_eq!(end(b"\xff"), b"\0");
        assert_eq!(end(b""), b"\0");
    }
}
