//! Resource names: any bytes, never empty, at most 64 KiB.

pub mod template;
pub mod typed;

use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 64 * 1024;

/// The name of a resource. Text is its UTF-8 bytes as they stand: no normalisation, no case
/// folding.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// `InvalidArgument` if it is empty or longer than [`MAX_NAME`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Err(Error::invalid("the lock's name is empty"));
        }
        if bytes.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "the lock's name has {} bytes; {MAX_NAME} are the most",
                bytes.len()
            )));
        }
        Ok(Name(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "“{}”", crate::error::printable(&self.0))
    }
}
