//! Options of locks that a URL may carry as defaults.

use crate::lease::Wait;
use crate::options::{LockOptions, Reentry, check_ttl};
use crate::require::Require;
use crate::url::Url;
use crate::{Error, Result};
use std::time::Duration;

/// Takes them out of the URL.
pub(super) fn take(url: &mut Url) -> Result<LockOptions> {
    let mut options = LockOptions::default();
    if let Some(ttl) = url.take_millis("ttl")? {
        check_ttl(ttl)?;
        options.ttl = Some(ttl);
    }
    options.renew = url.take_bool("renew")?;
    options.timeout = match url.take_int("timeout")? {
        Some(..-1) => {
            return Err(Error::invalid(
                "the option `timeout` is ms, 0 to try once, or -1 to wait for ever",
            ));
        }
        timeout => timeout.map(Wait::from_millis),
    };
    options.auto_release = url.take_bool("auto_release")?.unwrap_or(true);
    options.fair = url.take_bool("fair")?.unwrap_or(true);
    options.strict = url.take_bool("strict")?.unwrap_or(false);
    options.reentry = match url.take("reentry").as_deref() {
        None | Some("independent") => Reentry::Independent,
        Some("error") => Reentry::Error,
        Some("extend") => Reentry::Extend,
        Some(_) => {
            return Err(Error::invalid(
                "the option `reentry` is one of independent, error, extend",
            ));
        }
    };
    options.label = url.take("label").map(Into::into);
    options.lock_delay = match url.take_int("lock_delay")? {
        None => Duration::ZERO,
        Some(ms) => u64::try_from(ms)
            .map(Duration::from_millis)
            .map_err(|_| Error::invalid("the option `lock_delay` is negative"))?,
    };
    options.cautions = url.take_bool("cautions")?.unwrap_or(true);
    if let Some(words) = url.take("require") {
        options.require = Require::read(&words)?;
    }
    options.check()?;
    Ok(options)
}
