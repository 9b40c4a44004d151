use super::*;

/// Holds one lock; its first release is not answered.
#[derive(Default)]
struct Forgetful {
    is_held: Mutex<bool>,
    releases: Mutex<u32>,
}

impl Callbacks for Forgetful {
    fn call(&self, verb: Verb, _: &Ask<'_>) -> Result<Reply> {
        let mut is_held = self.is_held.lock();
        match verb {
            Verb::Attempt => *is_held = true,
            Verb::Release => {
                let mut releases = self.releases.lock();
                *releases += 1;
                if *releases == 1 {
                    return Err(Error::new(Code::Uncertain, "no answer"));
                }
                if !std::mem::replace(&mut *is_held, false) {
                    return Ok(Reply::of(Code::Lost));
                }
            }
            _ => {}
        }
        Ok(Reply::of(Code::Ok))
    }
}

#[test]
fn a_release_that_is_repeated_is_no_loss() {
    let can = Traits {
        shared: false,
        permits: false,
        ttl: false,
        frees_on_death: true,
        change_mode: false,
        inspect: false,
        list: false,
        break_lock: false,
        ping: false,
        survives_restart: false,
        fence: Fence::None,
        scope: Scope::Host,
    };
    let store = open("forgetful", can, Box::new(Forgetful::default())).unwrap();
    let token = OwnerToken::from_bytes([7; 16]);
    let claim = Claim::exclusive(Name::new("x").unwrap(), token, Duration::from_secs(60));
    store.attempt(&claim, None).unwrap();
    assert_eq!(store.release(&claim).unwrap_err().code(), Code::Uncertain);
    // As the lock does.
    assert!(store.release_later(&claim));
    assert_eq!(store.release(&claim).unwrap(), Answer::Done(None));
    // And nothing is left to repeat.
    assert_eq!(store.release(&claim).unwrap(), Answer::NotOurs);
}
