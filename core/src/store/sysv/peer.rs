//! The sets that PHP's `sem_get` makes: three semaphores, of which the second counts their users.
//!
//! Whoever holds or waits stays counted: a newcomer that finds itself alone sets the first anew.

use super::config::{Config, Dialect};
use super::kernel::{self, Done, Op};
use super::keys::{check_key, php_key, symfony_key};
use super::native::vanishing;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::{Error, Result};
use std::time::Duration;

const SEMAPHORES: usize = 3;
/// 1 if the lock is free.
pub(super) const FREE: u16 = 0;
/// How many have the set open.
pub(super) const USERS: u16 = 1;
/// Keeps newcomers from coming in together.
const ENTRANCE: u16 = 2;
/// Raised by this much, the users' count makes waits of synlock's own fail: see `waits.rs`.
pub(super) const KICK: i16 = 1 << 14;
/// How long to wait for whoever opens the set.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a set may be removed between two looks: Symfony does so at each release.
const MOST_TRIES: u32 = 10_000;

pub(super) fn key(config: &Config, name: &Name) -> Result<i32> {
    let key = match config.dialect {
        Dialect::Symfony(generation) => symfony_key(generation, name.as_bytes()),
        Dialect::Php | Dialect::Native => php_key(name.as_bytes())?,
    };
    check_key(key)
}

/// Opens the set as PHP does, and counts this claim among its users.
pub(super) fn enter(config: &Config, key: i32) -> Result<i32> {
    for _ in 0..MOST_TRIES {
        let Some(id) = kernel::make(key, SEMAPHORES, config.mode, true)? else {
            continue;
        };
        if come_in(id)? {
            return Ok(id);
        }
    }
    Err(vanishing())
}

/// False if the set was removed meanwhile.
fn come_in(id: i32) -> Result<bool> {
    let come = [
        Op::lasting(ENTRANCE, 0),
        Op::mine(ENTRANCE, 1),
        Op::mine(USERS, 1),
    ];
    let until = BootTime::now().after(PATIENCE);
    loop {
        match kernel::wait(id, &come, until)? {
            Done::Yes => break,
            Done::Gone => return Ok(false),
            Done::Overflow => {
                return Err(Error::new(Code::Storage, "the set's users are miscounted"));
            }
            Done::Busy if until.has_passed() => {
                return Err(Error::new(
                    Code::Unavailable,
                    "a process is stopped while it opens the semaphore set",
                ));
            }
            Done::Busy | Done::Interrupted => {}
        }
    }
    let Some(users) = kernel::value(id, USERS)? else {
        return Ok(false);
    };
    if users == 1 && kernel::set(id, FREE, 1)?.is_none() {
        return Ok(false);
    }
    Ok(!matches!(
        kernel::operate(id, &[Op::mine(ENTRANCE, -1)])?,
        Done::Gone
    ))
}

/// Counts this claim among the users no more.
pub(super) fn leave(id: i32) {
    // If the set is gone, nobody counts.
    let _ = kernel::operate(id, &[Op::mine(USERS, -1)]);
}
