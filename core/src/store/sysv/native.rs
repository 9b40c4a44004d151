//! Native sets: found and made under a guard, so that a name has one set at a time.

use super::config::Config;
use super::kernel::{self, Done, MAX, Op, State};
use super::keys::{KEYS, guard_key, native_key, space_words};
use super::layout::{self, FREE, Whose, Words};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::{Error, Result};
use std::time::Duration;

/// The guard is a set of an unusual size, so that another program's is not taken for it. In a new one all
/// is 0, so it can be used at once.
const GUARD_SEMAPHORES: usize = 5;
/// How long to wait for whoever makes or removes a set.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a set may be removed between two looks before that is called trouble.
const MOST_TRIES: u32 = 100;
/// A counter that is carried over grows by this: grants may have been under way.
const LEAP: u64 = 64;

pub(super) fn vanishing() -> Error {
    Error::new(
        Code::Unavailable,
        "the semaphore set is removed as fast as it is made",
    )
}

/// The set of a name: its number, and how many semaphores it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Set {
    pub(super) id: i32,
    pub(super) semaphores: usize,
}

impl Set {
    /// All its values; `None` if it is gone.
    pub(super) fn values<T>(&self, read: impl FnOnce(&[u16]) -> T) -> Result<Option<T>> {
        kernel::values(self.id, self.semaphores, read)
    }
}

/// Held while sets are made and removed; the kernel lets go if its holder dies.
struct Guard(i32);

impl Guard {
    fn take(config: &Config) -> Result<Self> {
        let until = BootTime::now().after(PATIENCE);
        let key = guard_key(&config.space);
        for _ in 0..MOST_TRIES {
            let Some(id) = kernel::make(key, GUARD_SEMAPHORES, config.mode, true)? else {
                continue;
            };
            if let Some(state) = kernel::state(id)? {
                trust(config, &state)?;
                give_to_group(config, id, &state)?;
            }
            let take = [Op::lasting(0, 0), Op::mine(0, 1)];
            loop {
                match kernel::wait(id, &take, until)? {
                    Done::Yes => return Ok(Guard(id)),
                    Done::Gone => break,
                    Done::Busy if until.has_passed() => {
                        return Err(Error::new(
                            Code::Unavailable,
                            "a process is stopped while it makes or removes a semaphore set",
                        ));
                    }
                    Done::Overflow => {
                        return Err(Error::new(Code::Storage, "the guard's set is damaged"));
                    }
                    Done::Busy | Done::Interrupted => {}
                }
            }
        }
        Err(vanishing())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // If it is gone, so is what it guarded.
        let _ = kernel::operate(self.0, &[Op::mine(0, -1)]);
    }
}

/// A set that somebody else may have planted is not used.
fn trust(config: &Config, state: &State) -> Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    if [me, 0].contains(&state.uid) || config.group == Some(state.gid) {
        return Ok(());
    }
    Err(Error::new(
        Code::Permission,
        format!(
            "the semaphore set belongs to user {}, who may have planted it",
            state.uid
        ),
    ))
}

fn give_to_group(config: &Config, id: i32, state: &State) -> Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    match config.group {
        Some(group) if state.gid != group && state.uid == me => {
            kernel::give_to_group(id, group, config.mode)
        }
        _ => Ok(()),
    }
}

fn words(config: &Config, name: &[u8]) -> Words {
    Words::of(space_words(&config.space), name)
}

/// Where a name's set is, or could be.
enum Place {
    Found(Set),
    /// Made, but not filled in: its maker died, or is about to.
    Unfinished(i32),
    Free(i32),
}

fn look(config: &Config, name: &[u8], words: &Words) -> Result<Place> {
    let semaphores = words.semaphores();
    let mut free = None;
    let mut unfinished = None;
    for place in 0..KEYS {
        let key = native_key(&config.space, name, place);
        let Some(id) = kernel::find(key)? else {
            free = free.or(Some(key));
            continue;
        };
        let Some(state) = kernel::state(id)? else {
            continue;
        };
        if state.semaphores != semaphores {
            continue;
        }
        let set = Set { id, semaphores };
        match set.values(|values| words.are_in(values))?.transpose()? {
            Some(Whose::Ours) => {
                trust(config, &state)?;
                return Ok(Place::Found(set));
            }
            Some(Whose::Nobodys) if !state.is_used => {
                trust(config, &state)?;
                unfinished = unfinished.or(Some(id));
            }
            _ => {}
        }
    }
    match (unfinished, free) {
        (Some(id), _) => Ok(Place::Unfinished(id)),
        (None, Some(key)) => Ok(Place::Free(key)),
        (None, None) => Err(Error::new(
            Code::Exhausted,
            "other semaphore sets have all keys that the name may have",
        )),
    }
}

/// The set of a name, if there is one.
pub(super) fn find(config: &Config, name: &[u8]) -> Result<Option<Set>> {
    match look(config, name, &words(config, name))? {
        Place::Found(set) => Ok(Some(set)),
        Place::Unfinished(_) | Place::Free(_) => Ok(None),
    }
}

/// The set of a name, made if there is none.
pub(super) fn open(config: &Config, name: &[u8]) -> Result<Set> {
    let words = words(config, name);
    if let Place::Found(set) = look(config, name, &words)? {
        return Ok(set);
    }
    let guard = Guard::take(config)?;
    make(config, name, &words, layout::first_fence(), &guard)
}

fn make(config: &Config, name: &[u8], words: &Words, fence: u64, guard: &Guard) -> Result<Set> {
    for _ in 0..MOST_TRIES {
        let id = match look(config, name, words)? {
            Place::Found(set) => return Ok(set),
            Place::Unfinished(id) => id,
            Place::Free(key) => match make_at(config, key, words, guard)? {
                Some(id) => id,
                None => continue,
            },
        };
        if let Some(state) = kernel::state(id)? {
            give_to_group(config, id, &state)?;
            if kernel::set_all(id, &words.fresh(fence))?.is_some() {
                return Ok(Set {
                    id,
                    semaphores: words.semaphores(),
                });
            }
        }
    }
    Err(vanishing())
}

/// Makes an empty set; when the kernel has no room, idle sets of the space are given up first.
fn make_at(config: &Config, key: i32, words: &Words, guard: &Guard) -> Result<Option<i32>> {
    let semaphores = words.semaphores();
    match kernel::make(key, semaphores, config.mode, false) {
        Err(error) if error.code() == Code::Exhausted => {
            if reclaim(config, guard)? == 0 {
                return Err(error);
            }
            kernel::make(key, semaphores, config.mode, false)
        }
        made => made,
    }
}

/// Calls `visit` with each set of the space and the name in it, beginning at a place of the kernel's table;
/// ends when it says no more. Names that were cut are cut here too.
pub(super) fn each(
    config: &Config,
    from: i32,
    mut visit: impl FnMut(i32, Set, Vec<u8>) -> Result<bool>,
) -> Result<()> {
    let space = space_words(&config.space);
    for place in from..=kernel::last_place()? {
        let Some((id, state)) = kernel::state_at(place) else {
            continue;
        };
        let set = Set {
            id,
            semaphores: state.semaphores,
        };
        // What cannot be read is not ours.
        let Ok(Some(Some(name))) = set.values(|values| layout::name_in(space, values)) else {
            continue;
        };
        if !visit(place, set, name)? {
            break;
        }
    }
    Ok(())
}

/// Removes the sets of locks that nobody holds or waits for; how many.
fn reclaim(config: &Config, _guard: &Guard) -> Result<u64> {
    if cfg!(canary = "keep_idle") {
        return Ok(0);
    }
    let mut removed = 0;
    each(config, 0, |_, set, _| {
        let idle = matches!(kernel::waiters(set.id, FREE), Ok(Some(0)));
        // Whoever has all of it keeps everybody else out until it is gone.
        if idle
            && matches!(
                kernel::operate(set.id, &[Op::mine(FREE, -MAX)]),
                Ok(Done::Yes)
            )
        {
            match kernel::remove(set.id) {
                Ok(_) => removed += 1,
                Err(_) => {
                    let _ = kernel::operate(set.id, &[Op::mine(FREE, MAX)]);
                }
            }
        }
        Ok(true)
    })?;
    Ok(removed)
}

/// As `reclaim`, for whoever looks after the locks.
pub(super) fn clean(config: &Config) -> Result<u64> {
    let guard = Guard::take(config)?;
    reclaim(config, &guard)
}

/// Writes a label and a counter into a set that nobody holds, made if there is none.
pub(super) fn note(config: &Config, name: &[u8], fence: u64, label: &str) -> Result<()> {
    let mut values = words(config, name).fresh(fence);
    for (place, word) in layout::label_words(label) {
        values[usize::from(place)] = word.unsigned_abs();
    }
    let set = open(config, name)?;
    kernel::set_all(set.id, &values).map(drop)
}

/// Puts a new set in the place of one that somebody holds; false if nobody does. Those who wait are woken
/// and find the new one.
pub(super) fn replace(config: &Config, name: &[u8]) -> Result<bool> {
    let words = words(config, name);
    let guard = Guard::take(config)?;
    let Place::Found(set) = look(config, name, &words)? else {
        return Ok(false);
    };
    let seen = set.values(|values| (values[usize::from(FREE)], layout::fence_in(values)))?;
    let Some((free, fence)) = seen else {
        return Ok(false);
    };
    if free == MAX as u16 {
        return Ok(false);
    }
    kernel::remove(set.id)?;
    let fence = layout::first_fence().max(fence + LEAP);
    make(config, name, &words, fence, &guard).map(|_| true)
}
