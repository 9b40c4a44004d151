//! From names to the kernel's 32-bit keys.

use crate::url::Url;
use crate::{Error, Result};
use md5::Md5;
use sha2::{Digest, Sha256};

/// How many keys a native name may have: another program's set, or another name's, may have the first.
pub(super) const KEYS: u8 = 16;

/// How a release of Symfony's `SemaphoreStore` makes a key of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// Up to 4.4.26, 5.2.11 and 5.3.2.
    Crc32,
    /// 4.4.27, 5.2.12 and 5.3.4 up to 6.2, and Debian's 5.4.
    Md5,
    /// 6.3 and later.
    Xxh128,
}

impl Generation {
    pub(super) fn take(url: &mut Url) -> Result<Self> {
        match url.take("keys").as_deref() {
            None | Some("xxh128") => Ok(Generation::Xxh128),
            Some("md5") => Ok(Generation::Md5),
            Some("crc32") => Ok(Generation::Crc32),
            Some(_) => Err(Error::invalid(
                "the option `keys` is one of crc32, md5, xxh128",
            )),
        }
    }
}

fn first_four(bytes: &[u8]) -> i32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[..4]);
    i32::from_ne_bytes(four)
}

/// Symfony's key of a name.
pub fn symfony_key(generation: Generation, name: &[u8]) -> i32 {
    match generation {
        Generation::Crc32 => crc32fast::hash(name) as i32,
        Generation::Md5 => first_four(&Md5::digest(name)),
        Generation::Xxh128 => first_four(&xxhash_rust::xxh3::xxh3_128(name).to_be_bytes()),
    }
}

/// The key that a name of PHP's dialect says, as PHP hands it to the kernel.
pub(super) fn php_key(name: &[u8]) -> Result<i32> {
    let bad =
        || Error::invalid("with `dialect=php` the name is the integer that PHP's sem_get is given");
    let text = std::str::from_utf8(name).map_err(|_| bad())?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let number: i64 = text.parse().map_err(|_| bad())?;
    if number != 0 && !is_plain {
        // Two spellings would be two names of one lock.
        return Err(bad());
    }
    Ok(number as i32)
}

/// A key of the kernel's that means a set nobody else can find.
pub(super) fn check_key(key: i32) -> Result<i32> {
    if key == libc::IPC_PRIVATE {
        return Err(Error::invalid(
            "the name's key is 0, which is a new set for each who asks: it would keep nobody out",
        ));
    }
    Ok(key)
}

fn native(space: &str, parts: &[&[u8]]) -> i32 {
    let mut hash = Sha256::new_with_prefix(b"synlock sysv\0");
    hash.update(space.as_bytes());
    for part in parts {
        hash.update(b"\0");
        hash.update(part);
    }
    match first_four(&hash.finalize()) {
        libc::IPC_PRIVATE => 1,
        key => key,
    }
}

/// The key of a native name that is looked at after `place` others.
pub(super) fn native_key(space: &str, name: &[u8], place: u8) -> i32 {
    native(space, &[&[place], name])
}

/// What tells sets of one space from those of another: 30 bits, 15 each.
pub(super) fn space_words(space: &str) -> [u16; 2] {
    let hash = native(space, &[b"space"]).cast_unsigned();
    [(hash >> 15) as u16 & 0x7fff, hash as u16 & 0x7fff]
}

/// The key of the set whose lock is taken by whoever makes or removes sets of a space.
pub(super) fn guard_key(space: &str) -> i32 {
    native(space, &[b"guard"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phps_names_are_integers_in_one_spelling() {
        for (name, key) in [
            ("1", 1),
            ("-5", -5),
            ("2147483648", i32::MIN),
            ("4294967297", 1),
            ("0", 0),
        ] {
            assert_eq!(php_key(name.as_bytes()).unwrap(), key, "{name}");
        }
        for name in [
            "",
            "x",
            "1.5",
            "01",
            "+1",
            " 1",
            "-01",
            "99999999999999999999",
        ] {
            assert!(php_key(name.as_bytes()).is_err(), "{name}");
        }
        assert!(check_key(0).is_err());
    }

    #[test]
    fn names_and_spaces_have_keys_of_their_own() {
        let all = [
            native_key("", b"a", 0),
            native_key("", b"a", 1),
            native_key("", b"b", 0),
            native_key("s", b"a", 0),
            guard_key(""),
            guard_key("s"),
        ];
        let different: std::collections::HashSet<i32> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
