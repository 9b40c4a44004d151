//! Looking from outside: the remote store says whether the lock is held, and the local one by whom, if it is
//! somebody of this host.

use super::config::Tiered;
use crate::Result;
use crate::lease::BootTime;
use crate::name::Name;
use crate::store::{Holder, Inspection, Page};

impl Tiered {
    pub(super) fn look_at(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let far = self.remote.inspect(name, deadline)?;
        self.shown(name, far, deadline)
    }

    /// What the remote store says, with what is known here.
    fn shown(
        &self,
        name: &Name,
        far: Inspection,
        deadline: Option<BootTime>,
    ) -> Result<Inspection> {
        let near = self.local.inspect(name, deadline)?;
        let mut waiters = near.waiters.unwrap_or(0) + far.waiters.unwrap_or(0);
        let Some(local) = near.holders.into_iter().next() else {
            return Ok(Inspection {
                waiters: Some(waiters),
                ..far
            });
        };
        let Some(baton) = self.batons.look(name, &local.owner) else {
            if far.waiters.is_none() {
                // It waits for another host.
                waiters += 1;
            }
            return Ok(Inspection {
                waiters: Some(waiters),
                ..far
            });
        };
        let holders = far.holders.into_iter().take(1);
        Ok(Inspection {
            holders: holders
                .map(|remote| Holder {
                    remaining: remote.remaining,
                    // The remote store knows the first of its hold alone.
                    fence: baton.next.map(|next| next - 1),
                    ..local.clone()
                })
                .collect(),
            waiters: Some(waiters),
            ..far
        })
    }

    pub(super) fn page(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        let page = self.remote.list(prefix, cursor, limit, deadline)?;
        let locks = page.locks.into_iter();
        let locks = locks.map(|far| self.shown(&Name::new(&far.name)?, far, deadline));
        Ok(Page {
            locks: locks.collect::<Result<_>>()?,
            cursor: page.cursor,
        })
    }
}
