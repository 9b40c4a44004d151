//! Options of a lock, the same in every language.

use crate::lease::Wait;
use crate::mode::Mode;
use crate::require::Require;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// The longest TTL: ten years.
pub const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The longest delay after an unclean end: a day.
pub const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

/// What happens when this process asks again for a name that it holds already through another
/// handle of the same store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reentry {
    /// Two handles are two owners: the second one waits.
    #[default]
    Independent,
    /// The second one is refused with `Reentered`.
    Error,
    /// The second one shares the hold, whose lease is renewed; the first release ends it for both. One that wants
    /// more than is held (exclusive of a shared hold, more permits) is refused with `Reentered`.
    Extend,
}

/// Options of a lock. `Default` is what an omitted option means.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockOptions {
    /// In which way to hold.
    pub mode: Mode,
    /// Lease; omitted means held until released or until the owner dies (see `renew`).
    pub ttl: Option<Duration>,
    /// Keep the lease alive until release. Omitted: only when `ttl` is omitted and the store
    /// needs one, which is then 30 s.
    pub renew: Option<bool>,
    /// How long `acquire` waits when the call does not say.
    pub timeout: Option<Wait>,
    /// Release when the handle is dropped.
    pub auto_release: bool,
    /// First come, first served; on `shm:` only once somebody has waited for a millisecond.
    pub fair: bool,
    /// Refuse whatever the store cannot promise, even in faces that would be lenient.
    pub strict: bool,
    /// Asking again within this process.
    pub reentry: Reentry,
    /// Give the host a turn on a signal and at least every 200 ms: `acquire` answers
    /// `Interrupted`, and the call made again within a second keeps its place.
    pub interruptible: bool,
    /// For how long a lock that was not released stays taken after its lease: time for what its
    /// holder had sent to arrive, where nothing checks fencing tokens.
    pub lock_delay: Duration,
    /// Whether cautions about the store are told.
    pub cautions: bool,
    /// What the store must be able to promise.
    pub require: Require,
    /// Where the program made the lock (`file:line`), for the events that it causes.
    pub caller: Option<Arc<str>>,
    /// The typed key that the name was made from, as JSON, for the events that the lock causes.
    pub key: Option<Arc<str>>,
    /// Words shown to whoever inspects the lock; at most 255 bytes.
    pub label: Option<Arc<str>>,
    /// A hold that is found lost says who broke it, if there is a note: one more request.
    pub ask_who_broke: bool,
}

impl Default for LockOptions {
    fn default() -> Self {
        LockOptions {
            mode: Mode::Exclusive,
            ttl: None,
            renew: None,
            timeout: None,
            auto_release: true,
            fair: true,
            strict: false,
            reentry: Reentry::Independent,
            interruptible: false,
            lock_delay: Duration::ZERO,
            cautions: true,
            require: Require::default(),
            caller: None,
            key: None,
            label: None,
            ask_who_broke: false,
        }
    }
}

impl LockOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a TTL of zero or over ten years, impossible permits, or a label that is long or
    /// contains a NUL.
    pub fn check(&self) -> Result<()> {
        self.mode.check()?;
        if let Some(ttl) = self.ttl {
            check_ttl(ttl)?;
        }
        if self.lock_delay > MAX_DELAY {
            return Err(Error::invalid("the lock delay is longer than a day"));
        }
        if self.label.as_ref().is_some_and(|label| label.len() > 255) {
            return Err(Error::invalid("the label is longer than 255 bytes"));
        }
        // C would see the part before it.
        if self
            .label
            .as_ref()
            .is_some_and(|label| label.contains('\0'))
        {
            return Err(Error::invalid("the label contains a NUL"));
        }
        Ok(())
    }
}

/// Checks a TTL.
///
/// # Errors
/// `InvalidArgument` if it is under a millisecond or over [`MAX_TTL`].
pub fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl < Duration::from_millis(1) || ttl > MAX_TTL {
        return Err(Error::invalid(format!(
            "a TTL of {ttl:?}: it must lie between 1 ms and ten years"
        )));
    }
    Ok(())
}
