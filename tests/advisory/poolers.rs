//! PgBouncer in between: whole sessions work, anything less is refused, and never are there two holders.

use crate::{code, open_within};
use synlock_core::{Code, Wait};
use synlock_tests::services::pgbouncer::PgBouncer;
use synlock_tests::services::postgres::PostgresServer;

/// How often: the bar asks for 500.
fn rounds() -> u32 {
    match std::env::var("SYNLOCK_LOAD").as_deref() {
        Ok("full") => 500,
        _ => 10,
    }
}

#[test]
fn a_pooler_never_makes_two_holders() {
    let server = PostgresServer::start();
    for mode in ["session", "transaction", "statement"] {
        for size in [1, 2, 3] {
            let pooler = PgBouncer::start(&server, mode, size);
            let url = format!("postgres+advisory://{}", pooler.place());
            let (mut grants, mut refusals) = (0, 0);
            for round in 0..rounds() {
                // Whole sessions stay with those who have them; the others leave none behind.
                let number = if mode == "session" { 0 } else { 2 * round };
                // There a session may be waited for in vain; elsewhere it is the machine's fault.
                let patience = if mode == "session" { 2_000 } else { 20_000 };
                let open = |number| open_within(&url, patience + number);
                let (here, there) = (open(number), open(number + 1));
                let name = format!("{mode}{size}{round}");
                let locks = [here.lock(&name).unwrap(), there.lock(&name).unwrap()];
                let mut holders = 0;
                for lock in &locks {
                    match code(lock.acquire(Wait::No, None)) {
                        Code::Ok => holders += 1,
                        Code::Unsupported => refusals += 1,
                        Code::Busy => {}
                        // All sessions of the pool are somebody's.
                        Code::Unavailable | Code::Uncertain if mode == "session" => {}
                        other => panic!("{mode} {size}: {other:?}"),
                    }
                }
                assert!(holders < 2, "{mode} {size}: two holders");
                grants += holders;
                for lock in &locks {
                    let _ = lock.release();
                }
                if mode == "session" && size == 1 && grants > 0 {
                    // Each round waits in vain for a session.
                    break;
                }
            }
            if mode == "session" {
                assert!(grants > 0, "{mode} {size} does not work");
            } else {
                assert_eq!(grants, 0, "{mode} {size}");
                assert!(refusals > 0, "{mode} {size} is not refused");
            }
        }
    }
}
