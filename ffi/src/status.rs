//! The statuses, as C sees them.

use synlock_core::Code;

/// What a call came to: 0 is success, 1-99 outcomes, 100-199 mistakes of the
/// caller, 200-299 trouble of the store, 900 and above bugs of synlock.
/// Numbers are never reused.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_status {
    /// Success.
    SYNLOCK_OK = 0,
    /// Somebody else holds the lock.
    SYNLOCK_BUSY = 1,
    /// The lock was not free in time.
    SYNLOCK_TIMEOUT = 2,
    /// The lock was lost: it expired, was broken, or its store forgot it.
    SYNLOCK_LOST = 3,
    /// This handle does not hold the lock.
    SYNLOCK_NOT_HELD = 4,
    /// This handle holds the lock already.
    SYNLOCK_ALREADY_HELD = 5,
    /// The wait was cancelled.
    SYNLOCK_CANCELLED = 6,
    /// A signal or time slice gives the host a turn; call again within a
    /// second to keep the place in the queue. Only with `interruptible`.
    SYNLOCK_INTERRUPTED = 7,
    /// A required pointer is NULL.
    SYNLOCK_NULL_POINTER = 100,
    /// An argument is out of its range.
    SYNLOCK_INVALID_ARGUMENT = 101,
    /// The store URL cannot be used.
    SYNLOCK_INVALID_URL = 102,
    /// No store has this URL scheme.
    SYNLOCK_UNKNOWN_SCHEME = 103,
    /// This build does not contain the store or option.
    SYNLOCK_NOT_IN_BUILD = 104,
    /// There is no option of this name.
    SYNLOCK_UNKNOWN_OPTION = 105,
    /// The store cannot do this.
    SYNLOCK_UNSUPPORTED = 106,
    /// The handle is stale, freed or forged.
    SYNLOCK_INVALID_HANDLE = 107,
    /// The lock belongs to the parent process; make a new handle in this one.
    SYNLOCK_FORKED_HANDLE = 108,
    /// Another call uses this lock handle at this moment.
    SYNLOCK_CONCURRENT_USE = 109,
    /// This process holds the lock already, and its policy forbids asking
    /// again.
    SYNLOCK_REENTERED = 110,
    /// Waiting would never end: the holders wait for each other. Told where the
    /// database notices it (advisory locks); elsewhere such waits last until
    /// their timeout.
    SYNLOCK_DEADLOCK = 111,
    /// The store cannot be reached or cannot serve now.
    SYNLOCK_UNAVAILABLE = 200,
    /// The reply was lost: the store may or may not have acted.
    SYNLOCK_UNCERTAIN = 201,
    /// The store refuses this user.
    SYNLOCK_PERMISSION = 202,
    /// The store answered something that cannot be right.
    SYNLOCK_PROTOCOL = 203,
    /// A resource of the store or of this process is used up.
    SYNLOCK_EXHAUSTED = 204,
    /// The file system or kernel reported an error.
    SYNLOCK_STORAGE = 205,
    /// A bug in synlock was contained.
    SYNLOCK_INTERNAL = 900,
}

/// The status of a code; every code has one, which a test pins.
pub(crate) fn status(code: Code) -> synlock_status {
    use synlock_status as s;
    const ALL: [s; 27] = [
        s::SYNLOCK_OK,
        s::SYNLOCK_BUSY,
        s::SYNLOCK_TIMEOUT,
        s::SYNLOCK_LOST,
        s::SYNLOCK_NOT_HELD,
        s::SYNLOCK_ALREADY_HELD,
        s::SYNLOCK_CANCELLED,
        s::SYNLOCK_INTERRUPTED,
        s::SYNLOCK_NULL_POINTER,
        s::SYNLOCK_INVALID_ARGUMENT,
        s::SYNLOCK_INVALID_URL,
        s::SYNLOCK_UNKNOWN_SCHEME,
        s::SYNLOCK_NOT_IN_BUILD,
        s::SYNLOCK_UNKNOWN_OPTION,
        s::SYNLOCK_UNSUPPORTED,
        s::SYNLOCK_INVALID_HANDLE,
        s::SYNLOCK_FORKED_HANDLE,
        s::SYNLOCK_CONCURRENT_USE,
        s::SYNLOCK_REENTERED,
        s::SYNLOCK_DEADLOCK,
        s::SYNLOCK_UNAVAILABLE,
        s::SYNLOCK_UNCERTAIN,
        s::SYNLOCK_PERMISSION,
        s::SYNLOCK_PROTOCOL,
        s::SYNLOCK_EXHAUSTED,
        s::SYNLOCK_STORAGE,
        s::SYNLOCK_INTERNAL,
    ];
    ALL.into_iter()
        .find(|status| *status as i32 == code.number())
        .unwrap_or(s::SYNLOCK_INTERNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_status() {
        for code in Code::ALL {
            assert_eq!(status(*code) as i32, code.number());
            assert_eq!(
                format!("{:?}", status(*code)),
                format!("SYNLOCK_{}", code.name())
            );
        }
    }
}
