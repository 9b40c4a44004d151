//! What a store can do, machine-readable; the behaviour suite is driven by it.

/// How far a fencing token can be trusted to grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// No fencing token.
    None,
    /// Monotone within one life of the server or process.
    Ephemeral,
    /// Monotone unless the counter is lost *and* the clock steps back.
    Hybrid,
    /// As durable as the store itself.
    Durable,
}

impl Fence {
    /// `none`, `E`, `H` or `D`.
    pub fn class(self) -> &'static str {
        match self {
            Fence::None => "none",
            Fence::Ephemeral => "E",
            Fence::Hybrid => "H",
            Fence::Durable => "D",
        }
    }
}

/// Whom a store's locks keep out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Threads of this process.
    Process,
    /// Processes of this host.
    Host,
    /// Every host that reaches the same server.
    Cluster,
}

impl Scope {
    /// `process`, `host` or `cluster`.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Process => "process",
            Scope::Host => "host",
            Scope::Cluster => "cluster",
        }
    }
}

/// What a store can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Name of the store, the scheme of its URL.
    pub store: &'static str,
    /// Shared locks.
    pub shared: bool,
    /// A sole reader can become the writer.
    pub promote: bool,
    /// Counting semaphores with more than one permit.
    pub permits: bool,
    /// Leases: the store itself ends a hold after its TTL.
    pub ttl: bool,
    /// A hold without TTL ends when its owner's process dies. Otherwise it ends with its lease.
    pub frees_on_death: bool,
    /// Class of the fencing tokens.
    pub fence: Fence,
    /// Waiters are woken rather than polling.
    pub wakes: bool,
    /// First come, first served among synlock's waiters.
    pub fair: bool,
    /// A hold can be exported and adopted by another process.
    pub export: bool,
    /// `list` works; where it does not, `inspect` still may.
    pub list: bool,
    /// `break_lock` works.
    pub break_lock: bool,
    /// Holds survive a restart of the server.
    pub survives_restart: bool,
    /// Whose clock ends leases: `none`, `process`, `host` or `server`.
    pub clock: &'static str,
    /// Whom it keeps out.
    pub scope: Scope,
}

#[cfg(test)]
impl Capabilities {
    /// Of a made-up server that keeps leases, and no more.
    pub(crate) fn of_a_plain_server(store: &'static str) -> Self {
        Capabilities {
            store,
            shared: false,
            promote: false,
            permits: false,
            ttl: true,
            frees_on_death: false,
            fence: Fence::None,
            wakes: false,
            fair: false,
            export: false,
            list: false,
            break_lock: false,
            survives_restart: true,
            clock: "server",
            scope: Scope::Cluster,
        }
    }
}
