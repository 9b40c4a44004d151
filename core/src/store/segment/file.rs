//! The mapped file: made whole or not at all, and trusted only if nobody else can have prepared it.

use super::bytes::attached;
use super::config::Config;
use super::folder::Folder;
use super::layout::{Geometry, Kind, LAYOUT, SLOT_ENTRY, WORD, WRITTEN, Word, entry, header};
use super::words::Grant;
use crate::codes::Code;
use crate::fork::ProcessFd;
use crate::store::boot::{boot_id, time_offset};
use crate::store::files::{again_nix, check_file_limit, finish, io, refuse};
use crate::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode as Bits, SFlag};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How often a file may be replaced between two looks before that is called trouble.
const MOST_TRIES: u32 = 100;
/// How many processes to name in words.
const MOST_SHOWN: usize = 16;

/// A mapped segment. Never unmapped while anything of it may be in use.
#[derive(Debug)]
pub(in crate::store) struct Segment {
    base: NonNull<u8>,
    size: usize,
    pub(in crate::store) geometry: Geometry,
    /// Where the sections begin that every operation reads: kept, not worked out each time.
    pub(in crate::store) slots_at: u64,
    pub(in crate::store) groups_at: u64,
    pub(in crate::store) words_at: [u64; 5],
    /// For looking whether the file still has its name. Its own description: a mapping keeps the
    /// one it was made from alive, and with it that one's locks.
    pub(in crate::store) fd: ProcessFd,
    inode: (u64, u64),
}

// SAFETY: the mapping is shared memory that is only touched through atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Maps the segment, making it if there is none, or one of before the host's last start.
    pub(in crate::store) fn open(config: &Config) -> Result<Self> {
        for _ in 0..MOST_TRIES {
            match Found::look(config)? {
                Found::Nothing(folder) => make(config, &folder)?,
                Found::Old(folder, fd, stat) => folder.remove_old(fd, &stat, config.kind)?,
                Found::Segment(segment) => return Ok(segment),
            }
        }
        Err(Error::new(
            Code::Unavailable,
            "the segment's file is being replaced all the time",
        ))
    }

    /// Maps the segment if there is one, of since the host's last start; makes none.
    pub(in crate::store) fn open_existing(config: &Config) -> Result<Option<Self>> {
        Ok(match Found::look(config)? {
            Found::Segment(segment) => Some(segment),
            Found::Nothing(_) | Found::Old(..) => None,
        })
    }

    fn map(fd: &OwnedFd, geometry: Geometry, stat: &FileStat) -> Result<Self> {
        let size = usize::try_from(geometry.size())
            .map_err(|_| Error::new(Code::Exhausted, "the segment is larger than the memory"))?;
        // Before the mapping, which nobody would take back if this failed.
        let reopened = reopen(fd)?;
        // SAFETY: a new shared mapping of a file that has at least this size.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        let base = (address != libc::MAP_FAILED)
            .then(|| NonNull::new(address.cast::<u8>()))
            .flatten()
            .ok_or_else(|| {
                Error::from_io(
                    std::io::Error::last_os_error(),
                    "the segment cannot be mapped",
                )
            })?;
        Ok(Segment {
            base,
            size,
            geometry,
            slots_at: geometry.slot(0),
            groups_at: geometry.group(0),
            words_at: [Word::Place, Word::Life, Word::Mode, Word::Late, Word::Rung]
                .map(|word| geometry.word(word, 0)),
            fd: ProcessFd::new(reopened),
            inode: (stat.st_dev, stat.st_ino),
        })
    }

    /// Another description of the same file, with locks of its own.
    pub(in crate::store) fn reopen(&self) -> Result<OwnedFd> {
        reopen(&self.fd)
    }

    /// Whether the file still stands where it was found.
    pub(in crate::store) fn is_in_place(&self, config: &Config) -> bool {
        again_nix(|| nix::sys::stat::lstat(&config.path))
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.inode)
    }

    /// Where a slot's entry begins.
    #[inline]
    pub(in crate::store) fn slot(&self, slot: u16) -> u64 {
        self.slots_at + u64::from(slot) * SLOT_ENTRY
    }

    /// The 64-bit word at an offset.
    #[inline]
    pub(in crate::store) fn word(&self, offset: u64) -> &AtomicU64 {
        let offset = self.bounded(offset, 8);
        // SAFETY: inside the mapping, aligned to eight bytes, and only ever used as an atomic.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// The 32-bit word at an offset.
    pub(in crate::store) fn half(&self, offset: u64) -> &AtomicU32 {
        let offset = self.bounded(offset, 4);
        // SAFETY: inside the mapping, aligned to four bytes, and only ever used as an atomic.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU32>() }
    }

    /// Offsets come from the geometry, which was checked; a wrong one must not leave the mapping.
    #[inline]
    fn bounded(&self, offset: u64, size: usize) -> usize {
        let offset = offset as usize;
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.size,
            "an offset outside the segment"
        );
        offset
    }

    /// Bytes that may be changing, as far as they go.
    pub(in crate::store) fn read_bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8) as u64)
            .flat_map(|index| {
                self.word(offset + index * 8)
                    .load(Ordering::Relaxed)
                    .to_ne_bytes()
            })
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// Whether these bytes stand there.
    pub(in crate::store) fn has_bytes(&self, offset: u64, bytes: &[u8]) -> bool {
        bytes.chunks(8).zip(0u64..).all(|(chunk, index)| {
            let word = self.word(offset + index * 8).load(Ordering::Relaxed);
            word.to_ne_bytes()[..chunk.len()] == *chunk
        })
    }

    /// Writes bytes for readers that check afterwards whether they may believe them.
    pub(in crate::store) fn write_bytes(&self, offset: u64, bytes: &[u8]) {
        for (chunk, index) in bytes.chunks(8).zip(0u64..) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(offset + index * 8)
                .store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.fd.is_ours() {
            // SAFETY: nobody borrows from a segment that is being dropped. A child leaks its copy.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
        }
    }
}

/// What stands in the segment's place.
enum Found {
    Nothing(Folder),
    /// A segment of before the host's last start.
    Old(Folder, OwnedFd, FileStat),
    Segment(Segment),
}

impl Found {
    fn look(config: &Config) -> Result<Self> {
        let folder = Folder::open(config)?;
        // A child that another thread forks meanwhile has copies of these descriptors that it does
        // not know of. They have no lock and do no harm; the one that matters is opened by the
        // attachment.
        let Some(fd) = folder.existing()? else {
            return Ok(Found::Nothing(folder));
        };
        let stat = again_nix(|| nix::sys::stat::fstat(&fd))
            .map_err(|error| io(error, "the segment has no state"))?;
        check_file(&stat, config)?;
        let head = Head::read(&fd, &stat)?;
        if head.boot_id != boot_id()? {
            return Ok(Found::Old(folder, fd, stat));
        }
        head.check(config, &fd)?;
        Segment::map(&fd, head.geometry, &stat).map(Found::Segment)
    }
}

/// What the header says.
struct Head {
    layout: u32,
    geometry: Geometry,
    size: u64,
    boot_id: [u8; 16],
    time_offset: i64,
    file_size: u64,
}

impl Head {
    fn read(fd: &OwnedFd, stat: &FileStat) -> Result<Self> {
        let mut bytes = [0u8; 128];
        let file = std::fs::File::from(
            fd.try_clone()
                .map_err(|error| Error::from_io(error, "no descriptor"))?,
        );
        let foreign = |why: &str| Error::new(Code::Protocol, why);
        file.read_exact_at(&mut bytes, 0)
            .map_err(|_| foreign("the segment's file is too short: cut off, or not synlock's"))?;
        let u32_at = |at: u64| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at as usize..at as usize + 4]);
            u32::from_ne_bytes(four)
        };
        let u64_at = |at: u64| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at as usize..at as usize + 8]);
            u64::from_ne_bytes(eight)
        };
        let kind = Kind::of_magic(&bytes[header::MAGIC as usize..][..8])
            .ok_or_else(|| foreign("the file is not a segment of synlock's"))?;
        if u32_at(header::WORD) != WORD {
            return Err(foreign("the segment is of a machine of another byte order"));
        }
        let mut boot_id = [0; 16];
        boot_id.copy_from_slice(&bytes[header::BOOT_ID as usize..][..16]);
        Ok(Head {
            layout: u32_at(header::LAYOUT),
            geometry: Geometry {
                kind,
                slots: u32_at(header::SLOTS),
                processes: u32_at(header::PROCESSES),
                records: u32_at(header::RECORDS),
            },
            size: u64_at(header::SIZE),
            boot_id,
            time_offset: u64_at(header::TIME_OFFSET) as i64,
            file_size: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }

    fn check(&self, config: &Config, fd: &OwnedFd) -> Result<()> {
        if self.layout > LAYOUT || self.layout == 0 {
            return Err(self.unknown_layout(config, fd));
        }
        let geometry = self.geometry.check()?;
        if geometry.kind != config.kind {
            return Err(Error::new(
                Code::Protocol,
                "the segment is one of synlock's, but for something else",
            ));
        }
        if self.size != geometry.size() || self.file_size < self.size {
            return Err(Error::new(
                Code::Protocol,
                "the segment's file has been cut off or is damaged",
            ));
        }
        if self.time_offset != time_offset() {
            return Err(Error::unsupported(
                "the segment was made in another time namespace: leases would not mean the same",
            ));
        }
        match config.slots {
            Some(slots) if slots != geometry.slots => Err(Error::invalid(format!(
                "the segment has {} slots; the option `slots` says {slots}",
                geometry.slots
            ))),
            _ => Ok(()),
        }
    }

    fn unknown_layout(&self, config: &Config, fd: &OwnedFd) -> Error {
        let most = u16::try_from(self.geometry.processes).unwrap_or(u16::MAX);
        let pids = attached(fd, most);
        let mut shown: Vec<String> = pids.iter().take(MOST_SHOWN).map(u32::to_string).collect();
        if pids.len() > MOST_SHOWN {
            shown.push(format!("{} more", pids.len() - MOST_SHOWN));
        }
        let used = if pids.is_empty() {
            "no process uses it:".to_owned()
        } else {
            format!(
                "when the processes that use it ({}) have ended,",
                shown.join(", ")
            )
        };
        let (layout, path) = (self.layout, config.path.display());
        let words = format!(
            "the segment has layout {layout}, this build knows up to {LAYOUT}; {used} remove {path}"
        );
        Error::new(Code::Protocol, words)
    }
}

fn reopen(fd: &impl AsRawFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    again_nix(|| nix::fcntl::open(path.as_str(), flags, Bits::empty()))
        .map_err(|error| io(error, "the segment cannot be opened again"))
}

fn check_file(stat: &FileStat, config: &Config) -> Result<()> {
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(refuse(
            "something that is no regular file is in the segment's place",
        ));
    }
    let me = nix::unistd::geteuid().as_raw();
    if ![me, 0].contains(&stat.st_uid) && config.group != Some(stat.st_gid) {
        return Err(refuse(format!(
            "the segment belongs to user {}; `group=` trusts the members of a group",
            stat.st_uid
        )));
    }
    if stat.st_nlink > 1 && !cfg!(canary = "follow_links") {
        return Err(refuse(
            "the segment's file has a second name (hard link), which may be somebody's trick",
        ));
    }
    if stat.st_mode & 0o006 != 0 {
        return Err(refuse("everybody may open the segment"));
    }
    Ok(())
}

/// Makes a whole segment and puts it where nothing is. Somebody else may be faster.
///
/// It has no name until it is whole, so that whoever is killed at it leaves nothing behind.
fn make(config: &Config, folder: &Folder) -> Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    let opened = if cfg!(canary = "named_file") {
        Err(nix::Error::EOPNOTSUPP)
    } else {
        folder.open_at(Path::new("."), flags)
    };
    match opened {
        Ok(fd) => {
            if cfg!(canary = "publish_early") {
                folder.link(&fd)?;
                return fill(config, &fd);
            }
            fill(config, &fd)?;
            folder.link(&fd)
        }
        Err(nix::Error::EOPNOTSUPP | nix::Error::EISDIR | nix::Error::ENOENT) => {
            make_under_another_name(config, folder)
        }
        Err(error) => Err(io(error, "a new segment cannot be made")),
    }
}

/// On file systems that know no files without a name.
fn make_under_another_name(config: &Config, folder: &Folder) -> Result<()> {
    let token = crate::OwnerToken::draw()?.to_hex();
    let unfinished = PathBuf::from(format!(".synlock-new-{}", &token[..16]));
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let fd = folder
        .open_at(&unfinished, flags)
        .map_err(|error| io(error, "a new segment cannot be made"))?;
    let result = fill(config, &fd).and_then(|()| folder.rename(&unfinished));
    // Gone, if it was put in place.
    let _ = folder.remove(&unfinished);
    result
}

fn fill(config: &Config, fd: &OwnedFd) -> Result<()> {
    let geometry = config.geometry();
    let size = libc::off_t::try_from(geometry.size()).unwrap_or(libc::off_t::MAX);
    check_file_limit(geometry.size())
        .map_err(|error| Error::from_io(error, "there is no room for the segment"))?;
    // All the space now: later there would be a SIGBUS in place of an error.
    again_nix(|| {
        if cfg!(canary = "sparse_segment") {
            return nix::unistd::ftruncate(fd, size);
        }
        nix::fcntl::posix_fallocate(fd, 0, size)
    })
    .map_err(|error| io(error, "there is no room for the segment"))?;
    let file = std::fs::File::from(
        fd.try_clone()
            .map_err(|error| Error::from_io(error, "no descriptor"))?,
    );
    let mut head = [0u8; 128];
    let mut put = |at: u64, bytes: &[u8]| head[at as usize..][..bytes.len()].copy_from_slice(bytes);
    put(header::MAGIC, &geometry.kind.magic());
    put(header::LAYOUT, &WRITTEN.to_ne_bytes());
    put(header::WORD, &WORD.to_ne_bytes());
    put(header::SLOTS, &geometry.slots.to_ne_bytes());
    put(header::PROCESSES, &geometry.processes.to_ne_bytes());
    put(header::RECORDS, &geometry.records.to_ne_bytes());
    put(header::SIZE, &geometry.size().to_ne_bytes());
    put(header::BOOT_ID, &boot_id()?);
    put(header::TIME_OFFSET, &time_offset().to_ne_bytes());
    put(header::FENCE_FLOOR, &wall_nanos().to_ne_bytes());
    let mut slots = vec![0u8; (geometry.name(0) - geometry.slot(0)) as usize];
    for slot in (0..geometry.slots as usize).filter(|_| geometry.kind == Kind::Locks) {
        let at = slot * 64 + entry::GRANT as usize;
        slots[at..at + 8].copy_from_slice(&Grant::free().0.to_ne_bytes());
    }
    file.write_all_at(&slots, geometry.slot(0))
        .and_then(|()| file.write_all_at(&head, 0))
        .map_err(|error| Error::from_io(error, "the segment cannot be written"))?;
    finish(fd, config.group, config.mode)
}

/// Where fencing tokens begin, so that they grow over the loss of a segment too: in nanoseconds, since no
/// segment gives one each.
fn wall_nanos() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| u64::try_from(time.as_nanos()).unwrap_or(1))
}
