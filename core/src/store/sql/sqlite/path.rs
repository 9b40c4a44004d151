//! Where the file is.

use crate::codes::Code;
use crate::url::Url;
use crate::{Error, Result};

/// An absolute path without `.`, `..` and doubled slashes.
pub(super) fn take(url: &Url, example: &str) -> Result<String> {
    let bad = |words: String| Error::new(Code::InvalidUrl, words);
    if url.has_server() {
        return Err(bad(format!("the URL has a host; write `{example}`")));
    }
    if url.path == ":memory:" {
        return Err(Error::unsupported(
            "a database in memory cannot be shared: `memory:` keeps locks within one process",
        ));
    }
    let mut parts = Vec::new();
    for part in url.path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(bad("the path has a part `..`".into())),
            part => parts.push(part),
        }
    }
    if !url.path.starts_with('/') || parts.is_empty() || url.path.contains('\0') {
        return Err(bad(format!(
            "the path of the file is not absolute; write `{example}`"
        )));
    }
    Ok(format!("/{}", parts.join("/")))
}
