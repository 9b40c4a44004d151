//! The one error type: a code first, then what it was about.

use crate::codes::Code;
use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation did not do what was asked: an outcome (busy, timed out, lost …) or an error.
///
/// One word wide. Credentials never appear in it.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    store: Option<String>,
    resource: Option<String>,
    operation: Option<&'static str>,
    ends_hold: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this code; `message` is a lower-case fragment that reads after "failed to …".
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            store: None,
            resource: None,
            operation: None,
            ends_hold: false,
            source: None,
        }))
    }

    /// An outcome that needs no words beyond its code's.
    pub fn outcome(code: Code) -> Self {
        Self::new(code, code.text())
    }

    /// `InvalidArgument` in these words.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// `Unsupported` in these words.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, message)
    }

    /// An operating-system error, under the code that fits its kind.
    pub fn from_io(error: std::io::Error, message: impl Into<String>) -> Self {
        let code = match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ELOOP) => Code::Permission,
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::ENOSPC
                | libc::EDQUOT
                | libc::ENOLCK,
            ) => Code::Exhausted,
            _ => Code::Storage,
        };
        Self::new(code, format!("{}: {error}", message.into())).with_source(error)
    }

    /// Adds the store (redacted URL).
    #[must_use]
    pub fn with_store(mut self, store: &str) -> Self {
        self.0.store.get_or_insert_with(|| store.to_owned());
        self
    }

    /// Adds the resource's name, made printable.
    #[must_use]
    pub fn with_resource(mut self, name: &[u8]) -> Self {
        self.0.resource.get_or_insert_with(|| printable(name));
        self
    }

    /// Adds the operation.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What it came to.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message alone, without store, resource and operation.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The store it happened on, credentials left out.
    pub fn store(&self) -> Option<&str> {
        self.0.store.as_deref()
    }

    /// The resource it was about, made printable and cut to a readable length.
    pub fn resource(&self) -> Option<&str> {
        self.0.resource.as_deref()
    }

    /// The operation that failed.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// Whether the server did not answer, surely or perhaps without having acted.
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(self.0.code, Code::Unavailable | Code::Uncertain)
    }

    /// Says that no hold can be, whatever the store answers later: what was granted has been given back.
    pub(crate) fn ending_hold(mut self) -> Self {
        self.0.ends_hold = true;
        self
    }

    /// Whether it says so.
    pub(crate) fn ends_hold(&self) -> bool {
        self.0.ends_hold
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.0.code.is_retriable()
    }
}

/// At most 80 characters of a name, anything unprintable escaped.
pub fn printable(name: &[u8]) -> String {
    let cut = &name[..name.len().min(80)];
    let mut text = cut.escape_ascii().to_string();
    if let Ok(utf8) = std::str::from_utf8(cut)
        && !utf8.chars().any(char::is_control)
    {
        text = utf8.to_owned();
    }
    if cut.len() < name.len() {
        text.push('…');
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = inner.operation {
            write!(f, "{operation}")?;
            if let Some(resource) = &inner.resource {
                write!(f, " “{resource}”")?;
            }
            if let Some(store) = &inner.store {
                write!(f, " on {store}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.code.name())?;
        if let Some(source) = &self.0.source {
            write!(f, "\n  caused by: {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn display_names_operation_resource_and_store() {
        let error = Error::outcome(Code::Timeout)
            .with_operation("acquire")
            .with_resource(b"a\0b")
            .with_store("memory:");
        assert_eq!(
            error.to_string(),
            "acquire “a\\x00b” on memory:: the lock was not free in time"
        );
    }
}
