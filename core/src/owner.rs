//! Owner tokens: 128 random bits that say whose a hold is.

use crate::hex;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Of which quorum a hold is: a hash of all that its processes must have in common.
pub type Brand = [u8; 3];

/// Where the brand stands, behind three bytes that say that there is one. Not among the digits that are shown.
const BRAND_AT: usize = 10;
const BRANDED: [u8; 3] = *b"quo";

/// How many bytes of every token are random.
pub(crate) const RANDOM_BYTES: usize = BRAND_AT;

/// Names one hold for its whole life; whoever knows it may release the lock. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// Stands for a token that has not been drawn.
    pub const NONE: OwnerToken = OwnerToken([0; 16]);

    /// Draws a new one from the kernel's random numbers.
    pub fn draw() -> crate::Result<Self> {
        loop {
            let token = crate::fork::random_128().map(OwnerToken)?;
            if token.is_drawn() {
                return Ok(token);
            }
        }
    }

    /// Stands for a token that has not been drawn, where a hold must be found by it.
    #[inline]
    pub(crate) fn numbered(number: u64) -> Self {
        // One to one, and spread out as the bits of random ones are.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&spread.to_ne_bytes());
        OwnerToken(bytes)
    }

    /// Whether it is a token, and not what stands for one.
    pub(crate) fn is_drawn(&self) -> bool {
        self.0[8..] != [0; 8]
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From bytes that a store kept.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        OwnerToken(bytes)
    }

    /// The same with a brand: 80 bits stay random.
    pub(crate) fn branded(mut self, brand: Brand) -> Self {
        self.0[BRAND_AT..BRAND_AT + 3].copy_from_slice(&BRANDED);
        self.0[BRAND_AT + 3..].copy_from_slice(&brand);
        self
    }

    /// Its brand, if it has one.
    pub(crate) fn brand(&self) -> Option<Brand> {
        let tail = self.0[BRAND_AT..].strip_prefix(&BRANDED)?;
        tail.try_into().ok()
    }

    /// The brand of a token as stores write it: 32 hexadecimal digits, perhaps with dashes.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "stores of servers need it")
    )]
    pub(crate) fn brand_of(text: &str) -> Option<Brand> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        Self::from_hex(&digits)?.brand()
    }

    /// 32 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    /// The first 8 digits, which may be shown; empty if it has not been drawn.
    pub(crate) fn shown(&self) -> String {
        let mut digits = self.to_hex();
        digits.truncate(if self.is_drawn() { 8 } else { 0 });
        digits
    }

    /// From 32 hexadecimal digits.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        hex::decode(text)?.try_into().ok().map(OwnerToken)
    }
}

/// Numbers that no other in this process gives out, for one thread at a time.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    /// How many are taken at once from those of the process.
    const BLOCK: u64 = 1 << 20;

    /// The next one, never 0.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        static BLOCKS: AtomicU64 = AtomicU64::new(0);
        let mut number = self.0.load(Ordering::Relaxed);
        if number.is_multiple_of(Self::BLOCK) {
            number = BLOCKS.fetch_add(Self::BLOCK, Ordering::Relaxed) + 1;
        }
        self.0.store(number + 1, Ordering::Relaxed);
        number
    }
}

/// Random bytes need no mixing (see [`crate::hash`]).
impl Hash for OwnerToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut half = [0; 8];
        half.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_ne_bytes(half));
    }
}

/// Only the first 8 digits: knowing the whole token is the right to release.
impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.to_hex()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_token_is_told_from_one_and_from_others() {
        let [a, b] = [1, 2].map(OwnerToken::numbered);
        assert!(a != b && !a.is_drawn() && !OwnerToken::NONE.is_drawn());
        assert!(OwnerToken::draw().unwrap().is_drawn());
        assert_eq!(a.shown(), "");
    }

    #[test]
    fn no_number_is_given_twice() {
        let (a, b) = (Numbers::default(), Numbers::default());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..Numbers::BLOCK + 2 {
            assert!(seen.insert(a.next()));
        }
        assert!(seen.insert(b.next()) && seen.insert(a.next()) && !seen.contains(&0));
    }

    #[test]
    fn a_brand_is_read_where_it_was_put_and_nowhere_else() {
        let token = OwnerToken::from_bytes([0x5a; 16]);
        assert_eq!(token.brand(), None);
        let branded = token.branded([1, 2, 3]);
        assert_eq!(branded.brand(), Some([1, 2, 3]));
        assert_eq!(branded.shown(), token.shown());
        assert_eq!(branded.to_hex(), "5a5a5a5a5a5a5a5a5a5a71756f010203");
        let uuid = "5a5a5a5a-5a5a-5a5a-5a5a-71756f010203";
        assert_eq!(OwnerToken::brand_of(uuid), Some([1, 2, 3]));
        assert_eq!(OwnerToken::brand_of("of a peer"), None);
    }

    #[test]
    fn hex_goes_both_ways_and_debug_keeps_the_secret() {
        let token = OwnerToken::draw().unwrap();
        assert_eq!(OwnerToken::from_hex(token.to_hex().as_bytes()), Some(token));
        assert_eq!(OwnerToken::from_hex(b"xyz"), None);
        assert!(!format!("{token:?}").contains(&token.to_hex()));
    }
}
