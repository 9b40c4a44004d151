//! From a lock's name to its node, and back.

use super::config::{Config, Dialect, tidy};
use crate::name::Name;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Names longer than this stand as a hash.
const LONGEST: usize = 1024;
/// The bytes of a long name that its node shows.
pub(super) const SHOWN: usize = 512;

/// The node of a lock: the parent of its claims, or with `symfony` the claim itself.
pub(super) fn node(config: &Config, name: &Name) -> Result<String> {
    match config.dialect {
        Dialect::Native => Ok(child(&config.base, &shown(name.as_bytes()))),
        Dialect::Symfony => {
            let node = symfony(text(name)?);
            tidy(&child(&config.base, &node))
        }
        Dialect::Kazoo | Dialect::Curator | Dialect::CuratorReadWrite => {
            let text = text(name)?;
            let path = text.strip_prefix('/').unwrap_or(text);
            // Two names must not mean one node.
            if path.split('/').any(str::is_empty) {
                return Err(Error::invalid(
                    "in this dialect a name is a path, without empty parts",
                ));
            }
            tidy(&[&config.base, "/", path].concat())
        }
    }
}

pub(super) fn child(parent: &str, name: &str) -> String {
    let slash = if parent == "/" { "" } else { "/" };
    [parent, slash, name].concat()
}

pub(super) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

fn text(name: &Name) -> Result<&str> {
    std::str::from_utf8(name.as_bytes())
        .map_err(|_| Error::invalid("in this dialect a name must be UTF-8"))
}

/// A name as one part of a path: bytes other than letters, digits and `-._` as `%XX`. A long one is its
/// beginning, `~` and its SHA-256; no other has a `~`.
pub(super) fn shown(name: &[u8]) -> String {
    if name.len() <= LONGEST {
        return escape(name);
    }
    let mut out = escape(&name[..SHOWN]);
    out.push('~');
    // Canary of row 32.
    if cfg!(canary = "cut_long") {
        return out;
    }
    for byte in Sha256::digest(name) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn escape(name: &[u8]) -> String {
    // The server keeps `.`, `..` and, at its root, `zookeeper` for itself.
    let kept = matches!(name, b"." | b".." | b"zookeeper");
    let mut out = String::with_capacity(name.len());
    for (index, &byte) in name.iter().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if is_plain && !(kept && index == 0) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Whether a node shows a long name in part.
pub(super) fn is_long(node: &str) -> bool {
    node.contains('~')
}

/// The name that a node shows, if it is one of ours.
pub(super) fn unescape(node: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(node.len());
    let mut rest = node.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => out.push(byte),
        }
    }
    Some(out)
}

/// Symfony's: a name with slashes has them as dashes, and its SHA-1 after it; so has an empty one.
fn symfony(name: &str) -> String {
    if !name.contains('/') {
        return name.to_owned();
    }
    let mut out = name.replace('/', "-");
    out.push('-');
    for byte in sha1::Sha1::digest(name) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symfony_s_nodes_are_pinned() {
        for (name, node) in [
            ("foo", "foo"),
            (
                "foo/bar",
                "foo-bar-17cdeaefa5cc6022481c824e15a47a7726f593dd",
            ),
            ("/", "--42099b4af021e53fd8fd4e056c2568d7c2e3ffa8"),
        ] {
            assert_eq!(symfony(name), node);
        }
    }

    #[test]
    fn native_nodes_go_both_ways() {
        for (name, node) in [
            (&b"invoice"[..], "invoice"),
            (b"a/../b", "a%2F..%2Fb"),
            (b".", "%2E"),
            (b"..", "%2E."),
            (b"zookeeper", "%7Aookeeper"),
            (b"~", "%7E"),
            (b"%41", "%2541"),
            (b"\xff\0", "%FF%00"),
        ] {
            assert_eq!(shown(name), node);
            assert_eq!(unescape(node).unwrap(), name);
        }
        let (a, b) = (vec![b'x'; 2000], vec![b'x'; 2001]);
        assert_ne!(shown(&a), shown(&b));
        assert!(is_long(&shown(&a)) && shown(&a).len() == SHOWN + 65);
        assert_eq!(unescape("%4"), None);
    }

    #[test]
    fn parents_are_found() {
        assert_eq!(
            (parent("/a/b"), parent("/a"), child("/", "a")),
            ("/a", "/", "/a".to_owned())
        );
    }
}
