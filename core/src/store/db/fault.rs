//! An exchange that failed: what it means for the caller, and for the connection.

use crate::error::printable;
use crate::{Code, Error};
use std::io;

/// Why a statement brought no rows.
#[derive(Debug)]
pub(crate) struct Fault {
    /// `Unavailable` if the statement surely did not act, `Uncertain` if it may have.
    pub error: Error,
    /// SQLSTATE, if the server said one.
    pub state: String,
    /// The server's own number: MySQL.
    pub number: u16,
    /// The connection can be used again.
    pub usable: bool,
    /// The answer has not come yet: `finish` may be called once more.
    pub late: bool,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl Fault {
    /// Deadlock, serialisation failure, or a lock that was not to be had in time: the statement did
    /// nothing, and may be sent again.
    pub fn is_retriable(&self) -> bool {
        matches!(self.state.as_str(), "40001" | "40P01" | "55P03")
            || matches!(self.number, 1020 | 1205 | 1213 | 3058 | 3572)
    }

    /// Those who wait wait for each other.
    pub fn is_deadlock(&self) -> bool {
        self.state == "40P01" || matches!(self.number, 1213 | 3058)
    }

    /// The wait was ended by somebody, or by its time.
    pub fn is_cancelled(&self) -> bool {
        self.state == "57014" || matches!(self.number, 1317 | 1969 | 3024)
    }

    /// The table, sequence or other relation does not exist.
    pub fn is_missing_table(&self) -> bool {
        self.state == "42P01" || matches!(self.number, 1146 | 4091)
    }

    /// A statement was prepared in another session than the one that it reached: a pooler stands between.
    pub fn is_of_another_session(&self) -> bool {
        matches!(self.state.as_str(), "26000" | "42P05")
    }

    /// The server takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.state == "25006" || matches!(self.number, 1290 | 1792 | 1836)
    }

    /// Trouble of the connection. Once something was sent, the statement may have acted.
    pub(super) fn broken(error: &io::Error, sent: bool) -> Self {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        let words = match error.kind() {
            io::ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
            io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            _ => format!("the connection failed: {error}"),
        };
        let error = if sent {
            Error::new(
                Code::Uncertain,
                format!("{words}; the request may have been carried out"),
            )
        } else {
            Error::new(Code::Unavailable, words)
        };
        Fault {
            late: sent && is_late,
            ..Self::dead(error)
        }
    }

    /// Trouble during the login: nothing was asked of the session yet.
    pub fn before_any_statement(self) -> Error {
        if self.error.code() == Code::Uncertain {
            let words = "the server did not let us in in time, or closed the connection";
            return Error::new(Code::Unavailable, words);
        }
        self.error
    }

    /// An error after which the connection is of no use.
    pub(super) fn dead(error: Error) -> Self {
        Fault {
            error,
            state: String::new(),
            number: 0,
            usable: false,
            late: false,
        }
    }

    /// What a server of MySQL says. `quote` repeats its words: not those of a login.
    #[cfg(feature = "mysql")]
    pub(super) fn of_mysql(number: u16, state: &str, message: &[u8], quote: bool) -> Self {
        let (code, words) = match number {
            1040 | 1203 | 1226 => (Code::Exhausted, "the server has no room for another client"),
            1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1396 | 1524 | 1698 | 1862 | 3118
            | 4151 => (Code::Permission, "the server does not let this user do it"),
            1049 => (Code::InvalidUrl, "the database does not exist"),
            1020 | 1205 | 1213 | 3058 | 3572 => {
                (Code::Unavailable, "the statement was in another one's way")
            }
            1290 | 1792 | 1836 => (
                Code::Unavailable,
                "the server is read-only, a replica perhaps",
            ),
            1053 | 1077..=1079 | 1317 | 1927 | 1969 | 3024 | 3169 | 4031 => {
                (Code::Unavailable, "the server ended the statement")
            }
            1037 | 1038 | 1041 | 1021 | 1114 => {
                (Code::Exhausted, "the server has run out of something")
            }
            _ => (Code::Protocol, "the server answered with an error"),
        };
        let ends = matches!(
            number,
            1040 | 1053 | 1077..=1079 | 1203 | 1927 | 3169 | 4031
        );
        Self::said(code, words, (number, state), message, quote, !ends)
    }

    /// What a server of PostgreSQL says.
    #[cfg(feature = "postgres")]
    pub(super) fn of_postgres(state: &str, fatal: bool, message: &[u8], quote: bool) -> Self {
        let class = state.get(..2).unwrap_or_default();
        let (code, words) = match (class, state) {
            ("28", _) | (_, "42501") => {
                (Code::Permission, "the server does not let this user do it")
            }
            (_, "3D000") => (Code::InvalidUrl, "the database does not exist"),
            (_, "53300") => (Code::Exhausted, "the server has no room for another client"),
            ("53", _) => (Code::Exhausted, "the server has run out of something"),
            ("40", _) | (_, "55P03") => {
                (Code::Unavailable, "the statement was in another one's way")
            }
            (_, "25006") => (
                Code::Unavailable,
                "the server is read-only, a standby perhaps",
            ),
            ("57" | "08", _) => (Code::Unavailable, "the server ended the statement"),
            _ => (Code::Protocol, "the server answered with an error"),
        };
        Self::said(code, words, (0, state), message, quote, !fatal)
    }

    fn said(
        code: Code,
        words: &str,
        (number, state): (u16, &str),
        message: &[u8],
        quote: bool,
        usable: bool,
    ) -> Self {
        let text = if quote {
            format!("{words} ({state} {})", printable(message))
        } else {
            format!("{words} ({state})")
        };
        Fault {
            error: Error::new(code, text),
            state: state.to_owned(),
            number,
            usable,
            late: false,
        }
    }
}
