//! The process guard: everything that must not survive a fork asks here.
//!
//! One page of this process is marked `MADV_WIPEONFORK`: a child, even one made by a raw `clone`,
//! sees it zeroed. A zero generation is how a fork is noticed without asking for the PID. Descriptors
//! that a child must not keep (locks, connections) are listed in a table that needs no lock, and are
//! closed in the child by a handler that is safe in a signal context.

mod descriptors;
mod line;
#[cfg(all(loom, test))]
mod model;
mod per_process;

pub use per_process::PerProcess;

use descriptors::Chunk;
use line::Line;
use once_cell::race::OnceRef;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use sync::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, CHUNK, Ordering};

/// What the parts that `model.rs` looks at are made of; there they are made of the checker's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(super) use std::thread::yield_now;

    /// How many descriptors one chunk of their list holds.
    pub(super) const CHUNK: usize = 256;
}

/// What stands in the page that a child finds empty.
#[repr(C)]
struct Page {
    generation: AtomicU64,
    token_lock: AtomicU32,
    token_left: AtomicU32,
    tokens: [AtomicU64; 2 * TOKENS_PER_BLOCK],
}

const TOKENS_PER_BLOCK: usize = 64;

static PAGE: AtomicPtr<Page> = AtomicPtr::new(std::ptr::null_mut());
static LINE: Line = Line {
    given: AtomicU64::new(0),
    swept: AtomicU64::new(1),
};
/// Descriptors that a child closes.
static FDS: Chunk = Chunk {
    fds: [const { AtomicI32::new(-1) }; CHUNK],
    next: AtomicPtr::new(std::ptr::null_mut()),
};

#[inline]
fn page() -> &'static Page {
    let known = PAGE.load(Ordering::Acquire);
    if known.is_null() {
        return map_page();
    }
    // SAFETY: published below, never unmapped.
    unsafe { &*known }
}

/// Maps the page. Two threads may both do so; one page is kept.
#[cold]
fn map_page() -> &'static Page {
    let size = 4096;
    let (read_write, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a fresh anonymous mapping; nothing else refers to it.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), size, read_write, flags, -1, 0) };
    assert!(address != libc::MAP_FAILED, "no memory for one page");
    let advised = if cfg!(canary = "no_wipe") {
        0
    } else {
        // SAFETY: the mapping was just made with this size.
        unsafe { libc::madvise(address, size, libc::MADV_WIPEONFORK) }
    };
    // Forks would go unnoticed, which is worse than not starting.
    assert!(
        advised == 0,
        "the kernel lacks MADV_WIPEONFORK (Linux 4.14)"
    );
    let made = address.cast::<Page>();
    match PAGE.compare_exchange(
        std::ptr::null_mut(),
        made,
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => {
            // SAFETY: the handlers only touch atomics and call close(2).
            unsafe {
                libc::pthread_atfork(Some(fork_begins), Some(fork_ends), Some(sweep_in_child))
            };
            // SAFETY: page-aligned, large enough, all-zero is a valid `Page`, never unmapped.
            unsafe { &*made }
        }
        Err(theirs) => {
            // SAFETY: ours was never shared; theirs is published and never unmapped.
            unsafe {
                libc::munmap(address, size);
                &*theirs
            }
        }
    }
}

/// Which process this is, counted along the line of forks; never 0. A child's differs from every
/// ancestor's.
#[inline]
pub fn generation() -> u64 {
    #[cfg(canary = "use_after_free")]
    read_freed();
    // A raw clone ran no handler: close what it inherited now.
    LINE.current(&page().generation, || {
        close_all();
        forget_forks();
    })
}

/// Forks of this process that have begun, and that are over.
static FORKS_BEGUN: AtomicU64 = AtomicU64::new(0);
static FORKS_OVER: AtomicU64 = AtomicU64::new(0);

/// What must be done around a fork by whoever keeps what cannot be told to a child any more. The last
/// one runs in the child of a process that may have had other threads: atomics only.
#[derive(Debug)]
pub(crate) struct Around {
    pub before: fn(),
    pub in_parent: fn(),
    pub in_child: fn(),
}

/// SQLite is the only one.
static AROUND: OnceRef<'static, Around> = OnceRef::new();

/// Has this done around every fork from now on.
#[cfg_attr(
    not(feature = "sqlite"),
    expect(dead_code, reason = "only SQLite needs it")
)]
pub(crate) fn around(what: &'static Around) {
    let _ = page();
    let _ = AROUND.set(what);
}

extern "C" fn fork_begins() {
    FORKS_BEGUN.fetch_add(1, Ordering::SeqCst);
    if let Some(around) = AROUND.get() {
        (around.before)();
    }
}

extern "C" fn fork_ends() {
    if let Some(around) = AROUND.get() {
        (around.in_parent)();
    }
    FORKS_OVER.fetch_add(1, Ordering::SeqCst);
}

/// Tells whether another thread forked between two points: a child made between opening a
/// descriptor and listing it has a copy that it does not know of.
#[derive(Clone, Copy, Debug)]
pub struct ForkWatch {
    begun: u64,
    quiet: bool,
}

impl ForkWatch {
    /// The first point, before the descriptor is opened. Waits for forks under way, up to a second.
    pub fn start() -> Self {
        let _ = page();
        let mut pauses = 0;
        loop {
            let over = FORKS_OVER.load(Ordering::SeqCst);
            let begun = FORKS_BEGUN.load(Ordering::SeqCst);
            let quiet = begun == over;
            if quiet || pauses == 10_000 {
                return ForkWatch { begun, quiet };
            }
            pauses += 1;
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }

    /// Whether no fork was under way since then. Ask when the descriptor is a [`ProcessFd`]; if not,
    /// close it, before it has locked anything, and open another.
    pub fn is_quiet(self) -> bool {
        cfg!(canary = "no_fork_watch")
            || (self.quiet && FORKS_BEGUN.load(Ordering::SeqCst) == self.begun)
    }
}

/// In a child, whatever was under way in the parent is over.
fn forget_forks() {
    FORKS_OVER.store(FORKS_BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
}

extern "C" fn sweep_in_child() {
    if let Some(around) = AROUND.get() {
        (around.in_child)();
    }
    forget_forks();
    close_all();
    LINE.is_swept();
}

fn close_all() {
    FDS.take_all(|fd| {
        if !cfg!(any(canary = "keep_in_child", canary = "share_after_fork")) {
            #[cfg(canary = "unlock_in_child")]
            // SAFETY: broken on purpose: lets go of the parent's lock, or ends its connection.
            unsafe {
                libc::flock(fd, libc::LOCK_UN);
                libc::shutdown(fd, libc::SHUT_RDWR)
            };
            // SAFETY: the descriptor was registered by its owner, which never uses it in a child.
            unsafe { libc::close(fd) };
        }
    });
}

fn register(fd: RawFd) {
    let _ = page();
    FDS.register(fd);
}

fn unregister(fd: RawFd) {
    FDS.unregister(fd);
}

/// A descriptor that belongs to the process that opened it: a forked child closes it without
/// sending a byte, and dropping its copy there does nothing.
#[derive(Debug)]
pub struct ProcessFd {
    fd: Option<OwnedFd>,
    generation: u64,
}

impl ProcessFd {
    /// Takes the descriptor over.
    pub fn new(fd: OwnedFd) -> Self {
        let generation = generation();
        register(fd.as_raw_fd());
        ProcessFd {
            fd: Some(fd),
            generation,
        }
    }

    /// Whether this is the process that opened it.
    pub fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

impl AsRawFd for ProcessFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for ProcessFd {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            if self.is_ours() {
                unregister(fd.as_raw_fd());
            } else {
                // The number was closed after the fork and may be somebody else's by now.
                std::mem::forget(fd);
            }
        }
    }
}

/// Notes a descriptor owned by a third party's client, so that a child closes it; give the guard
/// the same lifetime as the client.
#[derive(Debug)]
pub struct Noted(RawFd, u64);

impl Noted {
    /// Notes `fd`.
    pub fn new(fd: RawFd) -> Self {
        let generation = generation();
        register(fd);
        Noted(fd, generation)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.1 == generation() {
            unregister(self.0);
        }
    }
}

impl<T: Send + Sync> PerProcess<T> {
    /// Empty.
    pub const fn new() -> Self {
        PerProcess {
            current: AtomicPtr::new(std::ptr::null_mut()),
        }
    }
}

impl<T: Send + Sync> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Canary of row 39: reads a byte that was given back.
#[cfg(canary = "use_after_free")]
fn read_freed() {
    let gone = std::hint::black_box(Box::into_raw(Box::new(7_u8)));
    // SAFETY: none, it is broken on purpose; a sanitizer stops here.
    unsafe {
        drop(Box::from_raw(gone));
        std::hint::black_box(gone.read_volatile());
    }
}

/// 128 bits from the kernel, drawn in blocks that a child finds empty: no two processes can be
/// dealt the same ones.
pub(crate) fn random_128() -> crate::Result<[u8; 16]> {
    let _ = generation();
    let page = page();
    while page
        .token_lock
        .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        std::hint::spin_loop();
        std::thread::yield_now();
    }
    let drawn = draw(page);
    page.token_lock.store(0, Ordering::Release);
    drawn
}

fn draw(page: &Page) -> crate::Result<[u8; 16]> {
    if page.token_left.load(Ordering::Relaxed) == 0 {
        let mut block = [0u8; 16 * TOKENS_PER_BLOCK];
        let mut filled = 0;
        while filled < block.len() {
            let rest = &mut block[filled..];
            // SAFETY: writes at most `rest.len()` bytes into `rest`.
            let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            match usize::try_from(got) {
                Ok(got) => filled += got,
                Err(_) => {
                    let error = std::io::Error::last_os_error();
                    if error.kind() != std::io::ErrorKind::Interrupted {
                        return Err(crate::Error::from_io(
                            error,
                            "the kernel gives no random bytes",
                        ));
                    }
                }
            }
        }
        for (word, bytes) in page.tokens.iter().zip(block.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
        page.token_left
            .store(TOKENS_PER_BLOCK as u32, Ordering::Relaxed);
    }
    let left = page.token_left.load(Ordering::Relaxed) - 1;
    page.token_left.store(left, Ordering::Relaxed);
    let mut token = [0u8; 16];
    for (half, bytes) in token.chunks_exact_mut(8).enumerate() {
        // Taken out, so that a dealt token stands nowhere else in memory; nobody else is here.
        let word = &page.tokens[left as usize * 2 + half];
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        word.store(0, Ordering::Relaxed);
    }
    Ok(token)
}

/// Makes an eventfd that a child closes.
pub(crate) fn eventfd() -> crate::Result<ProcessFd> {
    // SAFETY: no pointers involved; a new descriptor is returned and owned below.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(crate::Error::from_io(
            std::io::Error::last_os_error(),
            "no event descriptor",
        ));
    }
    // SAFETY: just created, owned by nobody else.
    Ok(ProcessFd::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Makes an epoll set that a child closes, without a word to the kernel: what it took out there the parent
/// would miss.
pub(crate) fn epoll() -> crate::Result<ProcessFd> {
    // SAFETY: no pointers involved; a new descriptor is returned and owned below.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        return Err(crate::Error::from_io(error, "no epoll descriptor"));
    }
    // SAFETY: just created, owned by nobody else.
    Ok(ProcessFd::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `child` in a forked process and says whether it returned true.
    fn in_child(child: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child only touches what the test gives it and leaves by `_exit`.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(i32::from(!child())),
                pid => {
                    let mut status = 0;
                    libc::waitpid(pid, &raw mut status, 0);
                    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
                }
            }
        }
    }

    #[test]
    fn a_child_has_another_generation_and_no_descriptors() {
        let before = generation();
        let fd = eventfd().unwrap();
        let number = fd.as_raw_fd();
        assert!(in_child(|| {
            // SAFETY: asks about a number only.
            let closed = unsafe { libc::fcntl(number, libc::F_GETFD) } == -1;
            closed && generation() != before && !fd.is_ours()
        }));
        assert_eq!(generation(), before);
        // SAFETY: as above.
        assert!(unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0);
    }

    #[test]
    fn a_child_closes_any_number_of_descriptors() {
        let fds: Vec<ProcessFd> = (0..2 * CHUNK + 5).map(|_| eventfd().unwrap()).collect();
        assert!(in_child(|| fds.iter().all(|fd| {
            // SAFETY: asks about a number only.
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) == -1 }
        })));
    }

    #[test]
    fn a_child_makes_its_own_value() {
        static CELL: PerProcess<u64> = PerProcess::new();
        let mine = *CELL.get_or_init(generation);
        assert!(in_child(|| *CELL.get_or_init(generation) != mine));
        assert_eq!(*CELL.get_or_init(generation), mine);
    }

    #[test]
    fn tokens_of_parent_and_child_differ() {
        let _ = random_128().unwrap();
        let mut pipe = [0; 2];
        // SAFETY: `pipe` has room for two descriptors.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
        assert!(in_child(|| {
            let token = random_128().unwrap();
            // SAFETY: writes 16 bytes from a 16-byte array.
            unsafe { libc::write(pipe[1], token.as_ptr().cast(), 16) == 16 }
        }));
        let mut childs = [0u8; 16];
        // SAFETY: reads at most 16 bytes into a 16-byte array.
        let got = unsafe { libc::read(pipe[0], childs.as_mut_ptr().cast(), 16) };
        assert_eq!(got, 16);
        for _ in 0..200 {
            assert_ne!(random_128().unwrap(), childs);
        }
    }
}
