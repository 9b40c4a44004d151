//! A process that takes locks as it is told on stdin, one command a line, one answer a line.
//!
//! `flock-taker URL`, then: `lock H NAME [shared|label=TEXT]` makes handle H (in NAME, `%XX` is
//! a byte); `acquire H MS` (0 tries),
//! `release H`, `check H`, `promote H MS`, `demote H`, `drop H`; `inspect NAME` (number of holders), `waiters NAME`, `pid`,
//! `list`, `fds` (open descriptors but eventfds), `sleep MS`, `break NAME`, `clean`, `user UID GID` (becomes somebody else),
//! `umask OCTAL`, `layout`, `ping`, `quit`. An answer is `OK …` or the code's name and the message.

#![expect(clippy::print_stdout, reason = "a program that answers")]

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Duration;
use synlock_core::store::flock::{LAYOUT, clean_up};
use synlock_core::{Lock, LockOptions, Mode, Result, Store, Wait};

struct Taker {
    url: String,
    handles: HashMap<String, Lock>,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut name = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || {
            bytes
                .next()
                .and_then(|digit| char::from(digit).to_digit(16))
        };
        name.push(match byte {
            b'%' => (digit().expect("hex") * 16 + digit().expect("hex")) as u8,
            plain => plain,
        });
    }
    name
}

fn wait(ms: &str) -> Wait {
    match ms.parse() {
        Ok(0) | Err(_) => Wait::No,
        Ok(ms) => Wait::For(Duration::from_millis(ms)),
    }
}

impl Taker {
    /// Opened by each command, so that what opening finds is answered too; the registry keeps it.
    fn store(&self) -> Result<Store> {
        Store::open(&self.url)
    }

    fn handle(&self, name: &str) -> &Lock {
        self.handles.get(name).expect("a handle of that name")
    }

    fn run(&mut self, words: &[&str]) -> Result<String> {
        let done = || Ok(String::new());
        match words {
            ["lock", handle, name, mode @ ..] => {
                let mut options = LockOptions::default();
                match mode.first().copied() {
                    Some("shared") => options.mode = Mode::Shared,
                    Some(label) => options.label = label.strip_prefix("label=").map(Into::into),
                    None => {}
                }
                let lock = self.store()?.lock_with(unescape(name), options)?;
                self.handles.insert((*handle).to_owned(), lock);
                done()
            }
            ["acquire", handle, ms] => {
                let acquired = self.handle(handle).acquire(wait(ms), None)?;
                Ok(acquired
                    .fence
                    .map(|fence| fence.to_string())
                    .unwrap_or_default())
            }
            ["release", handle] => self.handle(handle).release().map(|_| String::new()),
            ["check", handle] => self.handle(handle).ensure_held().map(|()| String::new()),
            ["promote", handle, ms] => self
                .handle(handle)
                .promote(wait(ms))
                .map(|()| String::new()),
            ["demote", handle] => self.handle(handle).demote().map(|()| String::new()),
            ["drop", handle] => {
                self.handles.remove(*handle);
                done()
            }
            ["waiters", name] => {
                let waiters = self.store()?.inspect(name)?.waiters;
                Ok(waiters.map(|count| count.to_string()).unwrap_or_default())
            }
            ["pid"] => Ok(std::process::id().to_string()),
            ["inspect", name] => Ok(self.store()?.inspect(name)?.holders.len().to_string()),
            ["list"] => {
                let page = self.store()?.list(b"", None, 1000)?;
                let names = page
                    .locks
                    .iter()
                    .map(|lock| lock.name.escape_ascii().to_string());
                Ok(names.collect::<Vec<_>>().join(" "))
            }
            ["break", name] => self
                .store()?
                .break_lock(name)
                .map(|broken| broken.to_string()),
            ["clean"] => clean_up(&self.url).map(|removed| removed.to_string()),
            ["layout"] => Ok(LAYOUT.to_string()),
            ["ping"] => self.store()?.ping(Wait::No).map(|()| String::new()),
            // The background thread's bell comes with the first trouble and stays.
            ["fds"] => Ok(std::fs::read_dir("/proc/self/fd")
                .map_or(0, |fds| {
                    fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
                        .filter(|target| !target.to_string_lossy().contains("[eventfd]"))
                        .count()
                })
                .to_string()),
            ["sleep", ms] => {
                std::thread::sleep(Duration::from_millis(ms.parse().expect("ms")));
                done()
            }
            ["umask", octal] => {
                let bits = u32::from_str_radix(octal, 8).expect("octal");
                // SAFETY: a number of this process.
                unsafe { libc::umask(bits) };
                done()
            }
            ["user", uid, gid] => {
                let (uid, gid) = (uid.parse().expect("a uid"), gid.parse().expect("a gid"));
                // SAFETY: changes who this process is; no memory involved.
                let changed = unsafe {
                    libc::setgroups(0, std::ptr::null()) == 0
                        && libc::setresgid(gid, gid, gid) == 0
                        && libc::setresuid(uid, uid, uid) == 0
                };
                assert!(changed, "cannot become user {uid}");
                done()
            }
            _ => panic!("no such command: {words:?}"),
        }
    }
}

fn main() {
    let url = std::env::args().nth(1).expect("a URL");
    let mut taker = Taker {
        url,
        handles: HashMap::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("lines");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words == ["quit"] {
            break;
        }
        match taker.run(&words) {
            Ok(text) => println!("OK {text}"),
            Err(error) => println!("{} {error}", error.code().name()),
        }
        std::io::stdout().flush().expect("stdout");
    }
}
