//! Batons: one small file for a remote hold of this host, in a folder of its lock. Its name is the owner token
//! of whoever has it, or `free` between two holders. What it says never changes: a new one replaces it.

use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::store::boot::{boot_id, time_offset};
use crate::store::files::refuse;
use crate::{Error, Result, hex};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FREE: &str = "free";
/// How often a baton that changes hands is looked for again.
const ROUNDS: usize = 8;
/// The first word, and the number of the layout behind it. Neighbouring layouts have the same fields.
const WORD: &str = "synlock-tiered-";
const LAYOUT: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };

/// What a remote hold is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Baton {
    /// Its owner token at the remote store.
    pub token: OwnerToken,
    /// Until when it is sure, at least.
    pub end: BootTime,
    /// How many holds it may still serve.
    pub left: u32,
    /// The fencing token of the next one.
    pub next: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Batons {
    root: PathBuf,
    /// Of this pair of stores.
    folder: PathBuf,
    /// Whose boot clock a baton's time is of.
    clock: String,
}

fn short_hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

fn io(error: std::io::Error) -> Error {
    let code = match error.kind() {
        ErrorKind::PermissionDenied => Code::Permission,
        _ => Code::Storage,
    };
    Error::new(
        code,
        format!("the folder of the two tiers' state (`state=`): {error}"),
    )
}

/// Whether it was there.
fn was_there(done: std::io::Result<()>) -> Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(error)),
    }
}

/// The files that are named by an owner.
fn owners(folder: &Path) -> Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(found) => Ok(found
            .filter_map(|one| one.ok()?.file_name().into_string().ok())
            .filter(|one| OwnerToken::from_hex(one.as_bytes()).is_some())
            .collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io(error)),
    }
}

/// Puts a baton back under the name that it had, unless its owner has written a newer one.
fn put_back(mine: &Path, before: &Path) -> Result<()> {
    let flags = RenameFlags::RENAME_NOREPLACE;
    match renameat2(AT_FDCWD, mine, AT_FDCWD, before, flags) {
        Err(Errno::EEXIST) if mine != before => was_there(fs::remove_file(mine)).map(drop),
        Ok(()) | Err(Errno::EEXIST | Errno::ENOENT) => Ok(()),
        Err(error) => Err(io(error.into())),
    }
}

impl Batons {
    pub fn new(root: PathBuf, stores: &str) -> Result<Self> {
        let clock = [&boot_id()?[..], &time_offset().to_be_bytes()].concat();
        Ok(Self::of_clock(root, stores, hex::encode(&clock)))
    }

    fn of_clock(root: PathBuf, stores: &str, clock: String) -> Self {
        let folder = root.join(short_hash(stores.as_bytes()));
        Batons {
            root,
            folder,
            clock,
        }
    }

    fn of(&self, name: &Name) -> PathBuf {
        self.folder.join(short_hash(name.as_bytes()))
    }

    /// Makes the folder of a lock. The outermost must be ours: whoever owns it can forge what stands in it.
    fn make(&self, of_lock: &Path) -> Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(of_lock).map_err(io)?;
        let state = fs::symlink_metadata(&self.root).map_err(io)?;
        let me = nix::unistd::geteuid().as_raw();
        if !state.is_dir() || ![me, 0].contains(&state.uid()) {
            return Err(refuse(
                "the folder of the two tiers' state belongs to another user, or is none",
            ));
        }
        if state.mode() & 0o002 != 0 {
            return Err(refuse(
                "everybody may write to the folder of the two tiers' state",
            ));
        }
        Ok(())
    }

    /// Takes the lock's baton, whoever had it; and whether it was handed over. Only for who holds locally: that is
    /// looked at again once it is taken, and whoever has lost its place meanwhile puts it back.
    pub fn take(
        &self,
        name: &Name,
        me: OwnerToken,
        holds: impl Fn() -> bool,
    ) -> Result<Option<(Baton, bool)>> {
        let folder = self.of(name);
        let mine = folder.join(me.to_hex());
        for _ in 0..ROUNDS {
            if !holds() {
                return Ok(None);
            }
            let from = if was_there(fs::rename(folder.join(FREE), &mine))? {
                FREE.to_owned()
            } else {
                match owners(&folder)?.as_slice() {
                    [] if !folder.join(FREE).exists() => return Ok(None),
                    [] => continue,
                    [one] if was_there(fs::rename(folder.join(one), &mine))? => one.clone(),
                    [_] => continue,
                    // Somebody woke up late and wrote one: neither is believed, and the remote hold runs out.
                    several => {
                        for one in several {
                            was_there(fs::remove_file(folder.join(one)))?;
                        }
                        continue;
                    }
                }
            };
            if !holds() {
                put_back(&mine, &folder.join(from))?;
                return Ok(None);
            }
            return Ok(self.read(&mine, name).map(|baton| (baton, from == FREE)));
        }
        Ok(None)
    }

    /// Writes the baton of whoever holds now.
    pub fn put(&self, name: &Name, me: OwnerToken, baton: &Baton) -> Result<()> {
        let folder = self.of(name);
        let unfinished = folder.join(format!(".{}", me.to_hex()));
        let text = format!(
            "{WORD}{LAYOUT} {} {} {} {} {} {}\n",
            baton.token.to_hex(),
            baton.end.as_nanos(),
            baton.left,
            baton
                .next
                .map_or(-1, |next| i64::try_from(next).unwrap_or(-1)),
            short_hash(&[b"name".as_slice(), name.as_bytes()].concat()),
            self.clock,
        );
        for _ in 0..ROUNDS {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let done = options
                .open(&unfinished)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .and_then(|()| fs::rename(&unfinished, folder.join(me.to_hex())));
            if was_there(done)? {
                return Ok(());
            }
            // Whoever ended the last one cleared the folder away.
            self.make(&folder)?;
        }
        Err(Error::new(
            Code::Storage,
            "the folder of the two tiers' state vanishes again and again",
        ))
    }

    /// Leaves the baton to the next who holds locally; false if it is not ours any more.
    pub fn hand_over(&self, name: &Name, me: OwnerToken) -> Result<bool> {
        let folder = self.of(name);
        was_there(fs::rename(folder.join(me.to_hex()), folder.join(FREE)))
    }

    /// Ends the baton; false if it is not ours any more.
    pub fn end(&self, name: &Name, me: OwnerToken) -> Result<bool> {
        let folder = self.of(name);
        let was = was_there(fs::remove_file(folder.join(me.to_hex())))?;
        // Names come and go. If another is in it, it stays.
        let _ = fs::remove_dir(&folder);
        Ok(was)
    }

    pub fn is_ours(&self, name: &Name, me: OwnerToken) -> bool {
        self.of(name).join(me.to_hex()).exists()
    }

    /// The baton of who has a token that begins with these digits.
    pub fn look(&self, name: &Name, digits: &str) -> Option<Baton> {
        let folder = self.of(name);
        let mut found = fs::read_dir(&folder)
            .ok()?
            .filter_map(|one| one.ok()?.file_name().into_string().ok());
        let file = found.find(|one| one.starts_with(digits))?;
        self.read(&folder.join(file), name)
    }
}

impl Batons {
    /// Nothing if it is not whole, of a layout further away, of another lock, or of before the host was started:
    /// the remote hold that it speaks of ends with its lease.
    fn read(&self, path: &Path, name: &Name) -> Option<Baton> {
        let text = fs::read_to_string(path).ok()?;
        let parts: Vec<&str> = text.strip_suffix('\n')?.split(' ').collect();
        let [layout, token, end, left, next, of, clock] = parts.as_slice() else {
            return None;
        };
        let layout: u32 = layout.strip_prefix(WORD)?.parse().ok()?;
        let is_its = *of == short_hash(&[b"name".as_slice(), name.as_bytes()].concat());
        let is_now = *clock == self.clock || cfg!(canary = "trusts_baton");
        if layout.abs_diff(LAYOUT) > 1 || !is_its || !is_now {
            return None;
        }
        Some(Baton {
            token: OwnerToken::from_hex(token.as_bytes())?,
            end: BootTime::from_nanos(end.parse().ok()?),
            left: left.parse().ok()?,
            next: u64::try_from(next.parse::<i64>().ok()?).ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(byte: u8) -> OwnerToken {
        OwnerToken::from_bytes([byte; 16])
    }

    #[test]
    fn a_baton_has_one_owner() {
        let root = std::env::temp_dir().join(format!("synlock-baton-{}", std::process::id()));
        let batons = Batons::new(root.clone(), "stores").unwrap();
        let name = Name::new("n").unwrap();
        let baton = Baton {
            token: token(9),
            end: BootTime::from_nanos(7),
            left: 3,
            next: Some(12),
        };
        let (a, b, c) = (token(0xaa), token(0xbb), token(0xcc));
        assert_eq!(batons.take(&name, a, || true).unwrap(), None);
        batons.put(&name, a, &baton).unwrap();
        assert!(batons.hand_over(&name, a).unwrap());
        assert_eq!(
            batons.take(&name, b, || true).unwrap(),
            Some((baton.clone(), true))
        );
        // Who had it wakes up late.
        assert!(!batons.hand_over(&name, a).unwrap() && !batons.end(&name, a).unwrap());
        // The holder died.
        assert_eq!(
            batons.take(&name, c, || true).unwrap(),
            Some((baton.clone(), false))
        );
        assert!(batons.is_ours(&name, c) && !batons.is_ours(&name, b));
        // One that is written late makes both unbelievable.
        batons.put(&name, b, &baton).unwrap();
        assert_eq!(batons.take(&name, a, || true).unwrap(), None);
        batons.put(&name, a, &baton).unwrap();
        fs::write(batons.of(&name).join(a.to_hex()), "half a ba").unwrap();
        assert_eq!(batons.take(&name, b, || true).unwrap(), None);
        assert!(batons.end(&name, b).unwrap());
        assert!(!batons.of(&name).exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn who_has_lost_its_place_meanwhile_puts_it_back() {
        let root = std::env::temp_dir().join(format!("synlock-baton-back-{}", std::process::id()));
        let batons = Batons::new(root.clone(), "stores").unwrap();
        let name = Name::new("n").unwrap();
        let baton = |left| Baton {
            token: token(9),
            end: BootTime::from_nanos(7),
            left,
            next: Some(12),
        };
        let (a, b, c) = (token(0xaa), token(0xbb), token(0xcc));
        // Its place is lost after so many looks.
        let take = |who, looks: u32, meanwhile: &dyn Fn()| {
            let seen = std::cell::Cell::new(0);
            let holds = || {
                seen.set(seen.get() + 1);
                if seen.get() > looks {
                    meanwhile();
                }
                seen.get() <= looks
            };
            batons.take(&name, who, holds).unwrap()
        };
        batons.put(&name, a, &baton(3)).unwrap();
        for looks in [0, 1] {
            assert_eq!(take(b, looks, &|| {}), None);
            assert!(batons.is_ours(&name, a) && !batons.is_ours(&name, b));
            assert_eq!(take(a, looks, &|| {}), None);
            assert!(batons.is_ours(&name, a));
        }
        // Its owner has gone on.
        let goes_on = || batons.put(&name, a, &baton(2)).unwrap();
        assert_eq!(take(b, 1, &goes_on), None);
        assert!(!batons.is_ours(&name, b));
        assert!(batons.hand_over(&name, a).unwrap());
        assert_eq!(take(b, 1, &|| {}), None);
        assert_eq!(take(c, 2, &|| {}), Some((baton(2), true)));
        // Another took it over.
        let passes = || assert!(batons.take(&name, c, || true).unwrap().is_some());
        assert_eq!(take(b, 1, &passes), None);
        assert!(batons.is_ours(&name, c));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn batons_of_the_first_release_are_read_and_written() {
        let vectors = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/vectors/tiered-layout-1.txt"
        ));
        let root = std::env::temp_dir().join(format!("synlock-batons-{}", std::process::id()));
        let stores = "shm:app\nredis:127.0.0.1:6379/0/synlock:";
        // Of the boot whose they are; after another, nobody believes them.
        let boot = "00112233445566778899aabbccddeeff0000000000000000";
        let batons = Batons::of_clock(root.clone(), stores, boot.into());
        let later = Batons::of_clock(root.clone(), stores, boot.replace("00", "01"));
        let (me, heir) = (token(1), token(2));
        let mut seen = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let parts: Vec<&str> = line.split('\t').collect();
            let [pair, lock, shown, text] = parts.as_slice() else {
                panic!("{line}");
            };
            let name = Name::new(shown).unwrap();
            let folder = root.join(pair).join(lock);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(FREE), format!("{text}\n")).unwrap();
            assert_eq!(later.take(&name, me, || true).unwrap(), None);
            assert!(later.hand_over(&name, me).unwrap());
            let (baton, was_free) = batons.take(&name, me, || true).unwrap().expect(shown);
            assert!(was_free && text.contains(&baton.token.to_hex()));
            batons.put(&name, heir, &baton).unwrap();
            let written = fs::read_to_string(folder.join(heir.to_hex())).unwrap();
            let first = written.replace(&format!("{WORD}{LAYOUT} "), "synlock-tiered-1 ");
            assert_eq!(first, format!("{text}\n"));
            seen += 1;
        }
        assert_eq!(seen, 2);
        fs::remove_dir_all(root).unwrap();
    }
}
