//! Builds of neighbouring releases share lock files: this one, and one whose layout number is one
//! higher (`next-layout`); and files that an older release left behind.

use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use synlock_core::store::flock::file_name;
use synlock_tests::names::TempDir;
use synlock_tests::taker::{Taker, next_release};

const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");
const ODD: &[u8] = b"invoice 42";

fn both(url: &str) -> (Taker, Taker) {
    let this = Taker::start(THIS, url);
    let next = Taker::start(next_release(THIS), url);
    (this, next)
}

fn layout(file: &Path) -> u32 {
    let bytes = fs::read(file).unwrap();
    u32::from_le_bytes(bytes[8..12].try_into().unwrap())
}

#[test]
fn the_builds_are_neighbours() {
    let dir = TempDir::new("layouts");
    let (mut this, mut next) = both(&format!("flock:{}", dir.path().display()));
    let number = |taker: &mut Taker| taker.ok("layout").parse::<u32>().unwrap();
    assert_eq!(number(&mut this) + 1, number(&mut next));
}

#[test]
fn neighbours_take_turns() {
    let dir = TempDir::new("layouts");
    let url = format!("flock:{}?fencing=1", dir.path().display());
    let (mut this, mut next) = both(&url);
    for (name, begins_next) in [
        ("plain", false),
        ("odd%20one", true),
        ("other%2Fone", false),
    ] {
        let mut last = 0;
        for turn in 0..20 {
            let (first, second) = if (turn % 2 == 0) == begins_next {
                (&mut next, &mut this)
            } else {
                (&mut this, &mut next)
            };
            for taker in [&mut *first, &mut *second] {
                taker.ok(&format!("lock x {name} label=turn"));
                taker.ok(&format!("lock s {name} shared"));
            }
            let fence: u64 = first.ok("acquire x 0").parse().unwrap();
            assert!(fence > last, "{name}: {fence} after {last}");
            assert_eq!(second.code("acquire x 0"), "BUSY");
            assert_eq!(second.code("acquire s 0"), "BUSY");
            first.ok("check x");
            first.ok("release x");
            // Readers together, then one of them alone.
            first.ok("acquire s 0");
            last = second.ok("acquire s 0").parse().unwrap();
            assert!(last > fence);
            assert_eq!(first.code("promote s 0"), "BUSY");
            second.ok("release s");
            first.ok("promote s 0");
            assert_eq!(second.code("acquire s 0"), "BUSY");
            first.ok("demote s");
            second.ok("acquire s 0");
            assert!(!second.ok("list").is_empty());
            first.ok("release s");
            second.ok("release s");
            let fence: u64 = second.ok("acquire x 0").parse().unwrap();
            assert!(fence > last);
            last = fence;
            // Broken by one, noticed by the other.
            if turn % 5 == 4 && name == "plain" {
                assert_eq!(first.ok("break plain"), "true");
                assert_eq!(second.code("check x"), "LOST");
            } else {
                second.ok("release x");
            }
        }
    }
    for entry in fs::read_dir(dir.path()).unwrap() {
        assert_eq!(layout(&entry.unwrap().path()), 1);
    }
}

#[test]
fn a_file_of_the_next_layout_is_honoured_by_it_and_refused_by_this() {
    let dir = TempDir::new("layouts");
    let (mut this, mut next) = both(&format!("flock:{}?fencing=1", dir.path().display()));
    this.ok("lock x invoice%2042");
    this.ok("acquire x 0");
    this.ok("release x");
    let file = dir.path().join(file_name(ODD));
    let mut bytes = fs::read(&file).unwrap();
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let check = Sha256::new()
        .chain_update(&bytes[..24])
        .chain_update(ODD)
        .finalize();
    bytes[24..32].copy_from_slice(&check[..8]);
    fs::write(&file, &bytes).unwrap();
    assert_eq!(this.code("acquire x 0"), "PROTOCOL");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    next.ok("lock x invoice%2042");
    next.ok("lock s invoice%2042 shared");
    next.ok("acquire x 0");
    assert_eq!(next.ok("list"), "invoice 42");
    next.ok("release x");
    next.ok("acquire s 0");
    next.ok("promote s 0");
    next.ok("release s");
    assert_eq!(layout(&file), 2);
    // The refusal left nothing behind.
    assert_eq!(this.code("acquire x 0"), "PROTOCOL");
    next.ok("acquire x 0");
}

#[test]
fn files_of_the_first_layout_are_read_by_both() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/flock-layout-1");
    for program in [THIS, next_release(THIS)] {
        let dir = TempDir::new("layouts");
        let mut before = Vec::new();
        for entry in fs::read_dir(vectors).unwrap() {
            let path = entry.unwrap().path();
            let to = dir.path().join(path.file_name().unwrap());
            fs::copy(&path, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            before.push((to, fs::read(&path).unwrap()));
        }
        assert_eq!(before.len(), 3);
        let mut taker = Taker::start(
            program,
            &format!("flock:{}?fencing=1", dir.path().display()),
        );
        let long = "%2F".repeat(1025);
        for (handle, name) in [("a", "plain"), ("b", "invoice%2042"), ("c", long.as_str())] {
            taker.ok(&format!("lock {handle} {name}"));
            let fence: u64 = taker.ok(&format!("acquire {handle} 0")).parse().unwrap();
            let file = dir.path().join(file_name(&unescape(name)));
            let (_, bytes) = before.iter().find(|(path, _)| *path == file).unwrap();
            if let Some(counters) = bytes.get(32..64) {
                let value =
                    |at: usize| u64::from_le_bytes(counters[at..at + 8].try_into().unwrap());
                assert!(fence > value(0).max(value(16)), "{name}");
                // What never changes has not changed.
                let now = fs::read(&file).unwrap();
                assert_eq!((&now[..32], &now[512..]), (&bytes[..32], &bytes[512..]));
            }
        }
        let listed = taker.ok("list");
        assert!(listed.contains("invoice 42") && listed.contains("plain"));
        assert!(listed.contains(&"/".repeat(1024)));
        // Nothing new was made but the waiters' queue: the files are where this build looks for them.
        assert!(dir.path().join(".synlock").is_file());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3 + 1);
    }
}

fn unescape(name: &str) -> Vec<u8> {
    name.replace("%20", " ").replace("%2F", "/").into_bytes()
}
