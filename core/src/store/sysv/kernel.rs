//! System V semaphores as the kernel has them: the one place here that makes system calls.

use crate::codes::Code;
use crate::lease::BootTime;
use crate::{Error, Result};
use std::cell::RefCell;
use std::io;
use std::time::Duration;

/// The most that a semaphore counts to.
pub(super) const MAX: i16 = i16::MAX;
/// How many operations one call here has at most: less than the 500 that kernels allow.
pub(super) const MOST_OPS: usize = 64;
/// As many as a set can have unless somebody raised the kernel's limit beyond reason.
const MOST_SEMAPHORES: usize = 65_536;
/// The kernel's clock for timeouts stops while the machine sleeps, so no wait is longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

unsafe extern "C" {
    // Not in the libc crate.
    fn semtimedop(
        semid: libc::c_int,
        ops: *mut libc::sembuf,
        count: libc::size_t,
        timeout: *const libc::timespec,
    ) -> libc::c_int;
}

/// The kernel's `semid64_ds`; the libc crate's is shorter than what the kernel writes.
#[repr(C)]
struct RawState {
    perm: libc::ipc_perm,
    otime: i64,
    #[cfg(target_arch = "x86_64")]
    reserved1: u64,
    ctime: i64,
    #[cfg(target_arch = "x86_64")]
    reserved2: u64,
    nsems: u64,
    reserved: [u64; 2],
}

/// What the kernel says of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) key: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) semaphores: usize,
    /// Whether any operation was ever done on it.
    pub(super) is_used: bool,
}

/// One step of an operation, which is done as a whole or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Op {
    pub(super) semaphore: u16,
    /// Added; 0 waits until the semaphore is 0.
    pub(super) add: i16,
    /// Taken back by the kernel when this process ends.
    pub(super) undone: bool,
}

impl Op {
    /// Undone when this process ends.
    pub(super) fn mine(semaphore: u16, add: i16) -> Self {
        Op {
            semaphore,
            add,
            undone: !cfg!(canary = "no_undo"),
        }
    }

    /// Stays.
    pub(super) fn lasting(semaphore: u16, add: i16) -> Self {
        Op {
            semaphore,
            add,
            undone: false,
        }
    }
}

/// What became of an operation.
#[derive(Debug)]
pub(super) enum Done {
    /// It was done.
    Yes,
    /// It would have to wait, or the time is over.
    Busy,
    /// A signal handler ran.
    Interrupted,
    /// A semaphore would count beyond [`MAX`].
    Overflow,
    /// The set is not there any more.
    Gone,
}

/// An operation's error in words.
pub(super) fn trouble(error: io::Error, what: &str) -> Error {
    let why = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "the semaphore set belongs to somebody else, or its mode does not let this process change it"
        }
        Some(libc::ENOSPC) => {
            "the kernel has no room for another semaphore set, or for what it has to undo; see /proc/sys/kernel/sem and `ipcs -ls`"
        }
        Some(libc::ENOMEM) => "the kernel has no memory for it",
        Some(libc::E2BIG) => {
            "it takes more operations at once than the third number in /proc/sys/kernel/sem"
        }
        _ => return Error::from_io(error, what),
    };
    Error::from_io(error, format!("{what}: {why}"))
}

fn run(id: i32, ops: &[Op], waits: Option<Duration>) -> Result<Done> {
    let mut raw = [libc::sembuf {
        sem_num: 0,
        sem_op: 0,
        sem_flg: 0,
    }; MOST_OPS];
    let raw = raw
        .get_mut(..ops.len())
        .ok_or_else(|| Error::new(Code::Internal, "too many operations at once"))?;
    for (raw, op) in raw.iter_mut().zip(ops) {
        raw.sem_num = op.semaphore;
        raw.sem_op = op.add;
        let mut flags = 0;
        if op.undone {
            flags |= libc::SEM_UNDO;
        }
        if waits.is_none() {
            flags |= libc::IPC_NOWAIT;
        }
        raw.sem_flg = flags as libc::c_short;
    }
    let time = waits.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `raw` has as many operations as said; `time` is null or valid during the call.
    let done = unsafe { semtimedop(id, raw.as_mut_ptr(), raw.len(), time) };
    if done == 0 {
        return Ok(Done::Yes);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Ok(Done::Busy),
        Some(libc::EINTR) => Ok(Done::Interrupted),
        Some(libc::ERANGE) => Ok(Done::Overflow),
        // EFBIG: another set, a smaller one, has its number by now.
        Some(libc::EIDRM | libc::EINVAL | libc::EFBIG) => Ok(Done::Gone),
        _ => Err(trouble(error, "the semaphore set cannot be changed")),
    }
}

/// Does the operations now, or says why not.
pub(super) fn operate(id: i32, ops: &[Op]) -> Result<Done> {
    loop {
        match run(id, ops, None)? {
            Done::Interrupted => {}
            done => return Ok(done),
        }
    }
}

/// Sleeps in the kernel until the operations can be done; not beyond `until`, and for a second at most.
pub(super) fn wait(id: i32, ops: &[Op], until: BootTime) -> Result<Done> {
    let longest = until.left().min(LONGEST_WAIT);
    // Canary of row 29: outside of the kernel's queue.
    if cfg!(canary = "no_wake") {
        std::thread::sleep(longest);
        return operate(id, ops);
    }
    run(id, ops, Some(longest))
}

fn outcome(value: i32, what: &str) -> Result<Option<i32>> {
    if value >= 0 {
        return Ok(Some(value));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EIDRM | libc::EINVAL | libc::EFBIG) => Ok(None),
        _ => Err(trouble(error, what)),
    }
}

/// The set of a key; `None` if there is none.
pub(super) fn find(key: i32) -> Result<Option<i32>> {
    // SAFETY: no pointers involved.
    let id = unsafe { libc::semget(key, 0, 0) };
    if id >= 0 {
        return Ok(Some(id));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(None),
        _ => Err(trouble(error, "the semaphore set cannot be opened")),
    }
}

/// Makes a set; with `shared` also opens one that is there. `Ok(None)`: somebody else has made one of
/// this key.
pub(super) fn make(key: i32, semaphores: usize, mode: u32, shared: bool) -> Result<Option<i32>> {
    let only_new = if shared { 0 } else { libc::IPC_EXCL };
    let flags = libc::IPC_CREAT | only_new | mode as libc::c_int;
    // SAFETY: no pointers involved.
    let id = unsafe { libc::semget(key, semaphores as libc::c_int, flags) };
    if id >= 0 {
        return Ok(Some(id));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EEXIST) => Ok(None),
        Some(libc::EINVAL) if shared => Err(Error::new(
            Code::Storage,
            format!("the semaphore set 0x{key:08x} of another program is in the way"),
        )),
        Some(libc::EINVAL) => Err(Error::from_io(
            io::Error::from_raw_os_error(libc::ENOSPC),
            format!(
                "a set of {semaphores} semaphores is more than the first number in /proc/sys/kernel/sem"
            ),
        )),
        _ => Err(trouble(error, "a semaphore set cannot be made")),
    }
}

/// The value of one semaphore.
pub(super) fn value(id: i32, semaphore: u16) -> Result<Option<i32>> {
    // SAFETY: no pointers involved.
    let value = unsafe { libc::semctl(id, i32::from(semaphore), libc::GETVAL) };
    outcome(value, "the semaphore set cannot be read")
}

/// Which process changed a semaphore last; 0 if this one cannot see it.
pub(super) fn last_process(id: i32, semaphore: u16) -> Result<Option<i32>> {
    // SAFETY: no pointers involved.
    let pid = unsafe { libc::semctl(id, i32::from(semaphore), libc::GETPID) };
    outcome(pid, "the semaphore set cannot be read")
}

/// How many sleep until a semaphore counts more.
pub(super) fn waiters(id: i32, semaphore: u16) -> Result<Option<i32>> {
    // SAFETY: no pointers involved.
    let count = unsafe { libc::semctl(id, i32::from(semaphore), libc::GETNCNT) };
    outcome(count, "the semaphore set cannot be read")
}

/// Sets one semaphore, and forgets what was to be undone to it.
pub(super) fn set(id: i32, semaphore: u16, value: i16) -> Result<Option<i32>> {
    // SAFETY: no pointers involved.
    let done = unsafe { libc::semctl(id, i32::from(semaphore), libc::SETVAL, i32::from(value)) };
    outcome(done, "the semaphore set cannot be changed")
}

/// Sets all semaphores at once; `values` must be as many as the set has.
pub(super) fn set_all(id: i32, values: &[u16]) -> Result<Option<i32>> {
    let Some(state) = state(id)? else {
        return Ok(None);
    };
    if state.semaphores != values.len() {
        return Err(Error::new(Code::Internal, "a set of another size"));
    }
    // SAFETY: the kernel reads one value for each semaphore of the set, whose size was just asked; we made
    // this set a moment ago, and its number is not given out again so soon.
    let done = unsafe { libc::semctl(id, 0, libc::SETALL, values.as_ptr()) };
    outcome(done, "the semaphore set cannot be changed")
}

thread_local! {
    /// Room for any set: the number of one that was removed may be another's by now, of any size.
    static ROOM: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

/// All values at one moment, of a set that should have this many.
pub(super) fn values<T>(
    id: i32,
    semaphores: usize,
    read: impl FnOnce(&[u16]) -> T,
) -> Result<Option<T>> {
    ROOM.with_borrow_mut(|room| {
        room.resize(MOST_SEMAPHORES, 0);
        // SAFETY: the kernel writes one value for each semaphore of the set, and there is room for as many
        // as sets have.
        let done = unsafe { libc::semctl(id, 0, libc::GETALL, room.as_mut_ptr()) };
        let done = outcome(done, "the semaphore set cannot be read")?;
        Ok(done.map(|_| read(&room[..semaphores.min(MOST_SEMAPHORES)])))
    })
}

fn raw_state(id: i32, command: i32) -> (i32, RawState) {
    let mut raw = std::mem::MaybeUninit::<RawState>::zeroed();
    // SAFETY: the kernel writes one structure of this kind.
    let done = unsafe { libc::semctl(id, 0, command, raw.as_mut_ptr()) };
    // SAFETY: all of it is initialised, and any bits are valid.
    (done, unsafe { raw.assume_init() })
}

fn read_state(raw: &RawState) -> State {
    State {
        key: raw.perm.__key,
        uid: raw.perm.uid,
        gid: raw.perm.gid,
        semaphores: raw.nsems as usize,
        is_used: raw.otime != 0,
    }
}

/// What the kernel says of a set.
pub(super) fn state(id: i32) -> Result<Option<State>> {
    let (done, raw) = raw_state(id, libc::IPC_STAT);
    let done = outcome(done, "the semaphore set cannot be looked at")?;
    Ok(done.map(|_| read_state(&raw)))
}

/// The set at a place of the kernel's table, if there is one that may be read.
pub(super) fn state_at(place: i32) -> Option<(i32, State)> {
    let (id, raw) = raw_state(place, libc::SEM_STAT);
    (id >= 0).then(|| (id, read_state(&raw)))
}

/// The last place of the kernel's table that is in use.
pub(super) fn last_place() -> Result<i32> {
    // `seminfo` has ten numbers.
    let mut room = [0i32; 16];
    // SAFETY: the kernel writes its ten numbers into `room`.
    let last = unsafe { libc::semctl(0, 0, libc::SEM_INFO, room.as_mut_ptr()) };
    if last < 0 {
        return Err(trouble(
            io::Error::last_os_error(),
            "the kernel does not list its semaphore sets",
        ));
    }
    Ok(last)
}

/// Gives a set to a group.
pub(super) fn give_to_group(id: i32, group: u32, mode: u32) -> Result<()> {
    let (done, mut raw) = raw_state(id, libc::IPC_STAT);
    outcome(done, "the semaphore set cannot be looked at")?;
    raw.perm.gid = group;
    raw.perm.mode = mode as _;
    // SAFETY: the kernel reads one structure of this kind.
    let done = unsafe { libc::semctl(id, 0, libc::IPC_SET, &raw const raw) };
    outcome(done, "the semaphore set cannot be given to the group").map(drop)
}

/// Removes a set, and wakes all who wait for it.
pub(super) fn remove(id: i32) -> Result<Option<i32>> {
    // SAFETY: no pointers involved.
    let done = unsafe { libc::semctl(id, 0, libc::IPC_RMID) };
    outcome(done, "the semaphore set cannot be removed")
}
