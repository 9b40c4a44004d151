//! `sysv:` beside those who call PHP's `sem_get`.

use crate::pair::{Pair, php};
use std::process::Command;
use std::sync::Arc;
use synlock_tests::names::unique;

/// Removes the set of a key, which outlives its users.
struct Swept(i32);

impl Drop for Swept {
    fn drop(&mut self) {
        let key = format!("0x{:08x}", self.0);
        let _ = Command::new("ipcrm").args(["-S", &key]).output();
    }
}

/// PHP's own semaphores, and Symfony's store over them.
pub(crate) fn pairs() -> Vec<Pair> {
    // A number that no other run has.
    let key = std::process::id() as i32 | 0x5300_0000;
    let name = unique("import é/1");
    vec![
        Pair {
            name: "sysv-php+sem_get",
            url: "sysv:?dialect=php".to_owned(),
            lock: key.to_string(),
            peer: php("sem.php", &[&key.to_string()]),
            frees_on_death: true,
            _keep: Arc::new(Swept(key)),
        },
        Pair {
            name: "sysv-symfony+SemaphoreStore",
            // Debian's release.
            url: "semaphore:?dialect=symfony&keys=md5".to_owned(),
            lock: name.clone(),
            peer: php("symfony.php", &["semaphore", &name]),
            frees_on_death: true,
            _keep: Arc::new(()),
        },
    ]
}
