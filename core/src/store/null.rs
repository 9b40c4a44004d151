//! `null:`, and `demo=1` on any store: nothing is written, and whoever asks is granted. Names, times and
//! options are checked, and events told, as the store would.

use crate::capability::{Capabilities, Fence, Scope};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Cancelled, Claim, Grant, Inspection, Page};
use crate::url::Url;
use crate::{Code, Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a store without a store can do: refuse nothing.
const EVERYTHING: Capabilities = Capabilities {
    store: "null",
    shared: true,
    promote: true,
    permits: true,
    ttl: true,
    frees_on_death: true,
    fence: Fence::None,
    wakes: false,
    fair: false,
    export: true,
    list: true,
    break_lock: true,
    survives_restart: true,
    clock: "none",
    scope: Scope::Process,
};

#[derive(Debug)]
struct Null {
    can: Capabilities,
    url: String,
    /// Asked what it would refuse, and nothing else: it is never connected to.
    model: Option<Arc<dyn Backend>>,
    fences: AtomicU64,
}

/// Opens `null:`.
///
/// # Errors
/// `InvalidUrl` if it names anything.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    if !url.host.is_empty() || !url.path.is_empty() {
        return Err(Error::new(
            Code::InvalidUrl,
            "`null:` has no host and no path",
        ));
    }
    Ok(Arc::new(Null {
        can: EVERYTHING,
        url: "null:".into(),
        model: None,
        fences: AtomicU64::new(0),
    }))
}

/// Stands in for `model`, which is left alone.
pub(crate) fn demo(model: Arc<dyn Backend>) -> Arc<dyn Backend> {
    Arc::new(Null {
        can: model.capabilities(),
        url: format!("{} (demo)", model.url()),
        model: Some(model),
        fences: AtomicU64::new(0),
    })
}

impl Null {
    fn grant(&self, ttl: Option<Duration>, block: u32) -> Grant {
        let fence = (self.can.fence != Fence::None).then(|| {
            self.fences
                .fetch_add(block.max(1).into(), Ordering::Relaxed)
                + 1
        });
        Grant {
            lease: ttl.map(|ttl| BootTime::now().after(ttl)),
            fence,
            recovered: false,
        }
    }
}

impl Backend for Null {
    fn capabilities(&self) -> Capabilities {
        self.can
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        self.model
            .as_ref()
            .map_or(Ok(()), |model| model.check_ttl(ttl))
    }

    fn check_name(&self, name: &Name) -> Result<()> {
        self.model
            .as_ref()
            .map_or(Ok(()), |model| model.check_name(name))
    }

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        Ok(())
    }

    fn attempt(&self, claim: &Claim, _bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        Ok(Attempt::Granted(self.grant(claim.ttl, claim.fence_block)))
    }

    fn cancel(&self, _claim: &Claim) -> Result<Cancelled> {
        Ok(Cancelled::Gone)
    }

    fn extend(&self, _claim: &Claim, ttl: Duration) -> Result<Answer> {
        Ok(Answer::Done(Some(BootTime::now().after(ttl))))
    }

    fn release(&self, _claim: &Claim) -> Result<Answer> {
        Ok(Answer::Done(None))
    }

    fn change_mode(&self, claim: &Claim, _to: Mode) -> Result<Attempt> {
        Ok(Attempt::Granted(Grant {
            fence: None,
            ..self.grant(claim.ttl, 1)
        }))
    }

    fn is_held(&self, _claim: &Claim) -> Result<bool> {
        Ok(true)
    }

    fn wait_free(&self, _name: &Name, _until: BootTime) -> Result<bool> {
        Ok(true)
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        Ok(Inspection {
            name: name.as_bytes().to_vec(),
            ..Inspection::default()
        })
    }

    fn list(
        &self,
        _prefix: &[u8],
        _cursor: Option<&str>,
        _limit: usize,
        _deadline: Option<BootTime>,
    ) -> Result<Page> {
        Ok(Page::default())
    }

    fn break_lock(&self, _name: &Name, _deadline: Option<BootTime>) -> Result<bool> {
        Ok(false)
    }

    fn adopt(&self, claim: &Claim, _heir: OwnerToken) -> Result<Option<Grant>> {
        Ok(Some(self.grant(claim.ttl, 1)))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(any(feature = "flock", feature = "memcached"))]
    use crate::LockOptions;
    use crate::{Store, Wait};
    #[cfg(any(feature = "flock", feature = "memcached"))]
    use std::time::Duration;

    #[test]
    fn everybody_is_granted_and_nothing_is_refused() {
        let store = Store::open("null:").unwrap();
        let (a, b) = (store.lock("n").unwrap(), store.lock("n").unwrap());
        a.acquire(Wait::No, None).unwrap();
        b.acquire(Wait::No, None).unwrap();
        a.ensure_held().unwrap();
        assert!(!store.is_locked("n").unwrap());
        a.release().unwrap();
        b.promote(Wait::No).unwrap();
        assert!(Store::open("null:x").is_err() && Store::open("null:?x=1").is_err());
    }

    #[cfg(feature = "flock")]
    #[test]
    fn a_demo_checks_as_the_store_and_writes_nothing() {
        let folder = std::env::temp_dir().join(format!("synlock-demo-{}", std::process::id()));
        let url = format!("flock:{}?demo=1", folder.display());
        let store = Store::open(&url).unwrap();
        let told = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let heard = told.clone();
        store.observe(std::sync::Arc::new(move |_| {
            heard.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }));
        let (a, b) = (store.lock("n").unwrap(), store.lock("n").unwrap());
        a.acquire(Wait::No, None).unwrap();
        b.acquire(Wait::No, None).unwrap();
        a.release().unwrap();
        assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 3);
        assert!(!folder.exists());
        // What flock refuses is refused.
        let leased = LockOptions {
            ttl: Some(Duration::from_secs(9)),
            ..LockOptions::default()
        };
        assert_eq!(
            store.lock_with("n", leased).unwrap_err().code(),
            crate::Code::Unsupported
        );
        assert!(Store::open(&format!("{url}&modus=1")).is_err());
        assert!(store.fingerprint().contains("demo"));
    }

    #[cfg(feature = "memcached")]
    #[test]
    fn a_demo_checks_names_and_times_of_a_server_that_is_not_there() {
        let store = Store::open("memcached://127.0.0.1:1?demo=1&dialect=symfony").unwrap();
        store.lock("n").unwrap().acquire(Wait::No, None).unwrap();
        let code = |error: crate::Error| error.code();
        assert_eq!(
            store.lock("two words").map_err(code).err(),
            Some(crate::Code::InvalidArgument)
        );
        let options = LockOptions {
            ttl: Some(Duration::from_millis(10)),
            ..LockOptions::default()
        };
        assert_eq!(
            store.lock_with("n", options).map_err(code).err(),
            Some(crate::Code::InvalidArgument)
        );
    }
}
