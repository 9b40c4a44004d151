//! Owner tokens: 128 random bits that say whose a hold is.

use crate::hex;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Names one hold for its whole life; whoever knows it may release the lock. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// Stands for a token that has not been drawn.
    pub const NONE: OwnerToken = OwnerToken([0; 16]);

    /// Draws a new one from the kernel's random numbers.
    pub fn draw() -> crate::Result<Self> {
        crate::fork::random_128().map(OwnerToken)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From bytes that a store kept.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        OwnerToken(bytes)
    }

    /// 32 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    /// The first 8 digits, which may be shown; empty if it has not been drawn.
    pub(crate) fn shown(&self) -> String {
        let mut digits = self.to_hex();
        digits.truncate(if *self == Self::NONE { 0 } else { 8 });
        digits
    }

    /// From 32 hexadecimal digits.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        hex::decode(text)?.try_into().ok().map(OwnerToken)
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
    fn hex_goes_both_ways_and_debug_keeps_the_secret() {
        let token = OwnerToken::draw().unwrap();
        assert_eq!(OwnerToken::from_hex(token.to_hex().as_bytes()), Some(token));
        assert_eq!(OwnerToken::from_hex(b"xyz"), None);
        assert!(!format!("{token:?}").contains(&token.to_hex()));
    }
}
