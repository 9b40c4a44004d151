//! Options of a `tiered:` URL, and what the two stores must be.

use super::baton::Batons;
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::store::segment::folder::HOST_DIR;
use crate::store::{Backend, Claim};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How many holds a remote grant may serve, unless `budget=` says otherwise.
const BUDGET: u32 = 32;
/// How much longer than a hold's TTL the remote lease is, so that it need not be asked for at each hand-over.
const ALLOWANCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Tiered {
    pub local: Arc<dyn Backend>,
    pub remote: Arc<dyn Backend>,
    pub budget: u32,
    pub allowance: Duration,
    pub batons: Batons,
    pub can: Capabilities,
    pub url: String,
    pub process: PerProcess<Process>,
}

/// What this process knows of its claims.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub claims: Mutex<ByToken<Entry>>,
    /// Bells that the remote store rings, by their addresses.
    pub far: Mutex<HashSet<usize>>,
}

/// One claim, from the local queue on.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub phase: Phase,
    /// At the remote store; its token is the host's, not the claim's.
    pub remote: Claim,
    /// Until when the remote hold is sure.
    pub end: BootTime,
    /// How many may follow it inside the remote hold.
    pub left: u32,
    pub fence: Option<u64>,
    /// Its bell, while the remote store rings it.
    pub bell: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Holds locally, and waits in the remote store's queue.
    Remote,
    Held,
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(Code::InvalidUrl, words)
}

/// Opens a `tiered:` URL over its two stores; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`, `Unsupported`.
pub fn open(url: &mut Url, members: Vec<Arc<dyn Backend>>) -> Result<Arc<dyn Backend>> {
    let form = "two tiers are written tiered:?local=URL&remote=URL or tiered:(LOCAL,REMOTE)";
    if !url.host.is_empty() || !url.path.is_empty() {
        return Err(bad(form));
    }
    let [local, remote]: [Arc<dyn Backend>; 2] = members.try_into().map_err(|_| bad(form))?;
    let (near, far) = (local.capabilities(), remote.capabilities());
    let sees_all = near.frees_on_death && near.ttl && near.wakes;
    if near.scope != Scope::Host || !sees_all {
        return Err(Error::unsupported(format!(
            "the local tier must be a store of the host that sees its owners die, keeps leases and wakes its waiters, like shm:, and `{}:` is not",
            near.store
        )));
    }
    if far.scope != Scope::Cluster || !far.ttl || remote.is_caller_thread_only() {
        return Err(Error::unsupported(format!(
            "the remote tier must be a store of many hosts that keeps leases, and `{}:` is not",
            far.store
        )));
    }
    if remote.leaves_releases() {
        return Err(bad(
            "`release=async` is of a store by itself: the remote tier's answers are waited for",
        ));
    }
    let budget = match url.take_int("budget")? {
        None => BUDGET,
        Some(number) => u32::try_from(number)
            .ok()
            .filter(|budget| (1..=1_000_000).contains(budget))
            .ok_or_else(|| Error::invalid("the option `budget` is a number from 1 to 1000000"))?,
    };
    let state = url.take("state").map_or_else(
        || {
            let user = nix::unistd::geteuid();
            PathBuf::from(HOST_DIR).join(format!("synlock-tiered-{user}"))
        },
        PathBuf::from,
    );
    if !state.is_absolute() {
        return Err(Error::invalid("the option `state` is the path of a folder"));
    }
    let both = format!("{}\n{}", local.fingerprint(), remote.fingerprint());
    Ok(Arc::new(Tiered {
        url: format!("tiered:({},{})", local.url(), remote.url()),
        budget,
        allowance: url.take_millis("allowance")?.unwrap_or(ALLOWANCE),
        batons: Batons::new(state, &both)?,
        can: Capabilities {
            store: "tiered",
            shared: false,
            promote: false,
            permits: false,
            ttl: true,
            // On this host the next one goes on at once; other hosts wait for the lease.
            frees_on_death: false,
            fence: match far.fence {
                _ if !remote.reserves_fences() => Fence::None,
                // Those of a block that was reserved before it forgot may still be given after newer ones.
                Fence::Hybrid if !far.survives_restart => Fence::Ephemeral,
                fence => fence,
            },
            wakes: far.wakes,
            fair: near.fair && far.fair,
            export: false,
            list: far.list,
            break_lock: far.break_lock,
            survives_restart: far.survives_restart,
            clock: far.clock,
            scope: far.scope,
        },
        local,
        remote,
        process: PerProcess::new(),
    }))
}

impl Tiered {
    pub fn process(&self) -> &Process {
        self.process.get_or_init(Process::default)
    }
}
