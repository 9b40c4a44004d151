//! In which way a lock is held.

use crate::{Error, Result};

/// In which way a lock is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// One holder.
    #[default]
    Exclusive,
    /// Any number of shared holders, no exclusive one.
    Shared,
    /// `take` of `of` permits of a counting semaphore; all holders of a name must agree on `of`.
    Permits {
        /// Permits wanted at once, at least 1.
        take: u32,
        /// Permits that there are, at least `take`.
        of: u32,
    },
}

impl Mode {
    /// Checks the numbers of permits.
    ///
    /// # Errors
    /// `InvalidArgument` unless 1 ≤ take ≤ of ≤ 1 000 000.
    pub fn check(self) -> Result<Self> {
        match self {
            Mode::Permits { take, of } if take == 0 || take > of || of > 1_000_000 => {
                Err(Error::invalid(format!(
                    "{take} of {of} permits: 1 ≤ take ≤ of ≤ 1000000 must hold"
                )))
            }
            mode => Ok(mode),
        }
    }

    /// `exclusive`, `shared` or `permits`.
    pub fn kind(self) -> &'static str {
        match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
            Mode::Permits { .. } => "permits",
        }
    }

    /// Whether who holds in this mode may do all that a holder in the other may.
    pub(crate) fn covers(self, wanted: Mode) -> bool {
        match (self, wanted) {
            (Mode::Exclusive, Mode::Shared) => true,
            (
                Mode::Permits { take, of },
                Mode::Permits {
                    take: less,
                    of: all,
                },
            ) => of == all && take >= less,
            (held, wanted) => held == wanted,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mode::Permits { take, of } => write!(f, "{take} of {of} permits"),
            mode => f.write_str(mode.kind()),
        }
    }
}
