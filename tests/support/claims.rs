//! Claims, for tests that speak to a backend itself.

use std::time::Duration;
use synlock_core::store::{Attempt, Claim, Seat};
use synlock_core::{BootTime, Mode, Name, OwnerToken, Store};

/// A claim on a lock, for a minute.
pub fn claim(name: &str) -> Claim {
    Claim {
        name: Name::new(name.as_bytes()).unwrap(),
        token: OwnerToken::draw().unwrap(),
        recurs: false,
        mode: Mode::Exclusive,
        ttl: Some(Duration::from_secs(60)),
        deadline: None,
        fence_block: 1,
        fence_least: 0,
        label: None,
        fair: true,
        asked: BootTime::now(),
        seat: Seat::new(),
    }
}

/// Claims that hold locks of these names.
pub fn held_claims(store: &Store, names: &[String]) -> Vec<Claim> {
    let claims: Vec<_> = names.iter().map(|name| claim(name)).collect();
    for claim in &claims {
        let answer = store.backend().attempt(claim, None).unwrap();
        assert!(matches!(answer, Attempt::Granted(_)));
    }
    claims
}
