//! What a name is to the server: a number or a pair of numbers on PostgreSQL, a name on MySQL.

use super::config::{Config, Dialect};
use crate::store::db::{Engine, Value};
use crate::{Error, Result, hex};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The longest name that MySQL takes, in characters.
const LONGEST: usize = 64;
/// The longest name that stands in MySQL as it is.
const LONGEST_PLAIN: usize = 60;

/// What the server calls a lock.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    Number(i64),
    Pair(i32, i32),
    Name(String),
}

/// What stands in a name as it is: the same in every collation, and in lower case.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.:/@".contains(&byte)
}

impl Key {
    pub fn of(config: &Config, name: &[u8]) -> Result<Self> {
        match config.database.engine {
            Engine::Postgres => Ok(match config.dialect {
                Dialect::Native => native_number(&config.prefix, name),
                Dialect::Symfony => Key::Number(i64::from(crc32fast::hash(name))),
                Dialect::DistributedLock => distributed_lock(name),
            }),
            Engine::Mysql => match config.dialect {
                Dialect::Native => Ok(native_name(&config.prefix, name)),
                Dialect::Symfony => Ok(Key::Name(hex::encode(&Sha256::digest(name)))),
                Dialect::DistributedLock => distributed_lock_name(name),
            },
        }
    }

    /// As parameters of a statement.
    pub fn values(&self) -> Vec<Value<'_>> {
        match self {
            Key::Number(number) => vec![Value::Int(*number)],
            Key::Pair(first, second) => {
                vec![Value::Int((*first).into()), Value::Int((*second).into())]
            }
            Key::Name(name) => vec![Value::Text(name)],
        }
    }
}

fn first_eight(hash: &[u8]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes
        .iter_mut()
        .zip(hash)
        .for_each(|(to, from)| *to = *from);
    bytes
}

fn native_number(prefix: &str, name: &[u8]) -> Key {
    let hash = Sha256::new()
        .chain_update(prefix)
        .chain_update(name)
        .finalize();
    Key::Number(i64::from_be_bytes(first_eight(&hash)))
}

/// The name behind the prefix, or `#` and 160 bits of its hash: servers compare names without regard to case or
/// accents, and know no long ones.
fn native_name(prefix: &str, name: &[u8]) -> Key {
    let plain = name.iter().copied().all(is_plain) && prefix.len() + name.len() <= LONGEST_PLAIN;
    Key::Name(match std::str::from_utf8(name) {
        Ok(name) if plain => format!("{prefix}{name}"),
        _ => {
            let hash = hex::encode(&Sha256::digest(name));
            format!("{prefix}#{}", hash.get(..40).unwrap_or(&hash))
        }
    })
}

/// .NET's DistributedLock: text of up to nine ASCII characters packed into 63 bits, numbers
/// spelled in hexadecimal, or a hash.
fn distributed_lock(name: &[u8]) -> Key {
    let hexadecimal = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok())
    };
    if name.len() <= 9 && name.is_ascii() {
        // Each character seven bits, then a zero, then ones.
        let text = name
            .iter()
            .fold(0u64, |packed, byte| packed << 7 | u64::from(*byte));
        let rest = 64 - 7 * name.len() as u32;
        let packed = if rest == 64 {
            u64::MAX >> 1
        } else {
            (text << rest) | ((1u64 << (rest - 1)) - 1)
        };
        return Key::Pair((packed >> 32) as i32, packed as i32);
    }
    if name.len() == 16
        && let Some(number) = hexadecimal(name)
    {
        return Key::Number(number as i64);
    }
    if name.len() == 17
        && let Some((first, second)) = name.split_at_checked(8)
        && let Some((b',', second)) = second.split_first().map(|(comma, rest)| (*comma, rest))
        && let (Some(first), Some(second)) = (hexadecimal(first), hexadecimal(second))
    {
        return Key::Pair(first as i32, second as i32);
    }
    Key::Number(i64::from_le_bytes(first_eight(&Sha1::digest(name))))
}

fn distributed_lock_name(name: &[u8]) -> Result<Key> {
    match std::str::from_utf8(name) {
        Ok(text) if text.chars().count() <= LONGEST && text.to_lowercase() == text => {
            Ok(Key::Name(text.to_owned()))
        }
        _ => Err(Error::unsupported(
            "DistributedLock hashes this name: use one in lower case of at most 64 characters",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symfonys_number_is_a_crc() {
        assert_eq!(crc32fast::hash(b"pdf-creation"), 572_123_647);
        assert_eq!(crc32fast::hash(b"plumless"), crc32fast::hash(b"buckeroo"));
    }

    #[test]
    fn distributed_locks_numbers_are_its_own() {
        for (name, key) in [
            ("", Key::Pair(2_147_483_647, -1)),
            ("foo", Key::Pair(-843_088_897, -1)),
            ("trailing/", Key::Pair(-372_568_419, -1_703_450_786)),
            ("123456789", Key::Pair(1_657_379_654, -1_382_303_630)),
            ("1234567890", Key::Number(-768_901_973_204_815_103)),
            ("deadbeefdeadbeef", Key::Number(-2_401_053_088_876_216_593)),
            ("0123456789abcdeg", Key::Number(8_261_140_907_795_711_218)),
            ("7fffffff,80000000", Key::Pair(2_147_483_647, i32::MIN)),
            ("café", Key::Number(-8_317_739_947_985_132_300)),
        ] {
            assert_eq!(distributed_lock(name.as_bytes()), key, "{name}");
        }
    }

    #[test]
    fn names_that_a_server_would_confuse_are_hashed() {
        let name = |text: &[u8]| match native_name("synlock:", text) {
            Key::Name(name) => name,
            key => panic!("{key:?}"),
        };
        assert_eq!(name(b"job/7"), "synlock:job/7");
        for text in [
            &b"Job/7"[..],
            b"job 7 ",
            b"#1",
            "é".as_bytes(),
            b"\xff",
            &[b'x'; 53],
        ] {
            let name = name(text);
            assert!(name.starts_with("synlock:#") && name.len() == 49, "{name}");
        }
    }
}
