//! Options of a `quorum:` URL, and what members must have in common.

use super::brand;
use super::members::Process;
use super::rules::Need;
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::owner::Brand;
use crate::store::Backend;
use crate::store::cautions::Looked;
use crate::url::Url;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long a member must have been up to vote, unless `max_ttl=` says otherwise; no lease may be longer.
const MAX_TTL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Quorum {
    /// In an order that does not depend on how the URL puts them.
    pub members: Vec<Arc<dyn Backend>>,
    /// How many it takes.
    pub rule: Need,
    pub unanimous: bool,
    pub max_ttl: Duration,
    pub cold_start: bool,
    pub fencing: bool,
    pub can: Capabilities,
    pub url: String,
    /// What stands for the members where hosts spell them in different ways.
    pub name: Option<String>,
    pub brand: Brand,
    /// The same for people.
    pub set_up: Arc<str>,
    /// Whether members are far enough away to be asked side by side.
    pub remote: bool,
    pub process: PerProcess<Arc<Process>>,
    pub looked: Looked,
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(Code::InvalidUrl, words)
}

/// Opens a `quorum:` URL over its members; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`, `Unsupported`.
pub fn open(url: &mut Url, mut members: Vec<Arc<dyn Backend>>) -> Result<Arc<dyn Backend>> {
    if !url.host.is_empty() || !url.path.is_empty() {
        return Err(bad(
            "a quorum is written quorum:?member=URL&member=URL… or quorum:(URL,URL,…)",
        ));
    }
    if members.len() < 2 {
        return Err(bad("a quorum wants several members: each is a `member=`"));
    }
    let unanimous = match url.take("strategy").as_deref() {
        None | Some("majority" | "consensus") => false,
        Some("unanimous") => true,
        Some(_) => {
            return Err(Error::invalid(
                "the option `strategy` is one of majority, unanimous",
            ));
        }
    };
    if members.iter().any(|member| member.is_caller_thread_only()) {
        return Err(Error::unsupported(
            "members of a quorum are asked on threads of its own, which this store does not allow",
        ));
    }
    if let Some(member) = members.iter().find(|member| member.leaves_releases()) {
        return Err(bad(format!(
            "`release=async` is of a store by itself: a quorum counts its members' answers ({})",
            member.url()
        )));
    }
    members.sort_by_key(|member| member.fingerprint());
    for pair in members.windows(2) {
        if pair[0].fingerprint() == pair[1].fingerprint() {
            return Err(bad(format!(
                "two members of the quorum are one: {}",
                pair[0].url()
            )));
        }
    }
    let fencing = url.take_bool("fencing")?.unwrap_or(false);
    let can = common(&members, fencing)?;
    let is_remote = |can: Capabilities| can.clock == "server" || can.scope == Scope::Cluster;
    let remote = members.iter().any(|one| is_remote(one.capabilities()));
    let of = members.len();
    let rule = if unanimous {
        Need { need: of, of }
    } else {
        Need::majority(of)
    };
    let shown: Vec<&str> = members.iter().map(|member| member.url()).collect();
    let mut quorum = Quorum {
        url: format!("quorum:({})", shown.join(",")),
        rule,
        unanimous,
        max_ttl: url.take_millis("max_ttl")?.unwrap_or(MAX_TTL),
        cold_start: url.take_bool("cold_start")?.unwrap_or(false),
        fencing,
        remote,
        can,
        members,
        name: url.take("config"),
        brand: Brand::default(),
        set_up: Arc::default(),
        process: PerProcess::new(),
        looked: Looked::default(),
    };
    if quorum.name.as_deref() == Some("") {
        return Err(Error::invalid("the option `config` is a name"));
    }
    quorum.brand = brand::of(&quorum.set_up());
    quorum.set_up = quorum.in_words().into();
    Ok(Arc::new(quorum))
}

impl Quorum {
    /// Words about how many members there are.
    pub fn too_few(&self) -> Option<String> {
        (self.members.len() < 3 && !self.unanimous).then(|| {
            "a quorum of two grants nothing while either is down, where one server alone would stand still half as often: make it of three or more".to_owned()
        })
    }
}

/// What all members can.
fn common(members: &[Arc<dyn Backend>], fencing: bool) -> Result<Capabilities> {
    let all: Vec<Capabilities> = members.iter().map(|member| member.capabilities()).collect();
    let every = |can: fn(&Capabilities) -> bool| all.iter().all(can);
    let (ttl, frees_on_death) = (every(|can| can.ttl), every(|can| can.frees_on_death));
    if !ttl && !frees_on_death {
        return Err(bad(
            "the members of a quorum must all keep leases, or all see their owner die",
        ));
    }
    let rank = |fence| match fence {
        Fence::None => 0,
        Fence::Ephemeral => 1,
        Fence::Hybrid => 2,
        Fence::Durable => 3,
    };
    let fence = all
        .iter()
        .map(|can| can.fence)
        .min_by_key(|fence| rank(*fence))
        .unwrap_or(Fence::None);
    if fencing && fence == Fence::None {
        return Err(Error::unsupported(
            "fencing: not every member of the quorum has fencing tokens",
        ));
    }
    // Members that are behind are brought to the highest token.
    if fencing && let Some(member) = members.iter().find(|member| !member.reserves_fences()) {
        return Err(Error::unsupported(format!(
            "fencing: tokens of this member of the quorum cannot be reserved ({})",
            member.url()
        )));
    }
    let reach = |scope| match scope {
        Scope::Process => 0,
        Scope::Host => 1,
        Scope::Cluster => 2,
    };
    let first = all.first().map_or("none", |can| can.clock);
    Ok(Capabilities {
        store: "quorum",
        shared: every(|can| can.shared),
        promote: false,
        permits: false,
        ttl,
        frees_on_death,
        fence: if fencing { fence } else { Fence::None },
        wakes: every(|can| can.wakes),
        fair: false,
        export: every(|can| can.export),
        list: false,
        break_lock: every(|can| can.break_lock),
        survives_restart: every(|can| can.survives_restart),
        clock: if all.iter().any(|can| can.clock == "server") {
            "server"
        } else {
            first
        },
        scope: all
            .iter()
            .map(|can| can.scope)
            .min_by_key(|scope| reach(*scope))
            .unwrap_or(Scope::Process),
    })
}
