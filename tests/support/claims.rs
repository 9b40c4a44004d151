//! Claims, for tests that speak to a backend itself.

use std::time::Duration;
use synlock_core::store::{Attempt, Claim, Seat};
use synlock_core::{Name, OwnerToken, Store};

/// A claim on a lock, for a minute.
pub fn claim(name: &str) -> Claim {
    let name = Name::new(name.as_bytes()).unwrap();
    let token = OwnerToken::draw().unwrap();
    Claim {
        seat: Seat::new(),
        ..Claim::exclusive(name, token, Duration::from_secs(60))
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
