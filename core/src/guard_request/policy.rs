//! How a request is guarded.

use super::{MESSAGE, STATUS};
use crate::options::check_ttl;
use crate::{Error, Result};
use std::time::Duration;

/// How long `queue` and `force` try unless the policy says otherwise.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Words for the values of an option, the same in every language.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident($what:literal) { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }

            /// From its word.
            ///
            /// # Errors
            /// `InvalidArgument` for any other, naming the known ones.
            pub fn read(word: &str) -> Result<Self> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.word() == word)
                    .ok_or_else(|| {
                        let known: Vec<&str> = Self::ALL.iter().map(|value| value.word()).collect();
                        let known = known.join(", ");
                        Error::invalid(format!(concat!("“{}” is no ", $what, ": it is one of {}"), word, known))
                    })
            }
        }
    };
}

words! {
    /// What a request does about the lock.
    GuardMode("mode of a request guard") {
        /// Acquires it; refused if somebody holds it.
        #[default]
        Block = "block",
        /// Refused if somebody holds it; acquires nothing.
        Check = "check",
        /// Acquires it, waiting for at most `max_wait`.
        Queue = "queue",
        /// Takes it from whoever holds it.
        Force = "force",
    }
}

words! {
    /// When the lock is released.
    ReleasePoint("release point") {
        /// When the body of the response is finished, or the client is gone.
        #[default]
        Response = "response",
        /// When the framework has done everything, after the response.
        Terminate = "terminate",
    }
}

words! {
    /// Whose lock it is, with user isolation, when nobody is logged in.
    Anonymous("way to treat anonymous requests") {
        /// Nobody's: an error.
        #[default]
        Refuse = "refuse",
        /// One lock of all anonymous requests.
        Share = "share",
        /// One lock for each session.
        Session = "session",
        /// One lock for each client address.
        Ip = "ip",
    }
}

words! {
    /// How names are made.
    Dialect("dialect of request guards") {
        /// Ours: names as they are written.
        #[default]
        Native = "native",
        /// ixarlie/mutex-bundle before 2.0: `ixarlie_mutex_` and an MD5.
        Ixarlie = "ixarlie",
        /// ixarlie/mutex-bundle 2.1: no placeholders, no hash.
        Ixarlie2 = "ixarlie2",
    }
}

/// How a request is guarded. `Default` is what an omitted option means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Template of the lock's name (`order_{id}`); omitted or empty: made from route and path.
    pub name: Option<Vec<u8>>,
    /// What to do about the lock.
    pub mode: GuardMode,
    /// Which of the named stores; omitted: the default one.
    pub service: Option<String>,
    /// Lease. Omitted: held until the release point or the owner's death. On a store without leases
    /// a given one means the same, as in ixarlie's bundle, unless `strict`.
    pub ttl: Option<Duration>,
    /// How long `queue` waits and `force` tries at most.
    pub max_wait: Duration,
    /// Each user has a lock of their own.
    pub user_isolation: bool,
    /// With user isolation: what becomes of requests of nobody.
    pub anonymous: Anonymous,
    /// HTTP status of a refusal.
    pub status: u16,
    /// Words of a refusal.
    pub message: String,
    /// Translation domain of the message.
    pub domain: Option<String>,
    /// Release at the release point; otherwise the lease, or the process' end, ends the hold.
    pub auto_release: bool,
    /// When to release.
    pub release: ReleasePoint,
    /// Refuse what the store cannot promise: a TTL on a store without leases.
    pub strict: bool,
    /// Words shown to whoever inspects the lock; omitted: those of the request.
    pub label: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            name: None,
            mode: GuardMode::Block,
            service: None,
            ttl: None,
            max_wait: MAX_WAIT,
            user_isolation: false,
            anonymous: Anonymous::Refuse,
            status: STATUS,
            message: MESSAGE.to_owned(),
            domain: None,
            auto_release: true,
            release: ReleasePoint::Response,
            strict: false,
            label: None,
        }
    }
}

impl Policy {
    /// Checks ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a TTL out of range, a wait of no time, or a status that is no error of HTTP.
    pub fn check(&self) -> Result<()> {
        if self.max_wait.is_zero() {
            return Err(Error::invalid(
                "a wait of no time: the mode `block` does not wait",
            ));
        }
        if let Some(ttl) = self.ttl {
            check_ttl(ttl)?;
        }
        if !(400..=599).contains(&self.status) {
            return Err(Error::invalid(format!(
                "a refusal's HTTP status is one of 400 to 599, not {}",
                self.status
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn words_are_read_back_and_others_are_refused() {
        for mode in GuardMode::ALL {
            assert_eq!(GuardMode::read(mode.word()).unwrap(), *mode);
        }
        for anonymous in Anonymous::ALL {
            assert_eq!(Anonymous::read(anonymous.word()).unwrap(), *anonymous);
        }
        let error = GuardMode::read("Block").unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(
            error.message().contains("block, check, queue, force"),
            "{error}"
        );
    }

    #[test]
    fn ranges_are_checked() {
        assert!(Policy::default().check().is_ok());
        assert_eq!(Policy::default().max_wait, Duration::from_secs(30));
        for status in [0, 200, 399, 600] {
            let policy = Policy {
                status,
                ..Policy::default()
            };
            assert_eq!(policy.check().unwrap_err().code(), Code::InvalidArgument);
        }
        let no_ttl = Policy {
            ttl: Some(Duration::ZERO),
            ..Policy::default()
        };
        let no_wait = Policy {
            max_wait: Duration::ZERO,
            ..Policy::default()
        };
        for policy in [no_ttl, no_wait] {
            assert_eq!(policy.check().unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
