//! The store: what its verbs answer. How a lock is taken, waited for and let go is in `take.rs`, `wait.rs`
//! and `release.rs`.

use super::books::{Held, Waiting};
use super::companion::Companion;
use super::config::Config;
use super::dialect::Dialect;
use super::directory::Directory;
use super::file::LockFile;
use super::process::Process;
use super::release::is_ours;
use super::take::Quick;
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::cautions::{Looked, of_folder};
use crate::store::{Answer, Attempt, Backend, Cancelled, Claim, Holder, Inspection, Page, Tokens};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Flock {
    url: String,
    pub(super) config: Config,
    process: PerProcess<Process>,
    looked: Looked,
}

impl Flock {
    pub(super) fn new(config: Config) -> Self {
        Flock {
            url: format!(
                "flock:{}{}",
                crate::error::printable(config.dir.as_os_str().as_encoded_bytes()),
                config.dialect.suffix()
            ),
            config,
            process: PerProcess::new(),
            looked: Looked::default(),
        }
    }

    #[inline]
    pub(super) fn process(&self) -> &Process {
        self.process.get_or_init(|| Process {
            books: Arc::default(),
            waiting: Waiting::default(),
            companion: Companion::new(&self.config),
            directory: Mutex::default(),
        })
    }

    pub(super) fn directory(&self) -> Result<Arc<Directory>> {
        let mut directory = self.process().directory.lock();
        if let Some(known) = &*directory {
            return Ok(known.clone());
        }
        let opened = Arc::new(Directory::open(&self.config)?);
        *directory = Some(opened.clone());
        self.process().companion.begin();
        Ok(opened)
    }

    /// Lets go of a directory that its path does not lead to any more.
    pub(super) fn look_at_directory_again(&self) {
        let mut directory = self.process().directory.lock();
        if let Some(known) = &*directory
            && !known.is_in_place(&self.config)
        {
            *directory = None;
        }
    }

    /// Opens the file of a name; when descriptors run out, those kept idle are given up first.
    pub(super) fn open_file(&self, name: &Name, create: bool) -> Result<Option<Arc<LockFile>>> {
        let file_name = self.config.dialect.file_name(name.as_bytes())?;
        let open = || {
            self.directory()?
                .file(&self.config, &file_name, create)
                .map(|file| file.map(Arc::new))
        };
        match open() {
            Err(error) if error.code() == Code::Exhausted => {
                let idle = self.process().books.lock().drop_idle();
                if idle.is_empty() {
                    return Err(error);
                }
                drop(idle);
                open()
            }
            done => done,
        }
    }

    pub(super) fn held(&self, claim: &Claim) -> Option<Held> {
        self.process().with_held(claim, |held| held.clone())
    }
}

pub(super) fn cannot_lock(error: std::io::Error) -> Error {
    Error::from_io(error, "the lock file cannot be locked")
}

pub(super) fn cannot_look(error: std::io::Error) -> Error {
    Error::from_io(error, "the lock file cannot be looked at")
}

impl Backend for Flock {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: self.config.dialect.store(),
            shared: true,
            promote: true,
            permits: false,
            ttl: false,
            frees_on_death: true,
            fence: self.fence_class(),
            wakes: true,
            fair: true,
            export: false,
            // Symfony's file names do not say the whole name.
            list: self.config.dialect != Dialect::Symfony,
            // A peer that waits for the old file would hold it beside whoever has the new one.
            break_lock: self.config.dialect.is_native(),
            survives_restart: false,
            clock: "none",
            scope: Scope::Host,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn first_caution(&self) -> Option<String> {
        self.looked
            .next(|| of_folder(&self.config.dir, self.config.fencing))
    }

    fn tokens(&self) -> Tokens {
        Tokens::Numbered
    }

    fn name_owner(&self, claim: &Claim, before: OwnerToken) {
        self.process().rename(claim, before);
    }

    fn answers_at_once(&self) -> bool {
        true
    }

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        self.look_at_directory_again();
        self.ping_directory()
    }

    #[inline]
    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let process = self.process();
        let now = BootTime::coarse_nanos();
        match self.take_at_once(process, claim, now)? {
            Quick::Granted(grant) => {
                process.waiting.stop(claim);
                Ok(Attempt::Granted(grant))
            }
            quick => self.take_or_wait(process, claim, bell, now, quick),
        }
    }

    fn take_caution(&self) -> Option<String> {
        self.process().companion.take_caution()
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        Ok(self.process().companion.park(bell, until))
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let process = self.process();
        self.give_up_place(process, claim);
        process.waiting.stop(claim);
        Ok(match process.with_held(claim, |held| held.grant()) {
            Some(grant) => Cancelled::Granted(grant),
            None => Cancelled::Gone,
        })
    }

    fn extend(&self, _claim: &Claim, _ttl: Duration) -> Result<Answer> {
        Err(Error::unsupported(
            "this store has no leases: a lock is held until released or until its owner dies",
        ))
    }

    #[inline]
    fn release(&self, claim: &Claim) -> Result<Answer> {
        let process = self.process();
        let current = self.release_in_berth(process, claim);
        let Some(current) = current.or_else(|| self.release_elsewhere(process, claim)) else {
            return Ok(Answer::NotOurs);
        };
        let ours = is_ours(&current);
        match current {
            Ok(_) if ours => Ok(Answer::Done(None)),
            Ok(_) => Ok(Answer::NotOurs),
            // It is free now, but whether it was ours to the end nobody can say.
            Err(error) => Err(cannot_look(error)),
        }
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        self.convert(claim, to)
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let Some(held) = self.held(claim) else {
            return Ok(false);
        };
        if held.file.current().map_err(cannot_look)?.is_some() || cfg!(canary = "no_path_check") {
            return Ok(true);
        }
        self.lose(claim);
        Ok(false)
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.wait_until_free(name, until)
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        self.inspect_name(name)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        _deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.list_page(prefix, cursor, limit)
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        self.break_name(name, deadline)
    }

    fn note_breaker(&self, name: &Name, label: &str, _last: u64) -> Result<()> {
        self.note_in_file(name, label)
    }

    /// A hold is lost with its file, and no note is older than the file that it stands in.
    fn breaker(&self, name: &Name, _fence: Option<u64>) -> Result<Option<Holder>> {
        self.breaker_in_file(name)
    }
}

impl Flock {
    /// As durable as the file, unless the file system forgets it with the next boot.
    fn fence_class(&self) -> Fence {
        if !self.config.fencing {
            return Fence::None;
        }
        const TMPFS: i64 = 0x0102_1994;
        const RAMFS: i64 = 0x8584_58F6;
        let there = [Some(self.config.dir.as_path()), self.config.dir.parent()];
        let kind = there.into_iter().flatten().find_map(|path| {
            let stat = nix::sys::statfs::statfs(path).ok()?;
            Some(stat.filesystem_type().0 as i64)
        });
        match kind {
            Some(TMPFS | RAMFS) | None => Fence::Hybrid,
            Some(_) => Fence::Durable,
        }
    }
}
