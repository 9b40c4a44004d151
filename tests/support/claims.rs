//! Claims, for tests that speak to a backend itself.

use std::time::Duration;
use synlock_core::store::{Attempt, Claim, Seat};
use synlock_core::{BootTime, Mode, Name, OwnerToken, Store};

/// Claims that hold locks of these names, for a minute.
pub fn held_claims(store: &Store, names: &[String]) -> Vec<Claim> {
    let claim = |name: &String| Claim {
        name: Name::new(name.as_bytes()).unwrap(),
        token: OwnerToken::draw().unwrap(),
        mode: Mode::Exclusive,
        ttl: Some(Duration::from_secs(60)),
        deadline: None,
        fence_block: 1,
        label: None,
        fair: true,
        asked: BootTime::now(),
        seat: Seat::new(),
    };
    let claims: Vec<_> = names.iter().map(claim).collect();
    for claim in &claims {
        let answer = store.backend().attempt(claim, None).unwrap();
        assert!(matches!(answer, Attempt::Granted(_)));
    }
    claims
}
