//! Maps whose keys bring their hash along, so that none is made of them.

use crate::owner::OwnerToken;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hands on the one number that a key writes. For numbers that nobody outside chooses, or maps that
/// stay small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given(u64);

impl Hasher for Given {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// For keys that write something else; not meant to be used.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Makes [`Given`].
pub type HashGiven = BuildHasherDefault<Given>;

/// A map by owner tokens that this process drew: they are random as they stand.
pub type ByToken<T> = HashMap<OwnerToken, T, HashGiven>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn a_token_is_its_own_hash() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9];
        let token = OwnerToken::from_bytes(bytes);
        let hash = HashGiven::default().hash_one(token);
        assert_eq!(hash.to_ne_bytes(), bytes[..8]);
        let mut map = ByToken::default();
        map.insert(token, 1);
        let mut other = bytes;
        other[15] = 0;
        assert_eq!(map.get(&OwnerToken::from_bytes(other)), None);
        assert_eq!(map.get(&token), Some(&1));
    }

    #[test]
    fn other_keys_hash_too() {
        let hash = |key: &str| HashGiven::default().hash_one(key);
        assert_ne!(hash("a"), hash("b"));
    }
}
