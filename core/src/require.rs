//! What a caller demands of a store, whatever store a URL names: `require=fence,crash_release,quorum`.

use crate::capability::{Capabilities, Fence};
use crate::{Error, Result};

/// Promises that a store must be able to keep, or its locks are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Require {
    /// Fencing tokens.
    pub fence: bool,
    /// Fencing tokens that are as durable as the store.
    pub fence_durable: bool,
    /// A dead owner's lock is free at once (on ZooKeeper when its session is over), not when its lease ends.
    pub crash_release: bool,
    /// A majority of stores holds each lock.
    pub quorum: bool,
}

impl Require {
    const WORDS: &str = "fence, fence_durable, crash_release, quorum";

    /// From words separated by commas.
    ///
    /// # Errors
    /// `InvalidArgument` for a word that is none.
    pub fn read(words: &str) -> Result<Self> {
        let mut require = Require::default();
        for word in words
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let flag = match word {
                "fence" => &mut require.fence,
                "fence_durable" => &mut require.fence_durable,
                "crash_release" => &mut require.crash_release,
                "quorum" => &mut require.quorum,
                _ => {
                    let known = Self::WORDS;
                    let words = format!("the option `require` lists some of {known}");
                    return Err(Error::invalid(words));
                }
            };
            *flag = true;
        }
        Ok(require)
    }

    /// Whether the store can promise it all.
    ///
    /// # Errors
    /// `Unsupported`, naming what it cannot.
    pub fn check(self, can: &Capabilities) -> Result<()> {
        let lacks = [
            (
                self.fence && can.fence == Fence::None,
                "fence: it gives no fencing tokens",
            ),
            (
                self.fence_durable && can.fence != Fence::Durable,
                "fence_durable: its fencing tokens are not as durable as itself",
            ),
            (
                self.crash_release && !can.frees_on_death,
                "crash_release: a dead owner's lock stays until its lease ends",
            ),
            (
                self.quorum && can.store != "quorum",
                "quorum: one store alone keeps each lock",
            ),
        ];
        match lacks.iter().find(|(lacks, _)| *lacks) {
            Some((_, words)) => Err(Error::unsupported(format!(
                "this store cannot promise what is required, {words}"
            ))),
            None => Ok(()),
        }
    }
}
