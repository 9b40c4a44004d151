//! From a lock's name to the name of its file; normative in `core/FORMATS.md`.

use sha2::{Digest, Sha256};

/// A name of at most this many bytes, all of them from `[A-Za-z0-9._-]` and the first no dot, is
/// its own file name.
pub(super) const LONGEST_PLAIN: usize = 100;
/// How much of any other name its file name shows.
const SHOWN: usize = 40;
/// 160 bits of SHA-256.
const HASH_BYTES: usize = 20;

fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether the file's name says the whole name.
pub(super) fn is_plain(name: &[u8]) -> bool {
    (1..=LONGEST_PLAIN).contains(&name.len())
        && name[0] != b'.'
        && name.iter().copied().all(is_plain_byte)
}

/// The name of the file in which a lock is kept: the name itself if it is plain, otherwise what can
/// be read of its beginning, `~` and 160 bits of its SHA-256. At most 100 bytes, never a path, never
/// hidden; names that differ, differ here too.
pub fn file_name(name: &[u8]) -> String {
    if is_plain(name) {
        let text: String = name.iter().copied().map(char::from).collect();
        // Canary of row 32.
        if cfg!(canary = "fold_case") {
            return text.to_ascii_lowercase();
        }
        return text;
    }
    let mut text: String = name[..name.len().min(SHOWN)]
        .iter()
        .map(|byte| char::from(if is_plain_byte(*byte) { *byte } else { b'_' }))
        .collect();
    if text.starts_with('.') {
        text.replace_range(..1, "_");
    }
    text.push('~');
    base32(&Sha256::digest(name)[..HASH_BYTES], &mut text);
    text
}

/// RFC 4648 in lower case, without padding; `bytes` is a multiple of five long.
fn base32(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    for five in bytes.chunks(5) {
        let group = five
            .iter()
            .fold(0u64, |group, byte| group << 8 | u64::from(*byte));
        for digit in (0..8).rev() {
            text.push(char::from(DIGITS[(group >> (5 * digit)) as usize & 31]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stand_as_they_are() {
        for name in ["a", "Invoice-42_x.lock", &"x".repeat(100)] {
            assert_eq!(file_name(name.as_bytes()), name);
        }
    }

    #[test]
    fn other_names_show_their_beginning_and_a_hash() {
        assert_eq!(
            file_name(b"abc def"),
            "abc_def~aeexd2qacoqj3eo7in66ftlpm3pu3ppx"
        );
        for name in [
            &b".."[..],
            b".hidden",
            b"../../etc/passwd",
            b"a\0b",
            b"\xff",
            "naïve".as_bytes(),
            &[b'/'; 65536],
            b"a~b",
            &[b'x'; 101],
        ] {
            let file = file_name(name);
            assert!(file.len() <= 100 && file.contains('~'), "{file}");
            assert!(!file.starts_with('.') && !file.contains('/'), "{file}");
        }
    }

    #[test]
    fn case_and_normalisation_tell_names_apart() {
        assert_ne!(file_name(b"Foo"), file_name(b"foo"));
        assert_ne!(file_name(b"Foo "), file_name(b"foo "));
        assert_ne!(
            file_name("\u{e9}".as_bytes()),
            file_name("e\u{301}".as_bytes())
        );
    }
}
