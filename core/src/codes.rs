//! The one table of status codes, shared by every language.
//!
//! Numbers are written by hand, in bands, and never reused: 0 is success, 1–99 are outcomes,
//! 100–199 the caller's mistakes, 200–299 trouble of the store, 900 and above our own.

use std::fmt;

macro_rules! codes {
    ($($name:ident = $number:literal, $text_name:literal, $class:literal, $retriable:literal, $text:literal;)*) => {
        /// What an operation came to. The number is the C status, the name the suffix of the
        /// C constant (`SYNLOCK_…`) and of the JavaScript `code`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $text] $name = $number,)*
        }

        impl Code {
            /// Every code, in the order of its number.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The code of a number, if there is one.
            pub fn from_number(number: i32) -> Option<Code> {
                match number { $($number => Some(Code::$name),)* _ => None }
            }

            /// Upper-case name, as in `SYNLOCK_TIMEOUT` without the prefix.
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => $text_name,)* }
            }

            /// Name of the exception class in Python, PHP and Node.
            pub fn class(self) -> &'static str {
                match self { $(Code::$name => $class,)* }
            }

            /// One line for people.
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// Whether the same call may succeed when it is made again later.
            pub fn is_retriable(self) -> bool {
                match self { $(Code::$name => $retriable,)* }
            }
        }
    };
}

codes! {
    Ok = 0, "OK", "", false, "success";
    // Outcomes.
    Busy = 1, "BUSY", "LockBusy", true, "somebody else holds the lock";
    Timeout = 2, "TIMEOUT", "LockTimeout", true, "the lock was not free in time";
    Lost = 3, "LOST", "LockLost", false, "the lock was lost: it expired, was broken, or its store forgot it";
    NotHeld = 4, "NOT_HELD", "NotHeld", false, "this handle does not hold the lock";
    AlreadyHeld = 5, "ALREADY_HELD", "AlreadyHeld", false, "this handle holds the lock already";
    Cancelled = 6, "CANCELLED", "LockCancelled", false, "the wait was cancelled";
    Interrupted = 7, "INTERRUPTED", "LockInterrupted", true, "a signal or time slice gives the host a turn; call again to keep the place in the queue";
    // The caller's mistakes.
    NullPointer = 100, "NULL_POINTER", "InvalidArgument", false, "a required pointer is NULL";
    InvalidArgument = 101, "INVALID_ARGUMENT", "InvalidArgument", false, "an argument is out of its range";
    InvalidUrl = 102, "INVALID_URL", "InvalidUrl", false, "the store URL cannot be used";
    UnknownScheme = 103, "UNKNOWN_SCHEME", "InvalidUrl", false, "no store has this URL scheme";
    NotInBuild = 104, "NOT_IN_BUILD", "InvalidUrl", false, "this build does not contain the store or option";
    UnknownOption = 105, "UNKNOWN_OPTION", "InvalidArgument", false, "there is no option of this name";
    Unsupported = 106, "UNSUPPORTED", "Unsupported", false, "the store cannot do this";
    InvalidHandle = 107, "INVALID_HANDLE", "InvalidHandle", false, "the handle is stale, freed or forged";
    ForkedHandle = 108, "FORKED_HANDLE", "ForkedHandle", false, "the lock belongs to the parent process; make a new handle in this one";
    ConcurrentUse = 109, "CONCURRENT_USE", "ConcurrentUse", false, "another call uses this lock handle at this moment";
    Reentered = 110, "REENTERED", "Reentered", false, "this process holds the lock already, and its policy forbids asking again";
    Deadlock = 111, "DEADLOCK", "Deadlock", false, "waiting would never end: the holders wait for each other";
    // Trouble of the store.
    Unavailable = 200, "UNAVAILABLE", "Unavailable", true, "the store cannot be reached or cannot serve now";
    Uncertain = 201, "UNCERTAIN", "Uncertain", true, "the reply was lost: the store may or may not have acted";
    Permission = 202, "PERMISSION", "PermissionDenied", false, "the store refuses this user";
    Protocol = 203, "PROTOCOL", "ProtocolError", false, "the store answered something that cannot be right";
    Exhausted = 204, "EXHAUSTED", "Exhausted", true, "a resource of the store or of this process is used up";
    Storage = 205, "STORAGE", "StorageError", false, "the file system or kernel reported an error";
    // Ours.
    Internal = 900, "INTERNAL", "InternalError", false, "a bug in synlock was contained";
}

impl Code {
    /// The C status.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Whether this is an expected outcome rather than an error (1–99).
    pub fn is_outcome(self) -> bool {
        (1..100).contains(&self.number())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_pinned() {
        let pinned: &[(i32, &str)] = &[
            (0, "OK"),
            (1, "BUSY"),
            (2, "TIMEOUT"),
            (3, "LOST"),
            (4, "NOT_HELD"),
            (5, "ALREADY_HELD"),
            (6, "CANCELLED"),
            (7, "INTERRUPTED"),
            (100, "NULL_POINTER"),
            (101, "INVALID_ARGUMENT"),
            (102, "INVALID_URL"),
            (103, "UNKNOWN_SCHEME"),
            (104, "NOT_IN_BUILD"),
            (105, "UNKNOWN_OPTION"),
            (106, "UNSUPPORTED"),
            (107, "INVALID_HANDLE"),
            (108, "FORKED_HANDLE"),
            (109, "CONCURRENT_USE"),
            (110, "REENTERED"),
            (111, "DEADLOCK"),
            (200, "UNAVAILABLE"),
            (201, "UNCERTAIN"),
            (202, "PERMISSION"),
            (203, "PROTOCOL"),
            (204, "EXHAUSTED"),
            (205, "STORAGE"),
            (900, "INTERNAL"),
        ];
        assert_eq!(Code::ALL.len(), pinned.len());
        for (code, (number, name)) in Code::ALL.iter().zip(pinned) {
            assert_eq!((code.number(), code.name()), (*number, *name));
            assert_eq!(Code::from_number(*number), Some(*code));
        }
    }
}
