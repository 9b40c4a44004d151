//! Keys on the server, as `core/FORMATS.md` says.

use super::config::{Config, Dialect};
use super::nodes::SLOTS;
use crate::Result;
use crate::name::Name;
use sha2::{Digest, Sha256};

/// Names longer than this stand as a hash.
const LONGEST: usize = 1024;
const BUCKETS: u16 = 1024;

/// The keys of one lock; they share a cluster slot, or nearly always do on a dialect.
#[derive(Debug)]
pub(super) struct Keys(pub Vec<Vec<u8>>);

impl Keys {
    pub fn of(config: &Config, name: &Name, bare: bool) -> Self {
        if config.dialect == Dialect::Native {
            Self::native(&config.prefix, name)
        } else {
            Self::foreign(config, name, bare)
        }
    }

    /// The keys of the lock that stands at `key`, which shows `shown` of its name.
    pub fn at(config: &Config, key: &[u8], shown: &[u8], bare: bool) -> Result<Self> {
        if config.dialect == Dialect::Native {
            let tag = key.strip_suffix(shown).unwrap_or(key);
            Ok(Self::tagged(tag.strip_suffix(b":").unwrap_or(tag), shown))
        } else {
            Ok(Self::foreign(config, &Name::new(shown)?, bare))
        }
    }

    fn native(prefix: &str, name: &Name) -> Self {
        let bytes = name.as_bytes();
        let tag = format!("{prefix}{{b{:04}}}", crc16(bytes) % BUCKETS);
        Self::tagged(tag.as_bytes(), &shown(bytes))
    }

    fn tagged(tag: &[u8], shown: &[u8]) -> Self {
        let key = |kind: &str| [tag, kind.as_bytes(), shown].concat();
        Keys(vec![key(":"), key("q:"), key("w:"), [tag, b"f"].concat()])
    }

    /// The peer's key, ours beside it, and what the peer has beside it.
    fn foreign(config: &Config, name: &Name, bare: bool) -> Self {
        let prefix = config.prefix.as_bytes();
        let key = [prefix, before(config.dialect).as_bytes(), name.as_bytes()].concat();
        let mut keys = Vec::with_capacity(6);
        if !bare {
            // A key with a tag of its own keeps it; the others become the tag.
            let tagged = key.contains(&b'{');
            let (kind_end, end): (&str, &str) = if tagged { ("t:", "") } else { (":{", "}") };
            keys.extend(["", "w", "f", "i"].map(|kind| {
                [
                    HELPERS.as_bytes(),
                    kind.as_bytes(),
                    kind_end.as_bytes(),
                    &key,
                    end.as_bytes(),
                ]
                .concat()
            }));
        }
        keys.insert(0, key);
        if config.dialect == Dialect::PythonRedisLock {
            keys.push([prefix, b"lock-signal:", name.as_bytes()].concat());
        }
        Keys(keys)
    }
}

/// How keys of our own begin beside a peer's.
const HELPERS: &str = "synlock:q";

/// What a peer puts before the name.
fn before(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::PythonRedisLock => "lock:",
        Dialect::RedisSemaphore => "mutex:",
        Dialect::Native | Dialect::Plain | Dialect::Symfony | Dialect::Redisson => "",
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

/// The slot of a Cluster that has the key.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// The name in a lock's key, if it is one.
pub(super) fn name_in_key<'a>(config: &Config, key: &'a [u8]) -> Option<&'a [u8]> {
    let rest = key.strip_prefix(config.prefix.as_bytes())?;
    let name = if config.dialect == Dialect::Native {
        let rest = rest.strip_prefix(b"{b")?;
        let (digits, rest) = (rest.get(..4)?, rest.get(4..)?);
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        rest.strip_prefix(b"}:")?
    } else if key.starts_with(HELPERS.as_bytes()) {
        return None;
    } else {
        rest.strip_prefix(before(config.dialect).as_bytes())?
    };
    Some(name).filter(|name| !name.is_empty())
}

/// A pattern for SCAN that matches the keys of locks whose names begin so.
pub(super) fn pattern(config: &Config, prefix: &[u8]) -> Vec<u8> {
    let own = config.dialect == Dialect::Native;
    let middle = if own {
        b"{b[0-9][0-9][0-9][0-9]}:".to_vec()
    } else {
        before(config.dialect).as_bytes().to_vec()
    };
    let shown = if own { prefix.get(..SHOWN) } else { None };
    [
        glob(config.prefix.as_bytes()),
        middle,
        glob(shown.unwrap_or(prefix)),
        b"*".to_vec(),
    ]
    .concat()
}

/// A pattern for SCAN that matches these bytes alone.
fn glob(bytes: &[u8]) -> Vec<u8> {
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
    use crate::url::Url;

    fn config(url: &str) -> Config {
        Config::read(&mut Url::parse(url, &[]).unwrap()).unwrap()
    }

    fn shown_keys(url: &str, name: &str, bare: bool) -> Vec<String> {
        let keys = Keys::of(&config(url), &Name::new(name).unwrap(), bare);
        let text = |key: Vec<u8>| String::from_utf8(key).unwrap();
        keys.0.into_iter().map(text).collect()
    }

    #[test]
    fn keys_beside_a_peers_are_pinned() {
        assert_eq!(
            shown_keys("redis://h?dialect=plain", "a", false),
            [
                "a",
                "synlock:q:{a}",
                "synlock:qw:{a}",
                "synlock:qf:{a}",
                "synlock:qi:{a}"
            ]
        );
        assert_eq!(
            shown_keys("redis://h?dialect=redisson&prefix=app:", "{a}b", false)[..2],
            ["app:{a}b", "synlock:qt:app:{a}b"]
        );
        assert_eq!(
            shown_keys("redis://h?dialect=python-redis-lock", "a", true),
            ["lock:a", "lock-signal:a"]
        );
        let mutex = config("redis://h?dialect=redis-semaphore");
        assert_eq!(name_in_key(&mutex, b"mutex:a"), Some(&b"a"[..]));
        assert_eq!(name_in_key(&mutex, b"synlock:q:{mutex:a}"), None);
        assert_eq!(pattern(&mutex, b"a*"), b"mutex:a\\**");
    }

    #[test]
    fn keys_are_pinned() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let native = config("redis://h");
        let keys = Keys::of(&native, &Name::new("invoice").unwrap(), false);
        let bucket = crc16(b"invoice") % BUCKETS;
        assert_eq!(
            keys.0[0],
            format!("synlock:{{b{bucket:04}}}:invoice").into_bytes()
        );
        assert_eq!(name_in_key(&native, &keys.0[0]), Some(&b"invoice"[..]));
        assert_eq!(name_in_key(&native, &keys.0[1]), None);
        assert_eq!(glob(b"a*b"), b"a\\*b");
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // Of redis-cli's CLUSTER KEYSLOT.
        for (key, expected) in [
            ("foo", 12182),
            ("{foo}bar", 12182),
            ("x{foo}{bar}", 12182),
            ("foo{}", 5542),
            ("{", 4092),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn long_names_stay_distinct() {
        let (a, b) = (vec![b'x'; 2000], vec![b'x'; 2001]);
        assert_ne!(shown(&a), shown(&b));
        assert!(may_be_long(&shown(&a)) && !may_be_long(&a));
        assert_ne!(shown(&shown(&a)), shown(&a));
    }
}
